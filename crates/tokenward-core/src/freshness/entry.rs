//! The state machine of one identity provider's keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    backoff,
    budget::{Budget, CallerId},
    facts::{
        Adopted, Cause, Errand, Event, FetchPlan, Finished, Miss, Outcome, Restored, Share, Truncated,
        Validators,
    },
    lifetime::Upstream,
    settings::Settings,
    status::{SkippedKey, State, Status},
    succession::{self, Succession},
    view::View,
};
use crate::{
    Timestamp,
    jose::{Dropped, Key, KeySet, Thumbprint},
};

mod adopt;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;

/// Key ids known to be absent that are remembered at most. More are simply not: they cost a 503 instead of a 401.
const MAX_ABSENT_KIDS: usize = 1_024;

/// Key ids seen in verified tokens that are remembered for truncation.
const MAX_RECENT_KIDS: usize = 32;

/// How precisely the time of a key id's use is known, so that noting it is rare.
const RECENT_PRECISION: Duration = Duration::from_secs(60);

/// How long a key id counts as seen recently.
const RECENT: Duration = Duration::from_secs(86_400);

/// Fetches for bad signatures under a known key id, and how long one takes to come back.
const BAD_SIGNATURE: (u32, Duration) = (2, Duration::from_secs(60));

/// The state machine of one identity provider's keys. Times are steady, randomness is in [0, 1).
#[derive(Debug)]
pub struct Entry {
    settings: Arc<Settings>,
    view: Arc<View>,
    flight: Option<Flight>,
    next_ticket: u64,
    next_fetch: Timestamp,
    /// Failures of the schedule in a row, and since when.
    failures: u32,
    failing_since: Timestamp,
    /// Until when the failure of a first load is told at once.
    failed_until: Timestamp,
    /// What was skipped of the last answer, if that was no usable set.
    refused: Option<Vec<SkippedKey>>,
    last_attempt: Option<Timestamp>,
    last_error: Option<(&'static str, Box<str>)>,
    error_count: u64,
    update_count: u64,
    validators: Validators,
    digest: Option<[u8; 32]>,
    upstream: Upstream,
    dropped: Dropped,
    /// Sets that others fetched before are not adopted: they may be what was purged, or were read under other settings.
    adopts_from: Timestamp,
    budget: Budget,
    signature_budget: Budget,
    absent_kids: BTreeMap<Box<str>, Timestamp>,
    recent_kids: Vec<(Box<str>, Timestamp)>,
}

/// The fetch in the air.
#[derive(Debug)]
struct Flight {
    ticket: u64,
    errand: Errand,
    /// Whether it asked with validators, without which no answer can be "not modified".
    conditional: bool,
    /// Whether it began under earlier settings, so that its answer counts for nothing.
    outdated: bool,
}

impl Entry {
    /// An entry without keys, due at once.
    #[must_use]
    pub fn new(settings: impl Into<Arc<Settings>>, now: Timestamp) -> Self {
        let settings = settings.into();
        let view = View {
            advertised: settings.cache_duration,
            ..View::default()
        };
        Self {
            settings,
            view: Arc::new(view),
            flight: None,
            next_ticket: 0,
            next_fetch: now,
            failures: 0,
            failing_since: Timestamp::default(),
            failed_until: Timestamp::default(),
            refused: None,
            last_attempt: None,
            last_error: None,
            error_count: 0,
            update_count: 0,
            validators: Validators::default(),
            digest: None,
            upstream: Upstream::default(),
            dropped: Dropped::default(),
            adopts_from: Timestamp::from_millis(i64::MIN),
            budget: Budget::default(),
            signature_budget: Budget::default(),
            absent_kids: BTreeMap::new(),
            recent_kids: Vec::new(),
        }
    }

