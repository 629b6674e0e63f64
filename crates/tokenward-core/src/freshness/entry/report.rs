//! What is told of the keys.

use super::Entry;
use crate::{
    Timestamp,
    freshness::{
        facts::Validators,
        lifetime::Upstream,
        status::{SkippedKey, State, Status},
    },
    jose::KeySet,
};

impl Entry {
    /// The code and text of the last failure; none after a success.
    #[must_use]
    pub fn last_error(&self) -> Option<(&'static str, &str)> {
        self.last_error.as_ref().map(|(code, text)| (*code, &**text))
    }

    /// What a snapshot needs beside the keys: validators and freshness. None without keys. A set of which something
    /// is not there any more has no validators: after a restart, a "not modified" would keep it so for ever.
    #[must_use]
    pub fn snapshot(&self) -> Option<(Validators, Upstream)> {
        let keys = self.view.keys.as_ref()?;
        let validators = match keys.is_whole() {
            true => self.validators.clone(),
            false => Validators::default(),
        };
        Some((validators, self.upstream))
    }

    /// The record that everybody shows.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        let view = &*self.view;
        let keys = view.keys(now);
        let some = |time: Timestamp| keys.map(|_| time);
        Status {
            state: self.state(now),
            last_updated: view.fetched_at,
            last_attempt: self.last_attempt,
            last_error: self.last_error.as_ref().map(|(code, _)| *code),
            error_count: self.error_count,
            update_count: self.update_count,
            key_count: keys.map_or(0, |keys| keys.documents().count()),
            max_keys: self.settings.max_keys,
            skipped_keys: match &self.refused {
                Some(skipped) => skipped.clone(),
                None => keys.map(|keys| skipped(keys)).unwrap_or_default(),
            },
            dropped_kids: self.dropped.kids.clone(),
            dropped_count: self.dropped.count,
            cache_duration: view.advertised.as_secs(),
            idp_suggested_cache: self.upstream.max_age.unwrap_or_default().as_secs(),
            cache_until: view.fetched_at.map(|at| at + view.advertised),
            refresh_interval: self.settings.refresh_interval.as_secs(),
            next_refresh: self.flight.is_none().then_some(self.next_fetch),
            expires_at: some(view.fresh_until),
            stale_until: some(view.usable_until),
        }
    }

    /// Where the keys stand.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match (self.view.keys(now).is_some(), self.flight.is_some()) {
            (false, true) => State::Loading,
            (false, false) if self.last_error.is_some() || self.has_expired(now) => State::Failed,
            (false, false) => State::Empty,
            (true, _) if self.refused.is_some() => State::Degraded,
            (true, _) if now >= self.view.fresh_until => State::Stale,
            (true, true) => State::Refreshing,
            (true, false) => State::Ready,
        }
    }

    /// Whether keys were there and are past their deadline.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.view.fetched_at.is_some() && now >= self.view.usable_until
    }
}

pub(super) fn skipped(keys: &KeySet) -> Vec<SkippedKey> {
    let skipped = keys.skipped().iter();
    skipped
        .map(|key| SkippedKey {
            kid: key.kid.clone(),
            reason: key.reason.code(),
        })
        .collect()
}
