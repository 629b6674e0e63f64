//! Refusals of the OAuth endpoints, in the words of RFC 6749 section 5.2.
//!
//! Every text is fixed, as in problem documents, and `error_code` is the stable reason that those have too.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokenward::respond;

use super::Reason;

/// A refusal that clients know as `error`, and logs as `code`. The description has neither quotes nor backslashes.
pub(crate) fn oauth_error(
    status: StatusCode,
    error: &'static str,
    code: &'static str,
    description: &'static str,
) -> Response {
    let body = json!({ "error": error, "error_description": description, "error_code": code });
    let mut response = (status, axum::Json(body)).into_response();
    response.extensions_mut().insert(Reason(code));
    // Whatever stands in front of the endpoints may refuse too.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 413: the body is larger than is read.
pub(crate) fn oauth_too_large() -> Response {
    oauth_error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "invalid_request",
        "request_too_large",
        "The body is larger than the limit.",
    )
}

/// 503: what is needed does not answer, so nothing was changed or nothing is known (RFC 7009 section 2.2.1).
pub(crate) fn oauth_unavailable(code: &'static str, description: &'static str) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = oauth_error(status, "temporarily_unavailable", code, description);
    response.headers_mut().insert(
        header::RETRY_AFTER,
        HeaderValue::from(respond::RETRY_AFTER_SECONDS),
    );
    response
}
