//! Signing keys for tests, the same within a process for the same algorithm and number.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

/// RSA keys take long to generate, so the first are files. They protect nothing.
const RSA_KEYS: [&[u8]; 4] = [
    include_bytes!("../keys/rsa-0.der"),
    include_bytes!("../keys/rsa-1.der"),
    include_bytes!("../keys/rsa-2.der"),
    include_bytes!("../keys/rsa-3.der"),
];

/// A signing key with the algorithm and key id that it is used under. Cheap to clone.
#[derive(Clone)]
pub struct TestKey {
    pair: Arc<Pair>,
    alg: String,
    kid: Option<String>,
}

/// By family and number.
type Pairs = HashMap<(&'static str, usize), Arc<Pair>>;

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(&'static str, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl TestKey {
    /// Key number `n` for `alg`, one of RS, PS, HS 256 384 512, ES256, ES384, ES512, ES256K and EdDSA.
    /// All RSA algorithms share their key pairs, of 2,048 bits; those after number 3 are generated, which takes a
    /// while. The key id is `alg` in lower case, a
    /// hyphen and `n`.
    ///
    /// # Panics
    ///
    /// If the algorithm is another.
    #[must_use]
    pub fn new(alg: &str, n: usize) -> Self {
        static PAIRS: OnceLock<Mutex<Pairs>> = OnceLock::new();
        let mut pairs = PAIRS
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let family = family(alg);
        let pair = pairs
            .entry((family, n))
            .or_insert_with(|| Arc::new(Pair::make(family, n)));
        Self {
            pair: Arc::clone(pair),
            alg: alg.to_owned(),
            kid: Some(format!("{}-{n}", alg.to_ascii_lowercase())),
        }
    }

    /// RSA key `n` under RS256.
    #[must_use]
    pub fn rs256(n: usize) -> Self {
        Self::new("RS256", n)
    }

    /// P-256 key `n` under ES256.
    #[must_use]
    pub fn es256(n: usize) -> Self {
        Self::new("ES256", n)
    }

    /// Ed25519 key `n` under EdDSA.
    #[must_use]
    pub fn ed25519(n: usize) -> Self {
        Self::new("EdDSA", n)
    }

    /// The same key under another key id.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The same key without a key id.
    #[must_use]
    pub fn without_kid(mut self) -> Self {
        self.kid = None;
        self
    }

    /// The key id in the JWK and in the header of tokens.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The name of the algorithm it signs with.
    #[must_use]
    pub fn alg(&self) -> &str {
        &self.alg
    }

    /// The public JWK with `use: sig`, `alg` and, where there is one, `kid`. For a symmetric key it holds
    /// the secret, which no public key set should: good for testing that nobody serves it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = self.pair.public_members();
        jwk.insert("use".to_owned(), json!("sig"));
        jwk.insert("alg".to_owned(), json!(self.alg));
        if let Some(kid) = &self.kid {
            jwk.insert("kid".to_owned(), json!(kid));
        }
        Value::Object(jwk)
    }

    /// [`TestKey::jwk`] with members replaced or added; a `null` takes the member out.
    ///
    /// # Panics
    ///
    /// If `members` is not an object.
    #[must_use]
    pub fn jwk_with(&self, members: &Value) -> Value {
        let mut jwk = self.jwk();
        let object = jwk.as_object_mut().expect("a JWK is an object");
        for (name, value) in members.as_object().expect("members are an object") {
            if value.is_null() {
                object.remove(name);
            } else {
                object.insert(name.clone(), value.clone());
            }
        }
        jwk
    }

    /// The base64url SHA-256 thumbprint (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // serde_json's map is ordered by name, and the required members alone are what is left here.
        let canonical = Value::Object(self.pair.public_members()).to_string();
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    /// The private key as PKCS#8, DER.
    ///
    /// # Panics
    ///
    /// If the key is symmetric.
    #[must_use]
    pub fn pkcs8_der(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)
                .expect("an RSA key has a PKCS#8 form")
                .as_ref()
                .to_vec(),
            Pair::Ec(_, pair) => pair
                .to_pkcs8v1()
                .expect("an EC key has a PKCS#8 form")
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair
                .to_pkcs8v1()
                .expect("an Ed25519 key has a PKCS#8 form")
                .as_ref()
                .to_vec(),
            Pair::Secret(_) => panic!("a symmetric key has no PKCS#8 form"),
        }
    }

    /// The private key as PKCS#8, PEM.
    ///
    /// # Panics
    ///
    /// If the key is symmetric.
    #[must_use]
    pub fn pkcs8_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8_der())
    }

    /// The public half as aws-lc-rs takes it; empty for a symmetric key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        match &*self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(_, pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Secret(_) => &[],
        }
    }

    /// The secret of a symmetric key, 64 bytes.
    #[must_use]
    pub fn secret(&self) -> Option<&[u8]> {
        match &*self.pair {
            Pair::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// The JWS signature over `input` (RFC 7518 section 3: ECDSA as R and S side by side).
    #[must_use]
    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(&self.alg), &rng, input, &mut signature)
                    .expect("RSA signs");
                signature
            }
            Pair::Ec(_, pair) => pair.sign(&rng, input).expect("ECDSA signs").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
            Pair::Secret(secret) => {
                let key = hmac::Key::new(hmac_algorithm(&self.alg), secret);
                hmac::sign(&key, input).as_ref().to_vec()
            }
        }
    }
}

