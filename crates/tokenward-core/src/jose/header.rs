//! The JOSE header of a signed token.

use std::{borrow::Cow, fmt};

use serde::de::{Error, MapAccess, Visitor};
use serde_json::Value;

use super::{
    algorithm::Algorithm,
    json::{self, Strict, Text},
};
use crate::Denial;

/// The longest `kid`, of tokens and of keys. It becomes a map key, an index and a field of logs.
pub const MAX_KID_BYTES: usize = 256;

/// What a header says, unverified. Members that only describe keys (`x5c`, `x5t`) are not kept: no key is taken
/// from a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    alg: Algorithm,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
}

impl Header {
    /// The algorithm that the token claims to be signed with.
    #[must_use]
    pub const fn alg(&self) -> Algorithm {
        self.alg
    }

    /// The id of the key, at most [`MAX_KID_BYTES`] long. Hostile text: a key of maps, never part of a path,
    /// URL or header.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The media type of the whole token (RFC 7515 section 4.1.9), as it was spelled.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Reads the decoded header.
    ///
    /// # Errors
    /// [`Denial::TokenMalformed`] for anything that is not a strict header, and for members that would change how
    /// the token is processed; [`Denial::AlgNotAllowed`] for an algorithm that is not supported, `none` included.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Denial> {
        Self::read(text, JwkMember::Refused).map(|(header, _)| header)
    }

    /// As [`Header::parse`], of a proof of possession: its header brings the public key (RFC 9449 section 4.2), which
    /// no other token may.
    pub(super) fn parse_with_jwk(text: &[u8]) -> Result<(Self, Value), Denial> {
        let (header, jwk) = Self::read(text, JwkMember::Taken(None))?;
        Ok((header, jwk.ok_or(Denial::TokenMalformed)?))
    }

    fn read(text: &[u8], jwk: JwkMember) -> Result<(Self, Option<Value>), Denial> {
        let members = Members {
            alg: None,
            kid: None,
            typ: None,
            cty: None,
            jwk,
        };
        let members = json::read(text, members).map_err(|_| Denial::TokenMalformed)?;
        let Some(alg) = members.alg else {
            return Err(Denial::TokenMalformed);
        };
        let header = Self {
            alg: Algorithm::parse(&alg).ok_or(Denial::AlgNotAllowed)?,
            kid: members.kid.map(Box::from),
            typ: members.typ.map(Box::from),
        };
        let jwk = match members.jwk {
            JwkMember::Refused => None,
            JwkMember::Taken(jwk) => jwk,
        };
        Ok((header, jwk))
    }
}

/// What is done with a key in a header.
enum JwkMember {
    /// It makes the header unacceptable.
    Refused,
    /// It is kept as it is.
    Taken(Option<Value>),
}

struct Members<'de> {
    alg: Option<Cow<'de, str>>,
    kid: Option<Cow<'de, str>>,
    typ: Option<Cow<'de, str>>,
    cty: Option<Cow<'de, str>>,
    jwk: JwkMember,
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        let mut others = Vec::new();
        while let Some(name) = members.next_key_seed(Text)? {
            if let ("jwk", JwkMember::Taken(jwk)) = (&*name, &mut self.jwk) {
                if jwk.replace(members.next_value_seed(Strict::MEMBER)?).is_some() {
                    return Err(json::duplicate());
                }
                continue;
            }
            let slot = match &*name {
                "alg" => &mut self.alg,
                "kid" => &mut self.kid,
                "typ" => &mut self.typ,
                "cty" => &mut self.cty,
                // An extension that must be understood is not (RFC 7515 section 4.1.11), an unencoded payload is
                // not for JWTs (RFC 7797 section 7), compression is for JWEs, and keys that come with a token
                // (CVE-2018-0114) or addresses to fetch them from are an attacker's.
                "crit" | "b64" | "zip" | "jwk" | "jku" | "x5u" => {
                    return Err(A::Error::custom("unacceptable header member"));
                }
                _ => {
                    members.next_value_seed(Strict::MEMBER)?;
                    others.push(name);
                    continue;
                }
            };
            if slot.is_some() {
                return Err(json::duplicate());
            }
            *slot = Some(members.next_value_seed(Text)?);
        }
        others.sort_unstable();
        if others.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(json::duplicate());
        }
        if self.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(A::Error::custom("kid too long"));
        }
        // A nested JWT (RFC 7519 section 5.2): what it holds would go unverified.
        if self
            .cty
            .as_ref()
            .is_some_and(|cty| cty.eq_ignore_ascii_case("JWT"))
        {
            return Err(A::Error::custom("nested token"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_members_are_read_and_others_passed_over() {
        let header =
            Header::parse(br#"{"typ":"at+jwt","x5t":"abc","alg":"ES256","kid":"\u0061","x":[1,{"y":2}]}"#)
                .unwrap();
        assert_eq!(header.alg(), Algorithm::Es256);
        assert_eq!(header.kid(), Some("a"));
        assert_eq!(header.typ(), Some("at+jwt"));
    }

    #[test]
    fn unknown_members_must_be_unique_too() {
        for text in [
            r#"{"alg":"ES256","x":1,"y":2,"x":1}"#,
            r#"{"alg":"ES256","x":{"y":1,"y":1}}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
        ] {
            assert_eq!(
                Header::parse(text.as_bytes()),
                Err(Denial::TokenMalformed),
                "{text}"
            );
        }
    }
}
