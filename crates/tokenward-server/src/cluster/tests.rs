use tokenward_core::Clock;
use tokenward_store::{Redis, RedisOptions};
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

#[tokio::test]
async fn a_server_that_is_set_to_forget_is_noticed_within_a_minute() {
    let (server, own) = (RedisServer::start(), ManualClock::default());
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::new(RedisOptions::new(server.url()), Arc::new(RealClock)).unwrap();
    let clock = Arc::new(StoreClock::new(Arc::new(own.clone())));
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
