use std::pin::pin;

use futures_util::{FutureExt as _, future::FusedFuture as _};
use serde_json::{Value, json};
use tokenward_core::{Denial, claims::Claims};
use tokenward_store::{Memory, Sqlite};
use tokenward_testkit::ManualClock;
use tokio::task::JoinSet;

use super::*;

const ISS: &str = "https://idp.example";
const DAY: Duration = Duration::from_secs(86_400);

async fn started(ledger: &Arc<Memory>, clock: &ManualClock) -> Revocations {
    Revocations::load(Arc::clone(ledger) as _, Arc::new(clock.clone()))
        .await
        .unwrap()
}

fn order(target: Target) -> Order {
    Order {
        longest: Some(DAY * 30),
        ..Order::own(ISS, target)
    }
}

fn token(jti: &str) -> Order {
    order(Target::Token(jti.to_owned()))
}

fn judged(revocations: &Revocations, claims: &Value) -> Result<(), Denial> {
    let index = revocations.index();
    let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
    index.check(&index.marks(ISS, &claims, Some("k")))
}

async fn ids(revocations: &Revocations) -> Vec<String> {
    let page = revocations.page(0, 100).await.unwrap();
    page.into_iter().map(|(_, record)| record.id).collect()
}

/// Lets `revocations` forget for `time`.
async fn forgetting(revocations: &Revocations, clock: &ManualClock, time: Duration) {
    let mut tasks = JoinSet::new();
    tasks.spawn(revocations.clone().keep_pruning());
    clock.run_for(time).await;
    tasks.shutdown().await;
}

#[tokio::test]
async fn each_target_is_refused_at_once_and_after_a_restart_until_it_is_deleted() {
    let clock = ManualClock::default();
    let now = clock.wall();
    let claims = json!({"jti": "t", "sub": "u", "sid": "s", "iat": now.as_secs()});
    for (target, denial) in [
        (Target::Token("t".into()), Denial::TokenRevoked),
        (Target::Subject("u".into()), Denial::SubjectRevoked),
        (Target::Session("s".into()), Denial::SubjectRevoked),
        (Target::Key("k".into()), Denial::KeyRevoked),
        (
            Target::IssuedBefore(now + Duration::from_millis(1)),
            Denial::IssuerRevoked,
        ),
    ] {
        let ledger = Arc::new(Memory::new());
        let revocations = started(&ledger, &clock).await;
        assert_eq!(judged(&revocations, &claims), Ok(()));
        let record = revocations.revoke(order(target)).await.unwrap();
        assert_eq!(judged(&revocations, &claims), Err(denial));
        let revocations = started(&ledger, &clock).await;
        assert_eq!(judged(&revocations, &claims), Err(denial));
        assert_eq!(revocations.get(&record.id).await.unwrap(), Some(record.clone()));
        assert!(revocations.delete(&record.id).await.unwrap());
        assert_eq!(judged(&revocations, &claims), Ok(()));
        assert!(!revocations.delete(&record.id).await.unwrap());
        let revocations = started(&ledger, &clock).await;
        assert_eq!(judged(&revocations, &claims), Ok(()));
    }
}

#[tokio::test]
async fn a_subject_of_an_issuer_whose_clock_is_ahead_is_refused_as_far_as_that_is_forgiven() {
    let clock = ManualClock::default();
    let revocations = started(&Arc::new(Memory::new()), &clock).await;
    let order = Order {
        leeway: Duration::from_secs(60),
        ..order(Target::Subject("u".into()))
    };
    revocations.revoke(order).await.unwrap();
    let issued_at = |iat: i64| judged(&revocations, &json!({ "sub": "u", "iat": iat }));
    let last = clock.wall().as_secs() + 60;
    assert_eq!(issued_at(last), Err(Denial::SubjectRevoked));
    assert_eq!(issued_at(last + 1), Ok(()));
}

#[tokio::test]
async fn issued_before_is_the_first_time_that_is_accepted() {
    let clock = ManualClock::default();
    let ledger = Arc::new(Memory::new());
    let revocations = started(&ledger, &clock).await;
    let secs = clock.wall().as_secs();
    let first = Target::IssuedBefore(Timestamp::from_secs(secs));
    let record = revocations.revoke(order(first)).await.unwrap();
    let RevocationRule::IssuedBefore(latest) = record.rule else {
        panic!("{record:?}");
    };
    assert_eq!(issued_before(latest), Timestamp::from_secs(secs));
    for revocations in [revocations, started(&ledger, &clock).await] {
        assert_eq!(judged(&revocations, &json!({ "iat": secs })), Ok(()));
        let before = json!({ "iat": secs - 1 });
        assert_eq!(judged(&revocations, &before), Err(Denial::IssuerRevoked));
    }
}

