//! What a token of ours claims (RFC 7519, RFC 9068).

use super::{Profile, TokenId};
use crate::{Timestamp, written::Object};

/// Bytes that the claims of most tokens take.
const TYPICAL: usize = 512;

/// What a token is for, as its claim `token_type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// Stands alone.
    Access,
    /// Long-lived; renews its children, and is good for nothing else.
    Parent,
    /// Short-lived, of a parent.
    Child,
}

impl TokenType {
    /// The value of the claim.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Parent => "parent",
            Self::Child => "child",
        }
    }

    /// The type whose [`TokenType::name`] this is.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Access, Self::Parent, Self::Child];
        all.into_iter().find(|token_type| token_type.name() == name)
    }

    /// The `typ` of the header: access tokens and children have the one that is wanted, parents always one that nobody takes for it.
    #[must_use]
    pub const fn header_typ(self, access: AccessTyp) -> &'static str {
        match self {
            Self::Access | Self::Child => access.name(),
            Self::Parent => "parent+jwt",
        }
    }

    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Access => 1,
            Self::Parent => 2,
            Self::Child => 3,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Access),
            2 => Some(Self::Parent),
            3 => Some(Self::Child),
            _ => None,
        }
    }
}

/// The `typ` in the header of access tokens and children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AccessTyp {
    /// `at+jwt`, as RFC 9068 section 2.1 has it: a verifier can tell them from other JWTs of the issuer.
    #[default]
    AtJwt,
    /// `JWT`, for verifiers that know nothing else.
    Jwt,
}

impl AccessTyp {
    /// As the header has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtJwt => "at+jwt",
            Self::Jwt => "JWT",
        }
    }
}

/// What a token is to others.
#[derive(Clone, Copy, Debug)]
pub enum Kin<'a> {
    /// An access token, which stands alone.
    Alone,
    /// A parent.
    Parent {
        /// How long its children live, in seconds.
        child_lifetime: u64,
        /// Whether they are renewed without being asked for.
        auto_renew: bool,
    },
    /// A child of the parent with this id.
    ChildOf(&'a str),
}

impl Kin<'_> {
    /// The type of such a token.
    #[must_use]
    pub const fn token_type(self) -> TokenType {
        match self {
            Self::Alone => TokenType::Access,
            Self::Parent { .. } => TokenType::Parent,
            Self::ChildOf(_) => TokenType::Child,
        }
    }
}

/// Names that only we write: a custom claim cannot have one of them.
pub(super) const RESERVED: [&str; 30] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "user_id",
    "network",
    "rate_limit",
    "scope",
    "scp",
    "token_type",
    "parent_jti",
    "child_aud",
    "child_expires_in",
    "auto_renew",
    "cnf",
    "act",
    "may_act",
    "azp",
    "sid",
    "nonce",
    "typ",
    "events",
    "auth_time",
    "acr",
    "amr",
    // Introspection tells it of the user (RFC 7662 section 2.2).
    "username",
];

/// When a token is issued and ends, in whole seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    issued_at: i64,
    expires_at: i64,
}

impl Stamp {
    /// The times of a token that is minted now and lives for `lifetime` seconds.
    ///
    /// Where the subject's tokens up to `not_before` are revoked, it is issued after that: one that is minted in the same
    /// second as the revocation, just after it, must not be covered by it.
    #[must_use]
    pub fn new(now: Timestamp, not_before: Option<i64>, lifetime: u64) -> Self {
        let issued_at = now
            .as_secs()
            .max(not_before.map_or(i64::MIN, |time| time.saturating_add(1)));
        Self {
            issued_at,
            expires_at: issued_at.saturating_add(i64::try_from(lifetime).unwrap_or(i64::MAX)),
        }
    }

    /// Ending at `end` at the latest. None where nothing is left of it.
    #[must_use]
    pub fn ending_by(self, end: Timestamp) -> Option<Self> {
        let expires_at = self.expires_at.min(end.as_secs());
        (expires_at > self.issued_at).then_some(Self { expires_at, ..self })
    }

    /// `iat`.
    #[must_use]
    pub const fn issued_at(self) -> Timestamp {
        Timestamp::from_secs(self.issued_at)
    }

    /// `exp`.
    #[must_use]
    pub const fn expires_at(self) -> Timestamp {
        Timestamp::from_secs(self.expires_at)
    }
}

