//! Key sets and keys for those who verify by themselves.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use tokenward::{
    Algorithm, CallerId, Clock, Error, ErrorKind, IdpConfig, Policy, Settings,
    jose::{Key, KeySet},
};
use tokenward_testkit::{TestKey, key_set};

use crate::world::{CALLER, OTHER, Site, World};

async fn keys(world: &World) -> Result<Arc<KeySet>, Error> {
    world
        .going_on(world.registry.resolve("default", "a", CALLER))
        .await
}

async fn key(world: &World, kid: &str, caller: CallerId) -> Result<Arc<Key>, Error> {
    let registry = &world.registry;
    world
        .going_on(registry.resolve_key("default", "a", kid, Algorithm::Es256, caller))
        .await
}

#[tokio::test]
async fn a_set_is_the_one_that_everybody_shares() {
    let world = World::new();
    let known = TestKey::es256(0);
    world.serve("a", &[&known]);
    world.add("a").await;
    let set = keys(&world).await.unwrap();
    assert!(Arc::ptr_eq(&set, &keys(&world).await.unwrap()));
    assert_eq!(set.kept_body(), key_set(&[&known]).to_string());
    let found = key(&world, known.kid().unwrap(), CALLER).await.unwrap();
    assert!(Arc::ptr_eq(&found, &set.usable()[0]));
    assert_eq!(world.asked("a").len(), 1, "what is known is not asked for");
}

#[tokio::test]
async fn a_key_of_a_rotation_is_found_and_an_unknown_one_costs_its_callers_share() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.serve("a", &[&new]);
    let found = key(&world, new.kid().unwrap(), CALLER).await.unwrap();
    assert_eq!(found.kid(), new.kid());
    // The old one has left the set and has its grace.
    let kept = key(&world, old.kid().unwrap(), CALLER).await.unwrap();
    assert_eq!(kept.kid(), old.kid());
    let set = keys(&world).await.unwrap();
    assert_eq!(
        set.usable().iter().map(|key| key.kid()).collect::<Vec<_>>(),
        [new.kid()]
    );

    // One caller's share is spent, another's is not; what was looked for in vain is remembered for all.
    let asked = world.asked("a").len();
    assert_eq!(asked, 2);
    let over = key(&world, "none", CALLER).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Unavailable, "{over}");
    let absent = key(&world, "none", OTHER).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::KeyUnknown, "{absent}");
    assert_eq!(
        key(&world, "none", CALLER).await.unwrap_err().kind(),
        ErrorKind::KeyUnknown
    );
    assert_eq!(world.asked("a").len(), asked + 1);
    for n in 0..1_000 {
        let outcome = key(&world, &format!("none-{n}"), CallerId::new(n)).await;
        assert!(outcome.is_err());
    }
    assert_eq!(world.asked("a").len(), asked + 1, "the budget is spent");
}

#[tokio::test]
async fn the_first_load_costs_nobodys_share() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.register("a", Settings::default());
    // Asked for before the schedule had a chance.
    keys(&world).await.unwrap();
    world.clock.run_for(Duration::from_secs(1)).await;
    assert_eq!(world.asked("a").len(), 1, "the schedule does not do it again");
    world.serve("a", &[&new]);
    key(&world, new.kid().unwrap(), CALLER).await.unwrap();
}

