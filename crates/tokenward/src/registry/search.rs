//! Looking for keys that may have to be fetched first.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokenward_core::{
    Timestamp,
    freshness::{CallerId, Lookup as Found, Miss, View},
    jose::{Algorithm, Key, KeySet, Selection},
};

use super::{Idp, IdpKeys, Inner, Registry, Source, lock};
use crate::{
    error::{Error, ErrorKind},
    telemetry::Lookup,
};

/// The longest that a lookup waits for fetches.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);

/// What one look at a view comes to.
pub(crate) enum Seen<T> {
    /// It is there.
    Found {
        value: T,
        /// Whether the set is past its freshness.
        stale: bool,
    },
    /// A fetch may bring it.
    Missing,
    /// No fetch would help.
    Hopeless,
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// The set does not have it.
    Unknown,
    /// There is no set, or whether the provider has it by now could not be checked.
    Unavailable,
}

impl Source {
    /// Looks until it is found, a fetch has shown that it is not there, or [`MAX_WAIT`] is over. Every fetch comes
    /// out of `caller`'s share of the budget and is shared with all who wait. `kid` is what is looked for, empty
    /// where no key is named. Dropping the future leaves nothing behind.
    pub(crate) async fn search<T>(
        self: &Arc<Self>,
        inner: &Inner,
        kid: &str,
        caller: CallerId,
        look: impl Fn(&View, Timestamp) -> Seen<T>,
    ) -> Result<T, NotFound> {
        let clock = &*inner.clock;
        let until = clock.steady() + MAX_WAIT;
        let mut in_time = true;
        let missing = loop {
            let now = clock.steady();
            let (seen, has_keys) = self.with_view(|view| (look(view, now), view.keys(now).is_some()));
            match seen {
                Seen::Found { value, stale } => {
                    self.count(if stale { Lookup::Stale } else { Lookup::Hit });
                    return Ok(value);
                }
                Seen::Hopeless => break NotFound::Unknown,
                Seen::Missing if !in_time => break NotFound::Unavailable,
                Seen::Missing => {}
            }
            let landed = {
                let mut entry = lock(&self.entry);
                // Made under the lock: whatever lands from here on wakes it, even before it is first polled.
                let landed = self.landed.notified();
                let miss = entry.miss(kid, caller, now);
                self.metrics.unknown_kid(match miss {
                    Miss::Fetch(_) => "fetch",
                    Miss::Join => "join",
                    Miss::KnownAbsent => "known_absent",
                    Miss::OverBudget => "over_budget",
                });
                match miss {
                    Miss::Fetch(plan) => self.launch(inner, plan),
                    Miss::Join => {}
                    Miss::KnownAbsent if has_keys => break NotFound::Unknown,
                    // What could not be checked is an outage, not a wrong key.
                    Miss::KnownAbsent | Miss::OverBudget => break NotFound::Unavailable,
                }
                landed
            };
            let landed = matches!(
                select(pin!(landed), clock.sleep(until.since(now))).await,
                Either::Left(_)
            );
            in_time = landed && clock.steady() < until;
        };
        self.count(Lookup::Miss);
        Err(missing)
    }
}

impl Source {
    /// Looks once more after a signature did not verify under a known key id, which may name another key by now: after
    /// a fetch out of `caller`'s share of a small budget, or after the one in the air, which costs nothing. That one
    /// may have been sent before the key was replaced, so it is not the last word. Waits at most [`MAX_WAIT`].
    pub(crate) async fn look_again<T>(
        self: &Arc<Self>,
        inner: &Inner,
        caller: CallerId,
        look: impl Fn(&View, Timestamp) -> Option<T>,
    ) -> Option<T> {
        let clock = &*inner.clock;
        let until = clock.steady() + MAX_WAIT;
        let mut last = false;
        loop {
            let now = clock.steady();
            let found = self.with_view(|view| look(view, now));
            if found.is_some() || last || now >= until {
                return found;
            }
            let landed = {
                let mut entry = lock(&self.entry);
                let landed = self.landed.notified();
                match entry.bad_signature(caller, now) {
                    Miss::Fetch(plan) => {
                        self.launch(inner, plan);
                        last = true;
                    }
                    Miss::Join => {}
                    Miss::KnownAbsent | Miss::OverBudget => return None,
                }
                landed
            };
            select(pin!(landed), clock.sleep(until.since(now))).await;
        }
    }
}

