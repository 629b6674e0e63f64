//! The audit log as rows.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use tokenward_core::Timestamp;

use super::writer::Failure;
use crate::{
    AUDIT_KEPT, AuditRecord,
    digest::{Digest, digest},
};

pub(super) const BEFORE: &str = "SELECT * FROM audit WHERE number < ? ORDER BY number DESC";

/// The oldest of a kind, as many as are over. How many there are is counted, so that none of those that stay are looked at.
pub(super) const OVER: &str = "DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE action = ?1 AND (outcome = 'ok') = ?2 \
     ORDER BY number LIMIT max(0, (SELECT kept FROM audit_kind WHERE action = ?1 AND succeeded = ?2) - ?3))";

pub(super) fn append(connection: &Connection, records: &[AuditRecord]) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO audit (at, who, address, action, target, outcome, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for record in records {
        *kinds.entry(record.kind()).or_default() += 1;
        insert.execute(params![
            record.at.as_millis(),
            record.who,
            record.address,
            record.action,
            record.target,
            record.outcome,
            digest_of(record),
        ])?;
    }
    let mut count = connection.prepare_cached(
        "INSERT INTO audit_kind (action, succeeded, kept) VALUES (?1, ?2, ?3) \
         ON CONFLICT (action, succeeded) DO UPDATE SET kept = kept + ?3",
    )?;
    let mut delete = connection.prepare_cached(OVER)?;
    for ((action, succeeded), added) in kinds {
        count.execute(params![action, succeeded, added])?;
        let deleted = delete.execute(params![action, succeeded, AUDIT_KEPT])?;
        if deleted > 0 {
            let deleted = i64::try_from(deleted).unwrap_or(i64::MAX);
            count.execute(params![action, succeeded, -deleted])?;
        }
    }
    Ok(())
}

/// A damaged record is skipped with a warning: the others are still worth reading.
pub(super) fn page(
    connection: &Connection,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, AuditRecord)>, Failure> {
    let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    let mut select = connection.prepare_cached(BEFORE)?;
    let mut rows = select.query([before])?;
    let mut page = Vec::new();
    while page.len() < limit
        && let Some(row) = rows.next()?
    {
        let number: u64 = row.get("number")?;
        match read(row) {
            Ok((record, true)) => page.push((number, record)),
            Ok((_, false)) => tracing::error!(
                number,
                "Skipping a damaged record of the audit log: its digest does not match"
            ),
            Err(error) => {
                tracing::error!(number, %error, "Skipping a damaged record of the audit log: it cannot be read");
            }
        }
    }
    Ok(page)
}

/// The record, and whether its digest matches.
fn read(row: &Row<'_>) -> rusqlite::Result<(AuditRecord, bool)> {
    let stored: Digest = row.get("digest")?;
    let record = AuditRecord {
        at: Timestamp::from_millis(row.get("at")?),
        who: row.get("who")?,
        address: row.get("address")?,
        action: row.get("action")?,
        target: row.get("target")?,
        outcome: row.get("outcome")?,
    };
    let matches = digest_of(&record) == stored;
    Ok((record, matches))
}

fn digest_of(record: &AuditRecord) -> Digest {
    let AuditRecord {
        at,
        who,
        address,
        action,
        target,
        outcome,
    } = record;
    digest(&[
        Some(b"audit"),
        Some(&at.as_millis().to_be_bytes()),
        Some(who.as_bytes()),
        Some(address.as_bytes()),
        Some(action.as_bytes()),
        Some(target.as_bytes()),
        Some(outcome.as_bytes()),
    ])
}
