//! Revocations as rows.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokenward_core::Timestamp;

use super::{family, writer::Failure};
use crate::{
    PRUNED, Revocation, RevocationRule, Revoked,
    digest::{Digest, digest},
};

/// In the order in which a row is read: by place, since a start reads very many.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT sequence, id, issuer, kind, value, time, expires_at, created_at, note, digest FROM revocation ",
            $rest
        )
    };
}

pub(super) const BY_RULE: &str = select!("WHERE issuer = ? AND kind = ? AND value = ?");
const BY_ID: &str = select!("WHERE id = ?");
pub(super) const AFTER: &str = select!("WHERE sequence > ? ORDER BY sequence");
pub(super) const EXPIRED: &str = "DELETE FROM revocation WHERE sequence IN \
     (SELECT sequence FROM revocation WHERE expires_at <= ? LIMIT ?)";

pub(super) fn revoke(connection: &Connection, revocation: &Revocation) -> Result<Revoked, Failure> {
    if let RevocationRule::Parent(parent_jti) = &revocation.rule {
        family::remove(connection, parent_jti)?;
    }
    let effective = match of_rule(connection, &revocation.issuer, &revocation.rule)? {
        None => revocation.clone(),
        Some((sequence, former)) => {
            let grown = former.grown(revocation);
            if grown == former {
                return Ok(Revoked {
                    sequence,
                    effective: former,
                });
            }
            grown
        }
    };
    let sequence = write(connection, &effective)?;
    Ok(Revoked { sequence, effective })
}

/// Keeps what another store has, under the id that it has there, and says what is in force: what was kept here of its rule may
/// refuse more.
#[cfg(feature = "redis")]
pub(super) fn adopt(connection: &Connection, record: &Revocation) -> Result<Revocation, Failure> {
    let former = of_rule(connection, &record.issuer, &record.rule)?;
    let effective = match &former {
        None => record.clone(),
        Some((_, former)) => Revocation {
            id: record.id.clone(),
            created_at: record.created_at,
            ..former.grown(record)
        },
    };
    if former.is_none_or(|(_, former)| former != effective) {
        write(connection, &effective)?;
    }
    Ok(effective)
}

/// The record of a rule, and its sequence.
pub(super) fn of_rule(
    connection: &Connection,
    issuer: &str,
    rule: &RevocationRule,
) -> Result<Option<(u64, Revocation)>, Failure> {
    let (kind, value) = rule.key();
    connection
        .prepare_cached(BY_RULE)?
        .query_row([issuer, kind, value], |row| Ok(checked(row)))
        .optional()?
        .transpose()
}

/// In the place of the one of its rule, under a new sequence.
fn write(connection: &Connection, effective: &Revocation) -> Result<u64, Failure> {
    let (kind, value) = effective.rule.key();
    let sequence = connection
        .prepare_cached("UPDATE counter SET value = value + 1 WHERE name = 'revocations' RETURNING value")?
        .query_row([], |row| row.get(0))?;
    connection
        .prepare_cached(
            "INSERT INTO revocation (sequence, id, issuer, kind, value, time, expires_at, created_at, note, \
             digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (issuer, kind, value) DO \
             UPDATE SET sequence = ?1, id = ?2, time = ?6, expires_at = ?7, created_at = ?8, note = ?9, digest = ?10",
        )?
        .execute(params![
            sequence,
            effective.id,
            effective.issuer,
            kind,
            value,
            effective.rule.time().map(Timestamp::as_millis),
            effective.expires_at.map(Timestamp::as_millis),
            effective.created_at.as_millis(),
            effective.note,
            digest_of(effective),
        ])?;
    Ok(sequence)
}

pub(super) fn page(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Revocation)>, Failure> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(AFTER)?;
    let mut rows = select.query([after])?;
    let mut page = Vec::new();
    while page.len() < limit
        && let Some(row) = rows.next()?
    {
        page.push(checked(row)?);
    }
    Ok(page)
}

pub(super) fn get(connection: &Connection, id: &str) -> Result<Option<Revocation>, Failure> {
    let found = connection
        .prepare_cached(BY_ID)?
        .query_row([id], |row| Ok(checked(row)))
        .optional()?;
    Ok(found.transpose()?.map(|(_, revocation)| revocation))
}

pub(super) fn delete(connection: &Connection, id: &str) -> Result<bool, Failure> {
    let deleted = connection
        .prepare_cached("DELETE FROM revocation WHERE id = ?")?
        .execute([id])?;
    Ok(deleted > 0)
}

pub(super) fn prune(connection: &Connection, now: Timestamp) -> Result<usize, Failure> {
    Ok(connection
        .prepare_cached(EXPIRED)?
        .execute(params![now.as_millis(), PRUNED])?)
}

/// A damaged one is an error: without it a revoked token would be accepted.
fn checked(row: &Row<'_>) -> Result<(u64, Revocation), Failure> {
    match read(row) {
        Ok((sequence, revocation, true)) => Ok((sequence, revocation)),
        _ => Err(Failure::Damaged(format!(
            "row {} of its table `revocation` is not what was stored. Put a backup in its place, or delete this \
             row and revoke again what it revoked",
            row.get::<_, i64>(0)?
        ))),
    }
}

/// The sequence, the revocation, and whether its digest matches.
fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Revocation, bool)> {
    let time = |place: usize| -> rusqlite::Result<Option<Timestamp>> {
        let millis: Option<i64> = row.get(place)?;
        Ok(millis.map(Timestamp::from_millis))
    };
    let kind = row.get_ref(3)?.as_str()?;
    let rule = RevocationRule::from_parts(kind, row.get(4)?, time(5)?);
    let revocation = Revocation {
        id: row.get(1)?,
        issuer: row.get(2)?,
        rule: rule.ok_or(rusqlite::Error::InvalidQuery)?,
        expires_at: time(6)?,
        created_at: Timestamp::from_millis(row.get(7)?),
        note: row.get(8)?,
    };
    let stored: Digest = row.get(9)?;
    let matches = digest_of(&revocation) == stored;
    Ok((row.get(0)?, revocation, matches))
}

/// Without the sequence, which says nothing about any token.
fn digest_of(revocation: &Revocation) -> Digest {
    let Revocation {
        id,
        issuer,
        rule,
        expires_at,
        created_at,
        note,
    } = revocation;
    let (kind, value) = rule.key();
    let bytes = |time: Timestamp| time.as_millis().to_be_bytes();
    digest(&[
        Some(b"revocation"),
        Some(id.as_bytes()),
        Some(issuer.as_bytes()),
        Some(kind.as_bytes()),
        Some(value.as_bytes()),
        rule.time().map(bytes).as_ref().map(<[u8; 8]>::as_slice),
        expires_at.map(bytes).as_ref().map(<[u8; 8]>::as_slice),
        Some(&bytes(*created_at)),
        Some(note.as_bytes()),
    ])
}