    /// An entry with the keys of a snapshot. Their deadlines count from when they were fetched; a set that is past
    /// them is not taken. One from the future is of unknown age, and taken for one that just stopped being fresh.
    #[must_use]
    pub fn restored(
        settings: impl Into<Arc<Settings>>,
        restored: Restored,
        now: Timestamp,
        unit: f64,
    ) -> Self {
        let mut entry = Self::new(settings, now);
        let cadence = entry.settings.cadence(restored.upstream, unit);
        let fresh_until = match restored.fetched_at <= now {
            true => restored.fetched_at + cadence.fresh_for,
            false => now,
        };
        let mut keys = restored.keys;
        entry.dropped = entry.truncate(&mut keys, now);
        let usable_until = fresh_until + entry.settings.stale_while_error;
        if usable_until <= now || keys.usable().is_empty() {
            entry.dropped = Dropped::default();
            return entry;
        }
        if restored.fetched_at <= now {
            entry.next_fetch = restored.fetched_at + cadence.fetch_in;
        }
        entry.view = Arc::new(View {
            keys: Some(Arc::new(keys)),
            absent: Vec::new(),
            generation: 1,
            advertised: entry.settings.advertised(restored.upstream),
            fetched_at: Some(restored.fetched_at.min(now)),
            fresh_until,
            usable_until,
        });
        entry.validators = restored.validators;
        entry.digest = Some(restored.digest);
        entry.upstream = restored.upstream;
        entry
    }

    /// What readers are to see from now on.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Begins a fetch, unless one is in the air.
    pub fn begin_fetch(&mut self, cause: Cause, now: Timestamp) -> Option<FetchPlan> {
        match cause {
            Cause::Scheduled if now < self.next_fetch => None,
            Cause::Scheduled => self.take_off(Errand::Due, now),
            Cause::Manual => self.take_off(Errand::Manual, now),
        }
    }

    /// Ends the fetch `ticket`. The outcome of any other, and of one that began under earlier settings, is ignored:
    /// None.
    pub fn finish_fetch(
        &mut self,
        ticket: u64,
        outcome: Outcome,
        now: Timestamp,
        unit: f64,
    ) -> Option<Finished> {
        let flight = self.flight.take_if(|flight| flight.ticket == ticket)?;
        if flight.outdated {
            return None;
        }
        Some(match outcome {
            Outcome::Fresh {
                digest,
                validators,
                upstream,
                ..
            } if self.is_current(digest, now) => self.confirm(flight, validators, upstream, now, unit),
            Outcome::Fresh {
                keys,
                digest,
                validators,
                upstream,
            } => {
                let mut keys = *keys;
                let dropped = self.truncate(&mut keys, now);
                if keys.usable().is_empty() {
                    return Some(self.refuse(&flight, "no_usable_key", Some(&keys), now, unit));
                }
                let finished = self.take_over(keys, digest, dropped, now);
                self.succeed(flight, validators, upstream, now, unit);
                finished
            }
            Outcome::NotModified { validators, upstream } => {
                if !flight.conditional || self.view.keys(now).is_none() {
                    // Nothing is there that could be unmodified, or nothing was asked about: ask without conditions.
                    self.validators = Validators::default();
                    let text = "304 without a set to keep";
                    return Some(self.fail(&flight, "not_modified_unexpected", text, None, now, unit));
                }
                // What a 304 does not say anew stays as it was said before (RFC 9111 section 4.3.4).
                let upstream = match upstream == Upstream::default() {
                    true => self.upstream,
                    false => upstream,
                };
                let kept = Validators {
                    etag: validators.etag.or_else(|| self.validators.etag.take()),
                    last_modified: validators
                        .last_modified
                        .or_else(|| self.validators.last_modified.take()),
                };
                self.confirm(flight, kept, upstream, now, unit)
            }
            Outcome::Refused { code } => self.refuse(&flight, code, None, now, unit),
            Outcome::FailedElsewhere { retry_in } => self.fail_elsewhere(&flight, retry_in, now, unit),
            Outcome::Failed {
                code,
                text,
                retry_after,
            } => self.fail(&flight, code, &text, retry_after, now, unit),
        })
    }

    /// The fetch `ticket` was dropped without an outcome. A scheduled one is tried again in a second; one that a
    /// token caused is not.
    pub fn abandon_fetch(&mut self, ticket: u64, now: Timestamp) {
        if let Some(flight) = self.flight.take_if(|flight| flight.ticket == ticket)
            && !flight.errand.is_on_demand()
        {
            self.next_fetch = now + backoff::FIRST;
        }
    }

