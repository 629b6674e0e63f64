//! Introspection (RFC 7662) and revocation (RFC 7009) of our own tokens.

use axum::{
    Router,
    extract::{Request, State},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokenward_core::{Clock, Denial, session::TokenType};

use super::{Failure, TokenService, allowed, http::failed};
use crate::{
    access::{About, Effect, Guard, Need, Who, guarded},
    config::Scope,
    http::{Rejected, internal, oauth_error, oauth_too_large, oauth_unavailable, read},
};

const ISSUE: Need = Need::Scope(Scope::TokensIssue);
const FORM: &str = "application/x-www-form-urlencoded";

/// Both endpoints, behind `guard`.
pub(super) fn routes(guard: &Guard) -> Router<TokenService> {
    let read = Need::Scope(Scope::TokensRead);
    let introspection = guard.call("oauth.introspect", read, Effect::Reads).of_oauth();
    let revoke = Need::Scope(Scope::TokensRevoke);
    let revocation = guard.call("oauth.revoke", revoke, Effect::Changes).of_oauth();
    Router::new()
        .route(
            "/oauth/introspect",
            post(introspect).route_layer(from_fn_with_state(introspection, guarded)),
        )
        .route(
            "/oauth/revoke",
            post(end).route_layer(from_fn_with_state(revocation, guarded)),
        )
}

async fn introspect(State(service): State<TokenService>, request: Request) -> Response {
    let Some(Who(client)) = request.extensions().get().cloned() else {
        return internal();
    };
    let token = match token(request, service.clock()).await {
        Ok(token) => token,
        Err(response) => return response,
    };
    if let Err(why) = service.knows_its_own() {
        return oauth_unavailable("keys_unavailable", why.detail());
    }
    let Ok(told) = service.introspect(&token) else {
        return oauth_unavailable(
            Denial::RevocationUnavailable.code(),
            "Whether the token was revoked cannot be told at the moment.",
        );
    };
    let told = told.filter(|(claims, token_type)| {
        // Whoever asks on behalf of a resource would take a parent for an access token. It is told to those who issue.
        let may_use = *token_type != TokenType::Parent || ISSUE.is_met_by(&client.scopes);
        may_use && allowed::may_know(&client, claims)
    });
    let Some((claims, token_type)) = told else {
        // And nothing more: not even whether it ever was one (RFC 7662 section 2.2).
        return axum::Json(json!({ "active": false })).into_response();
    };
    let mut answer = claims.to_map();
    // What RFC 7662 section 2.2 means by the name is how a token is presented (RFC 6749 section 7.1). That of our claim is told by
    // another one.
    let _ = match token_type {
        TokenType::Access | TokenType::Child => answer.insert("token_type".into(), "Bearer".into()),
        TokenType::Parent => answer.remove("token_type"),
    };
    // Last, since custom claims may have the names too.
    answer.insert("token_use".into(), token_type.name().into());
    answer.insert("active".into(), true.into());
    about(axum::Json(answer).into_response(), claims.token_id())
}

async fn end(State(service): State<TokenService>, request: Request) -> Response {
    let Some(Who(client)) = request.extensions().get().cloned() else {
        return internal();
    };
    let token = match token(request, service.clock()).await {
        Ok(token) => token,
        Err(response) => return response,
    };
    if let Err(why) = service.knows_its_own() {
        return oauth_unavailable("keys_unavailable", why.detail());
    }
    let Some((verified, id)) = service.own_at_any_time(&token) else {
        // What is not known cannot be used either, so the client has what it wants (RFC 7009 section 2.2).
        return StatusCode::OK.into_response();
    };
    if !allowed::may_end(&client, verified.claims()) {
        // The client is told, since the token stays good (RFC 7009 section 2.1).
        let refused = oauth_error(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "insufficient_scope",
            "The credential may not revoke this token.",
        );
        return about(refused, Some(id.as_str()));
    }
    match service.revoke_token(id.as_str()).await {
        Ok(_) => about(StatusCode::OK.into_response(), Some(id.as_str())),
        Err(Failure::Store(error)) => {
            tracing::warn!(%error, "the store failed a revocation");
            oauth_unavailable(
                "store_unavailable",
                "The store cannot be used at the moment; the token is not revoked.",
            )
        }
        Err(failure) => failed(failure),
    }
}

/// Notes for the audit log which token it was, as the call that revokes by id has it.
fn about(mut response: Response, jti: Option<&str>) -> Response {
    if let Some(jti) = jti {
        response.extensions_mut().insert(About(format!("/tokens/{jti}")));
    }
    response
}

/// The parameter `token` of the form. Others, the hint at its type too, are not needed.
async fn token(request: Request, clock: &dyn Clock) -> Result<String, Response> {
    let invalid = |description| {
        oauth_error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "request_malformed",
            description,
        )
    };
    if !is_form(request.headers()) {
        return Err(invalid("The body must be application/x-www-form-urlencoded."));
    }
    let body = read(request.into_body(), clock)
        .await
        .map_err(|rejected| match rejected {
            Rejected::NoObject | Rejected::Members(_) => invalid("The body broke off."),
            Rejected::TooLarge => oauth_too_large(),
            Rejected::TooSlow => oauth_error(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request",
                "request_timeout",
                "The body came too slowly.",
            ),
        })?;
    let mut token = None;
    for (name, value) in url::form_urlencoded::parse(&body) {
        if name == "token" && token.replace(value.into_owned()).is_some() {
            return Err(invalid("The parameter token is there more than once."));
        }
    }
    // One without a value counts as left out (RFC 6749 section 3.1).
    token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| invalid("The parameter token is missing."))
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = first
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(FORM)
}
