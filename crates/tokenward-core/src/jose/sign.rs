//! Keys that sign, and the compact tokens they make (RFC 7515 section 3.1).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use secrecy::SecretSlice;

use super::{
    algorithm::Algorithm, base64url, compact::MAX_TOKEN_BYTES, jwk::SkipReason, key::Key,
    thumbprint::Thumbprint,
};

/// A private key with the one algorithm that it signs with. Its id is its RFC 7638 thumbprint.
///
/// Cheap to clone; all clones share the key. It is erased from memory with the last of them, and never printed.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    pair: Pair,
    kid: String,
    /// That of every token, up to the value of `typ`.
    header: String,
    public_jwk: String,
    verifier: Arc<Key>,
}

enum Pair {
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFault {
    /// Tokens are signed with RS256, PS256, ES256, ES384 and EdDSA only.
    AlgorithmUnsupported(Algorithm),
    /// No `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY` in the text.
    NotPem,
    /// The text holds an encrypted private key.
    Encrypted,
    /// Not a key of the type, curve and form that the algorithm needs.
    WrongKind(Algorithm),
    /// The public half would not be accepted from anybody else either.
    Weak(SkipReason),
    /// The cryptographic library failed.
    Failed,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlgorithmUnsupported(algorithm) => write!(
                f,
                "tokens cannot be signed with {algorithm}: choose RS256, PS256, ES256, ES384 or EdDSA"
            ),
            Self::NotPem => f.write_str(
                "no private key found: expected PEM with PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY",
            ),
            Self::Encrypted => {
                f.write_str("the private key is encrypted with a passphrase: store it unencrypted, readable by its owner only")
            }
            Self::WrongKind(algorithm) => write!(f, "not a private key for {algorithm}: expected {}", kind(*algorithm)),
            Self::Weak(reason) => write!(f, "the key is not safe to use ({reason})"),
            Self::Failed => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for KeyFault {}

/// What a key for the algorithm is.
const fn kind(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 => "an RSA key of 2048 to 8192 bits",
        Algorithm::Es256 => "an EC key on P-256",
        Algorithm::Es384 => "an EC key on P-384",
        _ => "an Ed25519 key",
    }
}

/// Why a token was not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// It would be over [`MAX_TOKEN_BYTES`]: no verifier would take it.
    TooLarge,
    /// The cryptographic library failed: no memory, or no randomness.
    Failed,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the token would be over {MAX_TOKEN_BYTES} bytes"),
            Self::Failed => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for SignError {}

impl SigningKey {
    /// The algorithms that tokens can be signed with.
    pub const ALGORITHMS: [Algorithm; 5] = [
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// A new key: RSA with 2048 bits, which takes from tens of milliseconds to seconds, or one of the algorithm's
    /// curve. The randomness is the cryptographic library's.
    ///
    /// # Errors
    /// [`KeyFault::AlgorithmUnsupported`], or [`KeyFault::Failed`] where the system has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyFault> {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyFault::Failed)?;
                Pair::Rsa(pair, encoding(algorithm))
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                Pair::Ec(EcdsaKeyPair::generate(curve(algorithm)).map_err(|_| KeyFault::Failed)?)
            }
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| KeyFault::Failed)?),
            other => return Err(KeyFault::AlgorithmUnsupported(other)),
        };
        Self::new(algorithm, pair)
    }

    /// The first private key of a PEM text: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) or SEC 1 (RFC 5915).
    ///
    /// # Errors
    /// Why it cannot be used; nothing of the text is in the error.
    pub fn from_pem(text: &[u8], algorithm: Algorithm) -> Result<Self, KeyFault> {
        let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
        match PrivateKeyDer::from_pem_slice(text) {
            // OpenSSL's older form keeps the plain label and says so in a header.
            Ok(_) | Err(_) if encrypted => Err(KeyFault::Encrypted),
            Ok(PrivateKeyDer::Pkcs1(der)) => Self::from_pkcs1(der.secret_pkcs1_der(), algorithm),
            Ok(PrivateKeyDer::Sec1(der)) => Self::from_sec1(der.secret_sec1_der(), algorithm),
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::from_pkcs8(der.secret_pkcs8_der(), algorithm),
            Ok(_) | Err(_) => Err(KeyFault::NotPem),
        }
    }

    /// A key in PKCS#8 (RFC 5958), DER: what [`SigningKey::to_pkcs8`] gives.
    ///
    /// # Errors
    /// As [`SigningKey::from_pem`].
    pub fn from_pkcs8(der: &[u8], algorithm: Algorithm) -> Result<Self, KeyFault> {
        let wrong = |_| KeyFault::WrongKind(algorithm);
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Pair::Rsa(rsa::KeyPair::from_pkcs8(der).map_err(wrong)?, encoding(algorithm))
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                Pair::Ec(EcdsaKeyPair::from_pkcs8(curve(algorithm), der).map_err(wrong)?)
            }
            // The form without the public key, which OpenSSL writes, cannot be checked for consistency.
            Algorithm::EdDsa => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(wrong)?)
            }
            other => return Err(KeyFault::AlgorithmUnsupported(other)),
        };
        Self::new(algorithm, pair)
    }

    fn from_pkcs1(der: &[u8], algorithm: Algorithm) -> Result<Self, KeyFault> {
        match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let pair = rsa::KeyPair::from_der(der).map_err(|_| KeyFault::WrongKind(algorithm))?;
                Self::new(algorithm, Pair::Rsa(pair, encoding(algorithm)))
            }
            _ => Err(Self::misfit(algorithm)),
        }
    }

    fn from_sec1(der: &[u8], algorithm: Algorithm) -> Result<Self, KeyFault> {
        match algorithm {
            Algorithm::Es256 | Algorithm::Es384 => {
                let pair = EcdsaKeyPair::from_private_key_der(curve(algorithm), der)
                    .map_err(|_| KeyFault::WrongKind(algorithm))?;
                Self::new(algorithm, Pair::Ec(pair))
            }
            _ => Err(Self::misfit(algorithm)),
        }
    }

    fn misfit(algorithm: Algorithm) -> KeyFault {
        if Self::ALGORITHMS.contains(&algorithm) {
            KeyFault::WrongKind(algorithm)
        } else {
            KeyFault::AlgorithmUnsupported(algorithm)
        }
    }

    fn new(algorithm: Algorithm, pair: Pair) -> Result<Self, KeyFault> {
        let (required, thumbprint) = pair.required_members();
        let kid = thumbprint.to_string();
        let name = algorithm.name();
        let public_jwk = format!(r#"{{"alg":"{name}",{required},"kid":"{kid}","use":"sig"}}"#);
        // The same judgement as of a key that somebody else publishes: what others would refuse must not sign.
        let verifier = Key::from_jwk(public_jwk.as_bytes()).map_err(KeyFault::Weak)?;
        Ok(Self(Arc::new(Inner {
            algorithm,
            pair,
            header: format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"#),
            kid,
            public_jwk,
            verifier: Arc::new(verifier),
        })))
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Its id: the RFC 7638 thumbprint, base64url.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The public half as a JWK with `alg`, `kid` and `use`.
    #[must_use]
    pub fn public_jwk(&self) -> &str {
        &self.0.public_jwk
    }

    /// The public half as a verification key.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Key> {
        &self.0.verifier
    }

    /// Whether the first `PUBLIC KEY` of a PEM text is the public half of this key.
    #[must_use]
    pub fn matches_public_pem(&self, text: &[u8]) -> bool {
        let own = self.0.pair.public_spki();
        SubjectPublicKeyInfoDer::from_pem_slice(text)
            .is_ok_and(|other| own.as_deref() == Some(other.as_ref()))
    }

    /// The private key as PKCS#8, DER: only for sealing it at rest. None where the cryptographic library fails.
    #[must_use]
    pub fn to_pkcs8(&self) -> Option<SecretSlice<u8>> {
        use aws_lc_rs::encoding::Pkcs8V1Der;
        let der: Pkcs8V1Der<'static> = match &self.0.pair {
            Pair::Rsa(pair, _) => pair.as_der().ok()?,
            Pair::Ec(pair) => return Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec().into()),
            Pair::Ed25519(pair) => pair.as_der().ok()?,
        };
        Some(der.as_ref().to_vec().into())
    }

    /// Signs: the header has `alg`, `kid` and `typ`, the payload is `claims` as it is, a JSON object.
    ///
    /// # Errors
    /// Either [`SignError`]; then there is no token.
    pub fn sign(&self, typ: &str, claims: &str) -> Result<String, SignError> {
        let header = self.header(typ)?;
        let mut token = String::with_capacity(self.whole(header.len(), claims)?);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.0.pair.sign(token.as_bytes()).ok_or(SignError::Failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The length of the token that [`SigningKey::sign`] gives, without signing.
    ///
    /// # Errors
    /// [`SignError::TooLarge`]; it cannot be signed then.
    pub fn length(&self, typ: &str, claims: &str) -> Result<usize, SignError> {
        self.whole(self.header(typ)?.len(), claims)
    }

    fn whole(&self, header: usize, claims: &str) -> Result<usize, SignError> {
        let signature = match (&self.0.pair, self.0.algorithm) {
            (Pair::Rsa(pair, _), _) => pair.public_modulus_len(),
            (Pair::Ec(_), Algorithm::Es384) => 96,
            (Pair::Ec(_) | Pair::Ed25519(_), _) => 64,
        };
        // Without padding each byte takes 8 bits of 6 to a character.
        let encoded = |bytes: usize| bytes.saturating_mul(4).div_ceil(3);
        let parts = [header, claims.len(), signature].map(encoded);
        let length = parts.into_iter().fold(2, usize::saturating_add);
        match length {
            length if length > MAX_TOKEN_BYTES => Err(SignError::TooLarge),
            length => Ok(length),
        }
    }

    fn header(&self, typ: &str) -> Result<Vec<u8>, SignError> {
        // Room for the quotes and the brace too.
        let mut header = Vec::with_capacity(self.0.header.len() + typ.len() + 3);
        header.extend_from_slice(self.0.header.as_bytes());
        serde_json::to_writer(&mut header, typ).map_err(|_| SignError::Failed)?;
        header.push(b'}');
        Ok(header)
    }
}

/// Without any material.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("kid", &self.0.kid)
            .finish_non_exhaustive()
    }
}

