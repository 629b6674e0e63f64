use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use secrecy::ExposeSecret as _;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const START: Timestamp = Timestamp::from_secs(1_800_000_000);

fn schedule() -> Schedule {
    Schedule {
        rotation_interval: HOUR * 24,
        publish_ahead: HOUR,
        advertised_max_age: HOUR / 4,
        longest_token: HOUR * 2,
    }
}

fn fresh(algorithm: Algorithm) -> Result<SigningKey, KeyFault> {
    SigningKey::generate(algorithm)
}

fn failing(_: Algorithm) -> Result<SigningKey, KeyFault> {
    Err(KeyFault::Failed)
}

fn ring() -> Ring {
    Ring::first(Algorithm::EdDsa, schedule(), START, &fresh).unwrap()
}

fn stages(ring: &Ring) -> Vec<(String, &'static str)> {
    ring.published()
        .map(|key| (key.kid().to_owned(), key.stage().name()))
        .collect()
}

fn kids(ring: &Ring, stage: &str) -> Vec<String> {
    let of = stages(ring).into_iter().filter(|(_, name)| *name == stage);
    of.map(|(kid, _)| kid).collect()
}

fn signer(ring: &Ring) -> String {
    ring.signer().unwrap().kid().to_owned()
}

#[test]
fn a_ring_begins_with_a_signer_and_its_successor() {
    let ring = ring();
    assert_eq!(
        stages(&ring).iter().map(|(_, stage)| *stage).collect::<Vec<_>>(),
        ["active", "pending"]
    );
    assert_eq!(ring.next_wakeup(), Some(START + HOUR * 24));
    assert_eq!(
        Ring::first(Algorithm::EdDsa, schedule(), START, &failing).unwrap_err(),
        KeyFault::Failed
    );
}

#[test]
fn a_key_lives_through_its_stages_at_their_times() {
    let mut ring = ring();
    let (first, second) = (signer(&ring), kids(&ring, "pending").remove(0));
    let before = START + HOUR * 24 - SECOND;
    assert!(ring.tick(before, &fresh).unwrap().is_empty());
    let rotated = START + HOUR * 24;
    let changes = ring.tick(rotated, &fresh).unwrap();
    assert_eq!(changes.activated.as_deref(), Some(&*second));
    assert_eq!((changes.added.len(), changes.gone.len()), (1, 0));
    assert_eq!(signer(&ring), second);
    assert_eq!(kids(&ring, "retiring"), std::slice::from_ref(&first));
    // Until the longest token of the last moment has ended, and the widest leeway with it.
    let ended = rotated + HOUR * 2 + SECOND * 300;
    assert_eq!(ring.next_wakeup(), Some(ended));
    assert!(ring.tick(ended - SECOND, &fresh).unwrap().is_empty());
    assert_eq!(ring.tick(ended, &fresh).unwrap().gone, [first]);
    assert_eq!(stages(&ring).len(), 2);
}

#[test]
fn a_failed_generation_changes_nothing() {
    let mut ring = ring();
    let before = stages(&ring);
    let late = START + HOUR * 1000;
    assert!(ring.tick(late, &failing).is_err());
    assert!(ring.rotate(true, late, &failing).is_err());
    assert!(ring.revoke(&before[0].0, late, &failing).is_err());
    assert_eq!(stages(&ring), before);
}

#[test]
fn rotation_waits_until_verifiers_know_the_successor_unless_it_is_forced() {
    let mut ring = ring();
    let second = kids(&ring, "pending").remove(0);
    let until = START + HOUR;
    assert_eq!(
        ring.rotate(false, until - SECOND, &fresh).unwrap_err(),
        RingFault::NotYet { until }
    );
    let mut forced = ring.clone();
    assert_eq!(
        forced.rotate(true, START, &fresh).unwrap().activated.as_deref(),
        Some(&*second)
    );
    assert_eq!(
        ring.rotate(false, until, &fresh).unwrap().activated.as_deref(),
        Some(&*second)
    );
    // The new successor has its own time.
    assert!(matches!(
        ring.rotate(false, until, &fresh),
        Err(RingFault::NotYet { .. })
    ));
}

#[test]
fn forcing_has_an_end() {
    let mut ring = ring();
    let fault = (0..).find_map(|_| ring.rotate(true, START, &fresh).err());
    assert_eq!(fault, Some(RingFault::TooMany));
    assert_eq!(stages(&ring).len(), MAX_PUBLISHED);
    // One that is revoked makes room.
    let retiring = kids(&ring, "retiring").remove(0);
    ring.revoke(&retiring, START, &fresh).unwrap();
    assert!(ring.rotate(true, START, &fresh).is_ok());
    assert_eq!(
        ring.add(fresh(Algorithm::EdDsa).unwrap(), START).unwrap_err(),
        RingFault::TooMany
    );
}

