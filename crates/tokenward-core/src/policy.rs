//! What one issuer's tokens must be like to be accepted.

mod builder;

use std::{sync::Arc, time::Duration};

pub use builder::{PolicyBuilder, PolicyError, PolicyProblem};

use crate::{
    Denial, Timestamp,
    claims::{Claims, Confirmation},
    jose::{AlgorithmSet, Header, Token},
    verify::Trace,
};

/// Token types that are signed JWTs but never credentials for a resource: logout and security event tokens,
/// proofs and assertions, signed requests, responses and statements, and parents of our own tokens. Without this
/// list any of them could be replayed as an access token (RFC 8725 section 3.12).
const OTHER_USES: [&str; 13] = [
    "client-authentication+jwt",
    "dc+sd-jwt",
    "dpop+jwt",
    "entity-statement+jwt",
    "kb+jwt",
    "logout+jwt",
    "oauth-authz-req+jwt",
    "parent+jwt",
    "secevent+jwt",
    "statuslist+jwt",
    "token-introspection+jwt",
    "trust-mark+jwt",
    "vc+sd-jwt",
];

/// Which audiences a token may be meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// The check is waived, explicitly.
    Any,
    /// `aud` must name one of these, exactly.
    OneOf(Vec<String>),
}

/// What becomes of a token that is bound to a DPoP key (`cnf.jkt`, RFC 9449 section 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// It is refused: whoever copied it could present it as well.
    #[default]
    Refused,
    /// It passes. The caller has to check a proof of possession of that key before the token means anything:
    /// [`dpop::check`](crate::dpop::check).
    LeftToCaller,
}

/// The rules for one issuer. Made by [`Policy::builder`], so it cannot hold a value out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    issuer: Arc<str>,
    rules: Arc<Rules>,
}

/// What many issuers may have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    audiences: Audiences,
    algorithms: AlgorithmSet,
    leeway: Duration,
    require_exp: bool,
    max_token_age: Option<Duration>,
    max_token_lifetime: Option<Duration>,
    required_claims: Vec<String>,
    typ: Option<String>,
    azp: Vec<String>,
}

impl Policy {
    /// Starts with the issuer, compared byte for byte, and the audiences; everything else has a default.
    pub fn builder(issuer: impl Into<String>, audiences: Audiences) -> PolicyBuilder {
        PolicyBuilder::new(issuer.into(), audiences)
    }

    /// [`Policy::issuer`], to keep.
    #[must_use]
    pub fn shared_issuer(&self) -> Arc<str> {
        Arc::clone(&self.issuer)
    }

    /// The exact `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The accepted audiences.
    #[must_use]
    pub fn audiences(&self) -> &Audiences {
        &self.rules.audiences
    }

    /// The algorithms that the issuer may sign with.
    #[must_use]
    pub fn algorithms(&self) -> AlgorithmSet {
        self.rules.algorithms
    }

