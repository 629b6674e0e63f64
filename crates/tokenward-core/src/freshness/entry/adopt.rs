//! What others that have the same store find out for this entry.

use std::time::Duration;

use super::{Entry, Flight};
use crate::{
    Timestamp,
    freshness::{
        backoff,
        facts::{Adopted, Errand, FetchPlan, Finished, Restored},
    },
    jose::KeySet,
};

/// How far ahead of ours the clock of whoever fetched a set may be.
const SKEW: Duration = Duration::from_secs(10);

impl Entry {
    /// Takes over a set that somebody else fetched, as old as it is, while the fetch `ticket` is in the air. None, and
    /// nothing changes, where it is not newer than what is there, is past its deadline or from the future, or was
    /// fetched before the last purge or change of settings.
    ///
    /// What of the fetch in the air such a set is no answer to goes on.
    pub fn adopt(&mut self, ticket: u64, other: Restored, now: Timestamp, unit: f64) -> Option<Adopted> {
        let flight = self.flight.as_ref()?;
        let known = self.view.fetched_at.filter(|_| self.view.keys(now).is_some());
        let newer = known.is_none_or(|known| known < other.fetched_at) && self.adopts_from < other.fetched_at;
        if flight.ticket != ticket || flight.outdated || !newer || now + SKEW < other.fetched_at {
            return None;
        }
        let fetched_at = other.fetched_at.min(now);
        let fresh_for = self.settings.cadence(other.upstream, unit).fresh_for;
        if fetched_at + fresh_for + self.settings.stale_while_error <= now {
            return None;
        }
        let finished = if self.is_current(other.digest, now) {
            Finished::default()
        } else {
            let mut keys = other.keys;
            let dropped = self.truncate(&mut keys, now);
            if keys.usable().is_empty() {
                return None;
            }
            self.take_over(keys, other.digest, dropped, now)
        };
        self.hold(other.validators, other.upstream, fetched_at, unit);
        let plan = self.what_is_left(now);
        if plan.is_none() {
            self.flight = None;
        }
        Some(Adopted { finished, plan })
    }

    /// What of the fetch in the air the set of now is no answer to.
    fn what_is_left(&mut self, now: Timestamp) -> Option<FetchPlan> {
        let validators = self.ask_with(now);
        let keys = self.view.keys.as_deref().map(KeySet::usable).unwrap_or_default();
        let flight = self.flight.as_mut()?;
        let settled = match &flight.errand {
            Errand::Due => now < self.next_fetch,
            Errand::Manual | Errand::Signature => true,
            Errand::Kid { kid, .. } => kid.is_empty() || keys.iter().any(|key| key.kid() == Some(&**kid)),
        };
        if settled {
            return None;
        }
        flight.conditional = validators.is_some();
        Some(FetchPlan {
            ticket: flight.ticket,
            validators,
            errand: flight.errand.clone(),
        })
    }

    /// Whoever asked says when it is time to ask again. All come then, and one of them asks.
    pub(super) fn fail_elsewhere(
        &mut self,
        flight: &Flight,
        retry_in: Duration,
        now: Timestamp,
        unit: f64,
    ) -> Finished {
        let text = "another one that has the same store asked a moment ago, in vain";
        let mut finished = self.fail(flight, "failed_elsewhere", text, None, now, unit);
        let longest = backoff::LONGEST.min(self.settings.cadence(self.upstream, 0.0).fetch_in);
        let pause = retry_in.min(longest).max(backoff::LEAST);
        self.next_fetch = now + pause;
        finished.pause = Some(pause);
        finished
    }
}
