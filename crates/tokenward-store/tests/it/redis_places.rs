//! The ledger where servers are more than one, restart, or let their user do little.

use std::sync::Arc;

use tokenward_core::Timestamp;
use tokenward_store::{Ledger as _, Recorded, Redis, RedisOptions, RevocationRule, Revoked};
use tokenward_testkit::{
    Program, RealClock, RedisCluster, RedisServer,
    conformance::{self, audit_record, child, family, origin, revocation, stored_idp},
};

use crate::{
    redis_ledger::{jti, replica},
    redis_topology::documented_rights,
};

fn at(url: String) -> Redis {
    Redis::new(RedisOptions::new(url), Arc::new(RealClock)).unwrap()
}

/// Also what no engine but this one has.
async fn conforms(store: &Redis) {
    conformance::ledger(store).await;
    conformance::tokens(store).await;
    assert!(store.set_generation(None, "one").await.unwrap());
    assert_eq!(store.assert_revocations(&[jti("a")]).await.unwrap(), 1);
    assert!(store.delete_revocation("a").await.unwrap());
    let tombstones = store.tombstones().await.unwrap();
    assert!(tombstones.iter().any(|tombstone| tombstone.rule == jti("a").rule));
    assert_eq!(store.assert_tombstones(&tombstones).await.unwrap(), 0);
    assert_eq!(store.assert_idps(&[stored_idp("t", "new")]).await.unwrap(), 1);
    let removed = store.removed_idps().await.unwrap();
    assert_eq!(store.assert_removed_idps(&removed).await.unwrap(), 0);
    assert!(store.assert_keyring(99, b"key").await.unwrap());
    let feed = store.changes(0).await.unwrap();
    assert_eq!((feed.gap, feed.generation.as_deref()), (false, Some("one")));
}

#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough() {
    let server = RedisServer::start();
    let mut words = vec!["ACL", "SETUSER", "ward", "on", ">secret"];
    words.extend(documented_rights());
    server.ask(&words);
    conforms(&at(format!("redis://ward:secret@127.0.0.1:{}", server.port()))).await;
}

#[tokio::test]
async fn in_a_cluster_everything_lies_on_one_node() {
    let cluster = RedisCluster::start(Program::Valkey, "{tokenward}");
    conforms(&at(cluster.url())).await;
}

/// With what the documentation says of durability.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_of_the_server() {
    for program in [Program::Redis, Program::Valkey] {
        let mut server = RedisServer::with(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let due = Some(Timestamp::from_secs(5));
        let mut last = 0;
        for round in 0..3_u32 {
            let store = replica(&server);
            let name = format!("{round}");
            let Revoked { sequence, .. } = store.revoke(&jti(&name)).await.unwrap();
            assert!(sequence > last);
            last = sequence;
            store.revoke(&jti("gone")).await.unwrap();
            store.delete_revocation("gone").await.unwrap();
            for parent in [&name, "revoked"] {
                store.open_family(&family(parent, due)).await.unwrap();
            }
            assert_eq!(
                store
                    .record_child(&name, &origin(), 0, &child("c"), due)
                    .await
                    .unwrap(),
                Recorded::Stored(1)
            );
            let parent = RevocationRule::Parent("revoked".to_owned());
            store.revoke(&revocation("parent", parent)).await.unwrap();
            store.put_idp(&stored_idp("t", &name), 9).await.unwrap();
            assert!(
                store
                    .put_keyring(u64::from(round), name.as_bytes())
                    .await
                    .unwrap()
            );
            store.append_audit(&[audit_record(&name)]).await.unwrap();
            server.kill();
            assert!(store.family(&name).await.is_err());
            server.start_again();

            let store = replica(&server);
            for round in 0..=round {
                let name = format!("{round}");
                assert_eq!(store.revocation(&name).await.unwrap(), Some(jti(&name)));
                assert_eq!(
                    store.family(&name).await.unwrap().unwrap().latest,
                    Some(child("c"))
                );
            }
            let count = usize::try_from(round).unwrap() + 1;
            assert_eq!(store.revocation("gone").await.unwrap(), None);
            assert_eq!(store.tombstones().await.unwrap().len(), 1);
            assert_eq!(store.family("revoked").await.unwrap(), None);
            assert_eq!(store.idps().await.unwrap().len(), count);
            assert_eq!(
                store.keyring().await.unwrap(),
                Some((u64::from(round) + 1, name.into_bytes()))
            );
            assert_eq!(store.audit(None, 9).await.unwrap().len(), count);
            assert!(!store.changes(last).await.unwrap().gap);
        }
    }
}
