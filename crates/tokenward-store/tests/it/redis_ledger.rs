//! The ledger on Redis.

use std::{collections::HashSet, sync::Arc};

use tokenward_core::Timestamp;
use tokenward_store::{
    Family, Ledger as _, PRUNED, PutIdp, Redis, RedisOptions, Revocation, RevocationRule, StoreErrorKind,
};
use tokenward_testkit::{
    Program, RealClock, RedisServer,
    conformance::{self, audit_record, child, family, origin, revocation, stored_idp},
};

pub(crate) fn replica(server: &RedisServer) -> Redis {
    Redis::new(RedisOptions::new(server.url()), Arc::new(RealClock)).unwrap()
}

pub(crate) fn jti(id: &str) -> Revocation {
    revocation(id, RevocationRule::Jti(format!("jti of {id}")))
}

/// Commands that the server has carried out, those of scripts among them.
fn commands(server: &RedisServer) -> u64 {
    let info = server.text(&["INFO", "stats"]);
    let count = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn redis_and_valkey_conform() {
    for program in [Program::Redis, Program::Valkey] {
        let server = RedisServer::with(program, &[]);
        for _ in 0..2 {
            // What is revoked again is dated after its deletion.
            server.ask(&["DEL", "{tokenward}:revocations:deleted"]);
            let store = replica(&server);
            conformance::ledger(&store).await;
            conformance::tokens(&store).await;
        }
        conformance::reopening(&replica(&RedisServer::with(program, &[]))).await;
        let keys = server.text(&["KEYS", "*"]);
        assert!(keys.lines().all(|key| key.starts_with("{tokenward}:")), "{keys}");
        // What was deleted leaves nothing but what is meant to stay.
        let mut keys: Vec<&str> = keys
            .lines()
            .filter_map(|key| key.split_once(':'))
            .map(|(_, key)| key)
            .collect();
        keys.sort_unstable();
        let kept = [
            "audit",
            "audit:kinds",
            "feed",
            "idps:removed",
            "keyring",
            "meta",
            "revocations:deleted",
        ];
        assert_eq!(keys, kept);
    }
}

#[tokio::test]
async fn names_of_any_signs_are_told_apart() {
    let server = RedisServer::start();
    let store = replica(&server);
    let long = "x".repeat(1000);
    let longer = "x".repeat(1001);
    let names = [
        "",
        "a",
        "A",
        "a:b",
        "a",
        ":",
        "1:a",
        "{a}",
        "{tokenward}:meta",
        "}{",
        "a\nb",
        "a\r\nb",
        "\0",
        "a\0",
        "*",
        "ü",
        " ",
        "\"",
        "\\",
        "-inf",
        "[a",
        "(a",
        "+",
        "-",
        &long,
        &longer,
    ];
    let names: HashSet<&str> = names.into_iter().collect();
    for name in &names {
        let with_user = Family {
            user_id: (*name).to_owned(),
            ..family(name, Some(Timestamp::from_secs(5)))
        };
        store.open_family(&with_user).await.unwrap();
        for tenant in ["t", name] {
            assert_ne!(
                store.put_idp(&stored_idp(tenant, name), 999).await.unwrap(),
                PutIdp::Full
            );
        }
        for (kind, rule) in [
            ("jti", RevocationRule::Jti((*name).to_owned())),
            ("sid", RevocationRule::Session((*name).to_owned())),
        ] {
            for issuer in ["i", name] {
                let revocation = Revocation {
                    issuer: issuer.to_owned(),
                    ..revocation(&format!("{kind} {issuer} {name}"), rule.clone())
                };
                assert_eq!(store.revoke(&revocation).await.unwrap().effective, revocation);
            }
        }
    }
    for name in &names {
        let found = store.family(name).await.unwrap().unwrap();
        assert_eq!(
            (found.parent_jti.as_str(), found.user_id.as_str()),
            (*name, *name)
        );
        assert!(
            store
                .revocation(&format!("sid {name} {name}"))
                .await
                .unwrap()
                .is_some()
        );
    }
    // The one without a name is first, and what is over it is the rest.
    let pages = store.families("", 99).await.unwrap();
    let mut sorted: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
    sorted.sort_unstable();
    assert_eq!(
        pages
            .iter()
            .map(|family| family.parent_jti.as_str())
            .collect::<Vec<_>>(),
        sorted
    );
    assert_eq!(store.idps().await.unwrap().len(), 2 * names.len());
    assert_eq!(store.revocations(0, 999).await.unwrap().len(), 4 * names.len());
    assert_eq!(
        store.due_families(Timestamp::MAX, 99).await.unwrap().len(),
        names.len()
    );
    for name in &names {
        assert_eq!(
            store
                .record_child(name, &origin(), 0, &child("c"), None)
                .await
                .unwrap(),
            tokenward_store::Recorded::Stored(1)
        );
        let parent = revocation(
            &format!("parent {name}"),
            RevocationRule::Parent((*name).to_owned()),
        );
        store.revoke(&parent).await.unwrap();
        assert_eq!(store.family(name).await.unwrap(), None);
        for tenant in ["t", name] {
            store.remove_idp(tenant, name).await.unwrap();
        }
    }
    assert_eq!(store.families("", 99).await.unwrap(), []);
    assert_eq!(store.idps().await.unwrap(), []);
    assert_eq!(store.removed_idps().await.unwrap().len(), 2 * names.len());
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let server = RedisServer::start();
    let store = replica(&server);
    store.open_family(&family("p", None)).await.unwrap();
    assert_eq!(server.text(&["HGET", "{tokenward}:meta", "schema"]), "1");
    server.ask(&["HSET", "{tokenward}:meta", "schema", "2"]);
    let before = server.text(&["KEYS", "*"]);
    // Whoever was connected before is refused, too.
    for _ in 0..2 {
        let refused = [
            store.revoke(&jti("a")).await.unwrap_err(),
            store.put_keyring(0, b"key").await.unwrap_err(),
            store.postpone("p", 0, None).await.unwrap_err(),
            store.changes(0).await.unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), StoreErrorKind::Newer, "{error}");
        }
    }
    assert_eq!(server.text(&["KEYS", "*"]), before);
}

