//! The index that is asked at every use of a token.

mod shard;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use self::shard::{Fingerprint, Inserted, Kept, Shard, hour_of};
use super::Rule;
use crate::{
    Denial, Timestamp,
    claims::{Claim, Claims},
};

/// So many that ten million records are thirteen thousand in each: who forgets those of one that have ended, or makes room in
/// it, holds the others up for some tens of microseconds.
const SHARDS: u64 = 768;

/// Records in memory: 64-bit fingerprints under a random key instead of names. Two names meet with a probability of one in
/// 2^64, and nobody can make them meet. One that refuses a token, a family, a session or a key takes 24 bytes at most, however
/// many there are; one with a time twice that.
///
/// A record refuses for as long as it is here, whatever the clock says: only [`Index::prune`] and [`Index::remove`] take it
/// away. Reading takes one short lock for each kind of record that exists at all.
pub struct Index {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
    /// How many records there are, by kind: a kind without records costs nothing.
    counts: [AtomicUsize; KINDS],
    /// Until when what is here counts as all there is, in milliseconds of steady time.
    complete_until: AtomicI64,
}

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
    token: Option<Fingerprint>,
    family: Option<Fingerprint>,
    subject: Option<Fingerprint>,
    session: Option<Fingerprint>,
    key: Option<Fingerprint>,
    issuer: Fingerprint,
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
        let inserted = self
            .write(fingerprint)
            .insert(fingerprint, until, Kept::new(kind, kept_until));
        if inserted == Inserted::New {
            self.count(kind).fetch_add(1, Ordering::Release);
        }
        inserted != Inserted::Known
    }

    /// Takes back what [`Index::insert`] was told of this rule.
    pub fn remove(&self, issuer: &str, rule: &Rule) {
        let (kind, fingerprint, _) = self.place(issuer, rule);
        let mut shard = self.write(fingerprint);
        if shard.names.remove(&fingerprint).is_some() || shard.times.remove(&fingerprint).is_some() {
            self.count(kind).fetch_sub(1, Ordering::Release);
        }
    }

    /// Drops records whose time has come, and says how many. Where nothing has come to its end that is soon seen; else it looks at
    /// one part of the records after the other, and who asks about others is not held up.
    pub fn prune(&self, now: Timestamp) -> usize {
        let current = hour_of(now);
        let mut dropped = [0; KINDS];
        for shard in &self.shards {
            let is_due = shard.read().unwrap_or_else(PoisonError::into_inner).earliest < current;
            if is_due {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.prune(current, &mut dropped);
            }
        }
        for (count, dropped) in self.counts.iter().zip(dropped) {
            count.fetch_sub(dropped, Ordering::Release);
        }
        dropped.iter().sum()
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
        self.until(Kind::Subject, fingerprint)
            .map(|until| until.div_euclid(1_000))
    }

    /// Until when, in seconds since the epoch, everything of an issuer is refused.
    #[must_use]
    pub fn issuer_not_before(&self, issuer: &str) -> Option<i64> {
        let fingerprint = self.fingerprint(Kind::Issuer, issuer, "");
        self.until(Kind::Issuer, fingerprint)
            .map(|until| until.div_euclid(1_000))
    }

    /// Whether everything that a key signed is refused.
    #[must_use]
    pub fn refuses_key(&self, issuer: &str, kid: &str) -> bool {
        self.refuses(Kind::Key, self.fingerprint(Kind::Key, issuer, kid))
    }

    /// What a verified token of `issuer` can be refused by. `kid` is that of the key that verified it.
    #[must_use]
    pub fn marks(&self, issuer: &str, claims: &Claims, kid: Option<&str>) -> Marks {
        let mark = |kind, name: Option<&str>| name.map(|name| self.fingerprint(kind, issuer, name));
        let parent = claims.get("parent_jti").and_then(Claim::as_str);
        Marks {
            token: mark(Kind::Token, claims.token_id()),
            family: mark(Kind::Family, parent.or(claims.token_id())),
            subject: mark(Kind::Subject, claims.subject()),
            session: mark(Kind::Session, claims.get("sid").and_then(Claim::as_str)),
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
    /// # Errors
    /// The reason: [`Denial::KeyRevoked`], [`Denial::IssuerRevoked`], [`Denial::SubjectRevoked`],
    /// [`Denial::ParentRevoked`] or [`Denial::TokenRevoked`], in this order.
    pub fn check(&self, marks: &Marks) -> Result<(), Denial> {
        let holds = |kind, mark: Option<Fingerprint>| mark.is_some_and(|mark| self.refuses(kind, mark));
        // A token that does not say when it was issued may have been issued at any time.
        let covered = |kind, mark: Option<Fingerprint>| {
            mark.and_then(|mark| self.until(kind, mark))
                .is_some_and(|until| marks.issued_at.is_none_or(|at| at.as_millis() <= until))
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

    /// Where a rule stands, and up to which time of issue it refuses; none where it refuses altogether.
    fn place(&self, issuer: &str, rule: &Rule) -> (Kind, Fingerprint, Option<i64>) {
        let (kind, name, until) = match rule {
            Rule::Token(jti) => (Kind::Token, jti.as_str(), None),
            Rule::Family(jti) => (Kind::Family, jti.as_str(), None),
            // To the last millisecond of that second: times of tokens may have fractions.
            Rule::Subject { sub, not_before } => (
                Kind::Subject,
                sub.as_str(),
                Some(not_before.saturating_mul(1_000).saturating_add(999)),
            ),
            Rule::Session(sid) => (Kind::Session, sid.as_str(), None),
            Rule::Key(kid) => (Kind::Key, kid.as_str(), None),
            Rule::IssuedBefore(time) => (Kind::Issuer, "", Some(time.as_millis().saturating_sub(1))),
        };
        (kind, self.fingerprint(kind, issuer, name), until)
    }

    fn fingerprint(&self, kind: Kind, issuer: &str, name: &str) -> Fingerprint {
        // Strings are hashed with an end mark, so no byte moves from one to the other.
        Fingerprint::of(self.hasher.hash_one((kind, issuer, name)))
    }

    /// Whether a record refuses it altogether.
    fn refuses(&self, kind: Kind, fingerprint: Fingerprint) -> bool {
        self.count(kind).load(Ordering::Acquire) > 0
            && self.read(fingerprint).names.contains_key(&fingerprint)
    }

    /// Until when what was issued is refused, in milliseconds.
    fn until(&self, kind: Kind, fingerprint: Fingerprint) -> Option<i64> {
        if self.count(kind).load(Ordering::Acquire) == 0 {
            return None;
        }
        self.read(fingerprint)
            .times
            .get(&fingerprint)
            .map(|(until, _)| *until)
    }

    fn read(&self, fingerprint: Fingerprint) -> RwLockReadGuard<'_, Shard> {
        self.shard(fingerprint)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, fingerprint: Fingerprint) -> RwLockWriteGuard<'_, Shard> {
        self.shard(fingerprint)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::indexing_slicing, reason = "the share is below the number of shards")]
    fn shard(&self, fingerprint: Fingerprint) -> &RwLock<Shard> {
        &self.shards[usize::try_from(fingerprint.share(SHARDS)).unwrap_or(0)]
    }

    #[expect(clippy::indexing_slicing, reason = "there is one for each kind")]
    fn count(&self, kind: Kind) -> &AtomicUsize {
        &self.counts[kind as usize]
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
