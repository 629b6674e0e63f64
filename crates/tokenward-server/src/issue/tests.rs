pub(crate) mod counted;
mod keys_and_clocks;
mod left;
mod lost;
mod oauth;
mod own;
mod replicas;
mod revoking;
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
    service_on(ledger, clock, settings, sealer, First::Generated, false).await
}

/// With a store that other processes have too, or not.
async fn service_on(
    ledger: Arc<dyn Ledger>,
    clock: &ManualClock,
    settings: Settings,
    sealer: Sealer,
    first: First,
    shared: bool,
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
        first,
        issuer: ISS.to_owned(),
        revocations: revocations.clone(),
        shared,
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
        let parent = self.parent(parent_token)?;
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
