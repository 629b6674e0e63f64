//! Replicas with journals of their own on one Redis.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokenward_core::{Clock as _, Timestamp};
use tokenward_store::{
    Followed, Ledger as _, News, Redis, RedisOptions, Replicated, Revocation, RevocationRule, Snapshots as _,
    Standing, StoreErrorKind, StoredIdp,
};
use tokenward_testkit::{
    ManualClock, Program, RealClock, RedisServer,
    conformance::{self, revocation, snapshot, stored_idp},
};

/// Records that are written back, where `scripts/soak reassert` does not say how many.
const RECORDS: usize = 10_000;

#[expect(clippy::disallowed_methods, reason = "a long run says how many")]
fn records() -> usize {
    std::env::var("TOKENWARD_REASSERTED").map_or(RECORDS, |records| records.parse().unwrap())
}

fn shared(server: &RedisServer) -> Redis {
    Redis::new(RedisOptions::new(server.url()), Arc::new(RealClock)).unwrap()
}

fn replica(server: &RedisServer, journal: &Path) -> Replicated {
    Replicated::open(shared(server), journal, Arc::new(RealClock)).unwrap()
}

/// A replica with a new journal, which lives as long as what comes with it.
fn new_replica(server: &RedisServer) -> (Replicated, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (replica(server, directory.path()), directory)
}

fn jti(id: &str) -> Revocation {
    Revocation {
        created_at: RealClock.wall(),
        ..revocation(id, RevocationRule::Jti(format!("jti of {id}")))
    }
}

/// One poll, and the ids of the revocations that it brought.
async fn follow(replica: &Replicated) -> (Followed, Vec<String>) {
    let heard = Mutex::new(Vec::new());
    let followed = replica
        .follow(&|records| {
            let ids = records.iter().map(|record| record.id.clone());
            heard.lock().unwrap().extend(ids);
        })
        .await
        .unwrap();
    let mut heard = heard.into_inner().unwrap();
    heard.sort();
    heard.dedup();
    (followed, heard)
}

fn idp(name: &str, changed_at: Timestamp) -> StoredIdp {
    StoredIdp {
        changed_at,
        ..stored_idp("default", name)
    }
}

async fn names(replica: &Replicated) -> Vec<String> {
    let idps = replica.idps().await.unwrap();
    idps.into_iter().map(|idp| idp.name).collect()
}

#[tokio::test]
async fn a_replica_conforms() {
    let server = RedisServer::start();
    let (replica, _journal) = new_replica(&server);
    conformance::snapshots(&replica).await;
    conformance::ledger(&replica).await;
    conformance::tokens(&replica).await;
}

