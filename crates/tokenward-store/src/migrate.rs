use futures_util::future::try_join_all;

use crate::{AuditRecord, Ledger, Snapshots, StoreError};

/// How many of something are read, and written, at once.
const PAGE: usize = 500;

/// What a migration copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Key sets.
    pub snapshots: usize,
    /// Dynamic identity providers.
    pub idps: usize,
    /// Whether there was a keyring.
    pub keyring: bool,
    /// Families of tokens.
    pub families: usize,
    /// Revocations.
    pub revocations: usize,
    /// Records of the audit log.
    pub audit_records: usize,
}

/// Copies everything from one store to another, of whatever engines. The target must be empty and neither may
/// be written meanwhile. Numbers and sequences are given anew.
///
/// # Errors
///
/// With the first error of either store. The target is incomplete then, and must not be used.
pub async fn migrate<From, To>(from: &From, to: &To) -> Result<Migrated, StoreError>
where
    From: Snapshots + Ledger + ?Sized,
    To: Snapshots + Ledger + ?Sized,
{
    let mut copied = Migrated::default();
    // Those whose order does not matter go together, and share commits.
    let snapshots = from.load_all().await?;
    for page in snapshots.chunks(PAGE) {
        try_join_all(page.iter().map(|snapshot| to.put(snapshot))).await?;
    }
    copied.snapshots = snapshots.len();
    for idp in from.idps().await? {
        to.put_idp(&idp, usize::MAX).await?;
        copied.idps += 1;
    }
    if let Some((_, keyring)) = from.keyring().await? {
        to.put_keyring(0, &keyring).await?;
        copied.keyring = true;
    }
    if let Some(time) = from.pruned_at().await? {
        // There is nothing to be deleted yet.
        to.prune(time).await?;
    }
    // Before the families: a parent that was revoked has none.
    let mut after = 0;
    loop {
        let page = from.revocations(after, PAGE).await?;
        try_join_all(page.iter().map(|(_, revocation)| to.revoke(revocation))).await?;
        copied.revocations += page.len();
        match page.last() {
            Some((last, _)) => after = *last,
            None => break,
        }
    }
    let mut after = String::new();
    loop {
        let page = from.families(&after, PAGE).await?;
        try_join_all(page.iter().map(|family| to.open_family(family))).await?;
        copied.families += page.len();
        match page.last() {
            Some(last) => after.clone_from(&last.parent_jti),
            None => break,
        }
    }
    let newest_first = from.audit(None, usize::MAX).await?;
    let records: Vec<AuditRecord> = newest_first.into_iter().rev().map(|(_, record)| record).collect();
    for page in records.chunks(PAGE) {
        to.append_audit(page).await?;
    }
    copied.audit_records = records.len();
    Ok(copied)
}
