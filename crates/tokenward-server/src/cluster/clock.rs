//! The one clock of a cluster: that of its store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokenward_core::{BoxFuture, Clock, Timestamp, revocation::LONGEST_LEEWAY};

/// An answer that took longer says too little about when it was given.
const QUICK: Duration = Duration::from_millis(200);

/// How far the store's clock may be from ours before somebody should look at them.
const APART: Duration = Duration::from_secs(30);

/// How far the store's clock may be set back, as where another server takes the place of the one before, so that time rests
/// until it is as late again: a user's revocation must not be dated before tokens that were issued before it. What was dated
/// further ahead than that nobody accepts yet, and everybody would wait for a clock that was wrong.
const RESTS: Duration = LONGEST_LEEWAY;

/// No measurement yet.
const NONE: i64 = i64::MIN;

/// Civil time as the store has it, to a tenth of a second; ours until it was measured. Steady time is ours. So what one replica
/// dates can be compared with what another one does, and a civil clock of ours that is set moves nothing. It is not set back
/// but by more than [`RESTS`].
pub(crate) struct StoreClock {
    own: Arc<dyn Clock>,
    /// The store's time less our steady time, in milliseconds.
    ahead: AtomicI64,
    /// The latest time that was told, in milliseconds.
    latest: AtomicI64,
    told: AtomicBool,
}

impl StoreClock {
    /// Ours, as long as nothing is measured.
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        Self {
            own,
            ahead: AtomicI64::new(NONE),
            latest: AtomicI64::new(NONE),
            told: AtomicBool::new(false),
        }
    }

    /// Takes note that it was `time` at the store at some moment between two of our steady time.
    pub(super) fn measured(&self, time: Timestamp, asked: Timestamp, answered: Timestamp) {
        let took = answered.since(asked);
        if took > QUICK && self.ahead.load(Ordering::Acquire) != NONE {
            return;
        }
        let then = asked + took / 2;
        let ahead = time.as_millis().saturating_sub(then.as_millis());
        self.ahead.store(ahead.max(NONE + 1), Ordering::Release);
        let (store, own) = (self.measure(), self.own.wall());
        if Timestamp::from_millis(self.latest.load(Ordering::Acquire)).since(store) > RESTS {
            self.latest.store(store.as_millis(), Ordering::Release);
            tracing::warn!("the clock of the store's server was set back: it is followed");
        }
        let apart = store.since(own).max(own.since(store));
        if (apart > APART) != self.told.swap(apart > APART, Ordering::AcqRel) && apart > APART {
            tracing::warn!(
                seconds = apart.as_secs(),
                "the clock of the store's server and the one of this machine are far apart: tokens are dated by the store's"
            );
        }
    }
}

impl StoreClock {
    /// Takes note that another replica has dated something then.
    pub(super) fn heard(&self, time: Timestamp) {
        if time.since(self.measure()) <= RESTS {
            self.latest.fetch_max(time.as_millis(), Ordering::AcqRel);
        }
    }

    /// The store's time as it was measured last.
    fn measure(&self) -> Timestamp {
        match self.ahead.load(Ordering::Acquire) {
            NONE => self.own.wall(),
            ahead => Timestamp::from_millis(self.own.steady().as_millis().saturating_add(ahead)),
        }
    }
}

impl Clock for StoreClock {
    fn wall(&self) -> Timestamp {
        let time = self.measure();
        if self.ahead.load(Ordering::Acquire) == NONE {
            return time;
        }
        // All ask for it: it is written once in a millisecond at most.
        let mut latest = self.latest.load(Ordering::Acquire);
        if latest < time.as_millis() {
            latest = self.latest.fetch_max(time.as_millis(), Ordering::AcqRel);
        }
        time.max(Timestamp::from_millis(latest))
    }

    fn steady(&self) -> Timestamp {
        self.own.steady()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.own.sleep(duration)
    }
}

#[cfg(test)]
mod tests {
    use tokenward_testkit::ManualClock;

    use super::*;

    #[test]
    fn civil_time_is_the_stores_whatever_ours_is_set_to() {
        let own = ManualClock::default();
        let clock = StoreClock::new(Arc::new(own.clone()));
        let start = own.wall();
        assert_eq!(clock.wall(), start, "ours, while nothing is known");
        let hour = Duration::from_secs(3_600);
        let millis = Duration::from_millis;
        // Even a slow answer is better than none.
        let asked = own.steady();
        own.advance(millis(1_000));
        clock.measured(start + hour, asked, own.steady());
        assert_eq!(clock.wall(), start + hour + millis(500));
        let asked = own.steady();
        own.advance(millis(10));
        clock.measured(start + hour * 2, asked, own.steady());
        assert_eq!(clock.wall(), start + hour * 2 + millis(5));
        // A later one that is slow says less than what is known.
        let asked = own.steady();
        own.advance(millis(300));
        clock.measured(start, asked, own.steady());
        assert_eq!(clock.wall(), start + hour * 2 + millis(305));
        own.set_wall(start + hour * 1_000);
        assert_eq!(clock.wall(), start + hour * 2 + millis(305));
        own.advance(hour);
        assert_eq!(clock.wall(), start + hour * 3 + millis(305));
    }

    #[test]
    fn time_rests_where_another_server_is_behind_and_no_longer_than_verifiers_forgive() {
        let own = ManualClock::default();
        let clock = StoreClock::new(Arc::new(own.clone()));
        let start = own.wall();
        let second = Duration::from_secs(1);
        let is_now = |time| clock.measured(time, own.steady(), own.steady());
        is_now(start + second * 1_000);
        assert_eq!(clock.wall(), start + second * 1_000);
        // Another server, which is ten seconds behind.
        own.advance(second);
        assert_eq!(clock.wall(), start + second * 1_001);
        is_now(start + second * 991);
        assert_eq!(clock.wall(), start + second * 1_001);
        own.advance(second * 10);
        assert_eq!(clock.wall(), start + second * 1_001);
        own.advance(second);
        assert_eq!(clock.wall(), start + second * 1_002);
        // What was dated by other replicas is not before what is dated here.
        clock.heard(start + second * 1_005);
        assert_eq!(clock.wall(), start + second * 1_005);
        clock.heard(start + second * 1_003);
        own.advance(second * 5);
        assert_eq!(clock.wall(), start + second * 1_007);
        // As far as it is believed.
        clock.heard(start + second * 1_308);
        assert_eq!(clock.wall(), start + second * 1_007);
        is_now(start + second * 707);
        assert_eq!(clock.wall(), start + second * 1_007);
        is_now(start + second * 706);
        assert_eq!(clock.wall(), start + second * 706);
    }
}
