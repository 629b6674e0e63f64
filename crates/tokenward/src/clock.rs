//! The system's clock: the only place that reads it.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokenward_core::{BoxFuture, Clock, Timestamp};

/// Suspends count as time that has passed: a laptop or a paused virtual machine wakes with keys that are as old
/// as they are. Elsewhere `CLOCK_MONOTONIC` is the nearest there is.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ELAPSED: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const ELAPSED: ClockId = ClockId::Monotonic;

/// The runtime's timers stand still while the machine is suspended, so a long sleep looks at the clock again
/// after each of these and is late by one of them at most.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// The system's clock.
///
/// [`Clock::wall`] is the civil time of the operating system and jumps when that is set. [`Clock::steady`] starts
/// at the civil time of the clock's creation and goes on with the time since boot, suspends included; it never
/// jumps. Sleeping needs a Tokio runtime with its time driver.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Timestamp,
    elapsed_at_start: Duration,
}

impl SystemClock {
    /// A clock whose steady time starts at the civil time of now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: civil_time(),
            elapsed_at_start: elapsed(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        civil_time()
    }

    fn steady(&self) -> Timestamp {
        self.start + elapsed().saturating_sub(self.elapsed_at_start)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = *self;
        let end = clock.steady() + duration;
        Box::pin(async move {
            loop {
                let left = end.since(clock.steady());
                if left.is_zero() {
                    return;
                }
                nap(left.min(LONGEST_NAP)).await;
            }
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else takes its time from"
)]
fn nap(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else takes its time from"
)]
fn civil_time() -> Timestamp {
    let epoch = Timestamp::from_millis(0);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => epoch + since,
        Err(before) => epoch - before.duration(),
    }
}

fn elapsed() -> Duration {
    let time = clock_gettime(ELAPSED);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steady_time_starts_at_the_wall_and_moves_with_sleep() {
        let clock = SystemClock::new();
        let (wall, before) = (clock.wall(), clock.steady());
        assert!(wall.since(before) < Duration::from_secs(5) && before.since(wall) < Duration::from_secs(5));
        clock.sleep(Duration::from_millis(30)).await;
        assert!(clock.steady().since(before) >= Duration::from_millis(30));
        assert!(
            wall > Timestamp::from_secs(1_700_000_000),
            "civil time of this century: {wall}"
        );
    }
}
