//! A ledger that counts what is asked of it, and fails where it is told to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokenward_core::Timestamp;
use tokenward_store::{
    AuditRecord, Child, Family, Ledger, Origin, PutIdp, Recorded, Revocation, Revoked, StoreError,
    StoreErrorKind, StoredIdp,
};
use tokenward_testkit::ManualClock;

pub(crate) struct Counted {
    ledger: Arc<dyn Ledger>,
    reads: AtomicUsize,
    writes: AtomicUsize,
    /// Each revocation takes two seconds by this clock.
    pub(super) slow: Mutex<Option<ManualClock>>,
    /// No revocation is stored.
    pub(crate) revocations_fail: AtomicBool,
    /// No record of the audit log is.
    pub(crate) audit_fails: AtomicBool,
    /// The next change of the keyring is not, and those after it are.
    pub(crate) keyring_fails_once: AtomicBool,
    /// The next change of the keyring is stored, and nobody is told.
    pub(crate) keyring_answer_is_lost_once: AtomicBool,
    /// Families that are opened are lost at once.
    pub(crate) families_are_lost: AtomicBool,
    /// Whatever is due is another process's at the moment.
    pub(crate) all_is_claimed: AtomicBool,
    /// The keyring cannot be read.
    pub(crate) keyring_is_out_of_reach: AtomicBool,
    /// No child is recorded, for this reason.
    pub(super) children_fail: Mutex<Option<StoreErrorKind>>,
}

fn unless(fails: &AtomicBool) -> Result<(), StoreError> {
    match fails.load(Ordering::Relaxed) {
        true => Err(StoreError::new(StoreErrorKind::Io, "as it was told")),
        false => Ok(()),
    }
}

impl Counted {
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            slow: Mutex::default(),
            revocations_fail: AtomicBool::default(),
            audit_fails: AtomicBool::default(),
            keyring_fails_once: AtomicBool::default(),
            keyring_answer_is_lost_once: AtomicBool::default(),
            keyring_is_out_of_reach: AtomicBool::default(),
            families_are_lost: AtomicBool::default(),
            all_is_claimed: AtomicBool::default(),
            children_fail: Mutex::default(),
        })
    }

    /// Reads and writes since the last time it was asked.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.reads.swap(0, Ordering::Relaxed),
            self.writes.swap(0, Ordering::Relaxed),
        )
    }

    fn read(&self) -> &dyn Ledger {
        self.reads.fetch_add(1, Ordering::Relaxed);
        &*self.ledger
    }

    fn write(&self) -> &dyn Ledger {
        self.writes.fetch_add(1, Ordering::Relaxed);
        &*self.ledger
    }
}

#[async_trait::async_trait]
impl Ledger for Counted {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        self.read().idps().await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.read().audit(before, limit).await
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        self.read().family(parent_jti).await
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.read().families(after, limit).await
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.read().active_families(now).await
    }

    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        let limit = match self.all_is_claimed.load(Ordering::Relaxed) {
            true => 0,
            false => limit,
        };
        self.read().due_families(now, limit).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read().next_due().await
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.read().revocations(after, limit).await
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        self.read().revocation(id).await
    }

    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        unless(&self.keyring_is_out_of_reach)?;
        self.read().keyring().await
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read().pruned_at().await
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        self.write().put_idp(idp, max).await
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        self.write().remove_idp(tenant, name).await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        unless(&self.audit_fails)?;
        self.write().append_audit(records).await
    }

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        match self.families_are_lost.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.write().open_family(family).await,
        }
    }

    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        self.write().reopen_family(issuer, family).await
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        if let Some(kind) = *self.children_fail.lock().unwrap() {
            return Err(StoreError::new(kind, "as it was told"));
        }
        self.write()
            .record_child(parent_jti, origin, after, child, next_renewal)
            .await
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.write().postpone(parent_jti, after, next_renewal).await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        unless(&self.revocations_fail)?;
        if let Some(clock) = &*self.slow.lock().unwrap() {
            clock.advance(Duration::from_secs(2));
        }
        self.write().revoke(revocation).await
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        self.write().delete_revocation(id).await
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let once = |fails: &AtomicBool| unless(&AtomicBool::new(fails.swap(false, Ordering::Relaxed)));
        once(&self.keyring_fails_once)?;
        // Who asks at the same time gets a turn before it is stored.
        tokio::task::yield_now().await;
        let put = self.write().put_keyring(expected, bytes).await?;
        once(&self.keyring_answer_is_lost_once)?;
        Ok(put)
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write().prune(now).await
    }

    fn healthy(&self) -> bool {
        self.ledger.healthy()
    }
}
