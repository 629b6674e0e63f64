//! Key sets that several processes share, in Redis or Valkey.
//!
//! Put a [`Redis`] into [`RegistryBuilder::snapshots`](crate::RegistryBuilder::snapshots): what one process fetched, all
//! have, and one fetches for all. Where the server is down or slow, each goes on by itself.

use std::time::Duration;

pub use tokenward_store::{Redis, RedisOptions, ServerFacts};

/// How long [`cache`] keeps a key set that nobody stores again.
pub const CACHE_TTL: Duration = Duration::from_secs(900);

/// The defaults for a cache at `url`, which may be one with other things in it: key sets end by themselves
/// [`CACHE_TTL`] after they were stored last, and a server that evicts is as good. For a start while every provider is
/// down, `snapshot_ttl` has to be as long as keys are to survive that.
#[must_use]
pub fn cache(url: &str) -> RedisOptions {
    RedisOptions {
        snapshot_ttl: Some(CACHE_TTL),
        allow_eviction: true,
        ..RedisOptions::new(url)
    }
}
