//! Good key sets, kept over a restart.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokenward_core::Timestamp;

/// A good key set of one identity provider, as it was last fetched or confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The tenant of the identity provider.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Where the set came from.
    pub url: String,
    /// A hash of the configuration that it was fetched for.
    pub config_hash: [u8; 32],
    /// The set as JSON, free of private material.
    pub body: Vec<u8>,
    /// The answer's `ETag`.
    pub etag: Option<String>,
    /// The answer's `Last-Modified`.
    pub last_modified: Option<String>,
    /// When it was fetched or confirmed.
    pub fetched_at: Timestamp,
    /// The upstream max-age.
    pub upstream_max_age: Option<Duration>,
}

/// A place for snapshots. Losing one costs a fetch, nothing else.
#[async_trait]
pub trait Snapshots: Send + Sync + 'static {
    /// Stores `snapshot` in place of an earlier one of the same tenant and name.
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// The snapshot of one identity provider.
    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError>;

    /// All snapshots. One that cannot be read is left out.
    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError>;

    /// Removes the snapshot of one identity provider, if there is one.
    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError>;
}

/// Snapshots in memory: for tests, and where a restart may begin with nothing.
#[derive(Debug, Default)]
pub struct Memory {
    snapshots: Mutex<BTreeMap<(String, String), Snapshot>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Snapshots for Memory {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let key = (snapshot.tenant.clone(), snapshot.name.clone());
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, snapshot.clone());
        Ok(())
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned())
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect())
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
        Ok(())
    }
}

/// What a store could not do.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store could not be opened.
    Open,
    /// Reading or writing failed. Nothing was acknowledged.
    Io,
    /// The store has been closed.
    Closed,
}

impl StoreError {
    /// An error of `kind`; the message says what was attempted and what the operator can do.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps what it was caused by.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
