//! Where the master is, over what, and as whom.

use std::{sync::Arc, time::Duration};

use tokenward_core::Clock as _;
use tokenward_store::{Redis, RedisOptions, Snapshots as _, StoreErrorKind};
use tokenward_testkit::{
    Leaf, Program, RealClock, RedisCluster, RedisServer, Sentinels, TestPki,
    conformance::{self, snapshot},
};

fn with(options: RedisOptions) -> Redis {
    Redis::new(options, Arc::new(RealClock)).unwrap()
}

fn at(url: String) -> Redis {
    with(RedisOptions::new(url))
}

/// Asks until it is answered, and returns how long that took.
async fn until_it_works(store: &Redis) -> Duration {
    let start = RealClock.steady();
    while let Err(error) = store.put(&snapshot("t", "a")).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        RealClock.sleep(Duration::from_millis(20)).await;
        assert!(
            RealClock.steady().since(start) < Duration::from_secs(30),
            "{error}"
        );
    }
    RealClock.steady().since(start)
}

async fn conforms(store: &Redis) {
    conformance::snapshots(store).await;
    conformance::ledger(store).await;
    conformance::tokens(store).await;
}

#[tokio::test]
async fn over_tls_only_what_a_trusted_authority_issued_for_the_host_is_spoken_to() {
    let pki = TestPki::new();
    let trusting = |url: String, pem: Option<&str>| {
        with(RedisOptions {
            ca_file: pem.map(|pem| pem.as_bytes().to_vec()),
            ..RedisOptions::new(url)
        })
    };
    let server = RedisServer::with_tls(&pki, Leaf::Good, &[]);
    let store = trusting(server.tls_url(), Some(pki.root_pem()));
    conformance::snapshots(&store).await;
    let others = TestPki::new();
    for roots in [Some(others.root_pem()), None] {
        let error = trusting(server.tls_url(), roots).check().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    for leaf in [Leaf::WrongName, Leaf::Expired, Leaf::SelfSigned] {
        let server = RedisServer::with_tls(&pki, leaf, &[]);
        let error = trusting(server.tls_url(), Some(pki.root_pem()))
            .check()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("certificate"), "{leaf:?}: {error}");
    }
    // Neither side takes the other's way of speaking for its own.
    for url in [
        server.url().replace("redis:", "rediss:"),
        server.tls_url().replace("rediss:", "redis:"),
    ] {
        let error = trusting(url, Some(pki.root_pem())).check().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
    let error = Redis::new(
        RedisOptions {
            ca_file: Some(b"nothing".to_vec()),
            ..RedisOptions::new("rediss://a")
        },
        Arc::new(RealClock),
    );
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Invalid);
}

/// What the documentation says that a user of the store needs.
pub(crate) fn documented_rights() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/clusters.md");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER tokenward on >PASSWORD "));
    line.unwrap().split(' ').collect()
}

