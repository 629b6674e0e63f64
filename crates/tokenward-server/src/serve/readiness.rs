//! Whether this process lives, how it is, and whether traffic should be sent to it.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
use tokenward::{DEFAULT_TENANT, Idp, Registry};
use tokenward_core::Clock;
use tokenward_store::Standing;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::listener::Phase;
use crate::{cluster::Cluster, signer::Signer};

/// Untried and keyless identity providers that `?verbose` names.
const NAMED: usize = 100;

/// Streams by gRPC that tell of changes.
const MAX_WATCHES: usize = 1_000;

/// The health and readiness endpoints.
#[derive(Clone)]
pub(super) struct Readiness(Arc<Inner>);

struct Inner {
    registry: Registry,
    clock: Arc<dyn Clock>,
    phase: watch::Receiver<Phase>,
    watches: Arc<Semaphore>,
    /// Whether all were tried once: later ones do not take the process out again.
    tried: AtomicBool,
    /// Where the first key may have to be waited for.
    signer: Option<Signer>,
    /// Whether a token could be signed once: all replicas lack a key together, and verify on.
    signed: AtomicBool,
    /// Where the store is shared.
    cluster: Option<Cluster>,
}

/// One condition.
struct Check {
    name: &'static str,
    ok: bool,
    /// Tells an identity provider that does not meet it.
    fails: fn(&Idp) -> bool,
    /// What is missing, where it is no identity provider.
    why: Option<Cow<'static, str>>,
}

impl Readiness {
    /// The keys of a `signer` that shares its store may be yet to come.
    pub(super) fn new(
        registry: Registry,
        phase: watch::Receiver<Phase>,
        signer: Option<&Signer>,
        cluster: Option<Cluster>,
    ) -> Self {
        let clock = registry.clock();
        Self(Arc::new(Inner {
            registry,
            clock,
            phase,
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            tried: AtomicBool::new(false),
            signer: signer.filter(|signer| signer.is_shared()).cloned(),
            signed: AtomicBool::new(false),
            cluster,
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

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// A place among those who watch; none where there are too many.
    pub(super) fn watch(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.watches).try_acquire_owned().ok()
    }

    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.clone()
    }

    /// Whether traffic should be sent here.
    pub(super) fn is_ready(&self) -> bool {
        self.checks().iter().all(|check| check.ok)
    }

    fn checks(&self) -> Vec<Check> {
        let health = self.0.registry.health();
        let tried = health.untried == 0 || self.0.tried.load(Ordering::Acquire);
        self.0.tried.store(tried, Ordering::Release);
        let mut checks = vec![
            self.revocations_loaded(),
            Check {
                name: "idps_tried",
                ok: tried,
                fails: |idp| !idp.was_tried(),
                why: None,
            },
            Check {
                name: "required_idps_have_keys",
                ok: health.keyless_required == 0,
                fails: |idp| idp.config().is_required() && !idp.has_keys(),
                why: None,
            },
            Check {
                name: "not_draining",
                ok: *self.0.phase.borrow() == Phase::Serving,
                fails: |_| false,
                why: None,
            },
        ];
        checks.extend(self.signing_key());
        checks
    }

    /// A store of this process alone is read before anything is answered.
    fn revocations_loaded(&self) -> Check {
        let standing = self.0.cluster.as_ref().map(Cluster::standing);
        let why = match standing {
            None | Some(Standing::Joined) => None,
            Some(Standing::Joining { why }) => Some(why.into()),
        };
        Check {
            name: "revocations_loaded",
            ok: why.is_none(),
            fails: |_| false,
            why,
        }
    }

    fn signing_key(&self) -> Option<Check> {
        let unsigned = self.0.signer.as_ref()?.can_sign().err();
        let ok = unsigned.is_none() || self.0.signed.load(Ordering::Acquire);
        self.0.signed.store(ok, Ordering::Release);
        Some(Check {
            name: "signing_key",
            ok,
            fails: |_| false,
            why: unsigned.filter(|_| !ok).map(|unsigned| unsigned.detail().into()),
        })
    }

    /// Some of those that do not meet `check`.
    fn missing(&self, check: &Check) -> Vec<String> {
        let registry = &self.0.registry;
        let mut tenants = registry.tenants();
        tenants.sort_unstable_by_key(|tenant| (&**tenant != DEFAULT_TENANT, Arc::clone(tenant)));
        let idps = tenants.iter().flat_map(|tenant| registry.idps(tenant));
        idps.filter(|idp| (check.fails)(idp))
            .take(NAMED)
            .map(|idp| match idp.tenant() {
                DEFAULT_TENANT => idp.name().to_owned(),
                tenant => format!("{tenant}/{}", idp.name()),
            })
            .collect()
    }
}

/// 200 for as long as the process can answer: an identity provider that is down is no reason to restart it.
async fn health(State(readiness): State<Readiness>) -> Response {
    let cluster = readiness.0.cluster.as_ref();
    let well = readiness.0.registry.health().failing == 0 && cluster.is_none_or(Cluster::is_well);
    let status = if well { "healthy" } else { "degraded" };
    let mut body = json!({ "status": status, "time": readiness.0.clock.wall() });
    if let (Some(cluster), Some(body)) = (cluster, body.as_object_mut()) {
        let redis = if cluster.is_connected() {
            "connected"
        } else {
            "unreachable"
        };
        body.insert("redis".to_owned(), redis.into());
    }
    answer(StatusCode::OK, &body)
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
            let missing = if check.ok {
                Vec::new()
            } else {
                readiness.missing(&check)
            };
            if let (false, Some(entry)) = (missing.is_empty(), entry.as_object_mut()) {
                entry.insert("missing".to_owned(), Value::from(missing));
            }
            if let (Some(why), Some(entry)) = (&check.why, entry.as_object_mut()) {
                entry.insert("why".to_owned(), Value::from(&**why));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signer::{First, Unsigned, tests::World};

    #[tokio::test]
    async fn a_replica_is_ready_once_it_can_sign() {
        let world = World::new();
        let signer = world.joined(First::Stored).await;
        let (_phase, phases) = watch::channel(Phase::Serving);
        let registry = Registry::builder().build().unwrap();
        let readiness = Readiness::new(registry, phases, Some(&signer), None);
        let why = || {
            let checks = readiness.checks();
            let check = checks
                .into_iter()
                .find(|check| check.name == "signing_key")
                .unwrap();
            assert_eq!(check.ok, readiness.is_ready());
            check.why
        };
        assert_eq!(why().as_deref(), Some(Unsigned::Missing.detail()));
        let answer = ready(State(readiness.clone()), RawQuery(Some("verbose".to_owned()))).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let told = &body["checks"]["signing_key"];
        assert_eq!(told, &json!({ "ok": false, "why": Unsigned::Missing.detail() }));
        signer.generate().await.unwrap();
        assert_eq!(why().as_deref(), Some(Unsigned::Unpublished.detail()));
        world.clock.advance(Duration::from_secs(3));
        assert_eq!(why(), None);
        // It verifies on while nothing can be signed.
        let published = signer.keys().published.clone();
        for key in published.iter().rev() {
            signer.revoke(key.kid.clone()).await.unwrap();
        }
        assert!(signer.can_sign().is_err());
        assert_eq!(why(), None);
    }
}
