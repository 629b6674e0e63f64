//! When a server that does not answer is not asked any more.

use std::time::Duration;

use crate::StoreError;

/// Failures in a row after which it is not asked.
const FAILURES: u32 = 3;

/// How long after that it is tried first, and the longest time between two trials.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Counts failures: connections that could not be made or broke, and answers that did not come. An answer that says no is none.
#[derive(Default)]
pub(super) struct Breaker {
    failures: u32,
    /// What failed last; none since something succeeded.
    last: Option<StoreError>,
}

impl Breaker {
    /// Fails at once while it is open.
    pub(super) fn pass(&self) -> Result<(), StoreError> {
        match &self.last {
            Some(error) if self.failures >= FAILURES => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether it opens with this failure.
    pub(super) fn failed(&mut self, error: &StoreError) -> bool {
        self.last = Some(error.clone());
        self.failures = self.failures.saturating_add(1);
        self.failures == FAILURES
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing has failed since something succeeded.
    pub(super) fn is_well(&self) -> bool {
        self.failures == 0
    }
}

/// How long to wait before each trial.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreErrorKind;

    #[test]
    fn three_failures_in_a_row_open_it_and_one_success_closes_it() {
        let error = StoreError::new(StoreErrorKind::Unavailable, "gone");
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            assert!(!breaker.failed(&error) && !breaker.failed(&error));
            assert!(breaker.pass().is_ok() && !breaker.is_well());
            breaker.succeeded();
            assert!(breaker.is_well());
        }
        let opened: Vec<_> = (0..5).map(|_| breaker.failed(&error)).collect();
        assert_eq!(opened, [false, false, true, false, false], "it opens once");
        assert_eq!(breaker.pass().unwrap_err().to_string(), "gone");
        breaker.succeeded();
        assert!(breaker.pass().is_ok() && !breaker.failed(&error));
    }

    #[test]
    fn trials_come_within_a_second_of_each_other() {
        let millis: Vec<_> = pauses().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1000, 1000, 1000]);
    }
}
