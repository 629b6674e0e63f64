//! The door at which Envoy asks by gRPC: `envoy.service.auth.v3.Authorization`.
//!
//! Whatever is decided is an answer of the call, an outage too. An error of the call itself would leave the status that a
//! client sees to the proxy.

mod messages;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokenward::{caller_of, respond};
use tokenward_core::{
    Denial,
    authz::{Facts, Told},
};

use super::{
    engine::{Accepted, Asked, Door, Engine, Refused, Words},
    identity::{Headers, Identity, Name},
};
use crate::{
    http::{Caller, Peer, Reason, TrustedProxies, grpc},
    telemetry,
};
use messages::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, Entry, HeaderValueOption, HttpRequest,
    HttpResponse, HttpStatus, Kind, OkHttpResponse, Struct, Value,
};

/// The service's name.
pub(crate) const SERVICE: &str = "envoy.service.auth.v3.Authorization";

/// The largest question, in bytes: the headers that Envoy takes by default, and a body that it may be told to send along,
/// which is not read.
const MAX_QUESTION: usize = 1024 * 1024;

/// More than any proxy lets through, and far less than a map of them can hold.
const MAX_HEADERS: usize = 1_000;

/// `HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD`.
const APPEND: i32 = 0;

/// `HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`.
const OVERWRITE: i32 = 2;

/// Codes of `google.rpc.Code`.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

#[derive(Clone)]
struct Checks {
    engine: Arc<Engine>,
    proxies: Arc<TrustedProxies>,
    /// Where there is no token.
    nobody: Arc<Answer>,
}

/// The message that allows a request.
struct Answer(Bytes);

impl Words for Answer {
    fn of(identity: &Identity, headers: Headers, token: Option<&Accepted>) -> Self {
        Self(grpc::message(&CheckResponse {
            status: Some(messages::Status { code: code::OK }),
            http_response: Some(HttpResponse::Ok(OkHttpResponse {
                headers_to_remove: identity.beside(&headers).map(Name::to_bytes).collect(),
                headers: set(headers.iter().map(|(name, value)| (name, value))),
            })),
            dynamic_metadata: Some(metadata("allow", token)),
        }))
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The service, for a listener that speaks gRPC.
pub(crate) fn routes(engine: Arc<Engine>, proxies: Arc<TrustedProxies>) -> Router {
    Router::new()
        .route("/envoy.service.auth.v3.Authorization/Check", post(check))
        .with_state(Checks {
            nobody: Arc::new(engine.words_of_nobody()),
            engine,
            proxies,
        })
}

async fn check(State(checks): State<Checks>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let body = request.into_body();
    let mut caller = peer;
    let (reason, answer) = match grpc::question(body, MAX_QUESTION, checks.engine.clock()).await {
        Some(question) => checks.answer(question, &mut caller).await,
        None => malformed(),
    };
    let mut response = grpc::answer(answer);
    response.extensions_mut().insert(Reason(reason));
    // The request log has whom the question is about, and not the proxy that asks.
    if let Some(caller) = caller {
        response.extensions_mut().insert(Caller(caller));
    }
    response
}

impl Checks {
    /// What is decided, and the code of it. `caller` is the peer, and then the one whom the question is about.
    async fn answer(&self, question: CheckRequest, caller: &mut Option<IpAddr>) -> (&'static str, Bytes) {
        let attributes = question.attributes.unwrap_or_default();
        let source = source(&attributes);
        let http = attributes.request.and_then(|request| request.http);
        let http = http.unwrap_or_default();
        let Some(headers) = headers(&http) else {
            return malformed();
        };
        *caller = caller.map(|peer| self.proxies.behind(peer, source, &headers));
        let asked = Asked {
            door: Door::EnvoyGrpc,
            facts: Facts {
                host: told(&http.host),
                method: told(&http.method),
                target: told(&http.path),
            },
            scheme: told(&http.scheme),
            headers: &headers,
            caller: caller.map(caller_of).unwrap_or_default(),
        };
        match self.engine.decide::<Answer>(&asked).await {
            Ok(allowed) => {
                let said = allowed.token.as_ref().map(|(_, said)| &said.words);
                ("allow", said.unwrap_or(&self.nobody).0.clone())
            }
            Err(refused) => denied(refused),
        }
    }
}

/// What cannot be read is denied like what may not pass.
fn malformed() -> (&'static str, Bytes) {
    let reason = Denial::RequestMalformed;
    telemetry::decision(Door::EnvoyGrpc.name(), reason.code(), Duration::ZERO);
    denied(Door::EnvoyGrpc.refused(reason, None))
}

fn denied(refused: Refused) -> (&'static str, Bytes) {
    let reason = refused.reason;
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::FORBIDDEN);
    let response = respond::denial_as(reason, status);
    let mut response = respond::with_challenges(response, reason, refused.proofs, refused.scheme);
    if let Some(exceeding) = refused.exceeding {
        exceeding.tell(response.headers_mut());
    }
    let code = match status {
        StatusCode::UNAUTHORIZED => code::UNAUTHENTICATED,
        StatusCode::TOO_MANY_REQUESTS => code::RESOURCE_EXHAUSTED,
        StatusCode::SERVICE_UNAVAILABLE => code::UNAVAILABLE,
        _ => code::PERMISSION_DENIED,
    };
    let answer = CheckResponse {
        status: Some(messages::Status { code }),
        http_response: Some(HttpResponse::Denied(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: i32::from(status.as_u16()),
            }),
            headers: set(response.headers().iter()),
            body: response.into_body(),
        })),
        dynamic_metadata: Some(metadata(reason.code(), None)),
    };
    (reason.code(), grpc::message(&answer))
}

