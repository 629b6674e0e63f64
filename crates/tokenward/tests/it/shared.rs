//! A snapshot store that several registries have, in memory and on the clock of the test.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokenward::{Claim, Clock, FETCH_LEASE, Snapshot, Snapshots, StoreError, StoreErrorKind, Timestamp};
use tokenward_testkit::ManualClock;

/// How the store does.
#[derive(Clone, Copy, Default)]
pub(crate) enum Health {
    #[default]
    Well,
    /// Every call fails.
    Down,
    /// No call ends.
    Hangs,
}

type Name = (String, String);

#[derive(Default)]
struct State {
    snapshots: HashMap<Name, Snapshot>,
    claims: HashMap<(Name, [u8; 32]), Held>,
    budgets: HashMap<Name, Vec<(u64, Timestamp)>>,
    fences: u64,
}

#[derive(Default)]
struct Held {
    fence: u64,
    until: Timestamp,
    failed_until: Timestamp,
}

pub(crate) struct Shared {
    clock: ManualClock,
    health: Mutex<Health>,
    /// How long a write takes.
    pub(crate) put_takes: Mutex<Duration>,
    state: Mutex<State>,
    pub(crate) calls: AtomicU64,
    /// What was taken over, as it was told.
    pub(crate) adopted: Mutex<Vec<Snapshot>>,
}

fn name(tenant: &str, name: &str) -> Name {
    (tenant.to_owned(), name.to_owned())
}

impl Shared {
    pub(crate) fn new(clock: &ManualClock) -> Self {
        Self {
            clock: clock.clone(),
            health: Mutex::default(),
            put_takes: Mutex::default(),
            state: Mutex::default(),
            calls: AtomicU64::new(0),
            adopted: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    /// Puts it whatever is there.
    pub(crate) fn force(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock().unwrap();
        state
            .snapshots
            .insert(name(&snapshot.tenant, &snapshot.name), snapshot.clone());
    }

    pub(crate) fn stored(&self, idp: &str) -> Option<Snapshot> {
        self.state
            .lock()
            .unwrap()
            .snapshots
            .get(&name("default", idp))
            .cloned()
    }

    async fn answer<T>(
        &self,
        change: impl FnOnce(&mut State, Timestamp) -> T + Send,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let health = *self.health.lock().unwrap();
        match health {
            Health::Well => Ok(change(&mut self.state.lock().unwrap(), self.clock.steady())),
            Health::Down => Err(StoreError::new(StoreErrorKind::Io, "down")),
            Health::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Snapshots for Shared {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let takes = *self.put_takes.lock().unwrap();
        self.clock.sleep(takes).await;
        self.answer(|state, _| {
            let key = name(&snapshot.tenant, &snapshot.name);
            let newer = state.snapshots.get(&key).is_some_and(|stored| {
                stored.url == snapshot.url
                    && stored.config_hash == snapshot.config_hash
                    && stored.fetched_at > snapshot.fetched_at
            });
            if !newer {
                state.snapshots.insert(key, snapshot.clone());
            }
        })
        .await
    }

    async fn get(&self, tenant: &str, idp: &str) -> Result<Option<Snapshot>, StoreError> {
        self.answer(|state, _| state.snapshots.get(&name(tenant, idp)).cloned())
            .await
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.answer(|state, _| state.snapshots.values().cloned().collect())
            .await
    }

    async fn remove(&self, tenant: &str, idp: &str) -> Result<(), StoreError> {
        self.answer(|state, _| {
            state.snapshots.remove(&name(tenant, idp));
        })
        .await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn adopted(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.adopted.lock().unwrap().push(snapshot.clone());
        Ok(())
    }

    async fn claim(&self, tenant: &str, idp: &str, config_hash: &[u8; 32]) -> Result<Claim, StoreError> {
        self.answer(|state, now| {
            state.fences += 1;
            let held = state.claims.entry((name(tenant, idp), *config_hash)).or_default();
            if now < held.until {
                Claim::Held
            } else if now < held.failed_until {
                Claim::Failed {
                    retry_in: held.failed_until.since(now),
                }
            } else {
                (held.fence, held.until) = (state.fences, now + FETCH_LEASE);
                Claim::Granted { fence: held.fence }
            }
        })
        .await
    }

    async fn release(
        &self,
        tenant: &str,
        idp: &str,
        config_hash: &[u8; 32],
        fence: u64,
        failed_for: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.answer(|state, now| {
            let held = state.claims.entry((name(tenant, idp), *config_hash)).or_default();
            if held.fence == fence {
                held.until = now;
                held.failed_until = now + failed_for.unwrap_or_default();
            }
        })
        .await
    }

    async fn take(
        &self,
        tenant: &str,
        idp: &str,
        caller: u64,
        size: u32,
        refill: Duration,
    ) -> Result<bool, StoreError> {
        self.answer(|state, now| {
            let held = state.budgets.entry(name(tenant, idp)).or_default();
            held.retain(|(_, back)| now < *back);
            let (size, own) = (
                size as usize,
                held.iter().filter(|(holder, _)| *holder == caller).count(),
            );
            let granted = held.len() < size && own < (size / 2).max(1);
            if granted {
                let after = held.last().map_or(now, |(_, back)| *back);
                held.push((caller, after + refill));
            }
            granted
        })
        .await
    }
}
