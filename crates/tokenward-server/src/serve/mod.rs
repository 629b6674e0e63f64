//! Runs the server: opens the store, brings the keys back, binds the listeners, and leaves in good order.

mod connection;
mod descriptors;
mod error;
mod lifecycle;
mod listener;
mod plan;
mod readiness;
mod tls;
mod welcome;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, middleware::from_fn_with_state, response::IntoResponse as _, routing::get};
use futures_util::FutureExt as _;
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;
use tokenward::{Registry, Verifier};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub(crate) use error::Error;
use listener::{Listener, Phase};
use readiness::Readiness;

use crate::{
    access::{Access, Audit, Failures, Generated, Guard, Reach},
    admin::{Admin, Drain, Lasting, Streams},
    aggregate::{Aggregate, Detail},
    authorize::Authorize,
    config::{self, Config},
    fleet::Fleet,
    http::{Observer, TrustedProxies, no_route, observe, wrong_method},
    telemetry,
};

/// Serves until a signal ends it. It must run in a tokio runtime with time and I/O.
///
/// With `dev` it prints what can be tried, and leaves without waiting for load balancers.
///
/// # Errors
///
/// What keeps the server from starting. Once it serves, nothing ends it but a signal.
pub(crate) async fn run(config: Config, dev: bool) -> Result<(), Error> {
    telemetry::log(config.logging.level, config.logging.format);
    let exporter =
        telemetry::metrics().map_err(|error| Error::system("install the metrics recorder", error))?;
    // Before anything is fetched or written: another server that runs already is the most likely mistake.
    let public = bind("public", SocketAddr::new(config.server.host, config.server.port)).await?;
    let admin = bind("admin", config.server.admin).await?;
    let tls = config.server.tls.as_ref().map(tls::acceptor).transpose()?;
    let max_connections = descriptors::connections(config.server.max_connections, 2);
    let mut signals = lifecycle::Signals::install()?;

    let (registry, ledger) = plan::registry(&config).await?;
    let clock = registry.clock();
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut tasks = JoinSet::new();
    let config = Arc::new(config);
    let fleet = Fleet::start(
        registry.clone(),
        Arc::clone(&ledger),
        Arc::clone(&config),
        &mut tasks,
    )
    .await;
    let fleet = fleet.map_err(|error| Error::fleet(&error))?;
    tasks.spawn(lifecycle::upkeep(exporter.clone(), Arc::clone(&clock)));

    // Outside `--dev` nothing is made up: without credentials every call of the API is refused.
    let generated = match dev && config.credentials.is_empty() {
        true => Some(
            Generated::new()
                .ok_or_else(|| Error::system("make a credential", "the system has no randomness to give"))?,
        ),
        false => None,
    };
    let credentials = config.credentials.iter().cloned();
    let credentials = credentials.chain(generated.as_ref().map(|generated| generated.credential.clone()));
    let (audit, writer) = Audit::new(ledger, Arc::clone(&clock));
    tasks.spawn(writer);
    let access = Access::new(credentials, Arc::new(Failures::default()), Arc::clone(&clock));
    let guard = Guard::new(access, audit.clone(), reach(admin.address));
    let site = Site {
        config: &config,
        registry: &registry,
        lasting: Lasting {
            registry: registry.clone(),
            verifier: Verifier::new(registry.clone()),
            fleet,
            audit,
            drain: draining(phases.clone()),
            streams: Streams::default(),
        },
        guard: guard.clone(),
        readiness: Readiness::new(registry.clone(), phases.clone()),
        exporter,
    };
    let listeners = [
        Listener {
            name: "public",
            tls: tls.clone(),
            routes: site.public(),
            socket: public.socket,
            max_connections,
            clock: Arc::clone(&clock),
        },
        Listener {
            name: "admin",
            tls: None,
            routes: site.admin(),
            socket: admin.socket,
            max_connections,
            clock: Arc::clone(&clock),
        },
    ];
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(listener.run(phases.clone()));
    }
    for (name, address, tls) in [
        ("public", public.address, tls.is_some()),
        ("admin", admin.address, false),
    ] {
        tracing::info!(listener = name, %address, tls, "listening");
    }
    if dev {
        welcome::print(&config, public.address, admin.address, generated.as_ref());
    }

    signals.wait().await;
    lifecycle::leave(&phase, serving, &mut signals, &*clock, dev).await;
    lifecycle::close(&registry, &guard, &*clock).await;
    tasks.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// A bound socket, and the address that it got.
struct Bound {
    socket: TcpListener,
    address: SocketAddr,
}

async fn bind(name: &'static str, address: SocketAddr) -> Result<Bound, Error> {
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Bound { socket, address })
    };
    bound.await.map_err(|source| Error::bind(name, address, source))
}

/// Completes when the listeners drain.
fn draining(mut phases: watch::Receiver<Phase>) -> Drain {
    let drained = async move { listener::reached(&mut phases, Phase::Draining).await };
    drained.boxed().shared()
}

/// From where the admin listener can be reached.
fn reach(admin: SocketAddr) -> Reach {
    if admin.ip().is_loopback() {
        Reach::Loopback
    } else {
        Reach::Beyond
    }
}

/// What is mounted where.
struct Site<'a> {
    config: &'a Config,
    registry: &'a Registry,
    lasting: Lasting,
    guard: Guard,
    readiness: Readiness,
    exporter: PrometheusHandle,
}

impl Site<'_> {
    /// Keys, status and authorization.
    fn public(&self) -> Router {
        let authorize = Authorize::new(
            self.lasting.verifier.clone(),
            self.registry.clock(),
            &self.config.authorize,
        );
        let aggregate = self.aggregate();
        let mut routes = Router::new()
            .merge(aggregate.keys())
            .merge(aggregate.status(Detail::Public))
            .merge(authorize.routes())
            .merge(self.readiness.routes());
        if self.config.server.metrics_on_public {
            routes = routes.merge(self.metrics());
        }
        self.finish("public", routes)
    }

    /// The admin API, metrics, and the status with what is not for everyone.
    fn admin(&self) -> Router {
        // Whoever is on this machine may see addresses and errors; others need a credential, for `/v1/idps`.
        let detail = match self.guard.reach() {
            Reach::Loopback => Detail::Operator,
            Reach::Beyond => Detail::Public,
        };
        let api = Admin::new(self.lasting.clone(), self.config);
        let routes = Router::new()
            .merge(api.routes(&self.guard))
            .merge(self.aggregate().status(detail))
            .merge(self.readiness.routes())
            .merge(self.metrics());
        self.finish("admin", routes)
    }

    fn aggregate(&self) -> Aggregate {
        Aggregate::new(self.registry.clone(), &self.config.merged)
    }

    fn metrics(&self) -> Router {
        let exporter = self.exporter.clone();
        let render = move || async move {
            let headers = [
                (header::CONTENT_TYPE, "text/plain; version=0.0.4"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, exporter.render()).into_response()
        };
        Router::new().route("/metrics", get(render))
    }

    /// Adds what every request meets, known path or not.
    fn finish(&self, listener: &'static str, routes: Router) -> Router {
        let config::Config { server, logging, .. } = self.config;
        let observer = Observer {
            listener,
            clock: self.registry.clock(),
            proxies: Arc::new(TrustedProxies::new(server.trusted_proxies.clone())),
            log: logging.requests,
        };
        routes
            .fallback(no_route)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(observer, observe))
    }
}
