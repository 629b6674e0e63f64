//! Compact JWS (RFC 7515 section 7.1) and the JWTs in them.

use serde_json::Value;

use super::{base64url, header::Header, key::Key};
use crate::{
    Denial,
    claims::Claims,
    verify::{Trace, Verified},
};

/// The longest token that is looked at, unless the caller sets another limit: 16 KiB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A parsed compact JWS with any payload. Nothing in it is verified yet.
#[derive(Clone, Debug)]
pub struct Jws<'a> {
    header: Header,
    signing_input: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a compact JWS apart. Exactly three parts in canonical base64url are accepted, and a strict header;
    /// the five parts of a JWE and the JSON serialization are not. Work and memory are linear in the token.
    ///
    /// # Errors
    /// [`Denial::TokenTooLarge`] over `max_bytes`, before anything is read; [`Denial::AlgNotAllowed`] for an
    /// algorithm that is not supported; [`Denial::TokenMalformed`] for everything else.
    pub fn parse<T: AsRef<[u8]> + ?Sized>(token: &'a T, max_bytes: usize) -> Result<Self, Denial> {
        let (jws, ()) = Self::take_apart(token.as_ref(), max_bytes, |header| {
            Header::parse(header).map(|header| (header, ()))
        })?;
        Ok(jws)
    }

    /// As [`Jws::parse`], of a proof of possession, whose header brings the public key that it claims to be signed
    /// with. The key may verify nothing but this very proof.
    pub(crate) fn parse_with_jwk(token: &'a str, max_bytes: usize) -> Result<(Self, Value), Denial> {
        Self::take_apart(token.as_bytes(), max_bytes, Header::parse_with_jwk)
    }

    fn take_apart<K>(
        token: &'a [u8],
        max_bytes: usize,
        header: impl FnOnce(&[u8]) -> Result<(Header, K), Denial>,
    ) -> Result<(Self, K), Denial> {
        if token.len() > max_bytes {
            return Err(Denial::TokenTooLarge);
        }
        Self::split(token, header).ok_or(Denial::TokenMalformed)?
    }

    /// None where the token is not three parts of base64url.
    fn split<K>(
        token: &'a [u8],
        read: impl FnOnce(&[u8]) -> Result<(Header, K), Denial>,
    ) -> Option<Result<(Self, K), Denial>> {
        // Of other characters than those of base64url nothing would decode.
        let token = std::str::from_utf8(token).ok()?;
        let (signing_input, signature) = token.rsplit_once('.')?;
        // A further dot lies in the payload, and fails to decode there.
        let (header, payload) = signing_input.split_once('.')?;
        let payload = base64url::decode(payload.as_bytes())?;
        let signature = base64url::decode(signature.as_bytes())?;
        let header = base64url::decode(header.as_bytes())?;
        Some(read(&header).map(|(header, key)| {
            let jws = Self {
                header,
                signing_input: signing_input.as_bytes(),
                payload,
                signature,
            };
            (jws, key)
        }))
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What was signed: the first two parts as they were sent. Unlike the whole token it is the same whichever of
    /// the equivalent ECDSA signatures is attached, so identities for replay and revocation build on it.
    #[must_use]
    pub const fn signing_input(&self) -> &'a [u8] {
        self.signing_input
    }

    /// The decoded payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The decoded signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Checks the signature under `key`.
    ///
    /// # Errors
    /// [`Denial::SignatureInvalid`], also where the key is not one for the header's algorithm.
    pub fn verify(&self, key: &Key) -> Result<(), Denial> {
        if key.verify(self.header.alg(), self.signing_input, &self.signature) {
            Ok(())
        } else {
            Err(Denial::SignatureInvalid)
        }
    }
}

/// A parsed JWT. Its header and claims select a policy and a key; they are not to be believed before the signature
/// has been verified and the policy has accepted them.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    jws: Jws<'a>,
    claims: Claims,
}

impl<'a> Token<'a> {
    /// Takes a JWT apart: see [`Jws::parse`] and [`Claims`] for what is accepted.
    ///
    /// # Errors
    /// As [`Jws::parse`]; also [`Denial::TokenMalformed`] for claims that are not strict.
    pub fn parse<T: AsRef<[u8]> + ?Sized>(token: &'a T, max_bytes: usize) -> Result<Self, Denial> {
        let jws = Jws::parse(token, max_bytes)?;
        let claims = Claims::parse(&jws.payload)?;
        Ok(Self { jws, claims })
    }

    /// The header, unverified.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.jws.header()
    }

    /// The claims, unverified.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// See [`Jws::signing_input`].
    #[must_use]
    pub const fn signing_input(&self) -> &'a [u8] {
        self.jws.signing_input()
    }

    /// The decoded signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.jws.signature()
    }

    /// Checks the signature under `key`, which must be one of the token's own issuer.
    ///
    /// # Errors
    /// [`Denial::SignatureInvalid`], also where the key is not one for the header's algorithm.
    pub fn verify_signature<T: Trace>(&self, key: &Key, trace: &mut T) -> Result<(), Denial> {
        let outcome = self.jws.verify(key);
        trace.check("signature", outcome, || {
            format!("{} under key {}", self.header().alg(), key.thumbprint())
        });
        outcome
    }

    /// Keeps what outlives the token's text, once `key` has verified it and the policy has accepted it.
    #[must_use]
    pub fn into_verified(self, key: &Key) -> Verified {
        Verified::new(self.jws.header, self.claims, *key.thumbprint())
    }
}
