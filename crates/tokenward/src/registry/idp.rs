//! One identity provider of the registry.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokenward_core::{
    Clock, Timestamp,
    freshness::{Lookup, View},
    jose::{Algorithm, Key, KeySet},
};

use super::{Inner, Source};
use crate::config::IdpConfig;

/// One registered identity provider.
///
/// What it is found by stands in itself: on the way from a token's issuer to the key, each place in memory counts.
pub struct Idp {
    pub(super) tenant: Arc<str>,
    /// Of the tokens that are accepted.
    pub(super) issuer: Option<Arc<str>>,
    pub(super) config: Arc<IdpConfig>,
    /// Where it stands among those of its tenant.
    pub(super) place: AtomicU64,
    pub(super) retired: AtomicBool,
    pub(super) clock: Arc<dyn Clock>,
    pub(crate) keys: IdpKeys,
}

/// Where an identity provider's keys are.
pub(crate) enum IdpKeys {
    /// A shared secret out of the configuration.
    Fixed(Arc<Key>),
    /// Public keys that were registered with it.
    Given(Arc<KeySet>),
    Fetched(Arc<Source>),
}

impl Idp {
    /// The tenant it belongs to.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its name, unique within the tenant.
    #[must_use]
    pub fn name(&self) -> &str {
        self.config.name()
    }

    /// Tenant and name.
    pub(super) fn shared_name(&self) -> (Arc<str>, Arc<str>) {
        (self.config.shared_tenant(), self.config.shared_name())
    }

    /// The settings it was registered with.
    #[must_use]
    pub fn config(&self) -> &IdpConfig {
        &self.config
    }

    /// Where its keys are fetched, if they are.
    pub(super) fn source(&self) -> Option<&Arc<Source>> {
        match &self.keys {
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => None,
            IdpKeys::Fetched(source) => Some(source),
        }
    }

    /// The key that verifies tokens with this `kid` and `algorithm`, if it is known and may be used at `now`, steady time.
    /// None where it would have to be fetched, and where the keys are not fetched at all.
    #[must_use]
    pub fn known_key(&self, kid: Option<&str>, algorithm: Algorithm, now: Timestamp) -> Option<Arc<Key>> {
        self.source()?
            .with_view(|view| match view.lookup(kid, algorithm, now) {
                Lookup::Use { key, .. } => Some(Arc::clone(key)),
                Lookup::Unknown | Lookup::Ambiguous | Lookup::Unavailable => None,
            })
    }

    /// Its keys as they are now. None where it has a shared secret: that is never shown.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        match &self.keys {
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => None,
            IdpKeys::Fetched(source) => Some(source.view()),
        }
    }

    /// Whether the registration was changed or removed since it was handed out.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(super) fn place(&self) -> u64 {
        self.place.load(Ordering::Acquire)
    }

    /// Marks the registration as gone, and its source too unless `successor` goes on with it.
    pub(super) fn retire(&self, inner: &Inner, successor: Option<&Idp>) {
        self.retired.store(true, Ordering::Release);
        if let IdpKeys::Fetched(source) = &self.keys {
            let kept = successor.is_some_and(
                |idp| matches!(&idp.keys, IdpKeys::Fetched(other) if Arc::ptr_eq(other, source)),
            );
            if !kept {
                source.retire(inner);
            }
        }
    }
}

impl fmt::Debug for Idp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idp")
            .field("tenant", &self.tenant())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
