//! One fetch of one key set, from take-off to landing, and the storing of it.

use std::sync::{Arc, atomic::Ordering};

use tokenward_core::freshness::FetchPlan;
use tokenward_store::StoreError;

use super::{Inner, Source};
use crate::acquire::{Effort, Validators, acquire};

/// Fetches, hands the outcome to the entry, and wakes those who wait. True where what is stored has to change.
pub(super) async fn fly(inner: Arc<Inner>, source: Arc<Source>, plan: FetchPlan) -> bool {
    let mut airborne = Airborne {
        inner: &inner,
        source: &source,
        ticket: Some(plan.ticket),
    };
    let Some(target) = source.target() else {
        return false;
    };
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
    source.land(&inner, plan.ticket, acquired, took)
}

/// Stores the set of now, or that there is none any more.
pub(super) async fn save(inner: &Inner, source: &Source) -> Result<(), StoreError> {
    let Some(store) = &inner.snapshots else {
        return Ok(());
    };
    if source.is_retired() {
        return Ok(());
    }
    source.unsaved.store(false, Ordering::Release);
    let config = source.config();
    let (tenant, name) = (config.tenant(), config.name());
    let stored = match source.snapshot() {
        Some(snapshot) => store.put(&snapshot).await,
        None => store.remove(tenant, name).await,
    };
    if stored.is_err() {
        source.unsaved.store(true, Ordering::Release);
    }
    // Whoever retired the source meanwhile has removed an earlier snapshot, not this one.
    if source.is_retired() {
        return store.remove(tenant, name).await;
    }
    stored
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
