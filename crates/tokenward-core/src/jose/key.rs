//! One verification key.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::{
    hmac,
    signature::{self, ParsedPublicKey, VerificationAlgorithm},
};

use serde_json::Value;

use super::{
    algorithm::{Algorithm, AlgorithmSet},
    jwk::{self, SkipReason},
    thumbprint::Thumbprint,
};

/// A key that can verify signatures of the algorithms it permits, and of no other.
///
/// A public key is kept as the text that is served of it. It is checked once when it is loaded, and parsed for the
/// verifier when an algorithm of it is first used: most keys of most issuers never are.
pub struct Key {
    kid: Option<Kid>,
    permitted: AlgorithmSet,
    thumbprint: Thumbprint,
    material: Material,
}

/// The longest key id that is kept in the key itself: most are hashes or UUIDs in text.
const SHORT: usize = 46;

/// A key id. Keys are found by it among those of very many issuers, where a place in memory of its own costs more than the
/// comparison.
enum Kid {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

impl Kid {
    fn new(kid: Box<str>) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..kid.len()), u8::try_from(kid.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(kid.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(kid),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(kid) => kid.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        // It was text when it came.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

enum Material {
    Public {
        /// The JWK that it was read from, shared with whoever serves it.
        text: Arc<str>,
        /// The one length that a signature can have, in bytes.
        signature_len: usize,
        /// One for each permitted algorithm.
        parsed: Box<[OnceLock<Box<ParsedPublicKey>>]>,
    },
    /// One for each permitted algorithm.
    Symmetric(Box<[hmac::Key]>),
}

impl Key {
    /// A shared secret for HMAC algorithms. It never comes from a fetched key set, which is public.
    ///
    /// # Errors
    /// [`SkipReason::AlgorithmMismatch`] unless `algorithms` holds HMAC algorithms and nothing else;
    /// [`SkipReason::SecretTooShort`] if the secret has fewer bytes than one of their hashes (RFC 7518
    /// section 3.2); [`SkipReason::KidInvalid`] if the kid is over [`super::MAX_KID_BYTES`].
    pub fn symmetric(secret: &[u8], algorithms: AlgorithmSet, kid: Option<&str>) -> Result<Self, SkipReason> {
        if algorithms.is_empty() {
            return Err(SkipReason::AlgorithmMismatch);
        }
        let keys = algorithms
            .iter()
            .map(|algorithm| {
                let hash = match algorithm {
                    Algorithm::Hs256 => hmac::HMAC_SHA256,
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => return Err(SkipReason::AlgorithmMismatch),
                };
                if secret.len() < hash.digest_algorithm().output_len() {
                    return Err(SkipReason::SecretTooShort);
                }
                Ok(hmac::Key::new(hash, secret))
            })
            .collect::<Result<_, _>>()?;
        // The thumbprint of RFC 7638 would be a plain hash of the secret, which section 7 of it warns of.
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            b"tokenward symmetric key id",
        );
        Ok(Self {
            kid: jwk::checked_kid(kid)?.map(Kid::new),
            permitted: algorithms,
            thumbprint: Thumbprint::from_slice(tag.as_ref()),
            material: Material::Symmetric(keys),
        })
    }

    /// One key from its JWK text, which the caller vouches for (a file of the operator's, not something that was
    /// fetched): a public key as in a set, or a symmetric one (`kty: oct`) whose `alg` names its algorithm.
    ///
    /// # Errors
    /// Why the key cannot be used. A private key is refused: nothing here signs.
    pub fn from_jwk(text: &[u8]) -> Result<Self, SkipReason> {
        jwk::trusted(text)
    }

    /// One public key from the members of its JWK, which nobody vouches for: as strict as an element of a fetched set.
    ///
    /// # Errors
    /// Why the key cannot be used; a private or symmetric one is refused.
    pub(crate) fn from_foreign_jwk(members: &Value) -> Result<Self, SkipReason> {
        jwk::foreign(members)
    }

    /// A public key whose JWK has been checked.
    pub(super) fn public(
        kid: Option<Box<str>>,
        permitted: AlgorithmSet,
        thumbprint: Thumbprint,
        text: Arc<str>,
        signature_len: usize,
    ) -> Self {
        Self {
            kid: kid.map(Kid::new),
            permitted,
            thumbprint,
            material: Material::Public {
                text,
                signature_len,
                parsed: permitted.iter().map(|_| OnceLock::new()).collect(),
            },
        }
    }

    /// The key's id. Unique only together with the issuer and the algorithm.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_ref().map(Kid::as_str)
    }

    /// Whether it is the one of this id, or no id is asked for.
    pub(super) fn is_meant_by(&self, kid: Option<&str>) -> bool {
        let Some(kid) = kid else { return true };
        self.kid
            .as_ref()
            .is_some_and(|own| own.as_bytes() == kid.as_bytes())
    }

    /// The algorithms it may verify: the one its `alg` names, else those of its type and curve.
    #[must_use]
    pub const fn algorithms(&self) -> AlgorithmSet {
        self.permitted
    }

    /// Whether it may verify signatures of `algorithm`.
    #[must_use]
    pub const fn fits(&self, algorithm: Algorithm) -> bool {
        self.permitted.contains(algorithm)
    }

    /// The name of its material (RFC 7638). For a symmetric key it is derived from the secret in another way than
    /// the RFC's, and identifies the key within this program only.
    #[must_use]
    pub const fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// Whether `signature` is one of this key over `input`. False for an algorithm that does not fit, and for a
    /// signature of another length than the algorithm's own, such as ECDSA in DER (RFC 7518 section 3.4).
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> bool {
        if !self.permitted.contains(algorithm) {
            return false;
        }
        let place = self.permitted.rank(algorithm);
        match &self.material {
            Material::Public {
                text,
                signature_len,
                parsed,
            } => {
                signature.len() == *signature_len
                    && parsed
                        .get(place)
                        .and_then(|slot| parsed_key(slot, algorithm, text))
                        .is_some_and(|key| key.verify_sig(input, signature).is_ok())
            }
            // Compares in constant time.
            Material::Symmetric(keys) => keys
                .get(place)
                .is_some_and(|key| hmac::verify(key, input, signature).is_ok()),
        }
    }
}

fn parsed_key<'k>(
    slot: &'k OnceLock<Box<ParsedPublicKey>>,
    algorithm: Algorithm,
    text: &str,
) -> Option<&'k ParsedPublicKey> {
    if let Some(key) = slot.get() {
        return Some(key);
    }
    let key = parse(algorithm, &jwk::material(text)?)?;
    Some(slot.get_or_init(|| Box::new(key)))
}