#[tokio::test]
async fn a_thousand_cold_lookups_are_one_fetch_and_last_as_long_as_it() {
    let world = World::new();
    let known = TestKey::es256(0);
    world.set(
        "a",
        Site::Slow(
            Duration::from_millis(500),
            key_set(&[&known]).to_string().into_bytes(),
        ),
    );
    world.add("a").await;
    let began = world.clock.steady();
    let lookups = (0..1_000).map(|n| world.registry.resolve("default", "a", CallerId::new(n)));
    let outcomes = world.going_on(join_all(lookups)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(world.asked("a").len(), 1);
    assert!(world.clock.steady().since(began) <= Duration::from_millis(520));
}

#[tokio::test]
async fn a_dead_provider_fails_all_who_wait_at_once_and_each_within_its_time() {
    let world = World::new();
    world.set("a", Site::Hangs);
    world.add("a").await;
    let began = world.clock.steady();
    let lookups = (0..100).map(|n| world.registry.resolve("default", "a", CallerId::new(n)));
    let outcomes = world.going_on(join_all(lookups)).await;
    let took = world.clock.steady().since(began);
    assert!(took <= Duration::from_millis(2_020), "{took:?}");
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let status = world.registry.idp("default", "a").unwrap().status();
    assert_eq!(status.hit_rate, Some(0.0), "failed lookups count");
}

#[tokio::test]
async fn failed_lookups_lower_the_hit_rate_and_stale_ones_are_told_apart() {
    let world = World::new();
    world.serve("a", &[&TestKey::es256(0)]);
    let settings = Settings {
        refresh_interval: Duration::from_secs(60),
        stale_while_error: Duration::from_secs(600),
        ..Settings::default()
    };
    world.add_with("a", settings).await;
    let ratios = || {
        let status = world.registry.idp("default", "a").unwrap().status();
        (status.hit_rate, status.stale_serve_ratio)
    };
    assert_eq!(ratios(), (None, None), "nobody has asked");
    for _ in 0..2 {
        keys(&world).await.unwrap();
    }
    assert_eq!(ratios(), (Some(1.0), Some(0.0)));
    world.set("a", Site::Down);
    world.clock.run_for(Duration::from_secs(120)).await;
    keys(&world).await.unwrap();
    keys(&world).await.unwrap();
    assert_eq!(ratios(), (Some(0.5), Some(0.5)));
    world.clock.run_for(Duration::from_secs(600)).await;
    for _ in 0..4 {
        assert_eq!(keys(&world).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(ratios(), (Some(0.25), Some(0.25)));
}

#[tokio::test]
async fn what_there_is_not_and_what_is_not_shown() {
    let world = World::new();
    let missing = keys(&world).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let secret = TestKey::new("HS256", 0);
    let policy = Policy::builder("https://a.example/", tokenward::Audiences::Any)
        .algorithms(tokenward::AlgorithmSet::only(Algorithm::Hs256))
        .build()
        .unwrap();
    let config = IdpConfig::symmetric("a", secret.secret().unwrap(), policy).unwrap();
    world.registry.register(config).unwrap();
    let shared = keys(&world).await.unwrap_err();
    assert_eq!(shared.kind(), ErrorKind::NotFound);
    assert!(shared.to_string().contains("shared secret"), "{shared}");
}

#[tokio::test]
async fn given_keys_are_had_without_a_fetch() {
    let world = World::new();
    let known = TestKey::es256(0);
    let set = KeySet::parse(key_set(&[&known]).to_string().as_bytes()).unwrap();
    let policy = Policy::builder("https://a.example/", tokenward::Audiences::Any)
        .build()
        .unwrap();
    world
        .registry
        .register(IdpConfig::with_keys("a", set, policy).unwrap())
        .unwrap();
    assert_eq!(keys(&world).await.unwrap().usable().len(), 1);
    key(&world, known.kid().unwrap(), CALLER).await.unwrap();
    let unknown = key(&world, "none", CALLER).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::KeyUnknown);
    assert!(world.asked("a").is_empty());
}

/// Whoever is dropped at any point leaves nothing behind that others wait for.
#[tokio::test]
async fn dropped_lookups_never_leave_the_others_stuck() {
    const ROUNDS: u64 = 10_000;
    let world = World::new();
    let known = TestKey::es256(0);
    let set = key_set(&[&known]).to_string().into_bytes();
    world.set("a", Site::Slow(Duration::from_millis(7), set));
    world.add("a").await;
    let mut drawn: u64 = 1;
    let mut random = |below: u64| {
        // A linear congruential generator: the same rounds each time.
        drawn = drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (drawn >> 33) % below
    };
    for round in 0..ROUNDS {
        let kid = format!("kid-{}", random(3));
        let caller = CallerId::new(random(4));
        let by_kid = world
            .registry
            .resolve_key("default", "a", &kid, Algorithm::Es256, caller);
        let refresh = world.registry.refresh("default", "a");
        let mut pending = match random(2) {
            0 => by_kid.map(drop).boxed(),
            _ => refresh.map(drop).boxed(),
        };
        // Polled a few times while time goes on, then dropped wherever it is.
        for _ in 0..random(4) {
            if (&mut pending).now_or_never().is_some() {
                break;
            }
            world.clock.advance(Duration::from_millis(random(5)));
            tokio::task::yield_now().await;
        }
        drop(pending);
        if round % 500 == 0 {
            world
                .going_on(world.registry.refresh("default", "a"))
                .await
                .unwrap();
            keys(&world).await.unwrap();
        }
    }
    world.clock.run_for(Duration::from_secs(60)).await;
    let before = world.asked("a").len();
    world
        .going_on(world.registry.refresh("default", "a"))
        .await
        .unwrap();
    assert_eq!(world.asked("a").len(), before + 1);
    assert!(
        world.clock.sleepers() <= 2,
        "{} sleepers are left",
        world.clock.sleepers()
    );
}

#[tokio::test]
async fn what_is_known_is_told_without_a_fetch_until_its_deadline() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    let idp = world.registry.idp("default", "a").unwrap();
    let known = |key: &TestKey, algorithm| {
        let found = idp.known_key(key.kid(), algorithm, world.clock.steady());
        found.map(|key| key.kid().unwrap().to_owned())
    };
    assert_eq!(known(&old, Algorithm::Es256).as_deref(), old.kid());
    assert_eq!(known(&old, Algorithm::Rs256), None);
    world.serve("a", &[&new]);
    assert_eq!(known(&new, Algorithm::Es256), None);
    assert_eq!(world.asked("a").len(), 1);
    world.registry.purge("default", "a").await.unwrap();
    assert_eq!(known(&old, Algorithm::Es256), None);
    world.clock.run_for(Duration::from_secs(1)).await;
    assert_eq!(known(&new, Algorithm::Es256).as_deref(), new.kid());
    world.set("a", Site::Down);
    world.clock.run_for(Duration::from_secs(86_400)).await;
    assert_eq!(known(&new, Algorithm::Es256), None, "past its deadline");
}