/// A token that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// The own issuer, `iss`.
    pub issuer: &'a str,
    /// The name of the credential that asked for it, `client_id`.
    pub client: &'a str,
    /// What was asked for.
    pub profile: &'a Profile,
    /// Its id, which says what it is.
    pub id: &'a TokenId,
    /// Whose parent or child it is.
    pub kin: Kin<'a>,
    /// Its times.
    pub stamp: Stamp,
}

impl Issued<'_> {
    /// The payload: registered claims first, custom ones behind them.
    #[must_use]
    pub fn claims(&self) -> String {
        let profile = self.profile;
        let mut claims = Object::with_capacity(TYPICAL);
        claims.text("iss", self.issuer);
        claims.text("sub", &profile.user_id);
        match self.kin {
            Kin::Alone | Kin::ChildOf(_) => put_audience(&mut claims, "aud", &profile.audience),
            // A parent is addressed to us alone: no other verifier takes one for a token of its own.
            Kin::Parent {
                child_lifetime,
                auto_renew,
            } => {
                claims.text("aud", self.issuer);
                // What its children are like is in the parent too, should the store lose it.
                put_audience(&mut claims, "child_aud", &profile.audience);
                claims.number("child_expires_in", child_lifetime);
                claims.flag("auto_renew", auto_renew);
            }
        }
        claims.number("iat", self.stamp.issued_at);
        claims.number("nbf", self.stamp.issued_at);
        claims.number("exp", self.stamp.expires_at);
        claims.text("jti", self.id.as_str());
        claims.text("client_id", self.client);
        claims.text("user_id", &profile.user_id);
        claims.text("network", &profile.network);
        claims.number("rate_limit", profile.rate_limit);
        if let Some(scope) = &profile.scope {
            claims.text("scope", scope);
        }
        claims.text("token_type", self.kin.token_type().name());
        if let Kin::ChildOf(parent) = self.kin {
            claims.text("parent_jti", parent);
        }
        // None of them has one of the names above, which are reserved.
        for (name, value) in &profile.claims {
            claims.value(name, value);
        }
        claims.finish()
    }
}

