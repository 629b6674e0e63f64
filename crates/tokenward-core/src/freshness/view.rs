//! What readers see of one identity provider's keys.

use std::{sync::Arc, time::Duration};

use crate::{
    Timestamp,
    jose::{self, Algorithm, Key, KeySet, Selection},
};

/// The keys of one identity provider at one moment. It never changes; whatever happens makes another one.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Only [`View::put`] changes it.
    pub(super) keys: Option<Arc<KeySet>>,
    /// The usable ones of `keys`, which a token's is looked for in.
    pub(super) usable: Arc<[Arc<Key>]>,
    /// Keys that the set no longer lists, each until when it still verifies.
    pub(super) absent: Vec<(Arc<Key>, Timestamp)>,
    pub(super) generation: u64,
    pub(super) advertised: Duration,
    pub(super) fetched_at: Option<Timestamp>,
    pub(super) fresh_until: Timestamp,
    pub(super) usable_until: Timestamp,
}

/// What a view knows of the key that a token names.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// Verify with this key.
    Use {
        /// The key.
        key: &'a Arc<Key>,
        /// Until when it may be used.
        until: Timestamp,
        /// Whether the set is past its freshness.
        stale: bool,
    },
    /// The set has no such key.
    Unknown,
    /// Several keys could be meant: the token names none, or the set has one id twice.
    Ambiguous,
    /// There are no usable keys: none were ever loaded, or they are past their deadline.
    Unavailable,
}

impl View {
    /// The key for a token with this `kid` and `algorithm`. A key past its deadline is never found, whether or
    /// not anything has tidied it away yet.
    #[must_use]
    pub fn lookup(&self, kid: Option<&str>, algorithm: Algorithm, now: Timestamp) -> Lookup<'_> {
        if self.keys.is_none() || now >= self.usable_until {
            return Lookup::Unavailable;
        }
        let stale = now >= self.fresh_until;
        match jose::select(&self.usable, kid, algorithm) {
            Selection::Key(key) => Lookup::Use {
                key,
                until: self.usable_until,
                stale,
            },
            Selection::Ambiguous => Lookup::Ambiguous,
            Selection::Unknown => self.lookup_absent(kid, algorithm, now, stale),
        }
    }

    /// The set comes first: what it lists is never made ambiguous by what it does not list any more.
    fn lookup_absent(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
        stale: bool,
    ) -> Lookup<'_> {
        let mut fitting = self.absent.iter().filter(|(key, until)| {
            now < *until && key.fits(algorithm) && (kid.is_none() || key.kid() == kid)
        });
        let Some((key, until)) = fitting.next() else {
            return Lookup::Unknown;
        };
        if fitting.any(|(other, _)| other.thumbprint() != key.thumbprint()) {
            return Lookup::Ambiguous;
        }
        Lookup::Use {
            key,
            until: (*until).min(self.usable_until),
            stale,
        }
    }

    /// Puts a set in place of the one that is there.
    pub(super) fn put(&mut self, keys: Option<Arc<KeySet>>) {
        self.usable = keys.as_ref().map(|keys| keys.shared_usable()).unwrap_or_default();
        self.keys = keys;
    }

    /// The set that is served, as long as it is usable.
    #[must_use]
    pub fn keys(&self, now: Timestamp) -> Option<&Arc<KeySet>> {
        self.keys.as_ref().filter(|_| now < self.usable_until)
    }

    /// Moves with every change of what can be looked up. Two views of one provider with the same number find
    /// the same keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The max-age that clients of the served set are told.
    #[must_use]
    pub fn advertised_max_age(&self) -> Duration {
        self.advertised
    }

    /// When the set was last fetched or confirmed.
    #[must_use]
    pub fn last_updated(&self) -> Option<Timestamp> {
        self.fetched_at
    }

    /// Until when the set is fresh.
    #[must_use]
    pub fn fresh_until(&self) -> Timestamp {
        self.fresh_until
    }

    /// Until when the keys may be used if nothing else comes.
    #[must_use]
    pub fn usable_until(&self) -> Timestamp {
        self.usable_until
    }
}
