//! A fetch ends: what its outcome makes of the keys.

use std::{sync::Arc, time::Duration};

use super::{Entry, Flight, MAX_ABSENT_KIDS, RECENT, report::skipped};
use crate::{
    Timestamp,
    freshness::{
        backoff,
        facts::{Errand, Event, Finished, Outcome, Truncated, Validators},
        lifetime::Upstream,
        succession::{self, Succession},
    },
    jose::{Dropped, Key, KeySet, Thumbprint},
};

impl Entry {
    /// Ends the fetch `ticket`. The outcome of any other, and of one that began under earlier settings, is ignored:
    /// None.
    pub fn finish_fetch(
        &mut self,
        ticket: u64,
        outcome: Outcome,
        now: Timestamp,
        unit: f64,
    ) -> Option<Finished> {
        let flight = *self.flight.take_if(|flight| flight.ticket == ticket)?;
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

    pub(super) fn is_current(&self, digest: [u8; 32], now: Timestamp) -> bool {
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
    pub(super) fn hold(
        &mut self,
        validators: Validators,
        upstream: Upstream,
        fetched_at: Timestamp,
        unit: f64,
    ) {
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
    pub(super) fn note_absent(&mut self, kid: Box<str>, now: Timestamp) {
        self.forget_absent(now);
        let until = now + self.settings.unknown_kid.negative_ttl;
        let absent = &mut self.demand().absent_kids;
        if absent.len() < MAX_ABSENT_KIDS {
            absent.insert(kid, until);
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
            self.change_view(|view| view.put(Some(Arc::new(keys))));
        }
        self.change_view(|view| {
            view.absent.retain(|(key, _)| !is_leaked(key));
            view.generation += 1;
        });
        true
    }

    pub(super) fn fail(
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
    pub(super) fn take_over(
        &mut self,
        keys: KeySet,
        digest: [u8; 32],
        dropped: Dropped,
        now: Timestamp,
    ) -> Finished {
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
        self.forget_absent(Timestamp::MAX);
        finished
    }

    pub(super) fn truncate(&self, keys: &mut KeySet, now: Timestamp) -> Dropped {
        let recent = |kid: &str| {
            let mut seen = self.demand.iter().flat_map(|demand| &demand.recent_kids);
            seen.any(|(known, seen)| **known == *kid && now.since(*seen) < RECENT)
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
            view.put(Some(Arc::new(keys)));
            view.absent = succession.absent;
            view.generation += 1;
        });
        succession.events
    }
}
