//! Opening the directory, the lock and the database file.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use rustix::fs::{FlockOperation, flock};

use super::schema;
use crate::{StoreError, StoreErrorKind};

/// An operator's `sqlite3` shell may hold SQLite's own lock for a moment.
const BUSY: Duration = Duration::from_secs(5);

pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Released when it is closed, so it must outlive the connection: fields drop in this order.
    pub(super) _lock: File,
}

pub(super) fn open(directory: &Path) -> Result<Opened, StoreError> {
    let io_error = |what: &str, path: &Path, error: io::Error| {
        let text = format!(
            "cannot {what} {}: make sure that the directory can be written by this user",
            path.display()
        );
        StoreError::new(StoreErrorKind::Io, text).because(error)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io_error("make the store directory", directory, error))?;
    let lock = lock(directory, &io_error)?;

    let path = directory.join("tokenward.db");
    // Made here, so that it is never readable by others; SQLite gives `-wal` and `-shm` the same mode.
    create(&path).map_err(|error| io_error("make the store's file", &path, error))?;
    let mut connection = Connection::open(&path).map_err(|error| sqlite_error(&path, "open", error))?;
    prepare(&mut connection, &path)?;

    // A new file is durable once the directory that names it is, and so on upwards.
    for made in directory
        .ancestors()
        .take(2)
        .filter(|made| !made.as_os_str().is_empty())
    {
        File::open(made)
            .and_then(|made| made.sync_all())
            .map_err(|error| io_error("sync the store directory", made, error))?;
    }
    Ok(Opened {
        connection,
        path,
        _lock: lock,
    })
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn lock(
    directory: &Path,
    io_error: &impl Fn(&str, &Path, io::Error) -> StoreError,
) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = create(&path).map_err(|error| io_error("open the lock file", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::new(
            StoreErrorKind::Locked,
            format!(
                "another process holds the store {}: stop it, or give this one a directory of its own",
                directory.display()
            ),
        )),
        Err(error) => Err(io_error("lock", &path, error.into())),
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| sqlite_error(path, "open", error);
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Looked at before anything is written: a store that is refused stays as it is.
    let version = version(connection, path)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        let text = format!(
            "the store {} cannot use a write-ahead log here: put it on a local file system",
            path.display()
        );
        return Err(StoreError::new(StoreErrorKind::Io, text));
    }
    connection
        .execute_batch("PRAGMA synchronous = FULL")
        .map_err(failed)?;
    schema::upgrade(connection, version).map_err(failed)
}

fn version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let version = schema::version(connection).map_err(|error| sqlite_error(path, "open", error))?;
    let known = schema::VERSION;
    usize::try_from(version)
        .ok()
        .filter(|version| *version <= known)
        .ok_or_else(|| {
            let text = format!(
                "the store {} has version {version}, and this program knows versions up to {known}: \
                 run the newer program that wrote it, or choose another directory",
                path.display()
            );
            StoreError::new(StoreErrorKind::Newer, text)
        })
}

/// Says what an operator can do about it.
pub(super) fn sqlite_error(path: &Path, what: &str, error: rusqlite::Error) -> StoreError {
    let path = path.display();
    let (kind, text) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            StoreErrorKind::Corrupt,
            format!(
                "cannot {what} the store {path}: the file is damaged. Move it, and its `-wal` and `-shm` \
                 files, away to start with an empty store, or put a backup in its place"
            ),
        ),
        Some(ErrorCode::DiskFull) => (
            StoreErrorKind::Io,
            format!("cannot {what} the store {path}: the disk is full. Nothing was stored; free some space"),
        ),
        Some(ErrorCode::ReadOnly) => (
            StoreErrorKind::Io,
            format!("cannot {what} the store {path}: it is read-only. Nothing was stored"),
        ),
        _ => (StoreErrorKind::Io, format!("cannot {what} the store {path}")),
    };
    StoreError::new(kind, text).because(error)
}
