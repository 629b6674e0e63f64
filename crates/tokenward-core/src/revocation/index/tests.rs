use std::{sync::atomic::AtomicBool, thread};

use serde_json::{Value, json};

use super::{
    shard::{EVER, SLOT_SECS},
    *,
};

const ISS: &str = "https://a.example";

fn index() -> Index {
    Index::new(RandomState::new())
}

fn claims(value: &Value) -> Claims {
    Claims::parse(value.to_string().as_bytes()).unwrap()
}

/// A child with everything that a rule can name.
fn child() -> Value {
    json!({"iss": ISS, "jti": "c", "parent_jti": "p", "sub": "u", "sid": "s", "iat": 100})
}

fn judged(index: &Index, value: &Value) -> Result<(), Denial> {
    index.check(&index.marks(ISS, &claims(value), Some("k")))
}

fn subject(not_before: i64) -> Rule {
    Rule::Subject {
        sub: "u".into(),
        not_before,
    }
}

#[test]
fn each_rule_refuses_what_it_names_and_nothing_else() {
    for (rule, denial) in [
        (Rule::Token("c".into()), Denial::TokenRevoked),
        (Rule::Family("p".into()), Denial::ParentRevoked),
        (subject(100), Denial::SubjectRevoked),
        (Rule::Session("s".into()), Denial::SubjectRevoked),
        (Rule::Key("k".into()), Denial::KeyRevoked),
        (
            Rule::IssuedBefore(Timestamp::from_secs(101)),
            Denial::IssuerRevoked,
        ),
    ] {
        let index = index();
        index.insert("https://b.example", &rule, None);
        assert_eq!(judged(&index, &child()), Ok(()), "another issuer's: {rule:?}");
        index.insert(ISS, &rule, None);
        assert_eq!(judged(&index, &child()), Err(denial), "{rule:?}");
        let other = json!({"iss": ISS, "jti": "x", "parent_jti": "x", "sub": "x", "sid": "x", "iat": 500});
        let other = index.marks(ISS, &claims(&other), Some("x"));
        assert_eq!(index.check(&other), Ok(()), "{rule:?}");
        assert_eq!(index.refuses_key(ISS, "k"), denial == Denial::KeyRevoked);
        index.remove(ISS, &rule);
        assert!(!index.refuses_key(ISS, "k"));
        assert_eq!(judged(&index, &child()), Ok(()), "{rule:?}");
        assert_eq!(index.len(), 1);
    }
}

#[test]
fn names_of_one_kind_mean_nothing_to_another() {
    let index = index();
    for name in ["p", "u", "s", "k"] {
        index.insert(ISS, &Rule::Token(name.into()), None);
    }
    for name in ["u", "s", "k"] {
        index.insert(ISS, &Rule::Family(name.into()), None);
    }
    assert_eq!(judged(&index, &child()), Ok(()));
    index.insert("https://a.examplec", &Rule::Token(String::new()), None);
    assert_eq!(judged(&index, &child()), Ok(()));
}

#[test]
fn a_parent_is_refused_itself() {
    let index = index();
    index.insert(ISS, &Rule::Family("p".into()), None);
    assert_eq!(
        judged(&index, &json!({"jti": "p", "sub": "u", "iat": 1})),
        Err(Denial::TokenRevoked)
    );
}

#[test]
fn a_not_before_covers_its_second_to_the_end_and_not_the_next() {
    let index = index();
    index.insert(ISS, &subject(100), None);
    let issued = |iat: Value| judged(&index, &json!({"sub": "u", "iat": iat}));
    let refused = Err(Denial::SubjectRevoked);
    assert_eq!(issued(json!(100)), refused);
    assert_eq!(issued(json!(100.9)), refused);
    assert_eq!(issued(json!(101)), Ok(()));
    // Without a time it may be from before.
    assert_eq!(judged(&index, &json!({"sub": "u"})), refused);
    assert_eq!(index.subject_not_before(ISS, "u"), Some(100));
    assert_eq!(index.subject_not_before(ISS, "v"), None);
    // It only grows.
    index.insert(ISS, &subject(50), None);
    assert_eq!(issued(json!(100)), refused);
    index.insert(ISS, &subject(101), None);
    assert_eq!(issued(json!(101)), refused);
    index.insert(ISS, &Rule::IssuedBefore(Timestamp::from_millis(200_500)), None);
    assert_eq!(
        judged(&index, &json!({"sub": "x", "iat": 200})),
        Err(Denial::IssuerRevoked)
    );
    assert_eq!(judged(&index, &json!({"sub": "x", "iat": 200.5})), Ok(()));
}