/// What later filters of the proxy can know, beside the headers: the code of the decision, and whose token it was.
fn metadata(reason: &'static str, token: Option<&Accepted>) -> Struct {
    let mut fields = vec![entry("reason", Bytes::from_static(reason.as_bytes()))];
    if let Some(token) = token {
        let claims = token.claims();
        let scope = claims.scope();
        for (name, value) in [
            ("tenant", Some(token.tenant())),
            ("idp", Some(token.idp())),
            ("issuer", claims.issuer()),
            ("subject", claims.subject()),
            ("token_id", claims.token_id()),
            ("scope", scope.as_deref()),
        ] {
            fields.extend(value.map(|value| entry(name, Bytes::copy_from_slice(value.as_bytes()))));
        }
    }
    Struct {
        fields: vec![Entry {
            key: Bytes::from_static(b"tokenward"),
            value: Some(Value {
                kind: Some(Kind::Struct(Struct { fields })),
            }),
        }],
    }
}

fn entry(name: &'static str, text: Bytes) -> Entry {
    Entry {
        key: Bytes::from_static(name.as_bytes()),
        value: Some(Value {
            kind: Some(Kind::String(text)),
        }),
    }
}

/// Headers that take the place of what is there. One with several values, as challenges have, goes on with its second.
fn set<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Vec<HeaderValueOption> {
    let mut last: Option<HeaderName> = None;
    let option = |(name, value): (&HeaderName, &HeaderValue)| HeaderValueOption {
        header: Some(messages::HeaderValue {
            key: Bytes::copy_from_slice(name.as_str().as_bytes()),
            // Ours are ASCII.
            value: Bytes::copy_from_slice(value.as_bytes()),
            raw_value: Bytes::new(),
        }),
        append_action: if last.replace(name.clone()).as_ref() == Some(name) {
            APPEND
        } else {
            OVERWRITE
        },
        keep_empty_value: true,
    };
    headers.map(option).collect()
}

/// A field that is empty was not told.
fn told(text: &str) -> Told<'_> {
    match text {
        "" => Told::Missing,
        text => Told::As(text.as_bytes()),
    }
}

/// The headers of the request; none where one of them is no header.
fn headers(http: &HttpRequest) -> Option<HeaderMap> {
    let joined = http.headers.iter().map(|entry| (&entry.key, &entry.value));
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    let raw = raw.map(|header| match header.raw_value.is_empty() {
        true => (&header.key, &header.value),
        false => (&header.key, &header.raw_value),
    });
    if http.headers.len() + http.header_map.as_ref().map_or(0, |map| map.headers.len()) > MAX_HEADERS {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(http.headers.len());
    for (name, value) in joined.chain(raw) {
        // What HTTP/2 says of the request stands among them, and in fields of its own.
        if name.starts_with(b":") {
            continue;
        }
        let name = HeaderName::from_bytes(name).ok()?;
        headers
            .try_append(name, HeaderValue::from_maybe_shared(value.clone()).ok()?)
            .ok()?;
    }
    Some(headers)
}

/// The address from which the proxy was asked.
fn source(attributes: &AttributeContext) -> Option<IpAddr> {
    let address = attributes.source.as_ref()?.address.as_ref()?;
    address.socket_address.as_ref()?.address.parse().ok()
}
