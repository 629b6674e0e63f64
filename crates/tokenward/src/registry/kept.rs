//! What a store has kept of the providers, read at a start.

use std::{collections::HashMap, num::NonZero, thread};

use tokenward_core::{
    freshness::{Restored, Upstream, Validators},
    jose::{KeySet, SetProblem},
};
use tokenward_store::Snapshot;
use tokio::{runtime::Handle, task::JoinSet};

use crate::telemetry;

/// A snapshot that has been read.
pub(super) struct Kept {
    pub(super) url: String,
    pub(super) config_hash: [u8; 32],
    pub(super) restored: Result<Restored, SetProblem>,
}

/// Reads them by tenant and name. A start waits for it, so all processors share it.
pub(super) async fn read_all(
    mut snapshots: Vec<Snapshot>,
    runtime: &Handle,
) -> HashMap<(String, String), Kept> {
    let mut all = HashMap::with_capacity(snapshots.len());
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = snapshots.len().div_ceil(processors).max(1);
    let mut shares = JoinSet::new();
    while !snapshots.is_empty() {
        let share = snapshots.split_off(snapshots.len().saturating_sub(share));
        let work = move || share.into_iter().map(named).collect::<Vec<_>>();
        shares.spawn_blocking_on(work, runtime);
    }
    while let Some(share) = shares.join_next().await {
        // Reading does not panic, and what is not there is fetched.
        all.extend(share.unwrap_or_default());
    }
    all
}

fn named(mut snapshot: Snapshot) -> ((String, String), Kept) {
    let name = (
        std::mem::take(&mut snapshot.tenant),
        std::mem::take(&mut snapshot.name),
    );
    let kept = Kept {
        url: std::mem::take(&mut snapshot.url),
        config_hash: snapshot.config_hash,
        restored: read(snapshot),
    };
    (name, kept)
}

/// The set of a snapshot. One that does not hold is as good as none.
pub(super) fn restored(snapshot: Snapshot) -> Option<Restored> {
    told(read(snapshot))
}

/// The same of what was read already.
pub(super) fn told(read: Result<Restored, SetProblem>) -> Option<Restored> {
    read.inspect_err(|problem| {
        telemetry::snapshot_failed("a stored key set is damaged; it is fetched first", problem);
    })
    .ok()
}

fn read(snapshot: Snapshot) -> Result<Restored, SetProblem> {
    let keys = KeySet::parse_kept(&snapshot.body)?;
    Ok(Restored {
        digest: keys.digest(),
        keys,
        fetched_at: snapshot.fetched_at,
        validators: Validators {
            etag: snapshot.etag,
            last_modified: snapshot.last_modified,
        },
        upstream: Upstream {
            max_age: snapshot.upstream_max_age,
            remaining: snapshot.upstream_max_age,
        },
    })
}