#[test]
fn a_rotation_that_is_due_waits_for_room() {
    let mut ring = ring();
    let mut now = START + HOUR * 23;
    while ring.rotate(true, now, &fresh).is_ok() {
        now = now + SECOND;
    }
    let signs = signer(&ring);
    let room = ring.next_wakeup().unwrap();
    assert_eq!(room, START + HOUR * 25 + SECOND * 300, "the first one goes");
    // The schedule has it rotate a day after the last rotation, and verifiers have room for all until then.
    ring.tick(room, &fresh).unwrap();
    assert_eq!(signer(&ring), signs);
    // Tokens that live for long fill the ring up to the time of its rotation.
    let long = Schedule {
        longest_token: HOUR * 100,
        ..schedule()
    };
    let mut ring = Ring::first(Algorithm::EdDsa, long, START, &fresh).unwrap();
    while ring.rotate(true, START, &fresh).is_ok() {}
    let (signs, room) = (signer(&ring), START + HOUR * 100 + SECOND * 300);
    assert_eq!(ring.next_wakeup(), Some(room));
    assert!(ring.tick(room - SECOND, &fresh).unwrap().is_empty());
    let changes = ring.tick(room, &fresh).unwrap();
    assert!(changes.activated.is_some() && signer(&ring) != signs);
    assert!(stages(&ring).len() <= MAX_PUBLISHED);
}

#[test]
fn keys_that_several_processes_publish_are_published_for_longer() {
    let shared = schedule().shared();
    let mut ring = Ring::first(Algorithm::EdDsa, shared, START, &fresh).unwrap();
    let until = START + HOUR + SECOND * 60;
    assert_eq!(
        ring.rotate(false, until - SECOND, &fresh).unwrap_err(),
        RingFault::NotYet { until }
    );
    let (first, rotated) = (signer(&ring), until);
    ring.rotate(false, rotated, &fresh).unwrap();
    let ended = rotated + HOUR * 2 + HELD + SECOND * 300;
    ring.tick(ended - SECOND, &fresh).unwrap();
    assert!(kids(&ring, "retiring").contains(&first));
    ring.tick(ended, &fresh).unwrap();
    assert!(!kids(&ring, "retiring").contains(&first));
}

#[test]
fn a_revoked_key_is_gone_at_once_and_its_successor_is_the_best_known_one() {
    let mut ring = ring();
    let (first, second) = (signer(&ring), kids(&ring, "pending").remove(0));
    let imported = fresh(Algorithm::EdDsa).unwrap();
    ring.add(imported.clone(), START + HOUR).unwrap();
    assert_eq!(
        kids(&ring, "pending"),
        [imported.kid().to_owned(), second.clone()]
    );
    let now = START + HOUR * 2;
    let changes = ring.revoke(&first, now, &fresh).unwrap();
    assert_eq!(changes.gone, std::slice::from_ref(&first));
    // The imported key would have been next, but verifiers have known the other one for longer.
    assert_eq!(changes.activated.as_deref(), Some(&*second));
    assert_eq!(kids(&ring, "pending"), [imported.kid().to_owned()]);
    assert!(kids(&ring, "retiring").is_empty());
    assert_eq!(ring.revoke(&first, now, &fresh).unwrap_err(), RingFault::Unknown);
    // A pending one that is revoked has a new successor in its place.
    ring.revoke(imported.kid(), now, &fresh).unwrap();
    assert_eq!(kids(&ring, "pending").len(), 1);
    assert_eq!(signer(&ring), second);
}

#[test]
fn an_added_key_signs_next_and_only_once() {
    let mut ring = ring();
    let added = fresh(Algorithm::EdDsa).unwrap();
    ring.add(added.clone(), START).unwrap();
    assert_eq!(ring.add(added.clone(), START).unwrap_err(), RingFault::Known);
    let changes = ring.rotate(false, START + HOUR, &fresh).unwrap();
    assert_eq!(changes.activated.as_deref(), Some(added.kid()));
    assert!(changes.added.is_empty(), "a successor was there already");
}

