//! A store that is damaged, down, or not there keeps nothing from working.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokenward::{
    CallerId, Clock, ErrorKind, IdpConfig, Memory, Settings, Snapshot, Snapshots, StoreError, StoreErrorKind,
    Timestamp,
};
use tokenward_testkit::{ManualClock, TestKey, key_set};

use crate::{
    shared::Shared,
    web::{Web, url},
    world::{START, Site, Sites, World},
};

/// Counters by name, and by name and result where that is told; other labels aside.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    pub(crate) fn read(&self, name: &str) -> u64 {
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
        let result = key.labels().find(|label| label.key() == "result");
        let name = match result {
            Some(result) => format!("{} {}", key.name(), result.value()),
            None => key.name().to_owned(),
        };
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A store whose every write fails as long as it is down.
#[derive(Default)]
struct Flaky {
    down: AtomicBool,
    store: Memory,
}

#[async_trait]
impl Snapshots for Flaky {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        match self.down.load(Ordering::Relaxed) {
            true => down(),
            false => self.store.put(snapshot).await,
        }
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        self.store.get(tenant, name).await
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.store.load_all().await
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        self.store.remove(tenant, name).await
    }
}

#[tokio::test]
async fn what_a_store_missed_is_written_when_all_is() {
    let store = Arc::new(Flaky::default());
    store.down.store(true, Ordering::Relaxed);
    let world = World::with_snapshots(Some(Arc::clone(&store) as _));
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    store.down.store(false, Ordering::Relaxed);
    assert!(store.load_all().await.unwrap().is_empty());
    world.registry.persist_all().await.unwrap();
    assert_eq!(store.load_all().await.unwrap().len(), 1);
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
    // Every set that comes is another attempt.
    world.clock.run_for(Duration::from_secs(3_600)).await;
    assert_eq!(counters.read(ERRORS), 4);
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
async fn many_snapshots_come_back_and_a_damaged_one_takes_no_other_with_it() {
    let store = Arc::new(Memory::new());
    let first = World::with_snapshots(Some(Arc::clone(&store) as _));
    let key = TestKey::es256(0);
    first.serve("a", &[&key]);
    // The same source under other names.
    let idp = |name: &str| IdpConfig::at(name, "https://a.example/jwks".parse().unwrap(), None).unwrap();
    first.registry.register(idp("a")).unwrap();
    first.clock.run_for(Duration::from_millis(1)).await;
    first.registry.shutdown().await;
    let pattern = store.get("default", "a").await.unwrap().unwrap();
    let name = |n: usize| format!("idp{n}");
    for n in 0..300 {
        let mut snapshot = Snapshot {
            name: name(n),
            ..pattern.clone()
        };
        if n == 150 {
            snapshot.body.truncate(20);
        }
        store.put(&snapshot).await.unwrap();
    }
    let second = World::with_snapshots(Some(Arc::clone(&store) as _));
    assert_eq!(second.registry.restore().await.unwrap(), 301);
    let idps = (0..300).map(|n| idp(&name(n)));
    second
        .registry
        .apply(tokenward::Changes {
            register: idps.collect(),
            ..tokenward::Changes::default()
        })
        .await
        .unwrap();
    for n in 0..300 {
        let idp = second.registry.idp("default", &name(n)).unwrap();
        assert_eq!(idp.has_keys(), n != 150, "{n}");
    }
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

/// A store whose writes take so long; none means for ever.
struct Slow {
    clock: ManualClock,
    takes: Option<Duration>,
    store: Memory,
}

impl Slow {
    async fn wait(&self) {
        match self.takes {
            Some(takes) => self.clock.sleep(takes).await,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Snapshots for Slow {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.wait().await;
        self.store.put(snapshot).await
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        self.store.get(tenant, name).await
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.store.load_all().await
    }

    /// Quick, and so ahead of a write that began before it.
    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        self.store.remove(tenant, name).await
    }
}

fn slow(takes: Option<Duration>) -> (Arc<Slow>, Web) {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let store = Arc::new(Slow {
        clock: clock.clone(),
        takes,
        store: Memory::new(),
    });
    let web = Web::at(clock, Arc::clone(&store) as _);
    (store, web)
}

fn hourly(name: &str) -> IdpConfig {
    IdpConfig::at(name, url(&format!("https://{name}.example/keys")), None).unwrap()
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_no_fetch_and_no_end() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_, web) = slow(None);
    // More than there are places.
    for n in 0..6 {
        web.keys(&format!("https://i{n}.example/keys"), &[&TestKey::es256(0)]);
        web.register(hourly(&format!("i{n}")));
    }
    web.run(Duration::from_secs(36_000)).await;
    for n in 0..6 {
        assert!(web.status(&format!("i{n}")).update_count >= 9);
    }
    assert!(counters.read(ERRORS) >= 6 * 9, "{}", counters.read(ERRORS));
    let registry = web.registry.clone();
    web.run(Duration::from_secs(1)).await;
    let began = web.clock.steady();
    let (persisted, ()) = tokio::join!(registry.persist_all(), web.run(Duration::from_secs(20)));
    assert_eq!(persisted.unwrap_err().kind(), ErrorKind::Store);
    tokio::join!(registry.shutdown(), web.run(Duration::from_secs(20)));
    assert!(web.clock.steady().since(began) <= Duration::from_secs(40));
}

#[tokio::test]
async fn a_slow_write_brings_back_nothing_that_was_purged_or_removed() {
    const WRITE: Duration = Duration::from_secs(5);
    for purge in [true, false] {
        let (store, web) = slow(Some(WRITE));
        web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
        web.register(hourly("a"));
        web.run(WRITE / 2).await;
        web.gone("https://a.example/keys");
        let registry = web.registry.clone();
        let gone = async {
            match purge {
                true => registry.purge("default", "a").await.unwrap(),
                false => registry.unregister("default", "a").await.unwrap(),
            }
        };
        tokio::join!(gone, web.run(2 * WRITE));
        web.run(2 * WRITE).await;
        assert!(store.load_all().await.unwrap().is_empty(), "{purge}");
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_written_at_the_end() {
    let (store, web) = slow(Some(Duration::from_secs(5)));
    web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
    web.register(hourly("a"));
    web.run(Duration::from_secs(1)).await;
    let registry = web.registry.clone();
    tokio::join!(registry.shutdown(), web.run(Duration::from_secs(10)));
    assert_eq!(store.load_all().await.unwrap().len(), 1);
}

/// Providers that answer at once, and before them one that takes a second.
fn fleet(world: &World, count: usize) {
    let body = key_set(&[&TestKey::es256(0)]).to_string().into_bytes();
    world.set("slow", Site::Slow(Duration::from_secs(1), body.clone()));
    world.register("slow", Settings::default());
    for n in 0..count {
        world.set(&format!("i{n}"), Site::Keys(body.clone()));
        world.register(&format!("i{n}"), Settings::default());
    }
}

#[tokio::test]
async fn the_sets_of_a_fleet_are_stored_together_and_soon() {
    let world = World::new();
    fleet(&world, 300);
    let stored = async |millis| {
        world.clock.run_for(Duration::from_millis(millis)).await;
        world.store.load_all().await.unwrap().len()
    };
    // As many as are written at once, then the rest after a tenth of a second, and the last one with none after it.
    assert_eq!(stored(99).await, 256);
    assert_eq!(stored(2).await, 300);
    assert_eq!(stored(898).await, 300);
    assert_eq!(stored(2).await, 301);
}

#[tokio::test]
async fn sets_that_wait_to_be_stored_together_are_stored_at_the_end() {
    let world = World::new();
    fleet(&world, 10);
    world.clock.run_for(Duration::from_millis(50)).await;
    assert!(world.store.load_all().await.unwrap().is_empty());
    world.registry.shutdown().await;
    assert_eq!(world.store.load_all().await.unwrap().len(), 10);
}

#[tokio::test]
async fn what_waits_to_be_stored_and_is_removed_is_never_stored() {
    let world = World::new();
    fleet(&world, 2);
    world.clock.run_for(Duration::from_millis(50)).await;
    world.registry.unregister("default", "i0").await.unwrap();
    world.clock.run_for(Duration::from_secs(5)).await;
    assert!(world.store.get("default", "i0").await.unwrap().is_none());
    assert!(world.store.get("default", "i1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_others_wait_for_is_told_at_once() {
    let (clock, sites) = (ManualClock::new(START), Arc::new(Sites::default()));
    let store = Arc::new(Shared::new(&clock));
    let world = World::replica(&clock, &sites, Arc::clone(&store) as _, 0.5);
    fleet(&world, 2);
    clock.run_for(Duration::from_millis(50)).await;
    assert!(store.stored("i1").is_some() && store.stored("slow").is_none());
}

/// A store that refuses one snapshot.
#[derive(Default)]
struct Picky(Memory);

#[async_trait]
impl Snapshots for Picky {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        match snapshot.name.as_str() {
            "i1" => down(),
            _ => self.0.put(snapshot).await,
        }
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        self.0.get(tenant, name).await
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.0.load_all().await
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        self.0.remove(tenant, name).await
    }
}

#[tokio::test]
async fn one_set_that_cannot_be_stored_takes_no_other_with_it() {
    let store = Arc::new(Picky::default());
    let world = World::with_snapshots(Some(Arc::clone(&store) as _));
    fleet(&world, 10);
    world.clock.run_for(Duration::from_millis(200)).await;
    assert_eq!(store.load_all().await.unwrap().len(), 9);
}
