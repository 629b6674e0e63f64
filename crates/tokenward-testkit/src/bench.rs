//! How benchmarks measure: clocks finer than the library's, things that take turns, and the rows that come of it.

use std::{sync::OnceLock, time::Duration};

use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// A point in time, of the machine, of this process's work or of this thread's.
#[derive(Clone, Copy, Debug)]
pub struct Instant(ClockId, Duration);

impl Instant {
    /// On the wall.
    #[must_use]
    pub fn now() -> Self {
        Self::of(ClockId::Monotonic)
    }

    /// How long this thread has worked so far: waiting, for a lock or for the processor, does not count.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self::of(ClockId::ThreadCPUTime)
    }

    /// How long all threads of this process have worked so far.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::of(ClockId::ProcessCPUTime)
    }

    /// How long ago that was, by the same clock.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::of(self.0).1 - self.1
    }

    fn of(clock: ClockId) -> Self {
        let time = clock_gettime(clock);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(clock, Duration::new(time.tv_sec.unsigned_abs(), nanoseconds))
    }
}

/// The middle one; of an even number the upper of the two.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// The one below which the share `part` lies.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len() as f64 * part) as usize;
    *sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .expect("there is one")
}

/// Waits, for another process.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for: their clock is the system's"
)]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Binds this thread, and the threads and programs that it starts from now on, to one of the processors that this process had when
/// it first asked: the first is 0, and beyond the last it is the first again.
///
/// # Panics
/// If the system does not let it.
pub fn pin(place: usize) {
    static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| sched_getaffinity(None).expect("a thread may know where it runs"));
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).cycle();
    let mut one = CpuSet::new();
    one.set(allowed.nth(place).expect("a thread runs somewhere"));
    sched_setaffinity(None, &one).expect("a thread may run on fewer processors");
}

/// Nanoseconds of this thread's work for one call, of so many. Each is told its number.
pub fn each(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let began = Instant::of_this_thread();
    for number in 0..calls {
        call(number);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let calls = calls as f64;
    began.elapsed().as_secs_f64() * 1e9 / calls
}

/// What two things cost that take turns.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// The median of the one.
    pub one: f64,
    /// The median of the other.
    pub other: f64,
    /// The median of what the one is to the other in each round.
    pub ratio: f64,
}

/// Measures in turn. A round before the first is not counted.
///
/// # Panics
/// If there is no round.
pub fn compare(rounds: usize, mut one: impl FnMut() -> f64, mut other: impl FnMut() -> f64) -> Compared {
    let (mut ones, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=rounds {
        ones.push(one());
        others.push(other());
    }
    for (one, other) in ones.iter().zip(&others) {
        ratios.push(one / other);
    }
    let middle = |mut figures: Vec<f64>| {
        figures.remove(0);
        figures.sort_by(f64::total_cmp);
        *figures.get(figures.len() / 2).expect("there is a round")
    };
    Compared {
        one: middle(ones),
        other: middle(others),
        ratio: middle(ratios),
    }
}

/// Rows that `bench/run` collects into its table.
#[derive(Debug, Default)]
pub struct Rows {
    missed: bool,
}

impl Rows {
    /// A figure that is to be `limit` or less.
    pub fn at_most(&mut self, what: &str, figure: f64, limit: f64) {
        self.row(what, figure, '≤', limit, figure <= limit);
    }

    /// A figure that is to be `limit` or more.
    pub fn at_least(&mut self, what: &str, figure: f64, limit: f64) {
        self.row(what, figure, '≥', limit, figure >= limit);
    }

    /// Whether every row was as it is to be.
    #[must_use]
    pub const fn are_met(&self) -> bool {
        !self.missed
    }

    #[expect(clippy::print_stdout, reason = "it is what a benchmark is started for")]
    fn row(&mut self, what: &str, figure: f64, sign: char, limit: f64, is_met: bool) {
        self.missed |= !is_met;
        let outcome = if is_met { "met" } else { "MISSED" };
        println!("= {what:<76} {figure:>8.4} {sign} {limit:<7.4} {outcome}");
    }
}
