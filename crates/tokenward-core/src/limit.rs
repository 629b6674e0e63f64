//! How often something may be done: the generic cell rate algorithm (GCRA), and what HTTP says about it.
//!
//! The state of a limit is one moment. It needs no history, no timer and no clean-up: a moment in the past means as
//! much as no state at all.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::Timestamp;

/// So many in a period, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    /// In seconds.
    period: NonZeroU32,
}

impl Rate {
    /// `count` in each second.
    #[must_use]
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self {
            count,
            period: NonZeroU32::MIN,
        }
    }

    /// `count` in each minute.
    #[must_use]
    pub const fn per_minute(count: NonZeroU32) -> Self {
        Self {
            count,
            period: NonZeroU32::MIN.saturating_add(59),
        }
    }

    /// `count` in each hour.
    #[must_use]
    pub const fn per_hour(count: NonZeroU32) -> Self {
        Self {
            count,
            period: NonZeroU32::MIN.saturating_add(3_599),
        }
    }

    /// How many there may be in a period, and at once.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count.get()
    }

    /// The period.
    #[must_use]
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.period.get() as u64)
    }

    /// The value of `RateLimit-Policy` for this rate under `name`, which must be printable ASCII without quotes and
    /// backslashes (draft-ietf-httpapi-ratelimit-headers, section 3).
    #[must_use]
    pub fn policy(self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.count, self.period)
    }

    /// Between two, in nanoseconds: rounded up, so that a rate is never exceeded.
    fn interval(self) -> i128 {
        let period = i128::from(self.period.get()) * 1_000_000_000;
        let count = i128::from(self.count.get());
        (period + count - 1) / count
    }
}

/// The state of one limit. It outlives a change of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// When all is there again, in nanoseconds since the epoch: the "theoretical arrival time". One hour of a rate is a
    /// whole number of them for each of its uses, which milliseconds are not.
    whole_at: i128,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many there may be at once, now.
    pub remaining: u32,
    /// How long until all is there again.
    pub whole_in: Duration,
    /// How long until there may be another; zero where there may be one now.
    pub next_in: Duration,
}

impl Quota {
    /// The value of `RateLimit` for the limit whose policy is called `name` (draft-ietf-httpapi-ratelimit-headers,
    /// section 4). The time is in seconds, rounded up.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        format!("\"{name}\";r={};t={}", self.remaining, seconds(self.whole_in))
    }

    /// The value of `Retry-After` (RFC 9110 section 10.2.3): whole seconds after which there may be another, at least one.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        seconds(self.next_in).max(1)
    }
}

/// There were too many. What was refused costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded(pub Quota);

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too many; another in {} s", self.0.retry_after())
    }
}

impl std::error::Error for Exceeded {}

impl Limit {
    /// Takes one of `rate` at `now`.
    ///
    /// However `now` jumps, nobody waits for longer than between two of the rate: what a clock that was set back leaves
    /// behind in the future counts as no more than a limit that is used up.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Result<Quota, Exceeded> {
        let now = nanos(now);
        let interval = rate.interval();
        let capacity = interval * i128::from(rate.count.get());
        self.whole_at = self.whole_at.clamp(now, now + capacity);
        let allowed = self.whole_at + interval - now <= capacity;
        if allowed {
            self.whole_at += interval;
        }
        let used = self.whole_at - now;
        let free = capacity - used;
        let quota = Quota {
            remaining: u32::try_from(free / interval).unwrap_or(0),
            whole_in: duration(used),
            next_in: duration(interval - free),
        };
        if allowed { Ok(quota) } else { Err(Exceeded(quota)) }
    }

    /// Whether all is there at `now`, so that the state need not be kept.
    #[must_use]
    pub fn is_whole(&self, now: Timestamp) -> bool {
        self.whole_at <= nanos(now)
    }
}

fn nanos(at: Timestamp) -> i128 {
    i128::from(at.as_millis()) * 1_000_000
}

