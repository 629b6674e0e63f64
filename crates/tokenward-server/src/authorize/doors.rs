//! The doors at which proxies ask by HTTP. Each reads the headers of its own proxy; others are the client's words.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    handler::Handler as _,
    middleware::from_fn_with_state,
    response::Response,
    routing::{any_service, get_service},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use tokenward::caller_of;
use tokenward_core::authz::{Facts, Told};

use super::{
    engine::{Accepted, Allowed, Asked, Door, Engine, Words},
    identity::{Headers, Identity, Name},
};
use crate::http::{Answered, Caller, Handler, Observer, denial_as, observe, observed, wrong_method};

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

/// What the doors share.
struct Doors {
    engine: Arc<Engine>,
    cache_max_age: Duration,
    /// Where there is no token.
    nobody: Answer,
}

/// One of them.
struct At {
    doors: Arc<Doors>,
    door: Door,
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

/// The doors of `engine`, with `observer` in front of each. nginx may keep an allowed request for `cache_max_age`.
pub(crate) fn routes(engine: Arc<Engine>, cache_max_age: Duration, observer: &Arc<Observer>) -> Router {
    let doors = Arc::new(Doors {
        nobody: engine.words_of_nobody(),
        engine,
        cache_max_age,
    });
    let at = |route, door| {
        let doors = Arc::clone(&doors);
        observed(observer, route, At { doors, door })
    };
    // A proxy that kept the client's method would make an outage of a 405.
    let mut routes = Router::new();
    for (route, door) in [
        (ENVOY, Door::Envoy),
        ("/authorize/envoy/", Door::Envoy),
        ("/authorize/envoy/{*path}", Door::Envoy),
        ("/authorize/nginx", Door::Nginx),
        ("/authorize/forward", Door::Forward),
    ] {
        routes = routes.route(route, any_service(at(route, door)));
    }
    let direct = at("/authorize", Door::Direct);
    let refused = wrong_method.layer(from_fn_with_state(Arc::clone(observer), observe));
    routes
        .route("/authorize", get_service(direct.clone()).post_service(direct))
        .method_not_allowed_fallback(refused)
}

impl Handler for At {
    async fn answer(&self, caller: Caller, request: Request) -> Answered {
        let (request, _body) = request.into_parts();
        let headers = &request.headers;
        let own_method = Told::As(request.method.as_str().as_bytes());
        let facts = match self.door {
            // Whoever asks forwards credentials alone: there is no path.
            Door::Direct | Door::EnvoyGrpc => Facts {
                host: host(&request),
                method: own_method,
                target: Told::Never,
            },
            // It asks with the method, the host and the path of the request itself.
            Door::Envoy => Facts {
                host: host(&request),
                method: own_method,
                target: Told::As(behind_envoy(&request).as_bytes()),
            },
            // It is told which headers to send; `Host` is the client's.
            Door::Nginx => Facts {
                host: host(&request),
                method: told(headers, &X_ORIGINAL_METHOD),
                target: told(headers, &X_ORIGINAL_URI),
            },
            // Traefik and Caddy set `X-Forwarded-*` themselves, in place of the client's.
            Door::Forward => Facts {
                host: told(headers, &X_FORWARDED_HOST),
                method: told(headers, &X_FORWARDED_METHOD),
                target: told(headers, &X_FORWARDED_URI),
            },
        };
        let scheme = match self.door {
            // Envoy sets it, and sends it where it is told to.
            Door::Envoy | Door::Forward => told(headers, &X_FORWARDED_PROTO),
            Door::Direct | Door::EnvoyGrpc | Door::Nginx => Told::Never,
        };
        let asked = Asked {
            door: self.door,
            facts,
            scheme,
            headers,
            caller: caller_of(caller.0),
        };
        match self.doors.engine.decide(&asked).await {
            Ok(allowed) => Answered {
                response: self.allow(&allowed),
                reason: Some("allow"),
                caller: None,
            },
            Err(refused) => {
                let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::FORBIDDEN);
                let mut response = denial_as(refused.reason, status, refused.proofs, refused.scheme);
                if let Some(exceeding) = refused.exceeding {
                    exceeding.tell(response.headers_mut());
                }
                response.into()
            }
        }
    }
}

/// The path that Envoy put behind its own.
fn behind_envoy(request: &Parts) -> &str {
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let original = target.strip_prefix(ENVOY).filter(|rest| rest.starts_with('/'));
    original.unwrap_or("/")
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

impl At {
    fn allow(&self, allowed: &Allowed<Answer>) -> Response {
        let said = allowed.token.as_ref().map(|(_, said)| &**said);
        let answer = said.unwrap_or(&self.doors.nobody);
        let mut response = Response::new(Body::empty());
        // Room for the ids of the request too.
        let mut headers = HeaderMap::with_capacity(answer.identity.len() + 4);
        for (name, value) in &answer.identity {
            headers.insert(name, value.clone());
        }
        match self.door {
            Door::Nginx if self.doors.cache_max_age > Duration::ZERO => {
                headers.insert(X_ACCEL_EXPIRES, HeaderValue::from(self.kept(allowed)));
            }
            _ => {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
        }
        if self.door == Door::Envoy {
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
        let left = end.map_or(Duration::MAX, |end| end.since(self.doors.engine.clock().wall()));
        self.doors.cache_max_age.min(left).as_secs()
    }
}
