//! A store that is damaged, down, or not there keeps nothing from working.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokenward::{CallerId, ErrorKind, Memory, Snapshot, Snapshots, StoreError, StoreErrorKind};
use tokenward_testkit::TestKey;

use crate::world::World;

/// Counters by name, labels aside.
#[derive(Clone, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    fn read(&self, name: &str) -> u64 {
        let counters = self.0.lock().unwrap();
        counters
            .get(name)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry(key.name().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A store whose every call fails.
struct Down;

fn down<T>() -> Result<T, StoreError> {
    Err(StoreError::new(StoreErrorKind::Io, "no connection").because("refused"))
}

#[async_trait]
impl Snapshots for Down {
    async fn put(&self, _: &Snapshot) -> Result<(), StoreError> {
        down()
    }

    async fn get(&self, _: &str, _: &str) -> Result<Option<Snapshot>, StoreError> {
        down()
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        down()
    }

    async fn remove(&self, _: &str, _: &str) -> Result<(), StoreError> {
        down()
    }
}

const ERRORS: &str = "tokenward_snapshot_errors_total";

#[tokio::test]
async fn a_store_that_is_down_keeps_no_provider_from_being_registered() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    // Describing is for every exporter that is installed, and harmless when it is done twice.
    tokenward::telemetry::describe();
    tokenward::telemetry::describe();
    let world = World::with_snapshots(Some(Arc::new(Down)));
    let outcome = world.registry.restore().await.unwrap_err();
    assert_eq!(outcome.kind(), ErrorKind::Store);
    assert_eq!(counters.read(ERRORS), 1);
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    world.verify(&world.token("a", &key)).await.unwrap();
    assert_eq!(counters.read(ERRORS), 2, "the set that came could not be stored");
    assert_eq!(
        world.registry.persist_all().await.unwrap_err().kind(),
        ErrorKind::Store
    );
    assert_eq!(counters.read(ERRORS), 3);
    // Gone all the same.
    let removed = world.registry.unregister("default", "a").await;
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Store);
    assert!(world.registry.idp("default", "a").is_none());
}

#[tokio::test]
async fn a_damaged_snapshot_counts_as_none_and_is_told() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let store = Arc::new(Memory::new());
    let first = World::with_snapshots(Some(Arc::clone(&store) as _));
    let key = TestKey::es256(0);
    first.serve("a", &[&key]);
    first.add("a").await;
    first.registry.shutdown().await;
    let mut snapshot = store.get("default", "a").await.unwrap().unwrap();
    snapshot.body.truncate(20);
    store.put(&snapshot).await.unwrap();

    let second = World::with_snapshots(Some(Arc::clone(&store) as _));
    assert_eq!(second.registry.restore().await.unwrap(), 1);
    second.serve("a", &[&key]);
    second.register("a", tokenward::Settings::default());
    assert!(!second.registry.idp("default", "a").unwrap().has_keys());
    assert_eq!(counters.read(ERRORS), 1);
    second.clock.run_for(Duration::from_millis(1)).await;
    second.verify(&second.token("a", &key)).await.unwrap();
    assert_eq!(counters.read(ERRORS), 1, "and written anew");
}

#[tokio::test]
async fn without_a_store_the_calls_do_nothing() {
    let world = World::with_snapshots(None);
    let registry = &world.registry;
    assert_eq!(registry.restore().await.unwrap(), 0);
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    registry.persist_all().await.unwrap();
    registry.discard_unclaimed().await.unwrap();
    registry.purge("default", "a").await.unwrap();
    let keys = world.going_on(registry.resolve("default", "a", CallerId::new(1)));
    assert_eq!(keys.await.unwrap().usable().len(), 1);
    registry.unregister("default", "a").await.unwrap();
    assert!(world.store.load_all().await.unwrap().is_empty());
}
