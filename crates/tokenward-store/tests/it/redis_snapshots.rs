//! Snapshots on Redis, and what several replicas agree on by it.

use std::{sync::Arc, time::Duration};

use tokenward_core::{Clock as _, Timestamp};
use tokenward_store::{Claim, Redis, RedisOptions, Snapshot, Snapshots as _, StoreErrorKind};
use tokenward_testkit::{
    Fault, Program, Proxy, RealClock, RedisServer,
    conformance::{self, snapshot},
};

const HASH: [u8; 32] = [7; 32];

fn with(options: RedisOptions) -> Redis {
    Redis::new(options, Arc::new(RealClock)).unwrap()
}

fn replica(server: &RedisServer) -> Redis {
    with(RedisOptions::new(server.url()))
}

async fn granted(store: &Redis) -> u64 {
    match store.claim("t", "idp", &HASH).await.unwrap() {
        Claim::Granted { fence } => fence,
        other => panic!("{other:?}"),
    }
}

async fn release(store: &Redis, fence: u64, failed_for: Option<Duration>) {
    let released = store.release("t", "idp", &HASH, fence, failed_for);
    released.await.unwrap();
}

/// Lets what ends by itself do so, by the server's clock.
fn let_pass(server: &RedisServer) {
    // The end is an absolute time in the entry: it is set back instead of being waited for.
    let entry = server.text(&["GET", &claims(server)]);
    let words: Vec<&str> = entry.split(' ').collect();
    server.ask(&[
        "SET",
        &claims(server),
        &format!("{} {} 1 {}", words[0], words[1], words[3]),
    ]);
}

fn claims(server: &RedisServer) -> String {
    server.text(&["KEYS", "*:claim:*"])
}

#[tokio::test]
async fn redis_and_valkey_conform() {
    for program in [Program::Redis, Program::Valkey] {
        let server = RedisServer::with(program, &[]);
        conformance::snapshots(&replica(&server)).await;
        let keyed = RedisOptions {
            integrity_keys: vec![[1; 32], [2; 32]],
            snapshot_ttl: Some(Duration::from_secs(900)),
            ..RedisOptions::new(server.url())
        };
        conformance::snapshots(&with(keyed)).await;
        assert_eq!(
            server.text(&["KEYS", "*"]),
            "{tokenward}:meta",
            "nothing is left behind"
        );
    }
}

#[tokio::test]
async fn what_one_stores_the_other_finds_and_another_prefix_is_another_store() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    one.put(&snapshot("t", "a")).await.unwrap();
    assert_eq!(two.get("t", "a").await.unwrap(), Some(snapshot("t", "a")));
    let other = with(RedisOptions {
        prefix: "tokenward2".to_owned(),
        ..RedisOptions::new(server.url())
    });
    assert_eq!(other.load_all().await.unwrap(), []);
    other.put(&snapshot("t", "b")).await.unwrap();
    assert_eq!(two.load_all().await.unwrap(), [snapshot("t", "a")]);
}

#[tokio::test]
async fn a_snapshot_ends_with_its_time() {
    let server = RedisServer::start();
    let store = with(RedisOptions {
        snapshot_ttl: Some(Duration::from_millis(300)),
        ..RedisOptions::new(server.url())
    });
    store.put(&snapshot("t", "a")).await.unwrap();
    assert!(store.get("t", "a").await.unwrap().is_some());
    RealClock.sleep(Duration::from_millis(400)).await;
    assert_eq!(store.get("t", "a").await.unwrap(), None);
    assert_eq!(server.text(&["SCARD", "{tokenward}:snapshots"]), "1");
    assert_eq!(store.load_all().await.unwrap(), []);
    assert_eq!(
        server.text(&["SCARD", "{tokenward}:snapshots"]),
        "0",
        "it is not listed for ever"
    );
}

#[tokio::test]
async fn one_that_is_stored_anew_meanwhile_stays_listed() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let (near, far) = (
        replica(&server),
        with(RedisOptions {
            connections: 1,
            ..RedisOptions::new(format!("redis://127.0.0.1:{}", proxy.port()))
        }),
    );
    near.put(&snapshot("t", "a")).await.unwrap();
    server.ask(&["DEL", &server.text(&["KEYS", "*:snapshot:*"])]);
    assert_eq!(far.get("t", "a").await.unwrap(), None);
    proxy.set(Fault::Slow(Duration::from_millis(200)));
    let put = async {
        // The list was read, and that there is nothing is on its way.
        RealClock.sleep(Duration::from_millis(300)).await;
        near.put(&snapshot("t", "a")).await.unwrap();
    };
    let (found, ()) = futures_util::future::join(far.load_all(), put).await;
    assert_eq!(found.unwrap(), []);
    assert_eq!(near.load_all().await.unwrap(), [snapshot("t", "a")]);
}

