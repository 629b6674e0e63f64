//! What a credential may mint, and so be told of and end.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokenward_core::{
    claims::{Claim, Claims},
    session::{Lifetimes, Profile},
};

use crate::{
    config::{Allow, Credential},
    http::problem_with,
};

/// The lifetimes of tokens that `allow` bounds: what a request does not say is cut to it. What it says is judged by
/// [`check`].
pub(super) fn lifetimes(allow: &Allow, lifetimes: &Lifetimes) -> Lifetimes {
    let Some(max) = allow.max_lifetime else {
        return *lifetimes;
    };
    Lifetimes {
        token: lifetimes.token.min(max),
        parent: lifetimes.parent.min(max),
        child: lifetimes.child.min(max),
        max: lifetimes.max,
    }
}

/// The members of a request that ask for more than `allow` has. `lifetimes` are in seconds.
fn beyond<'a>(allow: &Allow, profile: &Profile, lifetimes: &[(&'a str, u64)]) -> Vec<&'a str> {
    let mut scopes = profile.scope.iter().flat_map(|scope| scope.split(' '));
    let longest = allow.max_lifetime.map_or(u64::MAX, |max| max.as_secs());
    let fits = [
        ("user_id", allow.user(&profile.user_id)),
        (
            "audience",
            profile.audience.iter().all(|audience| allow.audience(audience)),
        ),
        ("scope", scopes.all(|scope| allow.scope(scope))),
        ("claims", profile.claims.keys().all(|name| allow.claim(name))),
    ];
    let lifetimes = lifetimes
        .iter()
        .map(|(member, seconds)| (*member, *seconds <= longest));
    fits.into_iter()
        .chain(lifetimes)
        .filter(|(_, fits)| !fits)
        .map(|(member, _)| member)
        .collect()
}

/// # Errors
///
/// 403 where a request asks for more than `allow` has; it names the members. `lifetimes` are in seconds.
#[expect(clippy::result_large_err, reason = "an answer is made once, and sent")]
pub(super) fn check(allow: &Allow, profile: &Profile, lifetimes: &[(&str, u64)]) -> Result<(), Response> {
    let beyond = beyond(allow, profile, lifetimes);
    if beyond.is_empty() {
        return Ok(());
    }
    Err(narrow(
        "The credential may not mint such a token; errors lists the members that are beyond it.",
        &beyond,
    ))
}

/// 403: a credential is not allowed what `members` say.
pub(crate) fn narrow(detail: &'static str, members: &[&str]) -> Response {
    let errors: Vec<_> = members
        .iter()
        .map(|member| json!({ "member": member, "message": "is beyond what the credential is allowed" }))
        .collect();
    let texts = ("insufficient_scope", "Insufficient scope", detail);
    let mut response = problem_with(StatusCode::FORBIDDEN, texts, ("errors", errors.into()));
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"tokenward\", error=\"insufficient_scope\""),
    );
    response
}

/// Whether `credential` may read the children of a family: one that it opened itself as `client`, or one that it may open.
pub(super) fn may_read(
    credential: &Credential,
    client: &str,
    profile: &Profile,
    lifetimes: &[(&str, u64)],
) -> bool {
    client == credential.name || beyond(&credential.allow, profile, lifetimes).is_empty()
}

/// Whether `credential` may know what a token claims: one that it minted, or one for a user and an audience that it may mint
/// for. So one that is bound to a service learns nothing of tokens that are meant for others.
pub(crate) fn may_know(credential: &Credential, claims: &Claims) -> bool {
    let allow = &credential.allow;
    allow.is_open()
        || is_minted_by(credential, claims)
        || (claims.subject().is_some_and(|user| allow.user(user))
            && (allow.audiences.is_none() || claims.audiences().any(|audience| allow.audience(audience))))
}

/// Whether `credential` may end a token: one that it minted, or one for a user that it may mint for.
pub(super) fn may_end(credential: &Credential, claims: &Claims) -> bool {
    is_minted_by(credential, claims) || claims.subject().is_some_and(|user| credential.allow.user(user))
}

fn is_minted_by(credential: &Credential, claims: &Claims) -> bool {
    let client = claims.get("client_id").and_then(Claim::as_str);
    client == Some(credential.name.as_str())
}
