//! Fetching documents of identity providers over HTTP, with the guards that an address which others can
//! choose needs.
//!
//! [`HttpFetcher`] is the implementation that is used by default; [`Fetch`] is the seam where another one, or one
//! that counts or replays, can be put in. A fetch is one attempt with its redirects. Retries, discovery and the
//! deadline over all of them lie above.

mod address;
mod body;
mod client;
mod error;
mod guard;
mod resolve;
mod retry;
mod tls;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::HeaderMap;
use tokenward_core::{BoxFuture, Clock};
use url::Url;

pub use self::{
    client::HttpFetcher,
    error::{FetchError, FetchErrorKind},
    guard::{AllowedHost, Guards},
    resolve::{Resolve, SystemResolver},
    retry::Retry,
    tls::{ExtraRoots, SpkiPin},
};
pub(crate) use self::{error::place, retry::Attempts};

/// Something that fetches documents of identity providers.
pub trait Fetch: Send + Sync + 'static {
    /// Makes one attempt, redirects included. It ends within [`Retry::attempt`] of the request's guards.
    ///
    /// The future may be dropped at any time; the attempt is then given up and its socket closed.
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>>;
}

/// What to fetch, and under which guards.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The document's address.
    pub url: Url,
    /// What the request, and each hop that it is redirected to, may do.
    pub guards: Arc<Guards>,
    /// Sent as `If-None-Match` (RFC 9110 section 13.1.2).
    pub etag: Option<String>,
    /// Sent as `If-Modified-Since` (RFC 9110 section 13.1.3).
    pub last_modified: Option<String>,
    /// The value of `Accept`. What comes back is taken whatever its content type says.
    pub accept: &'static str,
}

impl FetchRequest {
    /// An unconditional request for a key set.
    #[must_use]
    pub fn key_set(url: Url, guards: Arc<Guards>) -> Self {
        let accept = "application/jwk-set+json, application/json;q=0.9, */*;q=0.1";
        Self {
            url,
            guards,
            etag: None,
            last_modified: None,
            accept,
        }
    }

    /// An unconditional request for a JSON document.
    #[must_use]
    pub fn json(url: Url, guards: Arc<Guards>) -> Self {
        Self {
            accept: "application/json",
            ..Self::key_set(url, guards)
        }
    }

    /// Whether it asks for the document only where that has changed.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// What a server answered: the document, or that it has not changed.
#[derive(Clone, Debug)]
pub struct FetchResponse {
    /// 200, or 304 with an empty body.
    pub status: u16,
    /// The answer's headers, of the last hop.
    pub headers: HeaderMap,
    /// The body after decompression, of [`Guards::max_response_bytes`] at most.
    pub body: Bytes,
    /// The address that answered: the request's own, or where that was redirected to.
    pub final_url: Url,
}

/// `work`'s result, or nothing where it takes longer than `limit`. What is not finished by then is dropped.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), clock.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
