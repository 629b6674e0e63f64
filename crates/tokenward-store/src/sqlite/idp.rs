//! Dynamic identity providers as rows.

#[cfg(feature = "redis")]
use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row, params};
use tokenward_core::Timestamp;

use super::writer::Failure;
use crate::{
    PutIdp, StoredIdp,
    digest::{Digest, digest},
};

pub(super) const COUNT: &str = "SELECT value FROM counter WHERE name = 'idps'";

/// Damaged rows that one error names.
const NAMED: usize = 10;

pub(super) fn all(connection: &Connection) -> Result<Vec<StoredIdp>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT number, tenant, name, document, changed_at, digest FROM idp ORDER BY number",
    )?;
    let mut rows = select.query([])?;
    let mut idps = Vec::new();
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok((idp, true)) => idps.push(idp),
            Ok((idp, false)) => damaged.push(format!("`{}` of tenant `{}`", idp.name, idp.tenant)),
            Err(error) => damaged.push(format!("row {} ({error})", row.get::<_, i64>("number")?)),
        }
    }
    if damaged.is_empty() {
        return Ok(idps);
    }
    let (count, of) = (damaged.len(), idps.len() + damaged.len());
    damaged.truncate(NAMED);
    Err(Failure::Damaged(format!(
        "{count} of {of} identity providers in its table `idp` are not what was stored: {}{}. Put a backup in \
         its place, or delete these rows and add the providers again",
        damaged.join(", "),
        if count > NAMED { " and others" } else { "" },
    )))
}

pub(super) fn put(connection: &Connection, idp: &StoredIdp, max: usize) -> Result<PutIdp, Failure> {
    let digest = digest_of(idp);
    let changed_at = idp.changed_at.as_millis();
    let replaced = connection
        .prepare_cached(
            "UPDATE idp SET document = ?3, changed_at = ?4, digest = ?5 WHERE tenant = ?1 AND name = ?2",
        )?
        .execute(params![idp.tenant, idp.name, idp.document, changed_at, digest])?;
    if replaced > 0 {
        return Ok(PutIdp::Replaced);
    }
    let count: u64 = connection
        .prepare_cached(COUNT)?
        .query_row([], |row| row.get(0))?;
    if count >= max as u64 {
        return Ok(PutIdp::Full);
    }
    connection
        .prepare_cached(
            "INSERT INTO idp (tenant, name, document, changed_at, digest) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![idp.tenant, idp.name, idp.document, changed_at, digest])?;
    Ok(PutIdp::Created)
}

pub(super) fn remove(connection: &Connection, tenant: &str, name: &str) -> Result<bool, Failure> {
    let removed = connection
        .prepare_cached("DELETE FROM idp WHERE tenant = ? AND name = ?")?
        .execute([tenant, name])?;
    Ok(removed > 0)
}

/// Has exactly these, in their order, and says whether anything changed.
#[cfg(feature = "redis")]
pub(super) fn replace(connection: &Connection, idps: &[StoredIdp]) -> Result<bool, Failure> {
    fn name(idp: &StoredIdp) -> (&str, &str) {
        (&idp.tenant, &idp.name)
    }
    let former = all(connection)?;
    if former == idps {
        return Ok(false);
    }
    let names: HashSet<_> = idps.iter().map(name).collect();
    let (kept, gone): (Vec<_>, Vec<_>) = former.iter().partition(|idp| names.contains(&name(idp)));
    for gone in gone {
        remove(connection, &gone.tenant, &gone.name)?;
    }
    if !idps
        .iter()
        .map(name)
        .zip(&kept)
        .all(|(name_of, kept)| name_of == name(kept))
    {
        // The order is what tells which of two runs, on every replica alike.
        connection.prepare_cached("DELETE FROM idp")?.execute([])?;
    }
    let former: HashMap<_, _> = former.iter().map(|idp| (name(idp), idp)).collect();
    for idp in idps {
        if former.get(&name(idp)).is_none_or(|former| *former != idp) || !is_there(connection, idp)? {
            put(connection, idp, usize::MAX)?;
        }
    }
    Ok(true)
}

#[cfg(feature = "redis")]
fn is_there(connection: &Connection, idp: &StoredIdp) -> Result<bool, Failure> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM idp WHERE tenant = ? AND name = ?")?
        .exists([&idp.tenant, &idp.name])?)
}

/// The provider, and whether its digest matches.
fn read(row: &Row<'_>) -> rusqlite::Result<(StoredIdp, bool)> {
    let stored: Digest = row.get("digest")?;
    let idp = StoredIdp {
        tenant: row.get("tenant")?,
        name: row.get("name")?,
        document: row.get("document")?,
        changed_at: Timestamp::from_millis(row.get("changed_at")?),
    };
    let matches = digest_of(&idp) == stored;
    Ok((idp, matches))
}

fn digest_of(idp: &StoredIdp) -> Digest {
    let StoredIdp {
        tenant,
        name,
        document,
        changed_at,
    } = idp;
    digest(&[
        Some(b"idp"),
        Some(tenant.as_bytes()),
        Some(name.as_bytes()),
        Some(document.as_bytes()),
        Some(&changed_at.as_millis().to_be_bytes()),
    ])
}
