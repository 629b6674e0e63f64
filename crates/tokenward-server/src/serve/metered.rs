//! A ledger whose calls are timed, and whose errors are counted.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use tokenward_core::{Clock, Timestamp};
use tokenward_store::{
    AuditRecord, Child, Family, Ledger, Origin, PutIdp, Recorded, Revocation, Revoked, StoreError, StoredIdp,
};

use crate::telemetry;

/// Says of another ledger how long it takes.
pub(super) struct Metered {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
}

impl Metered {
    pub(super) fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, clock }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let started = self.clock.steady();
        let result = call.await;
        telemetry::store(operation, self.clock.steady().since(started), result.is_ok());
        result
    }
}

#[async_trait]
impl Ledger for Metered {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        self.timed("idps", self.ledger.idps()).await
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        self.timed("put_idp", self.ledger.put_idp(idp, max)).await
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        self.timed("remove_idp", self.ledger.remove_idp(tenant, name))
            .await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.timed("append_audit", self.ledger.append_audit(records))
            .await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.timed("audit", self.ledger.audit(before, limit)).await
    }

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        self.timed("open_family", self.ledger.open_family(family)).await
    }

    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        let reopened = self.ledger.reopen_family(issuer, family);
        self.timed("reopen_family", reopened).await
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        self.timed("family", self.ledger.family(parent_jti)).await
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.timed("families", self.ledger.families(after, limit)).await
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.timed("active_families", self.ledger.active_families(now))
            .await
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        let recorded = self
            .ledger
            .record_child(parent_jti, origin, after, child, next_renewal);
        self.timed("record_child", recorded).await
    }

    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.timed("due_families", self.ledger.due_families(now, limit))
            .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.timed("next_due", self.ledger.next_due()).await
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let postponed = self.ledger.postpone(parent_jti, after, next_renewal);
        self.timed("postpone", postponed).await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        self.timed("revoke", self.ledger.revoke(revocation)).await
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.timed("revocations", self.ledger.revocations(after, limit))
            .await
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        self.timed("revocation", self.ledger.revocation(id)).await
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        self.timed("delete_revocation", self.ledger.delete_revocation(id))
            .await
    }

    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.timed("keyring", self.ledger.keyring()).await
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        self.timed("put_keyring", self.ledger.put_keyring(expected, bytes))
            .await
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.timed("prune", self.ledger.prune(now)).await
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.timed("pruned_at", self.ledger.pruned_at()).await
    }

    fn healthy(&self) -> bool {
        self.ledger.healthy()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use metrics::with_local_recorder;
    use tokenward_store::{Memory, StoreErrorKind};
    use tokenward_testkit::ManualClock;

    use super::*;
    use crate::telemetry::Recorder;

    #[test]
    fn calls_are_timed_and_errors_counted() {
        let metered = Metered::new(Arc::new(Memory::new()), Arc::new(ManualClock::default()));
        let recorder = Recorder::default();
        with_local_recorder(&recorder, || {
            metered.idps().now_or_never().unwrap().unwrap();
            let failed = async { Err::<(), _>(StoreError::new(StoreErrorKind::Io, "full")) };
            assert!(metered.timed("prune", failed).now_or_never().unwrap().is_err());
        });
        let text = recorder.render();
        for line in [
            "tokenward_store_duration_seconds_count{operation=\"idps\"} 1\n",
            "tokenward_store_duration_seconds_count{operation=\"prune\"} 1\n",
            "tokenward_store_errors_total{operation=\"prune\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("errors_total{operation=\"idps\"}"), "{text}");
    }
}