/// The verifier's own form of a public key, which it takes as `RSAPublicKey` in DER, an uncompressed point, or 32 bytes
/// of Ed25519; None where it refuses the bytes, a point off the curve for example.
pub(super) fn parse(algorithm: Algorithm, bytes: &[u8]) -> Option<ParsedPublicKey> {
    let verifier: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::Es256K => &signature::ECDSA_P256K1_SHA256_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
    };
    ParsedPublicKey::new(verifier, bytes).ok()
}

/// Without the material, so that no secret can reach a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid())
            .field("algorithms", &self.permitted)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_of_any_length_is_told_and_found() {
        let algorithms = AlgorithmSet::only(Algorithm::Hs256);
        let plain = [0, 1, SHORT - 1, SHORT, SHORT + 1, 256].map(|len| "k".repeat(len));
        let other = [SHORT - 2, SHORT - 1].map(|len| "k".repeat(len) + "é");
        for kid in plain.into_iter().chain(other) {
            let key = |kid: Option<&str>| Key::symmetric(&[7; 32], algorithms, kid).unwrap();
            let named = key(Some(&kid));
            assert_eq!(named.kid(), Some(kid.as_str()));
            assert!(named.is_meant_by(Some(&kid)) && named.is_meant_by(None));
            for other in [format!("{kid}\0"), format!("{kid}k"), format!("x{kid}")] {
                assert!(!named.is_meant_by(Some(&other)), "{other:?}");
            }
            assert!(!key(None).is_meant_by(Some(&kid)));
            assert!(kid.is_empty() || !named.is_meant_by(Some("")));
        }
    }

    #[test]
    fn an_idle_key_is_not_parsed_and_a_used_one_only_for_what_it_is_used_with() {
        let jwk = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
        let key = Key::from_jwk(jwk.as_bytes()).unwrap();
        let parsed = || match &key.material {
            Material::Public { parsed, .. } => parsed.iter().filter(|slot| slot.get().is_some()).count(),
            Material::Symmetric(_) => 0,
        };
        assert_eq!((key.algorithms().len(), parsed()), (6, 0));
        for _ in 0..2 {
            assert!(!key.verify(Algorithm::Ps384, b"", &[0; 256]));
            assert!(!key.verify(Algorithm::Es256, b"", &[0; 64]));
            // Of the wrong length: refused before the key is touched.
            assert!(!key.verify(Algorithm::Rs512, b"", &[0; 255]));
            assert!(!key.verify(Algorithm::Rs512, b"", &[0; 257]));
            assert_eq!(parsed(), 1);
        }
    }
}
