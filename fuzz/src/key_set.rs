//! Key sets: what verifies, what is served, what is dropped.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};
use tokenward_core::jose::{Key, KeySet, MAX_KEYS, Selection, Truncation};

use crate::json::Tree;

const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

pub fn check(body: &[u8]) {
    let Ok(set) = KeySet::parse(body) else { return };
    assert!(
        serde_json::from_slice::<&RawValue>(body).is_ok(),
        "no JSON at all"
    );
    assert_eq!(set.usable().len() + set.skipped_count(), set.original_count());
    assert_eq!(set.skipped().len(), set.skipped_count().min(MAX_KEYS));
    assert!(set.usable().len() <= MAX_KEYS);
    let elements = elements(body);
    assert_eq!(elements.len(), set.original_count());

    what_is_served_is_public_and_as_it_was(&set, &elements);
    what_is_served_reads_again_as_the_same(&set);
    usable_keys_answer(&set);
    // The first bytes choose, so that a mutation of the body alone reaches every kind of truncation.
    let choice = body.iter().take(64).fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    for truncation in [Truncation::KeepActive, Truncation::FirstN] {
        truncated(set.clone(), choice % (set.original_count() + 2), truncation);
    }
    for element in elements.iter().take(4) {
        alone(element);
    }
}

/// The texts in `keys`.
fn elements(body: &[u8]) -> Vec<&str> {
    // Borrowed, and of any member, since a set may have others that no map would take.
    let members: Members<'_> = serde_json::from_slice(body).expect("a set is an object");
    members.keys.into_iter().map(RawValue::get).collect()
}

#[derive(serde::Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

fn what_is_served_is_public_and_as_it_was(set: &KeySet, elements: &[&str]) {
    let mut originals = elements.iter().filter_map(|text| Tree::read(text.as_bytes()));
    for (kid, document) in set.documents() {
        let tree = Tree::read_strict(document.as_bytes()).expect("strict JSON");
        assert!(
            PRIVATE.iter().all(|name| tree.get(name).is_none()),
            "private: {document}"
        );
        assert_ne!(
            tree.get("kty").and_then(Tree::text),
            Some("oct"),
            "symmetric: {document}"
        );
        assert_eq!(tree.get("kid").and_then(Tree::text), kid);
        let value = tree.to_value();
        assert!(
            originals.any(|original| original.to_value() == value),
            "no element, or out of order: {document}"
        );
    }
}

fn what_is_served_reads_again_as_the_same(set: &KeySet) {
    let body = set.kept_body();
    serde_json::from_str::<Value>(&body).expect("serde_json reads it");
    let kept = KeySet::parse_kept(body.as_bytes()).expect("a key set");
    assert_eq!(names(&kept), names(set));
    assert_eq!(kept.kept_body(), body);
    let again = KeySet::parse(body.as_bytes()).expect("a key set");
    assert_eq!(names(&again), names(set));
    assert_eq!(
        again.documents().count(),
        again.original_count(),
        "every key of it is served again"
    );
}

fn names(set: &KeySet) -> Vec<(Option<&str>, String)> {
    set.usable()
        .iter()
        .map(|key| (key.kid(), format!("{} {}", key.thumbprint(), key.algorithms())))
        .collect()
}

fn usable_keys_answer(set: &KeySet) {
    let mut owners = BTreeMap::<_, Vec<_>>::new();
    for key in set.usable() {
        for algorithm in key.algorithms().iter() {
            assert!(!algorithm.is_symmetric());
            owners
                .entry((key.kid(), algorithm.name()))
                .or_default()
                .push(key.thumbprint());
        }
    }
    for key in set.usable() {
        for algorithm in key.algorithms().iter() {
            let Some(kid) = key.kid() else { continue };
            let same = &owners[&(Some(kid), algorithm.name())];
            match set.select(Some(kid), algorithm) {
                Selection::Key(found) => {
                    assert!(same.iter().all(|other| *other == key.thumbprint()));
                    assert_eq!((found.kid(), found.thumbprint()), (Some(kid), key.thumbprint()));
                    assert!(found.fits(algorithm));
                }
                Selection::Ambiguous => assert!(same.iter().any(|other| *other != key.thumbprint())),
                Selection::Unknown => panic!("{kid} is not found"),
            }
        }
    }
    // Nothing is signed under any of these keys.
    for key in set.usable().iter().take(2) {
        for algorithm in key.algorithms().iter() {
            for length in [0, 64, 96, 132, 256] {
                assert!(!key.verify(algorithm, b"input", &vec![1; length]));
            }
        }
    }
}

fn truncated(mut set: KeySet, max: usize, truncation: Truncation) {
    let before: Vec<_> = set.documents().map(|(_, document)| document.to_owned()).collect();
    let usable = names(&set).len();
    let recent = |kid: &str| kid.len().is_multiple_of(2);
    let previous = |kid: &str| kid.starts_with('a');
    let dropped = set.truncate(max, truncation, &recent, &previous);
    let after: Vec<_> = set.documents().map(|(_, document)| document.to_owned()).collect();
    assert_eq!(after.len() + dropped.count, before.len());
    let limit = if max == 0 { MAX_KEYS } else { max };
    assert_eq!(after.len(), before.len().min(limit));
    let mut rest = before.iter();
    assert!(
        after.iter().all(|document| rest.any(|other| other == document)),
        "the order is another"
    );
    if truncation == Truncation::FirstN {
        assert_eq!(after, before[..after.len()]);
    } else {
        assert_eq!(
            set.usable().len(),
            usable.min(limit),
            "a key that verifies went before one that does not"
        );
    }
    let again = KeySet::parse(set.kept_body().as_bytes()).unwrap();
    let kept = names(&again);
    assert!(names(&set).iter().all(|name| kept.contains(name)), "used and not kept");
}

/// One key by itself is judged as it is in a set, save that a file may hold a symmetric one.
fn alone(element: &str) {
    let set = KeySet::parse(format!("{{\"keys\":[{element}]}}").as_bytes()).unwrap();
    match Key::from_jwk(element.as_bytes()) {
        Ok(key) if key.algorithms().iter().all(|algorithm| algorithm.is_symmetric()) => {
            assert!(set.usable().is_empty(), "a symmetric key out of a public set");
            assert_eq!(set.documents().count(), 0);
        }
        Ok(key) => assert_eq!(set.usable()[0].thumbprint(), key.thumbprint()),
        Err(_) => assert!(set.usable().is_empty()),
    }
}
