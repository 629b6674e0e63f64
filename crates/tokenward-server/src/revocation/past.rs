//! What may be forgotten: a civil time that is not believed to leap.

use std::sync::{Mutex, PoisonError};

use tokenward_core::{Clock, Timestamp};

/// A time that is never ahead of the civil clock and goes on no faster than time passes while a process runs.
///
/// A process cannot tell a clock that was set far ahead from a long sleep, and what a leap of the clock ended would be accepted
/// again once the clock is right. So the time between two runs does not count, and a clock that is wrong gains nothing: records
/// are kept for longer, never for shorter. They do not pile up, since none is made while nothing runs.
pub(super) struct Past(Mutex<Look>);

#[derive(Clone, Copy)]
struct Look {
    past: Timestamp,
    /// When that was, in steady time.
    at: Timestamp,
}

impl Past {
    /// Goes on where a process before this one ended; a store in which nothing was ever forgotten begins with the civil time.
    pub(super) fn new(last: Option<Timestamp>, clock: &dyn Clock) -> Self {
        let (wall, at) = (clock.wall(), clock.steady());
        Self(Mutex::new(Look {
            past: last.map_or(wall, |last| last.min(wall)),
            at,
        }))
    }

    /// The time, now. It has to be looked at whenever a record is made as well: one that is made while the clock is behind is
    /// short-lived by that clock.
    pub(super) fn look(&self, clock: &dyn Clock) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock.steady();
        let past = clock.wall().min(last.past + at.since(last.at));
        *last = Look { past, at };
        past
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokenward_testkit::ManualClock;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn time_passes_as_it_does_and_never_leaps() {
        let clock = ManualClock::default();
        let start = clock.wall();
        let past = Past::new(None, &clock);
        assert_eq!(past.look(&clock), start);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), start + HOUR);
        // Set ahead while it runs, and right again.
        clock.set_wall(start + HOUR * 10_000);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), start + HOUR * 2);
        clock.set_wall(start + HOUR * 2);
        assert_eq!(past.look(&clock), start + HOUR * 2);
        // Set back, and right again: the time that the clock was behind for is not made up.
        clock.set_wall(start);
        assert_eq!(past.look(&clock), start);
        clock.set_wall(start + HOUR * 2);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), start + HOUR);
    }

    #[test]
    fn time_between_two_processes_does_not_count() {
        let clock = ManualClock::default();
        let last = clock.wall() - HOUR * 10_000;
        let past = Past::new(Some(last), &clock);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), last + HOUR);
        // One that ran with a clock that was ahead is not believed either.
        let past = Past::new(Some(clock.wall() + HOUR), &clock);
        assert_eq!(past.look(&clock), clock.wall());
    }
}
