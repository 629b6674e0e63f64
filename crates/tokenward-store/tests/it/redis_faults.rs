//! A server that is down, slow, hanging, full, or does not know us, and what it costs whoever asks.

use std::{error::Error as _, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokenward_core::Clock as _;
use tokenward_store::{
    Ledger as _, Redis, RedisOptions, RevocationRule, Snapshot, Snapshots as _, StoreError, StoreErrorKind,
};
use tokenward_testkit::{
    Fault, Program, Proxy, RealClock, RedisServer,
    conformance::{revocation, snapshot},
};

/// With short limits, so that the tests are short.
const CONNECT: Duration = Duration::from_millis(400);
const COMMAND: Duration = Duration::from_millis(200);

fn through(port: u16) -> Redis {
    at(format!("redis://127.0.0.1:{port}"))
}

fn at(url: String) -> Redis {
    let options = RedisOptions {
        connect_timeout: CONNECT,
        command_timeout: COMMAND,
        ..RedisOptions::new(url)
    };
    Redis::new(options, Arc::new(RealClock)).unwrap()
}

/// What a call came to, and how long it took.
async fn timed<T>(call: impl Future<Output = Result<T, StoreError>>) -> (Result<T, StoreError>, Duration) {
    let start = RealClock.steady();
    let result = call.await;
    (result, RealClock.steady().since(start))
}

/// Asks until nobody waits any more. Until then no call takes longer than it may.
async fn until_it_is_open(store: &Redis) {
    for _ in 0..5 {
        let (result, took) = timed(store.get("t", "a")).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(took < CONNECT + COMMAND + Duration::from_millis(600), "{took:?}");
    }
    // On a busy machine one call may be interrupted, but not every other one.
    let mut all = Vec::new();
    for _ in 0..51 {
        let (result, took) = timed(store.get("t", "a")).await;
        result.unwrap_err();
        all.push(took);
    }
    all.sort();
    assert!(all[25] < Duration::from_millis(5), "{all:?}");
    assert!(!store.is_connected());
}

/// Waits until it works, without asking for anything before it says so.
async fn until_it_works(store: &Redis) {
    let start = RealClock.steady();
    while !store.is_connected() {
        RealClock.sleep(Duration::from_millis(10)).await;
        let waited = RealClock.steady().since(start);
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
    store.put(&snapshot("t", "a")).await.unwrap();
}

#[tokio::test]
async fn down_at_the_start_and_there_later() {
    let mut server = RedisServer::start();
    server.kill();
    let store = through(server.port());
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
    until_it_is_open(&store).await;
    server.start_again();
    until_it_works(&store).await;
}

#[tokio::test]
async fn each_way_to_be_gone_costs_no_more_than_the_limits_and_then_nothing() {
    let server = RedisServer::start();
    for fault in [Fault::Cut, Fault::Hang, Fault::Slow(CONNECT + COMMAND)] {
        let proxy = Proxy::to(server.port()).await;
        let store = through(proxy.port());
        store.put(&snapshot("t", "a")).await.unwrap();
        proxy.set(fault);
        until_it_is_open(&store).await;
        proxy.set(Fault::None);
        until_it_works(&store).await;
        // And where it is so from the start.
        proxy.set(fault);
        let store = through(proxy.port());
        until_it_is_open(&store).await;
        proxy.set(Fault::None);
        until_it_works(&store).await;
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_left_and_found_again() {
    let server = RedisServer::start();
    let store = through(server.port());
    store.put(&snapshot("t", "a")).await.unwrap();
    server.pause();
    until_it_is_open(&store).await;
    server.go_on();
    until_it_works(&store).await;
}

#[tokio::test]
async fn a_server_that_is_slow_within_the_limits_is_merely_slow() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let store = through(proxy.port());
    proxy.set(Fault::Slow(Duration::from_millis(50)));
    for _ in 0..5 {
        store.put(&snapshot("t", "a")).await.unwrap();
    }
    assert!(store.is_connected());
}

#[tokio::test]
async fn many_who_ask_at_once_wait_no_longer_than_one() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Fault::Hang);
    let options = RedisOptions {
        connections: 1,
        connect_timeout: CONNECT,
        ..RedisOptions::new(format!("redis://127.0.0.1:{}", proxy.port()))
    };
    let store = Redis::new(options, Arc::new(RealClock)).unwrap();
    let calls = (0..200).map(|_| timed(store.get("t", "a")));
    for (result, took) in join_all(calls).await {
        assert_eq!(result.unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert!(took < CONNECT + Duration::from_millis(300), "{took:?}");
    }
    // All together have failed once.
    proxy.set(Fault::None);
    store.get("t", "a").await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_late_is_nobody_elses() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let options = RedisOptions {
        connections: 1,
        connect_timeout: Duration::from_secs(2),
        command_timeout: COMMAND,
        ..RedisOptions::new(format!("redis://127.0.0.1:{}", proxy.port()))
    };
    let store = Redis::new(options, Arc::new(RealClock)).unwrap();
    for name in ["a", "b"] {
        store.put(&snapshot("t", name)).await.unwrap();
    }
    for _ in 0..5 {
        proxy.set(Fault::Slow(COMMAND * 2));
        let error = store.get("t", "a").await.unwrap_err();
        assert!(error.to_string().contains("no answer in time"), "{error}");
        // The answer is on its way while the next question is asked.
        proxy.set(Fault::None);
        let found = join_all((0..20).map(|_| store.get("t", "b"))).await;
        for found in found {
            assert_eq!(found.unwrap(), Some(snapshot("t", "b")));
        }
    }
}

#[tokio::test]
async fn one_late_answer_does_not_fail_those_who_wait_beside_it() {
    let server = RedisServer::start();
    let options = RedisOptions {
        connections: 1,
        command_timeout: Duration::from_secs(1),
        ..RedisOptions::new(server.url())
    };
    let store = Redis::new(options, Arc::new(RealClock)).unwrap();
    store.put(&snapshot("t", "a")).await.unwrap();
    server.pause();
    let early = store.get("t", "a");
    let late = async {
        RealClock.sleep(Duration::from_millis(700)).await;
        store.get("t", "a").await
    };
    let goes_on = async {
        RealClock.sleep(Duration::from_millis(1200)).await;
        server.go_on();
    };
    let (early, late, ()) = futures_util::future::join3(early, late, goes_on).await;
    assert_eq!(early.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(late.unwrap(), Some(snapshot("t", "a")));
}

#[tokio::test]
async fn a_connection_that_breaks_is_one_failure_however_many_wait() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let options = RedisOptions {
        connections: 1,
        ..RedisOptions::new(format!("redis://127.0.0.1:{}", proxy.port()))
    };
    let store = Redis::new(options, Arc::new(RealClock)).unwrap();
    store.put(&snapshot("t", "a")).await.unwrap();
    proxy.set(Fault::Hang);
    let calls = join_all((0..20).map(|_| store.get("t", "a")));
    let cut = async {
        RealClock.sleep(Duration::from_millis(100)).await;
        proxy.set(Fault::Cut);
    };
    let (answers, ()) = futures_util::future::join(calls, cut).await;
    assert!(answers.iter().all(Result::is_err));
    proxy.set(Fault::None);
    store.get("t", "a").await.unwrap();
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_harms_no_other() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let store = through(proxy.port());
    store.put(&snapshot("t", "b")).await.unwrap();
    proxy.set(Fault::Slow(Duration::from_millis(50)));
    for _ in 0..10 {
        let given_up = store.get("t", "a");
        tokio::select! {
            biased;
            () = RealClock.sleep(Duration::from_millis(10)) => {}
            _ = given_up => panic!("it takes longer"),
        }
        assert_eq!(store.get("t", "b").await.unwrap(), Some(snapshot("t", "b")));
    }
}

#[tokio::test]
async fn where_the_memory_ends_a_write_fails_and_nothing_is_stored() {
    for program in [Program::Redis, Program::Valkey] {
        let server = RedisServer::with(
            program,
            &["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"],
        );
        let store = Redis::new(RedisOptions::new(server.url()), Arc::new(RealClock)).unwrap();
        let large = |name: &str| Snapshot {
            body: vec![b'x'; 1 << 20],
            ..snapshot("t", name)
        };
        let mut stored = Vec::new();
        let error = loop {
            let name = format!("{}", stored.len());
            match store.put(&large(&name)).await {
                Ok(()) => stored.push(name),
                Err(error) => break error,
            }
            assert!(stored.len() < 20, "it is full some time");
        };
        assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
        assert!(error.to_string().contains("OOM"), "{error}");
        // What was acknowledged is there, what was not is not, and it is no reason not to ask.
        let refused = store.get("t", &format!("{}", stored.len())).await.unwrap();
        assert_eq!(refused, None);
        for name in &stored {
            assert!(store.get("t", name).await.unwrap().is_some(), "{name}");
        }
        // So it is with what must not be lost, and with what is small where there is no room at all.
        server.ask(&["CONFIG", "SET", "maxmemory", "1mb"]);
        let refused = revocation("full", RevocationRule::Jti("x".to_owned()));
        assert_eq!(
            store.revoke(&refused).await.unwrap_err().kind(),
            StoreErrorKind::Io
        );
        assert_eq!(store.revocation(&refused.id).await.unwrap(), None);
        assert_eq!(
            store.put_keyring(0, b"ring").await.unwrap_err().kind(),
            StoreErrorKind::Io
        );
        assert_eq!(store.keyring().await.unwrap(), None);
        assert!(store.is_connected());
        server.ask(&["CONFIG", "SET", "maxmemory", "8mb"]);
        store.remove("t", &stored[0]).await.unwrap();
        store.put(&snapshot("t", "small")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_keep_its_word_takes_no_write() {
    let server = RedisServer::start();
    let store = at(server.url());
    // Nobody copies it, and somebody must.
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let error = store.put(&snapshot("t", "a")).await.unwrap_err();
    assert!(error.to_string().contains("NOREPLICAS"), "{error}");
    assert_eq!(store.get("t", "a").await.unwrap(), None);
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    store.put(&snapshot("t", "a")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_said_without_it_and_works_once_it_is_right() {
    let server = RedisServer::with(Program::Redis, &["--requirepass", "right-s3cret"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
    let store = at(url("other-s3cret"));
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(
        error.to_string().contains("refuses the user or the password"),
        "{error}"
    );
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(!format!("{error} {error:?} {source} {store:?}").contains("s3cret"));
    let error = at(url("").replace(":@", "")).check().await.unwrap_err();
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    until_it_is_open(&store).await;
    server.ask(&["CONFIG", "SET", "requirepass", "other-s3cret"]);
    until_it_works(&store).await;
}

#[tokio::test]
async fn what_is_dropped_asks_no_more() {
    let mut server = RedisServer::start();
    let store = through(server.port());
    server.kill();
    until_it_is_open(&store).await;
    // Its task is at work.
    RealClock.sleep(Duration::from_millis(150)).await;
    drop(store);
    server.start_again();
    RealClock.sleep(Duration::from_millis(1500)).await;
    let info = server.text(&["INFO", "stats"]);
    let all = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    // Those of the test: one until it answered, and this one.
    let asked: u32 = all.unwrap().trim().parse().unwrap();
    let clients = server.text(&["INFO", "clients"]);
    assert!(clients.contains("connected_clients:1"), "{clients}");
    assert!(asked <= 2, "{asked}");
}