fn put_audience(claims: &mut Object, name: &str, audience: &[String]) {
    match audience {
        [one] => claims.text(name, one),
        many => claims.texts(name, many.iter().map(String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        claims::Claims,
        session::{IdKey, Lifetimes, PairRequest, TokenRequest},
    };

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_700);

    fn profile(body: &Value) -> Profile {
        let hour = Duration::from_secs(3_600);
        let lifetimes = Lifetimes {
            token: hour,
            parent: hour,
            child: hour,
            max: hour,
        };
        let request = TokenRequest::parse(body.to_string().as_bytes(), &lifetimes, &["my-api".to_owned()]);
        request.unwrap().profile
    }

    const PARENT: Kin<'_> = Kin::Parent {
        child_lifetime: 90,
        auto_renew: false,
    };

    fn claims(body: &Value, kin: Kin<'_>) -> Value {
        let profile = profile(body);
        let stamp = Stamp::new(NOW, None, 60);
        let id = IdKey::new(&[1; 32]).issue(kin.token_type(), stamp.expires_at(), [7; 16]);
        let issued = Issued {
            issuer: "https://me",
            client: "ops",
            profile: &profile,
            id: &id,
            kin,
            stamp,
        };
        let text = issued.claims();
        assert!(Claims::parse(text.as_bytes()).is_ok());
        let mut value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value.as_object_mut().unwrap().remove("jti"),
            Some(json!(id.as_str()))
        );
        value
    }

    #[test]
    fn a_token_claims_what_was_asked_for() {
        let body = json!({"user_id": "a", "scope": "x y", "audience": ["p", "q"], "claims": {"email": "e"}});
        let expected = json!({
            "iss": "https://me", "sub": "a", "user_id": "a", "client_id": "ops", "aud": ["p", "q"], "scope": "x y",
            "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_060_i64, "network": "default",
            "rate_limit": 100, "token_type": "access", "email": "e",
        });
        assert_eq!(claims(&body, Kin::Alone), expected);
    }

    #[test]
    fn claims_are_written_in_their_order_and_the_custom_ones_last() {
        let body = json!({"user_id": "a\"b", "scope": "x", "claims": {"aa": {"b": [1.5, null]}, "\n": "é"}});
        let profile = profile(&body);
        let stamp = Stamp::new(NOW, None, 60);
        let id = IdKey::new(&[1; 32]).issue(TokenType::Access, stamp.expires_at(), [7; 16]);
        let issued = Issued {
            issuer: "https://me",
            client: "ops",
            profile: &profile,
            id: &id,
            kin: Kin::Alone,
            stamp,
        };
        let expected = format!(
            concat!(
                r#"{{"iss":"https://me","sub":"a\"b","aud":"my-api","iat":1800000000,"nbf":1800000000,"exp":1800000060,"#,
                r#""jti":"{}","client_id":"ops","user_id":"a\"b","network":"default","rate_limit":100,"scope":"x","#,
                r#""token_type":"access","\n":"é","aa":{{"b":[1.5,null]}}}}"#
            ),
            id.as_str()
        );
        assert_eq!(issued.claims(), expected);
    }

    #[test]
    fn a_parent_is_for_its_issuer_alone_and_a_child_names_it() {
        let body = json!({"user_id": "a"});
        let parent = claims(&body, PARENT);
        assert_eq!(
            (&parent["aud"], &parent["token_type"]),
            (&json!("https://me"), &json!("parent"))
        );
        assert!(parent.get("scope").is_none() && parent.get("parent_jti").is_none());
        let child = claims(&body, Kin::ChildOf("p"));
        assert_eq!(
            (&child["aud"], &child["token_type"]),
            (&json!("my-api"), &json!("child"))
        );
        assert_eq!(child["parent_jti"], "p");
        for (access, typ) in [(AccessTyp::AtJwt, "at+jwt"), (AccessTyp::Jwt, "JWT")] {
            assert_eq!(TokenType::Access.header_typ(access), typ);
            assert_eq!(TokenType::Child.header_typ(access), typ);
            assert_eq!(TokenType::Parent.header_typ(access), "parent+jwt");
        }
    }

    #[test]
    fn a_parent_says_what_its_pair_was_asked_for() {
        let hour = Duration::from_secs(3_600);
        let lifetimes = Lifetimes {
            token: hour,
            parent: hour,
            child: hour,
            max: hour,
        };
        for body in [
            json!({"user_id": "a"}),
            json!({"user_id": "a", "audience": ["p", "q"], "scope": "x y", "network": "n", "rate_limit": 7,
                "claims": {"email": "e", "list": [1, null]}, "parent_expires_in": 600, "child_expires_in": 90, "auto_renew": false}),
        ] {
            let asked =
                PairRequest::parse(body.to_string().as_bytes(), &lifetimes, &["my-api".to_owned()]).unwrap();
            let stamp = Stamp::new(NOW, None, asked.parent_lifetime);
            let issued = Issued {
                issuer: "https://me",
                client: "ops",
                profile: &asked.profile,
                id: &IdKey::new(&[1; 32]).issue(TokenType::Parent, stamp.expires_at(), [7; 16]),
                kin: Kin::Parent {
                    child_lifetime: asked.child_lifetime,
                    auto_renew: asked.auto_renew,
                },
                stamp,
            };
            let claims = Claims::parse(issued.claims().as_bytes()).unwrap();
            assert_eq!(PairRequest::of_parent(&claims), Some(asked));
        }
        // One of an earlier version does not, nor does any other token.
        for kin in [Kin::Alone, Kin::ChildOf("p")] {
            let claims = Claims::parse(claims(&json!({"user_id": "a"}), kin).to_string().as_bytes()).unwrap();
            assert_eq!(PairRequest::of_parent(&claims), None);
        }
    }

    #[test]
    fn every_claim_that_we_write_is_reserved() {
        let body = json!({"user_id": "a", "scope": "x"});
        for kin in [Kin::ChildOf("p"), PARENT] {
            for name in claims(&body, kin).as_object().unwrap().keys() {
                assert!(RESERVED.contains(&name.as_str()), "{name}");
            }
        }
    }

    #[test]
    fn a_token_is_stamped_after_the_revocation_before_it() {
        let stamp = |not_before| Stamp::new(NOW, not_before, 60).issued_at().as_secs();
        assert_eq!(stamp(None), 1_800_000_000);
        assert_eq!(stamp(Some(1_799_999_999)), 1_800_000_000);
        assert_eq!(stamp(Some(1_800_000_000)), 1_800_000_001);
        assert_eq!(stamp(Some(1_800_000_007)), 1_800_000_008);
    }

    #[test]
    fn nothing_outlives_its_parent() {
        let stamp = Stamp::new(NOW, None, 60);
        let ending = |secs| {
            stamp
                .ending_by(Timestamp::from_secs(secs))
                .map(|stamp| stamp.expires_at().as_secs())
        };
        assert_eq!(ending(1_800_000_100), Some(1_800_000_060));
        assert_eq!(ending(1_800_000_030), Some(1_800_000_030));
        assert_eq!(ending(1_800_000_000), None);
    }
}
