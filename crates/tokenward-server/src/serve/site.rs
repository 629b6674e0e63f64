//! What is mounted where.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router, handler::Handler as _, middleware::from_fn_with_state, response::IntoResponse as _, routing::get,
};
use http::header;

use super::{health, readiness::Readiness};
use crate::{
    access::{Access, Failures, Guard, Reach, same_site},
    admin::{Admin, Lasting},
    aggregate::{Aggregate, Detail},
    authorize::{self, Engine, Parents},
    cluster::Cluster,
    config::{self, Config, Credential},
    http::{MAX_BODY, Observer, TrustedProxies, no_route, observe, wrong_method},
    issue::TokenService,
    limits,
    telemetry::{Exporter, Requests},
};

/// What outlives a change of the configuration.
pub(super) struct Parts {
    pub(super) lasting: Lasting,
    /// Which credentials it knows is a matter of the configuration; what it carries out is not.
    pub(super) guard: Guard,
    pub(super) failures: Arc<Failures>,
    /// Of the limits of the token API.
    pub(super) used: Arc<limits::Used>,
    /// Of the limits that tokens carry.
    pub(super) used_by_tokens: Arc<limits::UsedByTokens>,
    /// Which proofs of possession were used.
    pub(super) proofs: tokenward::Dpop,
    /// Where tokens are issued.
    pub(super) service: Option<TokenService>,
    pub(super) readiness: Readiness,
    /// Where the store is shared.
    pub(super) cluster: Option<Cluster>,
    pub(super) exporter: Exporter,
    /// Of `--dev`, as long as none is configured.
    pub(super) generated: Option<Credential>,
}

/// Makes the routes of both listeners for one configuration after another.
pub(super) struct Site {
    parts: Parts,
    /// With its prepared bodies, for as long as its settings stay.
    aggregate: Mutex<Option<(config::Merged, Aggregate)>>,
}

/// The routes of each listener.
pub(super) struct Routes {
    pub(super) public: Router,
    pub(super) admin: Router,
    pub(super) grpc: Router,
    /// Whether each request gets a log line.
    pub(super) log: bool,
}

