//! The door at which Envoy asks by gRPC: `envoy.service.auth.v3.Authorization`.
//!
//! Whatever is decided is an answer of the call, an outage too. An error of the call itself would leave the status that a
//! client sees to the proxy.

mod messages;
pub(crate) mod question;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request, routing::post_service};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use tokenward::{caller_of, respond};
use tokenward_core::{
    Denial,
    authz::{Facts, Told},
};

use super::{
    engine::{Accepted, Asked, Door, Engine, Refused, Words},
    identity::{Headers, Identity, Name},
};
use crate::http::{Answered, Caller, Handler, Observer, Peer, TrustedProxies, grpc, observed};
use messages::{
    CheckResponse, DeniedHttpResponse, Entry, HeaderValueOption, HttpResponse, HttpStatus, Kind,
    OkHttpResponse, Struct, Value,
};
use question::Question;

/// The service's name.
pub(crate) const SERVICE: &str = "envoy.service.auth.v3.Authorization";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The largest question, in bytes: the headers that Envoy takes by default, and a body that it may be told to send along,
/// which is not read.
const MAX_QUESTION: usize = 1024 * 1024;

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

struct Checks {
    engine: Arc<Engine>,
    proxies: Arc<TrustedProxies>,
    /// Where there is no token.
    nobody: Answer,
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

/// The service, for a listener that speaks gRPC, with `observer` in front of it.
pub(crate) fn routes(engine: Arc<Engine>, observer: &Arc<Observer>) -> Router {
    let checks = Checks {
        nobody: engine.words_of_nobody(),
        engine,
        proxies: Arc::clone(&observer.proxies),
    };
    Router::new().route(CHECK, post_service(observed(observer, CHECK, checks)))
}

impl Handler for Checks {
    async fn answer(&self, _: Caller, request: Request) -> Answered {
        let peer = Peer::of(request.extensions());
        let message = grpc::message_of(request.into_body(), MAX_QUESTION, self.engine.clock()).await;
        let question = message.as_ref().and_then(Question::read);
        // The request log has whom the question is about, and not the proxy that asks.
        let caller = match (&question, peer) {
            (Some(question), Some(peer)) => {
                Some(self.proxies.behind(peer, question.source, &question.headers))
            }
            _ => peer,
        };
        let (reason, answer) = match question {
            Some(question) => self.judge(&question, caller).await,
            None => self.malformed(),
        };
        Answered {
            response: grpc::answer(answer),
            reason: Some(reason),
            caller,
        }
    }
}

impl Checks {
    /// What is decided, and the code of it.
    async fn judge(&self, question: &Question<'_>, caller: Option<IpAddr>) -> (&'static str, Bytes) {
        let asked = Asked {
            door: Door::EnvoyGrpc,
            facts: Facts {
                host: told(question.host),
                method: told(question.method),
                target: told(question.path),
            },
            scheme: told(question.scheme),
            headers: &question.headers,
            caller: caller.map(caller_of).unwrap_or_default(),
        };
        match self.engine.decide::<Answer>(&asked).await {
            Ok(allowed) => {
                let said = allowed.token.as_ref().map(|(_, said)| &**said);
                ("allow", said.unwrap_or(&self.nobody).0.clone())
            }
            Err(refused) => denied(refused),
        }
    }

    /// What cannot be read is denied like what may not pass.
    fn malformed(&self) -> (&'static str, Bytes) {
        let reason = Denial::RequestMalformed;
        self.engine.count(Door::EnvoyGrpc, reason.code(), Duration::ZERO);
        denied(Door::EnvoyGrpc.refused(reason, None))
    }
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
