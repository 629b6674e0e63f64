//! Refusals as `application/problem+json` (RFC 9457).
//!
//! Every text is fixed: nothing that a client, an upstream or the configuration wrote is in an answer.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokenward::{Denial, DpopMode, carrier::Scheme, respond};

use super::Reason;

/// Refuses for the reason `denial`, which the request log and the metrics name too.
pub(crate) fn denial(denial: Denial) -> Response {
    named(denial.code(), respond::denial(denial))
}

/// Refuses for the reason `denial` with another status, for those who make something else of the usual one. `proofs` and
/// `scheme` say what is told of proofs of possession.
pub(crate) fn denial_as(denial: Denial, status: StatusCode, proofs: DpopMode, scheme: Scheme) -> Response {
    let response = respond::denial_as(denial, status);
    named(
        denial.code(),
        respond::with_challenges(response, denial, proofs, scheme),
    )
}

/// 400: the request's target names nothing.
pub(crate) fn bad_request(detail: &'static str) -> Response {
    problem(
        StatusCode::BAD_REQUEST,
        "request_malformed",
        "Request malformed",
        detail,
    )
}

/// 404: the path is known, but what it names is not.
pub(crate) fn not_found(detail: &'static str) -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
}

/// 404: no such path. The path itself is not repeated.
pub(crate) async fn no_route() -> Response {
    not_found("There is nothing at this path.")
}

/// 405. The router adds `Allow`.
pub(crate) async fn wrong_method() -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "Method not allowed",
        "This path does not answer this method; Allow lists those that it does.",
    )
}

/// 413: the request announces a larger body than any path here reads.
pub(crate) fn body_too_large() -> Response {
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        "Request too large",
        "The request's body is larger than the limit.",
    )
}

/// 503 with `Retry-After`: an outage that is not the caller's fault.
pub(crate) fn unavailable(code: &'static str, title: &'static str, detail: &'static str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, code, title, detail);
    response.headers_mut().insert(
        header::RETRY_AFTER,
        HeaderValue::from(respond::RETRY_AFTER_SECONDS),
    );
    response
}

/// The code of an answer that the store could not be used for.
pub(crate) const STORE_UNAVAILABLE: &str = "store_unavailable";

/// 503: the store does not answer.
pub(crate) fn store_unavailable() -> Response {
    unavailable(
        STORE_UNAVAILABLE,
        "Store unavailable",
        "The store cannot be used at the moment.",
    )
}

/// 429: more than may be asked for in a time.
pub(crate) fn too_many_requests(wait: Duration) -> Response {
    let mut response = problem(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "Too many requests",
        "There were too many such requests; Retry-After says when another is answered.",
    );
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    if let Ok(seconds) = HeaderValue::try_from(seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// 503: a revocation is stored, but tokens were issued meanwhile that it does not cover.
pub(crate) fn overtaken() -> Response {
    unavailable(
        "revocation_overtaken",
        "Revocation overtaken",
        "Tokens may have been issued while the revocation was stored that it does not cover; ask again.",
    )
}

/// 500: a fault of ours. The log has the cause.
pub(crate) fn internal() -> Response {
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "Internal error",
        "The server failed to answer; the request id finds the cause in its log.",
    )
}

/// Any other refusal. The texts must be fixed for the code.
pub(crate) fn problem(status: StatusCode, code: &'static str, title: &str, detail: &str) -> Response {
    named(code, respond::problem(status, code, code, title, detail))
}

/// The same with one more member in its body (RFC 9457 section 3.2).
pub(crate) fn problem_with(
    status: StatusCode,
    (code, title, detail): (&'static str, &str, &str),
    (member, value): (&'static str, Value),
) -> Response {
    let response = respond::problem(status, code, code, title, detail);
    named(
        code,
        response.map(|body| match serde_json::from_str(&body) {
            Ok(Value::Object(mut members)) => {
                members.insert(member.to_owned(), value);
                Value::Object(members).to_string()
            }
            _ => body,
        }),
    )
}

fn named(code: &'static str, response: http::Response<String>) -> Response {
    let mut response = response.map(Body::from);
    response.extensions_mut().insert(Reason(code));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_is_a_problem_that_names_its_reason() {
        for reason in Denial::ALL {
            let response = denial(reason);
            assert_eq!(response.status().as_u16(), reason.http_status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], respond::PROBLEM_JSON);
            assert_eq!(
                response.extensions().get::<Reason>().map(|named| named.0),
                Some(reason.code())
            );
        }
    }

    #[test]
    fn an_outage_says_when_to_come_back() {
        let response = unavailable("keys_unavailable", "Keys unavailable", "Later.");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
