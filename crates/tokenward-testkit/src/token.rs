//! Tokens of every kind that a test may want to present, the malformed ones included.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tokenward_core::Timestamp;

use crate::TestKey;

/// Builds a compact JWS. Nothing is checked: whatever is asked for is signed.
#[derive(Clone, Debug)]
pub struct TokenBuilder {
    now: Timestamp,
    header: Map<String, Value>,
    absent_headers: Vec<String>,
    claims: Map<String, Value>,
    raw_header: Option<Vec<u8>>,
    raw_claims: Option<Vec<u8>>,
}

impl TokenBuilder {
    /// A token issued at `now` (`iat`) that lasts five minutes (`exp`), and says nothing else.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let builder = Self {
            now,
            header: Map::new(),
            absent_headers: Vec::new(),
            claims: Map::new(),
            raw_header: None,
            raw_claims: None,
        };
        builder
            .claim("iat", now.as_secs())
            .expires_in(Duration::from_mins(5))
    }

    /// Sets `iss`.
    #[must_use]
    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    /// Sets `sub`.
    #[must_use]
    pub fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    /// Sets `aud`, one string; for a list use [`TokenBuilder::claim`].
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Sets `jti`.
    #[must_use]
    pub fn token_id(self, id: &str) -> Self {
        self.claim("jti", id)
    }

    /// Sets `scope`, names with blanks between.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets `exp` to so long after the time that the builder was made with; whole seconds.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        let at = (self.now + lifetime).as_secs();
        self.claim("exp", at)
    }

    /// Sets a claim to any JSON value.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a claim out.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a header parameter, `alg` and `kid` too, over what the key says.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a header parameter out, even one that the key would set.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self.absent_headers.push(name.to_owned());
        self
    }

    /// Puts these bytes where the header's JSON belongs.
    #[must_use]
    pub fn raw_header(mut self, json: impl Into<Vec<u8>>) -> Self {
        self.raw_header = Some(json.into());
        self
    }

    /// Puts these bytes where the claims' JSON belongs.
    #[must_use]
    pub fn raw_claims(mut self, json: impl Into<Vec<u8>>) -> Self {
        self.raw_claims = Some(json.into());
        self
    }

    /// The token, signed, with `alg`, `typ: JWT` and the key's `kid` in its header unless it was told
    /// otherwise.
    #[must_use]
    pub fn sign(&self, key: &TestKey) -> String {
        let mut header = Map::new();
        header.insert("alg".to_owned(), json!(key.alg()));
        header.insert("typ".to_owned(), json!("JWT"));
        if let Some(kid) = key.kid() {
            header.insert("kid".to_owned(), json!(kid));
        }
        let input = self.signing_input(header);
        let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()));
        format!("{input}.{signature}")
    }

    /// The token with `alg: none` and an empty signature (RFC 7518 section 3.6).
    #[must_use]
    pub fn unsigned(&self) -> String {
        let header = Map::from_iter([("alg".to_owned(), json!("none"))]);
        format!("{}.", self.signing_input(header))
    }

    fn signing_input(&self, mut header: Map<String, Value>) -> String {
        header.extend(self.header.clone());
        header.retain(|name, _| !self.absent_headers.contains(name));
        let json = |raw: &Option<Vec<u8>>, map: &Map<String, Value>| {
            raw.clone()
                .unwrap_or_else(|| Value::Object(map.clone()).to_string().into_bytes())
        };
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(json(&self.raw_header, &header)),
            URL_SAFE_NO_PAD.encode(json(&self.raw_claims, &self.claims)),
        )
    }
}

/// Three parts as a compact JWS, whatever they are.
#[must_use]
pub fn compact(header: &[u8], claims: &[u8], signature: &[u8]) -> String {
    [header, claims, signature]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".")
}

/// The token with one bit of its signature's first byte changed; still canonical base64url.
///
/// # Panics
///
/// If the token has no decodable, non-empty third part.
#[must_use]
pub fn with_broken_signature(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').expect("a token has three parts");
    let mut signature = URL_SAFE_NO_PAD
        .decode(signature)
        .expect("a signature is base64url");
    *signature.first_mut().expect("a signature is not empty") ^= 1;
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
