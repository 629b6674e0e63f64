//! A part of the records, and how little room one takes.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use super::{KINDS, Kind};
use crate::Timestamp;

/// Records are dropped together with all that expire in the same hour.
pub(super) const SLOT_SECS: i64 = 3_600;

/// The last hour that a record knows: one that is kept until it is removed.
pub(super) const EVER: u32 = (1 << 24) - 1;

/// A part of the records.
pub(super) struct Shard {
    /// What is refused altogether.
    pub(super) names: Table<Kept>,
    /// What is refused where it was issued at or before a time, in milliseconds.
    pub(super) times: Table<(i64, Kept)>,
    /// No record may be dropped before this hour is over.
    pub(super) earliest: u32,
}

pub(super) type Table<T> = HashMap<Fingerprint, T, BuildHasherDefault<AsItIs>>;

/// In two halves, so that no room is lost between it and what stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u32; 2]);

/// A fingerprint is a hash already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

/// The hour after which a record may be dropped, and, in the lowest byte, its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept(u32);

/// What an insertion changed.
#[derive(PartialEq)]
pub(super) enum Inserted {
    /// There was no such record.
    New,
    /// There was one that refused less.
    Wider,
    /// Nothing more is refused.
    Known,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            names: Table::default(),
            times: Table::default(),
            earliest: u32::MAX,
        }
    }
}

impl Shard {
    pub(super) fn insert(&mut self, fingerprint: Fingerprint, until: Option<i64>, kept: Kept) -> Inserted {
        self.earliest = self.earliest.min(kept.hour());
        let Some(until) = until else {
            return match self.names.entry(fingerprint) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(kept);
                    Inserted::New
                }
                hash_map::Entry::Occupied(mut held) => {
                    let held = held.get_mut();
                    *held = kept.max(*held);
                    Inserted::Known
                }
            };
        };
        match self.times.entry(fingerprint) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert((until, kept));
                Inserted::New
            }
            hash_map::Entry::Occupied(mut held) => {
                let (held_until, held_kept) = held.get_mut();
                let wider = until > *held_until;
                *held_until = until.max(*held_until);
                *held_kept = kept.max(*held_kept);
                if wider { Inserted::Wider } else { Inserted::Known }
            }
        }
    }

    /// Drops what may go before the hour `current`, and counts it by kind.
    pub(super) fn prune(&mut self, current: u32, dropped: &mut [usize; KINDS]) {
        let mut earliest = u32::MAX;
        let mut stays = |kept: Kept| {
            let stays = kept.hour() >= current;
            if stays {
                earliest = earliest.min(kept.hour());
            } else if let Some(dropped) = dropped.get_mut(kept.kind()) {
                *dropped += 1;
            }
            stays
        };
        self.names.retain(|_, kept| stays(*kept));
        self.times.retain(|_, (_, kept)| stays(*kept));
        self.earliest = earliest;
        fit(&mut self.names);
        fit(&mut self.times);
    }
}

/// Gives back room that a table has for many more than it holds.
fn fit<T>(table: &mut Table<T>) {
    if table.len() < table.capacity() / 4 {
        table.shrink_to(table.len() * 2);
    }
}

impl Fingerprint {
    pub(super) fn of(hash: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = hash.to_ne_bytes();
        Self([u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])])
    }

    fn bits(self) -> u64 {
        let [[a, b, c, d], [e, f, g, h]] = self.0.map(u32::to_ne_bytes);
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    /// One of `shares` that are not alike: the largest is twice the smallest, and those in between are spread over that doubling.
    /// A table doubles when it is full. If all were as large, all would do so at the same time, and be half empty afterwards; so at any
    /// time some are about to, and some just did.
    pub(super) fn share(self, shares: u64) -> u64 {
        // Of the bits in between: tables take the lowest ones and the highest ones.
        const ONE: u64 = 1 << 24;
        let x = self.bits() >> 32 & (ONE - 1);
        // x (2 + x) / 3 goes from 0 to 1 as x does, at a speed of 2/3 in the beginning and of 4/3 in the end.
        (x * (2 * ONE + x) / (3 * ONE) * shares) >> 24
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits());
    }
}

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

impl Kept {
    pub(super) fn new(kind: Kind, until: Option<Timestamp>) -> Self {
        let until = until.filter(|until| *until != Timestamp::MAX);
        Self(until.map_or(EVER, hour_of) << 8 | kind as u32)
    }

    const fn hour(self) -> u32 {
        self.0 >> 8
    }

    const fn kind(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

/// The hour in which a time is, for some nineteen centuries from 1970 on.
pub(super) fn hour_of(time: Timestamp) -> u32 {
    let hour = time.as_secs().div_euclid(SLOT_SECS);
    u32::try_from(hour.clamp(0, i64::from(EVER) - 1)).unwrap_or(EVER - 1)
}
