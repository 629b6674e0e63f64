//! How one key set follows another.

use std::sync::Arc;

use super::facts::Event;
use crate::{
    Timestamp,
    jose::{Key, KeySet},
};

/// What a new set leaves of the one before it.
pub(super) struct Succession {
    /// The keys that the new set does not list any more, each until when it still verifies.
    pub(super) absent: Vec<(Arc<Key>, Timestamp)>,
    /// What an operator should know.
    pub(super) events: Vec<Event>,
}

impl Succession {
    /// `new` follows a set with the keys `before`, while those of `absent` were already waiting for their end. A
    /// key that is missing from now on gets until `grace`; one that was missing already gains nothing.
    ///
    /// Keys are told apart by id and material. One whose id names something else now has no grace: its owner has
    /// said that the id is not this key's any more.
    pub(super) fn of(
        before: &[Arc<Key>],
        absent: &[(Arc<Key>, Timestamp)],
        new: &KeySet,
        now: Timestamp,
        grace: Timestamp,
    ) -> Self {
        let mut events = Vec::new();
        if !before.is_empty() && !before.iter().any(|key| lists(new, key)) {
            events.push(Event::AllKeysReplaced);
        }
        for key in before
            .iter()
            .filter(|key| !lists(new, key) && reuses_id(new, key))
        {
            if let Some(kid) = key.kid() {
                let successor = new.usable().iter().find(|other| other.kid() == Some(kid));
                events.push(Event::KeyReplaced {
                    kid: kid.to_owned(),
                    old: *key.thumbprint(),
                    new: successor.map(|key| *key.thumbprint()),
                });
            }
        }
        events.extend(compromise(new));
        let mut kept: Vec<(Arc<Key>, Timestamp)> = Vec::new();
        let newly = before.iter().map(|key| (key, grace));
        for (key, until) in absent.iter().map(|(key, until)| (key, *until)).chain(newly) {
            let leaked = new.leaked().contains(key.thumbprint());
            let gone = now >= until || leaked || lists(new, key) || reuses_id(new, key);
            if !gone && !kept.iter().any(|(other, _)| is_same(other, key)) {
                kept.push((Arc::clone(key), until));
            }
        }
        Self { absent: kept, events }
    }
}

/// Whether keys of `set` have come with what must be kept secret.
pub(super) fn compromise(set: &KeySet) -> Option<Event> {
    let compromised = set.skipped().iter().filter(|key| key.reason.is_compromise());
    match compromised.count() {
        0 => None,
        count => Some(Event::KeysCompromised { count }),
    }
}

fn is_same(one: &Key, other: &Key) -> bool {
    one.kid() == other.kid() && one.thumbprint() == other.thumbprint()
}

fn lists(set: &KeySet, key: &Key) -> bool {
    set.usable().iter().any(|listed| is_same(listed, key))
}

/// Whether `set`, which does not list `key`, has its id for something else. A key without an id may be any of those
/// without one that are not used, such as one that has come with its private part.
fn reuses_id(set: &KeySet, key: &Key) -> bool {
    let kid = key.kid();
    (kid.is_some() && set.usable().iter().any(|listed| listed.kid() == kid))
        || set.skipped().iter().any(|skipped| skipped.kid.as_deref() == kid)
}
