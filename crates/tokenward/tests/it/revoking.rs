//! Revocation at every use, and issuers whose keys are given.

use std::{hash::RandomState, sync::Arc, time::Duration};

use tokenward::{
    Audiences, Clock as _, Denial, IdpConfig, Policy, Timestamp, Verifier,
    revocation::{Index, Rule},
};
use tokenward_core::jose::KeySet;
use tokenward_testkit::{TestKey, TokenBuilder, key_set};

use crate::world::{CALLER, World, issuer};

fn index() -> Arc<Index> {
    Arc::new(Index::new(RandomState::new()))
}

async fn judged(verifier: &Verifier, token: &str) -> Result<(), Denial> {
    verifier.verify("default", token, CALLER).await.map(|_| ())
}

#[tokio::test]
async fn a_remembered_token_is_refused_as_soon_as_it_is_revoked() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let issuer = issuer("a");
    let index = index();
    let verifier = world.verifier.clone().with_revocations(Arc::clone(&index));
    let now = world.clock.wall().as_secs();
    let token = world
        .builder("a")
        .subject("u")
        .token_id("t")
        .claim("sid", "s")
        .sign(&key);
    assert_eq!(judged(&verifier, &token).await, Ok(()));
    let subject = Rule::Subject {
        sub: "u".into(),
        not_before: now,
    };
    for (rule, denial) in [
        (Rule::Token("t".into()), Denial::TokenRevoked),
        (subject, Denial::SubjectRevoked),
        (Rule::Session("s".into()), Denial::SubjectRevoked),
        (Rule::Key(key.kid().unwrap().into()), Denial::KeyRevoked),
        (
            Rule::IssuedBefore(Timestamp::from_secs(now + 1)),
            Denial::IssuerRevoked,
        ),
    ] {
        index.insert(&issuer, &rule, None);
        // Remembered, and by a verifier that never saw it.
        assert_eq!(judged(&verifier, &token).await, Err(denial), "{rule:?}");
        let other = world.verifier.clone().with_revocations(Arc::clone(&index));
        assert_eq!(judged(&other, &token).await, Err(denial), "{rule:?}");
        let explained = verifier.explain("default", &token, CALLER).await;
        assert_eq!(explained.reason, Some(denial));
        assert_eq!(explained.checks.last().unwrap().name, "revocation");
        index.remove(&issuer, &rule);
        assert_eq!(judged(&verifier, &token).await, Ok(()), "{rule:?}");
    }
}

#[tokio::test]
async fn a_remembered_token_is_refused_once_revocations_may_be_unknown() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let index = index();
    let verifier = world.verifier.clone().with_revocations(Arc::clone(&index));
    let token = world.builder("a").token_id("t").sign(&key);
    assert_eq!(judged(&verifier, &token).await, Ok(()));
    index.complete_until(world.clock.steady() + Duration::from_secs(60));
    // The civil time has no part in it.
    world.clock.set_wall(world.clock.wall() + Duration::from_secs(61));
    assert_eq!(judged(&verifier, &token).await, Ok(()));
    world.clock.advance(Duration::from_millis(60_001));
    let other = world.verifier.clone().with_revocations(Arc::clone(&index));
    for verifier in [&verifier, &other] {
        let refused = judged(verifier, &token).await;
        assert_eq!(refused, Err(Denial::RevocationUnavailable));
    }
    index.insert(&issuer("a"), &Rule::Token("t".into()), None);
    assert_eq!(judged(&verifier, &token).await, Err(Denial::TokenRevoked));
}

#[tokio::test]
async fn what_was_remembered_before_there_was_an_index_is_not_trusted() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let issuer = issuer("a");
    let token = world.token("a", &key);
    assert_eq!(judged(&world.verifier, &token).await, Ok(()));
    let index = index();
    let verifier = world.verifier.clone().with_revocations(Arc::clone(&index));
    index.insert(&issuer, &Rule::Key(key.kid().unwrap().into()), None);
    assert_eq!(judged(&verifier, &token).await, Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn an_issuer_with_given_keys_is_verified_without_a_fetch_and_not_shown() {
    let world = World::new();
    let (one, two) = (TestKey::es256(0), TestKey::es256(1));
    let register = |keys: &[&TestKey]| {
        let policy = Policy::builder("https://me", Audiences::Any).build().unwrap();
        let set = KeySet::parse(key_set(keys).to_string().as_bytes()).unwrap();
        let config = IdpConfig::with_keys("self", set, policy).unwrap();
        world.registry.register(config).unwrap()
    };
    let token = |key: &TestKey| {
        TokenBuilder::new(world.clock.wall())
            .issuer("https://me")
            .sign(key)
    };
    let idp = register(&[&one]);
    assert!(idp.view().is_none());
    assert!(world.registry.idps("default").is_empty());
    assert_eq!(judged(&world.verifier, &token(&one)).await, Ok(()));
    assert_eq!(
        judged(&world.verifier, &token(&two)).await,
        Err(Denial::KeyUnknown)
    );
    let forged = two.clone().with_kid(one.kid().unwrap());
    let forged = TokenBuilder::new(world.clock.wall())
        .issuer("https://me")
        .sign(&forged);
    assert_eq!(
        judged(&world.verifier, &forged).await,
        Err(Denial::SignatureInvalid)
    );
    register(&[&two]);
    assert_eq!(
        judged(&world.verifier, &token(&one)).await,
        Err(Denial::KeyUnknown),
        "remembered"
    );
    assert_eq!(judged(&world.verifier, &token(&two)).await, Ok(()));
}