#[tokio::test]
async fn what_does_not_fit_is_not_acknowledged_and_changes_nothing() {
    let server = RedisServer::start();
    let store = replica(&server);
    let ends = |id: &str| Revocation {
        expires_at: Some(Timestamp::from_secs(100)),
        ..jti(id)
    };
    store.revoke(&ends("a")).await.unwrap();
    store
        .open_family(&family("p", Some(Timestamp::from_secs(5))))
        .await
        .unwrap();
    store.put_idp(&stored_idp("t", "a"), 9).await.unwrap();
    let before = server.text(&["XLEN", "{tokenward}:feed"]);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let parent = revocation("p", RevocationRule::Parent("p".to_owned()));
    let refused = [
        store.revoke(&ends("b")).await.unwrap_err(),
        store.revoke(&parent).await.unwrap_err(),
        store.put_idp(&stored_idp("t", "b"), 9).await.unwrap_err(),
        store.put_keyring(0, b"key").await.unwrap_err(),
        store
            .record_child("p", &origin(), 0, &child("c"), None)
            .await
            .unwrap_err(),
        store.open_family(&family("q", None)).await.unwrap_err(),
        store.append_audit(&[audit_record("a")]).await.unwrap_err(),
        store.set_generation(None, "g").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
    }
    assert_eq!(store.revocations(0, 9).await.unwrap().len(), 1);
    assert_eq!(
        store.families("", 9).await.unwrap(),
        [family("p", Some(Timestamp::from_secs(5)))]
    );
    assert_eq!(store.idps().await.unwrap().len(), 1);
    assert_eq!(store.keyring().await.unwrap(), None);
    assert_eq!(server.text(&["XLEN", "{tokenward}:feed"]), before);
    // What gives memory back goes on.
    assert_eq!(store.prune(Timestamp::from_secs(100)).await.unwrap(), 1);
    assert_eq!(store.revocations(0, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_call_costs_the_same_however_much_there_is() {
    let server = RedisServer::start();
    let store = replica(&server);
    let far = Timestamp::from_secs(3_000_000_000);
    let many: Vec<Revocation> = (0..10_001)
        .map(|n| Revocation {
            expires_at: Some(far),
            ..jti(&format!("{n:05}"))
        })
        .collect();
    assert_eq!(store.assert_revocations(&many).await.unwrap(), many.len());
    for chunk in (0..10_000).collect::<Vec<u32>>().chunks(500) {
        let families: Vec<Family> = chunk
            .iter()
            .map(|n| {
                family(
                    &format!("{n:05}"),
                    Some(Timestamp::from_secs(1000 + i64::from(*n))),
                )
            })
            .collect();
        futures_util::future::try_join_all(families.iter().map(|family| store.open_family(family)))
            .await
            .unwrap();
    }
    // Each in a few commands, which count as they are carried out.
    macro_rules! costs {
        ($most:expr, $call:expr) => {{
            let before = commands(&server);
            let answer = $call.await.unwrap();
            // The question itself, and what its connection begins with.
            let cost = commands(&server) - before;
            assert!(cost <= $most + 5, "{cost} commands: {}", stringify!($call));
            answer
        }};
    }
    assert_eq!(costs!(1, store.active_families(Timestamp::from_secs(0))), 10_000);
    assert_eq!(costs!(6, store.next_due()), Some(Timestamp::from_secs(1000)));
    let due = costs!(12, store.due_families(Timestamp::from_secs(1001), 9));
    assert_eq!(due.len(), 2);
    assert_eq!(costs!(6, store.due_families(Timestamp::from_secs(9), 9)), []);
    assert!(costs!(1, store.family("05000")).is_some());
    assert_eq!(costs!(6, store.families("09990", 100)).len(), 9);
    assert!(costs!(5, store.revocation("05000")).is_some());
    costs!(30, store.revoke(&jti("new")));
    costs!(
        30,
        store.revoke(&revocation("parent", RevocationRule::Parent("00001".to_owned())))
    );
    assert!(costs!(30, store.delete_revocation("00003")));
    costs!(
        15,
        store.record_child("00002", &origin(), 0, &child("c"), Some(Timestamp::from_secs(1)))
    );
    costs!(12, store.changes(10_000));
    assert_eq!(costs!(8, store.prune(Timestamp::from_secs(1))), 0);

    // More than are read at once come in their order.
    let all = store.revocations(0, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 10_002);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0));
    let ids: HashSet<&str> = all.iter().map(|(_, one)| one.id.as_str()).collect();
    assert_eq!(ids.len(), all.len());
    let families = store.families("", usize::MAX).await.unwrap();
    assert_eq!(families.len(), 9_999);
    assert!(families.is_sorted_by(|a, b| a.parent_jti < b.parent_jti));
    // Pruning is bounded.
    let before = commands(&server);
    assert_eq!(store.prune(far).await.unwrap(), 2 * PRUNED);
    assert!(commands(&server) - before < 20 * PRUNED as u64);
}

#[tokio::test]
async fn ten_thousand_and_one_idps_come_in_the_order_of_their_addition() {
    let server = RedisServer::start();
    let store = replica(&server);
    let idps: Vec<_> = (0..10_001)
        .map(|n| stored_idp("t", &format!("{:05}", 99_999 - n)))
        .collect();
    assert_eq!(store.assert_idps(&idps).await.unwrap(), idps.len());
    let found = store.idps().await.unwrap();
    assert_eq!(found.len(), idps.len());
    let sorted: HashSet<_> = found.iter().map(|idp| &idp.name).collect();
    assert_eq!(sorted.len(), idps.len());
    assert_eq!(
        store.put_idp(&stored_idp("t", "more"), 10_001).await.unwrap(),
        PutIdp::Full
    );
    assert_eq!(
        store.put_idp(&stored_idp("t", "last"), 10_002).await.unwrap(),
        PutIdp::Created
    );
    assert_eq!(store.idps().await.unwrap().last(), Some(&stored_idp("t", "last")));
}