#[tokio::test]
async fn a_record_lives_as_long_as_what_it_names_may() {
    let clock = ManualClock::default();
    let (now, ledger) = (clock.wall(), Arc::new(Memory::new()));
    let revocations = started(&ledger, &clock).await;
    let leeway = Duration::from_secs(300);
    let known = Order {
        expires_at: Some(now + DAY),
        ..token("known")
    };
    let unlimited = Order {
        longest: None,
        ..token("unlimited")
    };
    for (order, kept_until) in [
        (known, Some(now + DAY + leeway)),
        (token("unknown"), Some(now + DAY * 30 + leeway)),
        (unlimited, None),
        (order(Target::Key("other".into())), None),
    ] {
        let record = revocations.revoke(order).await.unwrap();
        assert_eq!(record.expires_at, kept_until, "{record:?}");
    }
    // Once more, for less: the life and the id stay.
    let first = ids(&revocations).await;
    let shorter = Order {
        expires_at: Some(now + DAY),
        ..token("unknown")
    };
    let again = revocations.revoke(shorter).await.unwrap();
    assert_eq!(again.expires_at, Some(now + DAY * 30 + leeway));
    assert_eq!(ids(&revocations).await, first);

    let alive = |revocations: &Revocations| {
        ["known", "unknown", "unlimited"].map(|jti| judged(revocations, &json!({ "jti": jti })).is_err())
    };
    forgetting(&revocations, &clock, DAY).await;
    assert_eq!(alive(&revocations), [true; 3]);
    forgetting(&revocations, &clock, DAY).await;
    assert_eq!(alive(&revocations), [false, true, true]);
    forgetting(&revocations, &clock, DAY * 29).await;
    assert_eq!(alive(&revocations), [false, false, true]);
    assert_eq!(
        ids(&revocations).await.len(),
        2,
        "the store has forgotten them too"
    );
}

#[tokio::test]
async fn a_start_with_the_clock_far_ahead_forgets_nothing() {
    let clock = ManualClock::default();
    let ledger = Arc::new(Memory::new());
    let first = started(&ledger, &clock).await;
    first.revoke(token("a")).await.unwrap();
    forgetting(&first, &clock, PRUNING).await;
    drop(first);
    let right = clock.wall();
    for _ in 0..3 {
        // As another process does that starts with such a clock.
        let ahead = ManualClock::new(right + DAY * 1_000);
        let revocations = started(&ledger, &ahead).await;
        forgetting(&revocations, &ahead, DAY).await;
        assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
        assert_eq!(ids(&revocations).await.len(), 1);
    }
    let right = ManualClock::new(right + DAY * 3);
    let revocations = started(&ledger, &right).await;
    forgetting(&revocations, &right, DAY * 26).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
    forgetting(&revocations, &right, DAY * 2).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_ok());
    assert_eq!(ids(&revocations).await.len(), 0);
}

#[tokio::test]
async fn a_young_store_forgets_nothing_by_a_clock_that_is_ahead() {
    let ledger = Arc::new(Memory::new());
    let clock = ManualClock::default();
    let first = started(&ledger, &clock).await;
    assert_eq!(ledger.pruned_at().await.unwrap(), Some(clock.wall()));
    first.revoke(token("a")).await.unwrap();
    drop(first);
    let ahead = ManualClock::new(clock.wall() + DAY * 40);
    let revocations = started(&ledger, &ahead).await;
    forgetting(&revocations, &ahead, DAY).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
    assert_eq!(ids(&revocations).await.len(), 1);
}

