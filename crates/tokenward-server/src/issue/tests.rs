pub(crate) mod counted;
mod keys_and_clocks;
mod oauth;
mod own;
mod replicas;
mod scale;
mod streams;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use serde_json::json;
use tokenward_core::{
    Clock, Denial, Timestamp,
    jose::Algorithm,
    keyring::{Schedule, Sealer},
    policy::{Audiences, Policy},
    revocation::Index,
    session::{AccessTyp, Lifetimes, PairRequest, Renewal, TokenRequest},
    verify,
};
use tokenward_store::{Ledger, Memory, RevocationRule};
use tokenward_testkit::ManualClock;

use super::{
    hub::{Ending, News},
    service::{Minted, Pair},
    *,
};
use crate::{
    revocation::{Order, Revocations, Target},
    signer::{self, First, Signer},
};

const ISS: &str = "https://auth.example";
const HOUR: Duration = Duration::from_secs(3_600);

struct World {
    clock: ManualClock,
    ledger: Arc<Memory>,
    index: Arc<Index>,
    service: TokenService,
}

fn settings() -> Settings {
    Settings {
        issuer: ISS.to_owned(),
        audience: vec!["my-api".to_owned()],
        typ: AccessTyp::AtJwt,
        lifetimes: Lifetimes {
            token: HOUR,
            parent: HOUR * 720,
            child: Duration::from_secs(900),
            max: HOUR * 720,
        },
        renewal: Renewal {
            threshold: Duration::from_secs(120),
            reuse_window: Duration::from_secs(10),
        },
        connections: 100_000,
    }
}

async fn service(ledger: Arc<dyn Ledger>, clock: &ManualClock) -> (Arc<Index>, TokenService) {
    service_with(ledger, clock, settings(), Sealer::new([&[7; 32]])).await
}

async fn service_with(
    ledger: Arc<dyn Ledger>,
    clock: &ManualClock,
    settings: Settings,
    sealer: Sealer,
) -> (Arc<Index>, TokenService) {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let revocations = Revocations::load(Arc::clone(&ledger), Arc::clone(&clock));
    let revocations = revocations.await.unwrap();
    let index = Arc::clone(revocations.index());
    let keys = signer::Settings {
        algorithm: Algorithm::EdDsa,
        schedule: Schedule {
            rotation_interval: HOUR * 24 * 90,
            publish_ahead: HOUR * 24,
            advertised_max_age: HOUR / 4,
            longest_token: HOUR * 720,
        },
        sealer,
        first: First::Generated,
        issuer: ISS.to_owned(),
        revocations: revocations.clone(),
        shared: false,
    };
    let newest = ledger.audit(None, 1).await.unwrap();
    let newest = newest.first().map(|(_, record)| record.at);
    let signer = Signer::open(Arc::clone(&ledger), Arc::clone(&clock), keys)
        .await
        .unwrap();
    let service = TokenService::new(
        settings,
        signer,
        ledger,
        revocations,
        clock,
        futures_util::future::pending().boxed().shared(),
        newest,
    )
    .unwrap();
    (index, service)
}

