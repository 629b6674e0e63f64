//! Tokens of several issuers, and what a remembered verification depends on.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokenward::{Audiences, Clock, Denial, IdpConfig, KEPT_BYTES, Policy, Settings, Verifier};
use tokenward_testkit::{TestKey, with_broken_signature};

use crate::world::{CALLER, World};

#[tokio::test]
async fn a_key_verifies_only_its_own_issuer() {
    let world = World::new();
    let (a, b) = (
        TestKey::es256(0).with_kid("same"),
        TestKey::es256(1).with_kid("same"),
    );
    world.serve("a", &[&a]);
    world.serve("b", &[&b]);
    world.add("a").await;
    world.add("b").await;
    assert_eq!(
        world.verify(&world.token("a", &a)).await.unwrap().idp().name(),
        "a"
    );
    assert_eq!(
        world.verify(&world.token("b", &b)).await.unwrap().idp().name(),
        "b"
    );
    assert_eq!(
        world.verify(&world.token("a", &b)).await.unwrap_err(),
        Denial::SignatureInvalid
    );
}

#[tokio::test]
async fn an_unknown_issuer_or_tenant_touches_no_network() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let asked = world.asked("a").len();
    assert_eq!(
        world.verify(&world.token("stranger", &key)).await.unwrap_err(),
        Denial::IssuerUnknown
    );
    let elsewhere = world
        .verifier
        .verify("other", &world.token("a", &key), CALLER)
        .await;
    assert_eq!(elsewhere.unwrap_err(), Denial::IssuerUnknown);
    assert_eq!(
        (world.asked("a").len(), world.asked("stranger").len()),
        (asked, 0)
    );
}

#[tokio::test]
async fn a_remembered_token_is_forgotten_with_its_expiry_key_policy_and_provider() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    let settings = Settings {
        absent_key_grace: Duration::ZERO,
        ..Settings::default()
    };
    world.serve("a", &[&old]);
    world.add_with("a", settings.clone()).await;

    let short = world.builder("a").expires_in(Duration::from_secs(10)).sign(&old);
    world.verify(&short).await.unwrap();
    world.clock.run_for(Duration::from_secs(71)).await;
    assert_eq!(world.verify(&short).await.unwrap_err(), Denial::TokenExpired);

    let token = world
        .builder("a")
        .expires_in(Duration::from_secs(90_000))
        .sign(&old);
    let first = world.verify(&token).await.unwrap();
    assert!(
        Arc::ptr_eq(&first, &world.verify(&token).await.unwrap()),
        "it was not remembered"
    );

    let policy = Policy::builder("https://a.example/", Audiences::OneOf(vec!["other".to_owned()]))
        .build()
        .unwrap();
    let url = url::Url::parse("https://a.example/jwks").unwrap();
    let changed = IdpConfig::at("a", url, Some(policy))
        .unwrap()
        .with_settings(settings.clone())
        .unwrap();
    world.registry.register(changed).unwrap();
    assert_eq!(world.verify(&token).await.unwrap_err(), Denial::AudienceMismatch);

    world.add_with("a", settings).await;
    world.verify(&token).await.unwrap();
    world.serve("a", &[&new]);
    let (registry, clock) = (world.registry.clone(), world.clock.clone());
    tokio::join!(
        async { registry.refresh("default", "a").await.unwrap() },
        clock.run_for(Duration::from_secs(1))
    );
    assert_eq!(world.verify(&token).await.unwrap_err(), Denial::KeyUnknown);

    let last = world.token("a", &new);
    world.verify(&last).await.unwrap();
    world.registry.unregister("default", "a").await.unwrap();
    assert_eq!(world.verify(&last).await.unwrap_err(), Denial::IssuerUnknown);
}

