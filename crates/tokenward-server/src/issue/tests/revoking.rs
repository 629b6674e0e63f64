//! What is revoked, by whatever rule, and what is not.

use super::*;

#[tokio::test]
async fn a_revoked_parent_takes_all_its_children_with_it_through_a_restart() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    world.pass(Duration::from_secs(20));
    let second = world.renew(&pair.parent.token).await.unwrap().child;
    assert!(world.service.revoke_token(&pair.parent.id).await.unwrap());
    assert!(
        world.service.revoke_token(&pair.parent.id).await.unwrap(),
        "once more changes nothing"
    );
    let check = async |world: &World| {
        for child in [&pair.child.as_ref().unwrap().0.token, &second.token] {
            assert_eq!(world.judged(child), Err(Denial::ParentRevoked));
        }
        assert_eq!(
            world.renew(&pair.parent.token).await.unwrap_err(),
            Denial::TokenRevoked
        );
    };
    check(&world).await;
    let world = world.restarted().await;
    check(&world).await;
    assert_eq!(world.ledger.family(&pair.parent.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_users_tokens_end_by_one_record_and_one_that_is_minted_in_the_same_second_is_good() {
    let world = World::new().await;
    let tokens: Vec<_> = (0..100).map(|_| world.mint(r#"{"user_id":"a"}"#)).collect();
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let other = world.mint(r#"{"user_id":"b"}"#);
    for _ in 0..3 {
        world.service.revoke_user("a").await.unwrap();
        assert_eq!(world.ledger.revocations(0, 10).await.unwrap().len(), 1);
        for token in &tokens {
            assert_eq!(world.judged(&token.token), Err(Denial::SubjectRevoked));
        }
        assert_eq!(
            world.judged(&pair.child.as_ref().unwrap().0.token),
            Err(Denial::SubjectRevoked)
        );
        assert_eq!(
            world.renew(&pair.parent.token).await.unwrap_err(),
            Denial::SubjectRevoked
        );
        assert_eq!(world.judged(&other.token), Ok(()));
        // In the same second, and covered by the next round.
        let new = world.mint(r#"{"user_id":"a"}"#);
        assert_eq!(world.judged(&new.token), Ok(()));
        let new_pair = world.pair(r#"{"user_id":"a"}"#).await;
        assert!(world.renew(&new_pair.parent.token).await.is_ok());
    }
    let last = world.mint(r#"{"user_id":"a"}"#);
    let world = world.restarted().await;
    assert_eq!(world.judged(&tokens[0].token), Err(Denial::SubjectRevoked));
    assert_eq!(world.judged(&last.token), Ok(()));
}

#[tokio::test]
async fn a_clock_that_is_set_back_hides_nothing_from_a_revocation() {
    let world = World::new().await;
    let token = world.mint(r#"{"user_id":"a"}"#);
    world.clock.set_wall(Timestamp::from_secs(1_799_999_970));
    world.service.revoke_user("a").await.unwrap();
    assert_eq!(world.judged(&token.token), Err(Denial::SubjectRevoked));
}

#[tokio::test]
async fn a_user_who_is_revoked_after_the_clock_was_far_ahead_is_not_locked_out() {
    let world = World::new().await;
    let right = world.clock.wall();
    let before = world.mint(r#"{"user_id":"a"}"#);
    world.clock.set_wall(right + HOUR * 10_000);
    world.mint(r#"{"user_id":"a"}"#);
    world.clock.set_wall(right);
    let five_minutes = Duration::from_secs(300);
    // All that any verifier may accept by now.
    world.clock.set_wall(right + five_minutes);
    let ahead = world.mint(r#"{"user_id":"a"}"#);
    world.clock.set_wall(right);
    world.service.revoke_user("a").await.unwrap();
    let records = world.ledger.revocations(0, 10).await.unwrap();
    let RevocationRule::Subject { not_before, .. } = records[0].1.rule else {
        panic!("{records:?}");
    };
    // Written once: a time that was never reached is not waited for.
    assert_eq!(not_before.as_secs(), (right + five_minutes).as_secs());
    assert_eq!(world.judged(&before.token), Err(Denial::SubjectRevoked));
    let new = world.mint(r#"{"user_id":"a"}"#);
    world.pass(five_minutes + Duration::from_secs(1));
    assert_eq!(world.judged(&new.token), Ok(()));
    assert_eq!(world.judged(&ahead.token), Err(Denial::SubjectRevoked));
}

#[tokio::test]
async fn what_is_minted_after_everything_before_was_refused_is_good_in_the_same_second_too() {
    let world = World::new().await;
    let revocations = world.service.0.revocations.clone();
    let old = world.mint(r#"{"user_id":"a"}"#);
    let all = async |time| {
        let order = Order::own(ISS, Target::IssuedBefore(time));
        revocations.revoke(order).await.unwrap()
    };
    all(world.clock.wall()).await;
    assert_eq!(world.judged(&old.token), Err(Denial::IssuerRevoked));
    let new = world.mint(r#"{"user_id":"a"}"#);
    assert_eq!(world.judged(&new.token), Ok(()));
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    assert_eq!(world.judged(&pair.child.unwrap().0.token), Ok(()));
    assert!(world.renew(&pair.parent.token).await.is_ok());
    // One of the future is meant for what is minted now as well, and moves no times.
    all(world.clock.wall() + HOUR).await;
    let refused = world.mint(r#"{"user_id":"a"}"#);
    assert_eq!(refused.expires_at, old.expires_at);
    assert_eq!(world.judged(&refused.token), Err(Denial::IssuerRevoked));
}

#[tokio::test]
async fn whoever_revokes_those_who_follow_hear_of_it() {
    let world = World::new().await;
    let revocations = world.service.0.revocations.clone();
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    let kid = pair.parent.kid.clone();
    let (own, other) = (ISS, "https://other.example");
    for (issuer, target, is_heard) in [
        (own, Target::Token("x".into()), false),
        (other, Target::Key(kid.clone()), false),
        (own, Target::Token(pair.parent.id.clone()), true),
        (own, Target::Subject("a".into()), true),
        (own, Target::Key(kid), true),
        (own, Target::IssuedBefore(world.clock.wall() + HOUR), true),
    ] {
        let pair = world.pair(r#"{"user_id":"a"}"#).await;
        let mut follower = world.service.follow(&pair.parent.id).await.unwrap();
        let target = match target {
            Target::Token(id) if id != "x" => Target::Token(pair.parent.id.clone()),
            target => target,
        };
        let what = format!("{issuer} {target:?}");
        let record = revocations.revoke(Order::own(issuer, target)).await.unwrap();
        assert_eq!(follower.changed().now_or_never().is_some(), is_heard, "{what}");
        let ended = follower.news() != News::Child(0) || !world.service.still_good(&follower);
        assert_eq!(ended, is_heard, "{what}");
        assert!(revocations.delete(&record.id).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_said_of_the_end_of_a_token_of_ours_cannot_shorten_its_record() {
    let world = World::new().await;
    let revocations = world.service.0.revocations.clone();
    let token = world.mint(r#"{"user_id":"a","expires_in":3600}"#);
    let leeway = Duration::from_secs(300);
    let longest = world.clock.wall() + HOUR * 720 + leeway;
    for (target, end) in [
        (Target::Token(token.id), token.expires_at + leeway),
        (
            Target::Token("of a store that is lost".into()),
            world.clock.wall() + HOUR / 60 + leeway,
        ),
        (Target::Session("s".into()), longest),
        (Target::Subject("a".into()), longest),
        (Target::IssuedBefore(world.clock.wall()), longest),
    ] {
        let order = Order {
            expires_at: Some(world.clock.wall() + HOUR / 60),
            ..Order::own(ISS, target)
        };
        let record = revocations.revoke(order).await.unwrap();
        assert_eq!(record.expires_at, Some(end), "{record:?}");
    }
}

#[tokio::test]
async fn revocations_of_some_move_no_clock_of_others() {
    let world = World::new().await;
    let short = world.pair(r#"{"user_id":"short","parent_expires_in":60}"#).await;
    for n in 0..200 {
        let user = format!("u{n}");
        world.mint(&json!({"user_id": user}).to_string());
        world.service.revoke_user(&user).await.unwrap();
        let token = world.mint(&json!({"user_id": user}).to_string());
        assert_eq!(
            token.expires_at,
            Timestamp::from_secs(1_800_000_001 + 3_600),
            "{n}"
        );
    }
    let other = world.mint(r#"{"user_id":"other"}"#);
    assert_eq!(other.expires_at, Timestamp::from_secs(1_800_000_000 + 3_600));
    assert_eq!(world.judged(&other.token), Ok(()));
    assert!(world.renew(&short.parent.token).await.is_ok());
}

#[tokio::test]
async fn renewals_after_a_revocation_in_the_same_second_do_not_fork() {
    let world = World::new().await;
    world.mint(r#"{"user_id":"a"}"#);
    world.service.revoke_user("a").await.unwrap();
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    let one = world.renew(&pair.parent.token).await.unwrap();
    let two = world.renew(&pair.parent.token).await.unwrap();
    assert_eq!(one.child.id, two.child.id);
}

#[tokio::test]
async fn so_many_revocations_in_a_second_that_time_would_run_away_have_to_wait() {
    let world = World::new().await;
    let refused = (0..100).map(|_| world.service.revoke_user("a"));
    let refused = futures_util::future::join_all(refused).await;
    let refused = refused
        .iter()
        .filter(|outcome| matches!(outcome, Err(Failure::TooSoon)))
        .count();
    assert_eq!(refused, 69);
    world.pass(Duration::from_secs(1));
    assert!(world.service.revoke_user("a").await.is_ok());
}

#[tokio::test]
async fn ids_of_others_leave_no_record() {
    let world = World::new().await;
    for id in ["", "x", &"A".repeat(51)] {
        assert!(!world.service.revoke_token(id).await.unwrap());
    }
    assert_eq!(world.ledger.revocations(0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_revocation_that_is_taken_back_lets_renewals_go_on() {
    let world = World::new().await;
    let revocations = world.service.0.revocations.clone();
    let pair = world
        .pair(r#"{"user_id":"a","include_child":true,"parent_expires_in":20000}"#)
        .await;
    let kid = pair.parent.kid.clone();
    let mut sequence = 1;
    for target in [
        Target::Subject("a".into()),
        Target::Key(kid),
        Target::IssuedBefore(world.clock.wall() + HOUR),
    ] {
        let what = format!("{target:?}");
        let record = revocations.revoke(Order::own(ISS, target)).await.unwrap();
        let due = world.ledger.next_due().await.unwrap().unwrap();
        world.pass(due.since(world.clock.wall()));
        assert_eq!(world.service.renew_due().await.unwrap(), 1);
        assert_eq!(
            world.service.renew_due().await.unwrap(),
            0,
            "{what}: not at once again"
        );
        assert!(revocations.delete(&record.id).await.unwrap());
        world.pass(HOUR);
        assert_eq!(world.service.renew_due().await.unwrap(), 1, "{what}");
        let latest = world.service.latest(&pair.parent.id).await.unwrap().unwrap();
        sequence += 1;
        assert_eq!(latest.sequence, sequence, "{what}");
        assert_eq!(world.judged(&latest.child.token), Ok(()), "{what}");
    }
    // Looked at no later than its parent ends, and then no more.
    world.service.revoke_user("a").await.unwrap();
    let mut looks = 0;
    while let Some(due) = world.ledger.next_due().await.unwrap() {
        assert!(due <= pair.parent.expires_at);
        world.pass(due.since(world.clock.wall()));
        looks += world.service.renew_due().await.unwrap();
        assert!(looks < 10);
    }
    assert_eq!(world.clock.wall(), pair.parent.expires_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_of_a_parent_is_accepted_once_its_revocation_is_acknowledged() {
    let world = Arc::new(World::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..10_000_u32 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
            let renewing = async {
                // In each order, and at the same time.
                if round % 3 == 1 {
                    tokio::task::yield_now().await;
                }
                world.renew(&pair.parent.token).await
            };
            let revoking = async {
                if round % 3 == 2 {
                    tokio::task::yield_now().await;
                }
                world.service.revoke_token(&pair.parent.id).await.unwrap()
            };
            let (renewed, _) = tokio::join!(renewing, revoking);
            if let Ok(renewed) = renewed {
                assert_eq!(world.judged(&renewed.child.token), Err(Denial::ParentRevoked));
            }
            assert!(world.renew(&pair.parent.token).await.is_err());
        });
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
