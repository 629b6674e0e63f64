//! Keys that sign, tokens honest and hostile, and one issuer's policy to judge them by.

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenward_core::{
    Denial, Timestamp, Verified,
    jose::{Algorithm, AlgorithmSet, Key, KeySet},
    policy::{Audiences, Policy, PolicyBuilder},
    verify,
};

pub const ISS: &str = "https://issuer.example";
pub const AUD: &str = "api";
/// 2027-01-15T08:00:00Z.
pub const NOW: i64 = 1_800_000_000;

pub static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::Rs256));
pub static EC: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::Es256));
pub static ED: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::EdDsa));

pub struct Signer {
    pub alg: Algorithm,
    secret: Secret,
}

enum Secret {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Hmac(Vec<u8>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.alg.fmt(f)
    }
}

impl Signer {
    pub fn new(alg: Algorithm) -> Self {
        let ec = |algorithm| Secret::Ec(EcdsaKeyPair::generate(algorithm).unwrap());
        let secret = match alg {
            Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::Es256K => ec(&signature::ECDSA_P256K1_SHA256_FIXED_SIGNING),
            Algorithm::EdDsa => Secret::Ed(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Secret::Hmac((0..64).collect()),
            _ => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { alg, secret }
    }

    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        self.sign_as(self.alg, input)
    }

    /// With an RSA key, any of its algorithms.
    pub fn sign_as(&self, alg: Algorithm, input: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ec(key) => key.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec(),
            Secret::Ed(key) => key.sign(input).as_ref().to_vec(),
            Secret::Hmac(secret) => hmac_sign(alg, secret, input),
            Secret::Rsa(_) => self.sign_rsa(
                match alg {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    other => panic!("{other} with an RSA key"),
                },
                input,
            ),
        }
    }

    pub fn sign_rsa(&self, encoding: &'static signature::RsaSignatureEncoding, input: &[u8]) -> Vec<u8> {
        let Secret::Rsa(key) = &self.secret else {
            panic!("not an RSA key");
        };
        let mut out = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), input, &mut out).unwrap();
        out
    }

    /// The public key, with neither `kid` nor `alg`.
    pub fn jwk(&self) -> Value {
        match &self.secret {
            Secret::Rsa(key) => json!({
                "kty": "RSA",
                "n": b64(key.public_key().modulus().big_endian_without_leading_zero()),
                "e": b64(key.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Secret::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                let crv = match self.alg {
                    Algorithm::Es256 => "P-256",
                    Algorithm::Es384 => "P-384",
                    Algorithm::Es512 => "P-521",
                    _ => "secp256k1",
                };
                json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
            }
            Secret::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref())}),
            Secret::Hmac(secret) => json!({"kty": "oct", "alg": self.alg.name(), "k": b64(secret)}),
        }
    }

    /// The public key with further members.
    pub fn jwk_with(&self, members: &Value) -> Value {
        merged(self.jwk(), members)
    }

    /// A set of this key alone, under the kid `k`.
    pub fn set(&self) -> KeySet {
        match &self.secret {
            Secret::Hmac(secret) => {
                let key = Key::symmetric(secret, AlgorithmSet::only(self.alg), Some("k")).unwrap();
                [key].into_iter().collect()
            }
            _ => set(&[self.jwk_with(&json!({"kid": "k"}))]),
        }
    }

    /// A token with this header and payload, as they are spelled.
    pub fn raw(&self, header: &[u8], payload: &[u8]) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        format!("{input}.{}", b64(self.sign(input.as_bytes())))
    }

    /// A token with an honest header, other members merged into it, and these claims.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let header = merged(json!({"alg": self.alg.name(), "kid": "k"}), header);
        self.raw(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// An honest token, with other claims merged into it.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), &merged(honest(), claims))
    }
}

pub fn hmac_sign(alg: Algorithm, secret: &[u8], input: &[u8]) -> Vec<u8> {
    let algorithm = match alg {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), input)
        .as_ref()
        .to_vec()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// `base` with the members of `more`; null removes one.
pub fn merged(mut base: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
    base
}

pub fn honest() -> Value {
    json!({"iss": ISS, "aud": AUD, "sub": "alice", "iat": NOW - 10, "exp": NOW + 600, "jti": "1"})
}

pub fn set(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

pub fn builder() -> PolicyBuilder {
    Policy::builder(ISS, Audiences::OneOf(vec!["other".into(), AUD.into()]))
}

pub fn policy() -> Policy {
    builder().build().unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

pub fn outcome(token: &str, keys: &KeySet) -> Result<Verified, Denial> {
    verify(token, keys, &policy(), now())
}

/// Why `token` is refused.
#[track_caller]
pub fn denial(token: &str, keys: &KeySet) -> Denial {
    outcome(token, keys).expect_err("accepted")
}
