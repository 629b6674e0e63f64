//! What the snapshot store is told of a provider: how it stands now, in one write at a time.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use tokenward_store::{StoreError, StoreErrorKind};
use tokio::sync::{Mutex, MutexGuard};

use super::{IdpKeys, Inner, Source, store_error};
use crate::{error::Error, telemetry};

/// Writes that are under way at once: as many as the store takes together, and no more than it can be given.
pub(super) const MAX_WRITES: usize = 256;

/// How long one write may take, its turn included. A store that hangs must hold nobody up for ever.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a write that failed means.
pub(super) const UNSTORED: &str = "a key set could not be stored; a restart will not know it";

/// How many turns there are. Names that share one only wait for each other.
const TURNS: usize = 1_024;

/// Where a set is from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Fetched here.
    Fetched,
    /// Taken over from the store.
    Adopted,
}

/// Whose turn it is to write.
pub(super) struct Turns {
    hasher: RandomState,
    turns: Box<[Mutex<()>]>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Turns {
    /// Waits for the turn of each of these, by tenant and name. Whoever waits for several does so in one order, so that no
    /// two wait for each other.
    async fn of<'n>(&self, names: impl Iterator<Item = (&'n str, &'n str)>) -> Vec<MutexGuard<'_, ()>> {
        let place = |name| usize::try_from(self.hasher.hash_one(name) >> 32).unwrap_or(0) % TURNS;
        let places: BTreeSet<usize> = names.map(place).collect();
        let mut turns = Vec::with_capacity(places.len());
        for turn in places.into_iter().filter_map(|place| self.turns.get(place)) {
            turns.push(turn.lock().await);
        }
        turns
    }
}

impl Inner {
    /// Makes what is stored of a provider what it is now: its key set, or nothing where it has none or is gone.
    ///
    /// How it stands is read when its turn has come, not when the write was asked for. So no write, however late it
    /// comes and whatever asked for it, brings back what was purged, removed or replaced meanwhile.
    pub(super) async fn keep(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        self.keep_from(tenant, name, Origin::Fetched).await
    }

    /// The same, where it is known where the set is from.
    pub(super) async fn keep_from(&self, tenant: &str, name: &str, origin: Origin) -> Result<(), StoreError> {
        let Some(store) = &self.snapshots else {
            return Ok(());
        };
        let write = async {
            let _turn = self.turns.of([(tenant, name)].into_iter()).await;
            self.note_unsaved(tenant, name, false);
            match self.fetched(tenant, name, Source::snapshot).flatten() {
                Some(snapshot) if origin == Origin::Adopted => store.adopted(&snapshot).await,
                Some(snapshot) => store.put(&snapshot).await,
                None => store.remove(tenant, name).await,
            }
        };
        let outcome = match select(pin!(write), self.clock.sleep(DEADLINE)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(late()),
        };
        if outcome.is_err() {
            self.note_unsaved(tenant, name, true);
        }
        outcome
    }

    /// The same for many that were fetched here, in one write of the store. Where that fails, each is tried by itself: one
    /// that cannot be stored takes no other with it.
    pub(super) async fn keep_together(&self, names: Vec<(Arc<str>, Arc<str>)>) {
        let Some(store) = &self.snapshots else { return };
        let write = async {
            let _turns = self
                .turns
                .of(names.iter().map(|(tenant, name)| (&**tenant, &**name)))
                .await;
            let mut snapshots = Vec::with_capacity(names.len());
            for (tenant, name) in &names {
                self.note_unsaved(tenant, name, false);
                match self.fetched(tenant, name, Source::snapshot).flatten() {
                    Some(snapshot) => snapshots.push(snapshot),
                    None => store.remove(tenant, name).await?,
                }
            }
            store.put_all(snapshots).await
        };
        let failures = match select(pin!(write), self.clock.sleep(DEADLINE)).await {
            Either::Left((Ok(()), _)) => return,
            Either::Left((Err(_), _)) => {
                let writes = names.iter().map(|(tenant, name)| self.keep(tenant, name));
                join_all(writes)
                    .await
                    .into_iter()
                    .filter_map(Result::err)
                    .collect()
            }
            Either::Right(_) => {
                for (tenant, name) in &names {
                    self.note_unsaved(tenant, name, true);
                }
                vec![late(); names.len()]
            }
        };
        for error in failures {
            telemetry::snapshot_failed(UNSTORED, &error);
        }
    }

    /// The same for many, of which tenant and name are given: several at once, so that a store which commits in groups
    /// can. All are tried.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) with the first failure.
    pub(super) async fn keep_all(&self, names: Vec<(Arc<str>, Arc<str>)>) -> Result<(), Error> {
        let mut outcome = Ok(());
        for batch in names.chunks(MAX_WRITES) {
            let writes = batch.iter().map(|(tenant, name)| self.keep(tenant, name));
            for written in join_all(writes).await {
                outcome = outcome.and(written.map_err(store_error));
            }
        }
        outcome
    }

    fn note_unsaved(&self, tenant: &str, name: &str, unsaved: bool) {
        self.fetched(tenant, name, |source| {
            source.unsaved.store(unsaved, Ordering::Release);
        });
    }

    fn fetched<T>(&self, tenant: &str, name: &str, read: impl FnOnce(&Source) -> T) -> Option<T> {
        match &self.by_name.get(tenant, name)?.keys {
            IdpKeys::Fetched(source) => Some(read(source)),
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => None,
        }
    }
}

fn late() -> StoreError {
    StoreError::new(
        StoreErrorKind::Io,
        format!("no answer within {} s", DEADLINE.as_secs()),
    )
}
