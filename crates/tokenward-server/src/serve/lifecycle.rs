//! Signals, and the way out: not ready, no new connections, requests finish, everything is written, gone.

use std::{sync::Arc, time::Duration};

use tokenward::Registry;
use tokenward_core::Clock;
use tokenward_store::Ledger;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{error::Error, listener::Phase};
use crate::{
    access::{Audit, Guard},
    cluster::Cluster,
    http::within,
    issue::TokenService,
    telemetry::{self, Exporter},
};

/// Between not being ready and accepting nothing, so that those in front can notice.
const NOTICE: Duration = Duration::from_secs(1);
/// For requests in flight. With the pauses before and after it, the whole takes less than 10 seconds.
const DRAIN: Duration = Duration::from_secs(7);
/// For writing what is left.
const CLOSE: Duration = Duration::from_secs(1);
/// How often metrics are told what nobody else tells them, and forget what is gone.
const SAMPLING: Duration = Duration::from_secs(5);

/// The signals that end the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn install() -> Result<Self, Error> {
        let install = |kind| signal(kind).map_err(|error| Error::system("listen for signals", error));
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes the listeners through all phases to the end. Another signal takes the rest of the way at once.
pub(super) async fn leave(
    phase: &watch::Sender<Phase>,
    mut listeners: JoinSet<()>,
    signals: &mut Signals,
    clock: &dyn Clock,
    dev: bool,
) {
    tracing::info!("leaving: not ready any more");
    phase.send_replace(Phase::Leaving);
    // Nothing stands in front of a server that is being tried out.
    let hurried = !dev
        && tokio::select! {
            () = clock.sleep(NOTICE) => false,
            () = signals.wait() => true,
        };
    tracing::info!("draining: requests in flight finish");
    phase.send_replace(Phase::Draining);
    if !hurried {
        tokio::select! {
            () = all(&mut listeners) => {}
            () = clock.sleep(DRAIN) => {}
            () = signals.wait() => {}
        }
    }
    phase.send_replace(Phase::Ended);
    all(&mut listeners).await;
}

/// Ends what is under way, and writes what is left.
pub(super) async fn close(registry: &Registry, guard: &Guard, clock: &dyn Clock) {
    let closing = async {
        guard.finish().await;
        registry.shutdown().await;
        if let Err(error) = registry.persist_all().await {
            tracing::warn!(%error, "key sets were not stored; the next start fetches them");
        }
    };
    if within(clock, CLOSE, closing).await.is_none() {
        tracing::warn!("the store did not answer in time");
    }
}

/// What metrics show of states rather than of events.
pub(super) struct Sampled {
    pub(super) exporter: Exporter,
    pub(super) service: Option<TokenService>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) cluster: Option<Cluster>,
    pub(super) audit: Audit,
}

/// Tells the metrics, for ever. A scrape does not wait for the store.
pub(super) async fn sample(sampled: Sampled, clock: Arc<dyn Clock>) {
    loop {
        telemetry::store_state(sampled.ledger.healthy(), sampled.audit.queued());
        if let Some(cluster) = &sampled.cluster {
            cluster.sample();
        }
        if let Some(service) = &sampled.service {
            service.take_census(&sampled.exporter).await;
        }
        sampled.exporter.forget();
        clock.sleep(SAMPLING).await;
    }
}

async fn all(listeners: &mut JoinSet<()>) {
    while listeners.join_next().await.is_some() {}
}
