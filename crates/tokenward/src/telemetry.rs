//! Every metric name of the library, and the log lines of the key sets' life.
//!
//! Labels come from configuration only. 1,000 identity providers have series of their own, as they come; all others share
//! the labels `other`. Whoever is removed makes room for another. What is labelled by `idp` alone has the label `tenant` too beyond the default
//! tenant. Handles bind to the recorder that is installed when an
//! identity provider is registered or a verifier is made, so install the exporter first.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Label, Unit};
use tokenward_core::{
    Denial,
    freshness::{Finished, Status},
};

use crate::config::{DEFAULT_TENANT, IdpConfig};

/// Identity providers that have series of their own.
const OWN_SERIES: usize = 1_000;

/// The labels of all others together.
const OTHER: &str = "other";

const REQUESTS: &str = "jwks_cache_requests_total";
const HITS: &str = "jwks_cache_hits_total";
const MISSES: &str = "jwks_cache_misses_total";
const STALE: &str = "jwks_cache_stale_total";
const REFRESH: &str = "jwks_cache_refresh_total";
const REFRESH_ERRORS: &str = "jwks_cache_refresh_errors_total";
const REFRESH_DURATION: &str = "jwks_cache_refresh_duration_seconds";
const TRUNCATED: &str = "idp_keys_truncated_total";
const CACHE_DURATION: &str = "idp_cache_duration_seconds";
const KEY_COUNT: &str = "idp_key_count";
const KEY_EVENTS: &str = "tokenward_key_events_total";
const SKIPPED_KEYS: &str = "tokenward_keys_skipped_total";
const VERIFICATIONS: &str = "tokenward_verifications_total";
const VERIFICATION_DURATION: &str = "tokenward_verification_duration_seconds";
const TOKEN_CACHE: &str = "tokenward_token_cache_total";
const UNKNOWN_KID: &str = "tokenward_unknown_kid_total";
const FETCHES_QUEUED: &str = "tokenward_fetches_queued";
const FETCHES_RUNNING: &str = "tokenward_fetches_running";
const SHARED_FETCHES: &str = "tokenward_shared_fetches_total";
const SNAPSHOT_ERRORS: &str = "tokenward_snapshot_errors_total";

/// Gives every metric its help text and unit. Call it once after the recorder is installed.
pub fn describe() {
    for (name, help) in [
        (REQUESTS, "Key lookups."),
        (HITS, "Key lookups answered from a fresh set."),
        (MISSES, "Key lookups that no usable key answered."),
        (
            STALE,
            "Key lookups answered from a set that is past its freshness.",
        ),
        (REFRESH, "Refreshes of key sets by outcome."),
        (REFRESH_ERRORS, "Refreshes of key sets that failed, by code."),
        (TRUNCATED, "Refreshes in which keys were dropped for max_keys."),
        (KEY_EVENTS, "Notable changes of key sets by kind."),
        (
            SKIPPED_KEYS,
            "Upstream keys not used for verification, by reason, counted at each new set.",
        ),
        (VERIFICATIONS, "Verified tokens by outcome."),
        (TOKEN_CACHE, "Lookups in the cache of verified tokens by outcome."),
        (
            UNKNOWN_KID,
            "Tokens with a key id that is not in the set, by what was done.",
        ),
        (
            SHARED_FETCHES,
            "Fetches that were about to begin with a store that others have too, by what became of them.",
        ),
        (SNAPSHOT_ERRORS, "Snapshots that could not be written or read."),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        (CACHE_DURATION, "The max-age that clients of a key set are told."),
        (KEY_COUNT, "Keys served for an identity provider."),
        (FETCHES_QUEUED, "Fetches that wait for a place."),
        (FETCHES_RUNNING, "Fetches in the air."),
    ] {
        metrics::describe_gauge!(name, help);
    }
    metrics::describe_histogram!(
        REFRESH_DURATION,
        Unit::Seconds,
        "How long a refresh took, retries included."
    );
    metrics::describe_histogram!(
        VERIFICATION_DURATION,
        Unit::Seconds,
        "How long a verification took."
    );
}

/// Which label an identity provider's series carry, decided when it is registered.
#[derive(Default)]
pub(crate) struct Series {
    given: Arc<Given>,
    /// Those of all that have none of their own.
    other: OnceLock<Arc<IdpMetrics>>,
}

/// The names that have series of their own, for as long as somebody holds them.
type Given = Mutex<HashMap<(Box<str>, Box<str>), Weak<IdpMetrics>>>;

impl Series {
    pub(crate) fn of(&self, tenant: &str, idp: &str) -> Arc<IdpMetrics> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (tenant.into(), idp.into());
        let known = given.get(&name);
        if let Some(metrics) = known.and_then(Weak::upgrade) {
            return metrics;
        }
        // One that is on its way out has its place still.
        if known.is_some() || given.len() < OWN_SERIES {
            let metrics = IdpMetrics::new(tenant, idp, Some(Arc::downgrade(&self.given)));
            let metrics = Arc::new(metrics);
            given.insert(name, Arc::downgrade(&metrics));
            return metrics;
        }
        let other = || Arc::new(IdpMetrics::new(OTHER, OTHER, None));
        Arc::clone(self.other.get_or_init(other))
    }
}

