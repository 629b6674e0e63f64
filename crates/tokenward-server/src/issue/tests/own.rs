//! What is told of a token that is shown, and what ends it.

use super::*;

impl World {
    async fn end(&self, token: &str) -> bool {
        let Some((_, id)) = self.service.own_at_any_time(token) else {
            return false;
        };
        self.service.revoke_token(id.as_str()).await.unwrap()
    }

    fn active(&self, token: &str) -> bool {
        self.service.introspect(token).unwrap().is_some()
    }

    async fn revocations(&self) -> usize {
        self.ledger.revocations(0, 100).await.unwrap().len()
    }
}

#[tokio::test]
async fn every_type_is_told_of_for_whomever_it_is_until_it_ends() {
    let world = World::new().await;
    let pair = world
        .pair(r#"{"user_id":"a","include_child":true,"parent_expires_in":120,"child_expires_in":60}"#)
        .await;
    let child = pair.child.unwrap().0;
    let other = world.mint(r#"{"user_id":"a","audience":"else","expires_in":60}"#);
    for (minted, token_type) in [(&pair.parent, "parent"), (&child, "child"), (&other, "access")] {
        let (claims, found) = world.service.introspect(&minted.token).unwrap().unwrap();
        assert_eq!(
            claims.get("token_type").and_then(|name| name.as_str()),
            Some(token_type)
        );
        assert_eq!(found.name(), token_type);
        assert_eq!(claims.token_id(), Some(minted.id.as_str()));
    }
    // To the very end, and not a moment longer: the clock stands 700 ms behind a second.
    world.pass(Duration::from_millis(59_299));
    assert!(world.active(&child.token) && world.active(&other.token));
    world.pass(Duration::from_millis(1));
    assert!(!world.active(&child.token) && !world.active(&other.token));
    assert!(world.active(&pair.parent.token));
    world.pass(Duration::from_secs(60));
    assert!(!world.active(&pair.parent.token));
}

#[tokio::test]
async fn what_is_revoked_by_whatever_rule_is_not_told_of() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let child = pair.child.unwrap().0;
    let (one, two) = (world.mint(r#"{"user_id":"a"}"#), world.mint(r#"{"user_id":"a"}"#));
    assert!(world.end(&one.token).await);
    assert!(!world.active(&one.token) && world.active(&two.token));
    assert!(world.end(&child.token).await);
    assert!(!world.active(&child.token) && world.active(&pair.parent.token));
    let next = world.renew(&pair.parent.token).await.unwrap().child;
    assert!(world.active(&next.token));
    assert!(world.end(&pair.parent.token).await);
    assert!(!world.active(&pair.parent.token), "the parent");
    assert!(!world.active(&next.token), "and its children");
    assert_eq!(
        world.renew(&pair.parent.token).await.unwrap_err(),
        Denial::TokenRevoked
    );
    world.service.revoke_user("a").await.unwrap();
    assert!(!world.active(&two.token));
    // It holds in another process.
    let world = world.restarted().await;
    for token in [
        &one.token,
        &two.token,
        &child.token,
        &next.token,
        &pair.parent.token,
    ] {
        assert!(!world.active(token));
    }
}

#[tokio::test]
async fn what_is_none_of_ours_leaves_no_record() {
    let (world, other) = (World::new().await, World::new().await);
    let mine = world.mint(r#"{"user_id":"a"}"#);
    // The same issuer, another store: its keys and its ids are others.
    let foreign = other.mint(r#"{"user_id":"a"}"#);
    let (head, signature) = mine.token.rsplit_once('.').unwrap();
    let mut forged = signature.to_owned();
    forged.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
    let forged = format!("{head}.{forged}");
    let suffixed = format!("{}A", mine.token);
    for token in [
        "",
        "x",
        "a.b.c",
        &mine.id,
        &forged,
        &suffixed,
        &foreign.token,
        &"x".repeat(60_000),
    ] {
        assert!(!world.active(token) && !world.end(token).await, "{token}");
    }
    assert_eq!(world.revocations().await, 0);
    assert!(world.active(&mine.token), "nothing happened to it");
}

#[tokio::test]
async fn what_is_shown_is_revoked_whatever_the_clock_says_meanwhile() {
    // Far ahead, far behind, and just over.
    for wall in [2_000_000_000, 1_000_000_000, 1_800_000_121] {
        let world = World::new().await;
        let right = world.clock.wall();
        let minted = world.mint(r#"{"user_id":"a","expires_in":60}"#);
        let pair = world.pair(r#"{"user_id":"a"}"#).await;
        world.clock.set_wall(Timestamp::from_secs(wall));
        assert!(!world.active(&minted.token), "{wall}");
        assert!(world.end(&minted.token).await, "{wall}");
        assert!(world.end(&pair.parent.token).await, "{wall}");
        let ends: Vec<_> = world.ledger.revocations(0, 10).await.unwrap();
        let ends: Vec<_> = ends.into_iter().map(|(_, record)| record.expires_at).collect();
        let leeway = Duration::from_secs(300);
        assert_eq!(
            ends,
            [minted.expires_at, pair.parent.expires_at].map(|end| Some(end + leeway))
        );
        world.clock.set_wall(right);
        assert_eq!(world.judged(&minted.token), Err(Denial::TokenRevoked));
        assert_eq!(
            world.renew(&pair.parent.token).await.unwrap_err(),
            Denial::TokenRevoked
        );
    }
}

#[tokio::test]
async fn where_revocations_may_be_unknown_nothing_is_said_of_a_good_token_and_no_parent_is_taken() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let (parent, child) = (pair.parent, pair.child.unwrap().0);
    world.index.complete_until(world.clock.steady());
    assert!(world.active(&child.token), "to the very moment");
    world.pass(Duration::from_millis(1));
    let unknown = Denial::RevocationUnavailable;
    assert_eq!(world.service.introspect(&child.token).unwrap_err(), unknown);
    let renewed = world.service.parent(&parent.token).unwrap_err();
    assert_eq!(renewed, unknown);
    assert!(!world.active("x.y.z"), "what is none of ours is none of ours");
    assert!(world.end(&child.token).await);
    assert!(
        !world.active(&child.token),
        "and what is known to be revoked is so"
    );
    world.index.complete_until(world.clock.steady());
    assert!(world.active(&parent.token));
}
