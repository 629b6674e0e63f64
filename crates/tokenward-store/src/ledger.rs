use async_trait::async_trait;
use tokenward_core::Timestamp;

use crate::StoreError;

/// How many records of the audit log an engine keeps: the newest ones.
pub const AUDIT_KEPT: usize = 100_000;

/// An identity provider that was added at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdp {
    /// Its tenant.
    pub tenant: String,
    /// Its name, unique within its tenant.
    pub name: String,
    /// Its settings, as JSON, as they were accepted.
    pub document: String,
    /// When they were accepted.
    pub changed_at: Timestamp,
}

/// What became of an identity provider that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutIdp {
    /// It is new.
    Created,
    /// It stands in the place of the former one of its name.
    Replaced,
    /// It is new and there are as many as there may be: nothing changed.
    Full,
}

/// One call that changed something, or tried to. It names things and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Name of the credential; empty where none was shown.
    pub who: String,
    /// Address of the caller.
    pub address: String,
    /// What was asked for, as `idps.put`.
    pub action: String,
    /// On what.
    pub target: String,
    /// `ok`, or the code of the error.
    pub outcome: String,
}

/// Keeps what was acknowledged to somebody: nothing of it may be lost.
///
/// Each call is atomic, and a write is durable when it returns. Calls of one caller that waits for each take
/// effect in order. A call whose future is dropped may or may not take effect, as a whole.
///
/// # Errors
///
/// Every method fails with [`StoreErrorKind::Io`](crate::StoreErrorKind::Io) where the medium does; a write
/// that failed changed nothing and may be tried again. (One exception: where a sync of the disk failed and the
/// process ends before the disk works again, the write may be found at the next start.) What is found damaged
/// is an error, [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt), that names the row: to go on
/// without it would be to forget silently. Only the audit log skips damaged records, with a warning.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// All identity providers, in the order in which their names were first added.
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError>;

    /// Stores an identity provider, in place of the former one of its name, which it follows in the order. A
    /// new one is stored only while there are fewer than `max`.
    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError>;

    /// Forgets an identity provider. `false` where there is none of that name.
    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError>;

    /// Appends to the audit log, which keeps the newest [`AUDIT_KEPT`] records.
    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// At most `limit` records of the audit log, newest first, each with its number; with `before` only those
    /// whose number is under it. Numbers rise with every record and are never used again.
    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError>;
}