#[test]
fn records_go_when_their_time_has_come_and_not_before() {
    let index = index();
    let ends = |hours: i64| Some(Timestamp::from_secs(hours * SLOT_SECS));
    index.insert(ISS, &Rule::Token("short".into()), ends(2));
    index.insert(ISS, &Rule::Token("long".into()), ends(2));
    index.insert(ISS, &Rule::Token("long".into()), ends(5));
    index.insert(ISS, &Rule::Token("long".into()), ends(3));
    index.insert(ISS, &Rule::Key("ever".into()), None);
    let at = |hours: i64| Timestamp::from_secs(hours * SLOT_SECS);
    assert_eq!(index.prune(at(1)), 0);
    assert_eq!(index.prune(at(2) - std::time::Duration::from_secs(1)), 0);
    assert_eq!(index.prune(at(3)), 1);
    assert_eq!(index.len(), 2);
    assert_eq!(judged(&index, &json!({"jti": "long"})), Err(Denial::TokenRevoked));
    assert_eq!(index.prune(at(5)), 0);
    assert_eq!(index.prune(at(6)), 1);
    assert_eq!(index.prune(Timestamp::MAX), 0);
    assert_eq!(index.len(), 1);
    // A removed one that is due counts for nothing.
    index.insert(ISS, &Rule::Token("gone".into()), ends(8));
    index.remove(ISS, &Rule::Token("gone".into()));
    assert_eq!(index.prune(at(20)), 0);
    assert_eq!(index.len(), 1);
}

#[test]
fn where_nothing_is_due_nothing_is_looked_at() {
    let index = index();
    let at = |hour: u32| Timestamp::from_secs(i64::from(hour) * SLOT_SECS);
    for n in 0..10_000 {
        index.insert(ISS, &Rule::Token(format!("t{n}")), Some(at(1_000)));
        index.insert(ISS, &subject(n), Some(at(900)));
    }
    index.insert(ISS, &Rule::Token("due".into()), Some(Timestamp::from_secs(1)));
    let due = |hour: u32| {
        let shards = index.shards.iter();
        shards
            .filter(|shard| shard.read().unwrap().earliest < hour)
            .count()
    };
    assert_eq!(due(2), 1);
    assert_eq!(index.prune(at(2)), 1);
    assert_eq!(due(900), 0);
    assert_eq!(index.prune(at(901)), 1);
    assert_eq!(due(1_000), 0);
    assert_eq!(index.prune(at(1_001)), 10_000);
    assert_eq!(due(EVER), 0);
    // What comes into an emptied one is dropped in its time.
    index.insert(ISS, &Rule::Token("t1".into()), Some(at(1_002)));
    assert_eq!(index.prune(at(1_003)), 1);
}

/// What the tables of names have room for, by the most that the standard library takes for it.
fn bytes(index: &Index) -> usize {
    let shards = index.shards.iter();
    let rooms = shards.map(|shard| shard.read().unwrap().names.capacity() * 8 / 7);
    rooms.sum::<usize>() * (size_of::<(Fingerprint, Kept)>() + 1)
}

#[test]
fn a_record_takes_at_most_24_bytes_however_many_there_are() {
    let index = index();
    let later = Some(Timestamp::from_secs(10 * SLOT_SECS));
    // Over a doubling of the tables.
    for n in 0..240_000_usize {
        index.insert(ISS, &Rule::Token(n.to_string()), later);
        if n >= 110_000 && n % 10_000 == 0 {
            assert!(bytes(&index) <= 24 * n, "{n}: {} each", bytes(&index) / n);
        }
    }
    assert_eq!(index.prune(Timestamp::from_secs(11 * SLOT_SECS)), 240_000);
    assert_eq!(bytes(&index), 0, "what is over takes no room");
}

