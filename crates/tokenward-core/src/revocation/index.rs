//! The index that is asked at every use of a token.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use super::Rule;
use crate::{Denial, Timestamp, claims::Claims};

/// Readers of different tokens rarely meet at one lock.
const SHARDS: usize = 64;

/// Records are dropped together with all that expire in the same hour.
const SLOT_SECS: i64 = 3_600;

/// Records in memory: 64-bit fingerprints under a random key instead of names. Two names meet with a probability of one in
/// 2^64, and nobody can make them meet.
///
/// A record refuses for as long as it is here, whatever the clock says: only [`Index::prune`] and [`Index::remove`] take it
/// away. Reading takes one short lock for each kind of record that exists at all.
pub struct Index {
    hasher: RandomState,
    shards: Box<[RwLock<HashMap<u64, Entry>>]>,
    /// How many records there are, by kind: a kind without records costs nothing.
    counts: [AtomicUsize; KINDS],
    /// Fingerprints by the hour in which their records may go: each in one slot, however often its record was prolonged. Locked
    /// after a shard, never before one.
    slots: Mutex<Slots>,
    /// Until when what is here counts as all there is, in milliseconds of steady time.
    complete_until: AtomicI64,
}

#[derive(Clone, Copy)]
struct Entry {
    /// What is refused: everything, or what was issued at or before this, in milliseconds.
    until: i64,
    /// When it may be dropped.
    kept_until: Timestamp,
}

type Slots = BTreeMap<i64, HashSet<(Kind, u64)>>;

const KINDS: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    Token,
    Family,
    Subject,
    Session,
    Key,
    Issuer,
}

/// What a token can be refused by: its fingerprints in one index, to be kept with a cached verification.
#[derive(Clone, Debug)]
pub struct Marks {
    token: Option<u64>,
    family: Option<u64>,
    subject: Option<u64>,
    session: Option<u64>,
    key: Option<u64>,
    issuer: u64,
    issued_at: Option<Timestamp>,
    /// Whether `family` is the token itself.
    is_head: bool,
}

