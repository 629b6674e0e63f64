//! Several processes of one store.

use std::sync::atomic::Ordering;

use axum::extract::{RawQuery, State};
use http_body_util::BodyExt as _;
use tokenward_core::revocation::Rule;
use tokenward_store::StoreErrorKind;
use tokio::task::JoinSet;

use super::{super::stream::stream, counted::Counted, *};
use crate::{
    revocation::{Failed, Issuer as _},
    signer::Unsigned,
};

/// The same store in another process, which counts what it asks for.
async fn another(world: &World) -> (World, Arc<Counted>) {
    let counted = Counted::new(Arc::clone(&world.ledger) as _);
    let (index, service) = service(Arc::clone(&counted) as _, &world.clock).await;
    let other = World {
        clock: world.clock.clone(),
        ledger: Arc::clone(&world.ledger),
        index,
        service,
    };
    (other, counted)
}

#[tokio::test]
async fn without_keys_nothing_is_minted_judged_or_ended_and_all_of_it_once_there_are() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger: Arc<dyn Ledger> = Arc::new(Memory::new());
    let start = async || {
        let sealer = Sealer::new([&[7; 32]]);
        service_on(
            Arc::clone(&ledger),
            &clock,
            settings(),
            sealer,
            First::Stored,
            true,
        )
        .await
        .1
    };
    let (one, two) = (start().await, start().await);
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
    let missing = |failure| matches!(failure, Failure::NoKey(Unsigned::Missing));
    assert!(missing(mint(&one).unwrap_err()) && missing(pair(&one).await.unwrap_err()));
    // What another process issued would be taken for a stranger's.
    assert!(missing(one.revoke_token("x").await.unwrap_err()));
    let order = Order::own(ISS, Target::Token("x".into()));
    assert!(matches!(
        one.0.revocations.revoke(order).await,
        Err(Failed::NoKeys)
    ));
    assert_eq!(one.parent("x").unwrap_err(), Denial::IssuerUnavailable);
    assert_eq!(one.knows_its_own(), Err(Unsigned::Missing));
    assert_eq!(ledger.revocations(0, 10).await.unwrap(), []);

    for service in [&one, &two] {
        service.signer().set_joined(true);
    }
    one.signer().generate().await.unwrap();
    let early = mint(&one).unwrap_err();
    assert!(matches!(early, Failure::NoKey(Unsigned::Unpublished)), "{early}");
    two.signer().reload().await.unwrap();
    clock.advance(Duration::from_secs(3));
    let (token, parent) = (mint(&one).unwrap(), pair(&two).await.unwrap().parent);
    assert!(two.introspect(&token.token).unwrap().is_some());
    assert_eq!(one.knows_its_own(), Ok(()));
    assert!(two.revoke_token(&token.id).await.unwrap());
    assert!(one.renew(&parent.token).await.is_ok());
    assert!(one.revoke_token(&parent.id).await.unwrap());
    let (_, record) = ledger.revocations(1, 10).await.unwrap().pop().unwrap();
    assert_eq!(record.rule, RevocationRule::Parent(parent.id));
}

/// The next event of a stream.
async fn next(body: &mut axum::body::Body) -> Option<String> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(frame.to_vec()).unwrap())
}

