use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokenward_core::Timestamp;

use crate::StoreError;

/// The last good key set of one identity provider, with what is needed to go on from it after a restart.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The provider's tenant.
    pub tenant: String,
    /// The provider's name, unique within its tenant.
    pub name: String,
    /// Where the set was fetched from. A snapshot from another URL than the configured one is not used.
    pub url: String,
    /// Hash of the configuration it was fetched under, compared as the URL is.
    pub config_hash: [u8; 32],
    /// The key set as it was received: public keys only.
    pub body: Vec<u8>,
    /// Validator for the next conditional request (RFC 9110 section 8.8.3).
    pub etag: Option<String>,
    /// Validator for the next conditional request (RFC 9110 section 8.8.2).
    pub last_modified: Option<String>,
    /// When it was last received or confirmed: its real age counts after a restart, too.
    pub fetched_at: Timestamp,
    /// How long upstream said that it is fresh, from `fetched_at`; kept in whole milliseconds.
    pub upstream_max_age: Option<Duration>,
}

/// Without the body, which would drown a log line.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("url", &self.url)
            .field("body_bytes", &self.body.len())
            .field("fetched_at", &self.fetched_at)
            .field("upstream_max_age", &self.upstream_max_age)
            .finish_non_exhaustive()
    }
}

/// How long a claim lasts that nobody hands back: its holder may be gone.
pub const FETCH_LEASE: Duration = Duration::from_secs(10);

/// What came of asking for the right to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Fetch, and hand it back with [`Snapshots::release`]. It ends by itself after [`FETCH_LEASE`].
    Granted {
        /// Names this claim among all of the provider.
        fence: u64,
    },
    /// Another one is fetching.
    Held,
    /// Another one's fetch failed, and it is too early to try again.
    Failed {
        /// When it is time.
        retry_in: Duration,
    },
}

/// Keeps one snapshot for each provider, named by tenant and name.
///
/// Calls of one caller that waits for each take effect in order. A call whose future is dropped may or may
/// not take effect, as a whole. A damaged snapshot counts as absent: it is a cache, and the provider has
/// the original.
///
/// # Errors
///
/// Every method fails with [`StoreErrorKind::Io`](crate::StoreErrorKind::Io) where the medium does; a write
/// that failed changed nothing. With [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable), it may
/// have. It is safe to try again.
#[async_trait]
pub trait Snapshots: Send + Sync + 'static {
    /// Stores a snapshot in place of the provider's former one. It is as durable as the engine can make it
    /// when this returns.
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// Stores many snapshots, as [`Snapshots::put`] does each: all of them or, on an error, perhaps some. An engine that
    /// syncs a disk does so once for all. By default they are stored one after another.
    async fn put_all(&self, snapshots: Vec<Snapshot>) -> Result<(), StoreError> {
        for snapshot in &snapshots {
            self.put(snapshot).await?;
        }
        Ok(())
    }

    /// The provider's snapshot.
    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError>;

    /// All snapshots, in no particular order.
    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError>;

    /// Forgets the provider's snapshot, if there is one.
    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError>;

    /// Whether other processes write to the same store. What follows is asked only then, and only then is a snapshot
    /// looked for that another process may have put. A shared store keeps the newer of two snapshots of one URL and
    /// configuration: a put of one that was fetched earlier changes nothing.
    fn is_shared(&self) -> bool {
        false
    }

    /// Told of a snapshot of the shared store that another process put there and this one uses from now on. A store
    /// that keeps a copy of its own for when the shared one is gone keeps it. By default nothing is kept.
    async fn adopted(&self, _snapshot: &Snapshot) -> Result<(), StoreError> {
        Ok(())
    }

    /// Asks for the right to fetch for a provider: at most one claim for one configuration is out at a time. By
    /// default whoever asks gets it.
    async fn claim(&self, _tenant: &str, _name: &str, _config_hash: &[u8; 32]) -> Result<Claim, StoreError> {
        Ok(Claim::Granted { fence: 0 })
    }

    /// Hands a claim back; one that has run out is left to whoever has it by now. With `failed_for`, the fetch failed,
    /// and for so long whoever asks is told [`Claim::Failed`].
    async fn release(
        &self,
        _tenant: &str,
        _name: &str,
        _config_hash: &[u8; 32],
        _fence: u64,
        _failed_for: Option<Duration>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes one of the `size` fetches that tokens may cause for a provider, whichever process they come to. Until it is
    /// back, `caller` holds it, who can hold at most half of them, and one comes back every `refill`. False where there is
    /// none for this caller. By default there always is.
    async fn take(
        &self,
        _tenant: &str,
        _name: &str,
        _caller: u64,
        _size: u32,
        _refill: Duration,
    ) -> Result<bool, StoreError> {
        Ok(true)
    }
}
