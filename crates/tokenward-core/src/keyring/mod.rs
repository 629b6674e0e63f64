//! The life of our own signing keys: pending, active, retiring, gone.
//!
//! A pending key is published and does not sign, so that verifiers know it before they meet it. The one active key signs.
//! A retiring one is published until the last token that it signed has ended. There is always a pending key, so that a
//! rotation, planned or forced by a leak, has a successor that verifiers know already.
//!
//! Every method takes the time and returns what changed; whoever calls it stores the ring before the change is acted on.

mod merge;
mod schedule;
mod seal;
mod stored;

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Timestamp,
    jose::{Algorithm, Key, KeyFault, SigningKey},
};

pub use schedule::{HELD, MAX_PUBLISHED, Schedule, ScheduleFault};
pub use seal::{KEY_ENCRYPTION_KEY_BYTES, SealFault, Sealer};
pub use stored::StoredFault;

use schedule::LONGEST_LEEWAY;

#[cfg(test)]
mod tests;

/// The signing keys of one issuer.
#[derive(Clone, Debug)]
pub struct Ring {
    algorithm: Algorithm,
    schedule: Schedule,
    /// Oldest first: retiring ones, the active one, then the pending ones in the order in which they will sign.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    material: Material,
    published_at: Timestamp,
    stage: Stage,
    /// The longest that a token of it may live: schedules change while its tokens do not.
    longest_token: Duration,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Published, and signs nothing yet.
    Pending,
    /// Signs.
    Active {
        /// Since when.
        since: Timestamp,
    },
    /// Published, and signs nothing any more.
    Retiring {
        /// When the last token that it signed has ended.
        until: Timestamp,
    },
}

impl Stage {
    /// The stage's name, as it is shown and stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active { .. } => "active",
            Self::Retiring { .. } => "retiring",
        }
    }
}

#[derive(Clone)]
enum Material {
    Own(SigningKey),
    /// Of a key whose private half the operator keeps in a file: what verifies its tokens after the file has changed.
    Public {
        jwk: String,
        verifier: Arc<Key>,
    },
}

/// One key of a [`Ring`], as it may be shown to anybody.
#[derive(Clone, Copy, Debug)]
pub struct PublishedKey<'r>(&'r Entry);

