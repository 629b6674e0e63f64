//! Families that a store which several processes share has lost.

use std::sync::atomic::Ordering;

use axum::extract::{RawQuery, State};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{super::stream::stream, counted::Counted, *};

/// Loses each family as soon as it is opened, until it is told to stop.
async fn forgetful() -> (World, Arc<Counted>) {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Arc::new(Memory::new());
    let counted = Counted::new(Arc::clone(&ledger) as _);
    let (index, service) = service(Arc::clone(&counted) as _, &clock).await;
    counted.families_are_lost.store(true, Ordering::Relaxed);
    let world = World {
        clock,
        ledger,
        index,
        service,
    };
    (world, counted)
}

/// What a token claims.
fn claims(token: &str) -> Value {
    let token = tokenward_core::jose::Token::parse(token, tokenward_core::jose::MAX_TOKEN_BYTES).unwrap();
    Value::Object(token.claims().to_map())
}

#[tokio::test]
async fn a_lost_family_is_there_again_as_it_was_when_its_parent_is_shown() {
    let (world, counted) = forgetful().await;
    let body = r#"{"user_id":"a","network":"n","rate_limit":7,"scope":"x y","audience":["p","q"],"claims":{"email":"e"},
        "child_expires_in":90,"parent_expires_in":2000,"include_child":true}"#;
    let pair = world.pair(body).await;
    let lost = claims(&pair.child.as_ref().unwrap().0.token);
    world.pass(Duration::from_secs(20));
    let child = world.renew(&pair.parent.token).await.unwrap().child;
    let mut again = claims(&child.token);
    for changes in ["iat", "nbf", "exp", "jti"] {
        assert_ne!(again[changes], lost[changes], "{changes}");
        again[changes] = lost[changes].clone();
    }
    assert_eq!(again, lost);
    assert_eq!(
        child.expires_at,
        world.clock.wall() + Duration::from_secs(90) - Duration::from_millis(700)
    );
    let family = world.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(
        (family.user_id.as_str(), family.expires_at),
        ("a", pair.parent.expires_at)
    );
    // It is renewed as it was, and gives the same child to those who ask at once.
    assert_eq!(world.renew(&pair.parent.token).await.unwrap().child.id, child.id);
    let due = family.latest.unwrap().expires_at - Duration::from_secs(30);
    assert_eq!(world.ledger.next_due().await.unwrap(), Some(due));
    let (reads, _) = counted.counts();
    assert!(reads < 20, "{reads}");
}

