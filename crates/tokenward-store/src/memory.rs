use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{Snapshot, Snapshots, StoreError};

/// Keeps everything in memory, until it is dropped. Never fails.
#[derive(Debug, Default)]
pub struct Memory {
    snapshots: Mutex<HashMap<(String, String), Snapshot>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Snapshot>> {
        // Each critical section is one call of the map: there is nothing half-done to protect.
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Snapshots for Memory {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let key = (snapshot.tenant.clone(), snapshot.name.clone());
        self.lock().insert(key, snapshot.clone());
        Ok(())
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self.lock().get(&key).cloned())
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.lock().values().cloned().collect())
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        self.lock().remove(&key);
        Ok(())
    }
}