/// Why keys were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingFault {
    /// The successor is not published for long enough yet.
    NotYet {
        /// When it is.
        until: Timestamp,
    },
    /// The key comes from a file: the operator rotates it by changing the file.
    KeptInFile,
    /// [`MAX_PUBLISHED`] keys are published already.
    TooMany,
    /// There is no such key.
    Unknown,
    /// The key is in the ring already.
    Known,
    /// The new key is not good.
    Key(KeyFault),
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet { until } => write!(
                f,
                "the next key is not published for long enough until {until}; verifiers might not know it"
            ),
            Self::KeptInFile => f.write_str(
                "the signing key is kept in a file: put another key there, or remove `private_key_file`",
            ),
            Self::TooMany => write!(
                f,
                "{MAX_PUBLISHED} keys are published already: revoke one that is not needed"
            ),
            Self::Unknown => f.write_str("there is no such key"),
            Self::Known => f.write_str("the key is there already"),
            Self::Key(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for RingFault {}

impl From<KeyFault> for RingFault {
    fn from(fault: KeyFault) -> Self {
        Self::Key(fault)
    }
}

/// What a change did, by key id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Published from now on.
    pub added: Vec<String>,
    /// Signs from now on.
    pub activated: Option<String>,
    /// Published no longer.
    pub gone: Vec<String>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Makes a key for the algorithm; [`SigningKey::generate`] where nothing else is wanted.
pub type Generate<'g> = &'g dyn Fn(Algorithm) -> Result<SigningKey, KeyFault>;

impl Ring {
    /// The first keys of an issuer: one that signs at once, since nobody can hold an older set, and its successor.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn first(
        algorithm: Algorithm,
        schedule: Schedule,
        now: Timestamp,
        generate: Generate<'_>,
    ) -> Result<Self, KeyFault> {
        let mut ring = Self::empty(algorithm, schedule);
        ring.entries
            .push(ring.own(generate(algorithm)?, Stage::Active { since: now }, now));
        ring.entries
            .push(ring.own(generate(algorithm)?, Stage::Pending, now));
        Ok(ring)
    }

    /// No key at all: to be given one with [`Ring::keep_in_file`].
    #[must_use]
    pub const fn empty(algorithm: Algorithm, schedule: Schedule) -> Self {
        Self {
            algorithm,
            schedule,
            entries: Vec::new(),
        }
    }

    /// Signs with the key of the operator's file from now on. The ring publishes it, keeps its public half when it is
    /// stored, and does not rotate it. A key that signed before retires.
    pub fn keep_in_file(&mut self, key: &SigningKey, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        // Its successor is the operator's business.
        self.entries.retain(|entry| {
            let dropped = entry.stage == Stage::Pending && entry.kid() != key.kid();
            if dropped {
                changes.gone.push(entry.kid().to_owned());
            }
            !dropped
        });
        let material = Material::Public {
            jwk: key.public_jwk().to_owned(),
            verifier: Arc::clone(key.verifier()),
        };
        if self.active().is_some_and(|active| active.kid() == key.kid()) {
            for entry in &mut self.entries {
                if matches!(entry.stage, Stage::Active { .. }) {
                    entry.material = material.clone();
                }
            }
            return changes;
        }
        self.retire_active(now);
        let known = self.entries.iter().position(|entry| entry.kid() == key.kid());
        if let Some(known) = known {
            self.entries.remove(known);
        } else {
            changes.added.push(key.kid().to_owned());
        }
        changes.activated = Some(key.kid().to_owned());
        let entry = self.entry(material, Stage::Active { since: now }, now);
        self.entries.push(entry);
        changes
    }

    /// Goes on under these settings: the algorithm of new keys, and their times. A key of another algorithm than the
    /// configured one is followed by one of it as soon as that is published for long enough.
    pub fn reconfigure(&mut self, algorithm: Algorithm, schedule: Schedule) {
        self.algorithm = algorithm;
        self.schedule = schedule;
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Active { .. }) {
                entry.longest_token = entry.longest_token.max(schedule.longest_token);
            }
        }
    }

    /// The key that signs. None where the private key is in a file, or where there is none at all.
    #[must_use]
    pub fn signer(&self) -> Option<&SigningKey> {
        match &self.active()?.material {
            Material::Own(key) => Some(key),
            Material::Public { .. } => None,
        }
    }

    /// The keys that are published, the active one first, then by age.
    pub fn published(&self) -> impl Iterator<Item = PublishedKey<'_>> {
        let (active, others): (Vec<_>, Vec<_>) = self
            .entries
            .iter()
            .partition(|entry| matches!(entry.stage, Stage::Active { .. }));
        active.into_iter().chain(others).map(PublishedKey)
    }

    /// The longest that a token of a published key may live, under whatever schedule it was signed.
    #[must_use]
    pub fn longest_token(&self) -> Duration {
        let longest = self.entries.iter().map(|entry| entry.longest_token).max();
        longest.unwrap_or(self.schedule.longest_token)
    }

    /// When [`Ring::tick`] has something to do. None where the ring is at rest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let retired = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Retiring { until } => Some(until),
            Stage::Pending | Stage::Active { .. } => None,
        });
        retired.chain(self.rotation_due()).min()
    }

    /// Does what is due: rotates, replaces a successor of another algorithm, and drops keys whose tokens have all ended.
    ///
    /// # Errors
    /// If no key can be made; nothing has changed then.
    pub fn tick(&mut self, now: Timestamp, generate: Generate<'_>) -> Result<Changes, KeyFault> {
        let mut next = self.clone();
        let mut changes = Changes::default();
        next.entries.retain(|entry| {
            let ended = matches!(entry.stage, Stage::Retiring { until } if until <= now);
            if ended {
                changes.gone.push(entry.kid().to_owned());
            }
            !ended
        });
        if next.signer().is_some() {
            let misfits: Vec<String> = next
                .pending()
                .filter(|entry| entry.algorithm() != Some(next.algorithm))
                .map(|entry| entry.kid().to_owned())
                .collect();
            next.entries
                .retain(|entry| !misfits.iter().any(|kid| kid == entry.kid()));
            changes.gone.extend(misfits);
            if next.rotation_due().is_some_and(|due| due <= now) {
                next.activate(0, now, &mut changes);
            }
            next.ensure_pending(now, generate, &mut changes)?;
        }
        *self = next;
        Ok(changes)
    }

    /// Lets the successor sign at once. With `force` it may be one that verifiers do not know yet: their tokens are
    /// refused until they have fetched the set anew.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn rotate(
        &mut self,
        force: bool,
        now: Timestamp,
        generate: Generate<'_>,
    ) -> Result<Changes, RingFault> {
        let mut next = self.clone();
        next.in_store()?;
        let until = next.successor_ready().ok_or(RingFault::Unknown)?;
        if !force && now < until {
            return Err(RingFault::NotYet { until });
        }
        if next.is_full() {
            return Err(RingFault::TooMany);
        }
        let mut changes = Changes::default();
        next.activate(0, now, &mut changes);
        next.ensure_pending(now, generate, &mut changes)?;
        *self = next;
        Ok(changes)
    }

    /// Ends a key at once; its tokens verify nowhere as soon as verifiers have the new set. If it was the active one,
    /// the pending key that is published for the longest time takes its place.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn revoke(
        &mut self,
        kid: &str,
        now: Timestamp,
        generate: Generate<'_>,
    ) -> Result<Changes, RingFault> {
        let mut next = self.clone();
        let place = next
            .entries
            .iter()
            .position(|entry| entry.kid() == kid)
            .ok_or(RingFault::Unknown)?;
        let entry = next.entries.remove(place);
        let mut changes = Changes {
            gone: vec![kid.to_owned()],
            ..Changes::default()
        };
        if matches!(entry.stage, Stage::Active { .. }) {
            if matches!(entry.material, Material::Public { .. }) {
                return Err(RingFault::KeptInFile);
            }
            next.ensure_pending(now, generate, &mut changes)?;
            let oldest = next
                .pending()
                .enumerate()
                .min_by_key(|(_, entry)| entry.published_at)
                .map_or(0, |(place, _)| place);
            next.activate(oldest, now, &mut changes);
        }
        if next.signer().is_some() {
            next.ensure_pending(now, generate, &mut changes)?;
        }
        *self = next;
        Ok(changes)
    }

    /// Publishes a key that is to sign after the active one, before other pending ones.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn add(&mut self, key: SigningKey, now: Timestamp) -> Result<Changes, RingFault> {
        self.in_store()?;
        if self.entries.iter().any(|entry| entry.kid() == key.kid()) {
            return Err(RingFault::Known);
        }
        if self.entries.len() >= MAX_PUBLISHED {
            return Err(RingFault::TooMany);
        }
        let changes = Changes {
            added: vec![key.kid().to_owned()],
            ..Changes::default()
        };
        let place = self.entries.len() - self.pending().count();
        self.entries.insert(place, self.own(key, Stage::Pending, now));
        Ok(changes)
    }

    /// Gives up the file's key: from now on the ring's own keys sign.
    ///
    /// # Errors
    /// If no key can be made; nothing has changed then.
    pub fn keep_in_store(&mut self, now: Timestamp, generate: Generate<'_>) -> Result<Changes, KeyFault> {
        let mut next = self.clone();
        let mut changes = Changes::default();
        if next.signer().is_none() {
            next.ensure_pending(now, generate, &mut changes)?;
            next.activate(0, now, &mut changes);
            next.ensure_pending(now, generate, &mut changes)?;
        }
        *self = next;
        Ok(changes)
    }

    fn in_store(&self) -> Result<(), RingFault> {
        match self.active() {
            Some(Entry {
                material: Material::Public { .. },
                ..
            }) => Err(RingFault::KeptInFile),
            _ => Ok(()),
        }
    }

    fn active(&self) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| matches!(entry.stage, Stage::Active { .. }))
    }

    fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.stage == Stage::Pending)
    }

    /// When every verifier knows the successor.
    fn successor_ready(&self) -> Option<Timestamp> {
        let next = self.pending().next()?;
        Some(next.published_at + self.schedule.publish_ahead)
    }

    fn rotation_due(&self) -> Option<Timestamp> {
        let Some(Entry {
            stage: Stage::Active { since },
            material: Material::Own(key),
            ..
        }) = self.active()
        else {
            return None;
        };
        let ready = self.successor_ready()?;
        let due = match key.algorithm() == self.algorithm {
            true => ready.max(*since + self.schedule.rotation_interval),
            false => ready,
        };
        // One more than verifiers keep would be cut off; it waits until the next one goes.
        let room = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Retiring { until } if self.is_full() => Some(until),
            _ => None,
        });
        Some(room.min().map_or(due, |room| room.max(due)))
    }

    /// Whether the next rotation would publish one more than may be.
    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_PUBLISHED && self.pending().count() == 1
    }

    /// The pending key at `place` signs from now on.
    fn activate(&mut self, place: usize, now: Timestamp, changes: &mut Changes) {
        let Some(at) = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.stage == Stage::Pending)
            .map(|(at, _)| at)
            .nth(place)
        else {
            return;
        };
        self.retire_active(now);
        let longest = self.schedule.longest_token;
        // Before the other pending ones, so that the order stays.
        let mut entry = self.entries.remove(at);
        entry.stage = Stage::Active { since: now };
        entry.longest_token = longest;
        changes.activated = Some(entry.kid().to_owned());
        let before = self.entries.len() - self.pending().count();
        self.entries.insert(before, entry);
    }

    fn retire_active(&mut self, now: Timestamp) {
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Active { .. }) {
                entry.stage = entry.retired(now);
            }
        }
    }

    fn ensure_pending(
        &mut self,
        now: Timestamp,
        generate: Generate<'_>,
        changes: &mut Changes,
    ) -> Result<(), KeyFault> {
        if self.pending().next().is_none() {
            let key = generate(self.algorithm)?;
            changes.added.push(key.kid().to_owned());
            self.entries.push(self.own(key, Stage::Pending, now));
        }
        Ok(())
    }

    fn own(&self, key: SigningKey, stage: Stage, now: Timestamp) -> Entry {
        self.entry(Material::Own(key), stage, now)
    }

    fn entry(&self, material: Material, stage: Stage, now: Timestamp) -> Entry {
        Entry {
            material,
            published_at: now,
            stage,
            longest_token: self.schedule.longest_token,
        }
    }
}

