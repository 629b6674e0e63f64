//! `tokenward store`: backup, restore and migration of the store that the configuration names.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
};

use serde_json::json;
use tokenward_store::{Migrated, Sqlite, StoreError, StoreErrorKind, migrate};
use tokio::runtime::Builder;

use super::{ConfigFile, Ending, Failure, Store, output::Output, runtime};
use crate::config::{self, Environment, StoreUrl};

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
            let from = configured(config, environment)?;
            let StoreUrl::Sqlite(directory) = to else {
                return Err(Failure::usage(
                    "nothing outlives the process in `memory:`: name a store that keeps it, as `sqlite:DIRECTORY` (--to)",
                ));
            };
            let copied = moved(&from, directory)?;
            report(&copied, *json, output);
        }
    }
    Ok(Ending::Ok)
}

/// The directory of the configured store.
fn configured(file: &ConfigFile, environment: &Environment) -> Result<PathBuf, Failure> {
    let config = config::load(file.config.as_deref(), false, environment)
        .map_err(|problems| Failure::usage(format!("the configuration is not valid\n{problems}")))?;
    match config.store.url {
        StoreUrl::Sqlite(directory) => Ok(directory),
        StoreUrl::Redis(_) => Err(Failure::usage(
            "the configured store is a Redis: copy it by its own means, an append-only file or `BGSAVE` (store.url)",
        )),
        StoreUrl::Memory => Err(Failure::usage(
            "the configured store is `memory:`, of which nothing can be copied: name one that keeps what it holds, \
             as `sqlite:DIRECTORY` (store.url)",
        )),
    }
}

fn moved(from: &Path, to: &Path) -> Result<Migrated, Failure> {
    if !from.is_dir() {
        // To open it would make it.
        return Err(Failure::Usage(format!(
            "there is no store in {}: name its directory (store.url)",
            from.display()
        )));
    }
    let source = Sqlite::open(from).map_err(|error| failure(&error))?;
    let draft = Sqlite::draft(to).map_err(|error| failure(&error))?;
    let copied = runtime::run(Builder::new_current_thread(), migrate(&source, draft.store()))?
        .map_err(|error| failure(&error))?;
    draft.finish().map_err(|error| failure(&error))?;
    Ok(copied)
}

fn report(copied: &Migrated, json: bool, output: &Output) {
    let Migrated {
        snapshots,
        idps,
        families,
        revocations,
        audit_records,
    } = copied;
    if json {
        output.json(&json!({
            "key_sets": snapshots,
            "idps": idps,
            "token_families": families,
            "revocations": revocations,
            "audit_records": audit_records,
        }));
        return;
    }
    let rows = [
        ("key sets", snapshots),
        ("dynamic IdPs", idps),
        ("token families", families),
        ("revocations", revocations),
        ("audit records", audit_records),
    ];
    let rows = rows.map(|(what, count)| [what.to_owned(), count.to_string()]);
    output.table(["copied", "count"], &rows);
    output.line("Change `store.url` to the new store, and start the server.");
}

fn failure(error: &StoreError) -> Failure {
    let message = explained(error);
    match error.kind() {
        StoreErrorKind::Exists | StoreErrorKind::Absent => Failure::Usage(message),
        _ => Failure::Network(message),
    }
}

fn explained(error: &StoreError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
