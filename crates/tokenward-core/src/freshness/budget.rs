//! How many fetches may be caused by what clients send.

use std::time::Duration;

use crate::Timestamp;

/// Who brought a token, for the fair sharing of budgets: a number that the caller of the library chooses, for
/// example a hash of an address or of a credential's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(u64);

impl CallerId {
    /// The caller with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A bucket of fetches that refills one at a time. Until one is back, whoever took it holds it, and one caller can
/// hold at most half of the bucket: somebody who sends nothing but rubbish leaves the other half to the rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    /// What is out: who holds it, and when it is back, soonest first. Never more than the bucket's size, so callers
    /// who got nothing leave no trace.
    held: Vec<(CallerId, Timestamp)>,
}

impl Budget {
    /// Takes one of `size`, of which one comes back every `refill`.
    pub(super) fn take(&mut self, size: u32, refill: Duration, caller: CallerId, now: Timestamp) -> bool {
        self.held.retain(|(_, back)| now < *back);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let own = self.held.iter().filter(|(holder, _)| *holder == caller).count();
        if self.held.len() >= size || own >= (size / 2).max(1) {
            return false;
        }
        let after = self.held.last().map_or(now, |(_, back)| *back);
        self.held.push((caller, after + refill));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFILL: Duration = Duration::from_secs(30);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    #[test]
    fn two_at_once_then_one_in_thirty_seconds() {
        let mut budget = Budget::default();
        let granted: Vec<i64> = (0..120)
            .flat_map(|second| (0..10).map(move |n| (second, n)))
            .filter(|(second, n)| budget.take(2, REFILL, CallerId::new(*n), at(*second)))
            .map(|(second, _)| second)
            .collect();
        assert_eq!(granted, [0, 0, 30, 60, 90]);
    }

    #[test]
    fn one_caller_never_takes_the_other_half() {
        let (mut budget, rubbish) = (Budget::default(), CallerId::new(1));
        let mut granted = 0;
        for second in 0..600 {
            granted += u32::from(budget.take(2, REFILL, rubbish, at(second)));
            if second % 60 == 59 {
                assert!(
                    budget.take(2, REFILL, CallerId::new(2), at(second)),
                    "at {second}"
                );
            }
        }
        assert_eq!(granted, 11);
    }

    #[test]
    fn one_caller_alone_has_one_in_thirty_seconds() {
        let (mut budget, alone) = (Budget::default(), CallerId::new(1));
        let granted: Vec<i64> = (0..120)
            .filter(|second| budget.take(2, REFILL, alone, at(*second)))
            .collect();
        assert_eq!(granted, [0, 30, 60, 90]);
    }

    #[test]
    fn callers_who_were_refused_are_not_remembered() {
        let mut budget = Budget::default();
        for caller in 0..100_000 {
            budget.take(2, REFILL, CallerId::new(caller), at(0));
        }
        assert_eq!(budget.held.len(), 2);
        assert!(budget.take(2, REFILL, CallerId::new(9), at(1_000)));
        assert_eq!(budget.held.len(), 1);
    }

    #[test]
    fn a_bucket_of_one_can_be_had_by_one_caller() {
        let mut budget = Budget::default();
        assert!(budget.take(1, REFILL, CallerId::new(1), at(0)));
        assert!(!budget.take(1, REFILL, CallerId::new(2), at(29)));
        assert!(budget.take(1, REFILL, CallerId::new(2), at(30)));
    }
}
