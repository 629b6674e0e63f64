//! The claims of a JWT (RFC 7519), typed where the RFC gives them a type.

mod claim;
mod members;
mod numeric_date;

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use self::members::Members;
use crate::{Denial, Timestamp};

pub use self::claim::Claim;

/// A claims set. `iss`, `sub` and `jti` are strings, `aud` a string or an array of strings, `exp`, `nbf` and `iat`
/// finite numbers from 0 to the end of the year 9999, wherever they are present: a claim of the wrong type makes
/// the token malformed, it never counts as absent.
///
/// Has no `Debug` that shows values: claims are personal data.
#[derive(Clone)]
pub struct Claims {
    all: Members,
    exp: Option<Timestamp>,
    nbf: Option<Timestamp>,
    iat: Option<Timestamp>,
    /// Whether there is a `cnf`, which every use of a token asks.
    is_bound: bool,
}

/// What `cnf` (RFC 7800) binds the token to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation<'a> {
    /// Nothing: a bearer token.
    None,
    /// A DPoP key, by its JWK thumbprint (RFC 9449 section 6.1).
    Jkt(&'a str),
    /// Another method, several at once, or something malformed: a binding that is not understood.
    Other,
}

/// One who acts for the subject of a token (`act`, RFC 8693 section 4.1). As its claims say who it is, they are the
/// issuer's words, and not rules by themselves: only the current actor counts for those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Its `iss`, where that is said.
    pub issuer: Option<String>,
    /// Its `sub`, where that is said.
    pub subject: Option<String>,
}

impl Claims {
    /// Reads a decoded payload.
    ///
    /// # Errors
    /// [`Denial::TokenMalformed`] unless it is one strict JSON object with registered claims of their own types.
    pub fn parse(payload: &[u8]) -> Result<Self, Denial> {
        let all = Members::parse(payload).map_err(|_| Denial::TokenMalformed)?;
        Self::typed(all).ok_or(Denial::TokenMalformed)
    }

    fn typed(all: Members) -> Option<Self> {
        let (mut exp, mut nbf, mut iat, mut is_bound) = (None, None, None, false);
        for (name, value) in all.iter() {
            match name {
                "iss" | "sub" | "jti" if value.as_str().is_none() => return None,
                "aud" if !is_audience(value) => return None,
                "exp" => exp = Some(numeric_date::read(value)?),
                "nbf" => nbf = Some(numeric_date::read(value)?),
                "iat" => iat = Some(numeric_date::read(value)?),
                "cnf" => is_bound = true,
                _ => {}
            }
        }
        Some(Self {
            all,
            exp,
            nbf,
            iat,
            is_bound,
        })
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// `jti`.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.text("jti")
    }

    /// `aud`: every audience, none where it is absent or an empty array.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let aud = self.get("aud");
        let many = aud.and_then(Claim::as_array).unwrap_or_default();
        let one = aud.and_then(Claim::as_str);
        one.into_iter().chain(many.iter().filter_map(Value::as_str))
    }

    /// `exp`, to the millisecond, rounded down.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.exp
    }

    /// `nbf`, to the millisecond, rounded down.
    #[must_use]
    pub const fn not_before(&self) -> Option<Timestamp> {
        self.nbf
    }

    /// `iat`, to the millisecond, rounded down.
    #[must_use]
    pub const fn issued_at(&self) -> Option<Timestamp> {
        self.iat
    }

    /// The scopes granted: the words of `scope` (RFC 8693 section 4.2); without one, the elements of an `scp`
    /// array, or the words of an `scp` string. They are compared whole. A claim of another type grants nothing,
    /// and so does an array with anything but strings in it.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let granted = match self.get("scope") {
            Some(scope) => scope.as_str().map(Claim::String),
            None => self.get("scp"),
        };
        let words = granted.and_then(Claim::as_str).unwrap_or_default();
        let elements = granted.and_then(Claim::as_array).unwrap_or_default();
        let elements = if elements.iter().all(Value::is_string) {
            elements
        } else {
            &[]
        };
        let words = words.split(' ').filter(|word| !word.is_empty());
        words.chain(elements.iter().filter_map(Value::as_str))
    }

    /// The scopes granted as one text, separated by blanks. None where there are none, or where an element of an `scp`
    /// array has a blank itself: the text would grant other scopes than [`Claims::scopes`].
    #[must_use]
    pub fn scope(&self) -> Option<String> {
        let scopes: Vec<_> = self.scopes().collect();
        let one_to_one = scopes
            .iter()
            .all(|scope| !scope.is_empty() && !scope.contains(' '));
        (one_to_one && !scopes.is_empty()).then(|| scopes.join(" "))
    }

    /// `act`: who acts for the subject, the current one first, then those before it. Empty where nobody does.
    ///
    /// # Errors
    /// [`Denial::ClaimRejected`] where `act` is not an object, or its `iss`, `sub` or `act` of another type than theirs:
    /// what is not understood is not nobody.
    pub fn actors(&self) -> Result<Vec<Actor>, Denial> {
        let mut actors = Vec::new();
        let mut next = self.get("act");
        while let Some(act) = next {
            let members = act.as_object().ok_or(Denial::ClaimRejected)?;
            let text = |name| match members.get(name) {
                None => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err(Denial::ClaimRejected),
            };
            actors.push(Actor {
                issuer: text("iss")?,
                subject: text("sub")?,
            });
            next = members.get("act").map(Claim::from);
        }
        Ok(actors)
    }

    /// `azp`: the party that the token was issued to.
    #[must_use]
    pub fn authorized_party(&self) -> Option<&str> {
        self.text("azp")
    }

    /// `cnf`: what the presenter has to prove possession of.
    #[must_use]
    pub fn confirmation(&self) -> Confirmation<'_> {
        if !self.is_bound {
            return Confirmation::None;
        }
        let cnf = self.get("cnf").and_then(Claim::as_object);
        match cnf.map(|methods| (methods.len(), methods.get("jkt"))) {
            Some((1, Some(Value::String(jkt)))) => Confirmation::Jkt(jkt),
            _ => Confirmation::Other,
        }
    }

    /// The claim of this name, which is not a path: a dot or a slash in it means nothing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Claim<'_>> {
        self.all.get(name)
    }

    /// Every claim, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Claim<'_>)> {
        self.all.iter()
    }

    /// A copy of every claim. To write them as JSON needs none: they are [`Serialize`].
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        (&self.all).into()
    }

    /// About how many bytes of memory they take beside the value itself, on the high side.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.all.bytes()
    }

    /// A claim that is a string; None where it is absent or of another type.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

fn is_audience(value: Claim<'_>) -> bool {
    match value {
        Claim::String(_) => true,
        value => value
            .as_array()
            .is_some_and(|many| many.iter().all(Value::is_string)),
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("count", &self.iter().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_equal_whatever_their_order_and_spelling() {
        let read = |text: &str| Claims::parse(text.as_bytes()).unwrap();
        let claims = read(r#"{"sub":"a","exp":1,"roles":["b"]}"#);
        assert!(claims == read(r#"{ "exp": 1, "roles": ["b"], "s\u0075b": "a" }"#));
        for other in [
            r#"{"sub":"b","exp":1,"roles":["b"]}"#,
            r#"{"sub":"a","exp":1,"roles":["c"]}"#,
            r#"{"sub":"a","exp":1,"role":["b"]}"#,
            r#"{"sub":"a","exp":1}"#,
        ] {
            assert!(claims != read(other), "{other}");
        }
    }
}
