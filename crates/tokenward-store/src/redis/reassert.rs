//! What those need who still know what a store may have lost.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use tokenward_core::Timestamp;

use super::{
    Redis,
    call::{Args, score, score_or_none, time_of},
    codec::{self, Tombstone},
    ledger::keyring_args,
    scripts,
};
use crate::{StoreError, StoredIdp};

/// Tombstones that one script puts, and that are read at once.
const TOGETHER: usize = 500;

/// Identity providers that one script puts: each may be large.
const IDPS: usize = 200;

/// Calls at a time.
const AT_ONCE: usize = 64;

/// An identity provider that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedIdp {
    /// Its tenant.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// When.
    pub removed_at: Timestamp,
}

/// Each fails as the methods of [`Ledger`](crate::Ledger) do; some of what was to be written may be written then, and
/// it is safe to try again.
impl Redis {
    /// What stays of deleted revocations, in no particular order. Damaged ones are reported in the log.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        let mut found = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let args = Args::default().of(cursor).of("COUNT").of(TOGETHER.to_string());
            let (next, page): (String, HashMap<Vec<u8>, Vec<u8>>) =
                self.ask("HSCAN", "revocations:deleted", args).await?;
            for (rule, value) in page {
                let Some(tombstone) = codec::read_tombstone(&rule, &value) else {
                    tracing::error!("Skipping what stays of a deleted revocation: it is damaged");
                    continue;
                };
                // What the scan tells twice is one.
                found.insert(rule, tombstone);
            }
            if next == "0" {
                return Ok(found.into_values().collect());
            }
            cursor = next;
        }
    }

    /// Deletes again what was deleted, unless it was revoked later, and tells how much was not deleted in the store.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn assert_tombstones(&self, tombstones: &[Tombstone]) -> Result<usize, StoreError> {
        let mut buried = 0;
        for tombstones in tombstones.chunks(TOGETHER) {
            let mut args = Args::default();
            for tombstone in tombstones {
                let (value, record) = codec::write_tombstone(tombstone);
                args.add(codec::rule_name(&tombstone.issuer, &tombstone.rule));
                args.add(value);
                args.add(record);
                args.add(score(tombstone.deleted_at));
                args.add(score_or_none(tombstone.expires_at));
            }
            buried += self.run::<usize>(&scripts::BURY, args).await?;
        }
        Ok(buried)
    }

    /// Writes back identity providers in this order, but those that were changed or removed later, and tells how many were
    /// written.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn assert_idps(&self, idps: &[StoredIdp]) -> Result<usize, StoreError> {
        let mut written = 0;
        for idps in idps.chunks(IDPS) {
            let became = self.store_idps("assert", idps, usize::MAX).await?;
            written += became.iter().filter(|became| *became != "known").count();
        }
        Ok(written)
    }

    /// Identity providers that were removed and not added again.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn removed_idps(&self) -> Result<Vec<RemovedIdp>, StoreError> {
        let args = Args::default().of("0").of("-1").of("WITHSCORES");
        let found: Vec<(Vec<u8>, f64)> = self.ask("ZRANGE", "idps:removed", args).await?;
        let removed = found.into_iter().filter_map(|(name, score)| {
            let (tenant, name) = codec::names_in(&name)?;
            Some(RemovedIdp {
                tenant,
                name,
                removed_at: time_of(score),
            })
        });
        Ok(removed.collect())
    }

    /// Removes again identity providers that were removed, unless they were added or changed later, and tells how many
    /// removals the store did not know.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn assert_removed_idps(&self, removed: &[RemovedIdp]) -> Result<usize, StoreError> {
        let mut sum = 0;
        for removed in removed.chunks(AT_ONCE) {
            let calls = removed.iter().map(|idp| {
                let args = Args::default()
                    .of(codec::idp_name(&idp.tenant, &idp.name))
                    .of(score(idp.removed_at));
                self.run::<usize>(&scripts::IDP_REMOVE, args)
            });
            sum += try_join_all(calls).await?.into_iter().sum::<usize>();
        }
        Ok(sum)
    }

    /// Writes back a keyring where the store's is of a lower version, or where it has none.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn assert_keyring(&self, version: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let args = keyring_args("assert", 0, version, bytes);
        self.run(&scripts::KEYRING, args).await
    }

    /// Marks the store as `new` if its marker is still `expected`. `false`, and nothing changed, where it is another.
    ///
    /// # Errors
    ///
    /// See [`Ledger`](crate::Ledger).
    pub async fn set_generation(&self, expected: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let args = Args::default().of(expected.unwrap_or_default()).of(new);
        self.run(&scripts::GENERATION, args).await
    }
}
