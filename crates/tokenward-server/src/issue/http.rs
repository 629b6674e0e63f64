//! The calls of the token service.

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, delete, get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Value, json};
use tokenward::{Denial, carrier};
use tokenward_core::{
    jose::{MAX_TOKEN_BYTES, Token},
    session::{PairRequest, RENEWALS, RequestFault, TokenRequest, is_user_id},
    written::Object,
};
use tower::util::MapResponseLayer;

use super::{Failure, Renewed, TokenService, allowed, family::Asked, oauth, service::Pair, stream};
use crate::{
    access::{Call, Effect, Guard, Holder, Need, Who, guarded, guarded_by, recorded},
    config::Scope,
    http::{
        Fault, Members, Rejected, bad_request, denial, internal, not_found, overtaken, problem, read,
        store_unavailable, too_many_requests, unavailable,
    },
    limits::Exceeding,
    signer::Unsigned,
};

impl TokenService {
    /// Everything that is issued, renewed, read and revoked. What is not the holder's own is behind `guard`.
    pub(crate) fn routes(&self, guard: &Guard) -> Router {
        self.know(guard.access().clone());
        let issue = Need::Scope(Scope::TokensIssue);
        let revoke = Need::Scope(Scope::TokensRevoke);
        let behind = |handler: MethodRouter<Self>, action, need, effect| {
            handler.route_layer(from_fn_with_state(guard.call(action, need, effect), guarded))
        };
        let holder = |handler: MethodRouter<Self>, action| {
            let call = guard.call(action, issue, Effect::Reads);
            handler.route_layer(axum::middleware::from_fn(move |request: Request, next: Next| {
                let call = call.clone();
                async move {
                    // Whoever shows a token of ours is judged by it; everybody else by a credential.
                    match shown(request.headers()) {
                        Ok(Some(token)) if is_token(token) => recorded(State(call), request, next).await,
                        _ => guarded(State(call), request, next).await,
                    }
                }
            }))
        };
        Router::new()
            // Minting a single token stores nothing, so it does not wait for the audit log either.
            .route(
                "/tokens",
                posted(guard.call("tokens.mint", issue, Effect::Reads), mint),
            )
            .route(
                "/token-pairs",
                posted(guard.call("tokens.pair", issue, Effect::Issues), pair),
            )
            .route(
                "/renew",
                post(renew).route_layer(from_fn_with_state(
                    guard.call("tokens.renew", Need::Any, Effect::Issues),
                    recorded,
                )),
            )
            .route("/tokens/latest", holder(get(latest), "tokens.latest"))
            .route("/tokens/stream", holder(get(stream::stream), "tokens.stream"))
            .route(
                "/tokens/{jti}",
                behind(delete(revoke_token), "tokens.revoke", revoke, Effect::Changes),
            )
            .route(
                "/users/{user_id}/tokens",
                behind(delete(revoke_user), "users.revoke", revoke, Effect::Changes),
            )
            .merge(oauth::routes(guard))
            .layer(MapResponseLayer::new(not_kept))
            .with_state(self.clone())
    }
}

/// `handler` behind `call`, without a layer of the router between them, which takes longer than `call` does.
fn posted<H, F>(call: Call, handler: H) -> MethodRouter<TokenService>
where
    H: Fn(State<TokenService>, Request) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    post(move |service: State<TokenService>, request: Request| {
        guarded_by(call.clone(), request, move |request| handler(service, request))
    })
}

/// Bytes of an answer beside its tokens.
const TYPICAL: usize = 384;

/// Tokens are for whoever asked, and for no cache between (RFC 6749 section 5.1).
fn not_kept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn mint(State(service): State<TokenService>, request: Request) -> Response {
    let Some(Who(client)) = request.extensions().get().cloned() else {
        return internal();
    };
    let body = match read(request.into_body(), service.clock()).await {
        Ok(body) => body,
        Err(rejected) => return rejected.into_response(),
    };
    let settings = service.settings();
    let lifetimes = allowed::lifetimes(&client.allow, &settings.lifetimes);
    let request = match TokenRequest::parse(&body, &lifetimes, &settings.audience) {
        Ok(request) => request,
        Err(fault) => return refused(&fault),
    };
    let asked = [("expires_in", request.lifetime)];
    if let Err(response) = allowed::check(&client.allow, &request.profile, &asked) {
        return response;
    }
    match service.mint(&client.name, &request) {
        Ok(minted) => {
            let mut answer = Object::with_capacity(minted.token.len() + TYPICAL);
            answer.text("token", &minted.token);
            answer.text("token_id", &minted.id);
            answer.text("expires_at", &minted.expires_at.to_string());
            created(answer)
        }
        Err(failure) => failed(failure),
    }
}

