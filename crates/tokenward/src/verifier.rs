//! Verifies tokens of every registered issuer.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use serde::de::DeserializeOwned;
use tokenward_core::{
    Check, Denial, Timestamp, Trace, Verified,
    claims::{Claims, Confirmation},
    freshness::{CallerId, Lookup as Found, View},
    jose::{Algorithm, Key, KeySet, MAX_TOKEN_BYTES, Selection, Token},
    policy::Binding,
    revocation::{Index, Marks},
};

use crate::{
    cache::TokenCache,
    registry::{Idp, IdpKeys, NotFound, Registry, Seen, Source},
    telemetry::Verifications,
};

/// The default bound of the cache of verified tokens, in bytes: 64 MiB.
pub const DEFAULT_CACHE_BYTES: u64 = 64 << 20;

/// What [`VerifiedToken::keep`] keeps at most with one token, in bytes. The cache counts as much for each.
pub const KEPT_BYTES: usize = 1_024;

/// Verifies tokens of all identity providers of a [`Registry`]. Cheap to clone.
///
/// A token's unverified issuer only ever selects a registered identity provider; nothing else of it is used
/// before its signature has been checked with a key of that very provider.
#[derive(Clone, Debug)]
pub struct Verifier {
    registry: Registry,
    cache: Arc<TokenCache>,
    revocations: Option<Arc<Index>>,
    telemetry: Verifications,
}

