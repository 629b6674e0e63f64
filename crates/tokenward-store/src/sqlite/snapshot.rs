//! Snapshots as rows.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use tokenward_core::Timestamp;

use crate::Snapshot;
use crate::digest::{Digest, digest};

pub(super) fn put(connection: &Connection, snapshot: &Snapshot) -> rusqlite::Result<()> {
    let max_age = millis(snapshot.upstream_max_age);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO snapshot (tenant, name, url, config_hash, body, etag, last_modified, \
             fetched_at, upstream_max_age, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            snapshot.tenant,
            snapshot.name,
            snapshot.url,
            snapshot.config_hash,
            snapshot.body,
            snapshot.etag,
            snapshot.last_modified,
            snapshot.fetched_at.as_millis(),
            max_age,
            digest_of(snapshot, max_age),
        ])?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, tenant: &str, name: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM snapshot WHERE tenant = ? AND name = ?")?
        .execute([tenant, name])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, tenant: &str, name: &str) -> rusqlite::Result<Option<Snapshot>> {
    let id = connection
        .prepare_cached("SELECT rowid FROM snapshot WHERE tenant = ? AND name = ?")?
        .query_row([tenant, name], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    Ok(load(&mut one(connection)?, id))
}

pub(super) fn load_all(connection: &Connection) -> rusqlite::Result<Vec<Snapshot>> {
    // Otherwise each row takes the file's locks, and gives them back.
    let _reading = connection.unchecked_transaction()?;
    // The ids come from the index of the primary key, and each row is read by itself: a damaged page of the
    // table takes the rows on it with it, and no others.
    let mut ids: Vec<i64> = connection
        .prepare_cached("SELECT rowid FROM snapshot ORDER BY tenant, name")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    // As they lie in the file.
    ids.sort_unstable();
    let mut select = one(connection)?;
    let mut snapshots: Vec<_> = ids.into_iter().filter_map(|id| load(&mut select, id)).collect();
    snapshots.sort_unstable_by(|one, other| (&one.tenant, &one.name).cmp(&(&other.tenant, &other.name)));
    Ok(snapshots)
}

fn one(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(
        "SELECT tenant, name, url, config_hash, body, etag, last_modified, fetched_at, upstream_max_age, digest \
         FROM snapshot WHERE rowid = ?",
    )
}

/// `None`, with a warning, where the row cannot be read or is not what was written.
fn load(select: &mut CachedStatement<'_>, id: i64) -> Option<Snapshot> {
    match select.query_row([id], read) {
        Ok((snapshot, true)) => Some(snapshot),
        Ok((snapshot, false)) => {
            let Snapshot { tenant, name, .. } = snapshot;
            tracing::warn!(
                row = id,
                tenant,
                name,
                "Skipping a damaged snapshot: its digest does not match"
            );
            None
        }
        Err(error) => {
            tracing::warn!(row = id, %error, "Skipping a damaged snapshot: it cannot be read");
            None
        }
    }
}

/// The snapshot, and whether its digest matches.
fn read(row: &Row<'_>) -> rusqlite::Result<(Snapshot, bool)> {
    // By the places in [`one`]: names would be looked for in each of very many rows.
    let max_age: Option<i64> = row.get(8)?;
    let stored: Digest = row.get(9)?;
    let snapshot = Snapshot {
        tenant: row.get(0)?,
        name: row.get(1)?,
        url: row.get(2)?,
        config_hash: row.get(3)?,
        body: row.get(4)?,
        etag: row.get(5)?,
        last_modified: row.get(6)?,
        fetched_at: Timestamp::from_millis(row.get(7)?),
        upstream_max_age: max_age
            .and_then(|age| u64::try_from(age).ok())
            .map(Duration::from_millis),
    };
    let matches = digest_of(&snapshot, max_age) == stored;
    Ok((snapshot, matches))
}

fn millis(age: Option<Duration>) -> Option<i64> {
    age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

fn digest_of(snapshot: &Snapshot, max_age: Option<i64>) -> Digest {
    let Snapshot {
        tenant,
        name,
        url,
        config_hash,
        body,
        etag,
        last_modified,
        fetched_at,
        upstream_max_age: _, // as stored: `max_age`
    } = snapshot;
    digest(&[
        Some(tenant.as_bytes()),
        Some(name.as_bytes()),
        Some(url.as_bytes()),
        Some(config_hash),
        Some(body),
        etag.as_deref().map(str::as_bytes),
        last_modified.as_deref().map(str::as_bytes),
        Some(&fetched_at.as_millis().to_be_bytes()),
        max_age.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice),
    ])
}