#[test]
fn another_algorithm_comes_as_soon_as_verifiers_can_know_it() {
    let mut ring = ring();
    ring.reconfigure(Algorithm::Es256, schedule());
    let now = START + HOUR * 3;
    let changes = ring.tick(now, &fresh).unwrap();
    assert_eq!(
        (changes.activated, changes.added.len(), changes.gone.len()),
        (None, 1, 1)
    );
    assert_eq!(ring.next_wakeup(), Some(now + HOUR));
    ring.tick(now + HOUR, &fresh).unwrap();
    assert_eq!(ring.signer().unwrap().algorithm(), Algorithm::Es256);
}

#[test]
fn a_key_outlives_what_was_signed_under_longer_lifetimes() {
    let mut ring = ring();
    let first = signer(&ring);
    let long = Schedule {
        longest_token: HOUR * 100,
        ..schedule()
    };
    ring.reconfigure(Algorithm::EdDsa, long);
    ring.reconfigure(Algorithm::EdDsa, schedule());
    assert_eq!(ring.longest_token(), HOUR * 100);
    let rotated = START + HOUR * 24;
    ring.tick(rotated, &fresh).unwrap();
    ring.tick(rotated + HOUR * 50, &fresh).unwrap();
    assert!(kids(&ring, "retiring").contains(&first));
    assert_eq!(ring.longest_token(), HOUR * 100);
    ring.tick(rotated + HOUR * 101, &fresh).unwrap();
    assert_eq!(ring.longest_token(), HOUR * 2);
}

#[test]
fn a_key_in_a_file_signs_at_once_is_not_rotated_and_verifies_after_the_file_has_changed() {
    let mut ring = ring();
    let first = signer(&ring);
    let (one, two) = (fresh(Algorithm::EdDsa).unwrap(), fresh(Algorithm::EdDsa).unwrap());
    let changes = ring.keep_in_file(&one, START);
    assert_eq!(changes.activated.as_deref(), Some(one.kid()));
    assert!(ring.signer().is_none());
    assert_eq!(kids(&ring, "retiring"), [first]);
    assert!(ring.keep_in_file(&one, START).is_empty());
    assert_eq!(
        ring.rotate(true, START, &fresh).unwrap_err(),
        RingFault::KeptInFile
    );
    assert_eq!(
        ring.revoke(one.kid(), START, &fresh).unwrap_err(),
        RingFault::KeptInFile
    );
    assert_eq!(ring.add(two.clone(), START).unwrap_err(), RingFault::KeptInFile);
    assert!(ring.tick(START + HOUR, &fresh).unwrap().is_empty());
    // Stored and loaded again, then the file has another key.
    let sealer = Sealer::new([]);
    let document = ring.to_document(&sealer, &|| Some([0; 12])).unwrap();
    let (mut ring, _) = Ring::from_document(&document, &sealer, Algorithm::EdDsa, schedule()).unwrap();
    ring.keep_in_file(&two, START + HOUR);
    assert!(kids(&ring, "retiring").contains(&one.kid().to_owned()));
    assert_eq!(kids(&ring, "active"), [two.kid().to_owned()]);
    // Back to keys of the store.
    let changes = ring.keep_in_store(START + HOUR * 2, &fresh).unwrap();
    assert_eq!(changes.added.len(), 2);
    assert!(ring.signer().is_some() && kids(&ring, "retiring").contains(&two.kid().to_owned()));
}

