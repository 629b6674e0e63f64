//! How many identity providers are not as they should be, counted as it happens.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// How many identity providers are not as they should be. Asking costs the same with one and with 100,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Those whose keys were neither fetched nor restored, and were not tried to.
    pub untried: usize,
    /// Those that are required and have no usable keys.
    pub keyless_required: usize,
    /// Those whose last attempt failed, or that have no usable keys after an attempt.
    pub failing: usize,
}

/// What is not as it should be with one of them: a set of the bits below.
#[derive(Default)]
pub(super) struct Marks(AtomicU8);

pub(super) const UNTRIED: u8 = 1;
pub(super) const KEYLESS_REQUIRED: u8 = 2;
pub(super) const FAILING: u8 = 4;

/// The sums over all marks.
#[derive(Default)]
pub(super) struct Tally {
    untried: AtomicUsize,
    keyless_required: AtomicUsize,
    failing: AtomicUsize,
}

impl Tally {
    /// Replaces what is counted for one identity provider. Its owner serialises the calls for it.
    pub(super) fn note(&self, marks: &Marks, now: u8) {
        let before = marks.0.swap(now, Ordering::AcqRel);
        for (bit, count) in [
            (UNTRIED, &self.untried),
            (KEYLESS_REQUIRED, &self.keyless_required),
            (FAILING, &self.failing),
        ] {
            match (before & bit != 0, now & bit != 0) {
                (false, true) => count.fetch_add(1, Ordering::AcqRel),
                (true, false) => count.fetch_sub(1, Ordering::AcqRel),
                _ => continue,
            };
        }
    }

    pub(super) fn read(&self) -> Health {
        let read = |count: &AtomicUsize| count.load(Ordering::Acquire);
        Health {
            untried: read(&self.untried),
            keyless_required: read(&self.keyless_required),
            failing: read(&self.failing),
        }
    }
}