#[tokio::test]
async fn whoever_missed_what_was_told_asks_for_the_families_that_somebody_follows() {
    let here = World::new().await;
    let (there, counted) = another(&here).await;
    let pair = here.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    here.pair(r#"{"user_id":"b","include_child":true}"#).await;
    let mut follower = there.service.follow(&pair.parent.id).await.unwrap();
    here.renew(&pair.parent.token).await.unwrap();
    assert!(follower.changed().now_or_never().is_none());
    counted.counts();
    there.service.missed_children().await.unwrap();
    assert_eq!(follower.changed().now_or_never(), Some(()));
    assert_eq!(follower.news(), News::Child(1));
    assert_eq!(counted.counts(), (1, 0), "of those alone");
}

#[tokio::test]
async fn a_stream_hears_of_children_and_ends_of_other_processes_without_asking_for_them() {
    let here = World::new().await;
    let (there, counted) = another(&here).await;
    let pair = here.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let request = ::http::Request::builder()
        .header("authorization", format!("Bearer {}", pair.parent.token))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = stream(State(there.service.clone()), RawQuery(None), request).await;
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().contains("event: connected"));
    counted.counts();

    let child = here.renew(&pair.parent.token).await.unwrap();
    assert!(next(&mut body).now_or_never().is_none(), "nobody polls");
    assert_eq!(counted.counts(), (0, 0));
    // Told twice it is sent once, and what is told is no older than what was sent.
    there.service.heard_child(&pair.parent.id, child.sequence);
    let event = next(&mut body).await.unwrap();
    assert!(
        event.contains(&child.child.id) && event.contains("id: 1\n"),
        "{event}"
    );
    assert_eq!(counted.counts(), (1, 0));
    there.service.heard_child(&pair.parent.id, child.sequence);
    there.service.heard_child("another", 7);
    assert!(next(&mut body).now_or_never().is_none());
    assert_eq!(counted.counts(), (0, 0));
    // What is minted here and told by the store as well is sent once, too.
    there.pass(Duration::from_secs(10));
    let second = there.renew(&pair.parent.token).await.unwrap();
    assert!(next(&mut body).await.unwrap().contains(&second.child.id));
    there.service.heard_child(&pair.parent.id, second.sequence);
    assert!(next(&mut body).now_or_never().is_none());

    here.service.revoke_token(&pair.parent.id).await.unwrap();
    assert!(next(&mut body).now_or_never().is_none());
    let rule = Rule::Family(pair.parent.id.clone());
    there.index.insert(ISS, &rule, None);
    there.service.0.revoked(&rule);
    assert!(next(&mut body).await.unwrap().contains("event: revoked"));
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_user_who_is_revoked_by_another_process_hears_of_it() {
    let here = World::new().await;
    let (there, _) = another(&here).await;
    let pair = here.pair(r#"{"user_id":"a"}"#).await;
    let mut follower = there.service.follow(&pair.parent.id).await.unwrap();
    here.service.revoke_user("a").await.unwrap();
    let (_, record) = here.ledger.revocations(0, 1).await.unwrap().remove(0);
    let RevocationRule::Subject { sub, not_before } = record.rule else {
        panic!("{record:?}");
    };
    let rule = Rule::Subject {
        sub,
        not_before: not_before.as_secs(),
    };
    there.index.insert(ISS, &rule, record.expires_at);
    there.service.0.revoked(&rule);
    follower.changed().await;
    assert!(!there.service.still_good(&follower));
    assert_eq!(
        there.renew(&pair.parent.token).await.unwrap_err(),
        Denial::SubjectRevoked
    );
}

#[tokio::test]
async fn workers_of_one_store_mint_one_child_for_each_due_time_and_lose_none_when_one_ends() {
    const FAMILIES: usize = 1_000;
    let one = World::new().await;
    let ((two, _), (three, _)) = (another(&one).await, another(&one).await);
    // Born at different times, with children of 90 seconds that are renewed each minute.
    let mut parents = Vec::new();
    for n in 0..FAMILIES {
        let world = [&one, &two, &three][n % 3];
        let body = r#"{"user_id":"a","child_expires_in":90,"include_child":true}"#;
        parents.push((world.pair(body).await.parent.id, world.clock.wall()));
        world.pass(Duration::from_millis(25));
    }
    let mut workers = JoinSet::new();
    let mut first = JoinSet::new();
    first.spawn(one.service.clone().keep_renewing(Duration::from_secs(30)));
    for world in [&two, &three] {
        workers.spawn(world.service.clone().keep_renewing(Duration::from_secs(30)));
    }
    one.clock.run_for(Duration::from_secs(200)).await;
    // Wherever it is.
    first.shutdown().await;
    one.clock.run_for(Duration::from_secs(400)).await;
    workers.shutdown().await;
    let now = one.clock.wall();
    for (parent, born) in parents {
        let family = one.ledger.family(&parent).await.unwrap().unwrap();
        // The first at once, then one each minute from the second in which it was born.
        let minutes = now.as_secs().abs_diff(born.as_secs()) / 60;
        assert_eq!(family.sequence, 1 + minutes, "{parent}");
        let latest = family.latest.unwrap();
        let age = now.as_secs().abs_diff(latest.issued_at.as_secs());
        assert!(age < 60, "{age}");
    }
}

#[tokio::test]
async fn a_worker_waits_while_another_one_is_at_what_is_due() {
    let here = World::new().await;
    let (there, counted) = another(&here).await;
    let pair = here.pair(r#"{"user_id":"a"}"#).await;
    counted.all_is_claimed.store(true, Ordering::Relaxed);
    counted.counts();
    let mut worker = JoinSet::new();
    worker.spawn(there.service.clone().keep_renewing(HOUR));
    here.clock.run_for(Duration::from_secs(15)).await;
    let (reads, _) = counted.counts();
    assert!((16..=40).contains(&reads), "two looks a second: {reads}");
    // The other one has ended, and its claim with it.
    counted.all_is_claimed.store(false, Ordering::Relaxed);
    here.clock.run_for(Duration::from_secs(1)).await;
    let family = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(family.sequence, 1);
}

#[tokio::test]
async fn a_process_that_does_not_know_what_was_revoked_renews_nothing_and_loses_nothing() {
    let here = World::new().await;
    let pair = here.pair(r#"{"user_id":"a"}"#).await;
    let index = here.service.0.index.clone();
    index.complete_until(here.clock.steady());
    here.clock.advance(Duration::from_secs(1));
    let family = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    let refused = here.service.next_child(&family).await;
    assert!(refused.is_err_and(|failure| failure.to_string().contains("revo")));
    let left = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(
        (left.sequence, left.next_renewal),
        (family.sequence, family.next_renewal)
    );
    index.complete_until(tokenward_core::Timestamp::MAX);
    assert!(here.service.next_child(&family).await.is_ok());
}

#[tokio::test]
async fn nothing_is_renewed_once_another_process_has_revoked_its_parent_though_it_is_not_heard_of() {
    for revoked in [
        Target::Subject("a".to_owned()),
        Target::Key(String::new()),
        Target::IssuedBefore(Timestamp::from_secs(1_800_000_001)),
    ] {
        let here = World::new().await;
        let (there, _) = another(&here).await;
        let pair = here.pair(r#"{"user_id":"a","include_child":true}"#).await;
        let (revoked, denial) = match revoked {
            Target::Key(_) => (Target::Key(pair.parent.kid.clone()), Denial::KeyRevoked),
            Target::Subject(_) => (revoked, Denial::SubjectRevoked),
            other => (other, Denial::IssuerRevoked),
        };
        let order = Order::own(ISS, revoked);
        here.service.0.revocations.revoke(order).await.unwrap();
        // What is minted from now on is issued after all that was revoked: nobody would refuse it.
        here.pass(Duration::from_secs(600));
        let family = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
        assert!(
            there.service.parent(&pair.parent.token).is_ok(),
            "it is not heard of"
        );
        assert_eq!(there.renew(&pair.parent.token).await.unwrap_err(), denial);
        let left = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
        assert_eq!((left.sequence, left.latest), (1, family.latest));
        // Once it was refused it is not good any more.
        assert_eq!(there.service.parent(&pair.parent.token).unwrap_err(), denial);
        // By itself neither, and it is looked at again while the rule may be taken back.
        there.pass(Duration::from_secs(600));
        there.service.renew_due().await.unwrap();
        let left = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
        assert_eq!(left.sequence, 1);
        assert!(left.next_renewal.is_some());
        let (_, record) = here.ledger.revocations(0, 1).await.unwrap().remove(0);
        assert!(there.service.0.revocations.delete(&record.id).await.unwrap());
        assert!(there.renew(&pair.parent.token).await.is_ok());
    }
}

#[tokio::test]
async fn a_family_for_which_the_store_is_damaged_stops_no_other() {
    let here = World::new().await;
    let (there, counted) = another(&here).await;
    let pair = here.pair(r#"{"user_id":"a"}"#).await;
    let fail = |kind| *counted.children_fail.lock().unwrap() = kind;
    fail(Some(StoreErrorKind::Unavailable));
    assert!(there.service.renew_due().await.is_err());
    fail(Some(StoreErrorKind::Corrupt));
    assert_eq!(there.service.renew_due().await.unwrap(), 1);
    assert_eq!(there.service.renew_due().await.unwrap(), 0, "later");
    fail(None);
    there.pass(Duration::from_secs(60));
    assert_eq!(there.service.renew_due().await.unwrap(), 1);
    let family = here.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(family.sequence, 1);
}
