//! The one task that decides when a key set is fetched.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokenward_core::{
    Timestamp,
    freshness::{Cause, FetchPlan},
};
use tokio::{
    sync::{Notify, watch},
    task::{self, JoinError, JoinSet},
};
use tracing::Instrument as _;

use super::{
    Inner, Source,
    flight::{self, Landing},
    keep::{MAX_WRITES, Origin, UNSTORED},
    lock,
    places::{Places, Ticket},
    sharing::Lease,
};
use crate::telemetry;

/// The longest sleep: after a suspend the kernel's timers are late, so the schedule is looked at this often.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// How long a set may wait to be stored with others, while more are in the air: a store that commits in groups needs one
/// sync of the disk for all of them.
const LINGER: Duration = Duration::from_millis(100);

/// What others tell the driver. Each source stands in it at most once, so it is bounded by their number.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Vec<Arc<Source>>>,
    wake: Notify,
}

impl Inbox {
    /// Asks the driver to look at `source` again.
    pub(super) fn poke(&self, source: &Arc<Source>) {
        self.poke_all(std::iter::once(source));
    }

    /// The same for many, which it takes in together.
    pub(super) fn poke_all<'a>(&self, sources: impl Iterator<Item = &'a Arc<Source>>) {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.extend(
            sources
                .filter(|source| !source.poked.swap(true, Ordering::AcqRel))
                .cloned(),
        );
        if waiting.len() > before {
            drop(waiting);
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Vec<Arc<Source>> {
        let taken = std::mem::take(&mut *lock(&self.waiting));
        for source in &taken {
            source.poked.store(false, Ordering::Release);
        }
        taken
    }
}

/// Why a place is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Scheduled,
    OnDemand,
}

/// What the driver knows of a source.
struct Known {
    source: Arc<Source>,
    wakeup: Option<Timestamp>,
    queued: bool,
}

/// What is to be done in the store, in this order.
struct Errands {
    source: Arc<Source>,
    save: Option<Origin>,
    release: Option<Lease>,
}

