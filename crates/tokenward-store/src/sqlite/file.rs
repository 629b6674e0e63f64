//! Opening the directory, the lock and the database file.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, config::DbConfig};
use rustix::fs::{FlockOperation, flock};

use super::schema;
use crate::{StoreError, StoreErrorKind};

/// The database, in the store's directory.
pub(super) const FILE: &str = "tokenward.db";

/// An operator's `sqlite3` shell may hold SQLite's own lock for a moment.
pub(super) const BUSY: Duration = Duration::from_secs(5);

pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Released when it is closed, so it must outlive the connection: fields drop in this order.
    pub(super) _lock: File,
}

pub(super) fn open(directory: &Path) -> Result<Opened, StoreError> {
    let lock = claim(directory)?;
    let path = directory.join(FILE);
    // Made here, so that it is never readable by others; SQLite gives `-wal` and `-shm` the same mode.
    create(&path).map_err(|error| io_error("make the store's file", &path, error))?;
    let connection = connect(&path)?;
    sync_directories(directory)?;
    Ok(Opened {
        connection,
        path,
        _lock: lock,
    })
}

/// The database file at `path`, at the newest version.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path).map_err(|error| sqlite_error(path, "open", error))?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// Makes the directory where there is none, and locks it for this process until the file is closed.
pub(super) fn claim(directory: &Path) -> Result<File, StoreError> {
    make_directory(directory)?;
    let path = directory.join("lock");
    let file = create(&path).map_err(|error| io_error("open the lock file", &path, error))?;
    lock(&file, &path, || {
        format!(
            "another process holds the store {}: stop it, or give this one a directory of its own",
            directory.display()
        )
    })?;
    Ok(file)
}

/// Private to its owner, with all that lead to it.
pub(super) fn make_directory(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io_error("make the store directory", directory, error))
}

pub(super) fn lock(file: &File, path: &Path, held: impl FnOnce() -> String) -> Result<(), StoreError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::new(StoreErrorKind::Locked, held())),
        Err(error) => Err(io_error("lock", path, error.into())),
    }
}

/// A new file is durable once the directory that names it is, and so on upwards.
pub(super) fn sync_directories(directory: &Path) -> Result<(), StoreError> {
    for made in directory
        .ancestors()
        .take(2)
        .filter(|made| !made.as_os_str().is_empty())
    {
        File::open(made)
            .and_then(|made| made.sync_all())
            .map_err(|error| io_error("sync the directory", made, error))?;
    }
    Ok(())
}

pub(super) fn io_error(what: &str, path: &Path, error: io::Error) -> StoreError {
    let text = format!(
        "cannot {what} {}: make sure that the directory can be written by this user",
        path.display()
    );
    StoreError::new(StoreErrorKind::Io, text).because(error)
}

/// A file that only its owner can read, made where there is none.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| sqlite_error(path, "open", error);
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Looked at before anything is written: a store that is refused stays as it is, its log included.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(failed)?;
    let version = version(connection, path)?;
    connection.set_db_config(keep_log, false).map_err(failed)?;
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
    settle(connection, path)?;
    schema::upgrade(connection, version).map_err(failed)
}

/// Makes durable what the log of a process that ended by force shows.
///
/// A sync may have failed before that end: what it should have written is then read from memory, and so looks
/// stored, is not on the disk and never will be, and takes every later commit with it when the power fails.
/// The same bytes are written over themselves, so that this sync covers them all.
fn settle(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    // Holds off whoever else could append to it, for example an operator's shell.
    let _quiet = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| sqlite_error(path, "open", error))?;
    rewrite(&log).map_err(|error| io_error("sync the store's log", &log, error))
}

fn rewrite(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return file.sync_all();
        }
        file.write_all_at(bytes, at)?;
        at += read as u64;
    }
}

pub(super) fn version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
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
        Some(ErrorCode::SystemIoFailure) => (
            StoreErrorKind::Io,
            format!(
                "cannot {what} the store {path}: the disk failed. Nothing was stored; see the system's log, and \
                 replace what is broken"
            ),
        ),
        Some(ErrorCode::ReadOnly) => (
            StoreErrorKind::Io,
            format!("cannot {what} the store {path}: it is read-only. Nothing was stored"),
        ),
        _ => (StoreErrorKind::Io, format!("cannot {what} the store {path}")),
    };
    StoreError::new(kind, text).because(error)
}
