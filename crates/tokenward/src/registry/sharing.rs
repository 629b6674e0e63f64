//! What registries on one store do for each other: one fetches, and all have it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{Either, select};
use tokenward_core::{
    Timestamp,
    freshness::{Errand, FetchPlan, Share},
};
use tokenward_store::{Claim, FETCH_LEASE, Snapshots, StoreError, StoreErrorKind};
use tokio::task::JoinSet;

use super::{Inner, Source, lock, search::MAX_WAIT};
use crate::{config::IdpConfig, telemetry};

/// How long the store may take for one answer. Whoever needs keys must not wait for a store that hangs.
const PATIENCE: Duration = Duration::from_millis(500);

/// How much longer an answer is waited for by nobody. Until then, or until it comes, nothing else is asked.
const SILENCE: Duration = Duration::from_secs(10);

/// How often a fetch that waits for another's looks at the store: this, and up to as long again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a due fetch waits for others: one that dies while it fetches, and the next that does too.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * FETCH_LEASE.as_secs());

/// So much sooner than whoever failed asks again, the others may.
const MARGIN: Duration = Duration::from_millis(200);

/// What becomes of a fetch that was about to begin.
pub(super) enum Course {
    /// It is carried out, with the right to it where it was granted.
    Fetch(FetchPlan, Option<Lease>),
    /// What others found out has taken its place, or it must not be now.
    Over(Option<Lease>),
}

/// The right to fetch.
pub(super) struct Lease {
    fence: u64,
    config_hash: [u8; 32],
    until: Timestamp,
    /// How long nobody is to try again.
    pub(super) failed_for: Option<Duration>,
}

impl Lease {
    /// Whether another one may have fetched since.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }

    /// The fetch failed, and whoever has it would try again after `pause`.
    pub(super) fn fail(&mut self, pause: Duration) {
        self.failed_for = Some(pause.saturating_sub(MARGIN)).filter(|pause| !pause.is_zero());
    }
}

/// The store did not answer: everybody fetches alone.
struct Alone;

impl Inner {
    /// Looks whether another registry has what is wanted, and otherwise for the right to fetch it. Whatever the store
    /// does, it ends: after [`PATIENCE`] where the store hangs, after [`LONGEST_WAIT`] where others do.
    pub(super) async fn arrange(&self, source: &Source, mut plan: FetchPlan) -> Course {
        let Some(peers) = Peers::of(self, source) else {
            return Course::Fetch(plan, None);
        };
        let wait = if plan.single_attempt() {
            MAX_WAIT
        } else {
            LONGEST_WAIT
        };
        let until = self.clock.steady() + wait;
        // An operator who wants a fetch gets one, unless one is in the air elsewhere.
        let mut may_adopt = plan.errand != Errand::Manual;
        let mut lease = None;
        loop {
            if may_adopt {
                match peers.look(plan.clone()).await {
                    Ok(Some(left)) => plan = left,
                    Ok(None) => return Course::Over(lease),
                    Err(Alone) => return Course::Fetch(plan, lease),
                }
            }
            if lease.is_some() {
                break;
            }
            match peers.claim().await {
                // And once more: another one may have stored its set just before this was granted.
                Ok(Claim::Granted { fence }) => lease = Some(peers.lease(fence)),
                Ok(Claim::Held) if self.clock.steady() < until => {
                    let more = LOOK_EVERY.mul_f64(self.random.unit());
                    self.clock.sleep(LOOK_EVERY + more).await;
                    may_adopt = true;
                }
                Ok(Claim::Held) if plan.single_attempt() => return Course::Over(None),
                Ok(Claim::Failed { retry_in }) if plan.errand == Errand::Due => {
                    source.fail_elsewhere(self, plan.ticket, retry_in + MARGIN);
                    return Course::Over(None);
                }
                Ok(Claim::Held | Claim::Failed { .. }) => break,
                Err(Alone) => return Course::Fetch(plan, None),
            }
            if source.is_retired() {
                return Course::Over(lease);
            }
        }
        if let Errand::Kid { share, .. } = &plan.errand
            && let Ok(false) = peers.take(*share).await
        {
            source.metrics.shared("refused");
            return Course::Over(lease);
        }
        source.metrics.shared("fetched");
        Course::Fetch(plan, lease)
    }

