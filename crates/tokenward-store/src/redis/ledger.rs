//! What was acknowledged, in the server: each call is one script, or one command.

use async_trait::async_trait;
use tokenward_core::Timestamp;

use super::{
    Redis,
    call::{Args, damaged, place, read, score},
    codec, scripts,
};
use crate::{
    AUDIT_KEPT, AuditRecord, Child, Family, Ledger, Origin, PRUNED, PutIdp, Recorded, Revocation,
    RevocationRule, Revoked, StoreError, StoredIdp,
};

/// Records of the audit log that are written, or read, at once.
const RECORDS: usize = 1_000;

#[async_trait]
impl Ledger for Redis {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        self.all_idps().await
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        let put = self.store_idps("put", std::slice::from_ref(idp), max).await?;
        Ok(match put.first().map(String::as_str) {
            Some("created") => PutIdp::Created,
            Some("replaced") => PutIdp::Replaced,
            _ => PutIdp::Full,
        })
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        let args = Args::default().of(codec::idp_name(tenant, name));
        self.run(&scripts::IDP_REMOVE, args).await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        for records in records.chunks(RECORDS) {
            let mut args = Args::default().of(AUDIT_KEPT.to_string());
            for record in records {
                let (action, succeeded) = record.kind();
                args.add(format!("{}:{action}{}", action.len(), u8::from(succeeded)));
                args.add(codec::write_audit(record));
            }
            let _: u64 = self.run(&scripts::AUDIT, args).await?;
        }
        Ok(())
    }

    /// A damaged record is skipped with a warning: the others are still worth reading.
    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let mut page = Vec::new();
        let mut before = before.unwrap_or(u64::MAX);
        while page.len() < limit {
            let most = RECORDS.min(limit - page.len());
            let args = Args::default()
                .of(format!("({}", place(before)))
                .of("-inf")
                .of("WITHSCORES")
                .of("LIMIT")
                .of("0")
                .of(most.to_string());
            let records: Vec<(Vec<u8>, u64)> = self.ask("ZREVRANGEBYSCORE", "audit", args).await?;
            let is_last = records.len() < most;
            for (record, number) in records {
                before = number;
                // Behind its number.
                let record = record.splitn(2, |byte| *byte == b' ').nth(1);
                match record.and_then(codec::read_audit) {
                    Some(record) => page.push((number, record)),
                    None => tracing::error!(
                        number,
                        "Skipping a damaged record of the audit log: it is not what was stored"
                    ),
                }
            }
            if is_last {
                break;
            }
        }
        Ok(page)
    }

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        self.store_family(family, None).await.map(drop)
    }

    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        let parent = RevocationRule::Parent(family.parent_jti.clone());
        let rule = codec::rule_name(issuer, &parent);
        self.store_family(family, Some(rule)).await
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        self.read_family(parent_jti).await
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.families_after(after, limit).await
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        let args = Args::default().of(format!("({}", score(now))).of("+inf");
        self.ask("ZCOUNT", "families:expiry", args).await
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        self.add_child(parent_jti, origin, after, child, next_renewal)
            .await
    }

    /// What is due is claimed for this handle and its clones for 15 s of the server's clock, so that no other returns
    /// it; those that did not renew it by then leave it to others.
    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.claim_due(now, limit).await
    }

    /// What others have claimed is due when their claims run out.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.next_unclaimed().await
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.reschedule(parent_jti, after, next_renewal).await
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        self.join(revocation).await
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.revocations_after(after, limit).await
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        self.revocation_of(id).await
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        self.run(&scripts::UNREVOKE, Args::default().of(id)).await
    }

    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let args = Args::default().of("version").of("value");
        let (version, value): (Option<u64>, Option<Vec<u8>>) = self.ask("HMGET", "keyring", args).await?;
        if let (None, None) = (version, &value) {
            return Ok(None);
        }
        let keyring = version.zip(value).and_then(|(version, value)| {
            let bytes = codec::read_keyring(version, &value)?;
            Some((version, bytes))
        });
        let text = "the signing keys in the store's `keyring` are not what was stored, or of a newer version. Put a \
                    backup in the store's place";
        keyring.map(Some).ok_or_else(|| damaged(text))
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        self.put_keyring_in(None, expected, bytes).await
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        let args = Args::default()
            .of(score(now))
            .of(now.as_millis().to_string())
            .of(PRUNED.to_string());
        self.run(&scripts::PRUNE, args).await
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let time: Option<i64> = self.ask("HGET", "meta", Args::default().of("pruned_at")).await?;
        Ok(time.map(Timestamp::from_millis))
    }

    /// Whether the server answered what it was asked last. It is asked again by itself.
    fn healthy(&self) -> bool {
        self.is_connected()
    }
}

impl Redis {
    /// [`Ledger::put_keyring`], in no other run of the server than this one.
    pub(crate) async fn put_keyring_in(
        &self,
        run_id: Option<&str>,
        expected: u64,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let args = keyring_args("put", expected, expected.saturating_add(1), bytes);
        let link = &self.0.link;
        let stored = link.script_in(run_id, &scripts::KEYRING, &self.0.ledger_keys, args.0);
        read(stored.await?.0)
    }
}

pub(super) fn keyring_args(how: &str, expected: u64, version: u64, bytes: &[u8]) -> Args {
    Args::default()
        .of(how)
        .of(expected.to_string())
        .of(version.to_string())
        .of(codec::write_keyring(version, bytes))
}
