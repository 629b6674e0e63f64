//! The one record that console, API and metrics show of an identity provider's keys.

use serde::Serialize;

use crate::Timestamp;

/// Where the keys of an identity provider stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was loaded and nothing was tried.
    Empty,
    /// The first load is under way.
    Loading,
    /// The keys are fresh.
    Ready,
    /// The keys are fresh and a refresh is under way.
    Refreshing,
    /// The keys are past their freshness, and still usable.
    Stale,
    /// The last answer was no usable key set; the keys of the one before are kept.
    Degraded,
    /// There are no usable keys, and the last attempt failed.
    Failed,
}

/// A key that is not used for verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedKey {
    /// Its key id, if it has one.
    pub kid: Option<String>,
    /// Why, as a stable code.
    pub reason: &'static str,
}

/// The status of one identity provider's keys. Durations are whole seconds, times RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Where the keys stand.
    pub state: State,
    /// The last success; a 304 is one.
    pub last_updated: Option<Timestamp>,
    /// The last attempt, successful or not.
    pub last_attempt: Option<Timestamp>,
    /// The code of the last failure; none after a success.
    pub last_error: Option<&'static str>,
    /// Failures since the start.
    pub error_count: u64,
    /// Successes since the start.
    pub update_count: u64,
    /// Keys that are served.
    pub key_count: usize,
    /// The limit on keys; 0 is none of its own.
    pub max_keys: usize,
    /// Keys that are not used for verification, of the last answer that could be read.
    pub skipped_keys: Vec<SkippedKey>,
    /// Key ids that were dropped for `max_keys`, the first 100.
    pub dropped_kids: Vec<String>,
    /// How many were dropped.
    pub dropped_count: usize,
    /// The max-age that clients are told.
    pub cache_duration: u64,
    /// The upstream max-age; 0 where it said nothing.
    pub idp_suggested_cache: u64,
    /// Last success plus `cache_duration`.
    pub cache_until: Option<Timestamp>,
    /// The configured interval.
    pub refresh_interval: u64,
    /// When the next fetch is due.
    pub next_refresh: Option<Timestamp>,
    /// When the keys stop being fresh.
    pub expires_at: Option<Timestamp>,
    /// When the keys stop being usable if no fetch succeeds.
    pub stale_until: Option<Timestamp>,
}

impl Status {
    /// The status of keys that are configured and never fetched.
    #[must_use]
    pub fn fixed() -> Self {
        Self {
            state: State::Ready,
            last_updated: None,
            last_attempt: None,
            last_error: None,
            error_count: 0,
            update_count: 0,
            key_count: 0,
            max_keys: 0,
            skipped_keys: Vec::new(),
            dropped_kids: Vec::new(),
            dropped_count: 0,
            cache_duration: 0,
            idp_suggested_cache: 0,
            cache_until: None,
            refresh_interval: 0,
            next_refresh: None,
            expires_at: None,
            stale_until: None,
        }
    }
}
