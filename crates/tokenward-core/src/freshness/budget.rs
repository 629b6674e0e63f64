//! How many fetches may be caused by what clients send.

use std::{collections::BTreeMap, time::Duration};

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
}

/// A bucket of fetches that refills over time. One caller can have at most half of it, in number and in rate, so
/// that somebody who sends nothing but rubbish leaves the other half to the rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    /// When the bucket will be full again.
    full_at: Timestamp,
    /// The same for the share of each caller that took something lately. Only what the bucket granted gets in,
    /// so it is bounded by the bucket.
    shares: BTreeMap<CallerId, Timestamp>,
}

impl Budget {
    /// Takes one of `size`, of which one comes back every `refill`.
    pub(super) fn take(&mut self, size: u32, refill: Duration, caller: CallerId, now: Timestamp) -> bool {
        let share = self.shares.get(&caller).copied().unwrap_or_default();
        let (half, slow) = ((size / 2).max(1), refill.saturating_mul(2));
        let (Some(full_at), Some(share)) = (
            taken(self.full_at, size, refill, now),
            taken(share, half, slow, now),
        ) else {
            return false;
        };
        self.full_at = full_at;
        self.shares.retain(|_, full_at| *full_at > now);
        self.shares.insert(caller, share);
        true
    }
}

/// When a bucket that would be full at `full_at` is full again if one is taken now. None where it is empty.
fn taken(full_at: Timestamp, size: u32, refill: Duration, now: Timestamp) -> Option<Timestamp> {
    let from = full_at.max(now);
    (from.since(now) <= refill.saturating_mul(size.saturating_sub(1))).then(|| from + refill)
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
        assert_eq!(granted, 10);
    }

    #[test]
    fn callers_who_were_refused_are_not_remembered() {
        let mut budget = Budget::default();
        for caller in 0..100_000 {
            budget.take(2, REFILL, CallerId::new(caller), at(0));
        }
        assert_eq!(budget.shares.len(), 2);
        assert!(budget.take(2, REFILL, CallerId::new(9), at(1_000)));
        assert_eq!(budget.shares.len(), 1);
    }

    #[test]
    fn a_bucket_of_one_can_be_had_by_one_caller() {
        let mut budget = Budget::default();
        assert!(budget.take(1, REFILL, CallerId::new(1), at(0)));
        assert!(!budget.take(1, REFILL, CallerId::new(2), at(29)));
        assert!(budget.take(1, REFILL, CallerId::new(2), at(30)));
    }
}
