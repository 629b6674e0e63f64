//! One fetch of one key set, from take-off to landing.

use std::sync::Arc;

use tokenward_core::freshness::FetchPlan;

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
