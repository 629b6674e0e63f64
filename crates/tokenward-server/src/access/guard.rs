//! In front of each call of the API: who asks, and may they?

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{Access, Need, Refusal, origin};
use crate::http::Caller;

pub(crate) use origin::Reach;

/// Stands in front of the calls of one listener.
#[derive(Clone)]
pub(crate) struct Guard {
    access: Access,
    reach: Reach,
}

/// One call, and what stands in front of it.
#[derive(Clone)]
pub(crate) struct Call {
    guard: Guard,
    need: Need,
}

impl Guard {
    pub(crate) fn new(access: Access, reach: Reach) -> Self {
        Self { access, reach }
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// A call that needs `need`.
    pub(crate) fn call(&self, need: Need) -> Call {
        Call {
            guard: self.clone(),
            need,
        }
    }
}

impl Call {
    fn judge(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        origin::check(headers, request.uri().authority(), self.guard.reach)?;
        let caller = request.extensions().get::<Caller>();
        let caller = caller.map_or(IpAddr::from([0, 0, 0, 0]), |caller| caller.0);
        self.guard.access.check(headers, caller, self.need).map(|_| ())
    }
}

/// The middleware of a call that needs a credential.
pub(crate) async fn guarded(State(call): State<Call>, request: Request, next: Next) -> Response {
    match call.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The middleware of what needs no credential, but is not for pages of other sites.
pub(crate) async fn same_site(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match origin::check(request.headers(), request.uri().authority(), guard.reach) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}
