//! The engine without a medium.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use tokenward_core::Timestamp;

use crate::{AuditRecord, Family, Revocation, Snapshot, Snapshots, StoreError, StoredIdp};

mod ledger;

/// Keeps everything in memory, until it is dropped. Never fails.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

/// By tenant and name.
type ByName<T> = HashMap<(String, String), T>;

#[derive(Default)]
struct State {
    snapshots: ByName<Snapshot>,
    /// With the number that orders them.
    idps: ByName<(u64, StoredIdp)>,
    audit: BTreeMap<u64, AuditRecord>,
    /// The numbers of the records of each kind, oldest first.
    audit_kinds: HashMap<(String, bool), VecDeque<u64>>,
    families: BTreeMap<String, Family>,
    /// Parents that were revoked, by issuer, and until when that is kept: their families do not come back.
    ended: HashMap<(String, String), Option<Timestamp>>,
    /// When which family is due, for all that have a time.
    due: BTreeSet<(Timestamp, String)>,
    /// By sequence.
    revocations: BTreeMap<u64, Revocation>,
    /// The sequence of the record for an issuer, a kind of rule and what it names.
    rules: HashMap<RuleKey, u64>,
    keyring: Option<(u64, Vec<u8>)>,
    pruned_at: Option<Timestamp>,
    /// The last number that was given to anything.
    last: u64,
}

type RuleKey = (String, &'static str, String);

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section can panic between two changes: there is nothing half-done to protect.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without content.
impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[async_trait]
impl Snapshots for Memory {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let key = (snapshot.tenant.clone(), snapshot.name.clone());
        self.lock().snapshots.insert(key, snapshot.clone());
        Ok(())
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self.lock().snapshots.get(&key).cloned())
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.lock().snapshots.values().cloned().collect())
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        self.lock().snapshots.remove(&key);
        Ok(())
    }
}