impl Verifier {
    /// A verifier with a cache of [`DEFAULT_CACHE_BYTES`].
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self::with_cache_bytes(registry, DEFAULT_CACHE_BYTES)
    }

    /// A verifier whose cache of verified tokens takes about `bytes` at most; zero turns it off.
    #[must_use]
    pub fn with_cache_bytes(registry: Registry, bytes: u64) -> Self {
        Self {
            registry,
            cache: Arc::new(TokenCache::new(bytes)),
            revocations: None,
            telemetry: Verifications::new(),
        }
    }

    /// Refuses what the index names, at every use of a token, remembered verifications included. Without one nothing is
    /// ever revoked.
    #[must_use]
    pub fn with_revocations(mut self, index: Arc<Index>) -> Self {
        // What was remembered so far has no marks in this index.
        self.cache = Arc::new(TokenCache::new(self.cache.max_bytes()));
        self.revocations = Some(index);
        self
    }

    /// The registry whose issuers are trusted.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Verifies `token` against the issuers of `tenant`.
    ///
    /// A token whose key is known never waits. One with an unknown key waits at most 2 s for a fetch that
    /// `caller`'s share of its issuer's budget allows. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The reason why the token is not accepted.
    pub async fn verify(
        &self,
        tenant: &str,
        token: &str,
        caller: CallerId,
    ) -> Result<Arc<VerifiedToken>, Denial> {
        self.verify_with(tenant, token, caller, &Terms::default()).await
    }

    /// Verifies `token` as [`Verifier::verify`] does, on other terms.
    ///
    /// # Errors
    ///
    /// The reason why the token is not accepted.
    pub async fn verify_with(
        &self,
        tenant: &str,
        token: &str,
        caller: CallerId,
        terms: &Terms,
    ) -> Result<Arc<VerifiedToken>, Denial> {
        let clock = self.registry.clock_ref();
        let began = clock.steady();
        let tell = |idp: Option<&Idp>, outcome| {
            let took = clock.steady().since(began);
            self.telemetry
                .verified(tenant, idp.map(Idp::config), outcome, took);
        };
        if let Some(verified) = self.cached(tenant, token, began) {
            let outcome = terms
                .admit(&verified)
                .and_then(|()| self.check_revocations(&verified, began));
            tell(Some(&verified.idp), outcome);
            return outcome.map(|()| verified);
        }
        let mut selected = Selected::default();
        // By itself, so that what waits for a token that is known stays small.
        let outcome = Box::pin(self.verify_anew(tenant, token, caller, terms, &mut (), &mut selected)).await;
        let told = outcome.as_ref().map(|_| ()).map_err(|denial| *denial);
        tell(selected.idp.as_deref(), told);
        outcome
    }

    /// Verifies `token` as [`Verifier::verify`] does, without the cache, and tells every check in its order.
    /// What comes back never holds the token.
    pub async fn explain(&self, tenant: &str, token: &str, caller: CallerId) -> Explanation {
        let mut checks = Vec::new();
        let mut selected = Selected::default();
        let outcome = self
            .verify_anew(
                tenant,
                token,
                caller,
                &Terms::default(),
                &mut checks,
                &mut selected,
            )
            .await;
        let key = selected.key.as_ref();
        Explanation {
            reason: outcome.err(),
            idp: selected.idp.map(|idp| idp.name().to_owned()),
            checks,
            wall: self.registry.clock_ref().wall(),
            kid: key.and_then(|chosen| chosen.key.kid()).map(str::to_owned),
            key_usable_until: key
                .map(|chosen| chosen.until)
                .filter(|until| *until != Timestamp::MAX),
        }
    }

    /// `now` is steady time.
    fn check_revocations(&self, verified: &VerifiedToken, now: Timestamp) -> Result<(), Denial> {
        match (&self.revocations, &verified.marks) {
            (Some(index), Some(marks)) => index.admit(marks, now),
            _ => Ok(()),
        }
    }

    /// `now` is steady time.
    fn cached(&self, tenant: &str, token: &str, now: Timestamp) -> Option<Arc<VerifiedToken>> {
        let found = self.cache.get(tenant, token);
        let verified = found.filter(|verified| {
            let holds = verified.holds(self.registry.clock_ref().wall(), now);
            if !holds {
                self.cache.forget(tenant, token);
            }
            holds
        });
        self.telemetry.cached(verified.is_some());
        verified
    }

    /// `selected` becomes what the token is judged by, also where it is refused.
    async fn verify_anew(
        &self,
        tenant: &str,
        text: &str,
        caller: CallerId,
        terms: &Terms,
        trace: &mut (impl Trace + Send),
        selected: &mut Selected,
    ) -> Result<Arc<VerifiedToken>, Denial> {
        let token = checked(trace, "format", Token::parse(text, MAX_TOKEN_BYTES), || {
            format!("{} of at most {MAX_TOKEN_BYTES} bytes", text.len())
        })?;
        let issuer = token.claims().issuer().filter(|_| terms.takes(token.claims()));
        let idp = issuer.and_then(|issuer| self.registry.idp_by_issuer(tenant, issuer));
        let note = || match &idp {
            Some(idp) => format!("`{}` of tenant `{tenant}`", idp.name()),
            None => format!("none of tenant `{tenant}` has it"),
        };
        let known = idp.as_ref().map(|_| ()).ok_or(Denial::IssuerUnknown);
        checked(trace, "issuer_known", known, note)?;
        let idp = idp.ok_or(Denial::IssuerUnknown)?;
        selected.idp = Some(Arc::clone(&idp));
        let policy = idp.config().policy().ok_or(Denial::IssuerUnknown)?;
        policy.admit(&token, trace)?;
        let key = match &idp.keys {
            IdpKeys::Fixed(key) => {
                let fits = key.fits(token.header().alg());
                let key = fits.then_some(key).ok_or(Denial::KeyUnknown);
                let key = checked(trace, "key", key, || "a shared secret".into())?;
                self.authenticate_with(key, &token, trace, selected)?
            }
            IdpKeys::Given(keys) => {
                let header = token.header();
                let key = match keys.select(header.kid(), header.alg()) {
                    Selection::Key(key) => Ok(key),
                    Selection::Unknown | Selection::Ambiguous => Err(Denial::KeyUnknown),
                };
                let key = checked(trace, "key", key, || among(keys, key.is_ok()))?;
                self.authenticate_with(key, &token, trace, selected)?
            }
            IdpKeys::Fetched(source) => self.authenticate(source, &token, caller, trace, selected).await?,
        };
        policy.validate(
            token.claims(),
            token.header(),
            self.registry.clock_ref().wall(),
            terms.binding,
            trace,
        )?;
        let verified = token.into_verified(&key.key);
        let marks = self.revocations.as_ref().map(|index| {
            let claims = verified.claims();
            index.marks(claims.issuer().unwrap_or_default(), claims, key.key.kid())
        });
        let verified = Arc::new(VerifiedToken::new(Arc::clone(&idp), verified, &key, marks));
        checked(
            trace,
            "revocation",
            self.check_revocations(&verified, self.registry.clock_ref().steady()),
            String::new,
        )?;
        self.cache.put(&verified, text);
        Ok(verified)
    }

    /// Checks the signature with a key that never changes.
    fn authenticate_with(
        &self,
        key: &Arc<Key>,
        token: &Token<'_>,
        trace: &mut (impl Trace + Send),
        selected: &mut Selected,
    ) -> Result<Chosen, Denial> {
        let chosen = Chosen {
            key: Arc::clone(key),
            until: Timestamp::MAX,
            generation: 0,
        };
        selected.key = Some(chosen.clone());
        token.verify_signature(key, trace)?;
        Ok(chosen)
    }

    /// Finds the key that the token names and checks the signature with it. Where that fails under a known key
    /// id, the set is looked at once more, since the id may name another key by now.
    async fn authenticate(
        &self,
        source: &Arc<Source>,
        token: &Token<'_>,
        caller: CallerId,
        trace: &mut (impl Trace + Send),
        selected: &mut Selected,
    ) -> Result<Chosen, Denial> {
        let (kid, algorithm) = (token.header().kid(), token.header().alg());
        let clock = self.registry.clock_ref();
        let chosen = source
            .search(
                self.registry.inner(),
                kid.unwrap_or_default(),
                caller,
                |view, now| choose(view, kid, algorithm, now),
            )
            .await
            .map_err(|missing| match missing {
                NotFound::Unknown => Denial::KeyUnknown,
                NotFound::Unavailable => Denial::IssuerUnavailable,
            });
        let found = chosen.is_ok();
        let chosen = checked(trace, "key", chosen, || {
            match source.view().keys(clock.steady()) {
                Some(keys) => among(keys, found),
                None => "there are no usable keys".into(),
            }
        })?;
        selected.key = Some(chosen.clone());
        let outcome = token.verify_signature(&chosen.key, trace);
        if outcome.is_ok() {
            if let Some(kid) = kid {
                source.note_use(kid, clock.steady());
            }
            return Ok(chosen);
        }
        let look = |view: &View, now| match choose(view, kid, algorithm, now) {
            Seen::Found { value, .. } if value.key.thumbprint() != chosen.key.thumbprint() => Some(value),
            _ => None,
        };
        let again = source.look_again(self.registry.inner(), caller, look).await;
        let again = again.ok_or(Denial::SignatureInvalid)?;
        selected.key = Some(again.clone());
        token.verify_signature(&again.key, trace)?;
        Ok(again)
    }
}

