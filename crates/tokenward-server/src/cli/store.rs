//! `tokenward store`: backup, restore and migration of the store that the configuration names.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use tokenward::SystemClock;
use tokenward_store::{Ledger, Migrated, Redis, Snapshots, Sqlite, StoreError, StoreErrorKind, migrate};
use tokio::runtime::Builder;

use super::{ConfigFile, Ending, Failure, Store, output::Output, runtime};
use crate::{
    config::{self, Config, Environment, StoreUrl},
    serve::redis_options,
};

pub(super) fn run(command: &Store, environment: &Environment, output: &Output) -> Result<Ending, Failure> {
    match command {
        Store::Backup { file, config, json } => {
            let directory = configured(config, environment)?;
            Sqlite::backup(&directory, file).map_err(|error| failure(&error))?;
            if *json {
                output.json(&json!({ "store": directory, "backup": file }));
            } else {
                output.line(format_args!(
                    "backed up {} to {}",
                    directory.display(),
                    file.display()
                ));
            }
        }
        Store::Restore { file, config, json } => {
            let directory = configured(config, environment)?;
            Sqlite::restore(file, &directory).map_err(|error| match error.kind() {
                // It is the file that is not right.
                StoreErrorKind::Corrupt | StoreErrorKind::Newer => Failure::Usage(explained(&error)),
                _ => failure(&error),
            })?;
            if *json {
                output.json(&json!({ "store": directory, "backup": file }));
            } else {
                output.line(format_args!(
                    "restored {} from {}",
                    directory.display(),
                    file.display()
                ));
            }
        }
        Store::Migrate { to, config, json } => {
            let config = load(config, environment)?;
            let to = environment.expand(to).and_then(|to| to.parse());
            let to: StoreUrl = to.map_err(|why| Failure::Usage(format!("{why} (--to)")))?;
            let copied = runtime::run(Builder::new_current_thread(), moved(&config, &to))??;
            report(&copied, &to, *json, output);
        }
    }
    Ok(Ending::Ok)
}

/// The directory of the configured store.
fn configured(file: &ConfigFile, environment: &Environment) -> Result<PathBuf, Failure> {
    match load(file, environment)?.store.url {
        StoreUrl::Sqlite(directory) => Ok(directory),
        StoreUrl::Redis(_) => Err(Failure::usage(
            "the configured store is a Redis: copy it by its own means, an append-only file or `BGSAVE` (store.url)",
        )),
        StoreUrl::Memory => Err(of_memory()),
    }
}

fn load(file: &ConfigFile, environment: &Environment) -> Result<Config, Failure> {
    config::load(file.config.as_deref(), false, environment)
        .map_err(|problems| Failure::usage(format!("the configuration is not valid\n{problems}")))
}

fn of_memory() -> Failure {
    Failure::usage(
        "the configured store is `memory:`, of which nothing can be copied: name one that keeps what it holds, \
         as `sqlite:DIRECTORY` (store.url)",
    )
}

fn to_memory() -> Failure {
    Failure::usage(
        "nothing outlives the process in `memory:`: name a store that keeps it, as `sqlite:DIRECTORY` (--to)",
    )
}

/// Copies the configured store to a new one.
async fn moved(config: &Config, to: &StoreUrl) -> Result<Migrated, Failure> {
    if *to == StoreUrl::Memory {
        return Err(to_memory());
    }
    match &config.store.url {
        StoreUrl::Memory => Err(of_memory()),
        StoreUrl::Sqlite(from) => {
            if !Sqlite::is_in(from) {
                // To open it would make it.
                return Err(Failure::Usage(format!(
                    "there is no store in {}: name its directory (store.url)",
                    from.display()
                )));
            }
            copied(config, &Sqlite::open(from).map_err(|error| failure(&error))?, to).await
        }
        StoreUrl::Redis(url) => {
            let source = redis(config, url.expose())?;
            if source.is_empty().await.map_err(|error| failure(&error))? {
                return Err(Failure::Usage(format!(
                    "there is no store with the prefix `{}` in the Redis of the configuration (store.url, store.prefix)",
                    config.store.prefix
                )));
            }
            copied(config, &source, to).await
        }
    }
}

async fn copied(
    config: &Config,
    source: &(impl Snapshots + Ledger),
    to: &StoreUrl,
) -> Result<Migrated, Failure> {
    let copied = match to {
        StoreUrl::Memory => return Err(to_memory()),
        StoreUrl::Sqlite(directory) => to_sqlite(source, directory).await,
        StoreUrl::Redis(url) => {
            let journal = &config.store.journal;
            if Sqlite::is_in(journal) {
                return Err(Failure::Usage(format!(
                    "the journal {} is there already, and a server would add to the new store what it holds: move it away \
                     (store.journal)",
                    journal.display()
                )));
            }
            to_redis(source, &redis(config, url.expose())?).await
        }
    };
    copied.map_err(|error| failure(&error))
}

async fn to_sqlite(source: &(impl Snapshots + Ledger), directory: &Path) -> Result<Migrated, StoreError> {
    let draft = Sqlite::draft(directory)?;
    let copied = migrate(source, draft.store()).await?;
    draft.finish()?;
    Ok(copied)
}

async fn to_redis(source: &(impl Snapshots + Ledger), target: &Redis) -> Result<Migrated, StoreError> {
    target.check().await?;
    let draft = target.draft().await?;
    let copied = migrate(source, draft.store()).await?;
    draft.finish().await?;
    Ok(copied)
}

fn redis(config: &Config, url: &str) -> Result<Redis, Failure> {
    let options = redis_options(config, url);
    Redis::new(options, Arc::new(SystemClock::new())).map_err(|error| failure(&error))
}

fn report(copied: &Migrated, to: &StoreUrl, json: bool, output: &Output) {
    let Migrated {
        snapshots,
        idps,
        keyring,
        families,
        revocations,
        audit_records,
    } = copied;
    if json {
        output.json(&json!({
            "key_sets": snapshots,
            "idps": idps,
            "keyring": keyring,
            "token_families": families,
            "revocations": revocations,
            "audit_records": audit_records,
        }));
        return;
    }
    let rows = [
        ("key sets", snapshots),
        ("dynamic IdPs", idps),
        ("keyring", &usize::from(*keyring)),
        ("token families", families),
        ("revocations", revocations),
        ("audit records", audit_records),
    ];
    let rows = rows.map(|(what, count)| [what.to_owned(), count.to_string()]);
    output.table(["copied", "count"], &rows);
    output.line(match to {
        StoreUrl::Redis(_) => {
            "Change `store.url` to the new store, take `token_service.generate_key` away, and start the servers, each with a \
             `store.journal` of its own."
        }
        _ => "Change `store.url` to the new store, and start the server.",
    });
}

fn failure(error: &StoreError) -> Failure {
    let message = explained(error);
    match error.kind() {
        StoreErrorKind::Exists | StoreErrorKind::Absent | StoreErrorKind::Invalid => Failure::Usage(message),
        _ => Failure::Network(message),
    }
}

fn explained(error: &StoreError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
