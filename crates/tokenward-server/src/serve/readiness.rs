//! Whether this process lives, how it is, and whether traffic should be sent to it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    response::Response,
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tokenward::{DEFAULT_TENANT, Registry};
use tokenward_core::{Clock, Timestamp, freshness};
use tokio::sync::watch;

use super::listener::Phase;

/// For how long what was found by looking at all identity providers is used again, so that asking is cheap.
const REUSE: Duration = Duration::from_millis(500);
/// Untried and keyless identity providers that `?verbose` names.
const NAMED: usize = 100;

/// The health and readiness endpoints.
#[derive(Clone)]
pub(super) struct Readiness(Arc<Inner>);

struct Inner {
    registry: Registry,
    clock: Arc<dyn Clock>,
    phase: watch::Receiver<Phase>,
    look: Mutex<Option<Look>>,
}

/// What a look at all identity providers found.
#[derive(Clone)]
struct Look {
    at: Timestamp,
    /// Some is not as it should be.
    degraded: bool,
    /// Those that were not tried since the start and have no stored keys. Once there was none, later ones do not
    /// take the process out again.
    untried: Vec<String>,
    /// Those that are required and have no keys.
    keyless: Vec<String>,
}

/// One condition, and who does not meet it.
struct Check {
    name: &'static str,
    ok: bool,
    missing: Vec<String>,
}

impl Check {
    fn none_of(name: &'static str, missing: Vec<String>) -> Self {
        Self {
            name,
            ok: missing.is_empty(),
            missing,
        }
    }
}

impl Readiness {
    pub(super) fn new(registry: Registry, phase: watch::Receiver<Phase>) -> Self {
        let clock = registry.clock();
        Self(Arc::new(Inner {
            registry,
            clock,
            phase,
            look: Mutex::new(None),
        }))
    }

    pub(super) fn routes(&self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/healthz", get(health))
            .route("/livez", get(health))
            .route("/readyz", get(ready))
            .with_state(self.clone())
    }

    fn checks(&self) -> [Check; 3] {
        let look = self.look();
        let staying = *self.0.phase.borrow() == Phase::Serving;
        [
            Check::none_of("idps_tried", look.untried),
            Check::none_of("required_idps_have_keys", look.keyless),
            Check {
                name: "not_draining",
                ok: staying,
                missing: Vec::new(),
            },
        ]
    }

    fn look(&self) -> Look {
        let now = self.0.clock.steady();
        let mut last = self.0.look.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = &*last
            && now.since(look.at) < REUSE
        {
            return look.clone();
        }
        let latched = last.as_ref().is_some_and(|look| look.untried.is_empty());
        let mut look = Look {
            at: now,
            degraded: false,
            untried: Vec::new(),
            keyless: Vec::new(),
        };
        for idp in self.0.registry.idps(DEFAULT_TENANT) {
            look.degraded |= matches!(
                idp.status().keys.state,
                freshness::State::Stale | freshness::State::Degraded | freshness::State::Failed
            );
            if !latched && !idp.was_tried() && look.untried.len() < NAMED {
                look.untried.push(idp.name().to_owned());
            }
            if idp.config().is_required() && !idp.has_keys() && look.keyless.len() < NAMED {
                look.keyless.push(idp.name().to_owned());
            }
        }
        *last = Some(look.clone());
        look
    }
}

/// 200 for as long as the process can answer: an identity provider that is down is no reason to restart it.
async fn health(State(readiness): State<Readiness>) -> Response {
    let status = if readiness.look().degraded {
        "degraded"
    } else {
        "healthy"
    };
    answer(
        StatusCode::OK,
        &json!({ "status": status, "time": readiness.0.clock.wall() }),
    )
}

async fn ready(State(readiness): State<Readiness>, RawQuery(query): RawQuery) -> Response {
    let checks = readiness.checks();
    let ok = checks.iter().all(|check| check.ok);
    let mut body = Map::from_iter([
        (
            "status".to_owned(),
            Value::from(if ok { "ready" } else { "not_ready" }),
        ),
        ("time".to_owned(), json!(readiness.0.clock.wall())),
    ]);
    let verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some("verbose"))
    });
    if verbose {
        let checks = checks.into_iter().map(|check| {
            let mut entry = json!({ "ok": check.ok });
            if let (false, Some(entry)) = (check.missing.is_empty(), entry.as_object_mut()) {
                entry.insert("missing".to_owned(), Value::from(check.missing));
            }
            (check.name.to_owned(), entry)
        });
        body.insert("checks".to_owned(), Value::Object(checks.collect()));
    }
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut response = answer(status, &Value::Object(body));
    if !ok {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
