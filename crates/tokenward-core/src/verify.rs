//! Verifying a token from its text to an accepted claims set.

use crate::{
    Denial, Timestamp,
    claims::Claims,
    jose::{Algorithm, Header, KeySet, MAX_TOKEN_BYTES, Selection, Thumbprint, Token},
    policy::{Binding, Policy},
};

/// Verifies `token` with the keys of the policy's issuer, at the wall-clock time `now`. Nothing is cached.
///
/// The order is fixed: size and form, issuer, algorithm, key, signature, then every rule about claims. The keys
/// must be those of the policy's issuer and of no one else.
///
/// # Errors
/// The first reason in that order. [`Denial::KeyUnknown`] also stands for several keys that could be meant.
pub fn verify(token: &str, keys: &KeySet, policy: &Policy, now: Timestamp) -> Result<Verified, Denial> {
    explain(token, keys, policy, now, &mut ())
}

/// Does what [`verify`] does, and tells each check to `trace` in order.
///
/// # Errors
/// As [`verify`].
pub fn explain<T: Trace>(
    token: &str,
    keys: &KeySet,
    policy: &Policy,
    now: Timestamp,
    trace: &mut T,
) -> Result<Verified, Denial> {
    let parsed = Token::parse(token, MAX_TOKEN_BYTES);
    trace.check(
        "format",
        parsed.as_ref().map(|_| ()).map_err(|denial| *denial),
        || format!("{} of at most {MAX_TOKEN_BYTES} bytes", token.len()),
    );
    let token = parsed?;
    policy.admit(&token, trace)?;
    let header = token.header();
    let selection = keys.select(header.kid(), header.alg());
    let (outcome, note) = match selection {
        Selection::Key(key) => (Ok(key), "one key fits"),
        Selection::Unknown => (Err(Denial::KeyUnknown), "no key fits"),
        Selection::Ambiguous => (Err(Denial::KeyUnknown), "several keys could be meant"),
    };
    trace.check("key", outcome.map(|_| ()), || {
        format!("{note}, of {} usable ones", keys.usable().len())
    });
    let key = outcome?;
    token.verify_signature(key, trace)?;
    policy.validate(token.claims(), header, now, Binding::Refused, trace)?;
    Ok(token.into_verified(key))
}

/// A token that has passed every check. It owns what it says; the text is not kept.
#[derive(Clone, Debug)]
pub struct Verified {
    header: Header,
    claims: Claims,
    key: Thumbprint,
}

impl Verified {
    pub(crate) const fn new(header: Header, claims: Claims, key: Thumbprint) -> Self {
        Self { header, claims, key }
    }

    /// The claims, which the issuer vouches for.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The algorithm of the signature.
    #[must_use]
    pub const fn alg(&self) -> Algorithm {
        self.header.alg()
    }

    /// The key id in the header.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid()
    }

    /// The token's type, as the header spells it.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.header.typ()
    }

    /// The thumbprint of the key that verified it.
    #[must_use]
    pub const fn key(&self) -> &Thumbprint {
        &self.key
    }

    /// The claims alone.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.claims
    }
}

/// Hears of each check of a verification, in order.
///
/// `()` hears nothing and costs nothing; a [`Vec`] of [`Check`] remembers.
pub trait Trace {
    /// One check: its name, what came of it, and a note for the operator. A note never holds a claim's value other
    /// than a time.
    fn check(&mut self, name: &'static str, outcome: Result<(), Denial>, note: impl FnOnce() -> String);
}

impl Trace for () {
    #[inline]
    fn check(&mut self, _: &'static str, _: Result<(), Denial>, _: impl FnOnce() -> String) {}
}

/// One check as it was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether it passed, and why not.
    pub outcome: Result<(), Denial>,
    /// What was compared with what.
    pub note: String,
}

impl Trace for Vec<Check> {
    fn check(&mut self, name: &'static str, outcome: Result<(), Denial>, note: impl FnOnce() -> String) {
        self.push(Check {
            name,
            outcome,
            note: note(),
        });
    }
}
