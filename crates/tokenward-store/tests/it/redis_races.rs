//! Many who write at once, through two handles.

use std::sync::Arc;

use futures_util::future::join_all;
use tokenward_core::Timestamp;
use tokenward_store::{Family, Ledger as _, PutIdp, Recorded, Redis, Revocation, RevocationRule};
use tokenward_testkit::{
    RedisServer,
    conformance::{child, family, origin, revocation, stored_idp},
};

use crate::redis_ledger::{jti, replica};

const NOW: Timestamp = Timestamp::from_secs(100);

fn length(server: &RedisServer, command: &str, key: &str) -> String {
    server.text(&[command, &format!("{{tokenward}}:{key}")])
}

/// All who do something at once, each by one of two handles in turn.
async fn at_once<T, F, Fut>(server: &RedisServer, count: usize, what: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(Arc<Redis>, usize) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    let handles = [Arc::new(replica(server)), Arc::new(replica(server))];
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            #[expect(clippy::disallowed_methods, reason = "the test waits for all of them")]
            tokio::spawn(what(Arc::clone(&handles[n % 2]), n))
        })
        .collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_only_grows_whoever_comes_first() {
    let server = RedisServer::start();
    let at = |n: usize| Timestamp::from_secs(i64::try_from(n).unwrap());
    let revoked = at_once(&server, 60, move |store, n| async move {
        // Some grow in one way while others grow in another.
        let one = Revocation {
            expires_at: Some(at(1000 - n)),
            ..revocation(
                &format!("{n}"),
                RevocationRule::Subject {
                    sub: "alice".to_owned(),
                    not_before: at((n * 7) % 60),
                },
            )
        };
        (one.clone(), store.revoke(&one).await.unwrap())
    })
    .await;
    let store = replica(&server);
    let all = store.revocations(0, 99).await.unwrap();
    let [(sequence, last)] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!(last.expires_at, Some(at(1000)));
    assert!(matches!(last.rule, RevocationRule::Subject { not_before, .. } if not_before == at(59)));
    let time = |one: &Revocation| match one.rule {
        RevocationRule::Subject { not_before, .. } => not_before,
        _ => panic!("{one:?}"),
    };
    for (asked, got) in &revoked {
        // What was acknowledged holds at least what was asked for.
        assert!(time(&got.effective) >= time(asked), "{asked:?} {got:?}");
        assert!(got.effective.expires_at >= asked.expires_at, "{asked:?} {got:?}");
        assert_eq!(got.effective.id, last.id);
        assert!(got.sequence <= *sequence);
    }
    assert_eq!(length(&server, "HLEN", "revocations:ids"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_it_is_revoked_is_one_or_the_other() {
    let server = RedisServer::start();
    let expiring = Revocation {
        expires_at: Some(NOW),
        ..jti("a")
    };
    let one = expiring.clone();
    at_once(&server, 200, move |store, n| {
        let expiring = one.clone();
        async move {
            match n % 3 {
                0 => drop(store.revoke(&expiring).await.unwrap()),
                1 => drop(store.delete_revocation("a").await.unwrap()),
                _ => drop(store.prune(NOW).await.unwrap()),
            }
        }
    })
    .await;
    let same = || {
        let count = length(&server, "HLEN", "revocations");
        for (command, key) in [
            ("ZCARD", "revocations:order"),
            ("HLEN", "revocations:ids"),
            ("ZCARD", "revocations:expiry"),
        ] {
            assert_eq!(length(&server, command, key), count, "{key}");
        }
        count
    };
    let count = same();
    let deleted = length(&server, "HLEN", "revocations:deleted");
    assert!(count == "0" || deleted == "0", "never both: {count} {deleted}");
    let store = replica(&server);
    store.revoke(&expiring).await.unwrap();
    assert_eq!(same(), "1");
    store.prune(NOW).await.unwrap();
    assert_eq!(same(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_renew_at_once_one_wins() {
    let server = RedisServer::start();
    let store = replica(&server);
    store.open_family(&family("p", Some(NOW))).await.unwrap();
    for round in 0..20 {
        let recorded = at_once(&server, 8, move |store, n| async move {
            let child = child(&format!("{round}-{n}"));
            // Some put it off meanwhile, which is no renewal.
            if n > 5 {
                store.postpone("p", round, Some(NOW)).await.unwrap();
                return None;
            }
            let recorded = store
                .record_child("p", &origin(), round, &child, Some(NOW))
                .await
                .unwrap();
            Some((child, recorded))
        })
        .await;
        let recorded: Vec<_> = recorded.into_iter().flatten().collect();
        let won: Vec<_> = recorded
            .iter()
            .filter(|(_, recorded)| *recorded == Recorded::Stored(round + 1))
            .collect();
        let [(winner, _)] = won.as_slice() else {
            panic!("{recorded:?}");
        };
        let now = Family {
            sequence: round + 1,
            latest: Some(winner.clone()),
            ..family("p", Some(NOW))
        };
        assert_eq!(store.family("p").await.unwrap(), Some(now.clone()));
        for (_, recorded) in recorded.iter().filter(|(child, _)| child != winner) {
            assert_eq!(*recorded, Recorded::Behind(Box::new(now.clone())));
        }
    }
}

/// Once a parent's revocation is acknowledged no child of it is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_renews_what_was_revoked() {
    let server = RedisServer::start();
    let store = replica(&server);
    for round in 0..50 {
        let parent = format!("p{round}");
        store.open_family(&family(&parent, Some(NOW))).await.unwrap();
        let name = parent.clone();
        at_once(&server, 4, move |store, n| {
            let parent = name.clone();
            async move {
                if n == 0 {
                    let rule = RevocationRule::Parent(parent.clone());
                    store.revoke(&revocation(&parent, rule)).await.unwrap();
                    let late = store
                        .record_child(&parent, &origin(), 0, &child("late"), Some(NOW))
                        .await
                        .unwrap();
                    assert_eq!(late, Recorded::Gone);
                } else {
                    store
                        .record_child(&parent, &origin(), 0, &child("c"), Some(NOW))
                        .await
                        .unwrap();
                    store.postpone(&parent, 1, Some(NOW)).await.unwrap();
                }
            }
        })
        .await;
        assert_eq!(store.family(&parent).await.unwrap(), None);
    }
    for (command, key) in [
        ("HLEN", "families"),
        ("ZCARD", "families:order"),
        ("ZCARD", "families:due"),
        ("ZCARD", "families:expiry"),
        ("HLEN", "families:claims"),
    ] {
        assert_eq!(length(&server, command, key), "0", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_markers_and_places_are_given_once() {
    let server = RedisServer::start();
    let put = at_once(&server, 20, |store, n| async move {
        store.put_keyring(0, format!("{n}").as_bytes()).await.unwrap()
    })
    .await;
    assert_eq!(put.iter().filter(|put| **put).count(), 1);
    let store = replica(&server);
    let won = put.iter().position(|put| *put).unwrap();
    assert_eq!(
        store.keyring().await.unwrap(),
        Some((1, format!("{won}").into_bytes()))
    );

    let set = at_once(&server, 20, |store, n| async move {
        store.set_generation(None, &format!("g{n}")).await.unwrap()
    })
    .await;
    assert_eq!(set.iter().filter(|set| **set).count(), 1);

    let put = at_once(&server, 20, |store, n| async move {
        store.put_idp(&stored_idp("t", &format!("{n}")), 5).await.unwrap()
    })
    .await;
    assert_eq!(put.iter().filter(|put| **put == PutIdp::Created).count(), 5);
    assert_eq!(store.idps().await.unwrap().len(), 5);
}

fn parents(families: &[Family]) -> Vec<&str> {
    families.iter().map(|family| family.parent_jti.as_str()).collect()
}

/// Sets back when each claim ends, by so many milliseconds of the server's clock.
fn let_pass(server: &RedisServer, millis: i64) {
    let key = "{tokenward}:families:claims";
    for parent in server.text(&["HKEYS", key]).lines() {
        let claim = server.text(&["HGET", key, parent]);
        let (ends, by) = claim.split_once(' ').unwrap();
        let ends: i64 = ends.parse().unwrap();
        server.ask(&["HSET", key, parent, &format!("{} {by}", ends - millis)]);
    }
}

fn server_time(server: &RedisServer) -> i64 {
    let time = server.text(&["TIME"]);
    let (seconds, micros) = time.split_once('\n').unwrap();
    seconds.parse::<i64>().unwrap() * 1000 + micros.parse::<i64>().unwrap() / 1000
}

#[tokio::test]
async fn what_one_has_claimed_is_not_given_to_another_for_fifteen_seconds() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server), replica(&server));
    for (n, parent) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let due = Timestamp::from_secs(i64::try_from(n).unwrap());
        one.open_family(&family(parent, Some(due))).await.unwrap();
    }
    let first = one.due_families(NOW, 2).await.unwrap();
    assert_eq!(parents(&first), ["a", "b"]);
    // The same one, and what is one with it, sees them again.
    assert_eq!(one.due_families(NOW, 2).await.unwrap(), first);
    assert_eq!(one.clone().due_families(NOW, 2).await.unwrap(), first);
    assert_eq!(one.next_due().await.unwrap(), Some(Timestamp::from_secs(0)));
    assert_eq!(two.next_due().await.unwrap(), Some(Timestamp::from_secs(2)));
    assert_eq!(parents(&two.due_families(NOW, 9).await.unwrap()), ["c", "d"]);
    assert_eq!(parents(&one.due_families(NOW, 9).await.unwrap()), ["a", "b"]);
    // All that is left is another's: there is nothing to do before its claims run out.
    for parent in ["c", "d"] {
        two.record_child(parent, &origin(), 0, &child(parent), None)
            .await
            .unwrap();
    }
    assert_eq!(two.due_families(NOW, 9).await.unwrap(), []);
    let wait = two.next_due().await.unwrap().unwrap().as_millis() - server_time(&server);
    assert!((10_000..=15_000).contains(&wait), "{wait}");

    // A renewal, or what puts one off, ends the claim.
    one.record_child("a", &origin(), 0, &child("a"), Some(NOW))
        .await
        .unwrap();
    assert_eq!(parents(&two.due_families(NOW, 1).await.unwrap()), ["a"]);
    two.postpone("a", 1, None).await.unwrap();

    // The one dies: what it claimed comes back, not before its time.
    drop(one);
    let_pass(&server, 9_000);
    assert_eq!(two.due_families(NOW, 9).await.unwrap(), []);
    let_pass(&server, 6_000);
    assert_eq!(two.next_due().await.unwrap(), Some(Timestamp::from_secs(1)));
    assert_eq!(parents(&two.due_families(NOW, 9).await.unwrap()), ["b"]);
    // One that was made when the clock was ahead does not stand.
    let_pass(&server, -2_000);
    let three = replica(&server);
    assert_eq!(three.next_due().await.unwrap(), Some(Timestamp::from_secs(1)));
    assert_eq!(parents(&three.due_families(NOW, 9).await.unwrap()), ["b"]);
    // Nothing stays of claims once the families are gone.
    two.revoke(&revocation("b", RevocationRule::Parent("b".to_owned())))
        .await
        .unwrap();
    assert_eq!(length(&server, "HLEN", "families:claims"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_claim_the_same() {
    let server = RedisServer::start();
    let store = replica(&server);
    for n in 0..1200 {
        store
            .open_family(&family(&format!("{n}"), Some(Timestamp::from_secs(n % 50))))
            .await
            .unwrap();
    }
    // Each of them alone, so that each has its own claims.
    let claims = (0..6).map(|_| {
        let store = replica(&server);
        #[expect(clippy::disallowed_methods, reason = "the test waits for all of them")]
        tokio::spawn(async move { store.due_families(NOW, 200).await.unwrap() })
    });
    let mut claimed = Vec::new();
    for claim in join_all(claims).await {
        let claim = claim.unwrap();
        assert_eq!(claim.len(), 200);
        claimed.extend(claim.into_iter().map(|family| family.parent_jti));
    }
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 1200);
    assert_eq!(replica(&server).due_families(NOW, 9).await.unwrap(), []);
}
