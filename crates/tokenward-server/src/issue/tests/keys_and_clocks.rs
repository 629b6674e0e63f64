//! Clocks that jump, and keys that are taken away.

use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::{counted::Counted, *};

#[tokio::test]
async fn a_clock_that_was_set_back_over_a_restart_hides_nothing_either() {
    let world = World::new().await;
    let token = world.mint(r#"{"user_id":"a"}"#);
    // As the guard of the call writes it.
    let record = tokenward_store::AuditRecord {
        at: world.clock.wall(),
        who: "ops".into(),
        address: String::new(),
        action: "tokens.mint".into(),
        target: String::new(),
        outcome: "ok".into(),
    };
    world.ledger.append_audit(&[record]).await.unwrap();
    world.clock.set_wall(Timestamp::from_secs(1_799_999_970));
    let world = world.restarted().await;
    world.service.revoke_user("a").await.unwrap();
    assert_eq!(world.judged(&token.token), Err(Denial::SubjectRevoked));
}

#[tokio::test]
async fn what_is_minted_while_a_users_revocation_is_written_is_covered_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite: Arc<dyn Ledger> = Arc::new(tokenward_store::Sqlite::open(directory.path()).unwrap());
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let (index, service) = service(sqlite, &clock).await;
    let mut revoking = std::pin::pin!(service.revoke_user("a"));
    assert!(revoking.as_mut().now_or_never().is_none());
    clock.advance(Duration::from_secs(1));
    let settings = service.settings();
    let request =
        TokenRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience).unwrap();
    let token = service.mint("ops", &request).unwrap();
    revoking.await.unwrap();
    let verified = verify(
        &token.token,
        &service.signer().keys().set,
        service.policy(),
        clock.wall(),
    )
    .unwrap();
    let marks = index.marks(ISS, verified.claims(), verified.kid());
    assert_eq!(index.check(&marks), Err(Denial::SubjectRevoked));
}

#[tokio::test]
async fn a_users_revocation_that_time_overtakes_each_time_is_not_acknowledged() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let (_, service) = service(Arc::clone(&ledger) as _, &clock).await;
    *ledger.slow.lock().unwrap() = Some(clock.clone());
    let failure = service.revoke_user("a").await.unwrap_err();
    assert!(matches!(failure, Failure::Overtaken), "{failure}");
    let answer = http::failed(failure);
    assert_eq!(answer.status(), ::http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key(::http::header::RETRY_AFTER));
    *ledger.slow.lock().unwrap() = None;
    service.revoke_user("a").await.unwrap();
}

#[tokio::test]
async fn a_users_record_outlives_tokens_of_longer_lifetimes_before() {
    let world = World::new().await;
    let shorter = Settings {
        lifetimes: Lifetimes {
            max: HOUR,
            ..settings().lifetimes
        },
        ..settings()
    };
    let ledger: Arc<dyn Ledger> = Arc::clone(&world.ledger) as _;
    let (_, service) = service_with(
        Arc::clone(&ledger),
        &world.clock,
        shorter,
        Sealer::new([&[7; 32]]),
    )
    .await;
    service.revoke_user("a").await.unwrap();
    let (_, record) = ledger.revocations(0, 1).await.unwrap().remove(0);
    assert!(record.expires_at.unwrap() > world.clock.wall() + HOUR * 720);
}

#[tokio::test]
async fn the_type_of_access_tokens_may_be_changed_and_ends_none_of_them() {
    let world = World::new().await;
    let ledger: Arc<dyn Ledger> = Arc::clone(&world.ledger) as _;
    let service = async |typ| {
        let settings = Settings { typ, ..settings() };
        let sealer = Sealer::new([&[7; 32]]);
        service_with(Arc::clone(&ledger), &world.clock, settings, sealer)
            .await
            .1
    };
    let [typed, plain] = [service(AccessTyp::AtJwt).await, service(AccessTyp::Jwt).await];
    let mint = |service: &TokenService| {
        let settings = service.settings();
        let request = TokenRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience);
        service.mint("ops", &request.unwrap()).unwrap().token
    };
    let judged = |service: &TokenService, token: &str| {
        let keys = service.signer().keys();
        let verified = verify(token, &keys.set, service.policy(), world.clock.wall());
        verified.map(|verified| verified.typ().map(str::to_owned))
    };
    let (of_typed, of_plain) = (mint(&typed), mint(&plain));
    assert_eq!(judged(&typed, &of_typed), Ok(Some("at+jwt".to_owned())));
    assert_eq!(judged(&plain, &of_typed), Ok(Some("at+jwt".to_owned())));
    assert_eq!(judged(&plain, &of_plain), Ok(Some("JWT".to_owned())));
    // Whoever wants the type of RFC 9068 wants no other.
    assert_eq!(judged(&typed, &of_plain), Err(Denial::TypeRejected));
    for service in [&typed, &plain] {
        for token in [&of_typed, &of_plain] {
            assert!(service.introspect(token).unwrap().is_some() && service.own_at_any_time(token).is_some());
        }
        let body = br#"{"user_id":"a","include_child":true}"#;
        let settings = service.settings();
        let request = PairRequest::parse(body, &settings.lifetimes, &settings.audience).unwrap();
        let pair = service.pair("ops", request).await.unwrap();
        let parent = service.parent(&pair.parent.token).unwrap().0;
        assert_eq!(parent.typ(), Some("parent+jwt"));
        assert!(judged(service, &pair.parent.token).is_err());
        let child = judged(service, &pair.child.unwrap().0.token);
        assert_eq!(child, Ok(Some(service.settings().typ.name().to_owned())));
    }
}

