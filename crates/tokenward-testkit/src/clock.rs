//! A clock that moves only when a test says so, and one that is the system's.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use tokenward_core::{BoxFuture, Clock, Timestamp};

/// 2025-11-25T14:00:00Z, where a [`ManualClock::default`] begins.
const START: Timestamp = Timestamp::from_secs(1_764_079_200);

/// How often [`ManualClock::run_for`] lets other tasks run after each deadline it passes. A woken task may
/// hand work to another before it sleeps again, so one turn is not enough.
const TURNS: usize = 32;

/// A [`Clock`] driven by hand. Clones share one time.
///
/// Sleepers end in the order of their deadlines, and those with equal deadlines in the order they began.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    wall: Timestamp,
    steady: Timestamp,
    next_id: u64,
    /// By deadline, then by age. `None` until the sleep is first polled.
    sleepers: BTreeMap<(Timestamp, u64), Option<Waker>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(START)
    }
}

impl ManualClock {
    /// A clock whose two times both begin at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State {
            wall: start,
            steady: start,
            next_id: 0,
            sleepers: BTreeMap::new(),
        })))
    }

    /// Moves both times on at once and wakes every sleeper whose time has come, earliest first. The sleepers
    /// run later, when they are polled, and then see the new time.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut state = self.lock();
            state.wall = state.wall + by;
            state.steady = state.steady + by;
            let now = state.steady;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        for waker in due.into_values().flatten() {
            waker.wake();
        }
    }

    /// Moves on to each deadline in turn, letting other tasks of this runtime act at that very time, until
    /// `by` has passed. What a task begins to wait for on the way is served too.
    pub async fn run_for(&self, by: Duration) {
        let end = self.steady() + by;
        yield_turns().await;
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= end) {
            self.advance(deadline.since(self.steady()));
            yield_turns().await;
        }
        self.advance(end.since(self.steady()));
        yield_turns().await;
    }

    /// Sets civil time alone, as an operator or NTP would; [`Clock::steady`] does not notice.
    pub fn set_wall(&self, wall: Timestamp) {
        self.lock().wall = wall;
    }

    /// How many sleeps have begun and neither ended nor been dropped.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    /// When the next sleeper wakes, in steady time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.lock().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn yield_turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.lock().wall
    }

    fn steady(&self) -> Timestamp {
        self.lock().steady
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.lock();
        let entry = (state.steady + duration, state.next_id);
        state.next_id += 1;
        if !duration.is_zero() {
            state.sleepers.insert(entry, None);
        }
        drop(state);
        Box::pin(Sleep {
            clock: self.clone(),
            entry,
        })
    }
}

struct Sleep {
    clock: ManualClock,
    entry: (Timestamp, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if state.steady >= self.entry.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.entry, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.entry);
    }
}

/// The system's clock, for tests of what takes real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

#[expect(
    clippy::disallowed_methods,
    reason = "programs that are started by a test live in real time"
)]
impl Clock for RealClock {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("it is later than 1970");
        Timestamp::from_millis(0) + since
    }

    fn steady(&self) -> Timestamp {
        self.wall()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