#[tokio::test]
async fn what_one_changes_the_others_hear_of_and_keep() {
    let server = RedisServer::start();
    let ((one, _first), (two, journal)) = (new_replica(&server), new_replica(&server));
    for replica in [&one, &two] {
        let (followed, _) = follow(replica).await;
        assert!(followed.reconciled.is_some() && !followed.is_complete);
    }
    let now = RealClock.wall();
    one.revoke(&jti("a")).await.unwrap();
    one.put_idp(&idp("x", now), 10).await.unwrap();
    one.put_idp(&idp("y", now), 10).await.unwrap();
    assert!(one.put_keyring(0, b"sealed").await.unwrap());
    let (followed, heard) = follow(&two).await;
    assert_eq!((heard, followed.reconciled), (vec!["a".to_owned()], None));
    assert_eq!(followed.news, [News::Idps, News::Keyring]);
    assert_eq!(names(&two).await, ["x", "y"]);
    assert_eq!(two.keyring().await.unwrap(), Some((1, b"sealed".to_vec())));
    assert_eq!(two.journal().revocations(0, 9).await.unwrap().len(), 1);
    // It knows it by itself, without the store.
    drop(server);
    assert_eq!(names(&two).await, ["x", "y"]);
    assert!(two.revoke(&jti("b")).await.is_err());
    let path = journal.path().to_owned();
    drop(two);
    let server = RedisServer::start();
    let again = replica(&server, &path);
    assert_eq!(again.journal().revocations(0, 9).await.unwrap()[0].1.id, "a");
    assert!(!again.is_connected());
    // A new store has nothing: it is given all of it.
    let (followed, heard) = follow(&again).await;
    assert_eq!((followed.reconciled, heard.len()), (Some(4), 0));
    let store = shared(&server);
    assert_eq!(store.revocation("a").await.unwrap().unwrap().id, "a");
    assert_eq!(store.idps().await.unwrap().len(), 2);
    assert_eq!(store.keyring().await.unwrap(), Some((1, b"sealed".to_vec())));
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_whatever_others_still_have() {
    let server = RedisServer::start();
    let ((one, _first), (two, _second)) = (new_replica(&server), new_replica(&server));
    let now = RealClock.wall();
    for id in ["gone", "kept"] {
        one.revoke(&jti(id)).await.unwrap();
        one.put_idp(&idp(id, now), 10).await.unwrap();
    }
    follow(&one).await;
    follow(&two).await;
    // The other one hears nothing of it.
    assert!(one.delete_revocation("gone").await.unwrap());
    assert!(one.remove_idp("default", "gone").await.unwrap());
    follow(&one).await;
    server.flush();
    // It comes first, and brings back what it has.
    follow(&two).await;
    assert_eq!(names(&two).await, ["gone", "kept"]);
    let (followed, _) = follow(&one).await;
    assert!(
        followed.reconciled.is_some_and(|written| written >= 2),
        "{followed:?}"
    );
    let (followed, _) = follow(&two).await;
    let rule = RevocationRule::Jti("jti of gone".to_owned());
    let issuer = jti("gone").issuer;
    let unrevoked = News::Unrevoked {
        issuer: issuer.clone(),
        rule: rule.clone(),
    };
    assert!(
        followed.news.contains(&unrevoked) && followed.news.contains(&News::Idps),
        "{followed:?}"
    );
    assert_eq!(two.forget(&issuer, &rule).await.unwrap(), None);
    for replica in [&one, &two] {
        assert_eq!(names(replica).await, ["kept"]);
        let left = replica.journal().revocations(0, 9).await.unwrap();
        assert_eq!(
            left.iter().map(|(_, record)| &*record.id).collect::<Vec<_>>(),
            ["kept"]
        );
    }
    // What is made anew is none that was deleted, and nobody forgets it.
    two.revoke(&jti("gone")).await.unwrap();
    two.put_idp(&idp("gone", RealClock.wall()), 10).await.unwrap();
    assert!(one.forget(&issuer, &rule).await.unwrap().is_some());
    server.flush();
    follow(&one).await;
    follow(&two).await;
    let (_, heard) = follow(&one).await;
    assert!(heard.contains(&"gone".to_owned()), "{heard:?}");
    assert_eq!(names(&one).await, ["kept", "gone"]);
}

#[tokio::test]
async fn of_two_versions_the_later_one_wins_and_a_record_only_grows() {
    let server = RedisServer::start();
    let ((one, _first), (two, _second)) = (new_replica(&server), new_replica(&server));
    follow(&one).await;
    follow(&two).await;
    let subject = |id: &str, secs: i64| {
        let rule = RevocationRule::Subject {
            sub: "u".to_owned(),
            not_before: Timestamp::from_secs(secs),
        };
        revocation(id, rule)
    };
    let now = RealClock.wall();
    one.put_idp(&idp("x", now), 10).await.unwrap();
    one.revoke(&subject("early", 100)).await.unwrap();
    assert!(one.put_keyring(0, b"first").await.unwrap());
    follow(&two).await;
    // What the first one does from here is lost with the store, but for its own journal.
    let later = StoredIdp {
        document: "{\"later\":true}".to_owned(),
        ..idp("x", now + Duration::from_secs(1))
    };
    one.put_idp(&later, 10).await.unwrap();
    one.revoke(&subject("late", 200)).await.unwrap();
    assert!(one.put_keyring(1, b"second").await.unwrap());
    server.flush();
    follow(&two).await;
    let (followed, _) = follow(&one).await;
    assert!(
        followed.reconciled.is_some(),
        "another one marked the store: it may lack something"
    );
    let (followed, heard) = follow(&two).await;
    assert_eq!((heard.len(), followed.news), (1, vec![News::Idps, News::Keyring]));
    assert_eq!(two.idps().await.unwrap(), [later]);
    assert_eq!(two.keyring().await.unwrap(), Some((2, b"second".to_vec())));
    let (_, record) = two.journal().revocations(0, 9).await.unwrap().remove(0);
    assert_eq!(record.rule, subject("", 200).rule);
}

#[tokio::test]
async fn who_comes_new_waits_a_while_and_who_has_joined_stays_so() {
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::with(Program::Redis, &kept);
    let (one, _first) = new_replica(&server);
    assert!(matches!(one.standing(), Standing::Joining { .. }) && !one.is_connected());
    let started = RealClock.steady();
    while !follow(&one).await.0.is_complete {
        let Standing::Joining { why } = one.standing() else {
            panic!()
        };
        assert!(why.contains("other replicas"), "{why}");
        RealClock.sleep(Duration::from_millis(100)).await;
    }
    let waited = RealClock.steady().since(started);
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(7),
        "{waited:?}"
    );
    // The store is known by now: nobody else waits.
    let (two, _second) = new_replica(&server);
    assert!(follow(&two).await.0.is_complete);
    assert_eq!(two.standing(), Standing::Joined);
    // One that was started anew may have lost something.
    server.start_again();
    let followed = loop {
        match two.follow(&|_| {}).await {
            Ok(followed) => break followed,
            Err(_) => assert!(!two.is_connected()),
        }
        RealClock.sleep(Duration::from_millis(50)).await;
    };
    assert!(followed.reconciled.is_some(), "{followed:?}");
    assert_eq!(two.standing(), Standing::Joined);
    let (three, _third) = new_replica(&server);
    assert!(!follow(&three).await.0.is_complete);
    server.kill();
    assert!(three.follow(&|_| {}).await.is_err());
    let Standing::Joining { why } = three.standing() else {
        panic!()
    };
    assert!(why.contains("127.0.0.1"), "{why}");
}