/// What a caller demands of a token beside the policy of its issuer, and what it takes upon itself.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    binding: Binding,
    issuers: Option<Arc<[String]>>,
}

impl Terms {
    /// Accepts tokens that are bound to a DPoP key too. The caller has to check a proof of possession of that key before
    /// the token means anything: see [`dpop::check`](tokenward_core::dpop::check). Otherwise such a token is [`Denial::DpopMissing`].
    #[must_use]
    pub const fn binding_left_to_caller(mut self) -> Self {
        self.binding = Binding::LeftToCaller;
        self
    }

    /// Accepts only these of the tenant's issuers; any other is [`Denial::IssuerUnknown`], before anything is fetched.
    #[must_use]
    pub fn only_issuers(mut self, issuers: impl Into<Arc<[String]>>) -> Self {
        self.issuers = Some(issuers.into());
        self
    }

    fn takes(&self, claims: &Claims) -> bool {
        let Some(issuers) = &self.issuers else {
            return true;
        };
        let issuer = claims.issuer().unwrap_or_default();
        issuers.iter().any(|one| one == issuer)
    }

    /// Asks of a remembered token what the terms under which it was verified may not have asked.
    fn admit(&self, verified: &VerifiedToken) -> Result<(), Denial> {
        if !self.takes(verified.claims()) {
            return Err(Denial::IssuerUnknown);
        }
        match (verified.claims().confirmation(), self.binding) {
            (Confirmation::None, _) | (Confirmation::Jkt(_), Binding::LeftToCaller) => Ok(()),
            (Confirmation::Jkt(_), Binding::Refused) => Err(Denial::DpopMissing),
            (Confirmation::Other, _) => Err(Denial::ClaimRejected),
        }
    }
}

/// The key for a token among those of `view`.
fn choose(view: &View, kid: Option<&str>, algorithm: Algorithm, now: Timestamp) -> Seen<Chosen> {
    match view.lookup(kid, algorithm, now) {
        Found::Use { key, until, stale } => Seen::Found {
            value: Chosen {
                key: Arc::clone(key),
                until,
                generation: view.generation(),
            },
            stale,
        },
        Found::Ambiguous => Seen::Hopeless,
        // Without a kid nothing can be looked for: another fetch would find the same set.
        Found::Unknown if kid.is_none() => Seen::Hopeless,
        Found::Unknown | Found::Unavailable => Seen::Missing,
    }
}

fn checked<T>(
    trace: &mut impl Trace,
    name: &'static str,
    outcome: Result<T, Denial>,
    note: impl FnOnce() -> String,
) -> Result<T, Denial> {
    trace.check(name, outcome.as_ref().map(|_| ()).map_err(|denial| *denial), note);
    outcome
}

