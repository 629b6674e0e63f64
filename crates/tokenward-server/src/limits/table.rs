//! Limits by key, for as many keys as callers can think of.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokenward_core::{
    Timestamp,
    limit::{Exceeded, Limit, Quota, Rate},
};

/// How many parts a table is cut into, so that callers seldom wait for each other.
const SHARDS: usize = 16;

/// How often at most a full part is looked through for keys that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The limit of each key. It holds so many keys at most; those beyond share one limit, so that many keys buy no more.
///
/// A key is forgotten only when all of its limit is there again, which is as good as not to know it: nobody gets
/// rid of what was used by filling the table.
pub(crate) struct Table<K> {
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
    /// Keys of one shard.
    capacity: usize,
    others: Mutex<Limit>,
}

struct Shard<K> {
    limits: HashMap<K, Limit>,
    swept_at: Timestamp,
}

impl<K: Hash + Eq> Table<K> {
    /// A table of at most `capacity` keys.
    pub(crate) fn new(capacity: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                limits: HashMap::new(),
                swept_at: Timestamp::default(),
            })
        };
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| shard()),
            capacity: capacity.div_ceil(SHARDS),
            others: Mutex::default(),
        }
    }

    /// Takes one of `rate` for `key`.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub(crate) fn take(&self, key: K, rate: Rate, now: Timestamp) -> Result<Quota, Exceeded> {
        if let Some(shard) = self.shards.get(self.place(&key)) {
            let mut shard = lock(shard);
            if shard.limits.len() >= self.capacity && !shard.limits.contains_key(&key) {
                shard.sweep(now);
            }
            if shard.limits.len() < self.capacity {
                return shard.limits.entry(key).or_default().take(rate, now);
            }
            if let Some(limit) = shard.limits.get_mut(&key) {
                return limit.take(rate, now);
            }
        }
        lock(&self.others).take(rate, now)
    }

    fn place(&self, key: &K) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
        let hash = self.hasher.hash_one(key) as usize;
        hash % SHARDS
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).limits.len()).sum()
    }
}

impl<K> Shard<K> {
    fn sweep(&mut self, now: Timestamp) {
        // A clock that was set back must not keep it from being swept.
        if now.since(self.swept_at) >= SWEEP || now < self.swept_at {
            self.swept_at = now;
            self.limits.retain(|_, limit| !limit.is_whole(now));
        }
    }
}

/// What a panicking holder left behind is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const CAPACITY: usize = 160;

    fn rate() -> Rate {
        Rate::per_minute(NonZeroU32::new(3).unwrap())
    }

    #[test]
    fn each_key_has_its_own() {
        let table = Table::new(CAPACITY);
        for key in ["one", "other"] {
            let admitted = (0..10).filter(|_| table.take(key, rate(), START).is_ok()).count();
            assert_eq!(admitted, 3, "{key}");
        }
        let exceeded = table.take("one", rate(), START).unwrap_err();
        assert_eq!(exceeded.0.next_in, Duration::from_secs(20));
    }

    #[test]
    fn many_keys_neither_grow_it_nor_buy_more_nor_set_anybody_free() {
        let table = Table::new(CAPACITY);
        while table.take(usize::MAX, rate(), START).is_ok() {}
        let admitted = (0..100 * CAPACITY)
            .filter(|key| table.take(*key, rate(), START).is_ok())
            .count();
        // One for each that has a place, and what is left shares one limit.
        assert_eq!(admitted, CAPACITY - 1 + 3);
        assert_eq!(table.len(), CAPACITY);
        assert!(
            table.take(usize::MAX, rate(), START).is_err(),
            "it is not forgotten while it is used up"
        );
        // Only what is whole again is forgotten.
        let later = START + Duration::from_secs(21);
        let admitted = (0..100 * CAPACITY)
            .filter(|key| table.take(1_000_000 + *key, rate(), later).is_ok())
            .count();
        assert_eq!(admitted, CAPACITY - 1 + 1);
        assert!(table.take(usize::MAX, rate(), later).is_ok());
        assert!(table.take(usize::MAX, rate(), later).is_err());
    }
}
