//! The one clock of a cluster: that of its store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokenward_core::{BoxFuture, Clock, Timestamp};

/// An answer that took longer says too little about when it was given.
const QUICK: Duration = Duration::from_millis(200);

/// How far the store's clock may be from ours before somebody should look at them.
const APART: Duration = Duration::from_secs(30);

/// No measurement yet.
const NONE: i64 = i64::MIN;

/// Civil time as the store has it, to a tenth of a second; ours until it was measured. Steady time is ours. So what one replica
/// dates can be compared with what another one does, and a civil clock of ours that is set moves nothing.
pub(crate) struct StoreClock {
    own: Arc<dyn Clock>,
    /// The store's time less our steady time, in milliseconds.
    ahead: AtomicI64,
    told: AtomicBool,
}

impl StoreClock {
    /// Ours, as long as nothing is measured.
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        Self {
            own,
            ahead: AtomicI64::new(NONE),
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
        let (store, own) = (self.wall(), self.own.wall());
        let apart = store.since(own).max(own.since(store));
        if (apart > APART) != self.told.swap(apart > APART, Ordering::AcqRel) && apart > APART {
            tracing::warn!(
                seconds = apart.as_secs(),
                "the clock of the store's server and the one of this machine are far apart: tokens are dated by the store's"
            );
        }
    }
}

impl Clock for StoreClock {
    fn wall(&self) -> Timestamp {
        match self.ahead.load(Ordering::Acquire) {
            NONE => self.own.wall(),
            ahead => Timestamp::from_millis(self.own.steady().as_millis().saturating_add(ahead)),
        }
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
}
