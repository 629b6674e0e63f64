//! One call of the admin API.

use axum::{
    Router,
    body::Body,
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use http::{StatusCode, header};
use serde::Serialize;

use super::Admin;
use crate::{
    access::{Guard, Need, guarded},
    http::internal,
    openapi::Operation,
};

/// An operation, what it needs, and what answers it.
pub(super) struct Call {
    pub(super) operation: Operation,
    need: Need,
    handler: MethodRouter<Admin>,
}

impl Call {
    pub(super) fn new(operation: Operation, need: Need, handler: MethodRouter<Admin>) -> Self {
        let scope = match need {
            Need::Any => None,
            Need::Scope(scope) => Some(scope.name()),
        };
        Self {
            operation: operation.tag("admin").needs(scope),
            need,
            handler,
        }
    }

    /// Puts it behind the guard and into `router`.
    pub(super) fn mount(self, router: Router<Admin>, guard: &Guard) -> Router<Admin> {
        let call = guard.call(self.need);
        router.route(
            self.operation.path(),
            self.handler.route_layer(from_fn_with_state(call, guarded)),
        )
    }
}

/// 200 with `value` as JSON, for nobody to keep.
pub(super) fn json(value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_string(value) else {
        return internal();
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, headers, Body::from(body)).into_response()
}
