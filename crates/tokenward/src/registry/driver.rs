//! The one task that decides when a key set is fetched.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokenward_core::{
    Timestamp,
    freshness::{Cause, FetchPlan},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use super::{Inner, Source, flight, lock};
use crate::telemetry;

/// The longest sleep: after a suspend the kernel's timers are late, so the schedule is looked at this often.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// What others tell the driver. Each source stands in it at most once, so it is bounded by their number.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Vec<Arc<Source>>>,
    wake: Notify,
}

impl Inbox {
    /// Asks the driver to look at `source` again.
    pub(super) fn poke(&self, source: &Arc<Source>) {
        if !source.poked.swap(true, Ordering::AcqRel) {
            lock(&self.waiting).push(Arc::clone(source));
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

/// Places for fetches, of which those whose last attempt failed get at most a quarter: dead providers cannot
/// keep the healthy ones waiting.
struct Places {
    max: usize,
    healthy: VecDeque<Arc<Source>>,
    failing: VecDeque<Arc<Source>>,
    running: usize,
    running_failing: usize,
}

impl Places {
    fn new(max: usize) -> Self {
        Self {
            max,
            healthy: VecDeque::new(),
            failing: VecDeque::new(),
            running: 0,
            running_failing: 0,
        }
    }

    fn queue(&mut self, source: Arc<Source>) {
        if source.is_failing() {
            self.failing.push_back(source);
        } else {
            self.healthy.push_back(source);
        }
    }

    /// The next one that may start now, and whether it counts as failing.
    fn next(&mut self) -> Option<(Arc<Source>, bool)> {
        if self.running >= self.max {
            return None;
        }
        if self.running_failing < (self.max / 4).max(1)
            && let Some(source) = self.failing.pop_front()
        {
            self.running += 1;
            self.running_failing += 1;
            return Some((source, true));
        }
        let source = self.healthy.pop_front()?;
        self.running += 1;
        Some((source, false))
    }

    fn free(&mut self, failing: bool) {
        self.running -= 1;
        self.running_failing -= usize::from(failing);
    }

    fn waiting(&self) -> usize {
        self.healthy.len() + self.failing.len()
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

/// One ordered set of wake-ups and two bounded pools of fetches, for all identity providers.
pub(super) struct Driver {
    inner: Arc<Inner>,
    wakeups: BTreeSet<(Timestamp, u64)>,
    known: HashMap<u64, Known>,
    scheduled: Places,
    /// Fetches that a caller waits for have places of their own, so that a busy schedule does not hold them up.
    on_demand: Places,
    flights: JoinSet<()>,
    places: HashMap<tokio::task::Id, (u64, Class, bool)>,
}

impl Driver {
    pub(super) fn new(inner: Arc<Inner>, max_concurrent_fetches: usize) -> Self {
        Self {
            inner,
            wakeups: BTreeSet::new(),
            known: HashMap::new(),
            scheduled: Places::new(max_concurrent_fetches),
            on_demand: Places::new(max_concurrent_fetches),
            flights: JoinSet::new(),
            places: HashMap::new(),
        }
    }

    /// Runs until `stop` says so or its sender is gone. Fetches in the air are dropped then, which leaves the
    /// sets as they are.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            for source in self.inner.inbox.take() {
                self.look_at(source);
            }
            let now = self.inner.clock.steady();
            while let Some((at, id)) = self.wakeups.first().copied()
                && at <= now
            {
                self.wakeups.pop_first();
                self.wake_up(id, now);
            }
            self.start(now);
            let running = self.flights.len();
            telemetry::fetches(self.scheduled.waiting() + self.on_demand.waiting(), running);
            let sleep = self
                .wakeups
                .first()
                .map_or(MAX_SLEEP, |(at, _)| at.since(now).min(MAX_SLEEP));
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                Some(ended) = self.flights.join_next_with_id() => {
                    self.ended(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = self.inner.inbox.wake.notified() => {}
                () = self.inner.clock.sleep(sleep) => {}
            }
        }
        self.flights.shutdown().await;
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
            self.on_demand.queue(Arc::clone(&source));
        }
        self.known.entry(id).or_insert(Known {
            source,
            wakeup: None,
            queued: false,
        });
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
            self.scheduled.queue(Arc::clone(&known.source));
        } else {
            self.schedule(id);
        }
    }

    fn start(&mut self, now: Timestamp) {
        while let Some((source, failing)) = self.on_demand.next() {
            let plan = source.take_plan();
            self.take_off(source, plan, Class::OnDemand, failing);
        }
        while let Some((source, failing)) = self.scheduled.next() {
            if let Some(known) = self.known.get_mut(&source.id) {
                known.queued = false;
            }
            let plan = source.begin(Cause::Scheduled, now);
            self.take_off(source, plan, Class::Scheduled, failing);
        }
    }

    fn take_off(&mut self, source: Arc<Source>, plan: Option<FetchPlan>, class: Class, failing: bool) {
        let id = source.id;
        match plan {
            Some(plan) if !source.is_retired() => {
                let span = telemetry::refresh_span(&source.config());
                let flight = flight::fly(Arc::clone(&self.inner), source, plan).instrument(span);
                let task = self.flights.spawn(flight);
                self.places.insert(task.id(), (id, class, failing));
            }
            _ => self.free(class, failing),
        }
        self.schedule(id);
    }

    fn ended(&mut self, task: &tokio::task::Id) {
        if let Some((id, class, failing)) = self.places.remove(task) {
            self.free(class, failing);
            self.schedule(id);
        }
    }

    fn free(&mut self, class: Class, failing: bool) {
        match class {
            Class::Scheduled => self.scheduled.free(failing),
            Class::OnDemand => self.on_demand.free(failing),
        }
    }
}