    /// How far clocks may be apart.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.rules.leeway
    }

    /// The longest that a token may live from its `iat` to its `exp`. None: there is no limit.
    #[must_use]
    pub fn max_token_lifetime(&self) -> Option<Duration> {
        self.rules.max_token_lifetime
    }

    /// Everything but the issuer: where that of another policy is the same, one can stand for both.
    pub fn rules_mut(&mut self) -> &mut Arc<Rules> {
        &mut self.rules
    }

    /// Whether the token is this issuer's, and signed with an algorithm that the issuer may use. Needs no key.
    ///
    /// # Errors
    /// [`Denial::IssuerUnknown`], [`Denial::AlgNotAllowed`].
    pub fn admit<T: Trace>(&self, token: &Token<'_>, trace: &mut T) -> Result<(), Denial> {
        let issuer = ok_or(
            token.claims().issuer() == Some(&*self.issuer),
            Denial::IssuerUnknown,
        );
        trace.check("issuer", issuer, || format!("must be {}", self.issuer));
        issuer?;
        let alg = token.header().alg();
        let allowed = ok_or(self.rules.algorithms.contains(alg), Denial::AlgNotAllowed);
        trace.check("algorithm", allowed, || {
            format!("{alg}; allowed: {}", self.rules.algorithms)
        });
        allowed
    }

    /// The wall-clock times between which claims that were accepted once stay acceptable: from the first, and before
    /// the second.
    #[must_use]
    pub fn validity(&self, claims: &Claims) -> (Timestamp, Timestamp) {
        let begins = claims.not_before().max(claims.issued_at());
        let from = begins.map_or(Timestamp::from_secs(0), |begins| begins - self.rules.leeway);
        let expires = claims
            .expires_at()
            .map_or(Timestamp::MAX, |expires| expires + self.rules.leeway);
        let ages = match (self.rules.max_token_age, claims.issued_at()) {
            (Some(max), Some(issued)) => issued + max + self.rules.leeway,
            _ => Timestamp::MAX,
        };
        (from, expires.min(ages))
    }

    /// Whether the claims are acceptable at the wall-clock time `now`. Every rule is checked and traced, also after
    /// one has failed, so that an explanation is complete.
    ///
    /// # Errors
    /// The first failure in the order type, `exp`, `nbf`, `iat`, age, lifetime, `aud`, `azp`, required claims,
    /// `cnf`.
    pub fn validate<T: Trace>(
        &self,
        claims: &Claims,
        header: &Header,
        now: Timestamp,
        binding: Binding,
        trace: &mut T,
    ) -> Result<(), Denial> {
        let mut checks = Checks { trace, first: Ok(()) };
        let leeway = self.rules.leeway.as_secs();
        checks.check("typ", self.typ_is_accepted(header.typ()), || {
            match &self.rules.typ {
                Some(typ) => format!("must be {typ}"),
                None => "must not be a type of another use".into(),
            }
        });
        checks.check("exp", self.not_expired(claims, now), || {
            format!("{}; now {now}, leeway {leeway} s", time(claims.expires_at()))
        });
        for (name, time_of) in [("nbf", claims.not_before()), ("iat", claims.issued_at())] {
            let ahead = time_of.is_some_and(|start| start > now + self.rules.leeway);
            checks.check(name, ok_or(!ahead, Denial::TokenNotYetValid), || {
                format!("{}; now {now}, leeway {leeway} s", time(time_of))
            });
        }
        if let Some(max) = self.rules.max_token_age {
            checks.check("max_token_age", self.young_enough(claims, now, max), || {
                format!(
                    "issued {}; now {now}, at most {} s",
                    time(claims.issued_at()),
                    max.as_secs()
                )
            });
        }
        if let Some(max) = self.rules.max_token_lifetime {
            checks.check("max_token_lifetime", short_enough(claims, now, max), || {
                format!(
                    "from {} to {}, at most {} s",
                    time(claims.issued_at()),
                    time(claims.expires_at()),
                    max.as_secs()
                )
            });
        }
        if let Audiences::OneOf(accepted) = &self.rules.audiences {
            checks.check("aud", audience_matches(claims, accepted), || {
                format!("must name one of the {} configured audiences", accepted.len())
            });
        }
        if !self.rules.azp.is_empty() {
            checks.check("azp", self.authorized_party_matches(claims), || {
                format!("must be one of the {} configured parties", self.rules.azp.len())
            });
        }
        for name in &self.rules.required_claims {
            let present = claims.get(name).is_some_and(|value| !value.is_null());
            checks.check("required_claims", ok_or(present, Denial::ClaimMissing), || {
                name.clone()
            });
        }
        // A bound token in the hands of whoever copied it is what the binding is for (RFC 9449 section 7.2,
        // RFC 8705 section 3).
        let bound = match claims.confirmation() {
            Confirmation::None => Ok(()),
            Confirmation::Jkt(_) if binding == Binding::LeftToCaller => Ok(()),
            Confirmation::Jkt(_) => Err(Denial::DpopMissing),
            Confirmation::Other => Err(Denial::ClaimRejected),
        };
        checks.check("cnf", bound, || match binding {
            Binding::Refused => "must not be bound to a key, since no proof was checked".into(),
            Binding::LeftToCaller => "must not be bound to anything but a DPoP key".into(),
        });
        checks.first
    }

    fn typ_is_accepted(&self, typ: Option<&str>) -> Result<(), Denial> {
        let typ = typ.map(media_type);
        let accepted = match &self.rules.typ {
            Some(wanted) => typ.is_some_and(|typ| typ.eq_ignore_ascii_case(media_type(wanted))),
            None => !typ.is_some_and(|typ| OTHER_USES.iter().any(|other| typ.eq_ignore_ascii_case(other))),
        };
        ok_or(accepted, Denial::TypeRejected)
    }

    fn not_expired(&self, claims: &Claims, now: Timestamp) -> Result<(), Denial> {
        match claims.expires_at() {
            // "On or after" the time it is expired: RFC 7519 section 4.1.4.
            Some(exp) => ok_or(now < exp + self.rules.leeway, Denial::TokenExpired),
            None => ok_or(!self.rules.require_exp, Denial::ClaimMissing),
        }
    }

    fn young_enough(&self, claims: &Claims, now: Timestamp, max: Duration) -> Result<(), Denial> {
        let issued_at = claims.issued_at().ok_or(Denial::ClaimMissing)?;
        ok_or(now <= issued_at + max + self.rules.leeway, Denial::TokenTooOld)
    }

    fn authorized_party_matches(&self, claims: &Claims) -> Result<(), Denial> {
        let party = claims.get("azp").ok_or(Denial::ClaimMissing)?;
        let accepted = |party| self.rules.azp.iter().any(|one| one == party);
        ok_or(party.as_str().is_some_and(accepted), Denial::ClaimRejected)
    }
}

