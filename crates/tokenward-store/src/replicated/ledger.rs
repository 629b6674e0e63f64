//! The ledger of a replica: written to the shared store, then to the journal, then acknowledged.

use async_trait::async_trait;
use tokenward_core::Timestamp;

use super::{Inner, Replicated};
use crate::{
    AuditRecord, Child, Family, Ledger, Origin, PutIdp, Recorded, Revocation, Revoked, StoreError, StoredIdp,
};

#[async_trait]
impl Ledger for Replicated {
    /// Out of the journal, as they were at the last poll.
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        self.0.journal.idps().await
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        let Inner {
            shared,
            journal,
            idps,
            ..
        } = &*self.0;
        let _alone = idps.lock().await;
        let put = shared.put_idp(idp, max).await?;
        if put != PutIdp::Full {
            journal.put_idp(idp, usize::MAX).await?;
        }
        Ok(put)
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        let Inner {
            shared,
            journal,
            clock,
            idps,
            ..
        } = &*self.0;
        let _alone = idps.lock().await;
        let removed = shared.remove_idp(tenant, name).await?;
        journal.bury_idp(tenant, name, clock.wall()).await?;
        Ok(removed)
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.0.shared.append_audit(records).await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.0.shared.audit(before, limit).await
    }

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        self.0.shared.open_family(family).await
    }

    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        self.0.shared.reopen_family(issuer, family).await
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        self.0.shared.family(parent_jti).await
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.0.shared.families(after, limit).await
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.0.shared.active_families(now).await
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        self.0
            .shared
            .record_child(parent_jti, origin, after, child, next_renewal)
            .await
    }

    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.0.shared.due_families(now, limit).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.shared.next_due().await
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.0.shared.postpone(parent_jti, after, next_renewal).await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let revoked = shared.revoke(revocation).await?;
        let kept = journal.keep_revocations(vec![revoked.effective.clone()]).await?;
        let effective = kept.effective.into_iter().next();
        Ok(Revoked {
            effective: effective.unwrap_or(revoked.effective),
            ..revoked
        })
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.0.shared.revocations(after, limit).await
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        self.0.shared.revocation(id).await
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        let record = self.0.shared.revocation(id).await?;
        let deleted = self.0.shared.delete_revocation(id).await?;
        if let Some(record) = record {
            self.bury(&record.issuer, &record.rule).await?;
        }
        Ok(deleted)
    }

    /// Out of the journal, as it was at the last poll.
    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.0.journal.keyring().await
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let run_id = self.ground()?;
        let put = shared.put_keyring_in(run_id.as_deref(), expected, bytes).await?;
        if put {
            journal
                .keep_keyring(expected.saturating_add(1), bytes.to_vec())
                .await?;
        }
        Ok(put)
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let pruned = journal
            .prune(now)
            .await?
            .max(journal.prune_tombstones(now).await?);
        Ok(shared.prune(now).await?.max(pruned))
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.shared.pruned_at().await
    }

    fn healthy(&self) -> bool {
        self.0.shared.is_connected() && self.0.journal.healthy()
    }
}
