//! Clocks finer than the library's.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time, of the machine or of this thread's work.
#[derive(Clone, Copy)]
pub(crate) struct Instant(ClockId, Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self::of(ClockId::Monotonic)
    }

    /// How long this thread has worked so far: waiting, for a lock or for the processor, does not count.
    pub(crate) fn of_this_thread() -> Self {
        Self::of(ClockId::ThreadCPUTime)
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::of(self.0).1 - self.1
    }

    fn of(clock: ClockId) -> Self {
        let time = clock_gettime(clock);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Self(clock, Duration::new(seconds.unwrap(), nanoseconds.unwrap()))
    }
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// The one below which the share `part` lies.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len() as f64 * part) as usize;
    sorted[index.min(sorted.len() - 1)]
}

#[expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for: their clock is the system's"
)]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