#[tokio::test]
async fn a_key_that_is_no_longer_listed_verifies_for_its_grace_only() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.serve("a", &[&new]);
    let (registry, clock) = (world.registry.clone(), world.clock.clone());
    tokio::join!(
        async { registry.refresh("default", "a").await.unwrap() },
        clock.run_for(Duration::from_secs(1))
    );
    world.verify(&world.token("a", &old)).await.unwrap();
    world.clock.run_for(Duration::from_secs(301)).await;
    assert_eq!(
        world.verify(&world.token("a", &old)).await.unwrap_err(),
        Denial::KeyUnknown
    );
}

#[tokio::test]
async fn another_key_under_the_same_kid_is_found_after_a_bad_signature() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0).with_kid("k"), TestKey::es256(1).with_kid("k"));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.serve("a", &[&new]);
    world.verify(&world.token("a", &new)).await.unwrap();
    assert_eq!(
        world.verify(&world.token("a", &old)).await.unwrap_err(),
        Denial::SignatureInvalid
    );
    let asked = world.asked("a").len();
    for _ in 0..1_000 {
        let token = with_broken_signature(&world.token("a", &new));
        assert!(world.verifier.verify("default", &token, CALLER).await.is_err());
    }
    assert!(
        world.asked("a").len() - asked <= 1,
        "bad signatures drive fetches"
    );
}

#[tokio::test]
async fn a_thousand_tokens_of_a_replaced_key_cost_one_fetch() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0).with_kid("k"), TestKey::es256(1).with_kid("k"));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.set("a", slow(&new));
    let asked = world.asked("a").len();
    let token = world.token("a", &new);
    let waiting = (0..1_000).map(|_| world.verifier.verify("default", &token, CALLER));
    let (outcomes, ()) = tokio::join!(
        futures_util::future::join_all(waiting),
        world.clock.run_for(Duration::from_secs(1))
    );
    let refused: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .collect();
    assert!(refused.is_empty(), "{} refused: {:?}", refused.len(), refused[0]);
    assert_eq!(world.asked("a").len() - asked, 1);
}

fn slow(key: &TestKey) -> crate::world::Site {
    let body = tokenward_testkit::key_set(&[key]).to_string().into_bytes();
    crate::world::Site::Slow(Duration::from_millis(500), body)
}

#[tokio::test]
async fn a_fetch_that_was_sent_before_the_key_was_replaced_is_not_the_last_word() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0).with_kid("k"), TestKey::es256(1).with_kid("k"));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.set("a", slow(&old));
    let registry = world.registry.clone();
    let token = world.token("a", &new);
    let (refreshed, outcome, ()) = tokio::join!(
        registry.refresh("default", "a"),
        async {
            world.clock.sleep(Duration::from_millis(100)).await;
            world.set("a", slow(&new));
            world.verifier.verify("default", &token, CALLER).await
        },
        world.clock.run_for(Duration::from_secs(3))
    );
    refreshed.unwrap();
    outcome.unwrap();
}

#[tokio::test]
async fn a_token_right_after_a_purge_waits_for_the_fetch() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.serve("a", &[&old, &new]);
    // Looked for, and found.
    world.verify(&world.token("a", &new)).await.unwrap();
    world.registry.purge("default", "a").await.unwrap();
    world.verify(&world.token("a", &new)).await.unwrap();
}

#[tokio::test]
async fn a_thousand_cold_tokens_cost_one_fetch_and_a_cancelled_one_harms_nobody() {
    let world = World::new();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&old]);
    world.add("a").await;
    world.serve("a", &[&old, &new]);
    let asked = world.asked("a").len();
    let token = world.token("a", &new);
    let first = world.verifier.verify("default", &token, CALLER);
    assert!(futures_util::future::FutureExt::now_or_never(first).is_none());
    let waiting = (0..1_000).map(|_| world.verifier.verify("default", &token, CALLER));
    let (outcomes, ()) = tokio::join!(
        futures_util::future::join_all(waiting),
        world.clock.run_for(Duration::from_millis(100))
    );
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(world.asked("a").len() - asked, 1);
}

