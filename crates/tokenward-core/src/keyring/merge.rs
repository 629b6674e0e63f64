//! Two rings of one issuer, which a store that lost the one let others make.

use super::{Entry, LONGEST_LEEWAY, Ring, Stage};
use crate::Timestamp;

impl Ring {
    /// Takes over what `other`, a ring of the same issuer that was stored once, has and this one, which is stored now, must not
    /// lack: keys that may have signed tokens which have not ended. They are published until those have, and sign no more. A
    /// key that `is_revoked` knows is left out. Says whether that changed anything.
    ///
    /// An older ring has nothing that a later one lacks, but what ended or was revoked. With `is_rival` it is known that
    /// `other` is no older one, but was stored in the place of this one: what was done to a key in either was done. Of its two
    /// stages the later one counts; of two keys that would sign, the one that began later does; and keys that are yet to sign
    /// come along.
    pub fn merge(
        &mut self,
        other: &Self,
        is_rival: bool,
        now: Timestamp,
        is_revoked: &dyn Fn(&str) -> bool,
    ) -> bool {
        let mut changed = false;
        let mut next = self.clone();
        for theirs in other.entries.iter().filter(|entry| !is_revoked(entry.kid())) {
            match next.entries.iter_mut().find(|entry| entry.kid() == theirs.kid()) {
                None if theirs.is_missed(is_rival, now) => {
                    next.entries.push(theirs.clone());
                    changed = true;
                }
                Some(ours) if is_rival && ours.stage.later(theirs.stage) != ours.stage => {
                    ours.stage = ours.stage.later(theirs.stage);
                    ours.longest_token = ours.longest_token.max(theirs.longest_token);
                    changed = true;
                }
                _ => {}
            }
        }
        if !changed {
            return false;
        }
        let signs = match is_rival {
            true => next.latest_active().or(self.latest_active()),
            // It was so when the ring was stored.
            false => self.latest_active(),
        };
        for entry in &mut next.entries {
            let is_signer = signs.as_ref().is_some_and(|(_, kid)| kid == entry.kid());
            match (entry.stage, &signs) {
                (Stage::Active { .. }, _) if !is_signer => entry.stage = entry.retired(now),
                // Each retired it for the key that the other retired.
                (Stage::Retiring { .. }, Some((since, _))) if is_signer => {
                    entry.stage = Stage::Active { since: *since };
                }
                _ => {}
            }
        }
        // Those that are the same age stay in their order.
        next.entries.sort_by_key(|entry| match entry.stage {
            Stage::Retiring { .. } => 0,
            Stage::Active { .. } => 1,
            Stage::Pending => 2,
        });
        *self = next;
        true
    }

    /// Since when the key signs that began last, and its id.
    fn latest_active(&self) -> Option<(Timestamp, String)> {
        let active = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Active { since } => Some((since, entry.kid().to_owned())),
            Stage::Pending | Stage::Retiring { .. } => None,
        });
        active.max()
    }
}

impl Entry {
    /// Whether a ring that lacks it lost it. One that signed so long ago that its tokens have ended may have ended by itself.
    fn is_missed(&self, is_rival: bool, now: Timestamp) -> bool {
        match self.stage {
            Stage::Pending => is_rival,
            Stage::Retiring { until } if until <= now => false,
            Stage::Active { .. } | Stage::Retiring { .. } => {
                now < self.published_at + self.longest_token + LONGEST_LEEWAY
            }
        }
    }

    pub(super) fn retired(&self, now: Timestamp) -> Stage {
        Stage::Retiring {
            until: now + self.longest_token + LONGEST_LEEWAY,
        }
    }
}

