//! The bodies of the calls that mint tokens, parsed strictly: each fault names its member.

use std::{fmt, time::Duration};

use serde_json::{Map, Value};

use super::claims::RESERVED;
use crate::{
    claims::{Claim, Claims},
    jose::json,
};

/// Characters of a user's id.
const MAX_USER_ID: usize = 256;
/// Characters of a network's name and of an audience.
const MAX_NAME: usize = 256;
const MAX_AUDIENCES: usize = 16;
const MAX_SCOPE: usize = 2_048;
const DEFAULT_NETWORK: &str = "default";
const DEFAULT_RATE_LIMIT: u32 = 100;

/// The lifetimes that the service is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a single token where none is asked for; an hour by default.
    pub token: Duration,
    /// Of a parent; 30 days by default.
    pub parent: Duration,
    /// Of a child; 15 minutes by default.
    pub child: Duration,
    /// Of any token; 30 days by default.
    pub max: Duration,
}

/// What all tokens of one request have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Whom they are for, `sub` and `user_id`.
    pub user_id: String,
    /// `network`.
    pub network: String,
    /// `rate_limit`, in requests a minute.
    pub rate_limit: u32,
    /// `scope`, words with one blank between them.
    pub scope: Option<String>,
    /// `aud`.
    pub audience: Vec<String>,
    /// Custom claims; none has a reserved name.
    pub claims: Map<String, Value>,
}

/// The body of `POST /tokens`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRequest {
    /// What it claims.
    pub profile: Profile,
    /// Seconds.
    pub lifetime: u64,
}

/// The body of `POST /token-pairs`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRequest {
    /// What both claim.
    pub profile: Profile,
    /// Of the parent, in seconds.
    pub parent_lifetime: u64,
    /// Of each child, in seconds.
    pub child_lifetime: u64,
    /// Whether the first child is in the answer.
    pub include_child: bool,
    /// Whether children are renewed without being asked for.
    pub auto_renew: bool,
}

/// What is wrong with a body: the member, where one is to blame, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFault {
    member: Option<String>,
    message: String,
}

impl RequestFault {
    fn of(member: &str, message: impl Into<String>) -> Self {
        // A name out of the request is shown only as far as it is harmless.
        let harmless = |c: &char| c.is_ascii_graphic() && *c != '`';
        Self {
            member: Some(member.chars().filter(harmless).take(64).collect()),
            message: message.into(),
        }
    }

    /// The member to blame.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        self.member.as_deref()
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "`{member}` {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for RequestFault {}

impl TokenRequest {
    /// Reads the body. `audience` is what tokens are for where the body does not say.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(body: &[u8], lifetimes: &Lifetimes, audience: &[String]) -> Result<Self, RequestFault> {
        let mut members = Members::read(body)?;
        let profile = members.profile(audience)?;
        let spellings = [("expires_in", 1), ("expiry_days", 86_400)];
        let lifetime = members.lifetime(spellings, lifetimes.token, lifetimes.max)?;
        members.end()?;
        Ok(Self { profile, lifetime })
    }
}

impl PairRequest {
    /// Reads the body. `audience` is what tokens are for where the body does not say.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(body: &[u8], lifetimes: &Lifetimes, audience: &[String]) -> Result<Self, RequestFault> {
        let mut members = Members::read(body)?;
        let profile = members.profile(audience)?;
        let spellings = [("parent_expires_in", 1), ("parent_expiry_hours", 3_600)];
        let parent_lifetime = members.lifetime(spellings, lifetimes.parent, lifetimes.max)?;
        let child_lifetime = members.lifetime([("child_expires_in", 1)], lifetimes.child, lifetimes.max)?;
        let include_child = members.boolean("include_child", false)?;
        let auto_renew = members.boolean("auto_renew", true)?;
        members.end()?;
        Ok(Self {
            profile,
            parent_lifetime,
            child_lifetime,
            include_child,
            auto_renew,
        })
    }
}

impl PairRequest {
    /// What a pair was asked for whose parent has these claims. None where they do not say it.
    #[must_use]
    pub fn of_parent(claims: &Claims) -> Option<Self> {
        let text = |value: Claim<'_>| value.as_str().map(str::to_owned);
        let audience = claims.get("child_aud")?;
        let audience = match audience.as_array() {
            Some(many) => many.iter().map(|one| text(one.into())).collect::<Option<_>>()?,
            None => vec![text(audience)?],
        };
        let custom = claims.iter().filter(|(name, _)| !RESERVED.contains(name));
        let profile = Profile {
            user_id: text(claims.get("user_id")?)?,
            network: text(claims.get("network")?)?,
            rate_limit: claims.get("rate_limit")?.as_u64()?.try_into().ok()?,
            scope: claims.get("scope").and_then(text),
            audience,
            claims: custom
                .map(|(name, value)| (name.to_owned(), value.to_value()))
                .collect(),
        };
        Some(Self {
            profile,
            parent_lifetime: claims.expires_at()?.since(claims.issued_at()?).as_secs(),
            child_lifetime: claims.get("child_expires_in")?.as_u64()?,
            include_child: false,
            auto_renew: claims.get("auto_renew")?.as_bool()?,
        })
    }
}

/// What is left of the body.
struct Members(Map<String, Value>);

impl Members {
    fn read(body: &[u8]) -> Result<Self, RequestFault> {
        json::object_or_duplicate(body)
            .map(Self)
            .map_err(|duplicate| match duplicate {
                Some(name) => RequestFault::of(&name, "is there twice"),
                None => RequestFault {
                    member: None,
                    message: "the body must be one JSON object, in UTF-8 and nested at most 32 deep"
                        .to_owned(),
                },
            })
    }