/// What is told of the choice of a key.
fn among(keys: &KeySet, found: bool) -> String {
    let found = if found { "one key fits" } else { "not one key fits" };
    format!("{found}, of {} usable ones", keys.usable().len())
}

/// What a token is judged by, as far as it got.
#[derive(Default)]
struct Selected {
    /// Of the issuer that the token claims to be from.
    idp: Option<Arc<Idp>>,
    /// The key that its header names.
    key: Option<Chosen>,
}

/// The key that a token is verified with, and what the choice depends on.
#[derive(Clone)]
struct Chosen {
    key: Arc<Key>,
    until: Timestamp,
    generation: u64,
}

/// A token that has passed every check, with the identity provider that vouches for it.
pub struct VerifiedToken {
    idp: Arc<Idp>,
    token: Verified,
    key_until: Timestamp,
    generation: u64,
    marks: Option<Marks>,
    /// Civil times between which the claims hold, leeway included.
    valid: (Timestamp, Timestamp),
    kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl VerifiedToken {
    fn new(idp: Arc<Idp>, token: Verified, chosen: &Chosen, marks: Option<Marks>) -> Self {
        let valid = idp
            .config()
            .policy()
            .map_or((Timestamp::MAX, Timestamp::default()), |policy| {
                policy.validity(token.claims())
            });
        Self {
            key_until: chosen.until,
            generation: chosen.generation,
            idp,
            token,
            marks,
            valid,
            kept: OnceLock::new(),
        }
    }

    /// Whether everything that was checked still holds at these times: the claims' times, the registration, and
    /// the key.
    fn holds(&self, wall: Timestamp, steady: Timestamp) -> bool {
        let key_holds = match &self.idp.keys {
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => true,
            IdpKeys::Fetched(source) => {
                steady < self.key_until && source.view_generation() == self.generation
            }
        };
        key_holds && !self.idp.is_retired() && self.valid.0 <= wall && wall < self.valid.1
    }

    pub(crate) fn shared_tenant(&self) -> Arc<str> {
        self.idp.config().shared_tenant()
    }

    /// The tenant whose issuer it is from.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.idp.config().tenant()
    }

    /// The identity provider that signed it.
    #[must_use]
    pub fn idp(&self) -> &Idp {
        &self.idp
    }

    /// The issuer, `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.token.claims().issuer().unwrap_or_default()
    }

    /// The subject, `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.token.claims().subject()
    }

    /// The token's id, `jti`.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token.claims().token_id()
    }

    /// Its key id.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.token.kid()
    }

    /// When it expires, `exp`, without leeway.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.token.claims().expires_at()
    }

    /// Everything it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.token.claims()
    }

    /// Keeps `value`, which was made of this token and takes about `bytes`, for as long as the token is remembered: whoever is
    /// shown it again finds the value by [`VerifiedToken::kept`] and need not make it anew. The first value stays; one of more than
    /// [`KEPT_BYTES`] is not kept.
    ///
    /// What a value depends on beside the token, such as settings, has to be compared by whoever finds it.
    pub fn keep<T: Any + Send + Sync>(&self, value: &Arc<T>, bytes: usize) {
        if bytes <= KEPT_BYTES {
            self.kept.get_or_init(|| Arc::<T>::clone(value));
        }
    }

    /// What [`VerifiedToken::keep`] keeps, if it is a `T`.
    #[must_use]
    pub fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.kept.get()?).downcast().ok()
    }

    /// Its claims as a type of the application's.
    ///
    /// # Errors
    ///
    /// [`Denial::ClaimRejected`] where they do not fit the type.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Denial> {
        let claims = serde_json::Value::Object(self.claims().to_map());
        serde_json::from_value(claims).map_err(|_| Denial::ClaimRejected)
    }
}

/// The claims stay out of it: they may be personal.
impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("idp", &self.idp)
            .finish_non_exhaustive()
    }
}

/// Every check of a verification in its order, and what the outcome depends on.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Why the token is refused; none where it is accepted.
    pub reason: Option<Denial>,
    /// The identity provider that it was judged by, also where it is refused; none where its issuer is unknown.
    pub idp: Option<String>,
    /// The checks in order. Those that come after the first failure to parse, to select or to authenticate were not
    /// made.
    pub checks: Vec<Check>,
    /// The civil time that the claims were compared with.
    pub wall: Timestamp,
    /// The key id of the key that its signature was checked with.
    pub kid: Option<String>,
    /// Until when that key may be used, if no fetch succeeds.
    pub key_usable_until: Option<Timestamp>,
}
