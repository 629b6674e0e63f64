//! Several registries on one store: one fetches, and all have it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokenward::{Clock, Denial, Settings, Snapshot, State, Timestamp, fetch::Guards};
use tokenward_testkit::{ManualClock, TestKey, compact, key_set};

use crate::{
    shared::{Health, Shared},
    snapshots::Counters,
    web::Web,
    world::{CALLER, OTHER, START, Site, Sites, World, issuer},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Time for what is under way, and none for what is due.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Registries that have clock, providers and store in common.
struct Replicas {
    clock: ManualClock,
    store: Arc<Shared>,
    sites: Arc<Sites>,
    worlds: Vec<World>,
}

impl Replicas {
    fn new(count: usize) -> Self {
        Self::with_units(&vec![0.5; count])
    }

    /// One for each, with its own jitter.
    fn with_units(units: &[f64]) -> Self {
        let clock = ManualClock::new(START);
        let store = Arc::new(Shared::new(&clock));
        let sites = Arc::new(Sites::default());
        let worlds = units
            .iter()
            .map(|unit| World::replica(&clock, &sites, Arc::clone(&store) as _, *unit))
            .collect();
        Self {
            clock,
            store,
            sites,
            worlds,
        }
    }

    fn join(&mut self) -> &World {
        let world = World::replica(&self.clock, &self.sites, Arc::clone(&self.store) as _, 0.5);
        self.worlds.push(world);
        self.worlds.last().unwrap()
    }

    fn register(&self, name: &str, settings: &Settings) {
        for world in &self.worlds {
            world.register(name, settings.clone());
        }
    }

    async fn run(&self, time: Duration) {
        self.clock.run_for(time).await;
    }

    fn asked(&self, name: &str) -> usize {
        self.worlds[0].asked(name).len()
    }

    fn serve(&self, name: &str, keys: &[&TestKey]) {
        self.worlds[0].serve(name, keys);
    }

    /// How many fetches there were for each provider.
    fn counts(&self) -> BTreeMap<String, usize> {
        let all = self.worlds[0].asked_all();
        all.into_iter().map(|(name, times)| (name, times.len())).collect()
    }

    /// When each of them last heard of the keys.
    fn last_updated(&self, name: &str) -> Vec<Option<Timestamp>> {
        let of = |world: &World| status(world, name).last_updated;
        self.worlds.iter().map(of).collect()
    }
}

fn status(world: &World, name: &str) -> tokenward::Status {
    world.registry.idp("default", name).unwrap().status().keys
}

fn every(interval: Duration) -> Settings {
    Settings {
        refresh_interval: interval,
        ..Settings::default()
    }
}

fn set(keys: &[&TestKey]) -> Vec<u8> {
    key_set(keys).to_string().into_bytes()
}

/// A hundred providers, of which some are slow, down and hang, over hours.
async fn hours(units: &[f64], healthy: bool) -> Replicas {
    let replicas = Replicas::with_units(units);
    let world = &replicas.worlds[0];
    let body = set(&[&TestKey::es256(0)]);
    for n in 0..100 {
        let name = format!("i{n:02}");
        let site = match n % 10 {
            0 if !healthy => Site::Down,
            1 if !healthy => Site::Hangs,
            2 => Site::Slow(Duration::from_secs(1), body.clone()),
            _ => Site::Slow(Duration::from_millis(20), body.clone()),
        };
        world.set(&name, site);
        replicas.register(&name, &every(10 * MINUTE));
    }
    replicas.run(4 * HOUR).await;
    replicas
}

#[tokio::test]
async fn a_hundred_providers_are_asked_by_three_as_often_as_by_one() {
    let one = hours(&[0.5], true).await;
    let three = hours(&[0.5; 3], true).await;
    assert_eq!(one.counts(), three.counts());
    assert!(one.counts().values().all(|fetches| *fetches >= 24));
    let key = TestKey::es256(0);
    for n in 0..100 {
        let name = format!("i{n:02}");
        let updated = three.last_updated(&name);
        assert!(updated.iter().all(|at| *at == updated[0]), "{name}: {updated:?}");
        assert!(updated[0].unwrap() + 10 * MINUTE + MINUTE > three.clock.steady());
        for world in &three.worlds {
            let token = world.token(&name, &key);
            world.verifier.verify("default", &token, CALLER).await.unwrap();
        }
    }
    // Whoever draws the shortest pause fetches for the others.
    let eager = hours(&[0.95], true).await.counts();
    let mixed = hours(&[0.1, 0.5, 0.95], true).await.counts();
    for (name, fetches) in &mixed {
        assert!(
            fetches.abs_diff(eager[name]) <= 1,
            "{name}: {fetches}, not {}",
            eager[name]
        );
    }
}

#[tokio::test]
async fn providers_that_fail_are_asked_no_oftener_by_three() {
    for unit in [0.3, 0.8] {
        let one = hours(&[unit], false).await.counts();
        let three = hours(&[unit; 3], false).await.counts();
        for (name, fetches) in &one {
            let more = three[name] as f64 / *fetches as f64;
            assert!(
                (0.9..1.1).contains(&more),
                "{name}: {fetches}, then {}",
                three[name]
            );
        }
    }
}

#[tokio::test]
async fn a_provider_that_comes_back_is_known_to_all_at_once() {
    let replicas = Replicas::new(3);
    replicas.worlds[0].set("a", Site::Down);
    replicas.register("a", &Settings::default());
    replicas.run(10 * MINUTE).await;
    for world in &replicas.worlds {
        let status = status(world, "a");
        assert_eq!(status.state, State::Failed);
        assert!(status.error_count >= 3, "{}", status.error_count);
    }
    let codes: Vec<_> = replicas
        .worlds
        .iter()
        .map(|world| status(world, "a").last_error)
        .collect();
    assert!(
        codes.contains(&Some("connect")) && codes.contains(&Some("failed_elsewhere")),
        "{codes:?}"
    );
    let key = TestKey::es256(0);
    replicas.serve("a", &[&key]);
    let before = replicas.asked("a");
    replicas.run(5 * MINUTE).await;
    assert_eq!(replicas.asked("a"), before + 1);
    for world in &replicas.worlds {
        assert_eq!(status(world, "a").state, State::Ready);
        world.verify(&world.token("a", &key)).await.unwrap();
    }
}

#[tokio::test]
async fn many_that_start_at_once_fetch_once_and_their_callers_wait_no_longer() {
    let replicas = Replicas::new(5);
    let key = TestKey::es256(0);
    let slow = Duration::from_millis(1_500);
    replicas.worlds[0].set("a", Site::Slow(slow, set(&[&key])));
    replicas.register("a", &Settings::default());
    let began = replicas.clock.steady();
    for world in &replicas.worlds {
        world.verify(&world.token("a", &key)).await.unwrap();
    }
    let took = replicas.clock.steady().since(began);
    assert!(took < slow + Duration::from_millis(300), "{took:?}");
    assert_eq!(replicas.asked("a"), 1);
    // One that comes later has it at once.
    let mut replicas = replicas;
    let late = replicas.join();
    late.add("a").await;
    assert_eq!(status(late, "a").state, State::Ready);
    assert_eq!(replicas.asked("a"), 1);
}

#[tokio::test]
async fn one_that_goes_while_it_fetches_is_replaced_within_its_lease() {
    let replicas = Replicas::new(2);
    let key = TestKey::es256(0);
    replicas.worlds[0].set("a", Site::Slow(5 * MINUTE, set(&[&key])));
    let guards = Guards {
        retry: tokenward::fetch::Retry {
            attempt: MINUTE,
            deadline: MINUTE,
            ..Guards::default().retry
        },
        ..Guards::default()
    };
    replicas.worlds[0].register_with("a", Settings::default(), guards);
    replicas.run(A_MOMENT).await;
    replicas.worlds[0].registry.shutdown().await;
    replicas.serve("a", &[&key]);
    replicas.worlds[1].register("a", Settings::default());
    replicas.run(Duration::from_secs(9)).await;
    assert_eq!(replicas.asked("a"), 1);
    replicas.run(Duration::from_millis(1_200)).await;
    assert_eq!(replicas.asked("a"), 2);
    let second = &replicas.worlds[1];
    second.verify(&second.token("a", &key)).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_after_the_lease_is_not_taken_for_newer() {
    let replicas = Replicas::new(2);
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    let guards = Guards {
        retry: tokenward::fetch::Retry {
            attempt: MINUTE,
            deadline: MINUTE,
            ..Guards::default().retry
        },
        ..Guards::default()
    };
    replicas.worlds[0].set("a", Site::Slow(Duration::from_secs(15), set(&[&old])));
    for world in &replicas.worlds {
        world.register_with("a", Settings::default(), guards.clone());
    }
    replicas.run(Duration::from_secs(5)).await;
    replicas.serve("a", &[&new]);
    replicas.run(Duration::from_secs(7)).await;
    let stored = replicas.store.stored("a").unwrap();
    replicas.run(MINUTE).await;
    assert_eq!(replicas.store.stored("a").unwrap(), stored);
    for world in &replicas.worlds {
        world.verify(&world.token("a", &new)).await.unwrap();
        assert_eq!(status(world, "a").last_updated, Some(stored.fetched_at));
    }
    assert_eq!(replicas.asked("a"), 2);
}

#[tokio::test]
async fn without_the_store_each_fetches_by_itself_and_at_once() {
    for health in [Health::Down, Health::Hangs] {
        let counters = Counters::default();
        let _guard = metrics::set_default_local_recorder(&counters);
        let replicas = Replicas::new(3);
        replicas.store.set(health);
        let (old, new) = (TestKey::es256(0), TestKey::es256(1));
        replicas.serve("a", &[&old]);
        replicas.register("a", &every(10 * MINUTE));
        replicas.run(Duration::from_millis(600)).await;
        assert_eq!(replicas.asked("a"), 3);
        replicas.run(HOUR).await;
        assert!(
            (18..=24).contains(&replicas.asked("a")),
            "{}",
            replicas.asked("a")
        );
        for world in &replicas.worlds {
            let began = replicas.clock.steady();
            let token = world.token("a", &old);
            world.verifier.verify("default", &token, CALLER).await.unwrap();
            assert_eq!(replicas.clock.steady(), began, "who has keys waits for nothing");
        }
        replicas.serve("a", &[&old, &new]);
        for world in &replicas.worlds {
            let began = replicas.clock.steady();
            world.verify(&world.token("a", &new)).await.unwrap();
            assert!(replicas.clock.steady().since(began) < Duration::from_secs(1));
        }
        // What is known to hang is not waited for again and again.
        for wait in [600, 50] {
            let world = &replicas.worlds[0];
            let refresh = world.registry.refresh("default", "a");
            let began = replicas.clock.steady();
            world.going_on(refresh).await.unwrap();
            assert!(replicas.clock.steady().since(began) <= Duration::from_millis(wait));
        }
        let alone = counters.read("tokenward_shared_fetches_total alone");
        assert!(alone >= 20, "{alone}");
        assert_eq!(counters.read("tokenward_shared_fetches_total fetched"), 0);
        // It comes back, and nothing has to be said.
        replicas.store.set(Health::Well);
        replicas.run(20 * MINUTE).await;
        let before = replicas.asked("a");
        replicas.run(HOUR).await;
        assert!(
            (5..=7).contains(&(replicas.asked("a") - before)),
            "{}",
            replicas.asked("a") - before
        );
    }
}

#[tokio::test]
async fn a_write_that_takes_long_holds_no_answer_up() {
    let replicas = Replicas::new(2);
    *replicas.store.put_takes.lock().unwrap() = Duration::from_secs(1);
    let key = TestKey::es256(0);
    replicas.worlds[0].set("a", Site::Slow(A_MOMENT, set(&[&key])));
    replicas.register("a", &Settings::default());
    let began = replicas.clock.steady();
    let [first, second] = &replicas.worlds[..] else {
        panic!()
    };
    first.verify(&first.token("a", &key)).await.unwrap();
    assert!(replicas.clock.steady().since(began) <= A_MOMENT + Duration::from_millis(10));
    assert!(replicas.store.stored("a").is_none());
    // Another one has it once it is there.
    second.verify(&second.token("a", &key)).await.unwrap();
    assert!(replicas.clock.steady().since(began) < Duration::from_millis(1_400));
    assert_eq!(replicas.asked("a"), 1);
}

#[tokio::test]
async fn a_store_that_stops_while_others_are_waited_for_holds_nobody_up() {
    let replicas = Replicas::new(2);
    let key = TestKey::es256(0);
    replicas.worlds[0].set("a", Site::Hangs);
    replicas.worlds[0].register("a", Settings::default());
    replicas.run(A_MOMENT).await;
    replicas.serve("a", &[&key]);
    replicas.worlds[1].register("a", Settings::default());
    replicas.run(Duration::from_secs(1)).await;
    assert!(
        !replicas.worlds[1]
            .registry
            .idp("default", "a")
            .unwrap()
            .has_keys()
    );
    replicas.store.set(Health::Hangs);
    replicas.run(Duration::from_secs(1)).await;
    assert!(
        replicas.worlds[1]
            .registry
            .idp("default", "a")
            .unwrap()
            .has_keys()
    );
}

/// A token that is well-formed and names a key that nobody has.
fn with_kid(world: &World, kid: &str) -> String {
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let exp = world.clock.wall().as_secs() + 3_600;
    let claims = format!(r#"{{"iss":"{}","aud":"api","exp":{exp}}}"#, issuer("a"));
    compact(header.as_bytes(), claims.as_bytes(), &[7; 64])
}

#[tokio::test]
async fn random_kids_at_three_cause_no_more_fetches_than_at_one_and_rotations_get_through() {
    let replicas = Replicas::new(3);
    let keys: Vec<_> = (0..4).map(TestKey::es256).collect();
    replicas.serve("a", &[&keys[0]]);
    replicas.register("a", &Settings::default());
    replicas.run(A_MOMENT).await;
    assert_eq!(replicas.asked("a"), 1);
    let mut brought = 0;
    for n in 0..100_000_u32 {
        let world = &replicas.worlds[n as usize % 3];
        let outcome = world.verify(&with_kid(world, &format!("kid-{n}"))).await;
        assert!(matches!(
            outcome.unwrap_err(),
            Denial::IssuerUnavailable | Denial::KeyUnknown
        ));
        // Each of three rotations is brought to another one by somebody else.
        if n % 30_000 == 10_000 {
            let rotation = n as usize / 30_000;
            let new = &keys[rotation + 1];
            replicas.serve("a", &[&keys[0], new]);
            for turn in 0..3 {
                let world = &replicas.worlds[(rotation + turn) % 3];
                let began = replicas.clock.steady();
                world.verify_as(&world.token("a", new), OTHER).await.unwrap();
                let took = replicas.clock.steady().since(began);
                assert!(took < Duration::from_secs(2), "{took:?}");
            }
            brought += 1;
        }
        replicas.clock.advance(Duration::from_millis(3));
    }
    let mut minutes = [0_usize; 7];
    for at in replicas.worlds[0].asked("a").iter().skip(1) {
        minutes[(at.since(START).as_secs() / 60) as usize] += 1;
    }
    println!(
        "100,000 random kids at three in 5 minutes: by minute {minutes:?}, of which {brought} brought a key"
    );
    assert!(minutes.iter().all(|fetches| *fetches <= 3), "{minutes:?}");
    assert!(minutes.iter().sum::<usize>() > brought, "nothing was looked for");
    // Signatures that do not verify have a budget of their own, and a set that another one fetched is a new one.
    let before = replicas.asked("a");
    for n in 0..600_usize {
        let world = &replicas.worlds[n % 3];
        let token = with_kid(world, keys[0].kid().unwrap());
        world
            .verifier
            .verify("default", &token, CALLER)
            .await
            .unwrap_err();
        replicas.run(Duration::from_millis(100)).await;
    }
    assert!(
        replicas.asked("a") - before <= 2,
        "{}",
        replicas.asked("a") - before
    );
}

#[tokio::test]
async fn a_purge_at_one_fetches_anew_and_harms_no_other() {
    let replicas = Replicas::new(3);
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    replicas.serve("a", &[&old]);
    replicas.register("a", &Settings::default());
    replicas.run(10 * MINUTE).await;
    let stored = replicas.store.stored("a").unwrap();
    // While the provider is down nothing brings back what was purged, whoever stores it again.
    replicas.worlds[0].set("a", Site::Down);
    replicas.worlds[0].registry.purge("default", "a").await.unwrap();
    replicas.store.force(&stored);
    replicas.run(MINUTE).await;
    let world = &replicas.worlds[0];
    assert_eq!(
        world.verify(&world.token("a", &old)).await.unwrap_err(),
        Denial::IssuerUnavailable
    );
    for world in &replicas.worlds[1..] {
        world.verify(&world.token("a", &old)).await.unwrap();
    }
    replicas.serve("a", &[&new]);
    replicas.run(HOUR).await;
    for world in &replicas.worlds {
        world.verify(&world.token("a", &new)).await.unwrap();
    }
}

#[tokio::test]
async fn other_settings_at_one_poison_no_other() {
    let replicas = Replicas::new(2);
    let keys: Vec<_> = (0..3).map(TestKey::es256).collect();
    replicas.serve("a", &[&keys[0], &keys[1], &keys[2]]);
    replicas.register("a", &Settings::default());
    replicas.run(A_MOMENT).await;
    // The first has room for one key, and fetches for both.
    let settings = Settings {
        max_keys: 1,
        refresh_interval: 10 * MINUTE,
        ..Settings::default()
    };
    replicas.worlds[0].register("a", settings);
    replicas.run(HOUR + MINUTE).await;
    let updated = replicas.last_updated("a");
    assert!(updated[1].unwrap() > START + MINUTE, "{updated:?}");
    let counts: Vec<_> = replicas
        .worlds
        .iter()
        .map(|world| status(world, "a").key_count)
        .collect();
    assert_eq!(counts, [1, 3]);
    // Another address is another provider.
    let url = url::Url::parse("https://b.example/jwks").unwrap();
    replicas.serve("b", &[&TestKey::es256(7)]);
    let config = tokenward::IdpConfig::at("a", url, None).unwrap();
    replicas.worlds[0].registry.register(config).unwrap();
    replicas.run(3 * HOUR).await;
    let world = &replicas.worlds[1];
    world.verify(&world.token("a", &keys[2])).await.unwrap();
    assert_eq!(status(world, "a").key_count, 3);
    assert_eq!(status(&replicas.worlds[0], "a").key_count, 1);
}

#[tokio::test]
async fn what_another_stored_is_as_old_as_it_is() {
    let mut replicas = Replicas::new(1);
    let key = TestKey::es256(0);
    replicas.serve("a", &[&key]);
    replicas.register("a", &Settings::default());
    replicas.run(A_MOMENT).await;
    replicas.worlds[0].set("a", Site::Down);
    replicas.run(5 * HOUR).await;
    assert!(replicas.store.adopted.lock().unwrap().is_empty());
    replicas.join().register("a", Settings::default());
    replicas.run(A_MOMENT).await;
    // Whoever keeps copies of his own is told.
    let told = std::mem::take(&mut *replicas.store.adopted.lock().unwrap());
    assert_eq!(told, [replicas.store.stored("a").unwrap()]);
    let [first, second] = &replicas.worlds[..] else {
        panic!()
    };
    let (known, taken) = (status(first, "a"), status(second, "a"));
    assert_eq!(taken.last_updated, known.last_updated);
    assert_eq!(taken.stale_until, known.stale_until);
    second.verify(&second.token("a", &key)).await.unwrap();
    replicas.run(8 * HOUR).await;
    for world in &replicas.worlds {
        let outcome = world.verify(&world.token("a", &key)).await;
        assert_eq!(outcome.unwrap_err(), Denial::IssuerUnavailable);
    }
    // Past its deadline it is nobody's.
    let late = replicas.join();
    late.add("a").await;
    assert!(!late.registry.idp("default", "a").unwrap().has_keys());
}

#[tokio::test]
async fn neither_an_older_set_nor_one_from_the_future_replaces_what_is_there() {
    let replicas = Replicas::new(2);
    let (mine, theirs) = (TestKey::es256(0), TestKey::es256(1));
    replicas.serve("a", &[&mine]);
    replicas.register("a", &every(10 * MINUTE));
    replicas.run(MINUTE).await;
    let stored = replicas.store.stored("a").unwrap();
    let forged = |fetched_at| Snapshot {
        body: set(&[&theirs]),
        fetched_at,
        ..stored.clone()
    };
    for fetched_at in [stored.fetched_at - MINUTE, stored.fetched_at + 24 * HOUR] {
        replicas.store.force(&forged(fetched_at));
        let before = replicas.asked("a");
        replicas.run(20 * MINUTE).await;
        assert!(replicas.asked("a") > before);
        for world in &replicas.worlds {
            world.verify(&world.token("a", &mine)).await.unwrap();
            let outcome = world
                .verifier
                .verify("default", &world.token("a", &theirs), CALLER)
                .await;
            assert!(outcome.is_err());
        }
    }
    // What was read under other settings is none of ours.
    replicas.run(A_MOMENT).await;
    let other = Snapshot {
        config_hash: [9; 32],
        ..forged(replicas.clock.steady())
    };
    replicas.worlds[0].set("a", Site::Down);
    replicas.store.force(&other);
    replicas.run(20 * MINUTE).await;
    let world = &replicas.worlds[0];
    world.verify(&world.token("a", &mine)).await.unwrap();
    assert!(world.verify_as(&world.token("a", &theirs), OTHER).await.is_err());
}

#[tokio::test]
async fn where_another_found_the_keys_and_that_they_are_the_same_is_known_to_all() {
    let clock = ManualClock::new(START);
    let store = Arc::new(Shared::new(&clock));
    let first = Web::at(clock.clone(), Arc::clone(&store) as _);
    let second = first.beside();
    let (metadata, keys) = (
        "https://a.example/.well-known/openid-configuration",
        "https://keys.example/jwks",
    );
    let document = r#"{"issuer":"https://a.example","jwks_uri":"https://keys.example/jwks"}"#;
    first.page(metadata, document, &[]);
    first.page(keys, set(&[&TestKey::es256(0)]), &[("etag", "\"v1\"")]);
    let policy = tokenward::Policy::builder("https://a.example", tokenward::Audiences::Any);
    let config = tokenward::IdpConfig::discovered("a", policy.build().unwrap()).unwrap();
    for web in [&first, &second] {
        web.register(config.clone());
        web.run(A_MOMENT).await;
    }
    first.run(3 * HOUR).await;
    let asked: Vec<_> = first.asked();
    let expected = [
        (metadata.to_owned(), None),
        (keys.to_owned(), None),
        (keys.to_owned(), Some("\"v1\"".to_owned())),
    ];
    assert_eq!(asked[..3], expected);
    assert!(asked[2..].iter().all(|asked| *asked == expected[2]), "{asked:?}");
    assert_eq!(asked.len(), 2 + 3);
    let last = first.status("a").last_updated;
    assert_eq!(second.status("a").last_updated, last);
    assert!(last.unwrap() + HOUR > clock.steady());
    // It goes on from there by itself.
    first.registry.shutdown().await;
    second.run(HOUR).await;
    assert_eq!(second.asked().last(), Some(&expected[2]));
    assert_eq!(second.asked().len(), 2 + 4);
}

#[tokio::test]
async fn a_key_that_leaked_is_gone_everywhere() {
    let replicas = Replicas::new(2);
    let (leaked, kept) = (TestKey::es256(0), TestKey::es256(1));
    replicas.serve("a", &[&leaked, &kept]);
    replicas.register("a", &every(10 * MINUTE));
    replicas.run(A_MOMENT).await;
    let mut document = key_set(&[&leaked, &kept]);
    document["keys"][0]["d"] = "AQ".into();
    replicas.worlds[0].set("a", Site::Keys(document.to_string().into_bytes()));
    replicas.run(10 * MINUTE).await;
    assert_eq!(replicas.asked("a"), 2);
    for world in &replicas.worlds {
        world.verify(&world.token("a", &kept)).await.unwrap();
        // It has no grace, wherever the answer came from.
        assert!(
            world
                .verifier
                .verify("default", &world.token("a", &leaked), CALLER)
                .await
                .is_err()
        );
        assert_eq!(status(world, "a").skipped_keys.len(), 1);
    }
    // Where nothing else is in the set, everybody sees for himself.
    let mut document = key_set(&[&kept]);
    document["keys"][0]["d"] = "AQ".into();
    replicas.worlds[0].set("a", Site::Keys(document.to_string().into_bytes()));
    replicas.run(11 * MINUTE).await;
    for world in &replicas.worlds {
        assert!(
            world
                .verifier
                .verify("default", &world.token("a", &kept), CALLER)
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_refresh_by_hand_asks_the_provider_and_all_have_the_answer() {
    let replicas = Replicas::new(2);
    let key = TestKey::es256(0);
    replicas.serve("a", &[&key]);
    replicas.register("a", &Settings::default());
    replicas.run(MINUTE).await;
    let second = &replicas.worlds[1];
    second
        .going_on(second.registry.refresh("default", "a"))
        .await
        .unwrap();
    assert_eq!(replicas.asked("a"), 2);
    // Whoever asks gets an answer of now, though another one has a newer set than his.
    let first = &replicas.worlds[0];
    first
        .going_on(first.registry.refresh("default", "a"))
        .await
        .unwrap();
    assert_eq!(replicas.asked("a"), 3);
    // Two who ask at once share what the one gets.
    replicas.worlds[0].set("a", Site::Slow(Duration::from_secs(1), set(&[&key])));
    let by_hand = replicas
        .worlds
        .iter()
        .map(|world| world.registry.refresh("default", "a"));
    let all = futures_util::future::join_all(by_hand);
    for done in first.going_on(all).await {
        done.unwrap();
    }
    assert_eq!(replicas.asked("a"), 4);
    replicas.run(HOUR).await;
    assert_eq!(replicas.asked("a"), 5);
    assert_eq!(replicas.last_updated("a")[0], replicas.last_updated("a")[1]);
}

#[tokio::test]
async fn who_waits_for_another_in_vain_asks_nobody() {
    let replicas = Replicas::new(2);
    let key = TestKey::es256(0);
    replicas.serve("a", &[&key]);
    replicas.register("a", &Settings::default());
    replicas.run(MINUTE).await;
    replicas.worlds[0].set("a", Site::Slow(Duration::from_secs(7), set(&[&key])));
    let [first, second] = &replicas.worlds[..] else {
        panic!()
    };
    let by_hand = first.registry.refresh("default", "a");
    let lookup = async {
        replicas.run(A_MOMENT).await;
        let began = replicas.clock.steady();
        let outcome = second.verify(&with_kid(second, "unknown")).await;
        assert_eq!(outcome.unwrap_err(), Denial::IssuerUnavailable);
        assert!(replicas.clock.steady().since(began) <= Duration::from_millis(2_100));
        // Nor does one who is gone by then.
        second.registry.purge("default", "a").await.unwrap();
        replicas.run(Duration::from_secs(1)).await;
        second.registry.unregister("default", "a").await.unwrap();
        replicas.run(MINUTE).await;
    };
    tokio::join!(by_hand, lookup).0.unwrap();
    assert_eq!(replicas.asked("a"), 2);
}

#[tokio::test]
async fn what_one_of_them_does_not_know_stays_for_the_others() {
    let mut replicas = Replicas::new(1);
    replicas.serve("a", &[&TestKey::es256(0)]);
    replicas.register("a", &Settings::default());
    replicas.run(MINUTE).await;
    replicas.join();
    let other = &replicas.worlds[1];
    assert_eq!(other.registry.restore().await.unwrap(), 1);
    other.registry.discard_unclaimed().await.unwrap();
    assert!(replicas.store.stored("a").is_some());
    // Whoever keeps copies of his own is told of what he begins with.
    other.registry.restore().await.unwrap();
    other.add("a").await;
    let told = replicas.store.adopted.lock().unwrap();
    assert_eq!(*told, [replicas.store.stored("a").unwrap()]);
}

#[tokio::test]
async fn a_store_of_ones_own_is_asked_for_nothing() {
    let world = World::new();
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    // Nothing of an earlier life is looked for, unless it is restored.
    let second = World::with(START + MINUTE, Arc::clone(&world.sites), Arc::clone(&world.store));
    second.add("a").await;
    assert_eq!(second.asked("a").len(), 2);
    let replicas = Replicas::new(1);
    replicas.serve("a", &[&TestKey::es256(0)]);
    replicas.register("a", &Settings::default());
    replicas.run(HOUR / 2).await;
    // Looked, claimed, looked again, stored, handed back.
    assert_eq!(replicas.store.calls.load(Ordering::Relaxed), 5);
}
