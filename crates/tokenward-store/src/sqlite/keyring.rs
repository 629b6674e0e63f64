//! The keyring's row.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::writer::Failure;
use crate::digest::{Digest, digest};

pub(super) fn get(connection: &Connection) -> Result<Option<(u64, Vec<u8>)>, Failure> {
    let found = connection
        .prepare_cached("SELECT version, bytes, digest FROM keyring")?
        .query_row([], |row| {
            let (version, bytes): (u64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let matches = row.get::<_, Vec<u8>>(2)? == digest_of(version, &bytes);
            Ok((version, bytes, matches))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((version, bytes, true)) => Ok(Some((version, bytes))),
        Some((_, _, false)) => Err(Failure::Damaged(
            "the signing keys in its table `keyring` are not what was stored. Put a backup in its place"
                .to_owned(),
        )),
    }
}

pub(super) fn put(connection: &Connection, expected: u64, bytes: &[u8]) -> Result<bool, Failure> {
    if version(connection)? != expected {
        return Ok(false);
    }
    write(connection, expected.saturating_add(1), bytes)
}

/// Takes the place of an older version.
#[cfg(feature = "redis")]
pub(super) fn keep(connection: &Connection, newer: u64, bytes: &[u8]) -> Result<bool, Failure> {
    let known = version(connection)?;
    // Two of one version are those of two histories of the shared store: the one that it goes on with counts.
    if known > newer || (known == newer && get(connection)?.is_some_and(|(_, known)| known == bytes)) {
        return Ok(false);
    }
    write(connection, newer, bytes)
}

/// 0: there is none.
fn version(connection: &Connection) -> Result<u64, Failure> {
    let version: Option<u64> = connection
        .prepare_cached("SELECT version FROM keyring")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

fn write(connection: &Connection, version: u64, bytes: &[u8]) -> Result<bool, Failure> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO keyring (only, version, bytes, digest) VALUES (1, ?, ?, ?)")?
        .execute(params![version, bytes, digest_of(version, bytes)])?;
    Ok(true)
}

fn digest_of(version: u64, bytes: &[u8]) -> Digest {
    digest(&[Some(b"keyring"), Some(&version.to_be_bytes()), Some(bytes)])
}