#[tokio::test]
async fn what_others_made_of_a_snapshot_is_absent() {
    let server = RedisServer::start();
    let keyed = |keys: &[[u8; 32]]| {
        with(RedisOptions {
            integrity_keys: keys.to_vec(),
            ..RedisOptions::new(server.url())
        })
    };
    for keys in [&[][..], &[[1; 32]]] {
        let store = keyed(keys);
        for name in ["a", "b"] {
            store.put(&snapshot("t", name)).await.unwrap();
        }
        let names = server.text(&["KEYS", "*:snapshot:*"]);
        let (one, two) = names.split_once('\n').unwrap();
        let (good, other) = (server.text(&["GET", one]), server.text(&["GET", two]));
        for bad in [
            good.replace("\"tenant\":\"t\"", "\"tenant\":\"u\""),
            good.replace(".test/jwks", ".test/jwkz"),
            good.replace("\"fetched_at\":1764", "\"fetched_at\":1765"),
            good.replace("\"max_age\":1500", "\"max_age\":null"),
            good.replace("\"v\":1", "\"v\":2"),
            good.replace("\"body\":\"ey", "\"body\":\"ez"),
            good[1..].to_owned(),
            // Another provider's, which is whole.
            other.clone(),
        ] {
            assert_ne!(bad, good);
            server.ask(&["SET", one, &bad]);
            assert_eq!(store.load_all().await.unwrap().len(), 1, "{bad}");
            let found = [
                store.get("t", "a").await.unwrap(),
                store.get("t", "b").await.unwrap(),
            ];
            assert_eq!(found.iter().flatten().count(), 1, "{bad}");
        }
        server.ask(&["SET", one, &good]);
        assert_eq!(store.load_all().await.unwrap().len(), 2);
    }
    // The keys are those of the last round.
    assert_eq!(
        keyed(&[[2; 32], [1; 32]]).load_all().await.unwrap().len(),
        2,
        "rotated"
    );
    assert_eq!(keyed(&[[2; 32]]).load_all().await.unwrap(), [], "another key");
    assert_eq!(keyed(&[]).load_all().await.unwrap(), [], "no key");
    let unsealed = keyed(&[]);
    unsealed.put(&snapshot("t", "a")).await.unwrap();
    assert_eq!(
        keyed(&[[1; 32]]).get("t", "a").await.unwrap(),
        None,
        "whoever has no key seals nothing"
    );
}

#[tokio::test]
async fn an_older_snapshot_does_not_take_the_place_of_a_newer_one() {
    let server = RedisServer::start();
    let store = replica(&server);
    let at = |millis, body: &str| Snapshot {
        fetched_at: Timestamp::from_millis(millis),
        body: body.as_bytes().to_vec(),
        ..snapshot("t", "idp")
    };
    let stored = async || store.get("t", "idp").await.unwrap().unwrap();
    store.put(&at(2000, "new")).await.unwrap();
    store.put(&at(1000, "old")).await.unwrap();
    assert_eq!(stored().await.body, b"new");
    for other in [
        Snapshot {
            url: "https://other.test/".to_owned(),
            ..at(1000, "url")
        },
        Snapshot {
            config_hash: [8; 32],
            url: "https://other.test/".to_owned(),
            ..at(500, "config")
        },
    ] {
        store.put(&other).await.unwrap();
        assert_eq!(stored().await, other);
    }
    // What nobody can have fetched yet, what is damaged and what others made is in nobody's way.
    let ahead = RealClock.wall() + Duration::from_secs(60);
    store.put(&at(ahead.as_millis(), "ahead")).await.unwrap();
    store.put(&at(3000, "now")).await.unwrap();
    assert_eq!(stored().await.body, b"now");
    let key = server.text(&["KEYS", "*:snapshot:*"]);
    let value = server.text(&["GET", &key]);
    for bad in [
        "{",
        "[]",
        "7",
        &value.replace("\"fetched_at\":3000", "\"fetched_at\":4000"),
    ] {
        server.ask(&["SET", &key, bad]);
        store.put(&at(3500, "mended")).await.unwrap();
        assert_eq!(stored().await.body, b"mended", "{bad}");
    }
}

#[tokio::test]
async fn one_fetches_for_all() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    assert!(one.is_shared());
    let first = granted(&one).await;
    assert_eq!(two.claim("t", "idp", &HASH).await.unwrap(), Claim::Held);
    assert_eq!(
        one.claim("t", "idp", &HASH).await.unwrap(),
        Claim::Held,
        "not even twice"
    );
    for (tenant, name, hash) in [("u", "idp", HASH), ("t", "other", HASH), ("t", "idp", [8; 32])] {
        let claim = two.claim(tenant, name, &hash).await.unwrap();
        assert!(matches!(claim, Claim::Granted { .. }), "{tenant} {name}");
    }
    release(&one, first, None).await;
    let second = granted(&two).await;
    assert!(second > first);
    // A claim that has ended is released by nobody.
    release(&one, first, Some(Duration::from_secs(5))).await;
    assert_eq!(one.claim("t", "idp", &HASH).await.unwrap(), Claim::Held);
    release(&two, second, None).await;
    granted(&one).await;
}