#[test]
fn a_record_that_is_prolonged_again_and_again_takes_the_place_of_one() {
    let index = index();
    let start = 10 * SLOT_SECS;
    // Ten times an hour for a hundred hours.
    for n in 0..1_000 {
        let ends = Timestamp::from_secs(start + n * SLOT_SECS / 10);
        index.insert(ISS, &subject(n), Some(ends));
        assert_eq!(index.len(), 1, "{n}");
    }
    assert_eq!(index.prune(Timestamp::from_secs(start + 99 * SLOT_SECS)), 0);
    assert_eq!(index.subject_not_before(ISS, "u"), Some(999));
    index.remove(ISS, &subject(0));
    assert_eq!(index.len(), 0);
    // Kept until it is removed, and not for less again.
    index.insert(ISS, &subject(1), Some(Timestamp::from_secs(start)));
    index.insert(ISS, &subject(1), None);
    index.insert(ISS, &subject(1), Some(Timestamp::from_secs(start)));
    assert_eq!((index.prune(Timestamp::MAX), index.len()), (0, 1));
}

#[test]
fn times_before_the_epoch_and_after_all_hours_are_no_others() {
    let index = index();
    let far = Timestamp::from_secs(i64::from(EVER) * SLOT_SECS * 2);
    index.insert(ISS, &Rule::Token("far".into()), Some(far));
    index.insert(ISS, &Rule::Token("past".into()), Some(Timestamp::from_secs(-1)));
    assert_eq!(index.prune(Timestamp::from_secs(SLOT_SECS)), 1);
    assert_eq!(judged(&index, &json!({"jti": "far"})), Err(Denial::TokenRevoked));
}

#[test]
fn what_is_acknowledged_is_seen_by_every_reader() {
    let index = index();
    let acknowledged: Vec<AtomicBool> = (0..2_000).map(|_| AtomicBool::new(false)).collect();
    let marks: Vec<Marks> = (0..2_000)
        .map(|n| {
            index.marks(
                ISS,
                &claims(&json!({"jti": "x", "parent_jti": n.to_string()})),
                None,
            )
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (n, flag) in acknowledged.iter().enumerate() {
                index.insert(ISS, &Rule::Family(n.to_string()), None);
                flag.store(true, Ordering::Release);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !acknowledged.iter().all(|flag| flag.load(Ordering::Acquire)) {
                    for (flag, marks) in acknowledged.iter().zip(&marks) {
                        let before = flag.load(Ordering::Acquire);
                        let refused = index.check(marks).is_err();
                        assert!(refused || !before);
                    }
                }
            });
        }
    });
}

#[test]
fn what_is_not_refused_is_admitted_only_while_everything_is_known() {
    let index = index();
    let marks = index.marks(ISS, &claims(&child()), Some("k"));
    let at = Timestamp::from_millis;
    assert_eq!(
        index.admit(&marks, Timestamp::MAX),
        Ok(()),
        "nothing comes from elsewhere"
    );
    index.complete_until(at(100));
    assert_eq!(index.admit(&marks, at(100)), Ok(()));
    assert_eq!(index.admit(&marks, at(101)), Err(Denial::RevocationUnavailable));
    index.insert(ISS, &Rule::Token("c".into()), None);
    assert_eq!(
        index.admit(&marks, at(101)),
        Err(Denial::TokenRevoked),
        "what is known holds"
    );
    index.remove(ISS, &Rule::Token("c".into()));
    index.complete_until(at(200));
    assert_eq!(index.admit(&marks, at(200)), Ok(()));
}

#[test]
fn an_insertion_says_whether_it_refuses_more() {
    let index = index();
    let later = Some(Timestamp::from_secs(5));
    assert!(index.insert(ISS, &subject(100), None));
    assert!(!index.insert(ISS, &subject(100), None) && !index.insert(ISS, &subject(99), None));
    assert!(index.insert(ISS, &subject(101), later));
    assert!(index.insert(ISS, &Rule::Token("c".into()), later));
    assert!(
        !index.insert(ISS, &Rule::Token("c".into()), None),
        "only for longer"
    );
}