impl Stage {
    /// The one of two stages of a key to which it comes later.
    fn later(self, other: Self) -> Self {
        let rank = |stage| match stage {
            Self::Pending => (0, Timestamp::default()),
            Self::Active { since } => (1, since),
            Self::Retiring { until } => (2, until),
        };
        match rank(other) > rank(self) {
            true => other,
            false => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        jose::{Algorithm, SigningKey},
        keyring::{Schedule, Sealer},
    };

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

    fn ring() -> Ring {
        Ring::first(Algorithm::EdDsa, schedule(), START, &SigningKey::generate).unwrap()
    }

    fn rotate(ring: &mut Ring, now: Timestamp) -> String {
        let changes = ring.rotate(true, now, &SigningKey::generate).unwrap();
        changes.activated.unwrap()
    }

    /// Publishes a new key, and lets it sign.
    fn replace(ring: &mut Ring, now: Timestamp) -> String {
        ring.add(SigningKey::generate(Algorithm::EdDsa).unwrap(), now)
            .unwrap();
        rotate(ring, now)
    }

    fn stage(ring: &Ring, kid: &str) -> Option<Stage> {
        ring.published()
            .find(|key| key.kid() == kid)
            .map(|key| key.stage())
    }

    fn kids(ring: &Ring) -> Vec<(String, Stage)> {
        ring.published()
            .map(|key| (key.kid().to_owned(), key.stage()))
            .collect()
    }

    fn signer(ring: &Ring) -> String {
        ring.signer().unwrap().kid().to_owned()
    }

    /// A later ring of the same history lacks nothing, whatever was done.
    #[test]
    fn an_older_ring_adds_nothing_to_a_later_one() {
        let mut ring = ring();
        let mut history = vec![ring.clone()];
        let mut revoked = Vec::new();
        let mut now = START;
        for step in 0..200 {
            now = now + HOUR / 2;
            match step % 17 {
                3 => drop(replace(&mut ring, now)),
                8 => {
                    let kid = signer(&ring);
                    ring.revoke(&kid, now, &SigningKey::generate).unwrap();
                    revoked.push(kid);
                }
                11 => {
                    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
                    ring.keep_in_file(&key, now);
                }
                12 => drop(ring.keep_in_store(now, &SigningKey::generate).unwrap()),
                _ => drop(ring.tick(now, &SigningKey::generate).unwrap()),
            }
            let before = kids(&ring);
            for older in &history {
                let merged = ring.merge(older, false, now, &|kid| revoked.iter().any(|one| one == kid));
                assert!(!merged, "step {step}");
                assert_eq!(kids(&ring), before);
            }
            history.push(ring.clone());
        }
    }

    #[test]
    fn a_key_that_signed_and_was_lost_is_published_until_its_tokens_have_ended() {
        let base = ring();
        let (mut lost, mut stored) = (base.clone(), base);
        let now = START + HOUR;
        let (gone, active) = (replace(&mut lost, now), replace(&mut stored, now));
        replace(&mut lost, now + HOUR / 2);
        let later = now + HOUR;
        let second = signer(&lost);
        assert_eq!((stage(&stored, &gone), stage(&stored, &second)), (None, None));
        let retired = stage(&lost, &gone);

        let mut merged = stored.clone();
        assert!(merged.merge(&lost, false, later, &|_| false));
        assert_eq!(signer(&merged), active);
        assert_eq!(stage(&merged, &gone), retired, "as it was");
        let until = later + HOUR * 2 + LONGEST_LEEWAY;
        assert_eq!(stage(&merged, &second), Some(Stage::Retiring { until }));
        // What never signed is nobody's to miss where it may have been taken away.
        let pending = |ring: &Ring| {
            kids(ring)
                .iter()
                .filter(|(_, stage)| *stage == Stage::Pending)
                .count()
        };
        assert_eq!(pending(&merged), pending(&stored));
        assert!(!merged.merge(&lost, false, later, &|_| false), "it is done");
        // It is stored and read as any other, in its order.
        let sealer = Sealer::new([&[7; 32]]);
        let document = merged.to_document(&sealer, &|| Some([1; 12])).unwrap();
        let (read, _) = Ring::from_document(&document, &sealer, Algorithm::EdDsa, schedule()).unwrap();
        assert_eq!(kids(&read), kids(&merged));
        assert_eq!(merged.tick(until, &SigningKey::generate).unwrap().gone.len(), 3);

        // A revoked one does not come back, nor one whose tokens have ended.
        let mut merged = stored.clone();
        assert!(merged.merge(&lost, false, later, &|kid| kid == second));
        assert_eq!(stage(&merged, &second), None);
        let mut merged = stored.clone();
        let ended = now + HOUR / 2 + HOUR * 2 + LONGEST_LEEWAY;
        assert!(!merged.merge(&lost, false, ended, &|_| false));
        let moment = Duration::from_millis(1);
        assert!(merged.merge(&lost, false, ended - moment, &|_| false));
        assert_eq!(stage(&merged, &gone), None);
    }

    #[test]
    fn of_two_rings_of_one_version_what_was_done_in_either_is_done() {
        let base = ring();
        let (first, second) = (signer(&base), kids(&base)[1].0.clone());
        let now = START + HOUR;
        let later = now + HOUR / 2;
        let (mut one, mut two) = (base.clone(), base.clone());
        // The one rotates, the other publishes a key.
        assert_eq!(rotate(&mut one, now), second);
        let added = SigningKey::generate(Algorithm::EdDsa).unwrap();
        two.add(added.clone(), now).unwrap();
        for (ours, theirs) in [(&one, &two), (&two, &one)] {
            let mut merged = ours.clone();
            assert!(merged.merge(theirs, true, later, &|_| false));
            assert_eq!(signer(&merged), second);
            assert!(matches!(stage(&merged, &first), Some(Stage::Retiring { .. })));
            assert_eq!(stage(&merged, added.kid()), Some(Stage::Pending));
            assert_eq!(kids(&merged).len(), 4);
            assert!(!merged.merge(theirs, true, later, &|_| false), "it is done");
        }
        // Both let a key sign: the one that began last goes on.
        let (mut one, mut two) = (base.clone(), base.clone());
        let (early, late) = (replace(&mut one, now), replace(&mut two, later));
        for (ours, theirs) in [(&one, &two), (&two, &one)] {
            let mut merged = ours.clone();
            assert!(merged.merge(theirs, true, later, &|_| false));
            assert_eq!(signer(&merged), late);
            let until = later + HOUR * 2 + LONGEST_LEEWAY;
            assert_eq!(stage(&merged, &early), Some(Stage::Retiring { until }));
            assert_eq!(stage(&merged, &first), stage(&two, &first), "the longer");
            // A revoked one does not, though it began last.
            let mut merged = one.clone();
            assert!(merged.merge(&two, true, later, &|kid| kid == late));
            assert_eq!(signer(&merged), early);
        }
        // Each has retired what signs in the other: there is one that signs.
        let (mut one, mut two) = (base.clone(), base);
        rotate(&mut one, now);
        rotate(&mut two, now);
        rotate(&mut two, later);
        two.keep_in_file(
            two.clone()
                .published()
                .find(|key| key.kid() == first)
                .unwrap()
                .signing_key()
                .unwrap(),
            later,
        );
        let mut merged = one.clone();
        assert!(merged.merge(&two, true, later, &|_| false));
        let active = kids(&merged)
            .iter()
            .filter(|(_, stage)| matches!(stage, Stage::Active { .. }))
            .count();
        assert_eq!(active, 1);
    }
}
