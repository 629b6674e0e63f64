//! What must hold whatever identity providers and callers do.

use std::time::Duration;

use tokenward::{Clock, Denial, Settings, State};
use tokenward_testkit::{TestKey, compact};

use crate::world::{CALLER, OTHER, Site, World, issuer};

const MINUTE: Duration = Duration::from_secs(60);

/// A token that is well-formed and names a key that nobody has.
fn with_kid(world: &World, name: &str, kid: &str) -> String {
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let exp = world.clock.wall().as_secs() + 3_600;
    let claims = format!(r#"{{"iss":"{}","aud":"api","exp":{exp}}}"#, issuer(name));
    compact(header.as_bytes(), claims.as_bytes(), &[7; 64])
}

#[tokio::test]
async fn a_hundred_thousand_random_kids_cause_three_fetches_a_minute_and_a_rotation_gets_through() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    let known = world.token("a", &old);
    world.verify(&known).await.unwrap();
    let scheduled = world.asked("a").len();

    let mut minutes = vec![0_usize];
    let mut answers = [0_usize; 2];
    for n in 0..100_000_u32 {
        if n == 50_000 {
            world.serve("a", &[&old, &new]);
            let before = world.clock.steady();
            world.verify_as(&world.token("a", &new), OTHER).await.unwrap();
            assert!(world.clock.steady().since(before) < Duration::from_secs(2));
        }
        if n % 10_000 == 0 {
            world.verify(&known).await.unwrap();
            world.verify(&world.token("a", &old)).await.unwrap();
        }
        let before = world.asked("a").len();
        let outcome = world
            .verifier
            .verify("default", &with_kid(&world, "a", &format!("kid-{n}")), CALLER)
            .await;
        match outcome.unwrap_err() {
            Denial::IssuerUnavailable => answers[0] += 1,
            Denial::KeyUnknown => answers[1] += 1,
            other => panic!("{other}"),
        }
        *minutes.last_mut().unwrap() += world.asked("a").len() - before;
        world.clock.advance(Duration::from_millis(3));
        if n % 20_000 == 19_999 {
            minutes.push(0);
        }
    }
    let total = world.asked("a").len() - scheduled;
    println!("100,000 random kids in 5 minutes: {total} fetches, by minute {minutes:?}, answers {answers:?}");
    assert!(minutes.iter().all(|fetches| *fetches <= 3), "{minutes:?}");
    assert!(total >= 3, "nothing was looked for: {total}");
}

#[tokio::test]
async fn a_dead_or_hanging_provider_changes_nothing_for_the_others() {
    let mut schedules = Vec::new();
    for bad in [
        None,
        Some(Site::Down),
        Some(Site::Hangs),
        Some(Site::Keys(b"<html>".to_vec())),
    ] {
        let world = World::new();
        let key = TestKey::es256(0);
        let settings = Settings {
            refresh_interval: MINUTE,
            ..Settings::default()
        };
        for n in 0..5 {
            world.serve(&format!("good{n}"), &[&key]);
        }
        let began = world.clock.steady();
        for n in 0..5 {
            world.add_with(&format!("good{n}"), settings.clone()).await;
        }
        // More of them than there are places for fetches.
        for n in 0..200 {
            if let Some(site) = &bad {
                world.set(&format!("bad{n}"), site.clone());
                world.add_with(&format!("bad{n}"), settings.clone()).await;
            }
        }
        world.clock.run_for(10 * MINUTE).await;
        let times: Vec<Vec<u128>> = (0..5)
            .map(|n| {
                let asked = world.asked(&format!("good{n}"));
                asked.iter().map(|at| at.since(began).as_millis()).collect()
            })
            .collect();
        assert!(times.iter().all(|times| times.len() >= 10), "{times:?}");
        world.verify(&world.token("good0", &key)).await.unwrap();
        schedules.push(times);
    }
    assert!(
        schedules.windows(2).all(|pair| pair[0] == pair[1]),
        "{schedules:?}"
    );
}

#[tokio::test]
async fn keys_outlive_an_outage_for_the_stale_window_and_then_it_is_a_503() {
    for bad in [
        Site::Down,
        Site::Hangs,
        Site::Keys(b"{}".to_vec()),
        Site::Keys(b"{\"keys\":[]}".to_vec()),
    ] {
        let world = World::new();
        let key = TestKey::es256(0);
        world.serve("a", &[&key]);
        let settings = Settings {
            stale_while_error: 10 * MINUTE,
            refresh_interval: MINUTE,
            ..Settings::default()
        };
        world.add_with("a", settings).await;
        world.set("a", bad);
        world.clock.run_for(Duration::from_secs(660 - 10)).await;
        world.verify(&world.token("a", &key)).await.unwrap();
        world.clock.run_for(Duration::from_secs(11)).await;
        assert_eq!(
            world.verify(&world.token("a", &key)).await.unwrap_err(),
            Denial::IssuerUnavailable
        );
        assert!(!world.registry.idp("default", "a").unwrap().has_keys());
        world.serve("a", &[&key]);
        world.clock.run_for(2 * MINUTE).await;
        world.verify(&world.token("a", &key)).await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_serves_the_snapshot_with_its_real_age() {
    let key = TestKey::es256(0);
    let first = World::new();
    first.serve("a", &[&key]);
    first.add("a").await;
    let fetched = first
        .registry
        .idp("default", "a")
        .unwrap()
        .status()
        .keys
        .last_updated
        .unwrap();
    first.registry.shutdown().await;

    let hours = |n: u64| Duration::from_secs(3_600 * n);
    for (later, served) in [(hours(2), true), (hours(12), true), (hours(14), false)] {
        let second = World::with(
            fetched + later,
            std::sync::Arc::default(),
            std::sync::Arc::clone(&first.store),
        );
        second.set("a", Site::Down);
        assert_eq!(second.registry.restore().await.unwrap(), 1);
        second.add("a").await;
        let idp = second.registry.idp("default", "a").unwrap();
        let outcome = second.verify(&second.token("a", &key)).await.map(|_| ());
        assert_eq!(
            outcome,
            if served {
                Ok(())
            } else {
                Err(Denial::IssuerUnavailable)
            }
        );
        if served {
            let status = idp.status().keys;
            assert_eq!(status.last_updated, Some(fetched));
            assert_eq!(status.state, State::Stale);
            assert_eq!(status.stale_until, Some(fetched + hours(13)));
        }
    }
}

#[tokio::test]
async fn a_snapshot_of_another_address_is_not_believed() {
    let key = TestKey::es256(0);
    let first = World::new();
    first.serve("a", &[&key]);
    first.add("a").await;
    first.registry.shutdown().await;
    let second = World::with(
        first.clock.steady(),
        std::sync::Arc::default(),
        std::sync::Arc::clone(&first.store),
    );
    second.registry.restore().await.unwrap();
    let url = url::Url::parse("https://b.example/jwks").unwrap();
    second
        .registry
        .register(tokenward::IdpConfig::at("a", url, None).unwrap())
        .unwrap();
    assert!(!second.registry.idp("default", "a").unwrap().has_keys());
}
