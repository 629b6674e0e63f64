//! What the token service answers.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    oauth,
    operation::{Operation, Parameter},
};

/// Lifetimes are whole seconds; those that are left out are the configured ones.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct TokenRequest {
    /// Whom it is for: `sub`. 1 to 256 printable characters.
    user_id: String,
    /// `default` where it is absent.
    #[schema(nullable = false)]
    network: Option<String>,
    /// Requests a minute, 1 to 1000000; 100.
    #[schema(nullable = false)]
    rate_limit: Option<u32>,
    /// Words with one blank between them.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// One, or a list.
    #[schema(nullable = false)]
    audience: Option<Value>,
    /// Custom claims. None may have a name that the service writes itself.
    #[schema(nullable = false)]
    claims: Option<Value>,
    /// Seconds.
    #[schema(nullable = false)]
    expires_in: Option<u64>,
    /// The same in days.
    #[schema(nullable = false)]
    expiry_days: Option<u64>,
}

/// A parent, and children like the single token of the same request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct PairRequest {
    user_id: String,
    #[schema(nullable = false)]
    network: Option<String>,
    #[schema(nullable = false)]
    rate_limit: Option<u32>,
    #[schema(nullable = false)]
    scope: Option<String>,
    #[schema(nullable = false)]
    audience: Option<Value>,
    #[schema(nullable = false)]
    claims: Option<Value>,
    /// Seconds.
    #[schema(nullable = false)]
    parent_expires_in: Option<u64>,
    /// The same in hours.
    #[schema(nullable = false)]
    parent_expiry_hours: Option<u64>,
    /// Seconds.
    #[schema(nullable = false)]
    child_expires_in: Option<u64>,
    /// Whether the first child is in the answer; false.
    #[schema(nullable = false)]
    include_child: Option<bool>,
    /// Whether children are minted when they are due; true.
    #[schema(nullable = false)]
    auto_renew: Option<bool>,
}

/// The proof, which may be in the Authorization header instead.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct RenewalRequest {
    #[schema(nullable = false)]
    parent_token: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct TokenAnswer {
    token: String,
    token_id: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

#[derive(Serialize, ToSchema)]
struct PairAnswer {
    parent_token: String,
    parent_jti: String,
    /// Seconds.
    parent_expiry: u64,
    #[schema(format = DateTime)]
    parent_expires_at: String,
    #[schema(nullable = false)]
    child_token: Option<String>,
    #[schema(nullable = false)]
    child_jti: Option<String>,
    /// Seconds.
    #[schema(nullable = false)]
    child_expiry: Option<u64>,
    #[schema(format = DateTime, nullable = false)]
    child_expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ChildAnswer {
    child_token: String,
    child_jti: String,
    #[schema(format = DateTime)]
    expires_at: String,
    #[schema(format = DateTime)]
    renewed_at: String,
}

/// Every operation of the token service. It is mounted where one is configured.
pub(crate) fn operations() -> Vec<Operation> {
    let on = |method, path: &str, id, summary| {
        Operation::new(method, path, id, summary).tag("tokens").problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "The store fails; nothing was changed.",
        )
    };
    let issue = Some("tokens:issue");
    let family = "The parent's id; what the token shown says where it is absent.";
    let mut operations = vec![
        on(HttpMethod::Post, "/tokens", "tokens.mint", "Mint a single token")
            .needs(issue)
            .takes::<TokenRequest>()
            .answers::<TokenAnswer>(StatusCode::CREATED, "The token."),
        on(
            HttpMethod::Post,
            "/token-pairs",
            "tokens.pair",
            "Mint a long-lived parent, whose short-lived children are renewed",
        )
        .needs(issue)
        .takes::<PairRequest>()
        .answers::<PairAnswer>(
            StatusCode::CREATED,
            "The parent and, where it was asked for, its first child.",
        ),
        on(
            HttpMethod::Post,
            "/renew",
            "tokens.renew",
            "The next child of the parent that is shown",
        )
        .takes_optionally::<RenewalRequest>()
        .answers::<TokenAnswer>(
            StatusCode::OK,
            "The child; the same one for those who ask at the same time.",
        )
        .problem(StatusCode::BAD_REQUEST, "The request is malformed.")
        .problem(
            StatusCode::UNAUTHORIZED,
            "The parent token is missing or not good.",
        )
        .problem(
            StatusCode::TOO_MANY_REQUESTS,
            "This parent was renewed too often, or too many calls come from this address.",
        ),
        on(
            HttpMethod::Get,
            "/tokens/latest",
            "tokens.latest",
            "The latest child of a family",
        )
        .needs(issue)
        .query(Parameter::name("parent_jti", family))
        .answers::<ChildAnswer>(StatusCode::OK, "The child.")
        .problem(StatusCode::NOT_FOUND, "There is none yet."),
        on(
            HttpMethod::Get,
            "/tokens/stream",
            "tokens.stream",
            "The children of a family as they are minted",
        )
        .needs(issue)
        .query(Parameter::name("parent_jti", family))
        .answers_as(
            StatusCode::OK,
            "Server-sent events: connected, token, heartbeat, and revoked or expired at the end.",
            &["text/event-stream"],
            Some(
                &utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .build()
                    .into(),
            ),
        ),
        on(
            HttpMethod::Delete,
            "/tokens/{jti}",
            "tokens.revoke",
            "Revoke a token, and its children where it is a parent",
        )
        .needs(Some("tokens:revoke"))
        .answers_as(StatusCode::NO_CONTENT, "It is refused from now on.", &[], None),
        on(
            HttpMethod::Delete,
            "/users/{user_id}/tokens",
            "users.revoke",
            "Revoke everything that was issued to a user until now",
        )
        .needs(Some("tokens:revoke"))
        .answers_as(StatusCode::NO_CONTENT, "It is refused from now on.", &[], None),
    ];
    operations.extend(oauth::operations());
    operations
}