/// One ordered set of wake-ups and two bounded pools of fetches, for all identity providers.
pub(super) struct Driver {
    inner: Arc<Inner>,
    wakeups: BTreeSet<(Timestamp, u64)>,
    known: HashMap<u64, Known>,
    scheduled: Places<Arc<Source>>,
    /// Fetches that a caller waits for have places of their own, so that a busy schedule does not hold them up.
    on_demand: Places<Arc<Source>>,
    flights: JoinSet<Landing>,
    places: HashMap<task::Id, (u64, Class, Ticket)>,
    /// What the store is to be told, each provider once, and in which order. A slow store keeps nobody from fetching.
    errands: HashMap<u64, Errands>,
    order: VecDeque<u64>,
    /// When those that wait are told to the store, whatever else is going on.
    tell_at: Option<Timestamp>,
    /// Where others have the store too, they wait for what is told it.
    linger: Duration,
    writes: JoinSet<()>,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, max_concurrent_fetches: usize) -> Self {
        Self {
            linger: match inner.shared_store() {
                Some(_) => Duration::ZERO,
                None => LINGER,
            },
            inner,
            wakeups: BTreeSet::new(),
            known: HashMap::new(),
            scheduled: Places::new(max_concurrent_fetches),
            on_demand: Places::new(max_concurrent_fetches),
            flights: JoinSet::new(),
            places: HashMap::new(),
            errands: HashMap::new(),
            order: VecDeque::new(),
            tell_at: None,
            writes: JoinSet::new(),
        }
    }

    /// Runs until `stop` says so or its sender is gone. Fetches in the air are dropped then, which leaves the
    /// sets as they are.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            for source in self.inner.inbox.take() {
                self.look_at(source);
            }
            self.land();
            let now = self.inner.clock.steady();
            while let Some((at, id)) = self.wakeups.first().copied()
                && at <= now
            {
                self.wakeups.pop_first();
                self.wake_up(id, now);
            }
            self.start(now);
            if self.has_enough(now) {
                self.save();
            }
            let running = self.flights.len();
            telemetry::fetches(self.scheduled.waiting() + self.on_demand.waiting(), running);
            let changes = [self.scheduled.next_change(), self.on_demand.next_change()];
            let next = changes
                .into_iter()
                .flatten()
                .chain(self.wakeups.first().map(|(at, _)| *at))
                .chain(self.tell_at.filter(|_| self.may_write()));
            let sleep = next.min().map_or(MAX_SLEEP, |at| at.since(now).min(MAX_SLEEP));
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                Some(ended) = self.flights.join_next_with_id() => self.ended(ended),
                Some(_) = self.writes.join_next() => while self.writes.try_join_next().is_some() {},
                () = self.inner.inbox.wake.notified() => {}
                () = self.inner.clock.sleep(sleep) => {}
            }
        }
        // What has landed is not in the air any more.
        self.land();
        self.flights.shutdown().await;
        self.save();
        // Each has its deadline.
        while self.writes.join_next().await.is_some() {}
    }

    /// Takes in every fetch that has ended.
    fn land(&mut self) {
        while let Some(ended) = self.flights.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    /// A source is new, was changed, was retired, or has a fetch that a caller waits for.
    fn look_at(&mut self, source: Arc<Source>) {
        let id = source.id;
        if source.is_retired() {
            if let Some(known) = self.known.remove(&id)
                && let Some(at) = known.wakeup
            {
                self.wakeups.remove(&(at, id));
            }
            return;
        }
        if source.has_plan() {
            let standing = source.standing();
            self.on_demand.queue(Arc::clone(&source), standing);
        }
        let adopted = source.was_adopted().then_some(Origin::Adopted);
        self.known.entry(id).or_insert(Known {
            source,
            wakeup: None,
            queued: false,
        });
        self.tell(id, adopted, None);
        self.schedule(id);
    }

    fn schedule(&mut self, id: u64) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        let next = (!known.queued).then(|| known.source.next_wakeup());
        if known.wakeup != next {
            if let Some(at) = known.wakeup {
                self.wakeups.remove(&(at, id));
            }
            if let Some(at) = next {
                self.wakeups.insert((at, id));
            }
            known.wakeup = next;
        }
    }

    fn wake_up(&mut self, id: u64, now: Timestamp) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.wakeup = None;
        if known.source.tick(&self.inner, now) {
            known.queued = true;
            let standing = known.source.standing();
            self.scheduled.queue(Arc::clone(&known.source), standing);
        } else {
            self.schedule(id);
        }
    }

    fn start(&mut self, now: Timestamp) {
        while let Some((source, ticket)) = self.on_demand.next(now) {
            let plan = source.take_plan();
            self.take_off(source, plan, Class::OnDemand, ticket);
        }
        while let Some((source, ticket)) = self.scheduled.next(now) {
            if let Some(known) = self.known.get_mut(&source.id) {
                known.queued = false;
            }
            let plan = source.begin(Cause::Scheduled, now);
            self.take_off(source, plan, Class::Scheduled, ticket);
        }
    }

    fn take_off(&mut self, source: Arc<Source>, plan: Option<FetchPlan>, class: Class, ticket: Ticket) {
        let id = source.id;
        match plan {
            Some(plan) if !source.is_retired() => {
                let span = telemetry::refresh_span(&source.config());
                let flight = flight::fly(Arc::clone(&self.inner), source, plan).instrument(span);
                let task = self.flights.spawn(flight);
                self.places.insert(task.id(), (id, class, ticket));
            }
            _ => self.free(class, &ticket),
        }
        self.schedule(id);
    }

    fn ended(&mut self, ended: Result<(task::Id, Landing), JoinError>) {
        let (task, landing) = ended.unwrap_or_else(|error| (error.id(), Landing::default()));
        let Some((id, class, ticket)) = self.places.remove(&task) else {
            return;
        };
        self.free(class, &ticket);
        self.schedule(id);
        self.tell(id, landing.changed, landing.lease);
    }

    /// Has the store told what there is to tell.
    fn tell(&mut self, id: u64, changed: Option<Origin>, release: Option<Lease>) {
        let save = changed.filter(|_| self.inner.snapshots.is_some());
        let to_do = save.is_some() || release.is_some();
        let Some(known) = self.known.get(&id).filter(|_| to_do) else {
            return;
        };
        if save == Some(Origin::Fetched) {
            known.source.unsaved.store(true, Ordering::Release);
        }
        match self.errands.entry(id) {
            Entry::Occupied(mut earlier) => {
                let earlier = earlier.get_mut();
                // What was fetched and is not stored yet is to be stored, whatever was taken over since.
                earlier.save = earlier.save.filter(|origin| *origin == Origin::Fetched).or(save);
                // Where there is another, the earlier one has ended.
                earlier.release = release.or(earlier.release.take());
            }
            Entry::Vacant(none) => {
                none.insert(Errands {
                    source: Arc::clone(&known.source),
                    save,
                    release,
                });
                self.order.push_back(id);
                let (clock, linger) = (&self.inner.clock, self.linger);
                self.tell_at.get_or_insert_with(|| clock.steady() + linger);
            }
        }
    }

    /// Whether it is time to tell the store: as many wait as it takes at once, no others are about to, or the first one
    /// has waited long enough.
    fn has_enough(&self, now: Timestamp) -> bool {
        self.order.len() >= MAX_WRITES || self.flights.is_empty() || self.tell_at.is_some_and(|at| at <= now)
    }

    /// Tells the store what waits, as far as it may be given more.
    fn save(&mut self) {
        if self.linger.is_zero() {
            self.save_each();
        } else if self.may_write() && !self.order.is_empty() {
            self.save_together();
        }
        if self.order.is_empty() {
            self.tell_at = None;
        }
    }

    fn may_write(&self) -> bool {
        self.writes.len() < if self.linger.is_zero() { MAX_WRITES } else { 1 }
    }

    fn save_together(&mut self) {
        let count = self.order.len().min(MAX_WRITES);
        let waiting = self.order.drain(..count);
        let names: Vec<_> = waiting
            .filter_map(|id| self.errands.remove(&id))
            .map(|errands| errands.source.config())
            .map(|config| (config.shared_tenant(), config.shared_name()))
            .collect();
        let inner = Arc::clone(&self.inner);
        self.writes.spawn(async move { inner.keep_together(names).await });
    }

    fn save_each(&mut self) {
        while self.may_write()
            && let Some(errands) = self.order.pop_front().and_then(|id| self.errands.remove(&id))
        {
            let inner = Arc::clone(&self.inner);
            self.writes.spawn(async move {
                let config = errands.source.config();
                if let Some(origin) = errands.save
                    && let Err(error) = inner.keep_from(config.tenant(), config.name(), origin).await
                {
                    telemetry::snapshot_failed(UNSTORED, &error);
                }
                // Not before the set is stored: whoever fetches next is to find it.
                if let Some(lease) = &errands.release {
                    inner.release(&errands.source, lease).await;
                }
            });
        }
    }

    fn free(&mut self, class: Class, ticket: &Ticket) {
        match class {
            Class::Scheduled => self.scheduled.free(ticket),
            Class::OnDemand => self.on_demand.free(ticket),
        }
    }
}
