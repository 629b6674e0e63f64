//! The life of one provider's keys, step by step, and what replicas of one service do differently.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokenward::{Clock, Settings, State};
use tokenward_testkit::{TestKey, key_set};

use crate::world::{Site, World};

const SECOND: Duration = Duration::from_secs(1);

fn slow(key: &TestKey) -> Site {
    Site::Slow(SECOND, key_set(&[key]).to_string().into_bytes())
}

fn state(world: &World) -> State {
    world.registry.idp("default", "a").unwrap().status().keys.state
}

#[tokio::test]
async fn every_state_is_seen_from_outside() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.set("a", slow(&key));
    let settings = Settings {
        refresh_interval: Duration::from_secs(60),
        stale_while_error: Duration::from_secs(600),
        ..Settings::default()
    };
    world.register("a", settings);
    assert_eq!(state(&world), State::Empty);
    world.clock.run_for(SECOND / 2).await;
    assert_eq!(state(&world), State::Loading);
    world.clock.run_for(SECOND).await;
    assert_eq!(state(&world), State::Ready);

    let registry = world.registry.clone();
    let (refreshed, ()) = tokio::join!(registry.refresh("default", "a"), async {
        world.clock.run_for(SECOND / 2).await;
        assert_eq!(state(&world), State::Refreshing);
        world.clock.run_for(SECOND).await;
    });
    refreshed.unwrap();
    assert_eq!(state(&world), State::Ready);

    world.set("a", Site::Down);
    world.clock.run_for(Duration::from_secs(120)).await;
    assert_eq!(state(&world), State::Stale);
    world.set("a", Site::Keys(b"<html>".to_vec()));
    assert!(world.going_on(registry.refresh("default", "a")).await.is_err());
    assert_eq!(state(&world), State::Degraded);
    world.clock.run_for(Duration::from_secs(600)).await;
    assert_eq!(state(&world), State::Failed);
}

#[tokio::test]
async fn a_refresh_asks_at_once_however_fresh_the_keys_are() {
    let world = World::new();
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    let before = world.clock.steady();
    for asked in [2, 3] {
        world
            .going_on(world.registry.refresh("default", "a"))
            .await
            .unwrap();
        assert_eq!(world.asked("a").len(), asked);
    }
    assert!(world.clock.steady().since(before) < SECOND);
    assert_eq!(state(&world), State::Ready);
}

/// The pauses of a replica between its fetches from a provider that is down, in seconds.
async fn pauses_of(seed: u32) -> Vec<f64> {
    let drawn = AtomicU32::new(seed);
    let random = move || {
        // Numerical Recipes' generator: a sequence of its own for each seed.
        let next = |n: u32| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let old = drawn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        f64::from(old.unwrap()) / f64::from(u32::MAX)
    };
    let world = World::with_random(Arc::new(random));
    world.set("a", Site::Down);
    world.add("a").await;
    world.clock.run_for(Duration::from_secs(2 * 3_600)).await;
    // Three attempts make one fetch.
    let asked = world.asked("a");
    let (fetches, _) = asked.as_chunks::<3>();
    let pauses = fetches.windows(2).map(|pair| pair[1][0].since(pair[0][2]));
    pauses.map(|pause| pause.as_secs_f64()).collect()
}

#[tokio::test]
async fn failures_back_off_and_replicas_do_not_march_in_step() {
    let replicas = [
        pauses_of(1).await,
        pauses_of(77_777).await,
        pauses_of(900_000_001).await,
    ];
    for pauses in &replicas {
        assert!((20..120).contains(&pauses.len()), "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| (0.25..=300.0).contains(pause)),
            "{pauses:?}"
        );
        let sum = |pauses: &[f64]| pauses.iter().sum::<f64>();
        let (early, late) = (sum(&pauses[..4]), sum(&pauses[pauses.len() - 4..]));
        assert!(early < 15.0 && late > 100.0, "{pauses:?}");
    }
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let pairs = replicas[one].iter().zip(&replicas[other]);
        let alike = pairs
            .filter(|(one, other)| (*one - *other).abs() < 0.02 * *one)
            .count();
        assert!(alike < 5, "{replicas:?}");
    }
}

#[tokio::test]
async fn refreshes_of_replicas_spread_over_their_jitter() {
    let mut seconds = Vec::new();
    for unit in [0.0, 0.25, 0.5, 0.999] {
        let world = World::with_random(Arc::new(move || unit));
        world.serve("a", &[&TestKey::es256(0)]);
        let began = world.clock.steady();
        world.add("a").await;
        world.clock.run_for(Duration::from_secs(3_700)).await;
        seconds.push(world.asked("a")[1].since(began).as_secs_f64());
    }
    assert!(seconds.windows(2).all(|pair| pair[0] != pair[1]), "{seconds:?}");
    assert!(
        seconds.iter().all(|at| (3_594.9..=3_600.1).contains(at)),
        "{seconds:?}"
    );
}