impl Index {
    /// An empty index. The hasher must be new: its key is a secret of this process.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            hasher,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            counts: Default::default(),
            slots: Mutex::default(),
            complete_until: AtomicI64::new(i64::MAX),
        }
    }

    /// Lets what is here count as all there is until `time`, in steady time, and not afterwards. An index to which nothing
    /// comes from elsewhere needs no such word: it is always complete.
    pub fn complete_until(&self, time: Timestamp) {
        self.complete_until.store(time.as_millis(), Ordering::Release);
    }

    /// Refuses from now on what the rule names among the tokens of `issuer`, at least until `kept_until`; without one until
    /// it is removed. Where there is a record already the wider one holds, and the longer one. Says whether more is refused
    /// than before.
    pub fn insert(&self, issuer: &str, rule: &Rule, kept_until: Option<Timestamp>) -> bool {
        let (kind, fingerprint, until) = self.place(issuer, rule);
        let entry = Entry {
            until,
            kept_until: kept_until.unwrap_or(Timestamp::MAX),
        };
        let mut shard = self.write(fingerprint);
        let (former, wider) = match shard.entry(fingerprint) {
            hash_map::Entry::Vacant(vacant) => {
                // Before the record is there, so that no reader passes over it.
                self.count(kind).fetch_add(1, Ordering::Release);
                vacant.insert(entry);
                (None, true)
            }
            hash_map::Entry::Occupied(mut occupied) => {
                let held = occupied.get_mut();
                let wider = entry.until > held.until;
                held.until = held.until.max(entry.until);
                if entry.kept_until <= held.kept_until {
                    return wider;
                }
                let former = std::mem::replace(&mut held.kept_until, entry.kept_until);
                (Some(former), wider)
            }
        };
        let mut slots = self.slots();
        if let Some(slot) = former.and_then(slot_of) {
            vacate(&mut slots, slot, (kind, fingerprint));
        }
        if let Some(slot) = slot_of(entry.kept_until) {
            slots.entry(slot).or_default().insert((kind, fingerprint));
        }
        wider
    }

    /// Takes back what [`Index::insert`] was told of this rule.
    pub fn remove(&self, issuer: &str, rule: &Rule) {
        let (kind, fingerprint, _) = self.place(issuer, rule);
        let mut shard = self.write(fingerprint);
        if let Some(held) = shard.remove(&fingerprint) {
            self.count(kind).fetch_sub(1, Ordering::Release);
            if let Some(slot) = slot_of(held.kept_until) {
                vacate(&mut self.slots(), slot, (kind, fingerprint));
            }
        }
    }

    /// Drops records whose time has come, and says how many. Its cost is that of those records.
    pub fn prune(&self, now: Timestamp) -> usize {
        let current = now.as_secs().div_euclid(SLOT_SECS);
        let due = {
            let mut slots = self.slots();
            let later = slots.split_off(&current);
            std::mem::replace(&mut *slots, later)
        };
        let mut dropped = 0;
        for (kind, fingerprint) in due.into_values().flatten() {
            let mut shard = self.write(fingerprint);
            // One that was prolonged meanwhile stands in a later slot by now.
            if shard
                .get(&fingerprint)
                .is_some_and(|entry| entry.kept_until <= now)
            {
                shard.remove(&fingerprint);
                self.count(kind).fetch_sub(1, Ordering::Release);
                dropped += 1;
            }
        }
        dropped
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Acquire))
            .sum()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Until when, in seconds since the epoch, what was issued to a subject is refused.
    #[must_use]
    pub fn subject_not_before(&self, issuer: &str, sub: &str) -> Option<i64> {
        let fingerprint = self.fingerprint(Kind::Subject, issuer, sub);
        self.read(Kind::Subject, fingerprint)
            .map(|entry| entry.until.div_euclid(1_000))
    }

    /// Until when, in seconds since the epoch, everything of an issuer is refused.
    #[must_use]
    pub fn issuer_not_before(&self, issuer: &str) -> Option<i64> {
        let fingerprint = self.fingerprint(Kind::Issuer, issuer, "");
        self.read(Kind::Issuer, fingerprint)
            .map(|entry| entry.until.div_euclid(1_000))
    }

    /// Whether everything that a key signed is refused.
    #[must_use]
    pub fn refuses_key(&self, issuer: &str, kid: &str) -> bool {
        self.read(Kind::Key, self.fingerprint(Kind::Key, issuer, kid))
            .is_some()
    }

    /// What a verified token of `issuer` can be refused by. `kid` is that of the key that verified it.
    #[must_use]
    pub fn marks(&self, issuer: &str, claims: &Claims, kid: Option<&str>) -> Marks {
        let mark = |kind, name: Option<&str>| name.map(|name| self.fingerprint(kind, issuer, name));
        let parent = claims.all().get("parent_jti").and_then(|parent| parent.as_str());
        Marks {
            token: mark(Kind::Token, claims.token_id()),
            family: mark(Kind::Family, parent.or(claims.token_id())),
            subject: mark(Kind::Subject, claims.subject()),
            session: mark(
                Kind::Session,
                claims.all().get("sid").and_then(|sid| sid.as_str()),
            ),
            key: mark(Kind::Key, kid),
            issuer: self.fingerprint(Kind::Issuer, issuer, ""),
            issued_at: claims.issued_at(),
            is_head: parent.is_none(),
        }
    }

    /// Whether a token with these marks, which must be of this index, may be used at `now`, in steady time: no record
    /// refuses it, and there is none that this index could not know.
    ///
    /// # Errors
    /// That of [`Index::check`], whatever the time; [`Denial::RevocationUnavailable`] once `now` is past what
    /// [`Index::complete_until`] said.
    pub fn admit(&self, marks: &Marks, now: Timestamp) -> Result<(), Denial> {
        self.check(marks)?;
        if now.as_millis() > self.complete_until.load(Ordering::Acquire) {
            return Err(Denial::RevocationUnavailable);
        }
        Ok(())
    }

    /// Whether no record refuses a token with these marks, which must be of this index.
    ///
    ///
    /// # Errors
    /// The reason: [`Denial::KeyRevoked`], [`Denial::IssuerRevoked`], [`Denial::SubjectRevoked`],
    /// [`Denial::ParentRevoked`] or [`Denial::TokenRevoked`], in this order.
    pub fn check(&self, marks: &Marks) -> Result<(), Denial> {
        let holds = |kind, mark: Option<u64>| mark.and_then(|mark| self.read(kind, mark)).is_some();
        // A token that does not say when it was issued may have been issued at any time.
        let covered = |kind, mark: Option<u64>| {
            mark.and_then(|mark| self.read(kind, mark))
                .is_some_and(|entry| marks.issued_at.is_none_or(|at| at.as_millis() <= entry.until))
        };
        if holds(Kind::Key, marks.key) {
            return Err(Denial::KeyRevoked);
        }
        if covered(Kind::Issuer, Some(marks.issuer)) {
            return Err(Denial::IssuerRevoked);
        }
        if covered(Kind::Subject, marks.subject) || holds(Kind::Session, marks.session) {
            return Err(Denial::SubjectRevoked);
        }
        if holds(Kind::Family, marks.family) {
            return Err(if marks.is_head {
                Denial::TokenRevoked
            } else {
                Denial::ParentRevoked
            });
        }
        if holds(Kind::Token, marks.token) {
            return Err(Denial::TokenRevoked);
        }
        Ok(())
    }

    fn place(&self, issuer: &str, rule: &Rule) -> (Kind, u64, i64) {
        let all = i64::MAX;
        let (kind, name, until) = match rule {
            Rule::Token(jti) => (Kind::Token, jti.as_str(), all),
            Rule::Family(jti) => (Kind::Family, jti.as_str(), all),
            // To the last millisecond of that second: times of tokens may have fractions.
            Rule::Subject { sub, not_before } => (
                Kind::Subject,
                sub.as_str(),
                not_before.saturating_mul(1_000).saturating_add(999),
            ),
            Rule::Session(sid) => (Kind::Session, sid.as_str(), all),
            Rule::Key(kid) => (Kind::Key, kid.as_str(), all),
            Rule::IssuedBefore(time) => (Kind::Issuer, "", time.as_millis().saturating_sub(1)),
        };
        (kind, self.fingerprint(kind, issuer, name), until)
    }

    fn fingerprint(&self, kind: Kind, issuer: &str, name: &str) -> u64 {
        // Strings are hashed with an end mark, so no byte moves from one to the other.
        self.hasher.hash_one((kind, issuer, name))
    }

    fn read(&self, kind: Kind, fingerprint: u64) -> Option<Entry> {
        if self.count(kind).load(Ordering::Acquire) == 0 {
            return None;
        }
        let shard = self
            .shard(fingerprint)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        shard.get(&fingerprint).copied()
    }

    fn write(&self, fingerprint: u64) -> std::sync::RwLockWriteGuard<'_, HashMap<u64, Entry>> {
        self.shard(fingerprint)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn shard(&self, fingerprint: u64) -> &RwLock<HashMap<u64, Entry>> {
        let shards = self.shards.len();
        let place = usize::try_from(fingerprint % u64::try_from(shards).unwrap_or(1)).unwrap_or(0);
        &self.shards[place]
    }

    #[expect(clippy::indexing_slicing, reason = "there is one for each kind")]
    fn count(&self, kind: Kind) -> &AtomicUsize {
        &self.counts[kind as usize]
    }
}

/// The hour in which what is kept until then may go; none where it is kept until it is removed.
fn slot_of(kept_until: Timestamp) -> Option<i64> {
    (kept_until != Timestamp::MAX).then(|| kept_until.as_secs().div_euclid(SLOT_SECS))
}

fn vacate(slots: &mut Slots, slot: i64, record: (Kind, u64)) {
    if let Some(records) = slots.get_mut(&slot) {
        records.remove(&record);
        if records.is_empty() {
            slots.remove(&slot);
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