    /// Whether another one has stored a newer set since. Asked where the right to fetch has ended before the answer
    /// came: an older answer must not pass for a newer one.
    pub(super) async fn is_overtaken(&self, source: &Source, plan: &FetchPlan) -> bool {
        match Peers::of(self, source) {
            Some(peers) => {
                let before = source.view().last_updated();
                let looked = peers.look(plan.clone()).await;
                matches!(looked, Ok(None)) || source.view().last_updated() != before
            }
            None => false,
        }
    }

    /// Hands a lease back.
    pub(super) async fn release(&self, source: &Source, lease: &Lease) {
        if let Some(peers) = Peers::of(self, source) {
            let (hash, fence, failed_for) = (lease.config_hash, lease.fence, lease.failed_for);
            let released = peers.ask(move |store, config| async move {
                let (tenant, name) = (config.tenant(), config.name());
                store.release(tenant, name, &hash, fence, failed_for).await
            });
            // Where that fails, it ends by itself.
            let _ = released.await;
        }
    }

    /// The store, where other registries have it too.
    pub(super) fn shared_store(&self) -> Option<&Arc<dyn Snapshots>> {
        self.snapshots.as_ref().filter(|store| store.is_shared())
    }
}

/// Calls that took too long and are still under way.
#[derive(Default)]
pub(super) struct Silence(Mutex<JoinSet<()>>);

impl Silence {
    /// Whether the store owes an answer. Asking for another one would only be waiting once more.
    fn is_there(&self) -> bool {
        let mut calls = lock(&self.0);
        while calls.try_join_next().is_some() {}
        !calls.is_empty()
    }

    /// Lets a call go on. Dropped, it would tell the store's client nothing of how the server does.
    fn keep(&self, call: impl Future<Output = ()> + Send + 'static) {
        lock(&self.0).spawn(call);
    }
}

/// The others, as far as one provider is concerned.
struct Peers<'a> {
    inner: &'a Inner,
    source: &'a Source,
    store: Arc<dyn Snapshots>,
    config: Arc<IdpConfig>,
    config_hash: [u8; 32],
}

impl<'a> Peers<'a> {
    fn of(inner: &'a Inner, source: &'a Source) -> Option<Self> {
        let store = Arc::clone(inner.shared_store()?);
        let config = source.config();
        Some(Self {
            inner,
            source,
            store,
            config_hash: config.source_hash(),
            config,
        })
    }

    /// Takes over what another one has stored, if it is newer. What is left to be done of `plan`, if anything.
    async fn look(&self, plan: FetchPlan) -> Result<Option<FetchPlan>, Alone> {
        let stored = self
            .ask(|store, config| async move { store.get(config.tenant(), config.name()).await })
            .await?;
        let ours = stored.filter(|snapshot| snapshot.config_hash == self.config_hash);
        Ok(match ours {
            Some(snapshot) => self.source.adopt(self.inner, plan, snapshot),
            None => Some(plan),
        })
    }

    async fn claim(&self) -> Result<Claim, Alone> {
        let hash = self.config_hash;
        self.ask(move |store, config| async move { store.claim(config.tenant(), config.name(), &hash).await })
            .await
    }

    async fn take(&self, share: Share) -> Result<bool, Alone> {
        let Share { caller, size, refill } = share;
        self.ask(move |store, config| async move {
            let (tenant, name) = (config.tenant(), config.name());
            store.take(tenant, name, caller.number(), size, refill).await
        })
        .await
    }

    fn lease(&self, fence: u64) -> Lease {
        Lease {
            fence,
            config_hash: self.config_hash,
            until: self.inner.clock.steady() + FETCH_LEASE,
            failed_for: None,
        }
    }

    async fn ask<T, F>(&self, call: impl FnOnce(Arc<dyn Snapshots>, Arc<IdpConfig>) -> F) -> Result<T, Alone>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let late = || StoreError::new(StoreErrorKind::Io, "no answer in time");
        let answer = if self.inner.silence.is_there() {
            Err(late())
        } else {
            let call = Box::pin(call(Arc::clone(&self.store), Arc::clone(&self.config)));
            match select(call, self.inner.clock.sleep(PATIENCE)).await {
                Either::Left((answer, _)) => answer,
                Either::Right((_, call)) => {
                    let limit = self.inner.clock.sleep(SILENCE);
                    self.inner.silence.keep(async move {
                        select(call, limit).await;
                    });
                    Err(late())
                }
            }
        };
        answer.map_err(|error| {
            self.source.metrics.shared("alone");
            telemetry::log_alone(&self.config, &error);
            Alone
        })
    }
}