fn duration(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn after(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn so_many_at_once_and_then_one_after_the_other() {
        let rate = Rate::per_minute(count(3));
        let mut limit = Limit::default();
        let remaining: Vec<_> = (0..3)
            .map(|_| limit.take(rate, START).unwrap().remaining)
            .collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = limit.take(rate, START).unwrap_err().0;
        assert_eq!(
            (refused.remaining, refused.next_in, refused.whole_in),
            (0, Duration::from_secs(20), Duration::from_secs(60))
        );
        assert_eq!(
            limit.take(rate, after(19_999)).unwrap_err().0.next_in,
            Duration::from_millis(1),
            "what is refused costs nothing"
        );
        let last = limit.take(rate, after(20_000)).unwrap();
        assert_eq!(last.next_in, Duration::from_secs(20));
        assert!(!limit.is_whole(after(79_999)));
        assert!(limit.is_whole(after(80_000)));
        assert_eq!(limit.take(rate, after(200_000)).unwrap().remaining, 2);
    }

    #[test]
    fn what_http_says_about_it() {
        let rate = Rate::per_minute(count(7));
        let mut limit = Limit::default();
        assert_eq!(rate.policy("token"), "\"token\";q=7;w=60");
        assert_eq!(Rate::per_hour(count(5)).policy("a"), "\"a\";q=5;w=3600");
        assert_eq!(Rate::per_second(count(5)).policy("a"), "\"a\";q=5;w=1");
        let quota = limit.take(rate, START).unwrap();
        assert_eq!(quota.header("token"), "\"token\";r=6;t=9");
        while limit.take(rate, START).is_ok() {}
        let refused = limit.take(rate, after(8_000)).unwrap_err().0;
        assert_eq!(refused.header("token"), "\"token\";r=0;t=53");
        assert_eq!(refused.retry_after(), 1);
        assert_eq!(limit.take(rate, after(100)).unwrap_err().0.retry_after(), 9);
    }

    #[test]
    fn another_rate_takes_over_what_was_used() {
        let (slow, quick) = (Rate::per_hour(count(2)), Rate::per_second(count(10)));
        let mut limit = Limit::default();
        while limit.take(slow, START).is_ok() {}
        // An hour of the old rate is not an hour in which the new one is used up.
        assert!(limit.take(quick, START).is_err());
        assert!(limit.take(quick, after(100)).is_ok());
        assert_eq!(limit.take(quick, after(2_000)).unwrap().remaining, 9);
    }

    fn rates() -> impl Strategy<Value = Rate> {
        prop_oneof![
            (1_u32..3_000).prop_map(|n| Rate::per_second(count(n))),
            (1_u32..3_000).prop_map(|n| Rate::per_minute(count(n))),
            (1_u32..3_000).prop_map(|n| Rate::per_hour(count(n))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_more_than_the_burst_and_the_rate_in_any_window(
            rate in rates(),
            steps in proptest::collection::vec((0_u64..5_000, 1_usize..200), 1..60),
        ) {
            let (mut limit, mut now, mut admitted) = (Limit::default(), 0, Vec::new());
            for (wait, asked) in steps {
                now += wait;
                let got = (0..asked).filter(|_| limit.take(rate, after(now)).is_ok()).count();
                admitted.push((now, got as u128));
            }
            let (most, period) = (u128::from(rate.count()), rate.period().as_millis());
            prop_assert!(rate.interval() * i128::from(rate.count()) >= nanos(Timestamp::default() + rate.period()));
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (until, got) in &admitted[first..] {
                    sum += got;
                    // Compared without division: sum <= most + most * time / period.
                    prop_assert!(sum * period <= most * period + most * u128::from(until - from));
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_never_refused(rate in rates(), asks in 1_usize..300) {
            let (mut limit, mut now) = (Limit::default(), START);
            for _ in 0..asks {
                let next = match limit.take(rate, now) {
                    Ok(quota) => quota.next_in,
                    Err(_) => return Err(TestCaseError::fail("refused after the wait")),
                };
                // The clock counts milliseconds.
                now = now + (next + Duration::from_nanos(999_999));
            }
        }

        #[test]
        fn remaining_is_how_many_there_are(rate in rates(), used in 0_usize..100, wait in 0_u64..10_000) {
            let mut limit = Limit::default();
            for _ in 0..used {
                let _ = limit.take(rate, START);
            }
            let later = after(wait);
            if let Ok(quota) = limit.take(rate, later) {
                let more = (0..4_000).take_while(|_| limit.take(rate, later).is_ok()).count();
                prop_assert_eq!(more, quota.remaining as usize);
            }
        }

        #[test]
        fn a_clock_that_is_set_back_locks_nobody_out(
            rate in rates(),
            jumps in proptest::collection::vec(-10_000_000_000_i64..10_000_000_000, 1..40),
        ) {
            let (mut limit, mut now) = (Limit::default(), START.as_millis());
            for jump in jumps {
                now = now.saturating_add(jump);
                let at = Timestamp::from_millis(now);
                let admitted = (0..4_000).take_while(|_| limit.take(rate, at).is_ok()).count();
                prop_assert!(admitted <= rate.count() as usize);
                let refused = limit.take(rate, at).unwrap_err().0;
                prop_assert!(refused.next_in <= rate.period());
                now = (at + (refused.next_in + Duration::from_nanos(999_999))).as_millis();
                prop_assert!(limit.take(rate, Timestamp::from_millis(now)).is_ok());
            }
        }

        #[test]
        fn no_time_breaks_it(rate in rates(), times in proptest::collection::vec(any::<i64>(), 1..40)) {
            let mut limit = Limit::default();
            for time in times {
                let _ = limit.take(rate, Timestamp::from_millis(time));
                let _ = limit.take(rate, Timestamp::MAX);
            }
        }
    }
}