#[tokio::test]
async fn a_store_that_never_forgot_goes_by_its_latest_record() {
    // As one of a version before.
    let ledger = Arc::new(Memory::new());
    let clock = ManualClock::default();
    let now = clock.wall();
    let record = |jti: &str, created_at| Revocation {
        id: jti.to_owned(),
        issuer: ISS.to_owned(),
        rule: RevocationRule::Jti(jti.to_owned()),
        expires_at: Some(created_at + DAY * 30),
        created_at,
        note: String::new(),
    };
    for (jti, created_at) in [("over", now - DAY * 31), ("last", now), ("other", now - DAY)] {
        ledger.revoke(&record(jti, created_at)).await.unwrap();
    }
    let ahead = ManualClock::new(now + DAY * 40);
    let revocations = started(&ledger, &ahead).await;
    assert_eq!(ledger.pruned_at().await.unwrap(), Some(now));
    forgetting(&revocations, &ahead, PRUNING).await;
    assert_eq!(ids(&revocations).await, ["last", "other"]);
}

#[tokio::test]
async fn a_look_at_a_clock_that_is_behind_does_not_end_the_forgetting() {
    let ledger = Arc::new(Memory::new());
    let clock = ManualClock::default();
    let right = clock.wall();
    let revocations = started(&ledger, &clock).await;
    revocations.revoke(token("a")).await.unwrap();
    clock.set_wall(right - DAY * 1_000);
    forgetting(&revocations, &clock, PRUNING).await;
    revocations.revoke(token("b")).await.unwrap();
    drop(revocations);
    // And a start with it.
    let revocations = started(&ledger, &clock).await;
    forgetting(&revocations, &clock, PRUNING).await;
    clock.set_wall(right + PRUNING * 2);
    forgetting(&revocations, &clock, DAY * 29).await;
    assert_eq!(ids(&revocations).await.len(), 2);
    forgetting(&revocations, &clock, DAY * 2).await;
    assert!(ids(&revocations).await.is_empty());
    assert!(judged(&revocations, &json!({ "jti": "b" })).is_ok());
}

#[tokio::test]
async fn a_record_of_a_clock_that_is_behind_is_kept_as_long_as_others() {
    let clock = ManualClock::default();
    let ledger = Arc::new(Memory::new());
    let revocations = started(&ledger, &clock).await;
    let right = clock.wall();
    clock.set_wall(right - DAY * 40);
    revocations.revoke(token("a")).await.unwrap();
    clock.set_wall(right);
    forgetting(&revocations, &clock, DAY * 29).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
    forgetting(&revocations, &clock, DAY * 2).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_ok());
}

#[tokio::test]
async fn what_is_good_by_a_clock_that_is_behind_is_refused_for_as_long_as_it_is() {
    let clock = ManualClock::default();
    let ledger = Arc::new(Memory::new());
    let revocations = started(&ledger, &clock).await;
    let right = clock.wall();
    clock.set_wall(right - DAY * 40);
    let order = Order {
        expires_at: Some(clock.wall() + DAY),
        ..token("a")
    };
    revocations.revoke(order).await.unwrap();
    forgetting(&revocations, &clock, PRUNING * 2).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
    clock.set_wall(right);
    forgetting(&revocations, &clock, PRUNING * 2).await;
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_ok());
}

#[tokio::test]
async fn what_is_revoked_while_its_record_is_deleted_is_in_the_store_and_in_force() {
    // On a real store, whose answers take their time.
    let directory = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(Sqlite::open(directory.path()).unwrap());
    let revocations = Revocations::load(Arc::clone(&ledger), Arc::new(ManualClock::default()));
    let revocations = revocations.await.unwrap();
    let id = revocations.revoke(token("a")).await.unwrap().id;
    // It is gone from the store, and nobody has told the index yet.
    let mut deleting = pin!(revocations.delete(&id));
    while ledger.revocation(&id).await.unwrap().is_some() {
        assert!(deleting.as_mut().now_or_never().is_none());
    }
    let mut revoking = pin!(revocations.revoke(token("a")).fuse());
    for _ in 0..20 {
        // As far as it gets by itself.
        if revoking.as_mut().now_or_never().is_some() {
            break;
        }
        ledger.revocation("none").await.unwrap();
    }
    assert!(deleting.await.unwrap());
    if !revoking.is_terminated() {
        revoking.await.unwrap();
    }
    assert_eq!(ids(&revocations).await.len(), 1);
    assert!(judged(&revocations, &json!({ "jti": "a" })).is_err());
}

fn heard_of(jti: &str, created_at: Timestamp, expires_at: Timestamp) -> Revocation {
    Revocation {
        id: jti.to_owned(),
        issuer: ISS.to_owned(),
        rule: RevocationRule::Jti(jti.to_owned()),
        expires_at: Some(expires_at),
        created_at,
        note: String::new(),
    }
}