#[test]
fn a_stored_ring_is_the_same_and_its_private_keys_are_sealed() {
    let mut ring = ring();
    ring.tick(START + HOUR * 24, &fresh).unwrap();
    let (old, new) = (Sealer::new([&[1; 32]]), Sealer::new([&[2; 32], &[1; 32]]));
    let nonces = Cell::new(0);
    let nonce = || {
        nonces.set(nonces.get() + 1);
        Some([nonces.get(); 12])
    };
    let document = ring.to_document(&old, &nonce).unwrap();
    assert_eq!(nonces.get(), 3, "each key has a nonce of its own");
    assert_eq!(ring.to_document(&old, &|| None).unwrap_err(), SealFault::Failed);
    let secret = ring.signer().unwrap().to_pkcs8().unwrap();
    let text = String::from_utf8(document.clone()).unwrap();
    let tail = &secret.expose_secret()[16..];
    let leaked = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tail);
    assert!(!text.contains(leaked.trim_end_matches('=')));

    let load = |sealer| Ring::from_document(&document, sealer, Algorithm::EdDsa, schedule());
    let (again, outdated) = load(&old).unwrap();
    assert_eq!((stages(&again), outdated), (stages(&ring), false));
    assert_eq!(again.next_wakeup(), ring.next_wakeup());
    let (_, outdated) = load(&new).unwrap();
    assert!(outdated, "a newer key is there to seal with");
    assert!(matches!(
        load(&Sealer::new([&[3; 32]])).unwrap_err(),
        StoredFault::Sealed {
            fault: SealFault::KeyMissing(_),
            ..
        }
    ));
    let newer = text.replace("\"version\":1", "\"version\":2");
    assert_eq!(
        Ring::from_document(newer.as_bytes(), &old, Algorithm::EdDsa, schedule()).unwrap_err(),
        StoredFault::Newer(2)
    );
    // Two active keys, a key in another's place, or a cut-off document are not a ring.
    let twice = text.replace("\"stage\":\"pending\"", "\"stage\":\"active\",\"since\":1");
    for damaged in [twice.as_str(), &text[..text.len() - 1], "", "{}"] {
        assert_eq!(
            Ring::from_document(damaged.as_bytes(), &old, Algorithm::EdDsa, schedule()).unwrap_err(),
            StoredFault::Malformed
        );
    }
    let mut swapped: serde_json::Value = serde_json::from_str(&text).unwrap();
    swapped["keys"][0]["private"] = swapped["keys"][1]["private"].clone();
    assert!(matches!(
        Ring::from_document(swapped.to_string().as_bytes(), &old, Algorithm::EdDsa, schedule()).unwrap_err(),
        StoredFault::Sealed {
            fault: SealFault::Damaged,
            ..
        }
    ));
}

/// Verifiers that keep a set for exactly as long as they may, fetched at every possible moment, against tokens that are
/// signed all the time and live as long as they may.
#[test]
fn a_thousand_rotations_refuse_no_valid_token() {
    let schedule = Schedule {
        rotation_interval: SECOND * 600,
        publish_ahead: SECOND * 60,
        advertised_max_age: SECOND * 60,
        longest_token: SECOND * 60,
    };
    schedule.check().unwrap();
    let made = RefCell::new(0);
    // A few real keys in turn would have the same ids, so each is new; Ed25519 keys are cheap.
    let generate = |algorithm| {
        *made.borrow_mut() += 1;
        SigningKey::generate(algorithm)
    };
    let mut ring = Ring::first(Algorithm::EdDsa, schedule, START, &generate).unwrap();
    let mut first_seen: HashMap<String, Timestamp> = HashMap::new();
    // Tokens: the key that signed, and when they end, leeway included.
    let mut tokens: Vec<(String, Timestamp)> = Vec::new();
    // What a verifier holds that fetched `max-age` ago, and all that fetched since.
    let mut held: Vec<(Timestamp, Vec<String>)> = Vec::new();
    let (mut now, mut rotations) = (START, 0);
    while rotations < 1000 {
        if ring.tick(now, &generate).unwrap().activated.is_some() {
            rotations += 1;
        }
        // An operator who rotates as often as the ring allows, for half of the time.
        if rotations % 200 < 100 && ring.rotate(false, now, &generate).is_ok() {
            rotations += 1;
        }
        let published: Vec<String> = ring.published().map(|key| key.kid().to_owned()).collect();
        assert!(published.len() <= MAX_PUBLISHED);
        for kid in &published {
            first_seen.entry(kid.clone()).or_insert(now);
        }
        let kid = ring.signer().unwrap().kid().to_owned();
        let known_for = now.since(first_seen[&kid]);
        assert!(
            rotations == 0 || known_for >= schedule.publish_ahead,
            "published for {known_for:?} only"
        );
        tokens.retain(|(_, ends)| *ends > now);
        tokens.push((kid, now + schedule.longest_token + LONGEST_LEEWAY));
        held.push((now, published));
        // A set is used for its max-age, that moment included.
        held.retain(|(fetched, _)| now.since(*fetched) <= schedule.advertised_max_age);
        for (fetched, set) in &held {
            for (signed_by, _) in tokens.iter().filter(|(_, ends)| *ends > now) {
                // The first set of all is fetched when the first key begins.
                assert!(set.contains(signed_by), "fetched at {fetched}, now {now}");
            }
        }
        // At the moments when something happens, just before and after them, and between.
        let wakeup = ring.next_wakeup().unwrap();
        now = (now + SECOND * 29).min(wakeup.max(now + Duration::from_millis(1)));
    }
    assert_eq!(rotations, 1000);
    assert!(*made.borrow() >= 1001);
}
