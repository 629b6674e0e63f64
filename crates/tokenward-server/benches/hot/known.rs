//! Tokens that were verified before: what one costs, with its revocation check and with its metrics, beside a verification,
//! and what it keeps resident.

use std::{hash::RandomState, hint::black_box, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokenward::{
    Audiences, CallerId, Clock as _, DEFAULT_TENANT, IdpConfig, Policy, Registry, SystemClock, Verifier,
    revocation::{Index, Rule},
};
use tokenward_core::jose::KeySet;
use tokenward_testkit::{
    TestKey, TokenBuilder,
    bench::{Rows, compare, each, pin},
    key_set,
};

use crate::{resident, scattered};

const ROUNDS: usize = 15;
const ISSUER: &str = "https://login.example/tenants/1";
const AUDIENCE: &str = "https://api.example";
const REVOCATIONS: usize = 100_000;
/// Room for one token, as the cache counts: more than it takes.
const CACHE_BYTES: u64 = 4_096;

pub(crate) fn run(n: usize, rows: &mut Rows) {
    // A registry needs one, though nothing here waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    // As in the program.
    tokenward_server::bench::record();
    let key = TestKey::rs256(0);
    println!("signing {n} tokens");
    let tokens = tokens(n, &key);
    let cached = verifier(&key, CACHE_BYTES * n as u64);
    let judge = |verifier: &Verifier, token: &str| {
        let judged = verifier.verify(DEFAULT_TENANT, black_box(token), CallerId::default());
        black_box(judged.now_or_never().unwrap()).unwrap();
    };
    judge(&cached, &tokens[0]);
    let before = resident();
    tokens.iter().for_each(|token| judge(&cached, token));
    let bytes = (resident() - before) as f64 / n as f64;
    let length = tokens.iter().map(String::len).sum::<usize>() / n;

    let two = two_threads(&cached, &tokens, judge);
    pin(1);
    let uncached = verifier(&key, 0);
    let verified = || each(2_000, |call| judge(&uncached, &tokens[call]));
    let hot = compare(ROUNDS, verified, || each(200_000, |_| judge(&cached, &tokens[0])));
    let many = compare(ROUNDS, verified, || each(n, |call| judge(&cached, &tokens[call])));
    println!(
        "verified {:.2} µs; known, one of 1 {:.3} µs, one of {n} {:.3} µs; tokens of {length} bytes",
        hot.one / 1e3,
        hot.other / 1e3,
        many.other / 1e3
    );
    rows.at_least(
        "RS256 verification, to a hot known token, revocation check included",
        hot.ratio,
        60.0,
    );
    rows.at_least(
        &format!("RS256 verification, to one of {n} known tokens"),
        many.ratio,
        12.0,
    );
    rows.at_least("known tokens in a second of two threads, to one thread", two, 1.6);
    rows.at_most(
        &format!("resident for each of {n} known tokens, kB"),
        bytes / 1e3,
        2.0,
    );
}

/// What two threads together do for each second of their work, to what one does alone.
fn two_threads(verifier: &Verifier, tokens: &[String], judge: impl Fn(&Verifier, &str) + Sync) -> f64 {
    let half = tokens.len() / 2;
    let run = |place: usize| {
        pin(place);
        each(tokens.len(), |call| {
            judge(verifier, &tokens[call % half + place * half]);
        })
    };
    let on_threads = |places: &[usize]| -> f64 {
        std::thread::scope(|scope| {
            let running: Vec<_> = places.iter().map(|place| scope.spawn(|| run(*place))).collect();
            running
                .into_iter()
                .map(|thread| 1.0 / thread.join().unwrap())
                .sum()
        })
    };
    compare(ROUNDS, || on_threads(&[0, 1]), || on_threads(&[1])).ratio
}

/// In an order that is not that of their places in memory.
fn tokens(n: usize, key: &TestKey) -> Vec<String> {
    let now = SystemClock::new().wall();
    let one = |number: &usize| {
        TokenBuilder::new(now)
            .issuer(ISSUER)
            .subject(&format!("auth0|5f7c8ec7c33c6c00{number:08}"))
            .audience(AUDIENCE)
            .token_id(&format!("wZ2kVqQ0Q2eB1q2m{number:08}"))
            .scope("openid profile email")
            .expires_in(Duration::from_secs(36_000))
            .sign(key)
    };
    let numbers = scattered(n);
    let (one_half, other) = numbers.split_at(n / 2);
    let sign = |numbers: &[usize]| numbers.iter().map(one).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign(one_half));
        let other = sign(other);
        let mut all = signing.join().unwrap();
        all.extend(other);
        all
    })
}

fn verifier(key: &TestKey, cache: u64) -> Verifier {
    let registry = Registry::builder().build().unwrap();
    let keys = Arc::new(KeySet::parse(key_set(&[key]).to_string().as_bytes()).unwrap());
    let policy = Policy::builder(ISSUER, Audiences::OneOf(vec![AUDIENCE.to_owned()])).build();
    let config = IdpConfig::with_keys("idp", keys, policy.unwrap()).unwrap();
    registry.register(config).unwrap();
    let index = Index::new(RandomState::new());
    for n in 0..REVOCATIONS {
        index.insert(ISSUER, &Rule::Token(format!("revoked-{n}")), None);
    }
    Verifier::with_cache_bytes(registry, cache).with_revocations(Arc::new(index))
}
