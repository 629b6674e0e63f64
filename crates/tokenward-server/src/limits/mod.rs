//! How much is answered: the limits of the token API, those that tokens carry, and what a caller is told of them.

mod table;
mod tokens;

use std::{hash::Hash, net::IpAddr, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokenward_core::{
    Clock,
    limit::{Exceeded, Quota, Rate},
};

pub(crate) use table::Table;
pub(crate) use tokens::{Tokens, UsedByTokens};

use crate::{
    config,
    http::{Caller, oauth_error, too_many_requests},
    telemetry,
};

/// Addresses whose use is remembered; see [`Table`] for those beyond.
const MAX_ADDRESSES: usize = 100_000;

/// Credentials whose use is remembered: more than anybody configures.
const MAX_CREDENTIALS: usize = 10_000;

/// What was used of late. It outlives a change of the limits.
pub(crate) struct Used {
    addresses: Table<IpAddr>,
    credentials: Table<String>,
}

impl Default for Used {
    fn default() -> Self {
        Self {
            addresses: Table::new(MAX_ADDRESSES),
            credentials: Table::new(MAX_CREDENTIALS),
        }
    }
}

/// The limits of the token API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TokenApi {
    used: Arc<Used>,
    limits: config::TokenApiLimits,
    clock: Arc<dyn Clock>,
}

impl TokenApi {
    pub(crate) fn new(used: Arc<Used>, limits: config::TokenApiLimits, clock: Arc<dyn Clock>) -> Self {
        Self { used, limits, clock }
    }

    /// Takes one of the calls that `credential` may make.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub(crate) fn by_credential(&self, credential: &str) -> Result<Standing, Exceeding> {
        let key = credential.to_owned();
        self.take(
            "credential",
            self.limits.per_credential,
            &self.used.credentials,
            key,
        )
    }

    /// Takes one of the calls that may come from the network of `caller`.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub(crate) fn by_address(&self, caller: Caller) -> Result<Standing, Exceeding> {
        let key = caller.network();
        self.take("address", self.limits.per_address, &self.used.addresses, key)
    }

    fn take<K: Hash + Eq>(
        &self,
        policy: &'static str,
        rate: Option<Rate>,
        used: &Table<K>,
        key: K,
    ) -> Result<Standing, Exceeding> {
        let Some(rate) = rate else {
            return Ok(Standing(None));
        };
        match used.take(key, rate, self.clock.steady()) {
            Ok(quota) => Ok(Standing(Some((policy, rate, quota)))),
            Err(exceeded) => Err(Exceeding::new(policy, rate, exceeded)),
        }
    }
}

/// What is left of a limit, for the answer to a call that it let through; nothing where there is no limit.
pub(crate) struct Standing(Option<(&'static str, Rate, Quota)>);

impl Standing {
    /// Adds it to `response`.
    pub(crate) fn tell(&self, mut response: Response) -> Response {
        if let Some((policy, rate, quota)) = &self.0 {
            tell(response.headers_mut(), policy, *rate, quota);
        }
        response
    }
}

/// More than a limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeding {
    policy: &'static str,
    rate: Rate,
    exceeded: Exceeded,
}

impl Exceeding {
    /// `policy` names the limit to callers, and in metrics.
    pub(crate) fn new(policy: &'static str, rate: Rate, exceeded: Exceeded) -> Self {
        telemetry::limited(policy);
        Self {
            policy,
            rate,
            exceeded,
        }
    }

    /// Says it in the `headers` of an answer, whatever its status.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let wait = self.exceeded.0.retry_after();
        headers.insert(header::RETRY_AFTER, wait.into());
        tell(headers, self.policy, self.rate, &self.exceeded.0);
    }

    /// As the OAuth endpoints answer it.
    pub(crate) fn into_oauth(self) -> Response {
        let description = "There were too many such requests; Retry-After says when another is answered.";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut response = oauth_error(status, "rate_limited", "rate_limited", description);
        self.tell(response.headers_mut());
        response
    }
}

impl IntoResponse for Exceeding {
    fn into_response(self) -> Response {
        let mut response = too_many_requests(self.exceeded.0.next_in);
        self.tell(response.headers_mut());
        response
    }
}

/// Several limits stand beside each other, as several lines of one list (RFC 9651 section 3.1).
fn tell(headers: &mut HeaderMap, policy: &str, rate: Rate, quota: &Quota) {
    let fields = [
        ("ratelimit-policy", rate.policy(policy)),
        ("ratelimit", quota.header(policy)),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}
