//! The configuration, turned into a store and a registry.

use std::sync::Arc;

use aws_lc_rs::hmac;
use secrecy::ExposeSecret as _;
use tokenward::{Registry, SystemClock};
use tokenward_core::Clock;
use tokenward_store::{Ledger, Memory, Redis, RedisOptions, Replicated, Snapshots, Sqlite, StoreErrorKind};

use super::error::Error;
use crate::{
    cluster::{StoreClock, warn_of},
    config::{Config, StoreUrl},
};

/// What everything else stands on.
pub(super) struct Ground {
    /// Without any identity provider yet.
    pub(super) registry: Registry,
    pub(super) ledger: Arc<dyn Ledger>,
    /// Where the store is shared, and its clock.
    pub(super) shared: Option<(Replicated, Arc<StoreClock>)>,
}

/// A registry and the store.
///
/// # Errors
///
/// If the store cannot be opened, or fetching cannot be set up. A shared store that cannot be reached is no error: there is
/// a journal.
pub(super) async fn ground(config: &Config) -> Result<Ground, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut shared = None;
    let (ledger, snapshots): (Arc<dyn Ledger>, Option<Arc<dyn Snapshots>>) = match &config.store.url {
        StoreUrl::Memory => (Arc::new(Memory::new()), None),
        StoreUrl::Sqlite(directory) => {
            let store = Arc::new(Sqlite::open(directory).map_err(Error::store)?);
            (Arc::clone(&store) as _, Some(store))
        }
        StoreUrl::Redis(url) => {
            let (store, clock) = replica(config, url.expose(), Arc::clone(&clock)).await?;
            shared = Some((store.clone(), clock));
            let store = Arc::new(store);
            (Arc::clone(&store) as _, Some(store))
        }
    };
    let mut builder = Registry::builder().clock(clock);
    if let Some(snapshots) = snapshots {
        builder = builder.snapshots(snapshots);
    }
    let registry = builder
        .build()
        .map_err(|error| Error::system("set up fetching", error))?;
    Ok(Ground {
        registry,
        ledger,
        shared,
    })
}

async fn replica(
    config: &Config,
    url: &str,
    clock: Arc<dyn Clock>,
) -> Result<(Replicated, Arc<StoreClock>), Error> {
    let shared = Redis::new(redis_options(config, url), Arc::clone(&clock)).map_err(Error::store)?;
    let clock = Arc::new(StoreClock::new(clock));
    let store =
        Replicated::open(shared, &config.store.journal, Arc::clone(&clock) as _).map_err(Error::store)?;
    match store.check().await {
        Ok(facts) => {
            tracing::info!(
                server = facts.version,
                address = facts.address,
                "the store answers"
            );
            warn_of(&facts);
        }
        // What nobody but an operator can mend.
        Err(error) if matches!(error.kind(), StoreErrorKind::Evicting | StoreErrorKind::Newer) => {
            return Err(Error::store(error));
        }
        Err(error) => {
            tracing::warn!(%error, "the store cannot be reached: not ready, and serving what the journal has, until it can");
        }
    }
    Ok((store, clock))
}

/// How the configuration has the Redis at `url` used.
pub(crate) fn redis_options(config: &Config, url: &str) -> RedisOptions {
    let settings = &config.store.redis;
    RedisOptions {
        prefix: config.store.prefix.clone(),
        connections: settings.connections,
        connect_timeout: settings.connect_timeout,
        command_timeout: settings.command_timeout,
        snapshot_ttl: Some(settings.cache_ttl),
        integrity_keys: integrity_keys(config),
        allow_eviction: settings.allow_eviction,
        ca_file: settings.ca_file.as_ref().map(|pem| pem.bytes().to_vec()),
        ..RedisOptions::new(url)
    }
}

/// Keys of their own for what proves that key sets in the store are ours: whoever writes to a shared store could have us accept
/// any token otherwise.
fn integrity_keys(config: &Config) -> Vec<[u8; 32]> {
    let service = config.token_service.iter();
    let keys = service.flat_map(|service| &service.key_encryption_keys);
    keys.map(|key| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret());
        let mut derived = [0; 32];
        derived.copy_from_slice(hmac::sign(&key, b"tokenward key sets").as_ref());
        derived
    })
    .collect()
}
