//! Families as rows.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokenward_core::Timestamp;

use super::{revocation, writer::Failure};
use crate::{
    Child, Family, Origin, PRUNED, Recorded,
    digest::{Digest, digest},
};

const BY_PARENT: &str = "SELECT * FROM family WHERE parent_jti = ?";
pub(super) const AFTER: &str = "SELECT * FROM family WHERE parent_jti > ? ORDER BY parent_jti";
pub(super) const DUE: &str = "SELECT * FROM family WHERE next_renewal <= ? ORDER BY next_renewal";
pub(super) const NEXT_DUE: &str =
    "SELECT next_renewal FROM family WHERE next_renewal IS NOT NULL ORDER BY next_renewal LIMIT 1";
/// Those that have expired are few, since they are removed; they are counted by the index alone.
pub(super) const ACTIVE: &str = "SELECT (SELECT value FROM counter WHERE name = 'families') \
     - (SELECT count(*) FROM family WHERE expires_at <= ?)";
pub(super) const EXPIRED: &str =
    "DELETE FROM family WHERE number IN (SELECT number FROM family WHERE expires_at <= ? LIMIT ?)";

pub(super) fn open(connection: &Connection, family: &Family) -> Result<(), Failure> {
    let child = family.latest.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO family (parent_jti, user_id, profile, expires_at, sequence, child_jti, child_token, \
             child_issued_at, child_expires_at, next_renewal, digest) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (parent_jti) DO NOTHING",
        )?
        .execute(params![
            family.parent_jti,
            family.user_id,
            family.profile,
            family.expires_at.as_millis(),
            family.sequence,
            child.map(|child| &child.jti),
            child.map(|child| &child.token),
            child.map(|child| child.issued_at.as_millis()),
            child.map(|child| child.expires_at.as_millis()),
            family.next_renewal.map(Timestamp::as_millis),
            digest_of(family),
        ])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, parent_jti: &str) -> Result<Option<Family>, Failure> {
    let found = connection
        .prepare_cached(BY_PARENT)?
        .query_row([parent_jti], |row| Ok(read(row)))
        .optional()?;
    match found {
        None => Ok(None),
        Some(Ok((family, true))) => Ok(Some(family)),
        Some(_) => Err(damaged(parent_jti)),
    }
}

pub(super) fn page(connection: &Connection, after: &str, limit: usize) -> Result<Vec<Family>, Failure> {
    let mut select = connection.prepare_cached(AFTER)?;
    let mut rows = select.query([after])?;
    let mut page = Vec::new();
    while page.len() < limit
        && let Some(row) = rows.next()?
    {
        match read(row) {
            Ok((family, true)) => page.push(family),
            _ => return Err(damaged(&row.get::<_, String>("parent_jti")?)),
        }
    }
    Ok(page)
}

pub(super) fn active(connection: &Connection, now: Timestamp) -> Result<usize, Failure> {
    let count = |row: &Row<'_>| row.get::<_, u64>(0);
    let active = connection
        .prepare_cached(ACTIVE)?
        .query_row([now.as_millis()], count)?;
    Ok(usize::try_from(active).unwrap_or(usize::MAX))
}

pub(super) fn record_child(
    connection: &Connection,
    parent_jti: &str,
    origin: &Origin,
    after: u64,
    child: &Child,
    next_renewal: Option<Timestamp>,
) -> Result<Recorded, Failure> {
    let Some(mut family) = get(connection, parent_jti)? else {
        return Ok(Recorded::Gone);
    };
    if family.sequence != after {
        return Ok(Recorded::Behind(Box::new(family)));
    }
    for rule in origin.rules(parent_jti, &family.user_id) {
        let record = revocation::of_rule(connection, &origin.issuer, &rule)?;
        if let Some((_, record)) = record.filter(|(_, record)| record.rule.refuses(origin.issued_at)) {
            return Ok(Recorded::Revoked(record.id));
        }
    }
    family.sequence += 1;
    family.latest = Some(child.clone());
    family.next_renewal = next_renewal;
    connection
        .prepare_cached(
            "UPDATE family SET sequence = ?2, child_jti = ?3, child_token = ?4, child_issued_at = ?5, \
             child_expires_at = ?6, next_renewal = ?7, digest = ?8 WHERE parent_jti = ?1",
        )?
        .execute(params![
            parent_jti,
            family.sequence,
            child.jti,
            child.token,
            child.issued_at.as_millis(),
            child.expires_at.as_millis(),
            next_renewal.map(Timestamp::as_millis),
            digest_of(&family),
        ])?;
    Ok(Recorded::Stored(family.sequence))
}

