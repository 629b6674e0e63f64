//! Which proofs were used.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use aws_lc_rs::digest;

use super::Proof;
use crate::{Denial, Timestamp, jose::Thumbprint};

/// How many are forgotten at a time: more than come, and few enough that nobody waits for it.
const FORGOTTEN_AT_ONCE: usize = 64;

/// A part of the hash of an id. Whoever finds two ids with the same one has only his own proof refused.
type Id = [u8; 16];

/// The proofs that were accepted, each for as long as it could be accepted again.
///
/// It holds a bounded number. When it is full, further proofs are refused and none is forgotten: what is forgotten early
/// could be replayed, and whoever wants that would only have to send enough proofs of his own. One key holds a quarter
/// at most, so that filling it takes several tokens with keys of their own.
#[derive(Debug)]
pub struct Replays {
    capacity: usize,
    memory: Duration,
    /// In the order in which they are forgotten.
    order: VecDeque<Used>,
    by_key: HashMap<Thumbprint, HashSet<Id>>,
    /// The latest `iat` of those that are forgotten.
    forgotten: Option<Timestamp>,
}

/// A proof that was accepted.
#[derive(Debug)]
struct Used {
    until: Timestamp,
    issued_at: Timestamp,
    key: Thumbprint,
    id: Id,
}

impl Replays {
    /// Remembers `capacity` proofs at most, about 150 bytes each, and each for the time `memory` after it was accepted:
    /// see [`Window::memory`](super::Window::memory).
    #[must_use]
    pub fn new(capacity: usize, memory: Duration) -> Self {
        Self {
            capacity,
            memory,
            order: VecDeque::new(),
            by_key: HashMap::new(),
            forgotten: None,
        }
    }

    /// Remembers a proof that passed every other check, at the steady time `now`.
    ///
    /// # Errors
    ///
    /// [`Denial::DpopReplayed`] where it was used before, or is as old as one that is forgotten: only a wall clock that was
    /// set back lets one so old pass the other checks. [`Denial::RateLimited`] where there is no room for it.
    pub fn accept(&mut self, proof: &Proof, now: Timestamp) -> Result<(), Denial> {
        self.forget(now);
        let id = id_of(proof);
        let share = self.capacity.div_ceil(4);
        let of_key = self.by_key.get(&proof.key);
        let may_be_forgotten = self.forgotten.is_some_and(|latest| proof.issued_at <= latest);
        if may_be_forgotten || of_key.is_some_and(|ids| ids.contains(&id)) {
            return Err(Denial::DpopReplayed);
        }
        if self.order.len() >= self.capacity || of_key.is_some_and(|ids| ids.len() >= share) {
            return Err(Denial::RateLimited);
        }
        self.by_key.entry(proof.key).or_default().insert(id);
        self.order.push_back(Used {
            until: now + self.memory,
            issued_at: proof.issued_at,
            key: proof.key,
            id,
        });
        Ok(())
    }

    fn forget(&mut self, now: Timestamp) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(used) = self.order.pop_front_if(|used| used.until < now) else {
                return;
            };
            self.forgotten = self.forgotten.max(Some(used.issued_at));
            if let Some(ids) = self.by_key.get_mut(&used.key) {
                ids.remove(&used.id);
                if ids.is_empty() {
                    self.by_key.remove(&used.key);
                }
            }
        }
    }
}