#[tokio::test]
async fn a_shared_secret_stays_with_its_issuer() {
    let world = World::new();
    let key = TestKey::new("HS256", 0);
    let policy = Policy::builder("https://hs.example/", Audiences::OneOf(vec!["api".to_owned()]))
        .algorithms(tokenward::AlgorithmSet::only(tokenward::Algorithm::Hs256))
        .build()
        .unwrap();
    world
        .registry
        .register(IdpConfig::symmetric("hs", key.secret().unwrap(), policy).unwrap())
        .unwrap();
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    world.verify(&world.token("hs", &key)).await.unwrap();
    assert_eq!(
        world.verify(&world.token("a", &key)).await.unwrap_err(),
        Denial::AlgNotAllowed
    );
    assert!(world.registry.idp("default", "hs").unwrap().view().is_none());
}

#[tokio::test]
async fn an_explanation_names_every_check_and_never_the_token() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let token = world.builder("a").audience("elsewhere").sign(&key);
    let explanation = world.verifier.explain("default", &token, CALLER).await;
    assert_eq!(explanation.reason, Some(Denial::AudienceMismatch));
    let names: Vec<_> = explanation.checks.iter().map(|check| check.name).collect();
    for name in [
        "format",
        "issuer_known",
        "algorithm",
        "key",
        "signature",
        "exp",
        "aud",
    ] {
        assert!(names.contains(&name), "{name} not in {names:?}");
    }
    let text = format!("{explanation:?}");
    assert!(!token.split('.').any(|part| text.contains(part)), "{text}");
    // Of a refused token too it says by what it was judged.
    assert_eq!(explanation.idp.as_deref(), Some("a"));
    assert_eq!(explanation.kid.as_deref(), key.kid());
    let status = world.registry.idp("default", "a").unwrap().status().keys;
    assert_eq!(explanation.key_usable_until, status.stale_until);
    let noted = explanation.checks.iter().filter(|check| !check.note.is_empty());
    assert!(noted.count() >= 7, "{text}");
    let note = |name| {
        let check = explanation.checks.iter().find(|check| check.name == name);
        check.map(|check| check.note.as_str())
    };
    assert_eq!(note("issuer_known"), Some("`a` of tenant `default`"));
    assert_eq!(note("key"), Some("one key fits, of 1 usable ones"));

    let unknown = world
        .verifier
        .explain("default", &world.token("b", &key), CALLER)
        .await;
    assert_eq!((unknown.reason, unknown.idp), (Some(Denial::IssuerUnknown), None));
    let stranger = world.token("a", &TestKey::es256(1));
    let stranger = world
        .going_on(world.verifier.explain("default", &stranger, CALLER))
        .await;
    assert_eq!((stranger.idp.as_deref(), stranger.kid), (Some("a"), None));
    assert_eq!(
        stranger.checks.last().unwrap().note,
        "not one key fits, of 1 usable ones"
    );
}

/// How many of `tokens` are still remembered after all were verified.
async fn remembered(verifier: &Verifier, tokens: &[String]) -> usize {
    let mut first = Vec::new();
    for token in tokens {
        first.push(verifier.verify("default", token, CALLER).await.unwrap());
    }
    let mut remembered = 0;
    // The latest first: a miss would push out what is there.
    for (token, first) in tokens.iter().zip(first).rev() {
        let again = verifier.verify("default", token, CALLER).await.unwrap();
        remembered += usize::from(Arc::ptr_eq(&first, &again));
    }
    remembered
}