#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough() {
    let server = RedisServer::start();
    let mut words = vec!["ACL", "SETUSER", "ward", "on", ">p@ss/word"];
    words.extend(documented_rights());
    server.ask(&words);
    let url = |password: &str| format!("redis://ward:{password}@127.0.0.1:{}/3", server.port());
    let store = at(url("p%40ss%2Fword"));
    assert_eq!(store.check().await.unwrap().persistent, Some(false));
    conformance::snapshots(&store).await;
    assert!(
        server.text(&["INFO", "keyspace"]).contains("db3:"),
        "the database of the URL"
    );
    // What the user may not do is said, and is no reason to think that the server is gone.
    let other = with(RedisOptions {
        prefix: "other".to_owned(),
        ..RedisOptions::new(url("p%40ss%2Fword"))
    });
    let error = other.check().await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    let error = at(format!("{}9", url("p%40ss%2Fword")))
        .check()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it refuses the database: DB index is out of range"),
        "{error}"
    );
    let error = at(url("wrong")).check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_replica_is_not_taken_for_the_store() {
    let master = RedisServer::start();
    let replica = RedisServer::with(
        Program::Redis,
        &["--replicaof", &format!("127.0.0.1 {}", master.port())],
    );
    let error = at(replica.url()).check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("no master"), "{error}");
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let store = at(first.url());
    for _ in 0..2 {
        store.put(&snapshot("t", "a")).await.unwrap();
    }
    first.ask(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    for said in ["READONLY", "no master"] {
        let error = store.put(&snapshot("t", "b")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    first.ask(&["REPLICAOF", "NO", "ONE"]);
    assert!(until_it_works(&store).await < Duration::from_secs(5));
}

#[tokio::test]
async fn by_sentinels_the_new_master_is_found() {
    for password in [None, Some("s3cret")] {
        let mut sentinels = Sentinels::start(password);
        let store = at(sentinels.url());
        conformance::snapshots(&store).await;
        // One sentinel that hangs and one that is gone hold up nobody.
        if let [first, second, _] = sentinels.sentinels() {
            first.pause();
            second.kill();
        }
        let start = RealClock.steady();
        at(sentinels.url()).check().await.unwrap();
        assert!(RealClock.steady().since(start) < Duration::from_millis(1500));
        if let [first, second, _] = sentinels.sentinels() {
            first.go_on();
            second.start_again();
        }
        store.put(&snapshot("t", "before")).await.unwrap();
        sentinels.servers()[0].kill();
        until_it_works(&store).await;
        assert_eq!(
            store.get("t", "before").await.unwrap(),
            Some(snapshot("t", "before"))
        );
        sentinels.until_failed_over();
        // The old one comes back as what it was, and nobody falls for it.
        sentinels.servers()[0].start_again();
        until_it_works(&at(sentinels.url())).await;
        let found = sentinels.servers()[1].text(&["EXISTS", "{tokenward}:meta"]);
        assert_eq!(found, "1");
    }
}

#[tokio::test]
async fn sentinels_and_the_new_master_are_found_over_tls_too() {
    let pki = TestPki::new();
    let mut sentinels = Sentinels::over_tls(&pki, Some("s3cret"));
    let trusting = |pki: &TestPki| {
        with(RedisOptions {
            ca_file: Some(pki.root_pem().as_bytes().to_vec()),
            ..RedisOptions::new(sentinels.url())
        })
    };
    let store = trusting(&pki);
    store.put(&snapshot("t", "before")).await.unwrap();
    store.leads().await.unwrap();
    let error = trusting(&TestPki::new()).check().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = at(sentinels.url().replace("rediss", "redis"));
    let error = plain.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    // The sentinels point at a port that speaks TLS.
    let first = format!("127.0.0.1:{}", sentinels.servers()[0].tls_port());
    let second = format!("127.0.0.1:{}", sentinels.servers()[1].tls_port());
    assert_eq!(store.check().await.unwrap().address, first);
    sentinels.servers()[0].kill();
    until_it_works(&store).await;
    assert_eq!(store.check().await.unwrap().address, second);
    assert_eq!(
        store.get("t", "before").await.unwrap(),
        Some(snapshot("t", "before"))
    );
    store.leads().await.unwrap();
}

#[tokio::test]
async fn a_master_that_stands_still_is_replaced_and_not_fallen_for_when_it_wakes() {
    let mut sentinels = Sentinels::start(None);
    let store = at(sentinels.url());
    let first = format!("127.0.0.1:{}", sentinels.servers()[0].port());
    let second = format!("127.0.0.1:{}", sentinels.servers()[1].port());
    assert_eq!(store.check().await.unwrap().address, first);
    sentinels.servers()[0].pause();
    until_it_works(&store).await;
    assert_eq!(store.check().await.unwrap().address, second);
    sentinels.servers()[0].go_on();
    for _ in 0..100 {
        store.put(&snapshot("t", "a")).await.unwrap();
        RealClock.sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.check().await.unwrap().address, second);
    assert_eq!(at(sentinels.url()).check().await.unwrap().address, second);
}

#[tokio::test]
async fn sentinels_that_know_no_such_master_say_so() {
    let sentinels = Sentinels::start(None);
    let error = at(sentinels.url().replace("/main", "/other"))
        .check()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(
        error.to_string().contains("knows no master called other"),
        "{error}"
    );
}

#[tokio::test]
async fn in_a_cluster_the_node_with_our_keys_is_found_wherever_they_go() {
    for program in [Program::Redis, Program::Valkey] {
        let mut cluster = RedisCluster::start(program, "{tokenward}:meta");
        let store = at(cluster.url());
        store.check().await.unwrap();
        conforms(&store).await;
        store.put(&snapshot("t", "before")).await.unwrap();
        // Any node tells where they are.
        for seed in cluster.url().replace("redis+cluster://", "").split(',') {
            let store = at(format!("redis+cluster://{seed}"));
            assert_eq!(
                store.load_all().await.unwrap(),
                [snapshot("t", "before")],
                "{seed}"
            );
        }
        cluster.owner().kill();
        until_it_works(&store).await;
        assert_eq!(
            store.get("t", "before").await.unwrap(),
            Some(snapshot("t", "before"))
        );
        assert!(
            cluster
                .spare()
                .text(&["INFO", "replication"])
                .contains("role:master")
        );
    }
}

#[tokio::test]
async fn a_cluster_is_found_over_tls_too() {
    let pki = TestPki::new();
    // The bus has a port of its own, which is below 65536 whichever the first one is.
    let bus = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = bus.local_addr().unwrap().port().to_string();
    drop(bus);
    let settings = [
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--cluster-port",
        &port,
    ];
    let server = RedisServer::with_tls(&pki, Leaf::Good, &settings);
    server.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while !server.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        RealClock.sleep(Duration::from_millis(50)).await;
    }
    let url = server.tls_url();
    let store = with(RedisOptions {
        ca_file: Some(pki.root_pem().as_bytes().to_vec()),
        ..RedisOptions::new(url.replace("rediss:", "rediss+cluster:"))
    });
    let facts = store.check().await.unwrap();
    assert_eq!(format!("rediss://{}", facts.address), url);
    store.put(&snapshot("t", "a")).await.unwrap();
}

#[tokio::test]
async fn in_a_cluster_a_slot_that_moves_is_followed() {
    let mut cluster = RedisCluster::start(Program::Redis, "{tokenward}:meta");
    let store = at(cluster.url());
    for _ in 0..2 {
        store.put(&snapshot("t", "before")).await.unwrap();
    }
    cluster.move_slot();
    let error = store.put(&snapshot("t", "a")).await.unwrap_err();
    assert!(error.to_string().contains("MOVED"), "{error}");
    let took = until_it_works(&store).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(
        store.get("t", "before").await.unwrap(),
        Some(snapshot("t", "before"))
    );
    assert!(store.is_connected());
}

#[tokio::test]
async fn a_master_leads_as_long_as_it_is_one_and_most_sentinels_say_so() {
    let server = RedisServer::start();
    let store = at(server.url());
    store.leads().await.unwrap();
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = store.leads().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");

    let mut sentinels = Sentinels::start(None);
    let store = at(sentinels.url());
    store.leads().await.unwrap();
    if let [one, two, _] = sentinels.sentinels() {
        one.kill();
        store.leads().await.unwrap();
        two.pause();
        assert!(
            store.leads().await.is_err(),
            "one of three may be cut off with it"
        );
        two.go_on();
        one.start_again();
    }
    // It lives, and others go on with another one.
    sentinels.servers()[0].pause();
    sentinels.until_failed_over();
    sentinels.servers()[0].go_on();
    let second = format!("127.0.0.1:{}", sentinels.servers()[1].port());
    // Nothing is asked of it that would tell it so.
    for _ in 0..100 {
        if store.leads().await.is_ok() && store.check().await.unwrap().address == second {
            return;
        }
        RealClock.sleep(Duration::from_millis(50)).await;
    }
    panic!("the old master is still taken for the one that leads");
}
