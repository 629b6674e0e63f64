//! How this server lives on a store that it shares with other replicas: it follows what they change, and says how it stands.
//!
//! The store is asked ten times a second by one task, and never for a request that judges a token.

mod clock;
mod view;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokenward_core::Clock as _;
use tokenward_store::{
    Ledger as _, News, Replicated, RevocationRule, ServerFacts, Standing, StoreError, StoreErrorKind,
};
use tokio::{sync::Notify, task::JoinSet};

pub(crate) use clock::StoreClock;

use self::view::View;
use crate::{config, fleet::Fleet, issue::TokenService, revocation::Revocations, telemetry};

/// Between two looks at what others changed.
const POLL: Duration = Duration::from_millis(100);
/// After one that failed.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks at how the server of the store is set up.
const LOOK: Duration = Duration::from_secs(60);

/// This replica. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    store: Replicated,
    clock: Arc<StoreClock>,
    revocations: Revocations,
    view: View,
    /// Whether the server of the store may forget what it holds.
    forgetful: AtomicBool,
}

/// Those whom it concerns what other replicas change.
pub(crate) struct Followers {
    pub(crate) fleet: Fleet,
    pub(crate) service: Option<TokenService>,
}

impl Cluster {
    pub(crate) fn new(
        store: Replicated,
        clock: Arc<StoreClock>,
        revocations: Revocations,
        terms: config::Revocation,
    ) -> Self {
        let view = View::new(Arc::clone(revocations.index()), terms);
        Self(Arc::new(Inner {
            store,
            clock,
            revocations,
            view,
            forgetful: AtomicBool::new(false),
        }))
    }

    /// Whether the store can be reached.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.store.is_connected()
    }

    /// Whether all is as it should be.
    pub(crate) fn is_well(&self) -> bool {
        self.is_connected() && !self.0.forgetful.load(Ordering::Acquire)
    }

    /// Whether this replica knows all that was acknowledged.
    pub(crate) fn standing(&self) -> Standing {
        self.0.store.standing()
    }

    /// How old what is known of revocations may be, from now on.
    pub(crate) fn set_terms(&self, terms: config::Revocation) {
        self.0.view.set_terms(terms);
    }

    /// Tells the metrics how this replica stands.
    pub(crate) fn sample(&self) {
        let age = self.0.view.age(self.0.clock.steady());
        telemetry::cluster(self.is_connected(), self.0.store.connections(), age);
    }

    /// Follows the other replicas, by tasks that run for ever.
    pub(crate) fn start(&self, followers: Followers, tasks: &mut JoinSet<()>) {
        let Followers { fleet, service } = followers;
        let [idps, keyring, children] = [(); 3].map(|()| Arc::new(Notify::new()));
        tasks.spawn(take_idps(fleet, Arc::clone(&idps), Arc::clone(&self.0.clock)));
        if let Some(service) = &service {
            tasks.spawn(take_keys(
                service.clone(),
                Arc::clone(&keyring),
                Arc::clone(&self.0.clock),
            ));
            tasks.spawn(take_children(
                service.clone(),
                Arc::clone(&children),
                Arc::clone(&self.0.clock),
            ));
        }
        let follower = Follower {
            cluster: self.clone(),
            service,
            idps,
            keyring,
            children,
            unrevoked: Vec::new(),
            dated: false,
            joined: false,
            lost: false,
        };
        tasks.spawn(follower.run());
        tasks.spawn(self.clone().keep_looking());
    }

    /// Looks again and again at what may be set while it runs.
    async fn keep_looking(self) {
        loop {
            self.0.clock.sleep(LOOK).await;
            let looked = self.0.store.check().await;
            let forgetful = match &looked {
                Ok(facts) => facts.evicts(),
                Err(error) => error.kind() == StoreErrorKind::Evicting,
            };
            match looked {
                Ok(facts) => warn_of(&facts),
                Err(error) if forgetful => tracing::error!(%error, "revocations may be forgotten"),
                // The follower says so.
                Err(_) => continue,
            }
            self.0.forgetful.store(forgetful, Ordering::Release);
        }
    }
}

/// What an operator should know of the server, though it is accepted.
pub(crate) fn warn_of(facts: &ServerFacts) {
    if facts.evicts() {
        tracing::warn!(
            policy = facts.eviction,
            "the store's server throws out what it holds where its memory ends: revocations may be forgotten"
        );
    }
    if facts.persistent == Some(false) {
        tracing::warn!("the store's server keeps nothing through a restart: turn its append-only file on");
    }
}