#[tokio::test]
async fn key_sets_are_shared_and_kept() {
    let server = RedisServer::start();
    let ((one, _first), (two, _second)) = (new_replica(&server), new_replica(&server));
    one.put(&snapshot("t", "a")).await.unwrap();
    assert_eq!(two.get("t", "a").await.unwrap(), Some(snapshot("t", "a")));
    assert_eq!(two.load_all().await.unwrap(), [snapshot("t", "a")]);
    assert!(one.is_shared());
    drop(server);
    assert_eq!(one.load_all().await.unwrap(), [snapshot("t", "a")], "its own");
    assert!(two.load_all().await.unwrap().is_empty());
    one.put(&snapshot("t", "b")).await.unwrap();
    assert_eq!(one.load_all().await.unwrap().len(), 2);
}

#[tokio::test]
async fn ten_thousand_changes_are_told_and_a_gap_is_noticed() {
    let server = RedisServer::start();
    let ((one, _first), (two, _second)) = (new_replica(&server), new_replica(&server));
    follow(&one).await;
    follow(&two).await;
    let store = shared(&server);
    let records: Vec<_> = (0..12_000).map(|n| jti(&format!("r{n}"))).collect();
    assert_eq!(store.assert_revocations(&records).await.unwrap(), 12_000);
    let (_, heard) = follow(&two).await;
    assert_eq!(heard.len(), 12_000);
    // What was announced is gone before it was heard.
    store.revoke(&jti("last")).await.unwrap();
    server.ask(&["XTRIM", "{tokenward}:feed", "MAXLEN", "0"]);
    let (followed, heard) = follow(&one).await;
    assert!(followed.reconciled.is_some());
    assert_eq!(heard.len(), 12_001);
    assert!(followed.news.contains(&News::Children));
}