/// Runs on after a failure, and keeps the first one.
struct Checks<'t, T> {
    trace: &'t mut T,
    first: Result<(), Denial>,
}

impl<T: Trace> Checks<'_, T> {
    fn check(&mut self, name: &'static str, outcome: Result<(), Denial>, note: impl FnOnce() -> String) {
        self.trace.check(name, outcome, note);
        self.first = self.first.and(outcome);
    }
}

/// Without `iat` the lifetime counts from `now`: what is left of it is still bounded, which is what a record of its
/// revocation is kept for.
fn short_enough(claims: &Claims, now: Timestamp, max: Duration) -> Result<(), Denial> {
    let expires_at = claims.expires_at().ok_or(Denial::ClaimMissing)?;
    let since = claims.issued_at().unwrap_or(now);
    ok_or(expires_at.since(since) <= max, Denial::ClaimRejected)
}

fn audience_matches(claims: &Claims, accepted: &[String]) -> Result<(), Denial> {
    if claims.get("aud").is_none() {
        return Err(Denial::ClaimMissing);
    }
    let matches = claims
        .audiences()
        .any(|audience| accepted.iter().any(|one| one == audience));
    ok_or(matches, Denial::AudienceMismatch)
}

/// What a `typ` is compared by: without parameters, and without `application/`, which may be left out
/// (RFC 7515 section 4.1.9). The case of what is left is ignored by the comparison.
pub(crate) fn media_type(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    let essence = typ.split(';').next().unwrap_or_default().trim();
    match essence.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => essence,
    }
}

fn time(timestamp: Option<Timestamp>) -> String {
    timestamp.map_or_else(|| "absent".into(), |timestamp| timestamp.to_string())
}

const fn ok_or(holds: bool, denial: Denial) -> Result<(), Denial> {
    if holds { Ok(()) } else { Err(denial) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_compared_by_their_essence() {
        for (typ, essence) in [
            ("at+jwt", "at+jwt"),
            ("application/at+jwt", "at+jwt"),
            ("APPLICATION/at+jwt; v=1", "at+jwt"),
            ("text/at+jwt", "text/at+jwt"),
            ("", ""),
            ("é", "é"),
        ] {
            assert_eq!(media_type(typ), essence, "{typ:?}");
        }
    }
}