#[tokio::test]
async fn what_is_remembered_is_bounded_by_what_it_takes() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let verifier = Verifier::with_cache_bytes(world.registry.clone(), 1 << 20);
    let small: Vec<String> = (0..2_000)
        .map(|n| world.builder("a").claim("n", n).sign(&key))
        .collect();
    let kept = remembered(&verifier, &small).await;
    // A token, its claims and what keeps them take more than a kilobyte.
    assert!((100..1_000).contains(&kept), "{kept}");

    // Of 12 KiB each, which are over 200 KiB once they are parsed.
    let large: Vec<String> = (0..10)
        .map(|n| world.builder("a").claim("many", vec![n; 4_000]).sign(&key))
        .collect();
    let kept = remembered(&verifier, &large).await;
    assert!(kept <= 5, "{kept}");
    let none = Verifier::with_cache_bytes(world.registry.clone(), 0);
    assert_eq!(remembered(&none, &small[..10]).await, 0);
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_key_before_anything_has_tidied_up() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let token = world
        .builder("a")
        .expires_in(Duration::from_secs(90_000))
        .sign(&key);
    world.verify(&token).await.unwrap();
    let status = world.registry.idp("default", "a").unwrap().status().keys;
    let left = status.stale_until.unwrap().since(world.clock.steady());
    let judge = || world.verifier.verify("default", &token, CALLER).now_or_never();
    world.clock.advance(left - Duration::from_millis(1));
    assert!(matches!(judge(), Some(Ok(_))));
    world.clock.advance(Duration::from_millis(1));
    assert!(!matches!(judge(), Some(Ok(_))));
}

#[tokio::test]
async fn an_unknown_key_is_waited_for_two_seconds() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    world.set("a", crate::world::Site::Hangs);
    let began = world.clock.steady();
    let outcome = world.verify(&world.token("a", &TestKey::es256(1))).await;
    assert_eq!(outcome.unwrap_err(), Denial::IssuerUnavailable);
    let waited = world.clock.steady().since(began);
    assert!((1_990..=2_050).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn a_purge_drops_the_keys_at_once() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let token = world.token("a", &key);
    world.verify(&token).await.unwrap();
    world.set("a", crate::world::Site::Down);
    world.registry.purge("default", "a").await.unwrap();
    assert!(!world.registry.idp("default", "a").unwrap().has_keys());
    assert_eq!(world.verify(&token).await.unwrap_err(), Denial::IssuerUnavailable);
}

#[tokio::test]
async fn truncation_keeps_the_key_of_tokens_that_were_verified() {
    let world = World::new();
    let (first, used) = (TestKey::es256(0), TestKey::es256(1));
    world.serve("a", &[&first, &used]);
    world.add("a").await;
    world.verify(&world.token("a", &used)).await.unwrap();
    let one = Settings {
        max_keys: 1,
        ..Settings::default()
    };
    world.add_with("a", one).await;
    let view = world.registry.idp("default", "a").unwrap().view().unwrap();
    let keys = view.keys(world.clock.steady()).unwrap();
    let kids: Vec<_> = keys.documents().map(|(kid, _)| kid).collect();
    assert_eq!(kids, [used.kid()]);
}

#[tokio::test]
async fn a_refresh_ends_when_its_provider_or_the_registry_does() {
    let world = World::new();
    world.add("a").await;
    world.set("a", crate::world::Site::Hangs);
    let refresh = world.registry.refresh("default", "a");
    let (outcome, removed) = tokio::join!(refresh, world.registry.unregister("default", "a"));
    removed.unwrap();
    assert_eq!(outcome.unwrap_err().kind(), tokenward::ErrorKind::NotFound);

    world.add("b").await;
    world.registry.shutdown().await;
    let outcome = world.registry.refresh("default", "b").await;
    assert_eq!(outcome.unwrap_err().kind(), tokenward::ErrorKind::Closed);
}

#[tokio::test]
async fn what_is_kept_with_a_token_is_found_while_it_is_remembered() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let token = world.token("a", &key);
    let first = world.verify(&token).await.unwrap();
    first.keep(&Arc::new("too much"), KEPT_BYTES + 1);
    assert_eq!(first.kept::<&str>(), None);
    first.keep(&Arc::new("made once"), KEPT_BYTES);
    first.keep(&Arc::new("made again"), 1);
    let again = world.verify(&token).await.unwrap();
    assert_eq!(again.kept::<&str>().as_deref(), Some(&"made once"));
    assert_eq!(again.kept::<u64>(), None, "it is something else");
    let other = world.builder("a").subject("other").sign(&key);
    assert_eq!(world.verify(&other).await.unwrap().kept::<&str>(), None);
}