/// Deletions that are carried out between two looks at what others changed.
const DELETIONS: usize = 20;

/// The task that asks the store.
struct Follower {
    cluster: Cluster,
    service: Option<TokenService>,
    idps: Arc<Notify>,
    keyring: Arc<Notify>,
    children: Arc<Notify>,
    /// Deletions that are yet to be carried out.
    unrevoked: Vec<(String, RevocationRule)>,
    /// Whether the clock has heard what others dated by that of a server before.
    dated: bool,
    joined: bool,
    lost: bool,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let polled = self.poll().await;
            self.report(&polled);
            let pause = match polled {
                Ok(true) => continue,
                Ok(false) => POLL,
                Err(_) => RETRY,
            };
            self.cluster.0.clock.sleep(pause).await;
        }
    }

    /// Says whether there is more at once.
    async fn poll(&mut self) -> Result<bool, StoreError> {
        let Inner {
            store,
            clock,
            revocations,
            view,
            ..
        } = &*self.cluster.0;
        let followed = store.follow(&|records| revocations.heard(records)).await?;
        clock.measured(followed.time, followed.asked, followed.answered);
        for news in followed.news {
            match news {
                News::Unrevoked { issuer, rule } => self.unrevoked.push((issuer, rule)),
                News::Idps => self.idps.notify_one(),
                News::Keyring => self.keyring.notify_one(),
                News::Child { parent_jti, sequence } => {
                    if let Some(service) = &self.service {
                        service.heard_child(&parent_jti, sequence);
                    }
                }
                News::Children => self.children.notify_one(),
            }
        }
        if let Some(written) = followed.reconciled {
            self.dated = false;
            telemetry::reconciled(written);
            tracing::info!(
                written,
                "compared with the store; what it lacked was written back"
            );
        }
        if !self.dated {
            // All that was minted is in the log, with the time at which it was.
            for (_, record) in store.audit(None, 1).await? {
                clock.heard(record.at);
            }
            self.dated = true;
        }
        if followed.is_complete {
            if !self.joined {
                revocations.resume(store.pruned_at().await?, followed.time);
                self.joined = true;
                if let Some(service) = &self.service {
                    service.signer().set_joined(true);
                }
                tracing::info!("joined: this replica knows all that was acknowledged");
            }
            view.is_known_at(followed.asked);
            if let Some(service) = &self.service {
                service.signer().confirm(followed.asked);
            }
        }
        // A few at a time: what was revoked meanwhile matters more.
        for _ in 0..DELETIONS {
            let Some((issuer, rule)) = self.unrevoked.last() else {
                break;
            };
            revocations.forget(store, issuer, rule).await?;
            self.unrevoked.pop();
        }
        Ok(self.joined && !(followed.is_complete && self.unrevoked.is_empty()))
    }

    /// Says in the log what changed, and not ten times a second.
    fn report(&mut self, polled: &Result<bool, StoreError>) {
        match polled {
            Ok(_) if self.lost => {
                self.lost = false;
                tracing::info!("the store can be reached again");
            }
            Err(error) if !self.lost => {
                self.lost = true;
                tracing::warn!(%error, "the store cannot be followed; what is known here holds");
            }
            _ => {}
        }
    }
}

/// Registers what others added and changed. It takes its time, so it is not done by the one who follows.
async fn take_idps(fleet: Fleet, changed: Arc<Notify>, clock: Arc<StoreClock>) {
    loop {
        changed.notified().await;
        while let Err(error) = fleet.reload_stored().await {
            tracing::warn!(%error, "identity providers of the store cannot be taken over; trying again");
            clock.sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn take_keys(service: TokenService, changed: Arc<Notify>, clock: Arc<StoreClock>) {
    let signer = service.signer();
    loop {
        changed.notified().await;
        while let Err(error) = signer.reload().await {
            tracing::warn!(%error, "signing keys of the store cannot be taken over; trying again");
            clock.sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn take_children(service: TokenService, missed: Arc<Notify>, clock: Arc<StoreClock>) {
    loop {
        missed.notified().await;
        while let Err(error) = service.missed_children().await {
            tracing::warn!(%error, "whether children were missed cannot be told; trying again");
            clock.sleep(Duration::from_secs(1)).await;
        }
    }
}