    /// A member; `null` is not the same as leaving it out.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn end(self) -> Result<(), RequestFault> {
        match self.0.keys().next() {
            Some(name) => Err(RequestFault::of(name, "is not a member of this call")),
            None => Ok(()),
        }
    }

    fn profile(&mut self, audience: &[String]) -> Result<Profile, RequestFault> {
        let user_id = self
            .text("user_id", MAX_USER_ID)?
            .ok_or_else(|| RequestFault::of("user_id", "is missing: whom the token is for"))?;
        Ok(Profile {
            user_id,
            network: self
                .text("network", MAX_NAME)?
                .unwrap_or_else(|| DEFAULT_NETWORK.to_owned()),
            rate_limit: self.rate_limit()?,
            scope: self.scope()?,
            audience: self.audience(audience)?,
            claims: self.claims()?,
        })
    }

    fn text(&mut self, name: &str, max: usize) -> Result<Option<String>, RequestFault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if is_printable(&text, max) => Ok(Some(text)),
            Some(_) => Err(RequestFault::of(
                name,
                format!("must be a string of 1 to {max} printable characters"),
            )),
        }
    }

    fn boolean(&mut self, name: &str, default: bool) -> Result<bool, RequestFault> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(RequestFault::of(name, "must be true or false")),
        }
    }

    fn rate_limit(&mut self) -> Result<u32, RequestFault> {
        match self.take("rate_limit") {
            None => Ok(DEFAULT_RATE_LIMIT),
            Some(value) => value
                .as_u64()
                .and_then(|rate| u32::try_from(rate).ok())
                .filter(|rate| (1..=1_000_000).contains(rate))
                .ok_or_else(|| {
                    RequestFault::of(
                        "rate_limit",
                        "must be an integer from 1 to 1000000: requests a minute",
                    )
                }),
        }
    }

    fn scope(&mut self) -> Result<Option<String>, RequestFault> {
        // RFC 6749 section 3.3: words of these characters, one blank between them.
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        };
        match self.take("scope") {
            None => Ok(None),
            Some(Value::String(scope)) if scope.len() <= MAX_SCOPE && scope.split(' ').all(word) => {
                Ok(Some(scope))
            }
            Some(_) => Err(RequestFault::of(
                "scope",
                format!(
                    "must be a string of at most {MAX_SCOPE} bytes: words with one blank between them (RFC 6749 section 3.3)"
                ),
            )),
        }
    }

    fn audience(&mut self, default: &[String]) -> Result<Vec<String>, RequestFault> {
        let wrong = || {
            RequestFault::of(
                "audience",
                format!(
                    "must be a string, or 1 to {MAX_AUDIENCES} different ones in a list, of 1 to {MAX_NAME} printable characters"
                ),
            )
        };
        let audience = match self.take("audience") {
            None => return Ok(default.to_vec()),
            Some(Value::Array(many)) if (1..=MAX_AUDIENCES).contains(&many.len()) => many,
            Some(one @ Value::String(_)) => vec![one],
            Some(_) => return Err(wrong()),
        };
        let mut texts: Vec<String> = Vec::with_capacity(audience.len());
        for value in audience {
            match value {
                Value::String(text) if is_printable(&text, MAX_NAME) && !texts.contains(&text) => {
                    texts.push(text);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(texts)
    }

    fn claims(&mut self) -> Result<Map<String, Value>, RequestFault> {
        match self.take("claims") {
            None => Ok(Map::new()),
            Some(Value::Object(claims)) => match claims.keys().find(|name| RESERVED.contains(&name.as_str()))
            {
                Some(name) => Err(RequestFault::of(
                    &format!("claims.{name}"),
                    "is a reserved claim, which only the service writes",
                )),
                None => Ok(claims),
            },
            Some(_) => Err(RequestFault::of("claims", "must be an object of custom claims")),
        }
    }

    /// A lifetime in seconds, in any of its spellings, each with its unit.
    fn lifetime<const N: usize>(
        &mut self,
        spellings: [(&str, u64); N],
        default: Duration,
        max: Duration,
    ) -> Result<u64, RequestFault> {
        let mut found: Option<(&str, u64)> = None;
        for (name, unit) in spellings {
            let Some(value) = self.take(name) else { continue };
            let most = max.as_secs() / unit;
            let seconds = value
                .as_u64()
                .filter(|count| (1..=most).contains(count))
                .map(|count| count * unit)
                .ok_or_else(|| RequestFault::of(name, format!("must be an integer from 1 to {most}")))?;
            match found {
                Some((other, earlier)) if earlier != seconds => {
                    return Err(RequestFault::of(
                        name,
                        format!("contradicts `{other}`: give one of them"),
                    ));
                }
                _ => found = Some((name, seconds)),
            }
        }
        Ok(found.map_or(default.min(max).as_secs(), |(_, seconds)| seconds))
    }
}

/// Whether a token can be for such a user: 1 to 256 printable characters.
#[must_use]
pub fn is_user_id(text: &str) -> bool {
    is_printable(text, MAX_USER_ID)
}

/// Not empty, not too long, and nothing that is invisible or moves the cursor.
fn is_printable(text: &str, max: usize) -> bool {
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
    };
    let edges = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
    !text.is_empty() && !edges && text.chars().count() <= max && !text.contains(invisible)
}

#[cfg(test)]
mod tests;
