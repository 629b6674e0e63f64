//! The admin API: what operators ask and change, each call behind its guard.
//!
//! A call is declared once, with its operation of the OpenAPI document, what it needs, and its handler. The router, the
//! document and the guard come from that one value, so none of them can be forgotten.

mod call;
mod events;
mod explain;
mod query;

use std::sync::Arc;

use axum::{Router, body::Bytes, response::IntoResponse as _, routing::get};
use futures_util::future::{BoxFuture, Shared};
use http::header;
use tokenward::{Registry, Verifier};
use tokio::sync::Semaphore;

use self::call::Call;
use crate::{
    access::{Guard, same_site},
    openapi::{self, Operation},
};

/// What the calls work on.
#[derive(Clone)]
pub(crate) struct Admin(Arc<Inner>);

struct Inner {
    registry: Registry,
    verifier: Verifier,
    /// Ends what would never end by itself.
    drain: Drain,
    /// Places for streams.
    streams: Arc<Semaphore>,
}

/// Completes when no new work is taken on any more.
pub(crate) type Drain = Shared<BoxFuture<'static, ()>>;

impl Admin {
    pub(crate) fn new(registry: Registry, verifier: Verifier, drain: Drain) -> Self {
        Self(Arc::new(Inner {
            registry,
            verifier,
            drain,
            streams: Arc::new(Semaphore::new(events::MAX_STREAMS)),
        }))
    }

    /// Every call behind `guard`, and the document.
    pub(crate) fn routes(&self, guard: &Guard) -> Router {
        let mut router = Router::new();
        for call in calls() {
            router = call.mount(router, guard);
        }
        let document =
            get(document).route_layer(axum::middleware::from_fn_with_state(guard.clone(), same_site));
        router.route(DOCUMENT, document).with_state(self.clone())
    }
}

/// The path of the document. It says what the program can do, which is no secret.
const DOCUMENT: &str = "/openapi.json";

/// The whole document, public calls included, as JSON.
pub(crate) fn openapi_json() -> String {
    let document = Operation::new(
        utoipa::openapi::HttpMethod::Get,
        DOCUMENT,
        "openapi",
        "This document",
    )
    .tag("admin")
    .answers_as(
        http::StatusCode::OK,
        "The document.",
        &["application/json"],
        Some(&openapi::any_object()),
    );
    let calls = calls().into_iter().map(|call| call.operation);
    let operations = openapi::public_operations()
        .into_iter()
        .chain(calls)
        .chain([document]);
    openapi::document(operations).to_pretty_json().unwrap_or_default()
}

/// Every call of the admin API.
fn calls() -> Vec<Call> {
    [explain::calls(), events::calls()]
        .into_iter()
        .flatten()
        .collect()
}

async fn document() -> axum::response::Response {
    static DOCUMENT: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi_json().into()).clone();
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, document).into_response()
}
