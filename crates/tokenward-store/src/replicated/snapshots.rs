//! Key sets: each replica keeps its own, and shares them for as long as the shared store keeps them.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;

use super::{Inner, Replicated};
use crate::{Claim, Snapshot, Snapshots, StoreError};

#[async_trait]
impl Snapshots for Replicated {
    /// A shared store that cannot be reached is no reason not to keep one.
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        journal.put(snapshot).await?;
        if let Err(error) = shared.put(snapshot).await {
            tracing::debug!(%error, "a key set is not shared");
        }
        Ok(())
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        self.0.shared.get(tenant, name).await
    }

    /// The latest of each provider.
    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let own = journal.load_all().await?;
        let others = shared.load_all().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "shared key sets cannot be read; those of the journal are used");
            Vec::new()
        });
        let mut latest: HashMap<_, Snapshot> = HashMap::new();
        for snapshot in own.into_iter().chain(others) {
            let name = (snapshot.tenant.clone(), snapshot.name.clone());
            let known = latest.entry(name).or_insert_with(|| snapshot.clone());
            if known.fetched_at < snapshot.fetched_at {
                *known = snapshot;
            }
        }
        Ok(latest.into_values().collect())
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        journal.remove(tenant, name).await?;
        shared.remove(tenant, name).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn adopted(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.0.journal.put(snapshot).await
    }

    async fn claim(&self, tenant: &str, name: &str, config_hash: &[u8; 32]) -> Result<Claim, StoreError> {
        self.0.shared.claim(tenant, name, config_hash).await
    }

    async fn release(
        &self,
        tenant: &str,
        name: &str,
        config_hash: &[u8; 32],
        fence: u64,
        failed_for: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.0
            .shared
            .release(tenant, name, config_hash, fence, failed_for)
            .await
    }

    async fn take(
        &self,
        tenant: &str,
        name: &str,
        caller: u64,
        size: u32,
        refill: Duration,
    ) -> Result<bool, StoreError> {
        self.0.shared.take(tenant, name, caller, size, refill).await
    }
}
