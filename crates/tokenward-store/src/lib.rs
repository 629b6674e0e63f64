//! Where tokenward keeps what must outlive a process.
//!
//! One trait, [`Snapshots`], holds the last good key set of each identity provider, so that a restart serves
//! and verifies at once while every provider is down. Two engines implement it: [`Memory`], for tests and
//! for those who accept a cold start, and, with the feature `sqlite`, [`Sqlite`], embedded and crash-safe.

mod error;
mod memory;
mod snapshots;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use error::{StoreError, StoreErrorKind};
pub use memory::Memory;
pub use snapshots::{Snapshot, Snapshots};
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
