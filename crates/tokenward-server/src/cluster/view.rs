//! How old what this replica knows of revocations may be.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokenward_core::{Timestamp, revocation::Index};

use crate::config::{OnStale, Revocation};

/// Nothing was ever known.
const NEVER: i64 = i64::MIN;

/// Tells the index until when it counts as complete.
pub(super) struct View {
    index: Arc<Index>,
    /// Since when something may be unknown here, in milliseconds of steady time.
    known_at: AtomicI64,
    terms: Mutex<Revocation>,
}

impl View {
    /// Nothing is known yet.
    pub(super) fn new(index: Arc<Index>, terms: Revocation) -> Self {
        let view = Self {
            index,
            known_at: AtomicI64::new(NEVER),
            terms: Mutex::new(terms.clone()),
        };
        view.set_terms(terms);
        view
    }

    /// All that was acknowledged until then is known here.
    pub(super) fn is_known_at(&self, time: Timestamp) {
        self.known_at.store(time.as_millis(), Ordering::Release);
        self.apply(&self.terms.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn set_terms(&self, terms: Revocation) {
        let mut current = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        *current = terms;
        self.apply(&current);
    }

    /// How old it is at a moment of steady time; none where nothing was ever known.
    pub(super) fn age(&self, now: Timestamp) -> Option<Duration> {
        match self.known_at.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(now.since(Timestamp::from_millis(at))),
        }
    }

    fn apply(&self, terms: &Revocation) {
        let until = match (terms.on_stale, self.known_at.load(Ordering::Acquire)) {
            (OnStale::Allow, _) => Timestamp::MAX,
            (OnStale::Deny, NEVER) => Timestamp::from_millis(NEVER),
            (OnStale::Deny, at) => Timestamp::from_millis(at) + terms.max_staleness,
        };
        self.index.complete_until(until);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use tokenward_core::{Denial, claims::Claims};

    use super::*;

    #[test]
    fn what_is_known_counts_for_as_long_as_it_may_and_from_the_beginning_not_at_all() {
        let index = Arc::new(Index::new(RandomState::new()));
        let marks = index.marks("i", &Claims::parse(b"{}").unwrap(), None);
        let admits = |millis| index.admit(&marks, Timestamp::from_millis(millis));
        let terms = |on_stale| Revocation {
            max_staleness: Duration::from_secs(60),
            on_stale,
        };
        let view = View::new(Arc::clone(&index), terms(OnStale::Deny));
        assert_eq!(admits(0), Err(Denial::RevocationUnavailable));
        assert_eq!(view.age(Timestamp::from_millis(5)), None);
        view.set_terms(terms(OnStale::Allow));
        assert_eq!(admits(i64::MAX), Ok(()));
        view.is_known_at(Timestamp::from_millis(1_000));
        assert_eq!(admits(i64::MAX), Ok(()));
        view.set_terms(terms(OnStale::Deny));
        assert_eq!(admits(61_000), Ok(()));
        assert_eq!(admits(61_001), Err(Denial::RevocationUnavailable));
        view.is_known_at(Timestamp::from_millis(2_000));
        assert_eq!(admits(62_000), Ok(()));
        let age = view.age(Timestamp::from_millis(62_000));
        assert_eq!(age, Some(Duration::from_secs(60)));
    }
}
