//! What a replica of a cluster keeps for itself: all that the shared store acknowledged, and what was deleted of it.
//!
//! The tables are those of any store. What is kept here has the ids that it has in the shared store; sequences are this file's own.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row, params};
use tokenward_core::Timestamp;

use super::{Sqlite, idp, keyring, revocation, writer::Failure};
use crate::{
    PRUNED, RemovedIdp, Revocation, RevocationRule, StoreError, StoredIdp, Tombstone,
    digest::{Digest, digest},
};

/// How many removed identity providers are remembered: the newest ones, as in the shared store.
const REMOVED_KEPT: i64 = 100_000;

/// Kind of a removed identity provider. All others are kinds of rules of revocations.
const IDP: &str = "idp";

/// What became of records that the shared store has.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What is in force of them: as they are, or as this journal knew them already where that refuses more.
    pub(crate) effective: Vec<Revocation>,
    /// Those of them of which this journal knew more than the shared store.
    pub(crate) wider: Vec<Revocation>,
}

impl Sqlite {
    /// Keeps records of the shared store, under the ids that they have there.
    pub(crate) async fn keep_revocations(&self, records: Vec<Revocation>) -> Result<Kept, StoreError> {
        self.write(move |connection| {
            let mut kept = Kept::default();
            for record in &records {
                let effective = revocation::adopt(connection, record)?;
                if effective != *record {
                    kept.wider.push(effective.clone());
                }
                kept.effective.push(effective);
                let (kind, value) = record.rule.key();
                dig_up(connection, kind, &record.issuer, value)?;
            }
            Ok(kept)
        })
        .await
    }

    /// Keeps what is known to be deleted, and forgets what is, but for what was made later. Gives back those by which something
    /// was forgotten.
    pub(crate) async fn bury(&self, tombstones: Vec<Tombstone>) -> Result<Vec<Tombstone>, StoreError> {
        self.write(move |connection| {
            let mut effective = Vec::new();
            for tombstone in &tombstones {
                let Tombstone {
                    issuer,
                    rule,
                    deleted_at,
                    ..
                } = tombstone;
                let record = revocation::of_rule(connection, issuer, rule)?;
                match record {
                    Some((_, record)) if record.created_at > *deleted_at => continue,
                    Some((_, record)) => {
                        revocation::delete(connection, &record.id)?;
                        effective.push(tombstone.clone());
                    }
                    None => {}
                }
                put(connection, &Grave::of(tombstone))?;
            }
            Ok(effective)
        })
        .await
    }

    /// Forgets the revocation of a rule, as deleted at `at`.
    pub(crate) async fn forget(
        &self,
        issuer: &str,
        rule: &RevocationRule,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (issuer, rule) = (issuer.to_owned(), rule.clone());
        self.write(move |connection| {
            if let Some((_, record)) = revocation::of_rule(connection, &issuer, &rule)? {
                revocation::delete(connection, &record.id)?;
                put(
                    connection,
                    &Grave::of(&Tombstone {
                        issuer: record.issuer,
                        rule: record.rule,
                        // Never before it was made, whoever's clock is behind.
                        deleted_at: at.max(record.created_at),
                        expires_at: record.expires_at,
                    }),
                )?;
            }
            Ok(())
        })
        .await
    }

    /// All revocations that are known to be deleted.
    pub(crate) async fn tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        let rows = self.read(|connection| rows(connection, "kind <> 'idp'")).await?;
        Ok(rows.into_iter().filter_map(Grave::into_tombstone).collect())
    }

    /// All identity providers that are known to be removed.
    pub(crate) async fn removed_idps(&self) -> Result<Vec<RemovedIdp>, StoreError> {
        let rows = self.read(|connection| rows(connection, "kind = 'idp'")).await?;
        let removed = rows.into_iter().map(|row| RemovedIdp {
            tenant: row.owner,
            name: row.name,
            removed_at: row.at,
        });
        Ok(removed.collect())
    }

    /// Forgets an identity provider, as removed at `at`, if it is known.
    pub(crate) async fn bury_idp(&self, tenant: &str, name: &str, at: Timestamp) -> Result<(), StoreError> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| {
            let known = idp::all(connection)?;
            let known = known.iter().find(|idp| idp.tenant == tenant && idp.name == name);
            if let Some(known) = known {
                idp::remove(connection, &tenant, &name)?;
                // Never before it was made, whoever's clock is behind.
                put(
                    connection,
                    &Grave::of_idp(&tenant, &name, at.max(known.changed_at)),
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps these identity providers, and what was removed. Others that are known here stay, unless they are among those: a
    /// store that lost them does not say that they were removed. Says whether that changed any provider.
    pub(crate) async fn keep_idps(
        &self,
        mut idps: Vec<StoredIdp>,
        removed: Vec<RemovedIdp>,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            for RemovedIdp {
                tenant,
                name,
                removed_at,
            } in &removed
            {
                put(connection, &Grave::of_idp(tenant, name, *removed_at))?;
            }
            connection
                .prepare_cached(
                    "DELETE FROM tombstone WHERE kind = 'idp' AND rowid NOT IN \
                     (SELECT rowid FROM tombstone WHERE kind = 'idp' ORDER BY at DESC LIMIT ?)",
                )?
                .execute([REMOVED_KEPT])?;
            let buried: HashMap<_, _> = rows(connection, "kind = 'idp'")?
                .into_iter()
                .map(|row| ((row.owner, row.name), row.at))
                .collect();
            for idp in &idps {
                let removed_at = buried.get(&(idp.tenant.clone(), idp.name.clone()));
                if removed_at.is_some_and(|removed_at| *removed_at < idp.changed_at) {
                    dig_up(connection, IDP, &idp.tenant, &idp.name)?;
                }
            }
            let there: HashSet<_> = idps
                .iter()
                .map(|idp| (idp.tenant.clone(), idp.name.clone()))
                .collect();
            idps.extend(idp::all(connection)?.into_iter().filter(|idp| {
                let name = (idp.tenant.clone(), idp.name.clone());
                let removed_at = buried.get(&name);
                !there.contains(&name) && removed_at.is_none_or(|removed_at| *removed_at < idp.changed_at)
            }));
            idp::replace(connection, &idps)
        })
        .await
    }

    /// Keeps a keyring of the shared store, unless one of the same version or a later one is kept already.
    pub(crate) async fn keep_keyring(&self, version: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.write(move |connection| keyring::keep(connection, version, &bytes))
            .await
    }

    /// Forgets what was deleted so long ago that nobody has it any more, at most [`PRUNED`], and says how many there were.
    pub(crate) async fn prune_tombstones(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| {
            Ok(connection
                .prepare_cached(
                    "DELETE FROM tombstone WHERE rowid IN (SELECT rowid FROM tombstone WHERE until <= ? LIMIT ?)",
                )?
                .execute(params![now.as_millis(), PRUNED])?)
        })
        .await
    }
}

