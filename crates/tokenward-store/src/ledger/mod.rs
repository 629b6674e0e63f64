use async_trait::async_trait;
use tokenward_core::Timestamp;

use crate::StoreError;

mod records;

pub use records::{
    AUDIT_KEPT, AuditRecord, Child, Family, Origin, PRUNED, PutIdp, Recorded, Revocation, RevocationRule,
    Revoked, StoredIdp,
};

/// Keeps what was acknowledged to somebody: nothing of it may be lost.
///
/// Each call is atomic, and a write is durable when it returns. Calls of one caller that waits for each take
/// effect in order. A call whose future is dropped may or may not take effect, as a whole.
///
/// # Errors
///
/// Every method fails with [`StoreErrorKind::Io`](crate::StoreErrorKind::Io) where the medium does; a write
/// that failed changed nothing and may be tried again, save with
/// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable), where it may have taken effect. (One exception: where a sync of the disk failed and the
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

    /// Appends to the audit log, which keeps the newest [`AUDIT_KEPT`] records of each kind ([`AuditRecord::kind`]). The
    /// actions must come from a closed set.
    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// At most `limit` records of the audit log, newest first, each with its number; with `before` only those
    /// whose number is under it. Numbers rise with every record and are never used again.
    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError>;

    /// Opens a family, unless there is one of this parent, which stays as it is.
    async fn open_family(&self, family: &Family) -> Result<(), StoreError>;

    /// Opens the family of a parent of `issuer` anew, which the store has lost, unless the parent is or was revoked; says whether
    /// there is one then. An engine that loses nothing has no such family, and says that there is none.
    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        let _ = (issuer, family);
        Ok(false)
    }

    /// The family of a parent.
    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError>;

    /// At most `limit` families, in the order of their parents' ids, from the first whose id is over `after`.
    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError>;

    /// How many families there are whose parent has not expired at `now`. What it costs depends on those that have, which
    /// [`Ledger::prune`] takes away, and not on how many there are.
    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// Makes `child` the latest of its family and sets when the next one is due, if the family's sequence is
    /// still `after`: of those who race for one renewal, one wins. Nothing is recorded once a revocation is stored that
    /// refuses the parent, which is of `origin`, whoever has not heard of it yet.
    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError>;

    /// At most `limit` families whose next renewal is due at `now`, longest due first. What it costs does not
    /// depend on how many are not due. A damaged family is reported in the log and taken out of the schedule:
    /// it must not stop the others.
    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError>;

    /// When the next renewal of all is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Sets when the next renewal of a family is due, if its sequence is still `after`: what was decided on before another
    /// child was recorded does not concern that one. `None` takes it out of the schedule. A family that is gone is none
    /// that is due.
    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Records a revocation. There is one record for each issuer and rule; where there is one already it
    /// grows: of two not-befores and of two expiries the later counts, and its id stays. A
    /// [`RevocationRule::Parent`] takes the parent's family with it, in the same transaction.
    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError>;

    /// At most `limit` revocations whose sequence is over `after`, in its order. Every change of a record gives
    /// it a new sequence, higher than any before; what was deleted is not told.
    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError>;

    /// The revocation of this id.
    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError>;

    /// Deletes a revocation. `false` where there is none of this id.
    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError>;

    /// The keyring, opaque, with its version.
    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Puts `bytes` in the place of the keyring of version `expected` (0: there is none yet), as the next
    /// version. `false`, and nothing changed, where it is at another version.
    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError>;

    /// Deletes families whose parent has expired at `now` and revocations that have, at most [`PRUNED`] of
    /// each, and tells how many there were. `now` is remembered.
    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// The time that [`Ledger::prune`] was given last. None: it never was.
    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Whether the last write could be stored. Asking makes a store that could not try again, in the
    /// background, so that it is found well even if nobody else writes.
    fn healthy(&self) -> bool;
}