impl Registry {
    /// The keys of an identity provider, the very set that everybody shares. Where there are none yet, or no longer,
    /// it waits at most 2 s for a fetch, which all who ask share and which `caller`'s share of the budget must allow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no such identity provider, or it has a shared secret, which nobody is
    /// shown; [`ErrorKind::Unavailable`] where its keys cannot be had now.
    pub async fn resolve(&self, tenant: &str, name: &str, caller: CallerId) -> Result<Arc<KeySet>, Error> {
        let idp = self.existing(tenant, name)?;
        let source = match &idp.keys {
            IdpKeys::Fetched(source) => source,
            IdpKeys::Given(keys) => return Ok(Arc::clone(keys)),
            IdpKeys::Fixed(_) => return Err(hidden(&idp)),
        };
        let look = |view: &View, now| match view.keys(now) {
            Some(keys) => Seen::Found {
                value: Arc::clone(keys),
                stale: now >= view.fresh_until(),
            },
            None => Seen::Missing,
        };
        let found = source.search(&self.inner, "", caller, look).await;
        found.map_err(|missing| missed(&idp, missing, source.error_text().as_deref()))
    }

    /// The key of an identity provider that verifies tokens with this `kid` and `algorithm`. A known one is had at
    /// once, also within the grace after it left the set. For an unknown one the set is fetched anew, within
    /// `caller`'s share of the budget, once for all who ask, and in at most 2 s; a `kid` that was looked for in vain
    /// is not looked for again for a while.
    ///
    /// # Errors
    ///
    /// As [`Registry::resolve`]; [`ErrorKind::KeyUnknown`] where a set that is fresh enough has no such key, or
    /// several. Where that could not be checked, it is [`ErrorKind::Unavailable`].
    pub async fn resolve_key(
        &self,
        tenant: &str,
        name: &str,
        kid: &str,
        algorithm: Algorithm,
        caller: CallerId,
    ) -> Result<Arc<Key>, Error> {
        let idp = self.existing(tenant, name)?;
        let source = match &idp.keys {
            IdpKeys::Fetched(source) => source,
            IdpKeys::Given(keys) => match keys.select(Some(kid), algorithm) {
                Selection::Key(key) => return Ok(Arc::clone(key)),
                Selection::Unknown | Selection::Ambiguous => {
                    return Err(missed(&idp, NotFound::Unknown, None));
                }
            },
            IdpKeys::Fixed(_) => return Err(hidden(&idp)),
        };
        let look = |view: &View, now| match view.lookup(Some(kid), algorithm, now) {
            Found::Use { key, stale, .. } => Seen::Found {
                value: Arc::clone(key),
                stale,
            },
            Found::Ambiguous => Seen::Hopeless,
            Found::Unknown | Found::Unavailable => Seen::Missing,
        };
        let found = source.search(&self.inner, kid, caller, look).await;
        found.map_err(|missing| missed(&idp, missing, source.error_text().as_deref()))
    }
}

fn hidden(idp: &Idp) -> Error {
    let (tenant, name) = (idp.tenant(), idp.name());
    Error::new(
        ErrorKind::NotFound,
        format!("`{name}` of tenant `{tenant}` has a shared secret, which is not shown"),
    )
}

fn missed(idp: &Idp, missing: NotFound, why: Option<&str>) -> Error {
    let (tenant, name) = (idp.tenant(), idp.name());
    match missing {
        NotFound::Unknown => Error::new(
            ErrorKind::KeyUnknown,
            format!("`{name}` of tenant `{tenant}` has no such key"),
        ),
        NotFound::Unavailable => Error::new(
            ErrorKind::Unavailable,
            format!(
                "keys of `{name}` of tenant `{tenant}`: {}",
                why.unwrap_or("not to be looked for now")
            ),
        ),
    }
}