/// A row of the table: a kind of rule with issuer, value and what it compares with, or an identity provider with its tenant.
struct Grave {
    kind: String,
    owner: String,
    name: String,
    time: Option<Timestamp>,
    at: Timestamp,
    until: Option<Timestamp>,
}

impl Grave {
    fn of(tombstone: &Tombstone) -> Self {
        let (kind, value) = tombstone.rule.key();
        Self {
            kind: kind.to_owned(),
            owner: tombstone.issuer.clone(),
            name: value.to_owned(),
            time: tombstone.rule.time(),
            at: tombstone.deleted_at,
            until: tombstone.expires_at,
        }
    }

    fn of_idp(tenant: &str, name: &str, removed_at: Timestamp) -> Self {
        Self {
            kind: IDP.to_owned(),
            owner: tenant.to_owned(),
            name: name.to_owned(),
            time: None,
            at: removed_at,
            until: None,
        }
    }

    fn into_tombstone(self) -> Option<Tombstone> {
        Some(Tombstone {
            rule: RevocationRule::from_parts(&self.kind, self.name, self.time)?,
            issuer: self.owner,
            deleted_at: self.at,
            expires_at: self.until,
        })
    }

    fn digest(&self) -> Digest {
        let bytes = |time: Timestamp| time.as_millis().to_be_bytes();
        digest(&[
            Some(b"tombstone"),
            Some(self.kind.as_bytes()),
            Some(self.owner.as_bytes()),
            Some(self.name.as_bytes()),
            self.time.map(bytes).as_ref().map(<[u8; 8]>::as_slice),
            Some(&bytes(self.at)),
            self.until.map(bytes).as_ref().map(<[u8; 8]>::as_slice),
        ])
    }
}

/// The latest deletion counts.
fn put(connection: &Connection, row: &Grave) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO tombstone (kind, owner, name, time, at, until, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (kind, owner, name) DO UPDATE SET time = ?4, at = ?5, until = ?6, digest = ?7 WHERE at < ?5",
        )?
        .execute(params![
            row.kind,
            row.owner,
            row.name,
            row.time.map(Timestamp::as_millis),
            row.at.as_millis(),
            row.until.map(Timestamp::as_millis),
            row.digest(),
        ])?;
    Ok(())
}

fn dig_up(connection: &Connection, kind: &str, owner: &str, name: &str) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM tombstone WHERE kind = ? AND owner = ? AND name = ?")?
        .execute([kind, owner, name])?;
    Ok(())
}

fn rows(connection: &Connection, which: &str) -> Result<Vec<Grave>, Failure> {
    let mut select = connection.prepare_cached(&format!("SELECT * FROM tombstone WHERE {which}"))?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(checked(row)?);
    }
    Ok(all)
}

/// A damaged one is an error: without it what was deleted would come back.
fn checked(row: &Row<'_>) -> Result<Grave, Failure> {
    match read(row) {
        Ok((row, true)) => Ok(row),
        _ => Err(Failure::Damaged(
            "a row of its table `tombstone` is not what was stored. Move the journal away: this replica then takes over \
             what the store and the other replicas know"
                .to_owned(),
        )),
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<(Grave, bool)> {
    let stored: Digest = row.get("digest")?;
    let time = |column: &str| -> rusqlite::Result<Option<Timestamp>> {
        let millis: Option<i64> = row.get(column)?;
        Ok(millis.map(Timestamp::from_millis))
    };
    let row = Grave {
        kind: row.get("kind")?,
        owner: row.get("owner")?,
        name: row.get("name")?,
        time: time("time")?,
        at: Timestamp::from_millis(row.get("at")?),
        until: time("until")?,
    };
    let matches = row.digest() == stored;
    Ok((row, matches))
}