const fn curve(algorithm: Algorithm) -> &'static EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

const fn encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        _ => &RSA_PKCS1_SHA256,
    }
}

impl Pair {
    fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), input, &mut signature)
                    .ok()?;
                Some(signature)
            }
            Self::Ec(pair) => Some(pair.sign(&SystemRandom::new(), input).ok()?.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(input).as_ref().to_vec()),
        }
    }

    /// The members that make the key, in the order of RFC 7638 section 3.2, and their thumbprint.
    fn required_members(&self) -> (String, Thumbprint) {
        let members = match self {
            Self::Rsa(pair, _) => {
                let public = pair.public_key();
                format!(
                    r#""e":"{}","kty":"RSA","n":"{}""#,
                    base64url::encode(public.exponent().big_endian_without_leading_zero()),
                    base64url::encode(public.modulus().big_endian_without_leading_zero()),
                )
            }
            Self::Ec(pair) => {
                // An uncompressed point: 4, then both coordinates at full length.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                let (x, y) = (base64url::encode(x), base64url::encode(y));
                format!(r#""crv":"{crv}","kty":"EC","x":"{x}","y":"{y}""#)
            }
            Self::Ed25519(pair) => {
                let x = base64url::encode(pair.public_key().as_ref());
                format!(r#""crv":"Ed25519","kty":"OKP","x":"{x}""#)
            }
        };
        let thumbprint = Thumbprint::of(&format!("{{{members}}}"));
        (members, thumbprint)
    }

    fn public_spki(&self) -> Option<Vec<u8>> {
        let der: PublicKeyX509Der<'static> = match self {
            Self::Rsa(pair, _) => pair.public_key().as_der().ok()?,
            Self::Ec(pair) => pair.public_key().as_der().ok()?,
            Self::Ed25519(pair) => pair.public_key().as_der().ok()?,
        };
        Some(der.as_ref().to_vec())
    }
}