fn id_of(proof: &Proof) -> Id {
    let hash = digest::digest(&digest::SHA256, proof.id.as_bytes());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::Key;

    const MEMORY: Duration = Duration::from_secs(330);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// A proof with a key of that number.
    fn proof(key: u8, id: &str) -> Proof {
        proof_of(key, id, 0)
    }

    fn proof_of(key: u8, id: &str, issued_at: i64) -> Proof {
        use crate::jose::{Algorithm, AlgorithmSet};
        let secret = [key; 32];
        let key = Key::symmetric(&secret, AlgorithmSet::only(Algorithm::Hs256), None).unwrap();
        Proof {
            key: *key.thumbprint(),
            id: id.to_owned(),
            issued_at: at(issued_at),
        }
    }

    #[test]
    fn a_proof_is_accepted_once_for_as_long_as_it_could_be() {
        let mut replays = Replays::new(8, MEMORY);
        assert_eq!(replays.accept(&proof(1, "a"), at(0)), Ok(()));
        assert_eq!(replays.accept(&proof(1, "b"), at(0)), Ok(()));
        assert_eq!(
            replays.accept(&proof(2, "a"), at(0)),
            Ok(()),
            "ids are each key's own"
        );
        for secs in [0, 1, 330] {
            assert_eq!(
                replays.accept(&proof(1, "a"), at(secs)),
                Err(Denial::DpopReplayed),
                "{secs}"
            );
        }
        assert_eq!(replays.accept(&proof_of(1, "a", 1), at(331)), Ok(()));
    }

    #[test]
    fn what_is_as_old_as_what_was_forgotten_is_refused() {
        let mut replays = Replays::new(8, MEMORY);
        assert_eq!(replays.accept(&proof_of(1, "a", 30), at(0)), Ok(()));
        assert_eq!(replays.accept(&proof_of(1, "b", 20), at(0)), Ok(()));
        // With a clock that moves on alone, nothing that old gets here.
        for (id, issued_at) in [("a", 30), ("b", 20), ("c", 30)] {
            let old = proof_of(1, id, issued_at);
            assert_eq!(replays.accept(&old, at(331)), Err(Denial::DpopReplayed), "{id}");
        }
        assert_eq!(replays.accept(&proof_of(1, "a", 31), at(331)), Ok(()));
    }

    #[test]
    fn when_it_is_full_nothing_is_forgotten_before_its_time() {
        let mut replays = Replays::new(8, MEMORY);
        for (key, id) in (1..=4).flat_map(|key| [(key, "a"), (key, "b")]) {
            assert_eq!(replays.accept(&proof(key, id), at(0)), Ok(()));
        }
        for id in 0..1_000 {
            let another = proof(9, &id.to_string());
            assert_eq!(replays.accept(&another, at(330)), Err(Denial::RateLimited));
        }
        assert_eq!(replays.accept(&proof(1, "a"), at(330)), Err(Denial::DpopReplayed));
        assert_eq!(replays.accept(&proof_of(9, "a", 1), at(331)), Ok(()));
        assert_eq!(
            (replays.order.len(), replays.by_key.len()),
            (1, 1),
            "room is given back"
        );
    }

    #[test]
    fn many_are_forgotten_little_by_little_and_faster_than_they_come() {
        let mut replays = Replays::new(800, MEMORY);
        for id in 0..200 {
            assert_eq!(replays.accept(&proof(1, &id.to_string()), at(0)), Ok(()));
        }
        assert_eq!(
            replays.accept(&proof(1, "more"), at(330)),
            Err(Denial::RateLimited)
        );
        for (id, left) in [(1, 137), (2, 74), (3, 11), (4, 4), (5, 5)] {
            assert_eq!(
                replays.accept(&proof_of(1, &format!("new-{id}"), 1), at(331)),
                Ok(())
            );
            assert_eq!(replays.order.len(), left);
        }
    }

    #[test]
    fn one_key_fills_a_quarter() {
        let mut replays = Replays::new(8, MEMORY);
        assert_eq!(replays.accept(&proof(1, "a"), at(0)), Ok(()));
        assert_eq!(replays.accept(&proof(1, "b"), at(0)), Ok(()));
        assert_eq!(replays.accept(&proof(1, "c"), at(0)), Err(Denial::RateLimited));
        assert_eq!(replays.accept(&proof(1, "a"), at(0)), Err(Denial::DpopReplayed));
        assert_eq!(replays.accept(&proof(2, "c"), at(0)), Ok(()));
    }
}