#[tokio::test]
async fn a_child_whose_encryption_key_was_taken_away_is_replaced() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let ledger: Arc<dyn Ledger> = Arc::clone(&world.ledger) as _;
    let both = Sealer::new([&[8; 32], &[7; 32]]);
    service_with(Arc::clone(&ledger), &world.clock, settings(), both).await;
    let (_, service) = service_with(ledger, &world.clock, settings(), Sealer::new([&[8; 32]])).await;
    assert!(service.latest(&pair.parent.id).await.unwrap().is_none());
    let renewed = service.renew(&pair.parent.token).await.unwrap();
    assert_ne!(renewed.child.id, pair.child.unwrap().0.id);
    let latest = service.latest(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(latest.child.id, renewed.child.id);
}

#[tokio::test]
async fn a_revoked_key_takes_its_families_with_it_and_never_comes_back() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let signer = world.service.signer();
    let kid = signer.keys().active().unwrap().to_owned();
    let (child, set) = (pair.child.unwrap().0.token, Arc::clone(&signer.keys().set));
    signer.revoke(kid.clone()).await.unwrap();
    // Also by one who still holds the old set.
    let verified = verify(&child, &set, world.service.policy(), world.clock.wall()).unwrap();
    let marks = |world: &World| world.index.marks(ISS, verified.claims(), verified.kid());
    assert_eq!(world.index.check(&marks(&world)), Err(Denial::KeyRevoked));
    let latest = world.service.latest(&pair.parent.id).await;
    assert!(matches!(latest, Err(Failure::Denied(Denial::KeyRevoked))));
    world.pass(Duration::from_secs(800));
    assert_eq!(world.service.renew_due().await.unwrap(), 1);
    // The record of the key might be taken back.
    assert_eq!(
        world.ledger.next_due().await.unwrap(),
        Some(world.clock.wall() + HOUR)
    );
    let world = world.restarted().await;
    assert_eq!(world.index.check(&marks(&world)), Err(Denial::KeyRevoked));
    // The operator's own key, published, revoked, and brought again.
    let key = tokenward_core::jose::SigningKey::generate(Algorithm::EdDsa).unwrap();
    let signer = world.service.signer();
    signer.import(key.clone()).await.unwrap();
    signer.revoke(key.kid().to_owned()).await.unwrap();
    let again = signer.import(key).await.unwrap_err();
    assert!(matches!(again, crate::signer::SignerError::Revoked), "{again}");
}

#[tokio::test]
async fn a_key_whose_revocation_is_half_done_signs_no_more() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let open = async || service(Arc::clone(&ledger) as _, &clock).await.1;
    let mint = |service: &TokenService| {
        let settings = service.settings();
        let request = TokenRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience);
        service.mint("ops", &request.unwrap())
    };
    let pair = async |service: &TokenService| {
        let settings = service.settings();
        let request = PairRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience);
        service.pair("ops", request.unwrap()).await
    };
    let service = open().await;
    let signs = |service: &TokenService| service.signer().keys().active().unwrap().to_owned();
    let published = |service: &TokenService, kid: &str| {
        let keys = service.signer().keys();
        keys.published.iter().any(|key| key.kid == kid)
    };
    let kid = signs(&service);
    pair(&service).await.unwrap();
    ledger.keyring_fails_once.store(true, Ordering::Relaxed);
    let half = service.signer().revoke(kid.clone()).await;
    assert!(matches!(half, Err(crate::signer::SignerError::Store(_))));
    assert_eq!(signs(&service), kid, "the change was not stored");
    assert!(matches!(mint(&service), Err(Failure::NoKey(_))));
    assert!(matches!(pair(&service).await, Err(Failure::NoKey(_))));

    // A process that begins so ends the key, for the store too.
    for _ in 0..2 {
        let next = open().await;
        assert_ne!(signs(&next), kid);
        assert!(!published(&next, &kid));
        assert_eq!(mint(&next).unwrap().kid, signs(&next));
    }
    // The one that is pending is looked at as well.
    let next = open().await;
    let pending = next.signer().keys().published[1].kid.clone();
    ledger.keyring_fails_once.store(true, Ordering::Relaxed);
    assert!(next.signer().revoke(pending.clone()).await.is_err());
    let signing = mint(&next).unwrap().kid;
    let next = open().await;
    assert!(!published(&next, &pending));
    assert_eq!(mint(&next).unwrap().kid, signing);
}