impl Entry {
    fn kid(&self) -> &str {
        match &self.material {
            Material::Own(key) => key.kid(),
            Material::Public { verifier, .. } => verifier.kid().unwrap_or_default(),
        }
    }

    fn algorithm(&self) -> Option<Algorithm> {
        match &self.material {
            Material::Own(key) => Some(key.algorithm()),
            Material::Public { verifier, .. } => verifier.algorithms().iter().next(),
        }
    }
}

impl PublishedKey<'_> {
    /// Its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.0.kid()
    }

    /// What it signs, or signed, with.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.0.algorithm()
    }

    /// The public key as a JWK.
    #[must_use]
    pub fn jwk(&self) -> &str {
        match &self.0.material {
            Material::Own(key) => key.public_jwk(),
            Material::Public { jwk, .. } => jwk,
        }
    }

    /// The private key; none where it is in a file.
    #[must_use]
    pub const fn signing_key(&self) -> Option<&SigningKey> {
        match &self.0.material {
            Material::Own(key) => Some(key),
            Material::Public { .. } => None,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.0.stage
    }

    /// Since when it is published.
    #[must_use]
    pub const fn published_at(&self) -> Timestamp {
        self.0.published_at
    }

    /// Whether the private key is in a file of the operator's.
    #[must_use]
    pub const fn is_kept_in_file(&self) -> bool {
        matches!(self.0.material, Material::Public { .. })
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(key) => key.fmt(f),
            Self::Public { verifier, .. } => verifier.fmt(f),
        }
    }
}