/// The series of one identity provider.
pub(crate) struct IdpMetrics {
    tenant: Arc<str>,
    provider: Arc<str>,
    requests: Counter,
    hits: Counter,
    misses: Counter,
    stale: Counter,
    duration: Histogram,
    /// Where its place is given back.
    given: Option<Weak<Given>>,
}

impl Drop for IdpMetrics {
    fn drop(&mut self) {
        let Some(given) = self.given.as_ref().and_then(Weak::upgrade) else {
            return;
        };
        let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ((*self.tenant).into(), (*self.provider).into());
        // Another may have come under its name in the meantime.
        if given
            .get(&name)
            .is_some_and(|metrics| metrics.strong_count() == 0)
        {
            given.remove(&name);
        }
    }
}

impl IdpMetrics {
    fn new(tenant: &str, provider: &str, given: Option<Weak<Given>>) -> Self {
        let (tenant, provider): (Arc<str>, Arc<str>) = (tenant.into(), provider.into());
        let counter = |name: &'static str, status: &'static str| metrics::counter!(name, "tenant" => Arc::clone(&tenant), "provider" => Arc::clone(&provider), "status" => status);
        Self {
            requests: counter(REQUESTS, "all"),
            hits: counter(HITS, "hit"),
            misses: counter(MISSES, "miss"),
            stale: counter(STALE, "stale"),
            duration: metrics::histogram!(REFRESH_DURATION, "tenant" => Arc::clone(&tenant), "provider" => Arc::clone(&provider)),
            tenant,
            provider,
            given,
        }
    }

    pub(crate) fn looked_up(&self, outcome: Lookup) {
        self.requests.increment(1);
        match outcome {
            Lookup::Hit => self.hits.increment(1),
            Lookup::Stale => self.stale.increment(1),
            Lookup::Miss => self.misses.increment(1),
        }
    }

    pub(crate) fn refreshed(&self, error: Option<&'static str>, took: Duration) {
        let status = if error.is_some() { "error" } else { "ok" };
        self.count(REFRESH, "status", status);
        if let Some(code) = error {
            self.count(REFRESH_ERRORS, "status", code);
        }
        self.duration.record(took.as_secs_f64());
    }

    pub(crate) fn event(&self, kind: &'static str) {
        self.count(KEY_EVENTS, "event", kind);
    }

    pub(crate) fn unknown_kid(&self, what: &'static str) {
        self.count(UNKNOWN_KID, "result", what);
    }

    pub(crate) fn shared(&self, what: &'static str) {
        self.count(SHARED_FETCHES, "result", what);
    }

    pub(crate) fn skipped(&self, reason: &'static str) {
        self.count(SKIPPED_KEYS, "reason", reason);
    }

    pub(crate) fn truncated(&self) {
        metrics::counter!(TRUNCATED, self.labels()).increment(1);
    }

    pub(crate) fn status(&self, max_age: Duration, keys: usize) {
        self.gauge(CACHE_DURATION).set(max_age.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a set has at most 1,000 keys")]
        self.gauge(KEY_COUNT).set(keys as f64);
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        metrics::gauge!(name, self.labels())
    }

    /// The name alone, as long as it is unique: only those beyond the default tenant need that of theirs.
    fn labels(&self) -> Vec<Label> {
        let mut labels = vec![Label::new("idp", Arc::clone(&self.provider))];
        if *self.tenant != *DEFAULT_TENANT && *self.tenant != *OTHER {
            labels.push(Label::new("tenant", Arc::clone(&self.tenant)));
        }
        labels
    }

    fn count(&self, name: &'static str, label: &'static str, value: &'static str) {
        metrics::counter!(name, "tenant" => Arc::clone(&self.tenant), "provider" => Arc::clone(&self.provider), label => value)
            .increment(1);
    }
}

/// How a key lookup went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Hit,
    Stale,
    Miss,
}

/// Key lookups of one identity provider, for its status record.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    all: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
}

impl Lookups {
    pub(crate) fn count(&self, outcome: Lookup) {
        self.all.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Lookup::Hit => self.hits.fetch_add(1, Ordering::Relaxed),
            Lookup::Stale => self.stale.fetch_add(1, Ordering::Relaxed),
            Lookup::Miss => return,
        };
    }

    /// All lookups, those answered from a fresh set, those answered from a stale one.
    pub(crate) fn read(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.all), read(&self.hits), read(&self.stale))
    }
}

/// The span that everything of one refresh happens in.
pub(crate) fn refresh_span(config: &IdpConfig) -> tracing::Span {
    tracing::info_span!("refresh", tenant = config.tenant(), provider = config.name())
}

