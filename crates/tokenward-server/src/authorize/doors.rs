//! The doors at which proxies ask by HTTP. Each reads the headers of its own proxy; others are the client's words.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{any, get},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use tokenward::caller_of;
use tokenward_core::authz::{Facts, Told};

use super::{
    engine::{Accepted, Allowed, Asked, Door, Engine, Words},
    identity::{Headers, Identity, Name},
};
use crate::http::{Caller, Reason, denial_as};

/// Where Envoy is told to put the original path behind.
const ENVOY: &str = "/authorize/envoy";

const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What Envoy takes away from a request before it goes on.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");
/// How long nginx keeps an answer (in seconds), whatever else is said.
const X_ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");

/// What the handlers share.
#[derive(Clone)]
struct Doors {
    engine: Arc<Engine>,
    cache_max_age: Duration,
    /// Where there is no token.
    nobody: Arc<Answer>,
}

/// What the headers of an answer say.
struct Answer {
    identity: Headers,
    /// What else Envoy has to take away.
    removed: HeaderValue,
}

impl Words for Answer {
    fn of(identity: &Identity, headers: Headers, _token: Option<&Accepted>) -> Self {
        let removed: Vec<_> = identity.beside(&headers).map(Name::as_str).collect();
        Self {
            // Names of headers, and commas.
            removed: HeaderValue::try_from(removed.join(",")).unwrap_or(HeaderValue::from_static("")),
            identity: headers,
        }
    }

    fn bytes(&self) -> usize {
        let entry = size_of::<(HeaderName, HeaderValue)>();
        let headers = self.identity.iter();
        let identity: usize = headers.map(|(_, value)| entry + value.len()).sum();
        identity + self.removed.len()
    }
}

/// The doors of `engine`. nginx may keep an allowed request for `cache_max_age`.
pub(crate) fn routes(engine: Arc<Engine>, cache_max_age: Duration) -> Router {
    Router::new()
        .route("/authorize", get(direct).post(direct))
        .route(ENVOY, any(envoy))
        .route("/authorize/envoy/", any(envoy))
        .route("/authorize/envoy/{*path}", any(envoy))
        // A proxy that kept the client's method would make an outage of a 405.
        .route("/authorize/nginx", any(nginx))
        .route("/authorize/forward", any(forward))
        .with_state(Doors {
            nobody: Arc::new(engine.words_of_nobody()),
            engine,
            cache_max_age,
        })
}

/// Whoever asks forwards credentials alone: there is no path.
async fn direct(State(doors): State<Doors>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let facts = Facts {
        host: host(&request),
        method: Told::As(request.method.as_str().as_bytes()),
        target: Told::Never,
    };
    doors.answer(Door::Direct, facts, Told::Never, &request).await
}

/// Envoy asks with the method, the host and the path of the request itself. It sets `X-Forwarded-Proto`, and sends it where it
/// is told to.
async fn envoy(State(doors): State<Doors>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let original = target.strip_prefix(ENVOY).filter(|rest| rest.starts_with('/'));
    let facts = Facts {
        host: host(&request),
        method: Told::As(request.method.as_str().as_bytes()),
        target: Told::As(original.unwrap_or("/").as_bytes()),
    };
    let scheme = told(&request.headers, &X_FORWARDED_PROTO);
    doors.answer(Door::Envoy, facts, scheme, &request).await
}

/// nginx is told which headers to send; `Host` is the client's.
async fn nginx(State(doors): State<Doors>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let facts = Facts {
        host: host(&request),
        method: told(&request.headers, &X_ORIGINAL_METHOD),
        target: told(&request.headers, &X_ORIGINAL_URI),
    };
    doors.answer(Door::Nginx, facts, Told::Never, &request).await
}

/// Traefik and Caddy set `X-Forwarded-*` themselves, in place of the client's.
async fn forward(State(doors): State<Doors>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    let facts = Facts {
        host: told(&request.headers, &X_FORWARDED_HOST),
        method: told(&request.headers, &X_FORWARDED_METHOD),
        target: told(&request.headers, &X_FORWARDED_URI),
    };
    let scheme = told(&request.headers, &X_FORWARDED_PROTO);
    doors.answer(Door::Forward, facts, scheme, &request).await
}

/// HTTP/2 may name it in the target alone. That there are not two of them is seen to where requests come in.
fn host(request: &Parts) -> Told<'_> {
    match (told(&request.headers, &header::HOST), request.uri.authority()) {
        (Told::Missing, Some(authority)) => Told::As(authority.as_str().as_bytes()),
        (host, _) => host,
    }
}

fn told<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Told<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Told::Missing,
        (Some(value), None) => Told::As(value.as_bytes()),
        (Some(_), Some(_)) => Told::Twice,
    }
}

impl Doors {
    async fn answer(&self, door: Door, facts: Facts<'_>, scheme: Told<'_>, request: &Parts) -> Response {
        let caller = request.extensions.get::<Caller>();
        let asked = Asked {
            door,
            facts,
            scheme,
            headers: &request.headers,
            caller: caller.map(|caller| caller_of(caller.0)).unwrap_or_default(),
        };
        match self.engine.decide(&asked).await {
            Ok(allowed) => self.allow(door, &allowed),
            Err(refused) => {
                let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::FORBIDDEN);
                let mut response = denial_as(refused.reason, status, refused.proofs, refused.scheme);
                if let Some(exceeding) = refused.exceeding {
                    exceeding.tell(response.headers_mut());
                }
                response
            }
        }
    }

    fn allow(&self, door: Door, allowed: &Allowed<Answer>) -> Response {
        let said = allowed.token.as_ref().map(|(_, said)| &said.words);
        let answer = said.unwrap_or(&self.nobody);
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Reason("allow"));
        // Room for the ids of the request too.
        let mut headers = HeaderMap::with_capacity(answer.identity.len() + 4);
        for (name, value) in &answer.identity {
            headers.insert(name, value.clone());
        }
        match door {
            Door::Nginx if self.cache_max_age > Duration::ZERO => {
                headers.insert(X_ACCEL_EXPIRES, HeaderValue::from(self.kept(allowed)));
            }
            _ => {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
        }
        if door == Door::Envoy {
            headers.insert(TO_REMOVE, answer.removed.clone());
        }
        *response.headers_mut() = headers;
        response
    }

    /// How long nginx may keep the answer, in seconds: never past the token's end.
    fn kept(&self, allowed: &Allowed<Answer>) -> u64 {
        let end = allowed
            .token
            .as_ref()
            .and_then(|(token, _)| token.claims().expires_at());
        let left = end.map_or(Duration::MAX, |end| end.since(self.engine.clock().wall()));
        self.cache_max_age.min(left).as_secs()
    }
}
