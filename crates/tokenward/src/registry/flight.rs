//! One fetch of one key set, from take-off to landing.

use std::sync::Arc;

use tokenward_core::freshness::FetchPlan;

use super::{
    Inner, Source,
    keep::Origin,
    sharing::{Course, Lease},
};
use crate::acquire::{Effort, Validators, acquire};

/// What is to be done in the store once a fetch has ended, in this order.
#[derive(Default)]
pub(super) struct Landing {
    /// What is stored of the provider has to change, and where the set of now is from.
    pub(super) changed: Option<Origin>,
    /// This is to be handed back.
    pub(super) lease: Option<Lease>,
}

/// Fetches, unless another process that has the same store did; hands the outcome to the entry, and wakes those who wait.
pub(super) async fn fly(inner: Arc<Inner>, source: Arc<Source>, plan: FetchPlan) -> Landing {
    let mut airborne = Airborne {
        inner: &inner,
        source: &source,
        ticket: Some(plan.ticket),
    };
    let unfetched = |lease| Landing {
        changed: source.was_adopted().then_some(Origin::Adopted),
        lease,
    };
    let (plan, mut lease) = match inner.arrange(&source, plan).await {
        Course::Fetch(plan, lease) => (plan, lease),
        Course::Over(lease) => return unfetched(lease),
    };
    let Some(target) = source.target() else {
        return unfetched(lease);
    };
    let validators = plan.validators.clone().map(|known| Validators {
        etag: known.etag,
        last_modified: known.last_modified,
    });
    let effort = if plan.single_attempt() {
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
    let now = inner.clock.steady();
    if lease.as_ref().is_some_and(|lease| lease.is_over(now)) && inner.is_overtaken(&source, &plan).await {
        return unfetched(lease);
    }
    airborne.ticket = None;
    let landed = source.land(&inner, plan.ticket, acquired, now.since(began));
    if let (Some(lease), Some(pause)) = (&mut lease, landed.pause) {
        lease.fail(pause);
    }
    let adopted = source.was_adopted().then_some(Origin::Adopted);
    Landing {
        changed: landed.changed.then_some(Origin::Fetched).or(adopted),
        lease,
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
