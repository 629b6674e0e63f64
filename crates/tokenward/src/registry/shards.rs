//! Registrations by name and by issuer, for many readers and one writer.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use super::Idp;

/// How many parts an index is cut into. A change copies one part, so 100,000 entries cost a copy of about 400
/// pointers, and readers of the others do not notice.
const SHARDS: usize = 256;

/// An index over `(tenant, text)`. Readers take no lock and wait for nobody.
///
/// Writers must be serialised by the owner.
pub(super) struct Index {
    /// Keyed at random, since issuers come out of unverified tokens.
    hasher: RandomState,
    shards: Box<[ArcSwap<HashTable<Arc<Idp>>>]>,
    text: fn(&Idp) -> Option<&str>,
}

impl Index {
    /// An index by the `text` of a registration; those without one are not in it.
    pub(super) fn by(text: fn(&Idp) -> Option<&str>) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS)
                .map(|_| ArcSwap::from_pointee(HashTable::new()))
                .collect(),
            text,
        }
    }

    pub(super) fn get(&self, tenant: &str, text: &str) -> Option<Arc<Idp>> {
        let (hash, shard) = self.place(tenant, text)?;
        shard.load().find(hash, |idp| self.is(idp, tenant, text)).cloned()
    }

    /// Puts each of `idps` in, in place of what had the same key.
    pub(super) fn insert<'a>(&self, idps: impl Iterator<Item = &'a Arc<Idp>>) {
        self.change(idps, |table, hash, idp| {
            let (tenant, text) = (idp.tenant(), (self.text)(idp).unwrap_or_default());
            match table.find_mut(hash, |other| self.is(other, tenant, text)) {
                Some(slot) => *slot = Arc::clone(idp),
                None => {
                    table.insert_unique(hash, Arc::clone(idp), |other| self.hash(other));
                }
            }
        });
    }

    /// Takes each of `idps` out, if it is the one under its key.
    pub(super) fn remove<'a>(&self, idps: impl Iterator<Item = &'a Arc<Idp>>) {
        let there = idps.filter(|idp| {
            let text = (self.text)(idp).unwrap_or_default();
            self.get(idp.tenant(), text)
                .is_some_and(|other| Arc::ptr_eq(&other, idp))
        });
        self.change(there, |table, hash, idp| {
            if let Ok(entry) = table.find_entry(hash, |other| Arc::ptr_eq(other, idp)) {
                entry.remove();
            }
        });
    }

    /// Changes the entries of `idps`. Many cost one copy of each part that they are in.
    fn change<'a>(
        &self,
        idps: impl Iterator<Item = &'a Arc<Idp>>,
        change: impl Fn(&mut HashTable<Arc<Idp>>, u64, &Arc<Idp>),
    ) {
        let mut placed: Vec<_> = idps
            .filter_map(|idp| {
                let hash = self.hasher.hash_one((idp.tenant(), (self.text)(idp)?));
                Some((part(hash), hash, idp))
            })
            .collect();
        // A stable sort: of two with one key, the later one stays.
        placed.sort_by_key(|(part, ..)| *part);
        for same in placed.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some(shard) = same.first().and_then(|(part, ..)| self.shards.get(*part)) else {
                continue;
            };
            let mut table = HashTable::clone(&shard.load());
            for (_, hash, idp) in same {
                change(&mut table, *hash, idp);
            }
            shard.store(Arc::new(table));
        }
    }

    /// Every registration, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Idp>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.load().iter().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn place(&self, tenant: &str, text: &str) -> Option<(u64, &ArcSwap<HashTable<Arc<Idp>>>)> {
        let hash = self.hasher.hash_one((tenant, text));
        Some((hash, self.shards.get(part(hash))?))
    }

    fn is(&self, idp: &Idp, tenant: &str, text: &str) -> bool {
        (self.text)(idp) == Some(text) && idp.tenant() == tenant
    }

    fn hash(&self, idp: &Idp) -> u64 {
        self.hasher
            .hash_one((idp.tenant(), (self.text)(idp).unwrap_or_default()))
    }
}

/// The upper half picks the part, so that the lower one still spreads well inside it.
fn part(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % SHARDS
}
