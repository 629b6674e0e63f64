//! Runs the server: opens the store, brings the keys back, binds the listeners, and leaves in good order.

mod connection;
mod descriptors;
mod error;
mod health;
mod lifecycle;
mod listener;
mod message;
mod metered;
mod plan;
mod readiness;
mod reload;
mod site;
mod tls;
mod tokens;
mod welcome;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokenward::Verifier;
use tokenward_core::Clock;
use tokenward_store::Ledger;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use connection::Protocol;
pub(crate) use error::Error;
use listener::{Listener, Phase};
use metered::Metered;
use plan::Ground;
pub(crate) use plan::redis_options;
use readiness::Readiness;
pub(crate) use reload::ReloadStatus;
use reload::{Doors, Reloader};
use site::{Parts, Site};
use tls::Acceptors;

use crate::{
    access::{Access, Audit, Failures, Generated, Guard, Reach},
    admin::{Lasting, Streams},
    cluster::{Cluster, Followers},
    config::{self, Config, Source},
    fleet::Fleet,
    http::Drain,
    revocation::Revocations,
    telemetry::{self, Exporter},
};

/// Serves until a signal ends it, by the configuration that `source` gave and will give. It must run in a tokio runtime
/// with time and I/O.
///
/// With `--dev` it prints what can be tried, and leaves without waiting for load balancers.
///
/// # Errors
///
/// What keeps the server from starting. Once it serves, nothing ends it but a signal.
pub(crate) async fn run(config: Config, files: BTreeSet<PathBuf>, source: Source) -> Result<(), Error> {
    let log = telemetry::log(config.logging.level, config.logging.format);
    let recorder =
        telemetry::metrics().map_err(|error| Error::system("install the metrics recorder", error))?;
    let dev = source.is_dev();
    // Before anything is fetched or written: another server that runs already is the most likely mistake.
    let public = bind("public", SocketAddr::new(config.server.host, config.server.port)).await?;
    let admin = bind("admin", config.server.admin).await?;
    let grpc = match config.server.grpc {
        Some(address) => Some(bind("grpc", address).await?),
        None => None,
    };
    let tls = Acceptors::of(&config.server).map_err(|(_, error)| error)?;
    let others = if grpc.is_some() { 2 } else { 1 };
    let connections = descriptors::connections(config.server.max_connections, others);
    let mut signals = lifecycle::Signals::install()?;
    let hangups = reload::hangups()?;

    let Ground {
        registry,
        ledger,
        shared,
    } = plan::ground(&config).await?;
    let clock = registry.clock();
    let ledger: Arc<dyn Ledger> = Arc::new(Metered::new(ledger, Arc::clone(&clock)));
    let exporter = Exporter::new(recorder, registry.clone());
    exporter.show_parents(config.metrics.per_token);
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut tasks = JoinSet::new();
    let config = Arc::new(config);
    // What is dated there can be compared with what other replicas date.
    let store_clock = match &shared {
        Some((_, clock)) => Arc::clone(clock) as Arc<dyn Clock>,
        None => Arc::clone(&clock),
    };
    let fleet = Fleet::start(
        registry.clone(),
        Arc::clone(&ledger),
        Arc::clone(&store_clock),
        Arc::clone(&config),
        &mut tasks,
    )
    .await;
    let fleet = fleet.map_err(|error| Error::fleet(&error))?;
    let revocations = match &shared {
        Some((store, _)) => {
            Revocations::replica(Arc::clone(&ledger), store.journal(), Arc::clone(&store_clock)).await
        }
        None => Revocations::load(Arc::clone(&ledger), Arc::clone(&store_clock)).await,
    };
    let revocations = revocations.map_err(Error::store)?;
    revocations.trusted_by(registry.clone());
    let cluster = shared
        .map(|(store, clock)| Cluster::new(store, clock, revocations.clone(), config.revocation.clone()));
    tasks.spawn(revocations.clone().keep_pruning());
    let made_up = match dev && config.token_service.is_none() {
        true => config::token_service_of_dev(&format!("http://{}", public.address)),
        false => None,
    };
    let service = match config.token_service.as_ref().or(made_up.as_ref()) {
        Some(settings) => {
            let world = tokens::World {
                registry: &registry,
                ledger: Arc::clone(&ledger),
                revocations: revocations.clone(),
                clock: Arc::clone(&store_clock),
                shared: cluster.is_some(),
                drain: draining(phases.clone()),
                connections: connections.others,
            };
            Some(tokens::start(settings, config.merged.max_age, dev, world, &mut tasks).await?)
        }
        None => None,
    };

    if let Some(cluster) = &cluster {
        let followers = Followers {
            fleet: fleet.clone(),
            service: service.clone(),
        };
        cluster.start(followers, &mut tasks);
    }

    // Outside `--dev` nothing is made up: without credentials every call of the API is refused.
    let generated = match dev && config.credentials.is_empty() {
        true => Some(
            Generated::new()
                .ok_or_else(|| Error::system("make a credential", "the system has no randomness to give"))?,
        ),
        false => None,
    };
    let (audit, writer) = Audit::new(Arc::clone(&ledger), Arc::clone(&clock));
    tasks.spawn(writer);
    let sampled = lifecycle::Sampled {
        exporter: exporter.clone(),
        service: service.clone(),
        ledger,
        cluster: cluster.clone(),
        audit: audit.clone(),
    };
    tasks.spawn(lifecycle::sample(sampled, Arc::clone(&clock)));
    let failures = Arc::new(Failures::default());
    // Nothing is mounted behind it as it is: it knows no credential.
    let access = Access::new([], Arc::clone(&failures), Arc::clone(&clock));
    let guard = Guard::new(access, audit.clone(), reach(admin.address));
    let reloads = Arc::new(ArcSwap::from_pointee(ReloadStatus::started(clock.wall())));
    let signer = service.as_ref().map(|service| service.signer().clone());
    let readiness = Readiness::new(registry.clone(), phases.clone(), signer.as_ref(), cluster.clone());
    let site = Site::new(Parts {
        lasting: Lasting {
            registry: registry.clone(),
            verifier: Verifier::new(registry.clone()).with_revocations(Arc::clone(revocations.index())),
            revocations,
            fleet: fleet.clone(),
            audit,
            reloads: Arc::clone(&reloads),
            signer,
            drain: draining(phases.clone()),
            streams: Streams::default(),
        },
        guard: guard.clone(),
        service,
        failures,
        used: Arc::default(),
        used_by_tokens: Arc::default(),
        proofs: tokenward::Dpop::allowed(),
        readiness,
        cluster,
        generated: generated.as_ref().map(|generated| generated.credential.clone()),
        exporter: exporter.clone(),
    });
    let doors = Doors::open(site.routes(&config), tls);
    let addresses = (public.address, admin.address);
    let listeners = [
        (
            "public",
            Some(public),
            Protocol::Http1,
            &doors.public,
            connections.others,
        ),
        (
            "admin",
            Some(admin),
            Protocol::Http1,
            &doors.admin,
            connections.admin,
        ),
        ("grpc", grpc, Protocol::Grpc, &doors.grpc, connections.others),
    ];
    let mut serving = JoinSet::new();
    for (name, bound, plain, served, max_connections) in listeners {
        let Some(Bound { socket, address }) = bound else {
            continue;
        };
        let tls = served.load().tls.is_some();
        let listener = Listener {
            name,
            socket,
            served: Arc::clone(served),
            plain,
            max_connections,
            clock: Arc::clone(&clock),
        };
        serving.spawn(listener.run(phases.clone()));
        tracing::info!(listener = name, %address, tls, "listening");
    }
    if dev {
        welcome::print(&config, addresses.0, addresses.1, generated.as_ref());
    }
    let reloader = Reloader {
        source: Arc::new(source),
        running: Arc::new(Arc::unwrap_or_clone(config).without_idps()),
        site,
        doors,
        fleet,
        log,
        exporter,
        status: reloads,
        clock: Arc::clone(&clock),
    };
    tasks.spawn(reloader.run(files, hangups, phases));

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

/// A listener without the program around it.
#[cfg(feature = "bench")]
pub(crate) async fn bare(
    address: SocketAddr,
    spoken: crate::bench::Spoken,
    routes: axum::Router,
) -> std::io::Result<()> {
    let (_phase, phases) = watch::channel(Phase::Serving);
    let served = listener::Served {
        tls: None,
        routes,
        log: false,
    };
    let listener = Listener {
        name: "bench",
        socket: TcpListener::bind(address).await?,
        served: Arc::new(ArcSwap::from_pointee(served)),
        plain: match spoken {
            crate::bench::Spoken::Http1 => Protocol::Http1,
            crate::bench::Spoken::Http2 => Protocol::Grpc,
        },
        max_connections: 10_000,
        clock: Arc::new(tokenward::SystemClock::new()),
    };
    listener.run(phases).await;
    Ok(())
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