#[tokio::test]
async fn what_a_store_lost_is_there_again_within_five_seconds() {
    let server = RedisServer::start();
    let ((one, _first), (two, _second)) = (new_replica(&server), new_replica(&server));
    follow(&one).await;
    follow(&two).await;
    let count = records();
    let records: Vec<_> = (0..count).map(|n| jti(&format!("r{n}"))).collect();
    assert_eq!(shared(&server).assert_revocations(&records).await.unwrap(), count);
    for replica in [&one, &two] {
        while replica.journal().revocations(0, usize::MAX).await.unwrap().len() < count {
            follow(replica).await;
        }
    }
    server.flush();
    let begin = RealClock.steady();
    let ((first, _), (second, _)) = tokio::join!(follow(&one), follow(&two));
    let took = RealClock.steady().since(begin);
    let written = [&first, &second].map(|followed| followed.reconciled.unwrap_or_default());
    println!("{count} records are there again after {took:?}, written back by two replicas: {written:?}");
    assert_eq!(
        shared(&server).revocations(0, usize::MAX).await.unwrap().len(),
        count
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_removal_that_nobody_else_heard_of_survives_the_loss_of_the_store() {
    let server = RedisServer::start();
    let ((one, _one), (two, _two)) = (new_replica(&server), new_replica(&server));
    one.put_idp(&idp("gone", RealClock.wall()), 10).await.unwrap();
    one.put_idp(&idp("kept", RealClock.wall()), 10).await.unwrap();
    for replica in [&one, &two] {
        follow(replica).await;
    }
    assert!(one.remove_idp("default", "gone").await.unwrap());
    server.flush();
    // The one that knows it still writes it back, until the other one comes.
    follow(&two).await;
    for _ in 0..2 {
        for replica in [&one, &two] {
            follow(replica).await;
        }
    }
    for replica in [&one, &two] {
        assert_eq!(names(replica).await, ["kept"]);
    }
    assert_eq!(shared(&server).idps().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_changed_is_told_though_the_poll_that_brought_it_fails() {
    let server = RedisServer::start();
    let ((one, _one), (two, _two)) = (new_replica(&server), new_replica(&server));
    for replica in [&one, &two] {
        follow(replica).await;
    }
    one.put_idp(&idp("new", RealClock.wall()), 10).await.unwrap();
    assert!(one.put_keyring(0, b"a ring").await.unwrap());
    let key = "{tokenward}:keyring";
    let ring = server.text(&["HGET", key, "value"]);
    server.ask(&["HSET", key, "value", "rubbish"]);
    assert!(two.follow(&|_| {}).await.is_err());
    server.ask(&["HSET", key, "value", &ring]);
    let (followed, _) = follow(&two).await;
    assert!(
        followed.news.contains(&News::Idps) && followed.news.contains(&News::Keyring),
        "{followed:?}"
    );
}

#[tokio::test]
async fn a_store_that_has_less_than_it_had_is_compared_by_all() {
    let server = RedisServer::start();
    let ((one, _one), (two, _two)) = (new_replica(&server), new_replica(&server));
    for id in ["a", "b", "c"] {
        one.revoke(&jti(id)).await.unwrap();
    }
    for replica in [&one, &two] {
        follow(replica).await;
    }
    let meta = "{tokenward}:meta";
    server.ask(&["HSET", meta, "sequence", "1"]);
    assert!(follow(&one).await.0.reconciled.is_some());
    // By now it has more than the other one knew.
    for n in 0..9 {
        one.revoke(&jti(&format!("later {n}"))).await.unwrap();
    }
    assert!(follow(&two).await.0.reconciled.is_some());
}

#[tokio::test]
async fn providers_that_the_store_lost_are_not_taken_for_removed() {
    let server = RedisServer::start();
    let (one, _one) = new_replica(&server);
    one.put_idp(&idp("kept", RealClock.wall()), 10).await.unwrap();
    follow(&one).await;
    // Lost between two steps of a poll: the marker is still the one that is known.
    server.ask(&["DEL", "{tokenward}:idps", "{tokenward}:idps:order"]);
    shared(&server)
        .put_idp(&idp("other", RealClock.wall()), 10)
        .await
        .unwrap();
    follow(&one).await;
    let mut known = names(&one).await;
    known.sort();
    assert_eq!(known, ["kept", "other"]);
}

#[tokio::test]
async fn what_is_revoked_again_is_not_taken_for_what_was_deleted() {
    let server = RedisServer::start();
    let (one, _one) = new_replica(&server);
    // By their own clocks they hear of the deletion an hour later than it was.
    let hour = Duration::from_secs(3_600);
    let ahead = || {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(RealClock.wall() + hour));
        let replica = Replicated::open(shared(&server), directory.path(), clock).unwrap();
        (replica, directory)
    };
    let ((deletes, _deletes), (hears, _hears)) = (ahead(), ahead());
    let former = jti("former");
    one.revoke(&former).await.unwrap();
    for replica in [&one, &deletes, &hears] {
        follow(replica).await;
    }
    assert!(deletes.delete_revocation("former").await.unwrap());
    assert_eq!(hears.forget(&former.issuer, &former.rule).await.unwrap(), None);
    // By a clock that is behind it is revoked again, and nobody else hears of that.
    let again = Revocation {
        id: "again".to_owned(),
        created_at: RealClock.wall() - hour,
        ..former.clone()
    };
    let revoked = one.revoke(&again).await.unwrap().effective;
    assert!(revoked.created_at > former.created_at);
    let (_, kept) = one.journal().revocations(0, 9).await.unwrap().remove(0);
    assert_eq!(kept, revoked);
    server.flush();
    for replica in [&deletes, &hears, &one, &deletes, &hears] {
        follow(replica).await;
    }
    assert_eq!(
        shared(&server).revocation("again").await.unwrap(),
        Some(revoked.clone())
    );
    for replica in [&deletes, &hears, &one] {
        let (_, kept) = replica.journal().revocations(0, 9).await.unwrap().remove(0);
        assert_eq!(kept, revoked);
    }
}

#[tokio::test]
async fn keys_are_not_changed_before_others_have_written_back_what_the_store_lost() {
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::with(Program::Redis, &kept);
    let (one, _one) = new_replica(&server);
    follow(&one).await;
    assert!(one.put_keyring(0, b"first").await.unwrap());
    // It is another run, which may have lost something, though nobody has noticed yet.
    server.start_again();
    // The connections ended while nobody waited for anything.
    RealClock.sleep(Duration::from_millis(100)).await;
    let refused = one.put_keyring(1, b"second").await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert!(refused.to_string().contains("started anew"), "{refused}");
    let started = RealClock.steady();
    while one.follow(&|_| {}).await.is_err() {
        RealClock.sleep(Duration::from_millis(50)).await;
    }
    let refused = one.put_keyring(1, b"second").await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert!(refused.to_string().contains("write back"), "{refused}");
    assert_eq!(one.keyring().await.unwrap(), Some((1, b"first".to_vec())));
    while one.put_keyring(1, b"second").await.is_err() {
        RealClock.sleep(Duration::from_millis(100)).await;
        follow(&one).await;
    }
    let waited = RealClock.steady().since(started);
    let seconds = Duration::from_secs;
    assert!(waited >= seconds(5) && waited < seconds(8), "{waited:?}");
    assert_eq!(one.keyring().await.unwrap(), Some((2, b"second".to_vec())));
}

#[tokio::test]
async fn a_keyring_that_took_the_place_of_one_that_the_store_lost_is_told_of() {
    let server = RedisServer::start();
    let (one, _one) = new_replica(&server);
    follow(&one).await;
    assert!(one.put_keyring(0, b"first").await.unwrap());
    assert!(one.put_keyring(1, b"lost").await.unwrap());
    server.flush();
    // Whoever had the first one went on with it, while this replica was away.
    let store = shared(&server);
    assert!(store.assert_keyring(1, b"first").await.unwrap());
    assert!(store.put_keyring(1, b"kept").await.unwrap());
    let (followed, _) = follow(&one).await;
    assert!(followed.news.contains(&News::Keyring), "{followed:?}");
    let kept = Some((2, b"kept".to_vec()));
    assert_eq!(one.keyring().await.unwrap(), kept);
    assert_eq!(store.keyring().await.unwrap(), kept);
}
