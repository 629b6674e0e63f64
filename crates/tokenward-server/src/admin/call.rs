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
    access::{Effect, Guard, Need, guarded},
    http::internal,
    openapi::Operation,
};

/// An operation, what it needs, and what answers it.
pub(super) struct Call {
    pub(super) operation: Operation,
    need: Need,
    effect: Effect,
    handler: MethodRouter<Admin>,
}

impl Call {
    /// A call that only reads.
    pub(super) fn reads(operation: Operation, need: Need, handler: MethodRouter<Admin>) -> Self {
        Self::new(operation, need, Effect::Reads, handler)
    }

    /// A call that changes something.
    pub(super) fn changes(operation: Operation, need: Need, handler: MethodRouter<Admin>) -> Self {
        let operation = operation.problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "The store fails, so that the change or its record may not be kept.",
        );
        Self::new(operation, need, Effect::Changes, handler)
    }

    fn new(operation: Operation, need: Need, effect: Effect, handler: MethodRouter<Admin>) -> Self {
        let operation = operation.tag("admin");
        let operation = match need {
            Need::Any => operation.needs(None),
            Need::Scope(scope) => operation.needs(Some(scope.name())),
            Need::Either(one, other) => operation.needs(Some(one.name())).or_needs(other.name()),
        };
        Self {
            operation,
            need,
            effect,
            handler,
        }
    }

    /// Puts it behind the guard and into `router`.
    pub(super) fn mount(self, router: Router<Admin>, guard: &Guard) -> Router<Admin> {
        let call = guard.call(self.operation.id(), self.need, self.effect);
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

/// 204.
pub(super) fn no_content() -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response()
}
