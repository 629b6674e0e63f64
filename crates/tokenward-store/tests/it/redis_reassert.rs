//! Writing back what a store on Redis has lost.

use tokenward_core::Timestamp;
use tokenward_store::{Change, Ledger as _, RemovedIdp, Revocation, RevocationRule, StoredIdp, Tombstone};
use tokenward_testkit::{
    RedisServer,
    conformance::{family, revocation, stored_idp},
};

use crate::{
    redis_feed::{kinds, unrevoked},
    redis_ledger::{jti, replica},
};

const SOON: Timestamp = Timestamp::from_secs(100);

fn created(id: &str, at: i64) -> Revocation {
    Revocation {
        created_at: Timestamp::from_millis(at),
        ..jti(id)
    }
}

#[tokio::test]
async fn what_was_lost_is_written_back_and_what_was_deleted_is_not() {
    let server = RedisServer::start();
    let store = replica(&server);
    let known = vec![
        jti("a"),
        Revocation {
            expires_at: Some(SOON),
            note: "ü\0".to_owned(),
            ..jti("b")
        },
        revocation("p", RevocationRule::Parent("p".to_owned())),
    ];
    let first = store.revoke(&known[0]).await.unwrap();
    store.open_family(&family("p", Some(SOON))).await.unwrap();
    assert_eq!(store.assert_revocations(&known).await.unwrap(), 2);
    let all = store.revocations(0, 9).await.unwrap();
    let sequences: Vec<u64> = all.iter().map(|(sequence, _)| *sequence).collect();
    // What was there stays as it was.
    assert_eq!(
        sequences,
        [first.sequence, first.sequence + 1, first.sequence + 2]
    );
    let mut found: Vec<_> = all.into_iter().map(|(_, one)| one).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(found, known);
    assert_eq!(
        store.family("p").await.unwrap(),
        None,
        "a parent's takes its family with it"
    );
    // Once more changes nothing, and tells nobody anything.
    let head = store.changes(0).await.unwrap().head;
    assert_eq!(store.assert_revocations(&known).await.unwrap(), 0);
    assert_eq!(store.changes(0).await.unwrap().head, head);

    let mut longer = known[1].clone();
    longer.expires_at = Some(SOON + std::time::Duration::from_secs(1));
    longer.id = "another".to_owned();
    assert_eq!(store.assert_revocations(&[longer.clone()]).await.unwrap(), 1);
    let grown = store.revocation("b").await.unwrap().unwrap();
    assert_eq!(grown.expires_at, longer.expires_at);
    assert!(store.changes(head).await.unwrap().changes.len() == 1);

    assert!(store.delete_revocation("a").await.unwrap());
    assert_eq!(store.assert_revocations(&known).await.unwrap(), 0);
    assert_eq!(store.revocation("a").await.unwrap(), None);
    // Revoked again after it was deleted, it is another.
    let far = 9_000_000_000_000;
    assert_eq!(store.assert_revocations(&[created("a", far)]).await.unwrap(), 1);
    assert_eq!(store.tombstones().await.unwrap(), []);
    store.delete_revocation("a").await.unwrap();
    assert_eq!(
        store.assert_revocations(&[created("a", far)]).await.unwrap(),
        0,
        "it was deleted after it was made, whoever's clock is behind"
    );
    // Who asks for it gets it, as what was asked for after the deletion, whoever's clock is behind: whoever knows the one and
    // not the other leaves it alone.
    let tombstones = store.tombstones().await.unwrap();
    let again = store.revoke(&known[0]).await.unwrap().effective;
    assert_eq!(again, created("a", far + 1));
    assert_eq!(store.revocation("a").await.unwrap(), Some(again.clone()));
    assert_eq!(store.tombstones().await.unwrap(), []);
    assert_eq!(store.assert_tombstones(&tombstones).await.unwrap(), 0);
    server.flush();
    assert_eq!(store.assert_tombstones(&tombstones).await.unwrap(), 1);
    assert_eq!(store.assert_revocations(&[again]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_record_that_is_not_stored_stops_no_other() {
    let server = RedisServer::start();
    let store = replica(&server);
    store.revoke(&jti("a")).await.unwrap();
    let rule = server.text(&["HKEYS", "{tokenward}:revocations"]);
    server.ask(&["HSET", "{tokenward}:revocations", &rule, "{\"v\":2}"]);
    store.revoke(&jti("b")).await.unwrap();
    let rival = revocation("b", RevocationRule::Kid("k".to_owned()));
    assert_eq!(
        store
            .assert_revocations(&[jti("a"), rival.clone(), jti("c")])
            .await
            .unwrap(),
        1
    );
    assert!(store.revocation("c").await.unwrap().is_some());
    assert_eq!(store.revocation("b").await.unwrap(), Some(jti("b")));
    assert!(
        store
            .revoke(&rival)
            .await
            .unwrap_err()
            .to_string()
            .contains("has the id")
    );
}

#[tokio::test]
async fn tombstones_keep_what_was_deleted_from_coming_back() {
    let server = RedisServer::start();
    let store = replica(&server);
    let subject = Revocation {
        expires_at: Some(SOON),
        ..revocation(
            "s",
            RevocationRule::Subject {
                sub: "ü\0".to_owned(),
                not_before: SOON,
            },
        )
    };
    for one in [&subject, &jti("a")] {
        store.revoke(one).await.unwrap();
        assert!(store.delete_revocation(&one.id).await.unwrap());
    }
    let mut tombstones = store.tombstones().await.unwrap();
    tombstones.sort_by_key(|tombstone| tombstone.expires_at);
    let [forever, ending] = tombstones.as_slice() else {
        panic!("{tombstones:?}");
    };
    assert_eq!((&forever.rule, forever.expires_at), (&jti("a").rule, None));
    assert_eq!((&ending.rule, ending.expires_at), (&subject.rule, Some(SOON)));
    assert!(ending.deleted_at > Timestamp::from_secs(1_700_000_000));

    // Another store learns of them, though it was told of the revocations first.
    server.flush();
    store
        .assert_revocations(&[subject.clone(), jti("a"), jti("b")])
        .await
        .unwrap();
    let head = store.changes(0).await.unwrap().head;
    assert_eq!(store.assert_tombstones(&tombstones).await.unwrap(), 2);
    let told = store.changes(head).await.unwrap().changes;
    assert_eq!(kinds(&told), [&unrevoked(&jti("a")), &unrevoked(&subject)]);
    assert_eq!(store.revocations(0, 9).await.unwrap().len(), 1);
    let mut again = store.tombstones().await.unwrap();
    again.sort_by_key(|tombstone| tombstone.expires_at);
    assert_eq!(again, tombstones);
    assert_eq!(
        store.assert_tombstones(&tombstones).await.unwrap(),
        0,
        "they are known"
    );
    assert_eq!(
        store
            .assert_revocations(&[subject.clone(), jti("a")])
            .await
            .unwrap(),
        0
    );
    // One goes when its record would have ended, the other never.
    assert_eq!(store.prune(SOON).await.unwrap(), 0);
    assert_eq!(store.tombstones().await.unwrap(), std::slice::from_ref(forever));
}

#[tokio::test]
async fn a_tombstone_does_not_undo_what_was_revoked_later() {
    let server = RedisServer::start();
    let store = replica(&server);
    let tombstone = |at: i64| Tombstone {
        issuer: jti("a").issuer,
        rule: jti("a").rule,
        deleted_at: Timestamp::from_millis(at),
        expires_at: None,
    };
    store.revoke(&created("a", 10)).await.unwrap();
    assert_eq!(store.assert_tombstones(&[tombstone(9)]).await.unwrap(), 0);
    // It was asked for again: it says nothing new, but it is not what was deleted before.
    store.revoke(&created("a", 20)).await.unwrap();
    assert_eq!(store.assert_tombstones(&[tombstone(19)]).await.unwrap(), 0);
    assert_eq!(store.revocation("a").await.unwrap(), Some(created("a", 10)));
    assert_eq!(store.assert_tombstones(&[tombstone(20)]).await.unwrap(), 1);
    assert_eq!(store.revocation("a").await.unwrap(), None);
    // Of two tombstones the later counts.
    assert_eq!(store.assert_tombstones(&[tombstone(19)]).await.unwrap(), 0);
    assert_eq!(store.assert_tombstones(&[tombstone(30)]).await.unwrap(), 1);
    assert_eq!(store.assert_revocations(&[created("a", 30)]).await.unwrap(), 0);
    assert_eq!(store.assert_revocations(&[created("a", 31)]).await.unwrap(), 1);
    // One that is damaged is not known to be older.
    let rule = server.text(&["HKEYS", "{tokenward}:revocations"]);
    server.ask(&["HSET", "{tokenward}:revocations", &rule, "{}"]);
    assert_eq!(store.assert_tombstones(&[tombstone(99)]).await.unwrap(), 0);
    // Nor does a damaged tombstone stop those who read.
    server.ask(&["HSET", "{tokenward}:revocations:deleted", "x", "{}"]);
    assert_eq!(store.tombstones().await.unwrap(), []);
}

#[tokio::test]
async fn of_changes_of_idps_the_later_counts() {
    let server = RedisServer::start();
    let store = replica(&server);
    let idp = |at: i64| StoredIdp {
        changed_at: Timestamp::from_millis(at),
        document: format!("{{\"n\":{at}}}"),
        ..stored_idp("t", "a")
    };
    let removed = |at: i64| RemovedIdp {
        tenant: "t".to_owned(),
        name: "a".to_owned(),
        removed_at: Timestamp::from_millis(at),
    };
    store.put_idp(&idp(10), 9).await.unwrap();
    assert_eq!(store.assert_idps(&[idp(9), idp(10)]).await.unwrap(), 0);
    assert_eq!(
        store
            .assert_idps(&[idp(11), stored_idp("u", "new")])
            .await
            .unwrap(),
        2
    );
    assert_eq!(store.idps().await.unwrap(), [idp(11), stored_idp("u", "new")]);
    assert_eq!(store.assert_removed_idps(&[removed(10)]).await.unwrap(), 0);
    assert_eq!(store.idps().await.unwrap().len(), 2);
    assert_eq!(store.assert_removed_idps(&[removed(11)]).await.unwrap(), 1);
    assert_eq!(store.assert_removed_idps(&[removed(11)]).await.unwrap(), 0);
    assert_eq!(store.idps().await.unwrap(), [stored_idp("u", "new")]);
    assert_eq!(store.removed_idps().await.unwrap(), [removed(11)]);
    assert_eq!(store.assert_idps(&[idp(11)]).await.unwrap(), 0);
    assert_eq!(store.assert_idps(&[idp(12)]).await.unwrap(), 1);
    assert_eq!(store.removed_idps().await.unwrap(), []);
    // Removed by somebody whose clock is ahead of the server's, it stays removed.
    let far = 9_000_000_000_000;
    store.put_idp(&idp(far), 9).await.unwrap();
    assert!(store.remove_idp("t", "a").await.unwrap());
    assert_eq!(store.assert_idps(&[idp(far)]).await.unwrap(), 0);
    assert_eq!(store.removed_idps().await.unwrap(), [removed(far)]);
    // Who puts it anew has it, whatever the time.
    store.put_idp(&idp(5), 9).await.unwrap();
    assert_eq!(store.removed_idps().await.unwrap(), []);
    // And what is removed now was removed now.
    assert!(store.remove_idp("t", "a").await.unwrap());
    let at = store.removed_idps().await.unwrap()[0].removed_at;
    let now = store.changes(0).await.unwrap().time;
    assert!(
        now.since(at) < std::time::Duration::from_secs(10) && at <= now,
        "{at} {now}"
    );
}

#[tokio::test]
async fn idps_are_written_back_in_their_order() {
    let server = RedisServer::start();
    let store = replica(&server);
    let idps: Vec<_> = (0..1_000).map(|n| stored_idp("t", &n.to_string())).collect();
    assert_eq!(store.assert_idps(&idps).await.unwrap(), 1_000);
    assert_eq!(store.idps().await.unwrap(), idps);
    // Those who follow are not told of each.
    let told = store.changes(0).await.unwrap().changes;
    assert_eq!(kinds(&told), [&Change::Idps; 5]);
}

#[tokio::test]
async fn a_keyring_is_written_back_over_an_older_one_only() {
    let server = RedisServer::start();
    let store = replica(&server);
    assert!(store.assert_keyring(3, b"three").await.unwrap());
    assert_eq!(store.keyring().await.unwrap(), Some((3, b"three".to_vec())));
    for version in [1, 2, 3] {
        assert!(!store.assert_keyring(version, b"old").await.unwrap());
    }
    assert!(store.assert_keyring(10, b"ten").await.unwrap());
    assert!(store.put_keyring(10, b"next").await.unwrap());
    assert_eq!(store.keyring().await.unwrap(), Some((11, b"next".to_vec())));
    let told = store.changes(0).await.unwrap().changes;
    assert_eq!(kinds(&told), [&Change::Keyring; 3]);
}

#[tokio::test]
async fn a_marker_is_set_in_the_place_of_the_one_that_was_seen() {
    let server = RedisServer::start();
    let store = replica(&server);
    assert!(!store.set_generation(Some("a"), "b").await.unwrap());
    assert!(store.set_generation(None, "a").await.unwrap());
    assert!(!store.set_generation(None, "b").await.unwrap());
    assert!(store.set_generation(Some("a"), "b").await.unwrap());
    assert_eq!(store.changes(0).await.unwrap().generation.as_deref(), Some("b"));
}

#[tokio::test]
async fn of_removed_idps_the_newest_hundred_thousand_are_known() {
    let server = RedisServer::start();
    let store = replica(&server);
    let fill = "for i = 1, 100000 do redis.call('ZADD', KEYS[1], i, '1:t' .. i) end";
    server.ask(&["EVAL", fill, "1", "{tokenward}:idps:removed"]);
    store.put_idp(&stored_idp("t", "a"), 9).await.unwrap();
    assert!(store.remove_idp("t", "a").await.unwrap());
    let removed = store.removed_idps().await.unwrap();
    assert_eq!(removed.len(), 100_000);
    assert_eq!(removed.first().map(|idp| idp.name.as_str()), Some("2"));
    assert_eq!(removed.last().map(|idp| idp.name.as_str()), Some("a"));
}
