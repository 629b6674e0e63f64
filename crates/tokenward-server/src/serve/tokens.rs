//! The token service, put together from its configuration.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tokenward::{IdpConfig, Registry};
use tokenward_core::{
    Clock,
    keyring::Sealer,
    session::{Lifetimes, Renewal},
};
use tokenward_store::Ledger;
use tokio::task::JoinSet;

use super::error::Error;
use crate::{
    config,
    http::Drain,
    issue::{self, TokenService},
    revocation::Revocations,
    signer::{self, First, Signer},
};

/// What the token service stands on.
pub(super) struct World<'a> {
    pub(super) registry: &'a Registry,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) revocations: Revocations,
    /// By which tokens are dated.
    pub(super) clock: Arc<dyn Clock>,
    /// Whether other processes have the same store.
    pub(super) shared: bool,
    /// Ends its streams.
    pub(super) drain: Drain,
    /// How many the listeners take at once.
    pub(super) connections: usize,
}

/// Starts the token service: its keys, what it does by itself, and its issuer among those that are trusted.
///
/// # Errors
///
/// What keeps it from signing.
pub(super) async fn start(
    config: &config::TokenService,
    max_age: Duration,
    dev: bool,
    world: World<'_>,
    tasks: &mut JoinSet<()>,
) -> Result<TokenService, Error> {
    let World {
        registry,
        ledger,
        revocations,
        clock,
        shared,
        drain,
        connections,
    } = world;
    let file = config
        .file_key(dev)
        .map_err(|(member, message)| Error::token_service(&format!("`token_service.{member}` {message}")))?;
    let sealer = Sealer::new(config.key_encryption_keys.iter().map(|key| key.expose_secret()));
    let keys = signer::Settings {
        algorithm: config.algorithm,
        schedule: config.schedule(max_age),
        sealer: match config.allow_plaintext_keys {
            true => sealer.opening_clear(),
            false => sealer,
        },
        issuer: config.issuer.clone(),
        revocations: revocations.clone(),
        shared,
        first: match file {
            Some(key) => {
                tracing::warn!("the signing key is kept in a file: it is not rotated");
                First::File(key)
            }
            None if config.generate_key => First::Generated,
            None => First::Stored,
        },
    };
    let signer = Signer::open(Arc::clone(&ledger), Arc::clone(&clock), keys)
        .await
        .map_err(|error| Error::token_service(&error.to_string()))?;
    let settings = issue::Settings {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        typ: config.typ,
        lifetimes: Lifetimes {
            token: config.token_lifetime,
            parent: config.parent_lifetime,
            child: config.child_lifetime,
            max: config.max_lifetime,
        },
        renewal: Renewal {
            threshold: config.renew_threshold,
            reuse_window: config.renew_reuse_window,
        },
        connections,
    };
    // The newest record of the audit log tells when a token may have been issued at the latest, should the clock have been set
    // back since.
    let newest = match ledger.audit(None, 1).await {
        Ok(newest) => newest.first().map(|(_, record)| record.at),
        // The clock of a shared store is nobody's to set back here.
        Err(_) if shared => None,
        Err(error) => return Err(Error::store(error)),
    };
    let service = TokenService::new(
        settings,
        signer.clone(),
        ledger,
        revocations,
        clock,
        drain,
        newest,
    )
    .map_err(|error| Error::token_service(&error.to_string()))?;
    trust(&service, registry)?;
    tasks.spawn(follow(service.clone(), registry.clone()));
    tasks.spawn(signer.keep());
    tasks.spawn(service.clone().keep_renewing(config.renew_worker_interval));
    Ok(service)
}

/// Registers the own issuer with the keys that it has now, once it has any.
fn trust(service: &TokenService, registry: &Registry) -> Result<(), Error> {
    let keys = service.signer().keys();
    if keys.published.is_empty() {
        return Ok(());
    }
    let keys = Arc::clone(&keys.set);
    let config = IdpConfig::with_keys(config::OWN_IDP, keys, service.policy().clone());
    let registered = config.and_then(|config| registry.register(config));
    registered.map_err(|error| Error::token_service(&error.to_string()))?;
    Ok(())
}

/// Registers it anew whenever they change, for as long as there is a service.
async fn follow(service: TokenService, registry: Registry) {
    let mut changes = service.signer().changes();
    while changes.changed().await.is_ok() {
        if let Err(error) = trust(&service, &registry) {
            tracing::error!(%error, "the own issuer cannot be trusted with its new keys");
        }
    }
}
