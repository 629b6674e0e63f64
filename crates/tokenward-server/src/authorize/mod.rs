//! Decides whether a request's token lets it through, and says who it is from.
//!
//! The direct door: `/authorize` exactly, for callers that forward the token of a request and act on the status.
//! The body of a request is never read.

mod carriers;
mod identity;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokenward::{DEFAULT_TENANT, Verifier, caller_of};
use tokenward_core::{Clock, Denial};

use self::carriers::Carriers;
use crate::{
    config::{self, DefaultDecision},
    http::{Caller, Reason, denial},
    telemetry,
};

/// The `/authorize` endpoint.
#[derive(Clone)]
pub(crate) struct Authorize(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    clock: Arc<dyn Clock>,
    default: DefaultDecision,
    carriers: Carriers,
    claim_headers: Vec<(HeaderName, String)>,
}

impl Authorize {
    pub(crate) fn new(verifier: Verifier, clock: Arc<dyn Clock>, settings: &config::Authorize) -> Self {
        Self(Arc::new(Inner {
            verifier,
            clock,
            default: settings.default,
            carriers: Carriers::new(settings.headers.clone(), settings.cookie.clone()),
            claim_headers: settings.claim_headers.clone(),
        }))
    }

    pub(crate) fn routes(&self) -> Router {
        Router::new()
            .route("/authorize", get(direct).post(direct))
            .with_state(self.clone())
    }

    /// The identity of the one whom the request is from; empty where nobody is asked for one.
    async fn decide(&self, headers: &HeaderMap, caller: Option<&Caller>) -> Result<HeaderMap, Denial> {
        match self.0.default {
            DefaultDecision::Allow => return Ok(HeaderMap::new()),
            DefaultDecision::Deny => return Err(Denial::RuleDenied),
            DefaultDecision::RequireValidToken => {}
        }
        let token = self.0.carriers.token(headers)?;
        let caller = caller.map(|caller| caller_of(caller.0)).unwrap_or_default();
        let verified = self.0.verifier.verify(DEFAULT_TENANT, &token, caller).await?;
        identity::headers(&verified, &self.0.claim_headers)
    }
}

async fn direct(State(authorize): State<Authorize>, request: Request) -> Response {
    let started = authorize.0.clock.steady();
    let decision = authorize
        .decide(request.headers(), request.extensions().get())
        .await;
    let reason = decision.as_ref().map_or_else(|denial| denial.code(), |_| "allow");
    telemetry::decision("direct", reason, authorize.0.clock.steady().since(started));
    match decision {
        Err(reason) => denial(reason),
        Ok(identity) => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Reason("allow"));
            *response.headers_mut() = identity;
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }
}
