//! Several signers of one store, on a clock that a test moves.

use std::collections::{HashMap, HashSet};

use futures_util::FutureExt as _;
use tokenward_core::{
    keyring::{MAX_PUBLISHED, Stage},
    revocation::{LONGEST_LEEWAY, Rule},
};
use tokenward_store::Memory;
use tokenward_testkit::{ManualClock, RealClock};

use super::*;
use crate::issue::tests::counted::Counted;

const ISS: &str = "https://auth.example";
const SECOND: Duration = Duration::from_secs(1);
/// As long as a key must be known before it signs.
const KNOWN: Duration = Duration::from_secs(3);
const TOKEN: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    ledger: Arc<Counted>,
}

/// One of the processes.
struct Replica {
    signer: Signer,
    began: Timestamp,
    /// When it hears of what another one changed.
    hears: Option<Timestamp>,
    /// When it looks at what is due.
    tends: Timestamp,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            clock: ManualClock::new(Timestamp::from_secs(1_800_000_000)),
            ledger: Counted::new(Arc::new(Memory::new())),
        }
    }

    async fn open(&self, first: First) -> Signer {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let ledger: Arc<dyn Ledger> = Arc::clone(&self.ledger) as _;
        let revocations = Revocations::load(Arc::clone(&ledger), Arc::clone(&clock)).await;
        let schedule = Schedule {
            rotation_interval: TOKEN * 10,
            publish_ahead: MAX_AGE,
            advertised_max_age: MAX_AGE,
            longest_token: TOKEN,
        };
        schedule.shared().check().unwrap();
        let settings = Settings {
            algorithm: Algorithm::EdDsa,
            schedule,
            sealer: Sealer::new([&[7; 32]]),
            first,
            issuer: ISS.to_owned(),
            revocations: revocations.unwrap(),
            shared: true,
        };
        Signer::open(ledger, clock, settings).await.unwrap()
    }

    pub(crate) async fn joined(&self, first: First) -> Signer {
        let signer = self.open(first).await;
        signer.set_joined(true);
        signer
    }

    async fn replica(&self) -> Replica {
        let now = self.clock.steady();
        Replica {
            signer: self.joined(First::Stored).await,
            began: now,
            hears: None,
            tends: now,
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn signs(&self, signer: &Signer) -> Result<String, Unsigned> {
        let keys = signer.keys();
        let key = signer.signing(&keys, self.clock.wall() + TOKEN)?;
        Ok(key.kid().to_owned())
    }
}

fn published(signer: &Signer) -> HashSet<String> {
    let keys = signer.keys();
    keys.published.iter().map(|key| key.kid.clone()).collect()
}

fn active(signer: &Signer) -> String {
    signer.keys().active().unwrap().to_owned()
}

/// The numbers that a test takes for chance, the same at each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// What was signed, and what verifiers hold.
#[derive(Default)]
struct Verifiers {
    /// When the last token of a key has ended, leeway included.
    tokens: HashMap<String, Timestamp>,
    held: Vec<(Timestamp, HashSet<String>)>,
}

impl Verifiers {
    /// Each process signs where it can, and each verifier that keeps a set for as long as it may, from whichever process, knows
    /// the key. `all`: a key that signs is given out by all processes.
    fn look(&mut self, world: &World, replicas: &[Replica]) {
        let now = world.clock.steady();
        let sets: Vec<_> = replicas
            .iter()
            .map(|replica| published(&replica.signer))
            .collect();
        for replica in replicas {
            match world.signs(&replica.signer) {
                Ok(kid) => {
                    assert!(
                        sets.iter().all(|set| set.contains(&kid)),
                        "not published by all, at {now}"
                    );
                    self.tokens.insert(kid, now + TOKEN + LONGEST_LEEWAY);
                }
                // One that has just begun knows of no key since when it is known.
                Err(why) => assert!(now.since(replica.began) < KNOWN, "{why}, at {now}"),
            }
        }
        for set in sets {
            assert!(set.len() <= MAX_PUBLISHED);
            // Who fetched the same set later holds it longer.
            match self.held.iter_mut().find(|(_, held)| *held == set) {
                Some((fetched, _)) => *fetched = now,
                None => self.held.push((now, set)),
            }
        }
        self.held.retain(|(fetched, _)| now.since(*fetched) <= MAX_AGE);
        self.tokens.retain(|_, ends| *ends > now);
        for kid in self.tokens.keys() {
            for (fetched, set) in &self.held {
                assert!(set.contains(kid), "fetched at {fetched}, refused at {now}");
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_rotations_among_replicas_that_end_at_each_step_refuse_no_valid_token() {
    const ROTATIONS: usize = 1_000;
    let world = World::new();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut replicas = vec![
        world.replica().await,
        world.replica().await,
        world.replica().await,
    ];
    replicas[0].signer.generate().await.unwrap();
    world.pass(KNOWN);
    for replica in &replicas {
        replica.signer.reload().await.unwrap();
    }
    world.pass(KNOWN);
    let (mut verifiers, mut seen, mut version) = (Verifiers::default(), HashSet::new(), 1);
    let (mut ended, mut together) = (0, 0);
    while seen.len() < ROTATIONS {
        let now = world.clock.steady();
        for replica in &mut replicas {
            // As it hears of the store all the time, and of what has changed a little later.
            replica.signer.confirm(now);
            if replica.hears.is_some_and(|hears| hears <= now) {
                replica.hears = None;
                replica.signer.reload().await.unwrap();
            }
            if replica.tends > now && dice.below(400) > 0 {
                continue;
            }
            // What becomes of it: nothing, or it ends before or after its change is stored, or after it was told so.
            let fate = dice.below(8);
            let fails = [
                &world.ledger.keyring_fails_once,
                &world.ledger.keyring_answer_is_lost_once,
            ];
            if let Some(fails) = fails.get(usize::try_from(fate).unwrap()) {
                fails.store(true, Ordering::Relaxed);
            }
            let done = match dice.below(3) {
                0 => replica.signer.rotate(false).await.map(|_| Duration::ZERO),
                _ => replica.signer.tend().await,
            };
            for fails in fails {
                fails.store(false, Ordering::Relaxed);
            }
            replica.tends = now + done.unwrap_or_default().max(SECOND);
            if fate < 3 {
                ended += 1;
                *replica = world.replica().await;
            }
        }
        if dice.below(10) == 0 {
            // Two at once.
            let (one, two) = (&replicas[0].signer, &replicas[1].signer);
            let (one, two) = tokio::join!(one.rotate(false), two.tend());
            together += usize::from(one.is_ok() && two.is_ok());
        }
        let (newest, _) = world.ledger.keyring().await.unwrap().unwrap();
        if newest != version {
            version = newest;
            for replica in &mut replicas {
                let hears = now + dice.millis(2_001);
                replica.hears = Some(replica.hears.map_or(hears, |other| other.min(hears)));
            }
        }
        verifiers.look(&world, &replicas);
        seen.extend(replicas.iter().map(|replica| active(&replica.signer)));
        let busy = replicas.iter().any(|replica| replica.hears.is_some())
            || replicas
                .iter()
                .any(|replica| now.since(replica.began) < KNOWN * 2);
        let step = if busy {
            dice.millis(700)
        } else {
            dice.millis(30_000)
        };
        world.pass(step.max(Duration::from_millis(1)));
    }
    println!("{ROTATIONS} rotations, {ended} ends of a process, {together} times two at once");
    assert!(ended > 100 && together > 0);
}

#[tokio::test]
async fn replicas_that_rotate_at_once_rotate_once() {
    let world = World::new();
    let signers = [
        world.joined(First::Generated).await,
        world.joined(First::Generated).await,
        world.joined(First::Generated).await,
    ];
    let [one, two, three] = &signers;
    // All make the first key, and there is one.
    let begun = tokio::join!(one.tend(), two.tend(), three.tend());
    assert!(begun.0.is_ok() && begun.1.is_ok() && begun.2.is_ok());
    for forced in [false, true, true] {
        for signer in &signers {
            signer.reload().await.unwrap();
        }
        let (before, version) = (active(one), world.ledger.keyring().await.unwrap().unwrap().0);
        assert!(signers.iter().all(|signer| active(signer) == before));
        world.pass(MAX_AGE * 2);
        let (first, second, third) =
            tokio::join!(one.rotate(forced), two.rotate(forced), three.rotate(forced));
        let changes = [first.unwrap(), second.unwrap(), third.unwrap()];
        let after = active(one);
        assert_ne!(after, before);
        assert_eq!(world.ledger.keyring().await.unwrap().unwrap().0, version + 1);
        // Each is told what has come of it.
        for changed in &changes {
            assert_eq!(changed, &changes[0]);
            assert_eq!(changed.activated.as_ref(), Some(&after));
            assert_eq!(changed.added.len(), 1);
        }
    }
    // Two who want a key each get one; of two who want it gone, both do.
    let (_, _) = tokio::join!(one.generate(), two.generate());
    one.reload().await.unwrap();
    assert_eq!(published(one).len(), 7);
    let kid = active(one);
    let (first, second) = tokio::join!(one.revoke(kid.clone()), two.revoke(kid.clone()));
    for changed in [first, second] {
        assert_eq!(changed.unwrap().gone, std::slice::from_ref(&kid));
    }
    three.reload().await.unwrap();
    assert!(!published(three).contains(&kid));
}

#[tokio::test]
async fn whoever_changes_the_keys_begins_with_what_is_stored() {
    let world = World::new();
    let (one, two) = (
        world.joined(First::Generated).await,
        world.joined(First::Generated).await,
    );
    one.tend().await.unwrap();
    two.tend().await.unwrap();
    // One after the other, before the second has heard of it: both are meant.
    let first = one.rotate(true).await.unwrap();
    let second = two.rotate(true).await.unwrap();
    assert_ne!(first.activated, second.activated);
    assert_eq!(first.added, second.activated.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_first_key_signs_once_all_can_publish_it() {
    let world = World::new();
    let (one, two) = (
        world.joined(First::Stored).await,
        world.joined(First::Stored).await,
    );
    for signer in [&one, &two] {
        signer.tend().await.unwrap();
        assert_eq!(world.signs(signer), Err(Unsigned::Missing));
        assert!(matches!(signer.read_id("x"), Err(Unsigned::Missing)));
    }
    let (first, second) = tokio::join!(one.generate(), two.generate());
    assert_eq!(first.unwrap(), second.unwrap(), "one has made it for both");
    for signer in [&one, &two] {
        assert_eq!(world.signs(signer), Err(Unsigned::Unpublished));
    }
    world.pass(KNOWN - Duration::from_millis(1));
    assert_eq!(world.signs(&one), Err(Unsigned::Unpublished));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.signs(&one), Ok(active(&one)));
    assert_eq!(world.signs(&two), Ok(active(&one)));
    // Ids of one are known by the other.
    let keys = one.keys();
    let id = keys.ids.as_ref().unwrap().issue(
        tokenward_core::session::TokenType::Parent,
        world.clock.wall(),
        [1; 16],
    );
    assert_eq!(two.read_id(id.as_str()).unwrap().as_ref(), Some(&id));
}

#[tokio::test]
async fn a_first_key_may_be_the_operators() {
    let world = World::new();
    let signer = world.joined(First::Stored).await;
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let changes = signer.import(key.clone()).await.unwrap();
    assert_eq!(changes.activated.as_deref(), Some(key.kid()));
    world.pass(KNOWN);
    assert_eq!(world.signs(&signer), Ok(key.kid().to_owned()));
    assert_eq!(published(&signer).len(), 2, "it has a successor");
}

#[tokio::test]
async fn the_former_key_signs_until_all_publish_its_successor() {
    let world = World::new();
    let (one, two) = (
        world.joined(First::Generated).await,
        world.joined(First::Generated).await,
    );
    one.tend().await.unwrap();
    two.tend().await.unwrap();
    world.pass(KNOWN);
    let first = active(&one);
    // The pending key is known for long; one that is forced in right after it was made is not.
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    one.import(key.clone()).await.unwrap();
    one.rotate(true).await.unwrap();
    assert_eq!(active(&one), key.kid());
    assert_eq!(world.signs(&one), Ok(first.clone()));
    world.pass(SECOND * 2);
    two.reload().await.unwrap();
    world.pass(SECOND);
    assert_eq!(world.signs(&one), Ok(key.kid().to_owned()));
    assert_eq!(world.signs(&two), Ok(first.clone()));
    world.pass(SECOND * 2);
    assert_eq!(world.signs(&two), Ok(key.kid().to_owned()));
    // A key that is revoked as soon as it is made leaves one that nobody knows, and the former one stands in, for as long as
    // it is published after the last of its tokens.
    let kid = key.kid().to_owned();
    let pending: Vec<_> = one.keys().published[1..]
        .iter()
        .filter(|key| key.stage == Stage::Pending)
        .map(|key| key.kid.clone())
        .collect();
    for pending in pending {
        one.revoke(pending).await.unwrap();
    }
    one.revoke(kid.clone()).await.unwrap();
    assert_eq!(world.signs(&one), Ok(first.clone()));
    assert_eq!(
        one.signing(&one.keys(), world.clock.wall() + HELD + TOKEN).err(),
        Some(Unsigned::Unpublished)
    );
    // Another one hears of the revocation first, and of the new ring then.
    let marked = two.0.revocations.index();
    marked.insert(ISS, &Rule::Key(kid.clone()), None);
    assert_eq!(world.signs(&two), Ok(first));
    assert!(published(&two).contains(&kid));
    two.reload().await.unwrap();
    assert!(!published(&two).contains(&kid));
    world.pass(KNOWN);
    assert_eq!(world.signs(&two), Ok(active(&one)));
}

#[tokio::test]
async fn keys_are_neither_made_nor_changed_before_the_store_is_known_to_be_complete() {
    let world = World::new();
    let signer = world.open(First::Generated).await;
    signer.tend().await.unwrap();
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    for refused in [
        signer.generate().await,
        signer.rotate(true).await,
        signer.import(key.clone()).await,
        signer.revoke("x".into()).await,
    ] {
        assert!(matches!(refused, Err(SignerError::Joining)), "{refused:?}");
    }
    let in_file = world.open(First::File(key)).await;
    in_file.tend().await.unwrap();
    assert_eq!(world.ledger.keyring().await.unwrap(), None);
    signer.set_joined(true);
    signer.tend().await.unwrap();
    assert!(world.ledger.keyring().await.unwrap().is_some());
    // The operator's own key signs where it is, and is published everywhere.
    let before = active(&signer);
    in_file.set_joined(true);
    in_file.tend().await.unwrap();
    signer.reload().await.unwrap();
    let (file, both) = (in_file.kid().unwrap(), published(&signer));
    assert!(both.contains(&file) && both.contains(&before));
    world.pass(KNOWN);
    assert_eq!(world.signs(&in_file), Ok(file));
    // One that does not have it goes on with the former one, for as long as that is published.
    assert_eq!(world.signs(&signer), Ok(before));
    world.pass(HELD);
    signer.confirm(world.clock.steady());
    assert_eq!(world.signs(&signer), Err(Unsigned::Missing));
}

#[tokio::test]
async fn a_store_that_is_out_of_reach_at_the_start_is_read_later_and_one_that_was_lost_changes_nothing() {
    let world = World::new();
    let first = world.joined(First::Generated).await;
    first.tend().await.unwrap();
    world
        .ledger
        .keyring_is_out_of_reach
        .store(true, Ordering::Relaxed);
    let second = world.open(First::Stored).await;
    assert_eq!(world.signs(&second), Err(Unsigned::Missing));
    assert!(second.tend().await.is_err());
    world
        .ledger
        .keyring_is_out_of_reach
        .store(false, Ordering::Relaxed);
    second.tend().await.unwrap();
    assert_eq!(active(&second), active(&first));
    world.pass(KNOWN);
    assert_eq!(world.signs(&second), Ok(active(&first)));

    let empty = World {
        clock: world.clock.clone(),
        ledger: Counted::new(Arc::new(Memory::new())),
    };
    let lost = empty.joined(First::Generated).await;
    lost.tend().await.unwrap();
    lost.rotate(true).await.unwrap();
    let (kid, before) = (active(&lost), published(&lost));
    let lost = Signer(Arc::new(Inner {
        ledger: Arc::new(Memory::new()),
        ..Arc::try_unwrap(lost.0).ok().unwrap()
    }));
    lost.reload().await.unwrap();
    assert_eq!((active(&lost), published(&lost)), (kid, before));
    // An older one, as of a store that was restored, is no sign that the keys are those of the store.
    lost.0.ledger.put_keyring(0, b"older").await.unwrap();
    world.pass(HELD + KNOWN);
    lost.reload().await.unwrap();
    lost.confirm(world.clock.steady());
    assert_eq!(world.signs(&lost), Err(Unsigned::OutOfTouch));
    let mut refused = std::pin::pin!(lost.rotate(true));
    let refused = loop {
        tokio::select! {
            refused = &mut refused => break refused,
            () = world.clock.run_for(SECOND) => {}
        }
    };
    assert!(matches!(refused, Err(SignerError::Raced)));
}

#[tokio::test]
async fn whoever_hears_nothing_of_the_store_for_long_signs_no_more() {
    let world = World::new();
    let signer = world.joined(First::Generated).await;
    signer.tend().await.unwrap();
    world.pass(HELD);
    assert_eq!(world.signs(&signer), Ok(active(&signer)));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.signs(&signer), Err(Unsigned::OutOfTouch));
    // What is read of the store may be as old.
    signer.reload().await.unwrap();
    assert_eq!(world.signs(&signer), Err(Unsigned::OutOfTouch));
    signer.confirm(world.clock.steady());
    assert_eq!(world.signs(&signer), Ok(active(&signer)));
    // One that cannot take over what is stored is as one that does not hear of it.
    let ledger = &world.ledger;
    let version = ledger.keyring().await.unwrap().unwrap().0;
    assert!(
        ledger
            .put_keyring(version, b"of another encryption key")
            .await
            .unwrap()
    );
    assert!(signer.reload().await.is_err());
    world.pass(HELD + KNOWN);
    signer.confirm(world.clock.steady());
    assert_eq!(world.signs(&signer), Err(Unsigned::OutOfTouch));
}

#[tokio::test]
async fn times_are_the_stores_and_one_that_leaps_takes_no_key_away() {
    let world = World::new();
    // The clock of this machine is an hour behind that of the store, which all go by.
    let hour = SECOND * 3_600;
    world.clock.set_wall(world.clock.wall() + hour);
    let signer = world.joined(First::Generated).await;
    signer.tend().await.unwrap();
    let first = signer.keys().published[0].published_at;
    assert_eq!(first, world.clock.wall());
    signer.rotate(true).await.unwrap();
    let before = published(&signer);
    world.clock.set_wall(world.clock.wall() + hour * 10_000);
    signer.tend().await.unwrap();
    assert_eq!(published(&signer), before);
}

#[tokio::test]
async fn what_another_one_changes_is_taken_over_without_being_told_too() {
    let world = World::new();
    let (one, two) = (
        world.joined(First::Generated).await,
        world.joined(First::Generated).await,
    );
    let mut tasks = tokio::task::JoinSet::new();
    let mut made = one.changes();
    tasks.spawn(one.clone().keep());
    made.changed().await.unwrap();
    let mut changes = two.changes();
    tasks.spawn(two.clone().keep());
    changes.changed().await.unwrap();
    assert_eq!(active(&two), active(&one));
    one.rotate(true).await.unwrap();
    world.clock.run_for(LONGEST).await;
    changes.changed().await.unwrap();
    assert_eq!(active(&two), active(&one));
}

/// The same process, whose store has been replaced by another one.
fn moved(signer: Signer, to: &World) -> Signer {
    Signer(Arc::new(Inner {
        ledger: Arc::clone(&to.ledger) as _,
        ..Arc::try_unwrap(signer.0).ok().unwrap()
    }))
}

/// Two stores that had the same keys, as where one has lost what the other was told last.
async fn split() -> (World, Signer, World, Signer) {
    let world = World::new();
    let one = world.joined(First::Generated).await;
    one.tend().await.unwrap();
    let (version, document) = world.ledger.keyring().await.unwrap().unwrap();
    assert_eq!(version, 1);
    let other = World {
        clock: world.clock.clone(),
        ledger: Counted::new(Arc::new(Memory::new())),
    };
    assert!(other.ledger.put_keyring(0, &document).await.unwrap());
    let two = other.joined(First::Stored).await;
    two.tend().await.unwrap();
    (world, one, other, two)
}

async fn replace(signer: &Signer) -> String {
    signer.generate().await.unwrap();
    signer.rotate(true).await.unwrap();
    active(signer)
}

/// All that the store has is heard of by now.
async fn heard(world: &World, signer: &Signer) {
    signer.reload().await.unwrap();
    world.pass(Duration::from_millis(1));
    signer.confirm(world.clock.steady());
    signer.reload().await.unwrap();
}

async fn version(world: &World) -> u64 {
    world.ledger.keyring().await.unwrap().unwrap().0
}

#[tokio::test]
async fn keys_that_signed_and_that_the_store_lost_are_published_by_all_again() {
    for more in [0, 1, 2] {
        let (world, one, other, two) = split().await;
        let lost = replace(&one).await;
        world.pass(KNOWN);
        assert_eq!(world.signs(&one), Ok(lost.clone()));
        let mut kept = replace(&two).await;
        for _ in 0..more {
            kept = replace(&two).await;
        }
        // Of the same version, or of a later one.
        assert_eq!((version(&world).await, version(&other).await), (3, 3 + 2 * more));
        assert!(!published(&two).contains(&lost));
        let one = moved(one, &other);
        one.reload().await.unwrap();
        assert!(!published(&one).contains(&lost), "it may have been revoked");
        heard(&world, &one).await;
        assert_eq!(active(&one), kept, "what began last, and is stored");
        assert!(world.signs(&one).is_ok(), "with one that all know");
        let both = published(&one);
        assert!(both.contains(&lost) && both.contains(&kept) && both.is_superset(&published(&two)));
        // It is stored as soon as keys are looked after, and all are the same then.
        one.tend().await.unwrap();
        assert_eq!(version(&other).await, 4 + 2 * more);
        heard(&world, &two).await;
        assert_eq!((active(&two), published(&two)), (kept, published(&one)));
        for signer in [&one, &two] {
            heard(&world, signer).await;
            signer.tend().await.unwrap();
        }
        assert_eq!(version(&other).await, 4 + 2 * more, "it is done");
        // Until its last token has ended.
        world.pass(TOKEN + HELD + LONGEST_LEEWAY - SECOND);
        two.tend().await.unwrap();
        assert!(published(&two).contains(&lost));
        world.pass(SECOND);
        two.tend().await.unwrap();
        assert!(!published(&two).contains(&lost));
    }
}

#[tokio::test]
async fn a_key_that_was_revoked_does_not_come_back_with_what_the_store_lost() {
    let (world, one, other, two) = split().await;
    let lost = replace(&one).await;
    let kept = replace(&two).await;
    // Whichever of them it was in.
    let one = moved(one, &other);
    one.reload().await.unwrap();
    // That is heard of after the ring.
    for kid in [&lost, &kept] {
        for signer in [&one, &two] {
            let index = signer.0.revocations.index();
            index.insert(ISS, &Rule::Key(kid.clone()), None);
        }
    }
    heard(&world, &one).await;
    assert!(!published(&one).contains(&lost));
    one.tend().await.unwrap();
    assert!(!published(&one).contains(&kept));
    heard(&world, &two).await;
    assert_eq!(published(&two), published(&one));
}

#[tokio::test]
async fn what_was_merged_is_stored_once_the_store_takes_it() {
    let (world, one, other, two) = split().await;
    let lost = replace(&one).await;
    replace(&two).await;
    let one = moved(one, &other);
    heard(&world, &one).await;
    let is_woken = one.0.wake.notified().now_or_never().is_some();
    assert!(is_woken, "whoever looks after keys");
    other.ledger.keyring_fails_once.store(true, Ordering::Relaxed);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(one.clone().keep());
    let begun = world.clock.steady();
    while version(&other).await == 3 {
        world.clock.run_for(SECOND / 10).await;
        // Keys are changed on another thread.
        RealClock.sleep(Duration::from_millis(5)).await;
    }
    let waited = world.clock.steady().since(begun);
    assert!(waited >= MERGING && waited < MERGING * 2, "{waited:?}");
    assert!(published(&one).contains(&lost));
}