async fn replica(clock: &ManualClock) -> Revocations {
    let ledger = Arc::new(Memory::new());
    Revocations::replica(ledger, &Memory::new(), Arc::new(clock.clone()))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_replica_forgets_nothing_before_the_store_says_what_is_over() {
    let clock = ManualClock::default();
    let start = clock.wall();
    // The clock of one that is new may be anything.
    clock.set_wall(start + DAY * 3_650);
    let revocations = replica(&clock).await;
    let claims = json!({ "jti": "t" });
    revocations.heard(&[heard_of("t", start, start + DAY)]);
    assert_eq!(judged(&revocations, &claims), Err(Denial::TokenRevoked));
    forgetting(&revocations, &clock, PRUNING * 2).await;
    assert_eq!(judged(&revocations, &claims), Err(Denial::TokenRevoked));
    revocations.resume(Some(start), start);
    forgetting(&revocations, &clock, PRUNING * 2).await;
    assert_eq!(judged(&revocations, &claims), Err(Denial::TokenRevoked));
    revocations.resume(Some(start + DAY * 2), start);
    forgetting(&revocations, &clock, PRUNING * 2).await;
    assert_eq!(judged(&revocations, &claims), Ok(()));
}

/// An issuer of our own, which counts what it hears.
#[derive(Default)]
struct Us(std::sync::atomic::AtomicUsize);

impl Issuer for Us {
    fn name(&self) -> &str {
        ISS
    }

    fn longest(&self) -> Duration {
        DAY
    }

    fn read(&self, _: &str) -> Result<Option<TokenId>, Failed> {
        Ok(None)
    }

    fn latest_issue(&self) -> Timestamp {
        Timestamp::default()
    }

    fn revoked(&self, _: &Rule) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_others_revoke_our_issuer_hears_of_once() {
    let clock = ManualClock::default();
    let revocations = replica(&clock).await;
    let us = Arc::new(Us::default());
    let own: Weak<Us> = Arc::downgrade(&us);
    revocations.issued_by(own);
    let record = heard_of("t", clock.wall(), clock.wall() + DAY);
    let other = Revocation {
        issuer: "https://other.example".to_owned(),
        ..heard_of("t", clock.wall(), clock.wall() + DAY)
    };
    for _ in 0..3 {
        revocations.heard(&[record.clone(), other.clone()]);
    }
    assert_eq!(us.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_replica_revokes_a_user_as_far_as_the_clocks_of_others_may_be_ahead() {
    let us: Arc<dyn Issuer> = Arc::new(Us::default());
    for (millis, margin) in [(749, 0), (750, 1)] {
        let clock = ManualClock::new(Timestamp::from_millis(1_764_079_200_000 + millis));
        let alone = started(&Arc::new(Memory::new()), &clock).await;
        for (revocations, ahead) in [(alone, 0), (replica(&clock).await, margin)] {
            revocations.issued_by(Arc::downgrade(&us));
            let record = revocations
                .revoke(order(Target::Subject("u".into())))
                .await
                .unwrap();
            let RevocationRule::Subject { not_before, .. } = record.rule else {
                panic!("{record:?}");
            };
            assert_eq!(not_before.as_secs(), clock.wall().as_secs() + ahead, "{millis}");
        }
    }
}

#[tokio::test]
async fn a_store_that_lost_all_and_is_ahead_lets_a_replica_forget_nothing() {
    let (ledger, journal) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    let clock = ManualClock::default();
    let start = clock.wall();
    started(&journal, &clock).await.revoke(token("a")).await.unwrap();
    for (journal, is_kept) in [(journal, true), (Arc::new(Memory::new()), false)] {
        let clock = ManualClock::new(start + DAY * 40);
        let replica = Revocations::replica(Arc::clone(&ledger) as _, &*journal, Arc::new(clock.clone()));
        let replica = replica.await.unwrap();
        replica.revoke(token("b")).await.unwrap();
        replica.resume(None, clock.wall());
        clock.set_wall(start + DAY * 80);
        forgetting(&replica, &clock, PRUNING).await;
        // One that begins with nothing goes by the store's time; what was made by then has its full life.
        let held = judged(&replica, &json!({ "jti": "a" })).is_err();
        assert_eq!(held, is_kept);
        assert!(judged(&replica, &json!({ "jti": "b" })).is_err());
    }
}
