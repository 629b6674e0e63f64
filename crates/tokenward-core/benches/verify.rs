//! One verification from the token's text to accepted claims, beside the bare signature check and a peer.
//!
//! For each algorithm a group `verify/<alg>` with `raw` (the signature check of aws-lc-rs with a parsed key), `ours`
//! and `jsonwebtoken`. `bench/verify` runs it and judges the ratios.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]

use std::hint::black_box;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use tokenward_core::{
    Timestamp,
    jose::KeySet,
    policy::{Audiences, Policy},
    verify,
};

const ISS: &str = "https://tenant.idp.example/";
const AUD: &str = "https://api.example";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

struct Case {
    alg: &'static str,
    jwk: Value,
    public: Vec<u8>,
    verifier: &'static dyn VerificationAlgorithm,
    sign: Sign,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn cases() -> [Case; 3] {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ec = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let point = ec.public_key().as_ref().to_vec();
    [
        Case {
            alg: "RS256",
            jwk: json!({
                "kty": "RSA",
                "n": b64(rsa.public_key().modulus().big_endian_without_leading_zero()),
                "e": b64(rsa.public_key().exponent().big_endian_without_leading_zero()),
            }),
            public: rsa.public_key().as_ref().to_vec(),
            verifier: &signature::RSA_PKCS1_2048_8192_SHA256,
            sign: Box::new(move |input| {
                let mut out = vec![0; rsa.public_modulus_len()];
                rsa.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    input,
                    &mut out,
                )
                .unwrap();
                out
            }),
        },
        Case {
            alg: "ES256",
            jwk: json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])}),
            public: point,
            verifier: &signature::ECDSA_P256_SHA256_FIXED,
            sign: Box::new(move |input| ec.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()),
        },
        Case {
            alg: "EdDSA",
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().as_ref())}),
            public: ed.public_key().as_ref().to_vec(),
            verifier: &signature::ED25519,
            sign: Box::new(move |input| ed.sign(input).as_ref().to_vec()),
        },
    ]
}

fn bench(criterion: &mut Criterion) {
    // The peer reads the system's clock, so the token lives by it.
    let now = jsonwebtoken::get_current_timestamp();
    for mut case in cases() {
        case.jwk["kid"] = json!("2026-11-key");
        case.jwk["alg"] = json!(case.alg);
        case.jwk["use"] = json!("sig");
        let header = json!({"alg": case.alg, "typ": "at+jwt", "kid": "2026-11-key"});
        let claims = json!({
            "iss": ISS, "aud": [AUD, "https://other.example"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "iat": now - 10, "nbf": now - 10, "exp": now + 36_000, "jti": "wZ2kVqQ0Q2eB1q2m0wzv7g",
            "azp": "my_client_id", "scope": "openid profile email",
        });
        let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = (case.sign)(input.as_bytes());
        let token = format!("{input}.{}", b64(&signature));

        let mut group = criterion.benchmark_group(format!("verify/{}", case.alg));
        let raw = ParsedPublicKey::new(case.verifier, &case.public).unwrap();
        group.bench_function("raw", |bencher| {
            bencher.iter(|| {
                raw.verify_sig(black_box(input.as_bytes()), black_box(&signature))
                    .unwrap();
            });
        });

        let keys = KeySet::parse(json!({"keys": [case.jwk]}).to_string().as_bytes()).unwrap();
        let policy = Policy::builder(ISS, Audiences::OneOf(vec![AUD.into()]))
            .build()
            .unwrap();
        let time = Timestamp::from_secs(i64::try_from(now).unwrap());
        group.bench_function("ours", |bencher| {
            bencher.iter(|| verify(black_box(&token), &keys, &policy, time).unwrap());
        });

        let peer_key = DecodingKey::from_jwk(&serde_json::from_value(case.jwk.clone()).unwrap()).unwrap();
        let mut validation = Validation::new(case.alg.parse().unwrap());
        validation.set_audience(&[AUD]);
        validation.set_issuer(&[ISS]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_nbf = true;
        group.bench_function("jsonwebtoken", |bencher| {
            bencher
                .iter(|| jsonwebtoken::decode::<Value>(black_box(&token), &peer_key, &validation).unwrap());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(100);
    targets = bench
}
criterion_main!(benches);
