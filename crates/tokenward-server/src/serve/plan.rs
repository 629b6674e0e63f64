//! The configuration, turned into a store and a registry.

use std::sync::Arc;

use tokenward::Registry;
use tokenward_store::{Ledger, Memory, Sqlite};

use super::error::Error;
use crate::config::{Config, StoreUrl};

/// A registry with the key sets that the store holds, and no identity provider yet; and the store.
///
/// # Errors
///
/// If the store cannot be opened, or fetching cannot be set up. Key sets that cannot be read are no error: they are
/// fetched then.
pub(super) async fn registry(config: &Config) -> Result<(Registry, Arc<dyn Ledger>), Error> {
    let mut builder = Registry::builder();
    let ledger: Arc<dyn Ledger> = match &config.store.url {
        StoreUrl::Memory => Arc::new(Memory::new()),
        StoreUrl::Sqlite(directory) => {
            let store = Arc::new(Sqlite::open(directory).map_err(Error::store)?);
            builder = builder.snapshots(Arc::clone(&store) as _);
            store
        }
    };
    let registry = builder
        .build()
        .map_err(|error| Error::system("set up fetching", error))?;
    match registry.restore().await {
        Ok(sets) => tracing::info!(sets, "key sets read from the store"),
        Err(error) => tracing::warn!(%error, "stored key sets cannot be read; they are fetched"),
    }
    Ok((registry, ledger))
}