async fn pair(State(service): State<TokenService>, request: Request) -> Response {
    let Some(Who(client)) = request.extensions().get().cloned() else {
        return internal();
    };
    let body = match read(request.into_body(), service.clock()).await {
        Ok(body) => body,
        Err(rejected) => return rejected.into_response(),
    };
    let settings = service.settings();
    let lifetimes = allowed::lifetimes(&client.allow, &settings.lifetimes);
    let request = match PairRequest::parse(&body, &lifetimes, &settings.audience) {
        Ok(request) => request,
        Err(fault) => return refused(&fault),
    };
    let asked = [
        ("parent_expires_in", request.parent_lifetime),
        ("child_expires_in", request.child_lifetime),
    ];
    if let Err(response) = allowed::check(&client.allow, &request.profile, &asked) {
        return response;
    }
    match service.pair(&client.name, request).await {
        Ok(Pair {
            parent,
            parent_lifetime,
            child,
        }) => {
            let child_length = child.as_ref().map_or(0, |(child, _)| child.token.len());
            let mut answer = Object::with_capacity(parent.token.len() + child_length + TYPICAL);
            answer.text("parent_token", &parent.token);
            answer.text("parent_jti", &parent.id);
            answer.number("parent_expiry", parent_lifetime);
            answer.text("parent_expires_at", &parent.expires_at.to_string());
            if let Some((child, lifetime)) = child {
                answer.text("child_token", &child.token);
                answer.text("child_jti", &child.id);
                answer.number("child_expiry", lifetime);
                answer.text("child_expires_at", &child.expires_at.to_string());
            }
            created(answer)
        }
        Err(failure) => failed(failure),
    }
}

/// The parent token is the proof: no credential is asked for.
async fn renew(State(service): State<TokenService>, request: Request) -> Response {
    let shown = match shown(request.headers()) {
        Ok(shown) => shown.map(str::to_owned),
        Err(denied) => return denial(denied),
    };
    let token = match parent_token(&service, shown, request.into_body()).await {
        Ok(Some(token)) => token,
        Ok(None) => return denial(Denial::TokenMissing),
        Err(rejected) => return rejected.into_response(),
    };
    let parent = match service.parent(&token) {
        Ok(parent) => parent,
        Err(denied) => return denial(denied),
    };
    let response = match service.renew_by(&token, &parent).await {
        Ok(Renewed { child, .. }) => ok(json!({
            "token": child.token,
            "token_id": child.id,
            "expires_at": child.expires_at,
        })),
        Err(failure) => failed(failure),
    };
    held(response, parent.1.as_str())
}

/// Notes for the audit log whose token opened a call.
pub(super) fn held(mut response: Response, parent: &str) -> Response {
    response.extensions_mut().insert(Holder(parent.to_owned()));
    response
}

/// The parent token out of the header or the body; where both have one, it must be the same. A credential in the header is
/// no proof, and no contradiction either.
async fn parent_token(
    service: &TokenService,
    shown: Option<String>,
    body: Body,
) -> Result<Option<String>, Rejected> {
    let body = read(body, service.clock()).await?;
    if body.is_empty() {
        return Ok(shown);
    }
    let mut members = Members::parse(&body, &["parent_token"])?;
    let token = members.text("parent_token");
    members.end()?;
    match (shown, token) {
        (Some(shown), Some(token)) if shown != token && is_token(&shown) => {
            Err(Rejected::Members(vec![Fault::new(
                "parent_token",
                "is another token than the one in the Authorization header",
            )]))
        }
        (shown, token) => Ok(token.or(shown)),
    }
}

async fn latest(
    State(service): State<TokenService>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let asked = match family_of(&service, query.as_deref(), &parts).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let response = match service.latest_of(&asked).await {
        Ok(Some(renewed)) => ok(child(&renewed)),
        Ok(None) => not_found("This family has no child yet."),
        Err(failure) => failed(failure),
    };
    held(response, &asked.parent)
}