pub(super) fn due(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Family>, Failure> {
    let mut due = Vec::new();
    let mut damaged: Vec<i64> = Vec::new();
    {
        let mut select = connection.prepare_cached(DUE)?;
        let mut rows = select.query([now.as_millis()])?;
        while due.len() < limit
            && let Some(row) = rows.next()?
        {
            match read(row) {
                Ok((family, true)) => due.push(family),
                _ => damaged.push(row.get("number")?),
            }
        }
    }
    for number in damaged {
        tracing::error!(
            row = number,
            "A parent token is not renewed any more: its row in the table `family` is damaged"
        );
        // Where that fails it is found again the next time.
        let _ = connection
            .prepare_cached("UPDATE family SET next_renewal = NULL WHERE number = ?")?
            .execute([number]);
    }
    Ok(due)
}

pub(super) fn next_due(connection: &Connection) -> Result<Option<Timestamp>, Failure> {
    Ok(connection
        .prepare_cached(NEXT_DUE)?
        .query_row([], |row| Ok(Timestamp::from_millis(row.get(0)?)))
        .optional()?)
}

pub(super) fn postpone(
    connection: &Connection,
    parent_jti: &str,
    after: u64,
    next_renewal: Option<Timestamp>,
) -> Result<(), Failure> {
    let family = get(connection, parent_jti)?;
    let Some(mut family) = family.filter(|family| family.sequence == after) else {
        return Ok(());
    };
    family.next_renewal = next_renewal;
    connection
        .prepare_cached("UPDATE family SET next_renewal = ?2, digest = ?3 WHERE parent_jti = ?1")?
        .execute(params![
            parent_jti,
            next_renewal.map(Timestamp::as_millis),
            digest_of(&family),
        ])?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, parent_jti: &str) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM family WHERE parent_jti = ?")?
        .execute([parent_jti])?;
    Ok(())
}

pub(super) fn prune(connection: &Connection, now: Timestamp) -> Result<usize, Failure> {
    Ok(connection
        .prepare_cached(EXPIRED)?
        .execute(params![now.as_millis(), PRUNED])?)
}

fn damaged(parent_jti: &str) -> Failure {
    Failure::Damaged(format!(
        "the row of the parent token `{parent_jti}` in its table `family` is not what was stored. Put a backup \
         in its place, or delete this row; the parent token can still be revoked"
    ))
}

/// The family, and whether its digest matches.
fn read(row: &Row<'_>) -> rusqlite::Result<(Family, bool)> {
    let stored: Digest = row.get("digest")?;
    let child_jti: Option<String> = row.get("child_jti")?;
    let latest = child_jti
        .map(|jti| {
            Ok::<_, rusqlite::Error>(Child {
                jti,
                token: row.get("child_token")?,
                issued_at: Timestamp::from_millis(row.get("child_issued_at")?),
                expires_at: Timestamp::from_millis(row.get("child_expires_at")?),
            })
        })
        .transpose()?;
    let next_renewal: Option<i64> = row.get("next_renewal")?;
    let family = Family {
        parent_jti: row.get("parent_jti")?,
        user_id: row.get("user_id")?,
        profile: row.get("profile")?,
        expires_at: Timestamp::from_millis(row.get("expires_at")?),
        sequence: row.get("sequence")?,
        latest,
        next_renewal: next_renewal.map(Timestamp::from_millis),
    };
    let matches = digest_of(&family) == stored;
    Ok((family, matches))
}

fn digest_of(family: &Family) -> Digest {
    let Family {
        parent_jti,
        user_id,
        profile,
        expires_at,
        sequence,
        latest,
        next_renewal,
    } = family;
    let child = latest.as_ref();
    let bytes = |time: Timestamp| time.as_millis().to_be_bytes();
    digest(&[
        Some(b"family"),
        Some(parent_jti.as_bytes()),
        Some(user_id.as_bytes()),
        Some(profile),
        Some(&bytes(*expires_at)),
        Some(&sequence.to_be_bytes()),
        child.map(|child| child.jti.as_bytes()),
        child.map(|child| &*child.token),
        child
            .map(|child| bytes(child.issued_at))
            .as_ref()
            .map(<[u8; 8]>::as_slice),
        child
            .map(|child| bytes(child.expires_at))
            .as_ref()
            .map(<[u8; 8]>::as_slice),
        next_renewal.map(bytes).as_ref().map(<[u8; 8]>::as_slice),
    ])
}
