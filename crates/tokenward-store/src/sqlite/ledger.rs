use async_trait::async_trait;

use super::{Sqlite, audit, idp};
use crate::{AuditRecord, Ledger, PutIdp, StoreError, StoredIdp};

#[async_trait]
impl Ledger for Sqlite {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        self.read(idp::all).await
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        let idp = idp.clone();
        self.write(move |connection| idp::put(connection, &idp, max))
            .await
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| idp::remove(connection, &tenant, &name))
            .await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let records = records.to_vec();
        self.write(move |connection| audit::append(connection, &records))
            .await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.read(move |connection| audit::page(connection, before, limit))
            .await
    }
}
