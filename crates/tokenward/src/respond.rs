//! One rendering of a [`Denial`] for HTTP: status, `WWW-Authenticate` and `application/problem+json` (RFC 9457).

use http::{HeaderValue, Response, StatusCode, header};
use tokenward_core::{
    Denial,
    jose::{Algorithm, AlgorithmSet},
};

use crate::{carrier::Scheme, dpop::DpopMode};

/// Seconds after which a caller that met an outage or a limit may try again.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// The media type of every error body (RFC 9457 section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The response that refuses a request for the reason `denial`.
///
/// Its texts are fixed for each reason: nothing of the token, the upstream or the configuration is in them.
#[must_use]
pub fn denial(denial: Denial) -> Response<String> {
    let status = StatusCode::from_u16(denial.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    denial_as(denial, status)
}

/// The same with another status, for proxies that would make something else of the usual one.
#[must_use]
pub fn denial_as(denial: Denial, status: StatusCode) -> Response<String> {
    let error = denial.bearer_error().unwrap_or(denial.code());
    let mut response = problem(status, error, denial.code(), denial.title(), denial.detail());
    if status == StatusCode::UNAUTHORIZED
        || status == StatusCode::FORBIDDEN
        || denial == Denial::RequestMalformed
    {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge(denial));
    }
    if denial.is_outage() || denial == Denial::RateLimited {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    response
}

/// An `application/problem+json` response. `code` is the stable machine-readable reason, `error` what the
/// protocol calls it (RFC 6750 section 3.1 for bearer tokens).
#[must_use]
pub fn problem(status: StatusCode, error: &str, code: &str, title: &str, detail: &str) -> Response<String> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "error": error,
        "error_code": code,
    });
    let mut response = Response::new(body.to_string());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// As [`denial`](fn@denial), with a challenge for each scheme that is taken. The error stands with the scheme that was
/// used, or that has to be.
#[must_use]
pub fn challenged(reason: Denial, mode: DpopMode, scheme: Scheme) -> Response<String> {
    with_challenges(denial(reason), reason, mode, scheme)
}

/// The same for a response that refuses for `reason` already.
#[must_use]
pub fn with_challenges(
    mut response: Response<String>,
    reason: Denial,
    mode: DpopMode,
    scheme: Scheme,
) -> Response<String> {
    if mode == DpopMode::Disabled || !response.headers().contains_key(header::WWW_AUTHENTICATE) {
        return response;
    }
    let of_proof = matches!(
        reason,
        Denial::DpopMissing | Denial::DpopInvalid | Denial::DpopReplayed | Denial::DpopBindingMismatch
    );
    let headers = response.headers_mut();
    if mode == DpopMode::Required {
        headers.insert(
            header::WWW_AUTHENTICATE,
            proof_challenge(reason.bearer_error(), reason),
        );
    } else if of_proof || scheme == Scheme::Dpop {
        headers.insert(
            header::WWW_AUTHENTICATE,
            proof_challenge(reason.bearer_error(), reason),
        );
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    } else {
        headers.append(header::WWW_AUTHENTICATE, proof_challenge(None, reason));
    }
    response
}

/// The `Bearer` challenge (RFC 6750 section 3). It names no error where no token was sent.
fn challenge(denial: Denial) -> HeaderValue {
    let text = match denial.bearer_error() {
        None => "Bearer".to_owned(),
        // Both texts are constants of ours without quotes or backslashes, so quoting needs no escapes.
        Some(error) => format!(
            "Bearer error=\"{error}\", error_description=\"{}\"",
            denial.detail()
        ),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// The `DPoP` challenge (RFC 9449 section 7.1), with the algorithms that a proof may be signed with.
fn proof_challenge(error: Option<&str>, denial: Denial) -> HeaderValue {
    let algorithms: Vec<_> = AlgorithmSet::ASYMMETRIC.iter().map(Algorithm::name).collect();
    let algorithms = algorithms.join(" ");
    let text = match error {
        None => format!("DPoP algs=\"{algorithms}\""),
        Some(error) => format!(
            "DPoP error=\"{error}\", error_description=\"{}\", algs=\"{algorithms}\"",
            denial.detail()
        ),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("DPoP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_rendered() {
        for reason in Denial::ALL {
            let response = denial(reason);
            assert_eq!(response.status().as_u16(), reason.http_status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
            let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!(body["error_code"], reason.code());
            assert_eq!(body["status"], reason.http_status());
            let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(
                challenged,
                matches!(reason.http_status(), 400 | 401 | 403),
                "{reason}"
            );
            assert_eq!(
                response.headers().contains_key(header::RETRY_AFTER),
                matches!(reason.http_status(), 429 | 503),
                "{reason}"
            );
        }
    }

    #[test]
    fn detail_texts_need_no_quoting() {
        for reason in Denial::ALL {
            assert!(!reason.detail().contains(['"', '\\']), "{reason}");
            assert!(reason.detail().is_ascii(), "{reason}");
        }
    }

    #[test]
    fn no_error_is_named_where_no_token_was_sent() {
        assert_eq!(
            denial(Denial::TokenMissing).headers()[header::WWW_AUTHENTICATE],
            "Bearer"
        );
    }
}