impl Site {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            aggregate: Mutex::default(),
        }
    }

    /// The id of the key that signs, where tokens are issued.
    pub(super) fn signing(&self) -> Option<String> {
        self.parts.lasting.signer.as_ref()?.kid()
    }

    pub(super) fn routes(&self, config: &Config) -> Routes {
        for rule in config.unmet_rules() {
            tracing::warn!("{rule}");
        }
        if let Some(cluster) = &self.parts.cluster {
            cluster.set_terms(config.revocation.clone());
        }
        let engine = Arc::new(Engine::new(
            self.parts.lasting.verifier.clone(),
            self.parents(),
            self.parts.lasting.registry.clock(),
            &self.parts.used_by_tokens,
            self.parts.proofs.clone(),
            &config.authorize,
        ));
        Routes {
            public: self.public(config, Arc::clone(&engine)),
            admin: self.admin(config),
            grpc: self.grpc(config, engine),
            log: config.logging.requests,
        }
    }

    /// Keys, status and authorization.
    fn public(&self, config: &Config, engine: Arc<Engine>) -> Router {
        let parts = &self.parts;
        let aggregate = self.aggregate(&config.merged);
        let mut routes = Router::new()
            .merge(aggregate.status(Detail::Public))
            .merge(parts.readiness.routes());
        if let Some(service) = &parts.service {
            // What guards the public listener is not bound to the names of this machine.
            let guard = self.guard(config).reaching(Reach::Beyond);
            routes = routes.merge(self.token_api(service, &guard, config));
        }
        if config.server.metrics_on_public {
            routes = routes.merge(self.metrics());
        }
        let observer = Arc::new(self.observer("public", config));
        let doors = authorize::routes(engine, config.authorize.cache_max_age, &observer);
        finish(routes, Arc::clone(&observer))
            .merge(aggregate.keys(&observer))
            .merge(doors)
    }

    /// Authorization and health, by gRPC.
    fn grpc(&self, config: &Config, engine: Arc<Engine>) -> Router {
        let observer = Arc::new(Observer {
            // gRPC has words of its own for it, and a limit on each message.
            max_body: usize::MAX,
            ..self.observer("grpc", config)
        });
        let observed = from_fn_with_state(Arc::clone(&observer), observe);
        let health = self.parts.readiness.grpc();
        health
            .fallback(health::unimplemented)
            .layer(observed.clone())
            .merge(authorize::grpc_routes(engine, &observer))
            .method_not_allowed_fallback(health::unimplemented.layer(observed))
    }

    /// Who judges parent tokens: they who issue them.
    fn parents(&self) -> Option<Parents> {
        let service = self.parts.service.clone()?;
        Some(Arc::new(move |token| {
            service.parent(token).map(|(parent, _)| parent)
        }))
    }

    /// The admin API, the token API once more, metrics, and the status with what is not for everyone.
    fn admin(&self, config: &Config) -> Router {
        let guard = self.guard(config);
        // Whoever is on this machine may see addresses and errors; others need a credential, for `/v1/idps`.
        let detail = match guard.reach() {
            Reach::Loopback => Detail::Operator,
            Reach::Beyond => Detail::Public,
        };
        let api = Admin::new(self.parts.lasting.clone(), config);
        let open = Router::new()
            .merge(self.aggregate(&config.merged).status(detail))
            .merge(self.metrics())
            .route_layer(from_fn_with_state(guard.clone(), same_site));
        let mut routes = Router::new()
            .merge(api.routes(&guard))
            .merge(open)
            .merge(self.parts.readiness.routes());
        if let Some(service) = &self.parts.service {
            // So that operators have one address for all that they do.
            routes = routes.merge(self.token_api(service, &guard, config));
        }
        finish(routes, Arc::new(self.observer("admin", config)))
    }

    /// All that issues, renews, reads and revokes.
    fn token_api(&self, service: &TokenService, guard: &Guard, config: &Config) -> Router {
        let limits = limits::TokenApi::new(
            Arc::clone(&self.parts.used),
            config.limits.token_api.clone(),
            self.parts.lasting.registry.clock(),
        );
        service.routes(&guard.limited(limits))
    }

    fn guard(&self, config: &Config) -> Guard {
        let generated = self
            .parts
            .generated
            .iter()
            .filter(|_| config.credentials.is_empty());
        let access = Access::new(
            config.credentials.iter().chain(generated).cloned(),
            Arc::clone(&self.parts.failures),
            self.parts.lasting.registry.clock(),
        );
        self.parts.guard.with(access)
    }

    fn aggregate(&self, settings: &config::Merged) -> Aggregate {
        let mut last = self.aggregate.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((same, aggregate)) if same == settings => aggregate.clone(),
            _ => {
                let parts = &self.parts.lasting;
                let aggregate = Aggregate::new(parts.registry.clone(), settings, parts.signer.clone());
                *last = Some((settings.clone(), aggregate.clone()));
                aggregate
            }
        }
    }

    fn metrics(&self) -> Router {
        let exporter = self.parts.exporter.clone();
        let render = move || async move {
            let headers = [
                (header::CONTENT_TYPE, "text/plain; version=0.0.4"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, exporter.render()).into_response()
        };
        Router::new().route("/metrics", get(render))
    }

    fn observer(&self, listener: &'static str, config: &Config) -> Observer {
        Observer {
            listener,
            requests: Requests::new(listener),
            clock: self.parts.lasting.registry.clock(),
            proxies: Arc::new(TrustedProxies::new(config.server.trusted_proxies.clone())),
            max_body: MAX_BODY,
            log: config.logging.requests,
        }
    }
}

/// Adds what every request meets, known path or not.
fn finish(routes: Router, observer: Arc<Observer>) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(observer, observe))
}
