use async_trait::async_trait;
use rusqlite::OptionalExtension as _;
use tokenward_core::Timestamp;

use super::{Sqlite, audit, family, idp, keyring, revocation};
use crate::{
    AuditRecord, Child, Family, Ledger, Origin, PutIdp, Recorded, Revocation, Revoked, StoreError, StoredIdp,
};

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

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        let family = family.clone();
        self.write(move |connection| family::open(connection, &family))
            .await
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        let parent_jti = parent_jti.to_owned();
        self.read(move |connection| family::get(connection, &parent_jti))
            .await
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        let after = after.to_owned();
        self.read(move |connection| family::page(connection, &after, limit))
            .await
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.read(move |connection| family::active(connection, now)).await
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        let (parent_jti, origin, child) = (parent_jti.to_owned(), origin.clone(), child.clone());
        self.write(move |connection| {
            family::record_child(connection, &parent_jti, &origin, after, &child, next_renewal)
        })
        .await
    }

    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.read(move |connection| family::due(connection, now, limit))
            .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(family::next_due).await
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let parent_jti = parent_jti.to_owned();
        self.write(move |connection| family::postpone(connection, &parent_jti, after, next_renewal))
            .await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        let revocation = revocation.clone();
        self.write(move |connection| revocation::revoke(connection, &revocation))
            .await
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.read(move |connection| revocation::page(connection, after, limit))
            .await
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| revocation::get(connection, &id))
            .await
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| revocation::delete(connection, &id))
            .await
    }

    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.read(keyring::get).await
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let bytes = bytes.to_vec();
        self.write(move |connection| keyring::put(connection, expected, &bytes))
            .await
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO counter (name, value) VALUES ('pruned_at', ?)")?
                .execute([now.as_millis()])?;
            Ok(family::prune(connection, now)? + revocation::prune(connection, now)?)
        })
        .await
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached("SELECT value FROM counter WHERE name = 'pruned_at'")?
                .query_row([], |row| row.get(0))
                .optional()?;
            Ok(found.map(Timestamp::from_millis))
        })
        .await
    }

    fn healthy(&self) -> bool {
        self.probe()
    }
}
