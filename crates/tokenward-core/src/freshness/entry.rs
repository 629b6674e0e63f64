//! The state machine of one identity provider's keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    backoff,
    budget::{Budget, CallerId},
    facts::{Cause, Errand, FetchPlan, Miss, Restored, Share, Validators},
    lifetime::Upstream,
    settings::Settings,
    status::SkippedKey,
    view::View,
};
use crate::{Timestamp, jose::Dropped};

mod adopt;
mod landing;
mod report;

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
    flight: Option<Box<Flight>>,
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
    /// None where none did: entries are many, and most issuers' tokens are never seen.
    demand: Option<Box<Demand>>,
}

/// What tokens have asked for.
#[derive(Debug, Default)]
struct Demand {
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
            demand: None,
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
        let mut view = View {
            absent: Vec::new(),
            generation: 1,
            advertised: entry.settings.advertised(restored.upstream),
            fetched_at: Some(restored.fetched_at.min(now)),
            fresh_until,
            usable_until,
            ..View::default()
        };
        view.put(Some(Arc::new(keys)));
        entry.view = Arc::new(view);
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
        if !self.demand().budget.take(size, refill, caller, now) {
            return Miss::OverBudget;
        }
        let (kid, share) = (kid.into(), Share { caller, size, refill });
        self.take_off(Errand::Kid { kid, share }, now)
            .map_or(Miss::Join, Miss::Fetch)
    }

    /// Whether `kid` was looked for in vain within the last `negative_ttl`.
    #[must_use]
    pub fn is_known_absent(&self, kid: &str, now: Timestamp) -> bool {
        let demand = self.demand.as_ref();
        let until = demand.and_then(|demand| demand.absent_kids.get(kid));
        until.is_some_and(|until| now < *until)
    }

    /// A signature did not verify under a known key id, which may name another key by now. Never [`Miss::KnownAbsent`].
    pub fn bad_signature(&mut self, caller: CallerId, now: Timestamp) -> Miss {
        if self.flight.is_some() {
            return Miss::Join;
        }
        if !self
            .demand()
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
        let recent = &mut self.demand().recent_kids;
        if let Some((_, seen)) = recent.iter_mut().find(|(known, _)| **known == *kid) {
            if now.since(*seen) >= RECENT_PRECISION {
                *seen = now;
            }
            return;
        }
        if recent.len() >= MAX_RECENT_KIDS
            && let Some(oldest) = (0..recent.len()).min_by_key(|i| recent.get(*i).map(|r| r.1))
        {
            recent.swap_remove(oldest);
        }
        recent.push((kid.into(), now));
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
        self.forget_absent(now);
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

    fn take_off(&mut self, errand: Errand, now: Timestamp) -> Option<FetchPlan> {
        if self.flight.is_some() {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let validators = self.ask_with(now);
        self.flight = Some(Box::new(Flight {
            ticket,
            errand: errand.clone(),
            conditional: validators.is_some(),
            outdated: false,
        }));
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

    fn drop_keys(&mut self) {
        self.change_view(|view| {
            view.put(None);
            view.absent = Vec::new();
            view.generation += 1;
        });
        self.validators = Validators::default();
        self.digest = None;
        self.dropped = Dropped::default();
        // Of a set that is not there nothing is known to be absent.
        self.forget_absent(Timestamp::MAX);
    }

    fn demand(&mut self) -> &mut Demand {
        self.demand.get_or_insert_default()
    }

    /// Forgets which key ids were looked for in vain until `now` or before.
    fn forget_absent(&mut self, now: Timestamp) {
        if let Some(demand) = &mut self.demand {
            demand.absent_kids.retain(|_, until| now < *until);
        }
    }

    fn change_view(&mut self, change: impl FnOnce(&mut View)) {
        change(Arc::make_mut(&mut self.view));
    }
}
