//! What the OAuth endpoints of the token service answer.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{ToSchema, openapi::HttpMethod};

use super::operation::{Operation, any_object};

/// Other parameters are ignored.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct TokenForm {
    token: String,
    /// Not needed: a token of ours says what it is.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
}

/// A refusal (RFC 6749 section 5.2).
#[derive(Serialize, ToSchema)]
struct OAuthError {
    error: String,
    error_description: String,
    /// The stable reason.
    error_code: String,
}

/// Introspection and revocation.
pub(super) fn operations() -> [Operation; 2] {
    let on = |path: &str, id, summary, scope| {
        Operation::new(HttpMethod::Post, path, id, summary)
            .tag("tokens")
            .needs_client(scope)
            .takes_form::<TokenForm>()
            .answers::<OAuthError>(StatusCode::BAD_REQUEST, "`invalid_request`.")
            .answers::<OAuthError>(
                StatusCode::UNAUTHORIZED,
                "`invalid_client`: the credential is missing or unknown.",
            )
            .answers::<OAuthError>(
                StatusCode::FORBIDDEN,
                "`insufficient_scope`, or `cross_site`: another site asks.",
            )
            .answers::<OAuthError>(
                StatusCode::MISDIRECTED_REQUEST,
                "`host_unknown`: the host is none of this machine's.",
            )
            .answers::<OAuthError>(
                StatusCode::TOO_MANY_REQUESTS,
                "`rate_limited`: too many calls, or unknown credentials, from this address or with this credential.",
            )
            .answers::<OAuthError>(
                StatusCode::SERVICE_UNAVAILABLE,
                "`temporarily_unavailable`: the store fails; nothing was changed.",
            )
            .answers::<OAuthError>(
                StatusCode::REQUEST_TIMEOUT,
                "`invalid_request`: the body came too slowly.",
            )
            .answers::<OAuthError>(
                StatusCode::PAYLOAD_TOO_LARGE,
                "`invalid_request`: the body is larger than 64 KiB.",
            )
    };
    [
        on(
            "/oauth/introspect",
            "oauth.introspect",
            "What one of our tokens claims, if it is good (RFC 7662)",
            "tokens:read",
        )
        .answers_as(
            StatusCode::OK,
            "`active`, and beside it the claims of a token that is ours, good and not revoked.",
            &["application/json"],
            Some(&any_object()),
        ),
        on(
            "/oauth/revoke",
            "oauth.revoke",
            "Revoke a token of ours, and its children where it is a parent (RFC 7009)",
            "tokens:revoke",
        )
        .answers_as(
            StatusCode::OK,
            "It is refused from now on, or never was a good one of ours.",
            &[],
            None,
        ),
    ]
}
