//! Following a store on Redis.

use tokenward_core::Timestamp;
use tokenward_store::{Change, Ledger as _, Revocation};
use tokenward_testkit::{
    RedisServer,
    conformance::{child, family, origin, stored_idp},
};

use crate::redis_ledger::{jti, replica};

const SOON: Timestamp = Timestamp::from_secs(100);

pub(crate) fn kinds(changes: &[(u64, Change)]) -> Vec<&Change> {
    changes.iter().map(|(_, change)| change).collect()
}

pub(crate) fn unrevoked(of: &Revocation) -> Change {
    Change::Unrevoked {
        issuer: of.issuer.clone(),
        rule: of.rule.clone(),
    }
}

#[tokio::test]
async fn every_change_is_told_in_its_order() {
    let server = RedisServer::start();
    let (store, other) = (replica(&server), replica(&server));
    let empty = other.changes(0).await.unwrap();
    assert_eq!(
        (empty.head, empty.next, empty.gap, empty.changes.len()),
        (0, 0, false, 0)
    );
    assert_eq!(empty.generation, None);
    assert!(
        empty.time > Timestamp::from_secs(1_700_000_000),
        "{:?}",
        empty.time
    );
    let info = server.text(&["INFO", "server"]);
    assert!(
        info.contains(&format!("run_id:{}", empty.run_id)),
        "{}",
        empty.run_id
    );

    assert!(store.set_generation(None, "one").await.unwrap());
    store.open_family(&family("p", Some(SOON))).await.unwrap();
    store.revoke(&jti("a")).await.unwrap();
    store.revoke(&jti("a")).await.unwrap(); // nothing changes
    store.put_idp(&stored_idp("t", "a"), 9).await.unwrap();
    store.put_idp(&stored_idp("t", "b"), 1).await.unwrap(); // full
    store
        .record_child("p", &origin(), 0, &child("c"), None)
        .await
        .unwrap();
    store
        .record_child("p", &origin(), 0, &child("d"), None)
        .await
        .unwrap(); // behind
    store.put_keyring(0, b"key").await.unwrap();
    store.put_keyring(0, b"rival").await.unwrap(); // refused
    store.delete_revocation("a").await.unwrap();
    store.delete_revocation("a").await.unwrap(); // gone
    store.remove_idp("t", "a").await.unwrap();
    store.remove_idp("t", "a").await.unwrap(); // gone
    let feed = other.changes(0).await.unwrap();
    let wanted = [
        Change::Revoked,
        Change::Idps,
        Change::Child {
            parent_jti: "p".to_owned(),
            sequence: 1,
        },
        Change::Keyring,
        unrevoked(&jti("a")),
        Change::Idps,
    ];
    assert_eq!(kinds(&feed.changes), wanted.iter().collect::<Vec<_>>());
    assert!(feed.changes.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(feed.generation.as_deref(), Some("one"));
    assert!(!feed.gap);
    let last = feed.changes.last().unwrap().0;
    assert_eq!((feed.head, feed.next), (last, last));
    assert_eq!(other.changes(feed.next).await.unwrap().changes, []);
    let (middle, _) = feed.changes[2];
    let rest = other.changes(middle).await.unwrap();
    assert_eq!(rest.changes, feed.changes[3..]);

    // A revocation that is told can be read from where one is.
    let revoked = store.revoke(&jti("b")).await.unwrap();
    let feed = other.changes(feed.next).await.unwrap();
    assert_eq!(feed.changes, [(revoked.sequence, Change::Revoked)]);
    assert_eq!(
        store.revocations(last, 9).await.unwrap(),
        [(revoked.sequence, jti("b"))]
    );
    server.flush();
    let feed = other.changes(feed.next).await.unwrap();
    assert_eq!((feed.head, feed.generation), (0, None));
}

#[tokio::test]
async fn whoever_misses_something_is_told() {
    let server = RedisServer::start();
    let store = replica(&server);
    let mut sequences = vec![0];
    for id in ["a", "b", "c"] {
        // Sequences are not without gaps: these are two.
        store
            .assert_revocations(&[jti(id), jti(&format!("{id}{id}"))])
            .await
            .unwrap();
        sequences.push(store.changes(0).await.unwrap().head);
    }
    assert_eq!(sequences, [0, 2, 4, 6]);
    for after in 0..=6 {
        assert!(!store.changes(after).await.unwrap().gap, "{after}");
    }
    server.ask(&["XTRIM", "{tokenward}:feed", "MAXLEN", "=", "2"]);
    for (after, gap, told) in [
        (0, true, 2),
        (1, true, 2),
        (2, false, 2),
        (3, false, 2),
        (4, false, 1),
        (6, false, 0),
    ] {
        let feed = store.changes(after).await.unwrap();
        assert_eq!((feed.gap, feed.changes.len()), (gap, told), "{after}");
    }
    server.ask(&["DEL", "{tokenward}:feed"]);
    for (after, gap) in [(4, true), (5, true), (6, false)] {
        assert_eq!(store.changes(after).await.unwrap().gap, gap, "{after}");
    }
    // What nobody understands may be anything.
    store.revoke(&jti("d")).await.unwrap();
    server.ask(&[
        "XADD",
        "{tokenward}:feed",
        "8-0",
        "former",
        "7",
        "kind",
        "unheard",
    ]);
    assert!(store.changes(6).await.unwrap().gap);
}

#[tokio::test]
async fn the_feed_is_bounded_and_told_in_pages() {
    let server = RedisServer::start();
    let store = replica(&server);
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], i .. '-0', 'former', i - 1, 'kind', 'idps') end \
                redis.call('HSET', KEYS[2], 'sequence', ARGV[1], 'announced', ARGV[1])";
    server.ask(&[
        "EVAL",
        fill,
        "2",
        "{tokenward}:feed",
        "{tokenward}:meta",
        "100500",
    ]);
    let feed = store.changes(0).await.unwrap();
    assert_eq!(
        (feed.changes.len(), feed.next, feed.head),
        (10_000, 10_000, 100_500)
    );
    let feed = store.changes(100_400).await.unwrap();
    assert_eq!((feed.changes.len(), feed.next), (100, 100_500));
    store.revoke(&jti("a")).await.unwrap();
    let length: u32 = server.text(&["XLEN", "{tokenward}:feed"]).parse().unwrap();
    assert!((100_000..100_200).contains(&length), "{length}");
    assert!(store.changes(0).await.unwrap().gap);
    assert!(!store.changes(1000).await.unwrap().gap);
}

#[tokio::test]
async fn the_feed_begins_anew_where_the_counter_is_lost() {
    let server = RedisServer::start();
    let store = replica(&server);
    for id in ["a", "b"] {
        store.revoke(&jti(id)).await.unwrap();
    }
    server.ask(&["DEL", "{tokenward}:meta"]);
    store.revoke(&jti("c")).await.unwrap();
    let feed = store.changes(0).await.unwrap();
    assert_eq!((feed.head, feed.changes), (1, vec![(1, Change::Revoked)]));
    assert!(store.revocation("c").await.unwrap().is_some());
}