#[tokio::test]
async fn a_claim_of_one_who_is_gone_ends_within_ten_seconds() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    let first = granted(&one).await;
    let left: u64 = server.text(&["PTTL", &claims(&server)]).parse().unwrap();
    assert!((9_000..=10_000).contains(&left), "{left}");
    assert_eq!(two.claim("t", "idp", &HASH).await.unwrap(), Claim::Held);
    let_pass(&server);
    assert!(granted(&two).await > first);
    release(&one, first, None).await;
    assert_eq!(
        one.claim("t", "idp", &HASH).await.unwrap(),
        Claim::Held,
        "the later one stands"
    );
}

#[tokio::test]
async fn a_claim_of_a_clock_that_was_ahead_does_not_stand() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    granted(&one).await;
    server.ask(&["SET", &claims(&server), "held 1 99999999999999 10000"]);
    granted(&two).await;
}

#[tokio::test]
async fn where_a_fetch_has_failed_nobody_tries_for_as_long_as_was_said() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    let fence = granted(&one).await;
    release(&one, fence, Some(Duration::from_secs(30))).await;
    for store in [&one, &two] {
        match store.claim("t", "idp", &HASH).await.unwrap() {
            Claim::Failed { retry_in } => {
                assert!((29_000..=30_000).contains(&retry_in.as_millis()), "{retry_in:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let left: u64 = server.text(&["PTTL", &claims(&server)]).parse().unwrap();
    assert!((29_000..=30_000).contains(&left), "{left}");
    let_pass(&server);
    let fence = granted(&two).await;
    release(&two, fence, None).await;
    granted(&one).await;
}

#[tokio::test]
async fn fences_rise_even_where_the_store_is_lost() {
    let server = RedisServer::start();
    let store = replica(&server);
    let first = granted(&store).await;
    server.flush();
    let second = granted(&store).await;
    assert!(second > first);
    // And where its clock was set back.
    server.ask(&["HSET", "{tokenward}:meta", "fence", "5000000000000000"]);
    release(&store, second, None).await;
    assert_eq!(granted(&store).await, 5_000_000_000_000_001);
}

#[tokio::test]
async fn all_replicas_take_from_one_bucket() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    let refill = Duration::from_secs(30);
    let take = async |store: &Redis, caller| store.take("t", "idp", caller, 4, refill).await.unwrap();
    // One caller has half at most, wherever it asks.
    assert!(take(&one, 1).await && take(&two, 1).await);
    assert!(!take(&one, 1).await && !take(&two, 1).await);
    assert!(take(&two, 2).await && take(&one, u64::MAX).await);
    assert!(!take(&one, 3).await && !take(&two, 4).await, "it is empty");
    assert!(
        one.take("t", "other", 1, 1, refill).await.unwrap(),
        "another provider has its own"
    );
    assert!(!two.take("t", "other", 2, 1, refill).await.unwrap());
    // They come back one after the other, half a minute apart.
    let key = server.text(&["KEYS", "*:budget:*"]);
    let key = key
        .lines()
        .find(|key| server.text(&["ZCARD", key]) == "4")
        .unwrap();
    let backs: Vec<u64> = (server.text(&["ZRANGE", key, "0", "-1"]).lines())
        .map(|member| member.split_once(':').unwrap().1.parse().unwrap())
        .collect();
    assert!(
        backs.windows(2).all(|pair| pair[1] - pair[0] == 30_000),
        "{backs:?}"
    );
    let left: u64 = server.text(&["PTTL", key]).parse().unwrap();
    assert!(
        (110_000..=120_000).contains(&left),
        "it is not kept for ever: {left}"
    );
}

#[tokio::test]
async fn what_is_taken_comes_back() {
    let server = RedisServer::start();
    let store = replica(&server);
    let take = async |caller| {
        let refill = Duration::from_millis(300);
        store.take("t", "idp", caller, 1, refill).await.unwrap()
    };
    assert!(take(1).await && !take(2).await);
    RealClock.sleep(Duration::from_millis(350)).await;
    assert!(take(2).await && !take(1).await);
    // Of a clock that was ahead.
    let key = server.text(&["KEYS", "*:budget:*"]);
    server.ask(&["DEL", &key]);
    server.ask(&["ZADD", &key, "99999999999999", "1:99999999999999"]);
    assert!(take(3).await);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let base = || RedisOptions::new("redis://:s3cret@a");
    for options in [
        RedisOptions {
            connections: 0,
            ..base()
        },
        RedisOptions {
            snapshot_ttl: Some(Duration::ZERO),
            ..base()
        },
        RedisOptions {
            prefix: "a}".to_owned(),
            ..base()
        },
        RedisOptions::new("redis://s3cret@a"),
    ] {
        assert!(!format!("{options:?}").contains("s3cret"));
        let error = Redis::new(options, Arc::new(RealClock)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