    /// A token came whose key is not there. `kid` is empty where it names none.
    pub fn miss(&mut self, kid: &str, caller: CallerId, now: Timestamp) -> Miss {
        match self.view.keys(now) {
            Some(_) if self.is_known_absent(kid, now) => return Miss::KnownAbsent,
            None if now < self.failed_until => return Miss::OverBudget,
            _ => {}
        }
        if self.flight.is_some() {
            return Miss::Join;
        }
        // What the schedule is about to do anyway costs nobody's share: a first lookup right after the registration
        // must not be what a later rotation lacks.
        if let Some(plan) = self.begin_fetch(Cause::Scheduled, now) {
            return Miss::Fetch(plan);
        }
        let (size, refill) = (self.settings.unknown_kid.budget, self.settings.unknown_kid.refill);
        if !self.budget.take(size, refill, caller, now) {
            return Miss::OverBudget;
        }
        let (kid, share) = (kid.into(), Share { caller, size, refill });
        self.take_off(Errand::Kid { kid, share }, now)
            .map_or(Miss::Join, Miss::Fetch)
    }

    /// Whether `kid` was looked for in vain within the last `negative_ttl`.
    #[must_use]
    pub fn is_known_absent(&self, kid: &str, now: Timestamp) -> bool {
        self.absent_kids.get(kid).is_some_and(|until| now < *until)
    }

    /// A signature did not verify under a known key id, which may name another key by now. Never [`Miss::KnownAbsent`].
    pub fn bad_signature(&mut self, caller: CallerId, now: Timestamp) -> Miss {
        if self.flight.is_some() {
            return Miss::Join;
        }
        if !self
            .signature_budget
            .take(BAD_SIGNATURE.0, BAD_SIGNATURE.1, caller, now)
        {
            return Miss::OverBudget;
        }
        self.take_off(Errand::Signature, now)
            .map_or(Miss::Join, Miss::Fetch)
    }

    /// A token with this key id was verified: truncation keeps its key.
    pub fn note_use(&mut self, kid: &str, now: Timestamp) {
        if let Some((_, seen)) = self.recent_kids.iter_mut().find(|(known, _)| **known == *kid) {
            if now.since(*seen) >= RECENT_PRECISION {
                *seen = now;
            }
            return;
        }
        if self.recent_kids.len() >= MAX_RECENT_KIDS
            && let Some(oldest) =
                (0..self.recent_kids.len()).min_by_key(|i| self.recent_kids.get(*i).map(|r| r.1))
        {
            self.recent_kids.swap_remove(oldest);
        }
        self.recent_kids.push((kid.into(), now));
    }

    /// Drops what is past its deadline. True where that changed the view.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let expired = self.view.keys.is_some() && now >= self.view.usable_until;
        let gone = self.view.absent.iter().any(|(_, until)| now >= *until);
        if expired {
            self.drop_keys();
        } else if gone {
            self.change_view(|view| {
                view.absent.retain(|(_, until)| now < *until);
                view.generation += 1;
            });
        }
        self.absent_kids.retain(|_, until| now < *until);
        expired || gone
    }