/// A family's latest child.
pub(super) fn child(renewed: &Renewed) -> Value {
    json!({
        "child_token": renewed.child.token,
        "child_jti": renewed.child.id,
        "expires_at": renewed.child.expires_at,
        "renewed_at": renewed.renewed_at,
    })
}

/// The family that is asked about, by somebody who may: the holder of its parent, or a credential.
pub(super) async fn family_of(
    service: &TokenService,
    query: Option<&str>,
    request: &Parts,
) -> Result<Asked, Response> {
    let mut named = None;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "parent_jti" || named.replace(value.into_owned()).is_some() {
            return Err(bad_request("The one parameter of this call is parent_jti."));
        }
    }
    if let Some(Who(client)) = request.extensions.get() {
        let named = named.ok_or_else(|| bad_request("The parameter parent_jti is missing."))?;
        service.let_read(client, &named).await.map_err(failed)?;
        return Ok(Asked {
            parent: named,
            shown: None,
        });
    }
    let token = shown(&request.headers).map_err(denial)?;
    let shown = service.parent(token.unwrap_or_default()).map_err(denial)?;
    let parent = shown.1.as_str().to_owned();
    match named {
        Some(named) if named != parent => Err(denial(Denial::InsufficientScope)),
        _ => Ok(Asked {
            parent,
            shown: Some(shown),
        }),
    }
}

async fn revoke_token(
    State(service): State<TokenService>,
    jti: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(jti)) = jti else {
        return bad_request("A token's id is text.");
    };
    match service.revoke_token(&jti).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failed(failure),
    }
}

async fn revoke_user(
    State(service): State<TokenService>,
    user_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let Some(Who(client)) = request.extensions().get().cloned() else {
        return internal();
    };
    let user_id = user_id.map(|Path(id)| id).ok().filter(|id| is_user_id(id));
    let Some(user_id) = user_id else {
        return bad_request("A user's id has 1 to 256 printable characters.");
    };
    if !client.allow.user(&user_id) {
        return allowed::narrow(
            "The credential may not end the tokens of this user.",
            &["user_id"],
        );
    }
    match service.revoke_user(&user_id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failed(failure),
    }
}

/// The bearer token of a request.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    carrier::bearer(headers)
}

/// Whether it has the form of a token; no credential has it.
fn is_token(text: &str) -> bool {
    Token::parse(text, MAX_TOKEN_BYTES).is_ok()
}

fn created(body: Object) -> Response {
    let mut response = Response::new(Body::from(body.finish()));
    *response.status_mut() = StatusCode::CREATED;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn ok(body: Value) -> Response {
    axum::Json(body).into_response()
}

fn refused(fault: &RequestFault) -> Response {
    let member = fault.member().unwrap_or_default().to_owned();
    Rejected::Members(vec![Fault::new(member, fault.to_string())]).into_response()
}

/// 503: as many streams are open as may be, of a family or of all.
pub(super) fn too_many_streams() -> Response {
    unavailable(
        "too_many_streams",
        "Too many streams",
        "Too many token streams are open.",
    )
}

pub(super) fn failed(failure: Failure) -> Response {
    match failure {
        Failure::Denied(denied) => denial(denied),
        Failure::TooLarge => problem(
            StatusCode::BAD_REQUEST,
            "request_malformed",
            "Request malformed",
            "The token would be larger than verifiers accept.",
        ),
        Failure::TooSoon => too_many_requests(std::time::Duration::from_secs(1)),
        Failure::Overtaken => overtaken(),
        Failure::TooMany(exceeded) => Exceeding::new("renewals", RENEWALS, exceeded).into_response(),
        Failure::TooManyStreams => too_many_streams(),
        Failure::NoKey(why) => {
            match why {
                Unsigned::Revoked => tracing::error!(%why, "nothing can be signed: revoke the key again"),
                _ => tracing::warn!(%why, "nothing can be signed"),
            }
            unavailable("keys_unavailable", "Keys unavailable", why.detail())
        }
        Failure::Joining => store_unavailable(),
        Failure::Store(error) => {
            tracing::warn!(%error, "the store failed a call of the token service");
            store_unavailable()
        }
        Failure::Internal(error) => {
            tracing::error!(error, "a call of the token service failed");
            internal()
        }
    }
}