impl TokenService {
    /// As its holder renews.
    async fn renew(&self, parent_token: &str) -> Result<Renewed, Failure> {
        let parent = self.check_parent(parent_token)?;
        self.renew_by(parent_token, &parent).await
    }
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
        let ledger = Arc::new(Memory::new());
        let (index, service) = service(Arc::clone(&ledger) as _, &clock).await;
        Self {
            clock,
            ledger,
            index,
            service,
        }
    }

    /// The same store in a new process.
    async fn restarted(self) -> Self {
        let (index, service) = service(Arc::clone(&self.ledger) as _, &self.clock).await;
        Self {
            index,
            service,
            ..self
        }
    }

    fn mint(&self, body: &str) -> Minted {
        let settings = self.service.settings();
        let request = TokenRequest::parse(body.as_bytes(), &settings.lifetimes, &settings.audience).unwrap();
        self.service.mint("ops", &request).unwrap()
    }

    async fn pair(&self, body: &str) -> Pair {
        let settings = self.service.settings();
        let request = PairRequest::parse(body.as_bytes(), &settings.lifetimes, &settings.audience).unwrap();
        self.service.pair("ops", request).await.unwrap()
    }

    /// As anybody judges it who has our key set and this replica's index.
    fn judged(&self, token: &str) -> Result<(), Denial> {
        let keys = self.service.signer().keys();
        let verified = verify(token, &keys.set, self.service.policy(), self.clock.wall())?;
        self.index
            .check(&self.index.marks(ISS, verified.claims(), verified.kid()))
    }

    async fn renew(&self, parent: &str) -> Result<Renewed, Denial> {
        self.service.renew(parent).await.map_err(|failure| match failure {
            Failure::Denied(denial) => denial,
            other => panic!("{other}"),
        })
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[tokio::test]
async fn a_minted_token_is_good_until_it_ends_and_for_its_audience() {
    let world = World::new().await;
    let minted = world.mint(r#"{"user_id":"a","expires_in":60}"#);
    assert_eq!(world.judged(&minted.token), Ok(()));
    assert_eq!(minted.expires_at, Timestamp::from_secs(1_800_000_060));
    let other = world.mint(r#"{"user_id":"a","audience":"else"}"#);
    assert_eq!(world.judged(&other.token), Err(Denial::AudienceMismatch));
    world.pass(Duration::from_secs(121));
    assert_eq!(world.judged(&minted.token), Err(Denial::TokenExpired));
    assert_eq!(
        world.ledger.families("", 10).await.unwrap(),
        [],
        "nothing is stored for it"
    );
}

#[tokio::test]
async fn a_parent_is_good_for_renewal_alone() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let child = pair.child.unwrap().0;
    assert_eq!(world.judged(&child.token), Ok(()));
    assert_eq!(world.judged(&pair.parent.token), Err(Denial::TypeRejected));
    let audiences = Audiences::OneOf(vec![ISS.to_owned()]);
    assert!(Policy::builder(ISS, audiences).build().is_ok());
    for token in [&child.token, &world.mint(r#"{"user_id":"a"}"#).token] {
        assert_eq!(world.renew(token).await.unwrap_err(), Denial::TypeRejected);
    }
    assert_eq!(world.renew("x.y.z").await.unwrap_err(), Denial::TokenMalformed);
}

#[tokio::test]
async fn renewal_gives_the_same_child_within_the_window_and_another_after_it() {
    let world = World::new().await;
    let pair = world
        .pair(r#"{"user_id":"a","include_child":true,"scope":"x"}"#)
        .await;
    let first = pair.child.unwrap().0;
    let again = world.renew(&pair.parent.token).await.unwrap();
    assert_eq!(
        (again.child.id, again.child.token, again.sequence),
        (first.id.clone(), first.token, 1)
    );
    world.pass(Duration::from_secs(10));
    let second = world.renew(&pair.parent.token).await.unwrap();
    assert_ne!(second.child.id, first.id);
    assert_eq!(second.sequence, 2);
    let latest = world.service.latest(&pair.parent.id).await.unwrap().unwrap();
    assert_eq!(
        (latest.child.id.clone(), latest.sequence),
        (second.child.id.clone(), 2)
    );
    assert_eq!(world.judged(&second.child.token), Ok(()));
    // One that was revoked is not given again.
    assert!(world.service.revoke_token(&second.child.id).await.unwrap());
    assert_eq!(world.judged(&second.child.token), Err(Denial::TokenRevoked));
    let third = world.renew(&pair.parent.token).await.unwrap();
    assert_ne!(third.child.id, second.child.id);
    assert_eq!(world.judged(&third.child.token), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_renewals_at_once_than_there_are_in_a_minute_have_one_child_and_cost_one() {
    // On a real store, whose answers take their time.
    let directory = tempfile::tempdir().unwrap();
    let sqlite: Arc<dyn Ledger> = Arc::new(tokenward_store::Sqlite::open(directory.path()).unwrap());
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let (_, service) = service(sqlite, &clock).await;
    let settings = service.settings().clone();
    let body = br#"{"user_id":"a","auto_renew":false}"#;
    let request = PairRequest::parse(body, &settings.lifetimes, &settings.audience).unwrap();
    let parent = service.pair("ops", request).await.unwrap().parent;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (service, token) = (service.clone(), parent.token.clone());
        tasks.spawn(async move { service.renew(&token).await.unwrap().child.id });
    }
    let ids: std::collections::HashSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    // One of the minute's sixty is used.
    let mut child = ids.into_iter().next().unwrap();
    for n in 1..60 {
        service.revoke_token(&child).await.unwrap();
        let renewed = service.renew(&parent.token).await;
        child = renewed
            .unwrap_or_else(|failure| panic!("{n}: {failure}"))
            .child
            .id;
    }
    service.revoke_token(&child).await.unwrap();
    assert!(matches!(
        service.renew(&parent.token).await,
        Err(Failure::TooMany(_))
    ));
}

#[tokio::test]
async fn a_pair_and_a_renewal_whose_caller_left_are_carried_to_their_end() {
    let world = World::new().await;
    let settings = world.service.settings();
    let request = PairRequest::parse(br#"{"user_id":"a"}"#, &settings.lifetimes, &settings.audience).unwrap();
    // Asked once, then left.
    assert!(world.service.pair("ops", request).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!(world.ledger.families("", 10).await.unwrap().len(), 1);
    let pair = world.pair(r#"{"user_id":"b","auto_renew":false}"#).await;
    let mut follower = world.service.follow(&pair.parent.id).await.unwrap();
    assert!(world.service.renew(&pair.parent.token).now_or_never().is_none());
    follower.changed().await;
    assert_eq!(follower.news(), News::Child(1));
}

#[tokio::test]
async fn a_clock_that_is_set_forward_ends_no_family() {
    let world = World::new().await;
    let pair = world
        .pair(r#"{"user_id":"a","parent_expires_in":2000,"include_child":true}"#)
        .await;
    let wall = world.clock.wall();
    world.clock.set_wall(wall + HOUR * 10_000);
    assert_eq!(world.service.renew_due().await.unwrap(), 1);
    assert!(
        world.ledger.next_due().await.unwrap().is_some(),
        "it is still in the schedule"
    );
    assert!(world.ledger.family(&pair.parent.id).await.unwrap().is_some());
}

#[tokio::test]
async fn parallel_renewals_have_one_child() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    assert!(world.service.latest(&pair.parent.id).await.unwrap().is_none());
    let renewals = (0..100).map(|_| world.renew(&pair.parent.token));
    let children = futures_util::future::join_all(renewals).await;
    let ids: std::collections::HashSet<_> = children
        .into_iter()
        .map(|child| child.unwrap().child.id)
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_family_has_so_many_renewals_a_minute() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a"}"#).await;
    let other = world.pair(r#"{"user_id":"a"}"#).await;
    let renew = async |pair: &Pair| {
        let renewed = world.service.renew(&pair.parent.token).await;
        if let Ok(renewed) = &renewed {
            // So that it is not given again.
            world.service.revoke_token(&renewed.child.id).await.unwrap();
        }
        renewed.map(|_| ())
    };
    for _ in 0..60 {
        renew(&pair).await.unwrap();
    }
    let refused = renew(&pair).await.unwrap_err();
    assert!(
        matches!(refused, Failure::TooMany(exceeded) if exceeded.0.next_in == Duration::from_secs(1)),
        "{refused}"
    );
    assert!(renew(&other).await.is_ok());
    world.pass(Duration::from_secs(1));
    assert!(renew(&pair).await.is_ok());
    assert!(renew(&pair).await.is_err());
}

#[tokio::test]
async fn a_child_never_outlives_its_parent_and_a_parent_gets_no_leeway() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","parent_expires_in":60}"#).await;
    world.pass(Duration::from_secs(30));
    let child = world.renew(&pair.parent.token).await.unwrap().child;
    assert_eq!(child.expires_at, pair.parent.expires_at);
    world.pass(Duration::from_secs(29));
    assert!(world.renew(&pair.parent.token).await.is_ok());
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.renew(&pair.parent.token).await.unwrap_err(),
        Denial::TokenExpired
    );
}

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
async fn children_are_minted_when_they_are_due_and_stop_with_their_parent() {
    let world = World::new().await;
    let body = r#"{"user_id":"a","parent_expires_in":2000,"child_expires_in":900}"#;
    let pair = world.pair(body).await;
    let mut follower = world.service.follow(&pair.parent.id).await.unwrap();
    let manual = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let mut minted = Vec::new();
    for second in 0..2_100 {
        let count = world.service.renew_due().await.unwrap();
        assert!(count <= 1);
        if count == 1 && second < 2_000 {
            minted.push(second);
            let latest = world.service.latest(&pair.parent.id).await.unwrap().unwrap();
            assert_eq!(follower.news(), News::Child(latest.sequence));
            assert_eq!(world.judged(&latest.child.token), Ok(()));
        }
        world.pass(Duration::from_secs(1));
    }
    // At once, and each 120 s before the last one ends; the third ends with its parent.
    assert_eq!(minted, [0, 780, 1_560]);
    assert!(world.service.latest(&manual.parent.id).await.unwrap().is_none());
}

#[tokio::test]
async fn those_who_follow_a_family_hear_of_its_end_and_leave_nothing_behind() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let mut one = world.service.follow(&pair.parent.id).await.unwrap();
    let mut two = world.service.follow(&pair.parent.id).await.unwrap();
    world.renew(&pair.parent.token).await.unwrap();
    one.changed().await;
    assert_eq!(one.news(), News::Child(1));
    drop(one);
    assert!(world.service.still_good(&two));
    world.service.revoke_token(&pair.parent.id).await.unwrap();
    two.changed().await;
    assert_eq!(two.news(), News::Ended(Ending::Revoked));
    assert!(!world.service.still_good(&two));
    assert!(world.service.follow(&pair.parent.id).await.is_err());
}

#[tokio::test]
async fn a_revoked_user_gets_no_more_children_and_those_who_follow_hear_of_it() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let mut follower = world.service.follow(&pair.parent.id).await.unwrap();
    world.service.revoke_user("a").await.unwrap();
    follower.changed().await;
    assert!(!world.service.still_good(&follower));
    assert!(world.service.latest(&pair.parent.id).await.is_err());
    world.pass(Duration::from_secs(800));
    assert_eq!(world.service.renew_due().await.unwrap(), 1);
    assert_eq!(
        world
            .ledger
            .family(&pair.parent.id)
            .await
            .unwrap()
            .unwrap()
            .sequence,
        1
    );
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

#[tokio::test]
async fn parents_are_shown_while_they_are_good_and_no_more_than_may_be() {
    let world = World::new().await;
    for body in [
        r#"{"user_id":"a","parent_expires_in":60}"#,
        r#"{"user_id":"b"}"#,
        r#"{"user_id":"c"}"#,
        r#"{"user_id":"d","network":"n"}"#,
    ] {
        world.pair(body).await;
    }
    let shown = async |most| {
        let parents = world.service.parents(world.clock.wall(), most).await.unwrap();
        let mut users: Vec<_> = parents.into_iter().map(|parent| parent.user_id).collect();
        users.sort_unstable();
        users
    };
    assert_eq!(shown(100).await, ["a", "b", "c", "d"]);
    assert_eq!(shown(2).await.len(), 2);
    world.service.revoke_user("c").await.unwrap();
    world.pass(Duration::from_secs(61));
    assert_eq!(shown(100).await, ["b", "d"]);
}
