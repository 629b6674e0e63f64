//! What valgrind counts the instructions of: `instructions CASE N` does one thing N times in a function that `bench/instructions` names,
//! after it did it some times elsewhere, so that what happens once does not count.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::{hash::RandomState, hint::black_box, sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use tokenward::{
    Audiences, CallerId, Clock as _, IdpConfig, Policy, Registry, Timestamp, Verifier,
    revocation::{Index, Rule},
};
use tokenward_core::{claims::Claims, jose::KeySet, verify};
use tokenward_testkit::{ManualClock, TestKey, TokenBuilder, key_set};
use tower::ServiceExt as _;

const TENANT: &str = "default";
const SECRET: &str = "a-secret-of-the-benchmark";
const AUDIENCE: &str = "https://api.example";
/// Providers that are registered, and revocations that are in force.
const PROVIDERS: usize = 1_000;
const REVOCATIONS: usize = 100_000;
/// Tokens that are looked up among them.
const TOKENS: usize = 2_000;

fn issuer(n: usize) -> String {
    format!("https://login.example/tenants/{n}")
}

fn policy(n: usize) -> Policy {
    Policy::builder(issuer(n), Audiences::OneOf(vec![AUDIENCE.to_owned()]))
        .build()
        .unwrap()
}

fn keys(key: &TestKey) -> Arc<KeySet> {
    Arc::new(KeySet::parse(key_set(&[key]).to_string().as_bytes()).unwrap())
}

/// A token of the last provider.
fn token(clock: &ManualClock, key: &TestKey) -> String {
    TokenBuilder::new(clock.wall())
        .issuer(&issuer(PROVIDERS - 1))
        .subject("alice")
        .audience(AUDIENCE)
        .token_id("4f1c2a9e7b3d")
        .scope("read write")
        .expires_in(Duration::from_secs(3_600))
        .sign(key)
}

fn registry(clock: &ManualClock, keys: &Arc<KeySet>) -> Registry {
    let registry = Registry::builder()
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    for n in 0..PROVIDERS {
        let config = IdpConfig::with_keys(&format!("idp-{n}"), Arc::clone(keys), policy(n));
        registry.register(config.unwrap()).unwrap();
    }
    registry
}

fn index() -> Arc<Index> {
    let index = Index::new(RandomState::new());
    for n in 0..REVOCATIONS {
        index.insert(&issuer(n % PROVIDERS), &Rule::Token(format!("revoked-{n}")), None);
    }
    Arc::new(index)
}

/// What is counted, and nothing else: valgrind knows it by this name.
#[inline(never)]
fn counted_by_valgrind(run: &mut dyn FnMut(usize), times: usize) {
    run(black_box(times));
}