impl fmt::Debug for TestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKey")
            .field("alg", &self.alg)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Pair {
    fn make(family: &'static str, n: usize) -> Self {
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            Self::Ec(
                family,
                EcdsaKeyPair::generate(algorithm).expect("an EC key is generated"),
            )
        };
        match family {
            "RSA" => Self::Rsa(match RSA_KEYS.get(n) {
                Some(der) => rsa::KeyPair::from_pkcs8(der).expect("the committed key is PKCS#8"),
                None => rsa::KeyPair::generate(KeySize::Rsa2048).expect("an RSA key is generated"),
            }),
            "P-256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "P-384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "P-521" => ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            "secp256k1" => ec(&ECDSA_P256K1_SHA256_FIXED_SIGNING),
            "Ed25519" => Self::Ed25519(Ed25519KeyPair::generate().expect("an Ed25519 key is generated")),
            _ => {
                let seed = format!("tokenward test secret {n}");
                Self::Secret(digest::digest(&digest::SHA512, seed.as_bytes()).as_ref().to_vec())
            }
        }
    }

    /// The members that RFC 7638 section 3.2 takes the thumbprint of.
    fn public_members(&self) -> Map<String, Value> {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let members = match self {
            Self::Rsa(pair) => {
                // PKCS#1: a sequence of the 2048-bit modulus, behind 9 bytes of tags, lengths and sign, and
                // of the exponent 65537, which the last 3 bytes are.
                let der = pair.public_key().as_ref();
                let modulus = der.get(9..9 + pair.public_modulus_len());
                let exponent = der.last_chunk::<3>();
                json!({
                    "kty": "RSA",
                    "n": b64(modulus.expect("the key is in PKCS#1 form")),
                    "e": b64(exponent.expect("the key is in PKCS#1 form")),
                })
            }
            Self::Ec(curve, pair) => {
                // SEC 1, uncompressed: 0x04, then X and Y of equal length.
                let point = pair.public_key().as_ref().split_at(1).1;
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
            }
            Self::Secret(secret) => json!({"kty": "oct", "k": b64(secret)}),
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

/// A JWK Set of the public keys, in the order given.
#[must_use]
pub fn key_set(keys: &[&TestKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

/// RFC 7468 text.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn family(alg: &str) -> &'static str {
    match alg {
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => "RSA",
        "ES256" => "P-256",
        "ES384" => "P-384",
        "ES512" => "P-521",
        "ES256K" => "secp256k1",
        "EdDSA" | "Ed25519" => "Ed25519",
        "HS256" | "HS384" | "HS512" => "oct",
        other => panic!("no test key for {other}"),
    }
}

fn rsa_encoding(alg: &str) -> &'static dyn RsaEncoding {
    match alg {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

fn hmac_algorithm(alg: &str) -> hmac::Algorithm {
    match alg {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}