#[tokio::test]
async fn a_revocation_of_a_key_that_failed_can_be_tried_again() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let (_, service) = service(Arc::clone(&ledger) as _, &clock).await;
    let signer = service.signer();
    let kid = signer.keys().active().unwrap().to_owned();
    let settings = service.settings();
    let request =
        TokenRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience).unwrap();
    ledger.keyring_fails_once.store(true, Ordering::Relaxed);
    assert!(signer.revoke(kid.clone()).await.is_err());
    signer.revoke(kid.clone()).await.unwrap();
    assert_ne!(service.mint("ops", &request).unwrap().kid, kid);
}

#[tokio::test]
async fn renewals_wait_for_a_key_that_is_good() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let (_, service) = service(Arc::clone(&ledger) as _, &clock).await;
    let signer = service.signer();
    // The family's own key is another one than the one that is refused.
    let settings = service.settings();
    let request = PairRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience).unwrap();
    service.pair("ops", request).await.unwrap();
    signer.rotate(true).await.unwrap();
    let kid = signer.keys().active().unwrap().to_owned();
    ledger.keyring_fails_once.store(true, Ordering::Relaxed);
    assert!(signer.revoke(kid.clone()).await.is_err());
    assert!(matches!(service.renew_due().await, Err(Failure::NoKey(_))));
    signer.revoke(kid).await.unwrap();
    assert_eq!(service.renew_due().await.unwrap(), 1, "it is due as before");
}

#[tokio::test]
async fn a_clock_that_is_set_forward_takes_no_key_away() {
    let world = World::new().await;
    let signer = world.service.signer().clone();
    signer.rotate(true).await.unwrap();
    let kids = || -> Vec<_> {
        signer
            .keys()
            .published
            .iter()
            .map(|key| key.kid.clone())
            .collect()
    };
    let before = kids();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(signer.clone().keep());
    world.clock.set_wall(world.clock.wall() + HOUR * 10_000);
    world.clock.run_for(Duration::from_secs(300)).await;
    assert_eq!(kids(), before);
    // What is due by the time that has passed is done.
    let mut changes = signer.changes();
    world.clock.run_for(HOUR * 24 * 91).await;
    changes.changed().await.unwrap();
    assert_ne!(kids(), before);
}

#[tokio::test]
async fn renewals_go_on_once_a_clock_that_was_ahead_is_right_again() {
    let minute = Duration::from_secs(60);
    // Beyond the parent's end, just before it, in the midst of its life, and over the next child.
    for leap in [HOUR * 10_000, HOUR * 720 - minute * 5, HOUR * 24, HOUR / 2] {
        for restarts in [false, true] {
            let mut world = World::new().await;
            let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
            let manual = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
            let right = world.clock.wall();
            world.clock.set_wall(right + leap);
            let mut worker = JoinSet::new();
            worker.spawn(world.service.clone().keep_renewing(minute));
            world.clock.run_for(minute * 2).await;
            if restarts {
                worker.shutdown().await;
                // As the renewal itself is noted.
                let record = tokenward_store::AuditRecord {
                    at: world.clock.wall(),
                    who: "ops".into(),
                    address: String::new(),
                    action: "tokens.renew".into(),
                    target: String::new(),
                    outcome: "ok".into(),
                };
                world.ledger.append_audit(&[record]).await.unwrap();
                world.clock.set_wall(right + minute * 2);
                world = world.restarted().await;
                worker.spawn(world.service.clone().keep_renewing(minute));
            }
            world.clock.set_wall(right + minute * 2);
            let mut sequence = 0;
            for after in [minute * 2, HOUR, HOUR] {
                world.clock.run_for(after).await;
                let what = format!("{leap:?} ahead, {after:?} after it, restarts: {restarts}");
                let latest = world.service.latest(&pair.parent.id).await.unwrap().unwrap();
                assert_eq!(world.judged(&latest.child.token), Ok(()), "{what}");
                assert!(latest.sequence > sequence, "{what}");
                sequence = latest.sequence;
            }
            // No more of them than are due: at once, and each 780 s.
            assert!(sequence <= 14, "{leap:?}: {sequence}");
            assert!(world.service.latest(&manual.parent.id).await.unwrap().is_none());
        }
    }
}