fn count(times: usize, mut run: impl FnMut(usize)) {
    run(10);
    counted_by_valgrind(&mut run, times);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, times] = &arguments[..] else {
        panic!("usage: instructions CASE N");
    };
    let times: usize = times.parse().unwrap();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = runtime.enter();
    let rsa = TestKey::rs256(0);
    match case.as_str() {
        "verify" => verified(times, &clock, &rsa),
        "bare" => checked(times, &token(&clock, &rsa), &rsa),
        "known" => {
            let token = token(&clock, &rsa);
            let verifier = Verifier::new(registry(&clock, &keys(&rsa))).with_revocations(index());
            count(times, |times| {
                for _ in 0..times {
                    let judged = verifier.verify(TENANT, black_box(&token), CallerId::default());
                    black_box(judged.now_or_never().unwrap()).unwrap();
                }
            });
        }
        "lookup" => {
            let registry = registry(&clock, &keys(&rsa));
            let issuer = issuer(PROVIDERS / 2);
            count(times, |times| {
                for _ in 0..times {
                    black_box(registry.idp_by_issuer(TENANT, black_box(&issuer))).unwrap();
                }
            });
        }
        "revocation" => {
            let index = index();
            // Where a record would stand is left to chance; of many tokens the mean is not.
            let marks: Vec<_> = (0..TOKENS)
                .map(|n| {
                    let claims = format!(r#"{{"jti":"{n}","sub":"u-{n}","sid":"s-{n}","iat":1800000000}}"#);
                    let claims = Claims::parse(claims.as_bytes()).unwrap();
                    index.marks(&issuer(n % PROVIDERS), &claims, Some("k"))
                })
                .collect();
            count(times, |times| {
                for marks in marks.iter().cycle().take(times) {
                    black_box(index.check(black_box(marks))).unwrap();
                }
            });
        }
        "authorize" => {
            let token = token(&clock, &rsa);
            let verifier = Verifier::new(registry(&clock, &keys(&rsa))).with_revocations(index());
            let routes = tokenward_server::bench::authorize(verifier, Arc::new(clock));
            let ask = async || {
                let request = Request::get("/authorize")
                    .header("host", "api.example.com")
                    .header("authorization", format!("Bearer {token}"))
                    .body(Body::empty())
                    .unwrap();
                let response = routes.clone().oneshot(black_box(request)).await.unwrap();
                assert!(response.status().is_success());
            };
            count(times, |times| {
                runtime.block_on(async {
                    for _ in 0..times {
                        ask().await;
                    }
                });
            });
        }
        "check" => {
            let token = token(&clock, &rsa);
            let verifier = Verifier::new(registry(&clock, &keys(&rsa))).with_revocations(index());
            let routes = tokenward_server::bench::check(verifier, Arc::new(clock));
            let question = Bytes::from(question(&token));
            let ask = async || {
                let request = Request::post("/envoy.service.auth.v3.Authorization/Check")
                    .version(http::Version::HTTP_2)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(Body::from(question.clone()))
                    .unwrap();
                let response = routes.clone().oneshot(black_box(request)).await.unwrap();
                let body = response.into_body().collect().await.unwrap();
                assert!(body.to_bytes().len() > 100);
            };
            count(times, |times| {
                runtime.block_on(async {
                    for _ in 0..times {
                        ask().await;
                    }
                });
            });
        }
        "mint" => {
            let routes = runtime.block_on(tokenward_server::bench::tokens(SECRET, Arc::new(clock)));
            let ask = async || {
                let request = Request::post("/tokens")
                    .header("host", "api.example.com")
                    .header("authorization", format!("Bearer {SECRET}"))
                    .header("content-type", "application/json")
                    .body(Body::from(
                        r#"{"user_id": "alice", "scope": "read", "expires_in": 86400}"#,
                    ))
                    .unwrap();
                let response = routes.clone().oneshot(black_box(request)).await.unwrap();
                assert!(response.status().is_success());
                let body = response.into_body().collect().await.unwrap();
                black_box(body.to_bytes());
            };
            count(times, |times| {
                runtime.block_on(async {
                    for _ in 0..times {
                        ask().await;
                    }
                });
            });
        }
        "signed" => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let random = SystemRandom::new();
            // As much as a header and claims are.
            let input = [b'a'; 512];
            count(times, |times| {
                for _ in 0..times {
                    black_box(pair.sign(&random, black_box(&input)).unwrap());
                }
            });
        }
        other => panic!("no such case: {other}"),
    }
}

/// One token from its text to accepted claims, nothing remembered.
fn verified(times: usize, clock: &ManualClock, key: &TestKey) {
    let (token, keys, policy) = (token(clock, key), keys(key), policy(PROVIDERS - 1));
    count(times, |times| {
        for _ in 0..times {
            black_box(verify(black_box(&token), &keys, &policy, clock.wall())).unwrap();
        }
    });
}

/// The signature alone, with a key that is parsed.
fn checked(times: usize, token: &str, key: &TestKey) {
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public()).unwrap();
    count(times, |times| {
        for _ in 0..times {
            let input = black_box(input).as_bytes();
            key.verify_sig(input, &signature).unwrap();
        }
    });
}

/// A call as Envoy makes it, with the length in front of its message.
fn question(token: &str) -> Vec<u8> {
    let member = |number: u8, bytes: &[u8]| {
        let mut encoded = vec![number << 3 | 2];
        prost::encode_length_delimiter(bytes.len(), &mut encoded).unwrap();
        encoded.extend_from_slice(bytes);
        encoded
    };
    let mut http = member(2, b"GET");
    for (name, value) in [
        (":authority", "api.example.com"),
        (":method", "GET"),
        (":path", "/hello"),
        (":scheme", "http"),
        ("authorization", &format!("Bearer {token}")),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "5d2c7a9e-6f3b-4a52-9c0e-3f1f6a3d2b11"),
    ] {
        let header = [member(1, name.as_bytes()), member(2, value.as_bytes())].concat();
        http.extend(member(3, &header));
    }
    for (number, text) in [(4, "/hello"), (5, "api.example.com"), (6, "http")] {
        http.extend(member(number, text.as_bytes()));
    }
    let message = member(1, &member(4, &member(2, &http)));
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes()[..], &message[..]].concat()
}
