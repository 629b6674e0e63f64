//! Proofs of possession (DPoP, RFC 9449): whoever presents a token proves to hold the key that it is bound to.
//!
//! A proof is a small JWT, made for one request, that brings its public key along. Its signature alone says nothing:
//! what counts is that the key is the one the token names, and that request and token are those the proof was made for.

mod replays;
mod target;

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub use replays::Replays;
pub use target::same_target;

use crate::{
    Denial, Timestamp,
    claims::{Claims, Confirmation},
    jose::{Jws, Key, Thumbprint},
    policy::media_type,
};

/// The longest proof that is looked at: 8 KiB. One with the largest RSA key takes half of it.
pub const MAX_PROOF_BYTES: usize = 8 * 1024;

/// The longest `jti` of a proof, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// How old a proof may be, and how far ahead of our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The greatest age. Default 300 s.
    pub max_age: Duration,
    /// How far `iat` may lie in the future. Default 30 s.
    pub leeway: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            leeway: Duration::from_secs(30),
        }
    }
}

impl Window {
    /// How long after it was first accepted a proof has to be remembered, so that it is never accepted again.
    #[must_use]
    pub fn memory(&self) -> Duration {
        // One that was dated as far ahead as is allowed stays acceptable the longest.
        self.max_age.saturating_add(self.leeway)
    }
}

/// The request that a proof has to be made for.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The value of the one `DPoP` header.
    pub proof: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The request's absolute URL as its client wrote it; a query is passed over.
    pub url: &'a str,
    /// The access token, as it was sent.
    pub token: &'a str,
}

/// A proof that has passed every check but the one for replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    key: Thumbprint,
    id: String,
    issued_at: Timestamp,
}

impl Proof {
    /// The thumbprint of the key whose possession was proved (`jkt`).
    #[must_use]
    pub const fn key(&self) -> &Thumbprint {
        &self.key
    }

    /// Its `jti`, at most [`MAX_ID_BYTES`] of hostile text.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When its client says that it was made (`iat`).
    #[must_use]
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }
}

/// Checks a proof as RFC 9449 section 4.3 demands, at the wall-clock time `now`, for a token whose claims have been
/// verified and name `bound_to`. Whether it was used before is for [`Replays`] to say.
///
/// # Errors
///
/// [`Denial::DpopInvalid`] unless it is a strict JWS of type `dpop+jwt` that its own `jwk`, public, sound and of an
/// asymmetric algorithm, has signed, for this method, URL and token, within the window;
/// [`Denial::DpopBindingMismatch`] where the token is not bound to that key.
pub fn check(
    presented: &Presented<'_>,
    bound_to: Confirmation<'_>,
    window: Window,
    now: Timestamp,
) -> Result<Proof, Denial> {
    let proof = examine(presented, window, now).ok_or(Denial::DpopInvalid)?;
    match bound_to {
        Confirmation::Jkt(jkt) if jkt == proof.key.to_string() => Ok(proof),
        _ => Err(Denial::DpopBindingMismatch),
    }
}

fn examine(presented: &Presented<'_>, window: Window, now: Timestamp) -> Option<Proof> {
    let (jws, jwk) = Jws::parse_with_jwk(presented.proof, MAX_PROOF_BYTES).ok()?;
    let header = jws.header();
    let typed = header.typ().map(media_type)?;
    if !typed.eq_ignore_ascii_case("dpop+jwt") {
        return None;
    }
    // A public key fits no symmetric algorithm.
    let key = Key::from_foreign_jwk(&jwk).ok()?;
    jws.verify(&key).ok()?;

    let claims = Claims::parse(jws.payload()).ok()?;
    let id = claims.token_id()?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return None;
    }
    let issued_at = claims.issued_at()?;
    let in_time = issued_at <= now + window.leeway && now <= issued_at + window.max_age;
    let for_this = claims.text("htm")? == presented.method
        && same_target(claims.text("htu")?, presented.url)
        && claims.text("ath")? == hash_of(presented.token);
    (in_time && for_this).then(|| Proof {
        key: *key.thumbprint(),
        id: id.to_owned(),
        issued_at,
    })
}

/// What `ath` holds of a token.
fn hash_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}