/// The log lines of one refresh.
pub(crate) fn log_refresh(config: &IdpConfig, finished: &Finished, status: &Status, text: Option<&str>) {
    let (tenant, idp) = (config.tenant(), config.name());
    match finished.error {
        None => tracing::info!(
            tenant,
            idp,
            key_count = status.key_count,
            keys_count = status.key_count,
            max_keys = status.max_keys,
            cache_duration = status.cache_duration,
            idp_suggested_cache = status.idp_suggested_cache,
            refresh_interval = status.refresh_interval,
            update_count = status.update_count,
            last_updated = status.last_updated.map(tracing::field::display),
            "Successfully updated JWKS"
        ),
        Some(code) => tracing::warn!(
            tenant,
            idp,
            error_code = code,
            error = text,
            error_count = status.error_count,
            key_count = status.key_count,
            "Failed to update JWKS"
        ),
    }
    if let Some(truncated) = &finished.truncated {
        tracing::warn!(
            tenant,
            idp,
            original_count = truncated.original_count,
            max_keys = status.max_keys,
            dropped_count = truncated.dropped.count,
            dropped_kids = ?truncated.dropped.kids,
            "Truncating keys to max limit"
        );
    }
    for event in &finished.events {
        tracing::warn!(tenant, idp, event = event.name(), detail = ?event, "Key set changed notably");
    }
}

/// A store that others have too did not answer. Each fetch would say so, and it is counted.
pub(crate) fn log_alone(config: &IdpConfig, error: &dyn std::error::Error) {
    let (tenant, idp) = (config.tenant(), config.name());
    let error = crate::error::chain(error);
    tracing::debug!(
        tenant,
        idp,
        error,
        "The shared store does not answer; fetching without the others"
    );
}

/// The series of a verifier, looked up once: what every request counts.
#[derive(Clone)]
pub(crate) struct Verifications {
    accepted: Counter,
    duration: Histogram,
    hits: Counter,
    misses: Counter,
}

impl Verifications {
    pub(crate) fn new() -> Self {
        Self {
            accepted: metrics::counter!(VERIFICATIONS, "reason" => "ok"),
            duration: metrics::histogram!(VERIFICATION_DURATION),
            hits: metrics::counter!(TOKEN_CACHE, "status" => "hit"),
            misses: metrics::counter!(TOKEN_CACHE, "status" => "miss"),
        }
    }

    pub(crate) fn cached(&self, is_known: bool) {
        let series = if is_known { &self.hits } else { &self.misses };
        series.increment(1);
    }

    /// `idp` is the one that the token was judged by; none where its issuer is unknown, and that is not told: it may be
    /// anything.
    pub(crate) fn verified(
        &self,
        tenant: &str,
        idp: Option<&IdpConfig>,
        outcome: Result<(), Denial>,
        took: Duration,
    ) {
        let reason = outcome.map_or_else(Denial::code, |()| "ok");
        tracing::debug!(
            tenant,
            issuer = idp.and_then(IdpConfig::issuer),
            idp = idp.map(IdpConfig::name),
            reason,
            "Token judged"
        );
        match outcome {
            Ok(()) => self.accepted.increment(1),
            Err(_) => metrics::counter!(VERIFICATIONS, "reason" => reason).increment(1),
        }
        self.duration.record(took.as_secs_f64());
    }
}

impl std::fmt::Debug for Verifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifications").finish_non_exhaustive()
    }
}

/// A request that a layer did not let through, for whatever reason; that of its token was told before, with its issuer.
pub(crate) fn refused(denial: Denial) {
    tracing::debug!(reason = denial.code(), "Request refused");
}

#[expect(clippy::cast_precision_loss, reason = "queue lengths are far below 2^53")]
pub(crate) fn fetches(queued: usize, running: usize) {
    metrics::gauge!(FETCHES_QUEUED).set(queued as f64);
    metrics::gauge!(FETCHES_RUNNING).set(running as f64);
}

/// A snapshot that could not be written or read, of which the caller is told.
pub(crate) fn snapshot_error() {
    metrics::counter!(SNAPSHOT_ERRORS).increment(1);
}

/// The same where nobody is told.
pub(crate) fn snapshot_failed(what: &'static str, error: &dyn std::error::Error) {
    snapshot_error();
    tracing::warn!(error = %crate::error::chain(error), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_removed_makes_room_for_another() {
        let series = Series::default();
        let of = |idp: &str| series.of("t", idp);
        let name = |metrics: &IdpMetrics| metrics.provider.to_string();
        let mut held: Vec<_> = (0..OWN_SERIES).map(|n| of(&format!("idp-{n}"))).collect();
        assert_eq!(name(&of("one-more")), OTHER);
        // The same name is the same series, which are there until the last one lets go.
        let again = of("idp-0");
        assert!(Arc::ptr_eq(&again, &held[0]));
        held.remove(0);
        assert_eq!(name(&of("one-more")), OTHER);
        drop(again);
        assert_eq!(name(&of("one-more")), "one-more");
        // Names that come and go use nothing up.
        for n in 0..3 * OWN_SERIES {
            let name = format!("another-{n}");
            assert_eq!(*of(&name).provider, *name);
        }
        assert_eq!(series.given.lock().unwrap().len(), OWN_SERIES - 1);
    }
}
