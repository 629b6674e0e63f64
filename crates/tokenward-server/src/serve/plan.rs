//! The configuration, turned into a registry with its identity providers.

use std::{error::Error as StdError, sync::Arc};

use secrecy::ExposeSecret as _;
use tokenward::{IdpConfig, Registry};
use tokenward_store::Sqlite;

use super::error::Error;
use crate::config::{self, Config, StoreUrl};

/// A registry with what the store holds, and no identity provider yet.
///
/// # Errors
///
/// If the store cannot be opened, or fetching cannot be set up. A store that opens but cannot be read is no
/// error: the keys are fetched then.
pub(super) async fn registry(config: &Config) -> Result<Registry, Error> {
    let mut builder = Registry::builder();
    if let StoreUrl::Sqlite(directory) = &config.store.url {
        builder = builder.snapshots(Arc::new(Sqlite::open(directory).map_err(Error::store)?));
    }
    let registry = builder
        .build()
        .map_err(|error| Error::system("set up fetching", error))?;
    match registry.restore().await {
        Ok(sets) => tracing::info!(sets, "key sets read from the store"),
        Err(error) => tracing::warn!(%error, "stored key sets cannot be read; they are fetched"),
    }
    Ok(registry)
}

/// Registers what is configured, in its order, and forgets stored sets of what is not.
///
/// # Errors
///
/// With the first identity provider that cannot be registered.
pub(super) async fn register(registry: &Registry, config: &Config) -> Result<(), Error> {
    for idp in &config.idps {
        let settings = library(idp, config).map_err(|error| Error::idp(&idp.name, error))?;
        registry
            .register(settings)
            .map_err(|error| Error::idp(&idp.name, error))?;
    }
    if let Err(error) = registry.discard_unclaimed().await {
        tracing::warn!(%error, "stored key sets that nothing uses any more cannot be removed");
    }
    Ok(())
}

/// One identity provider as the library takes it.
fn library(idp: &config::Idp, config: &Config) -> Result<IdpConfig, Box<dyn StdError + Send + Sync>> {
    let policy = idp.policy().transpose()?;
    let library = match (&idp.secret, &idp.url, policy) {
        (Some(secret), _, Some(policy)) => IdpConfig::symmetric(&idp.name, secret.expose_secret(), policy)?,
        (Some(_), _, None) => return Err("an identity provider with a secret needs `audiences`".into()),
        (None, Some(url), policy) => IdpConfig::at(&idp.name, url.clone(), policy)?,
        (None, None, Some(policy)) => IdpConfig::discovered(&idp.name, policy)?,
        (None, None, None) => {
            IdpConfig::served_by_discovery(&idp.name, idp.issuer.as_deref().unwrap_or_default())?
        }
    };
    Ok(library
        .tenant_named(&idp.tenant)?
        .strict_jwks_origin(idp.settings.strict_jwks_origin)
        .required(idp.settings.required)
        .with_settings(idp.refresh_settings())?
        .with_guards(idp.guards(&config.allowed_domains))?)
}
