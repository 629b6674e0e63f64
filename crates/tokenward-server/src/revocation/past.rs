//! What may be forgotten: a civil time that is not believed to leap.

use std::sync::{Mutex, PoisonError};

use tokenward_core::{Clock, Timestamp};

/// A time that follows the civil clock, goes on no faster than time passes while a process runs, and is never taken back.
///
/// A process cannot tell a clock that was set far ahead from a long sleep, and what a leap of the clock ended would be accepted
/// again once the clock is right. So the time between two runs does not count, and a clock that is wrong gains nothing: records
/// are kept for longer, never for shorter. They do not pile up, since none is made while nothing runs. While the clock stands
/// behind it the time rests: one look at a clock that is years behind must not cost years.
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
            past: last.unwrap_or(wall),
            at,
        }))
    }

    /// Goes on from a later time that is known to be over.
    pub(super) fn raise(&self, past: Timestamp, clock: &dyn Clock) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock.steady();
        let past = past.max(last.past);
        *last = Look { past, at };
    }

    /// The time, now. It may be ahead of a clock that was set back.
    pub(super) fn look(&self, clock: &dyn Clock) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock.steady();
        let passed = last.past + at.since(last.at);
        let past = clock.wall().min(passed).max(last.past);
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
        // Set back, and right again: one look at it costs nothing but the time that it was behind for.
        clock.set_wall(start);
        assert_eq!(past.look(&clock), start + HOUR * 2);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), start + HOUR * 2);
        clock.set_wall(start + HOUR * 3);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), start + HOUR * 3);
    }

    #[test]
    fn time_between_two_processes_does_not_count() {
        let clock = ManualClock::default();
        let last = clock.wall() - HOUR * 10_000;
        let past = Past::new(Some(last), &clock);
        clock.advance(HOUR);
        assert_eq!(past.look(&clock), last + HOUR);
        // Nor does a start with a clock that is behind take anything back.
        let last = clock.wall() + HOUR;
        let past = Past::new(Some(last), &clock);
        assert_eq!(past.look(&clock), last);
        clock.advance(HOUR * 2);
        assert_eq!(past.look(&clock), last + HOUR);
    }
}