#[tokio::test]
async fn whoever_follows_goes_on_where_the_lost_family_was() {
    let (world, _) = forgetful().await;
    let request = |token: &str, last: &str| {
        ::http::Request::builder()
            .header("authorization", format!("Bearer {token}"))
            .header("last-event-id", last)
            .body(axum::body::Body::empty())
            .unwrap()
    };
    let pair = world.pair(r#"{"user_id":"a","parent_expires_in":5000}"#).await;
    world.pass(Duration::from_secs(30));
    // The lost one had 30 children.
    let request = request(&pair.parent.token, "30");
    let response = stream(State(world.service.clone()), RawQuery(None), request).await;
    assert_eq!(response.status(), ::http::StatusCode::OK);
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("event: connected"));
    // It is due at once.
    assert_eq!(world.service.renew_due().await.unwrap(), 1);
    let token = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(
        String::from_utf8_lossy(&token).contains("event: token"),
        "{token:?}"
    );
    // One that is not renewed by itself is not.
    let manual = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let asked = super::super::family::Asked {
        parent: manual.parent.id.clone(),
        shown: Some(world.service.parent(&manual.parent.token).unwrap()),
    };
    assert!(world.service.latest_of(&asked).await.unwrap().is_none());
    assert_eq!(world.service.renew_due().await.unwrap(), 0);
    assert!(world.ledger.family(&manual.parent.id).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_but_a_parent_that_is_good_brings_a_family_back() {
    let (world, _) = forgetful().await;
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    // A credential only names it.
    assert!(world.service.latest(&pair.parent.id).await.is_err());
    assert!(world.service.follow(&pair.parent.id).await.is_err());
    assert_eq!(world.ledger.family(&pair.parent.id).await.unwrap(), None);
    // One whose revocation is taken back is good, and renews no more.
    world.service.revoke_token(&pair.parent.id).await.unwrap();
    let (_, record) = world.ledger.revocations(0, 1).await.unwrap().remove(0);
    assert!(world.service.0.revocations.delete(&record.id).await.unwrap());
    assert!(world.service.parent(&pair.parent.token).is_ok());
    assert_eq!(
        world.renew(&pair.parent.token).await.unwrap_err(),
        Denial::TokenRevoked
    );
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    // By whatever rule it is refused.
    world.service.revoke_user("a").await.unwrap();
    assert_eq!(
        world.renew(&pair.parent.token).await.unwrap_err(),
        Denial::SubjectRevoked
    );
    assert_eq!(world.ledger.family(&pair.parent.id).await.unwrap(), None);
    // An engine of one process loses nothing: what is not there was revoked.
    let directory = tempfile::tempdir().unwrap();
    let sqlite: Arc<dyn Ledger> = Arc::new(tokenward_store::Sqlite::open(directory.path()).unwrap());
    let counted = Counted::new(sqlite);
    let (_, service) = service(Arc::clone(&counted) as _, &world.clock).await;
    counted.families_are_lost.store(true, Ordering::Relaxed);
    let settings = service.settings().clone();
    let request = PairRequest::parse(br#"{"user_id":"b"}"#, &settings.lifetimes, &settings.audience).unwrap();
    let pair = service.pair("ops", request).await.unwrap();
    let refused = service.renew(&pair.parent.token).await.unwrap_err();
    assert!(
        matches!(refused, Failure::Denied(Denial::TokenRevoked)),
        "{refused}"
    );
}

#[tokio::test]
async fn nothing_is_brought_back_before_the_store_is_known_to_be_complete() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let sealer = Sealer::new([&[7; 32]]);
    let (_, service) = service_on(
        Arc::clone(&ledger) as _,
        &clock,
        settings(),
        sealer,
        First::Stored,
        true,
    )
    .await;
    service.signer().set_joined(true);
    service.signer().generate().await.unwrap();
    clock.advance(Duration::from_secs(3));
    ledger.families_are_lost.store(true, Ordering::Relaxed);
    let settings = service.settings().clone();
    let request = PairRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience).unwrap();
    let parent = service.pair("ops", request).await.unwrap().parent;
    service.signer().set_joined(false);
    let refused = service.renew(&parent.token).await.unwrap_err();
    assert!(matches!(refused, Failure::Joining), "{refused}");
    service.signer().set_joined(true);
    assert!(service.renew(&parent.token).await.is_ok());
}

#[tokio::test]
async fn a_parent_that_another_process_revoked_does_not_come_back_before_that_is_heard_of() {
    let (here, _) = forgetful().await;
    let counted = Counted::new(Arc::clone(&here.ledger) as _);
    let (index, there) = service(counted as _, &here.clock).await;
    let pair = here.pair(r#"{"user_id":"a"}"#).await;
    here.service.revoke_token(&pair.parent.id).await.unwrap();
    assert!(there.parent(&pair.parent.token).is_ok(), "it is not heard of");
    let refused = there.renew(&pair.parent.token).await.unwrap_err();
    assert!(
        matches!(refused, Failure::Denied(Denial::TokenRevoked)),
        "{refused}"
    );
    assert_eq!(here.ledger.family(&pair.parent.id).await.unwrap(), None);
    drop(index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_of_a_lost_family_is_accepted_once_its_parents_revocation_is_acknowledged() {
    let (world, _) = forgetful().await;
    let counted = Counted::new(Arc::clone(&world.ledger) as _);
    let (_, there) = service(counted as _, &world.clock).await;
    let world = Arc::new(world);
    let mut tasks = tokio::task::JoinSet::new();
    let minted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for round in 0..10_000_u32 {
        let (world, there, minted) = (Arc::clone(&world), there.clone(), Arc::clone(&minted));
        tasks.spawn(async move {
            let pair = world.pair(r#"{"user_id":"a"}"#).await;
            let renewing = async {
                // In each order, at the same time, and by another process than the one that revokes.
                if round % 3 == 1 {
                    tokio::task::yield_now().await;
                }
                match round % 2 {
                    0 => world.renew(&pair.parent.token).await.ok(),
                    _ => there.renew(&pair.parent.token).await.ok(),
                }
            };
            let revoking = async {
                // From at once to long after it: what was lost is looked for, opened anew and only then renewed.
                for _ in 0..round % 64 {
                    tokio::task::yield_now().await;
                }
                world.service.revoke_token(&pair.parent.id).await.unwrap()
            };
            let (renewed, _) = tokio::join!(renewing, revoking);
            if let Some(renewed) = renewed {
                minted.fetch_add(1, Ordering::Relaxed);
                assert_eq!(world.judged(&renewed.child.token), Err(Denial::ParentRevoked));
            }
            assert!(world.renew(&pair.parent.token).await.is_err());
            assert!(there.renew(&pair.parent.token).await.is_err());
            assert_eq!(world.ledger.family(&pair.parent.id).await.unwrap(), None);
        });
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.ledger.next_due().await.unwrap(), None);
    let minted = minted.load(Ordering::Relaxed);
    println!("{minted} of 10,000 renewals were before the revocation");
    assert!((1..10_000).contains(&minted), "{minted}");
}