    /// Whether the schedule wants a fetch to begin now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.flight.is_none() && self.next_fetch <= now
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether an attempt has succeeded since the start. Keys out of a snapshot tell nothing of that.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.update_count > 0
    }

    /// When [`Entry::tick`] or a scheduled fetch has something to do next.
    #[must_use]
    pub fn next_wakeup(&self) -> Timestamp {
        let fetch = if self.flight.is_some() {
            Timestamp::MAX
        } else {
            self.next_fetch
        };
        let expiry = if self.view.keys.is_some() {
            self.view.usable_until
        } else {
            Timestamp::MAX
        };
        self.view
            .absent
            .iter()
            .map(|(_, until)| *until)
            .chain([fetch, expiry])
            .min()
            .unwrap_or(fetch)
    }

    /// Drops all keys at once and makes a fetch due.
    pub fn purge(&mut self, now: Timestamp) {
        self.drop_keys();
        self.adopts_from = now;
        self.next_fetch = now;
    }

    /// Takes other settings. The set is fetched anew at once, as its truncation may differ, or after the fetch in the
    /// air, whose answer counts for nothing; until then its deadlines are those of the new settings.
    pub fn reconfigure(&mut self, settings: impl Into<Arc<Settings>>, now: Timestamp) {
        self.settings = settings.into();
        let fresh_for = self.settings.cadence(self.upstream, 0.0).fresh_for;
        let (advertised, stale) = (
            self.settings.advertised(self.upstream),
            self.settings.stale_while_error,
        );
        let grace = now + self.settings.absent_key_grace;
        self.change_view(|view| {
            view.advertised = advertised;
            if let Some(fetched_at) = view.fetched_at {
                view.fresh_until = fetched_at + fresh_for;
                view.usable_until = view.fresh_until + stale;
            }
            for (_, until) in &mut view.absent {
                *until = (*until).min(grace);
            }
            // What was looked up before may have had later deadlines.
            view.generation += 1;
        });
        if let Some(flight) = &mut self.flight {
            flight.outdated = true;
        }
        self.validators = Validators::default();
        self.digest = None;
        self.next_fetch = now;
        self.adopts_from = now;
    }

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

    fn take_off(&mut self, errand: Errand, now: Timestamp) -> Option<FetchPlan> {
        if self.flight.is_some() {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let validators = self.ask_with(now);
        self.flight = Some(Flight {
            ticket,
            errand: errand.clone(),
            conditional: validators.is_some(),
            outdated: false,
        });
        self.last_attempt = Some(now);
        Some(FetchPlan {
            ticket,
            validators,
            errand,
        })
    }

    fn ask_with(&self, now: Timestamp) -> Option<Validators> {
        let conditional = self.view.keys(now).is_some() && self.validators != Validators::default();
        conditional.then(|| self.validators.clone())
    }

    fn is_current(&self, digest: [u8; 32], now: Timestamp) -> bool {
        self.digest == Some(digest) && self.view.keys(now).is_some()
    }

    /// The set is the one that is there already: the same object stays, so that nothing is parsed or sent anew.
    fn confirm(
        &mut self,
        flight: Flight,
        validators: Validators,
        upstream: Upstream,
        now: Timestamp,
        unit: f64,
    ) -> Finished {
        self.succeed(flight, validators, upstream, now, unit);
        Finished::default()
    }

    fn succeed(
        &mut self,
        flight: Flight,
        validators: Validators,
        upstream: Upstream,
        now: Timestamp,
        unit: f64,
    ) {
        self.hold(validators, upstream, now, unit);
        if let Errand::Kid { kid, .. } = flight.errand {
            self.note_absent(kid, now);
        }
    }

    /// The keys that are there were fetched or confirmed at `fetched_at`, by whomever.
    fn hold(&mut self, validators: Validators, upstream: Upstream, fetched_at: Timestamp, unit: f64) {
        let cadence = self.settings.cadence(upstream, unit);
        let (advertised, stale) = (
            self.settings.advertised(upstream),
            self.settings.stale_while_error,
        );
        self.update_count += 1;
        self.failures = 0;
        self.failed_until = Timestamp::default();
        self.refused = None;
        self.last_error = None;
        self.validators = validators;
        self.upstream = upstream;
        self.next_fetch = fetched_at + cadence.fetch_in;
        self.change_view(|view| {
            view.advertised = advertised;
            view.fetched_at = Some(fetched_at);
            view.fresh_until = fetched_at + cadence.fresh_for;
            view.usable_until = view.fresh_until + stale;
        });
    }

    /// Remembers that `kid` was looked for. Whether it is there does not matter: who asks for one that is there
    /// and fits never gets here, and who asks for one that does not fit need not ask again.
    ///
    /// Only a fetch of the budget gets here, so a flood neither grows this nor pushes anything out of it.
    fn note_absent(&mut self, kid: Box<str>, now: Timestamp) {
        self.absent_kids.retain(|_, until| now < *until);
        if self.absent_kids.len() < MAX_ABSENT_KIDS {
            self.absent_kids
                .insert(kid, now + self.settings.unknown_kid.negative_ttl);
        }
    }

    /// The keys that are there stay, save those that the answer gives the private half of: from now on anybody can
    /// sign with them.
    fn refuse(
        &mut self,
        flight: &Flight,
        code: &'static str,
        answer: Option<&KeySet>,
        now: Timestamp,
        unit: f64,
    ) -> Finished {
        let text = "the answer is no usable key set";
        let mut finished = self.fail(flight, code, text, None, now, unit);
        finished.events.push(Event::SetRefused { code });
        self.refused = Some(answer.map(skipped).unwrap_or_default());
        if let Some(answer) = answer {
            finished.events.extend(succession::compromise(answer));
            finished.new_keys = self.remove_leaked(answer.leaked());
        }
        finished
    }

    /// True where one of them was there.
    fn remove_leaked(&mut self, leaked: &[Thumbprint]) -> bool {
        let is_leaked = |key: &Key| leaked.contains(key.thumbprint());
        let listed = self
            .view
            .keys
            .as_deref()
            .filter(|set| set.usable().iter().any(|key| is_leaked(key)));
        let waits = self.view.absent.iter().any(|(key, _)| is_leaked(key));
        if listed.is_none() && !waits {
            return false;
        }
        if let Some(mut keys) = listed.cloned() {
            keys.remove(leaked);
            if keys.usable().is_empty() {
                self.drop_keys();
                return true;
            }
            // No answer may confirm what is left for the whole.
            self.validators = Validators::default();
            self.digest = None;
            self.change_view(|view| view.keys = Some(Arc::new(keys)));
        }
        self.change_view(|view| {
            view.absent.retain(|(key, _)| !is_leaked(key));
            view.generation += 1;
        });
        true
    }

    fn fail(
        &mut self,
        flight: &Flight,
        code: &'static str,
        text: &str,
        retry_after: Option<Duration>,
        now: Timestamp,
        unit: f64,
    ) -> Finished {
        let mut finished = Finished {
            error: Some(code),
            ..Finished::default()
        };
        self.error_count += 1;
        self.last_error = Some((code, text.into()));
        if self.view.keys(now).is_none() {
            self.failed_until = now + self.settings.negative_cache_ttl;
        }
        if !flight.errand.is_on_demand() {
            if self.failures == 0 {
                self.failing_since = now;
            }
            self.failures = self.failures.saturating_add(1);
            let cadence = self.settings.cadence(self.upstream, 0.0).fetch_in;
            let failing_for = now.since(self.failing_since);
            let pause = backoff::pause(self.failures, failing_for, cadence, retry_after, unit);
            self.next_fetch = now + pause;
            finished.pause = Some(pause);
        }
        finished
    }

    /// Puts another set in place of the one that is there.
    fn take_over(&mut self, keys: KeySet, digest: [u8; 32], dropped: Dropped, now: Timestamp) -> Finished {
        let mut finished = Finished {
            new_keys: true,
            ..Finished::default()
        };
        if dropped.count > 0 {
            finished.truncated = Some(Truncated {
                original_count: keys.original_count(),
                dropped: dropped.clone(),
            });
        }
        self.dropped = dropped;
        self.digest = Some(digest);
        finished.events = self.replace_keys(keys, now);
        self.absent_kids.clear();
        finished
    }

    fn truncate(&self, keys: &mut KeySet, now: Timestamp) -> Dropped {
        let recent = |kid: &str| {
            self.recent_kids
                .iter()
                .any(|(known, seen)| **known == *kid && now.since(*seen) < RECENT)
        };
        let before = self.view.keys.as_deref().map(KeySet::usable).unwrap_or_default();
        let previous = |kid: &str| before.iter().any(|key| key.kid() == Some(kid));
        keys.truncate(
            self.settings.max_keys,
            self.settings.truncation,
            &recent,
            &previous,
        )
    }

    /// Puts `keys` in place of the set that is there.
    fn replace_keys(&mut self, keys: KeySet, now: Timestamp) -> Vec<Event> {
        let before = self.view.keys(now).map_or(&[][..], |set| set.usable());
        let grace = now + self.settings.absent_key_grace;
        let succession = Succession::of(before, &self.view.absent, &keys, now, grace);
        self.change_view(|view| {
            view.keys = Some(Arc::new(keys));
            view.absent = succession.absent;
            view.generation += 1;
        });
        succession.events
    }

    fn drop_keys(&mut self) {
        self.change_view(|view| {
            view.keys = None;
            view.absent = Vec::new();
            view.generation += 1;
        });
        self.validators = Validators::default();
        self.digest = None;
        self.dropped = Dropped::default();
        // Of a set that is not there nothing is known to be absent.
        self.absent_kids.clear();
    }

    fn change_view(&mut self, change: impl FnOnce(&mut View)) {
        change(Arc::make_mut(&mut self.view));
    }
}

fn skipped(keys: &KeySet) -> Vec<SkippedKey> {
    let skipped = keys.skipped().iter();
    skipped
        .map(|key| SkippedKey {
            kid: key.kid.clone(),
            reason: key.reason.code(),
        })
        .collect()
}
