//! One fetch of one key set, from take-off to landing.

use std::sync::Arc;

use tokenward_core::freshness::FetchPlan;

use super::{Inner, Source};
use crate::{
    acquire::{Effort, Validators, acquire},
    telemetry,
};

/// Fetches, hands the outcome to the entry, wakes those who wait, and stores the snapshot.
pub(super) async fn fly(inner: Arc<Inner>, source: Arc<Source>, plan: FetchPlan) {
    let mut airborne = Airborne {
        inner: &inner,
        source: &source,
        ticket: Some(plan.ticket),
    };
    let Some(target) = source.target() else { return };
    let validators = plan.validators.map(|known| Validators {
        etag: known.etag,
        last_modified: known.last_modified,
    });
    let effort = if plan.single_attempt {
        Effort::Single
    } else {
        Effort::Full
    };
    let began = inner.clock.steady();
    let acquired = acquire(
        &*inner.fetcher,
        &*inner.clock,
        &*inner.random,
        &target,
        validators.as_ref(),
        effort,
    )
    .await;
    airborne.ticket = None;
    let took = inner.clock.steady().since(began);
    let changed = source.land(&inner, plan.ticket, acquired, took);
    if let Some(store) = inner.snapshots.as_ref().filter(|_| changed) {
        let config = source.config();
        let (tenant, name) = (config.tenant(), config.name());
        let stored = match source.snapshot() {
            Some(snapshot) => store.put(&snapshot).await,
            None => store.remove(tenant, name).await,
        };
        if let Err(error) = stored {
            telemetry::snapshot_failed(
                "a key set could not be stored; a restart will not know it",
                &error,
            );
        }
        // Whoever retired the source meanwhile has removed an earlier snapshot, not this one.
        if source.is_retired()
            && let Err(error) = store.remove(tenant, name).await
        {
            telemetry::snapshot_failed("the key set of a removed provider could not be deleted", &error);
        }
    }
}

/// A fetch that has not landed. Dropped, also by a panic, it leaves the entry as if it had never begun.
struct Airborne<'a> {
    inner: &'a Arc<Inner>,
    source: &'a Arc<Source>,
    ticket: Option<u64>,
}

impl Drop for Airborne<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.source.abandon(self.inner, ticket);
        }
    }
}
