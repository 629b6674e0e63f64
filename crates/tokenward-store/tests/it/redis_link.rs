//! The way to a Redis, whatever is asked over it.

use std::{sync::Arc, time::Duration};

use tokenward_core::Clock as _;
use tokenward_store::{Redis, RedisOptions, StoreErrorKind};
use tokenward_testkit::{Program, Proxy, RealClock, RedisServer};

fn store(server: &RedisServer) -> Redis {
    with(RedisOptions::new(server.url()))
}

fn with(options: RedisOptions) -> Redis {
    Redis::new(options, Arc::new(RealClock)).unwrap()
}

#[tokio::test]
async fn each_server_says_what_it_is() {
    for (program, name) in [(Program::Redis, "redis 7."), (Program::Valkey, "valkey 9.")] {
        let server = RedisServer::with(program, &["--appendonly", "yes", "--requirepass", "s3cret"]);
        let store = store(&server);
        assert!(!store.is_connected(), "nothing was asked yet");
        assert_eq!(store.connections(), (0, 2));
        let facts = store.check().await.unwrap();
        assert!(facts.version.starts_with(name), "{facts:?}");
        assert_eq!(facts.address, format!("127.0.0.1:{}", server.port()));
        assert_eq!(facts.persistent, Some(true));
        assert!(!facts.evicts());
        assert!(store.is_connected());
        for _ in 0..10 {
            store.check().await.unwrap();
        }
        assert_eq!(store.connections(), (2, 2));
        let clients = server.text(&["INFO", "clients"]);
        assert!(
            clients.contains("connected_clients:3"),
            "and that of the test: {clients}"
        );
        assert_eq!(server.text(&["HGET", "{tokenward}:meta", "schema"]), "1");
        assert!(!format!("{store:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let server = RedisServer::start();
    server.ask(&["HSET", "{tokenward}:meta", "schema", "2"]);
    let error = store(&server).check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(error.to_string().contains("version 2"), "{error}");
    let other = with(RedisOptions {
        prefix: "other".to_owned(),
        ..RedisOptions::new(server.url())
    });
    other.check().await.unwrap();
}

#[tokio::test]
async fn a_server_that_forgets_is_refused_or_allowed() {
    let server = RedisServer::with(Program::Redis, &["--maxmemory-policy", "volatile-lru"]);
    let error = store(&server).check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Evicting);
    assert!(error.to_string().contains("volatile-lru"), "{error}");
    let allowed = with(RedisOptions {
        allow_eviction: true,
        ..RedisOptions::new(server.url())
    });
    let facts = allowed.check().await.unwrap();
    assert!(facts.evicts());
    assert_eq!(facts.persistent, Some(false));
    // It is asked each time.
    let later = store(&server);
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    later.check().await.unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    assert_eq!(later.check().await.unwrap_err().kind(), StoreErrorKind::Evicting);
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_without_an_error() {
    let mut server = RedisServer::start();
    let store = store(&server);
    store.check().await.unwrap();
    store.check().await.unwrap();
    server.start_again();
    // The connections ended while nobody waited for anything.
    RealClock.sleep(Duration::from_millis(100)).await;
    for _ in 0..4 {
        store.check().await.unwrap();
    }
    assert!(store.is_connected());
}

#[tokio::test]
async fn a_server_that_is_gone_is_found_again_within_five_seconds() {
    let mut server = RedisServer::start();
    let store = store(&server);
    store.check().await.unwrap();
    server.kill();
    RealClock.sleep(Duration::from_millis(50)).await;
    assert_eq!(store.connections(), (0, 2));
    for _ in 0..5 {
        assert_eq!(
            store.check().await.unwrap_err().kind(),
            StoreErrorKind::Unavailable
        );
    }
    assert!(!store.is_connected());
    server.start_again();
    let start = RealClock.steady();
    while !store.is_connected() {
        RealClock.sleep(Duration::from_millis(10)).await;
        assert!(RealClock.steady().since(start) < Duration::from_secs(5));
    }
    store.check().await.unwrap();
}

/// What is asked together must be asked of one server, though the name of the store leads to another one by now.
#[tokio::test]
async fn no_two_servers_are_asked_at_once() {
    let (one, two) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::to(one.port()).await;
    let store = with(RedisOptions::new(format!("redis://127.0.0.1:{}", proxy.port())));
    let former = store.changes(0).await.unwrap().run_id;
    for _ in 0..4 {
        assert_eq!(store.changes(0).await.unwrap().run_id, former);
    }
    assert_eq!(store.connections(), (2, 2));
    proxy.leads_to(two.port());
    // One of the connections ends, and the other one would go on.
    let clients = one.text(&["CLIENT", "LIST"]);
    let client = clients.lines().find(|client| !client.contains("cmd=client"));
    let id = client.and_then(|client| client.split([' ', '=']).nth(1)).unwrap();
    one.ask(&["CLIENT", "KILL", "ID", id]);
    while store.connections() != (1, 2) {
        RealClock.sleep(Duration::from_millis(10)).await;
    }
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(store.changes(0).await.unwrap().run_id);
    }
    let turned = runs.iter().position(|run| *run != former).unwrap();
    assert!(turned <= 1, "the lanes have their turns");
    assert!(runs[turned..].iter().all(|run| *run == runs[turned]), "{runs:?}");
}
