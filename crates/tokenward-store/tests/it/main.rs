//! Every engine through the public surface.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod copy;
mod crash;
mod damage;
mod engines;
mod faults;
mod redis_damage;
mod redis_draft;
mod redis_faults;
mod redis_feed;
mod redis_ledger;
mod redis_link;
mod redis_places;
mod redis_races;
mod redis_reassert;
mod redis_snapshots;
mod redis_topology;
mod replicated;
mod sqlite;
mod upgrade;
