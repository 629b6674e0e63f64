use async_trait::async_trait;

use super::Memory;
use crate::{AUDIT_KEPT, AuditRecord, Ledger, PutIdp, StoreError, StoredIdp};

#[async_trait]
impl Ledger for Memory {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        let state = self.lock();
        let mut idps: Vec<_> = state.idps.values().collect();
        idps.sort_unstable_by_key(|(number, _)| *number);
        Ok(idps.into_iter().map(|(_, idp)| idp.clone()).collect())
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        let mut state = self.lock();
        let key = (idp.tenant.clone(), idp.name.clone());
        if let Some((_, former)) = state.idps.get_mut(&key) {
            *former = idp.clone();
            return Ok(PutIdp::Replaced);
        }
        if state.idps.len() >= max {
            return Ok(PutIdp::Full);
        }
        let number = state.next();
        state.idps.insert(key, (number, idp.clone()));
        Ok(PutIdp::Created)
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self.lock().idps.remove(&key).is_some())
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for record in records {
            let number = state.next();
            state.audit.push_back((number, record.clone()));
        }
        let over = state.audit.len().saturating_sub(AUDIT_KEPT);
        state.audit.drain(..over);
        Ok(())
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let state = self.lock();
        let newest_first = state.audit.iter().rev();
        Ok(newest_first
            .skip_while(|(number, _)| before.is_some_and(|before| *number >= before))
            .take(limit)
            .cloned()
            .collect())
    }
}
