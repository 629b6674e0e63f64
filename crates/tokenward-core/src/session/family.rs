//! When the children of a parent are renewed.

use std::{num::NonZeroU32, time::Duration};

use crate::{Timestamp, limit::Rate, revocation};

/// Renewals of one parent that may be asked for: 60 a minute.
pub const RENEWALS: Rate = Rate::per_minute(NonZeroU32::MIN.saturating_add(59));

/// How renewal is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// How long before the end of a child its successor is minted, at most; 120 s by default.
    pub threshold: Duration,
    /// For how long a child that was just minted is given out again instead of another; 10 s by default.
    pub reuse_window: Duration,
}

/// When the first child of a parent is minted without being asked for: at once, unless the pair came with one.
#[must_use]
pub fn first_renewal(
    renewal: &Renewal,
    now: Timestamp,
    child: Option<(Timestamp, Timestamp)>,
    parent_ends: Timestamp,
) -> Option<Timestamp> {
    match child {
        Some((issued_at, expires_at)) => next_renewal(renewal, issued_at, expires_at, parent_ends),
        None => (now < parent_ends).then_some(now),
    }
}

/// When the child after this one is due: `threshold` before it ends, or a third of its life where that is shorter. None
/// where it ends with its parent: nothing could come after it.
#[must_use]
pub fn next_renewal(
    renewal: &Renewal,
    issued_at: Timestamp,
    expires_at: Timestamp,
    parent_ends: Timestamp,
) -> Option<Timestamp> {
    let lead = renewal.threshold.min(expires_at.since(issued_at) / 3);
    (expires_at < parent_ends).then(|| expires_at - lead)
}

impl Renewal {
    /// Whether the latest child is still the answer to those who ask for a new one: for any number of callers at once,
    /// and for one whose answer got lost.
    #[must_use]
    pub fn gives_again(&self, minted_at: Timestamp, expires_at: Timestamp, now: Timestamp) -> bool {
        // One that was minted after a revocation in the same second is stamped ahead. A clock that was set back by more than
        // that must not extend the window.
        let ahead = Duration::from_secs(revocation::MAX_AHEAD.unsigned_abs() + 1);
        minted_at.since(now) <= ahead && now.since(minted_at) < self.reuse_window && now < expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEWAL: Renewal = Renewal {
        threshold: Duration::from_secs(120),
        reuse_window: Duration::from_secs(10),
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_child_is_due_before_the_last_one_ends_and_never_after_its_parent() {
        for (issued, ends, parent, due) in [
            (0, 900, 10_000, Some(780)),
            (0, 360, 10_000, Some(240)),
            (0, 300, 10_000, Some(200)),
            (0, 3, 10_000, Some(2)),
            (0, 900, 901, Some(780)),
            (0, 900, 900, None),
            (0, 900, 800, None),
        ] {
            assert_eq!(
                next_renewal(&RENEWAL, at(issued), at(ends), at(parent)),
                due.map(at),
                "{ends}"
            );
        }
        assert_eq!(first_renewal(&RENEWAL, at(5), None, at(10)), Some(at(5)));
        assert_eq!(first_renewal(&RENEWAL, at(10), None, at(10)), None);
        assert_eq!(
            first_renewal(&RENEWAL, at(5), Some((at(0), at(900))), at(9_999)),
            Some(at(780))
        );
    }

    #[test]
    fn the_same_child_is_given_within_the_window_only() {
        let again = |now| RENEWAL.gives_again(at(100), at(105), at(now));
        assert!(again(100) && again(104));
        assert!(!again(105), "it has ended");
        let again = |now| RENEWAL.gives_again(at(100), at(900), at(now));
        assert!(again(109) && !again(110));
        assert!(
            again(69) && !again(68),
            "stamped ahead, or a clock that was set back"
        );
    }
}
