//! Points in time, and the clock that everything outside this crate is driven by.

use std::{
    fmt,
    future::Future,
    ops::{Add, Sub},
    pin::Pin,
    time::Duration,
};

use serde::{Serialize, Serializer};

/// Milliseconds since the Unix epoch, UTC.
///
/// Arithmetic saturates: a hostile duration can reach the end of time but never wrap round it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Later than any deadline: stands for "never".
    pub const MAX: Self = Self(i64::MAX);

    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment `secs` seconds after the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(millis(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(millis(rhs)))
    }
}

/// RFC 3339 in UTC, with milliseconds only where there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = (
            jiff::Timestamp::MIN.as_millisecond(),
            jiff::Timestamp::MAX.as_millisecond(),
        );
        match jiff::Timestamp::from_millisecond(self.0.clamp(limits.0, limits.1)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A boxed future, as object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where time comes from. Everything that waits or compares times is given one, so a test can drive it.
pub trait Clock: Send + Sync + 'static {
    /// Civil time, for what other parties date: `exp`, `nbf`, `iat`, `Date` and `Expires` headers.
    fn wall(&self) -> Timestamp;

    /// Civil time at start plus the time that has passed since, suspends included. It never jumps, so
    /// every cadence, cool-down and deadline of ours is counted on it.
    fn steady(&self) -> Timestamp;

    /// Ends once [`Clock::steady`] has moved on by `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(
            Timestamp::from_secs(5).since(Timestamp::from_secs(9)),
            Duration::ZERO
        );
        assert_eq!(Timestamp::from_secs(i64::MAX), Timestamp::MAX);
    }

    #[test]
    fn displays_rfc_3339() {
        assert_eq!(Timestamp::from_secs(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_millis(1_764_079_200_250).to_string(),
            "2025-11-25T14:00:00.25Z"
        );
        assert!(!Timestamp::MAX.to_string().is_empty());
    }
}
