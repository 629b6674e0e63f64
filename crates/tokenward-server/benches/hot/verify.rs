//! One token from its text to accepted claims, and one from its claims to its text, each beside the bare cryptographic operation
//! with a key that is parsed, and verification beside a peer.

use std::hint::black_box;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokenward::{Audiences, Policy, Timestamp};
use tokenward_core::{
    jose::{Algorithm, KeySet, SigningKey},
    verify,
};
use tokenward_testkit::bench::{Rows, compare, each, pin};

const ISS: &str = "https://tenant.idp.example/";
const AUD: &str = "https://api.example";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

struct Case {
    algorithm: Algorithm,
    /// What verification and signing may be to the bare operations.
    limits: (f64, f64),
    /// How often each is done in a round.
    calls: (usize, usize),
    verifier: &'static dyn VerificationAlgorithm,
    /// The same key for the bare operations: its public half, and what signs with it.
    bare: fn(&[u8]) -> (Vec<u8>, Sign),
}

const CASES: [Case; 3] = [
    Case {
        algorithm: Algorithm::Rs256,
        limits: (1.15, 1.05),
        calls: (4_000, 400),
        verifier: &signature::RSA_PKCS1_2048_8192_SHA256,
        bare: rsa,
    },
    Case {
        algorithm: Algorithm::Es256,
        limits: (1.06, 1.05),
        calls: (2_000, 4_000),
        verifier: &signature::ECDSA_P256_SHA256_FIXED,
        bare: ec,
    },
    Case {
        algorithm: Algorithm::EdDsa,
        limits: (1.06, 1.05),
        calls: (2_000, 4_000),
        verifier: &signature::ED25519,
        bare: ed,
    },
];

pub(crate) fn run(rounds: usize, rows: &mut Rows) {
    pin(1);
    for case in CASES {
        let key = SigningKey::generate(case.algorithm).unwrap();
        let (public, sign) = (case.bare)(key.to_pkcs8().unwrap().expose_secret());
        // The peer reads the system's clock, so the token lives by it.
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({
            "iss": ISS, "aud": [AUD, "https://other.example"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "iat": now - 10, "nbf": now - 10, "exp": now + 36_000, "jti": "wZ2kVqQ0Q2eB1q2m0wzv7g",
            "azp": "my_client_id", "scope": "openid profile email",
        });
        let claims = claims.to_string();
        let token = key.sign("at+jwt", &claims).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();

        let parsed = ParsedPublicKey::new(case.verifier, &public).unwrap();
        let raw = |_| {
            parsed
                .verify_sig(black_box(input.as_bytes()), black_box(&signature))
                .unwrap();
        };
        let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
        let keys = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        let policy = Policy::builder(ISS, Audiences::OneOf(vec![AUD.into()]))
            .build()
            .unwrap();
        let time = Timestamp::from_secs(i64::try_from(now).unwrap());
        let ours = |_| {
            black_box(verify(black_box(&token), &keys, &policy, time)).unwrap();
        };
        let peer_key = DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap();
        let mut validation = Validation::new(case.algorithm.name().parse().unwrap());
        validation.set_audience(&[AUD]);
        validation.set_issuer(&[ISS]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_nbf = true;
        let peer = |_| {
            black_box(jsonwebtoken::decode::<Value>(
                black_box(&token),
                &peer_key,
                &validation,
            ))
            .unwrap();
        };

        let (verified, signed) = case.calls;
        let name = case.algorithm.name();
        let seen = compare(rounds, || each(verified, ours), || each(verified, raw));
        println!(
            "verify {name}: {:.1} µs, bare {:.1} µs",
            seen.one / 1e3,
            seen.other / 1e3
        );
        rows.at_most(
            &format!("{name}: verification, to the bare check of the signature"),
            seen.ratio,
            case.limits.0,
        );
        let seen = compare(rounds, || each(verified, ours), || each(verified, peer));
        rows.at_most(
            &format!("{name}: verification, to that of jsonwebtoken"),
            seen.ratio,
            1.0,
        );
        let ours = |_| {
            black_box(key.sign("at+jwt", black_box(&claims))).unwrap();
        };
        let raw = |_| {
            black_box(sign(black_box(input.as_bytes())));
        };
        let seen = compare(rounds, || each(signed, ours), || each(signed, raw));
        println!(
            "sign {name}: {:.1} µs, bare {:.1} µs",
            seen.one / 1e3,
            seen.other / 1e3
        );
        rows.at_most(
            &format!("{name}: a token signed, to the bare signature"),
            seen.ratio,
            case.limits.1,
        );
    }
}

fn rsa(pkcs8: &[u8]) -> (Vec<u8>, Sign) {
    let pair = rsa::KeyPair::from_pkcs8(pkcs8).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    let sign = move |input: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &signature::RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            input,
            &mut signature,
        )
        .unwrap();
        signature
    };
    (public, Box::new(sign))
}

fn ec(pkcs8: &[u8]) -> (Vec<u8>, Sign) {
    let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    (
        public,
        Box::new(move |input| pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()),
    )
}

fn ed(pkcs8: &[u8]) -> (Vec<u8>, Sign) {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    (public, Box::new(move |input| pair.sign(input).as_ref().to_vec()))
}
