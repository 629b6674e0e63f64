use tokenward_core::Clock;
use tokenward_store::{AuditRecord, Redis, RedisOptions};
use tokenward_testkit::{ManualClock, RealClock, RedisServer};

use super::*;
use crate::config::{OnStale, Revocation};

/// Lets a minute pass for whoever sleeps, and real time until something is seen.
async fn after_a_minute(clock: &ManualClock, seen: impl Fn() -> bool) {
    for _ in 0..500 {
        if clock.sleepers() > 0 {
            break;
        }
        RealClock.sleep(Duration::from_millis(10)).await;
    }
    clock.advance(LOOK);
    for _ in 0..500 {
        if seen() {
            return;
        }
        RealClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("not seen");
}

/// A replica whose own clock this is.
async fn replica(server: &RedisServer, own: Arc<dyn Clock>) -> (Cluster, Replicated, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::new(RedisOptions::new(server.url()), Arc::new(RealClock)).unwrap();
    let clock = Arc::new(StoreClock::new(own));
    let store = Replicated::open(redis, directory.path(), Arc::clone(&clock) as _).unwrap();
    let ledger = Arc::new(store.clone());
    let revocations = Revocations::replica(ledger, store.journal(), Arc::clone(&clock) as Arc<dyn Clock>)
        .await
        .unwrap();
    let terms = Revocation {
        max_staleness: LOOK,
        on_stale: OnStale::Deny,
    };
    let cluster = Cluster::new(store.clone(), clock, revocations, terms);
    (cluster, store, directory)
}

#[tokio::test]
async fn a_server_that_is_set_to_forget_is_noticed_within_a_minute() {
    let (server, own) = (RedisServer::start(), ManualClock::default());
    let (cluster, store, _journal) = replica(&server, Arc::new(own.clone())).await;
    assert!(!cluster.is_well(), "it was never reached");
    store.follow(&|_| {}).await.unwrap();
    assert!(cluster.is_well());
    let mut tasks = JoinSet::new();
    tasks.spawn(cluster.clone().keep_looking());
    for (policy, well) in [("allkeys-lru", false), ("noeviction", true)] {
        server.ask(&["CONFIG", "SET", "maxmemory-policy", policy]);
        after_a_minute(&own, || cluster.is_well() == well).await;
        assert!(cluster.is_connected());
    }
}

#[tokio::test]
async fn nothing_is_dated_before_what_others_dated_by_a_server_that_is_gone() {
    let server = RedisServer::start();
    let (cluster, store, _journal) = replica(&server, Arc::new(RealClock)).await;
    let [idps, keyring, children] = [(); 3].map(|()| Arc::new(Notify::new()));
    let mut follower = Follower {
        cluster: cluster.clone(),
        service: None,
        idps,
        keyring,
        children,
        unrevoked: Vec::new(),
        dated: false,
        joined: false,
        lost: false,
    };
    let ahead = |seconds| RealClock.wall() + Duration::from_secs(seconds);
    let dated = |at| AuditRecord {
        at,
        who: "ops".to_owned(),
        address: "127.0.0.1".to_owned(),
        action: "tokens.issue".to_owned(),
        target: "/tokens".to_owned(),
        outcome: "ok".to_owned(),
    };
    let first = ahead(20);
    store.append_audit(&[dated(first)]).await.unwrap();
    follower.poll().await.unwrap();
    assert_eq!(cluster.0.clock.wall(), first);
    // Others may have gone on by the former one, before this replica left it.
    let second = ahead(40);
    store.append_audit(&[dated(second)]).await.unwrap();
    follower.poll().await.unwrap();
    assert_eq!(cluster.0.clock.wall(), first, "it is not asked for each time");
    server.ask(&["HDEL", "{tokenward}:meta", "generation"]);
    follower.poll().await.unwrap();
    assert_eq!(cluster.0.clock.wall(), second);
}
