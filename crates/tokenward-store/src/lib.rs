//! Where tokenward keeps what must outlive a process.
//!
//! [`Snapshots`] holds the last good key set of each identity provider, so that a restart serves and verifies
//! at once while every provider is down: a cache, whose loss costs a fetch. [`Ledger`] holds what was
//! acknowledged to somebody and must not be lost. Engines: [`Memory`], for tests and for those who accept a cold
//! start; with the feature `sqlite`, [`Sqlite`], embedded and crash-safe; with the feature `redis`, [`Redis`], which
//! many processes share. With both, [`Replicated`] is one of those processes with a journal of its own.

#[cfg(any(feature = "redis", feature = "sqlite"))]
mod digest;
mod error;
mod ledger;
mod memory;
mod migrate;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(feature = "redis", feature = "sqlite"))]
mod replicated;
mod snapshots;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "redis")]
pub use self::redis::{Change, Feed, Redis, RedisDraft, RedisOptions, RemovedIdp, ServerFacts, Tombstone};
pub use error::{StoreError, StoreErrorKind};
pub use ledger::{
    AUDIT_KEPT, AuditRecord, Child, Family, Ledger, Origin, PRUNED, PutIdp, Recorded, Revocation,
    RevocationRule, Revoked, StoredIdp,
};
pub use memory::Memory;
pub use migrate::{Migrated, migrate};
#[cfg(all(feature = "redis", feature = "sqlite"))]
pub use replicated::{Followed, News, Replicated, Standing};
pub use snapshots::{Claim, FETCH_LEASE, Snapshot, Snapshots};
#[cfg(feature = "sqlite")]
pub use sqlite::{Draft, Sqlite};
