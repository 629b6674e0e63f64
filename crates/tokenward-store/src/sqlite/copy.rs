//! Whole stores: backup, restore, and a store that takes its place only when it is complete.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Sqlite, file, idp, keyring, revocation, schema, writer::Failure};
use crate::{StoreError, StoreErrorKind};

/// A copy is tried so often, so far apart, while somebody holds the file: 5 s in all.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

impl Sqlite {
    /// Copies the store in `directory` to the new file `to`, as it is at one moment. The store may be in use,
    /// by another process too: its lock is not taken, and its writes are not held up.
    ///
    /// The backup is one file of its own, private to its owner, checked and on disk when this returns; before
    /// that there is no file of this name. Blocks for as long as it takes to read and write the store.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Absent`] where there is no store, [`StoreErrorKind::Exists`] where there is something
    /// at `to`, [`StoreErrorKind::Locked`] where another backup to this file is under way,
    /// [`StoreErrorKind::Newer`] and [`StoreErrorKind::Corrupt`] as for [`Sqlite::open`], which includes
    /// damaged rows, and [`StoreErrorKind::Io`].
    pub fn backup(directory: &Path, to: &Path) -> Result<(), StoreError> {
        let path = directory.join(file::FILE);
        if !Self::is_in(directory) {
            let text = format!("there is no store in {}: name its directory", directory.display());
            return Err(StoreError::new(StoreErrorKind::Absent, text));
        }
        refuse_existing(to, "choose another name for the backup, or move that file away")?;
        let source = read_only(&path)?;
        file::version(&source, &path)?;

        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let made = file::create(&partial).map_err(|error| file::io_error("write", &partial, error))?;
        file::lock(&made, &partial, || {
            format!("another backup to {} is under way: wait for it", to.display())
        })?;
        let copied = made
            .set_len(0)
            .map_err(|error| file::io_error("write", &partial, error))
            .and_then(|()| fill_backup(&source, &partial))
            .and_then(|()| put_in_place(&partial, to));
        if copied.is_err() {
            let _ = fs::remove_file(&partial);
        }
        copied
    }

    /// Makes a store in `directory` from the backup `from`, upgraded where it is older. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Absent`] where there is no backup, [`StoreErrorKind::Exists`] where there is a store
    /// in the directory, [`StoreErrorKind::Locked`] where another process uses the directory,
    /// [`StoreErrorKind::Newer`] where a newer version wrote the backup, [`StoreErrorKind::Corrupt`] where it
    /// is damaged or none, and [`StoreErrorKind::Io`]. There is no store then.
    pub fn restore(from: &Path, directory: &Path) -> Result<(), StoreError> {
        if !from.is_file() {
            let text = format!("there is no backup {}: name the file", from.display());
            return Err(StoreError::new(StoreErrorKind::Absent, text));
        }
        let source = read_only(from)?;
        file::version(&source, from)?;
        refuse_others(&source, from)?;
        let place = Place::claim(directory)?;
        let path = place.unfinished.join(file::FILE);
        file::create(&path).map_err(|error| file::io_error("make the store's file", &path, error))?;
        let filled = (|| {
            let failed = |error| file::sqlite_error(&path, "write to", error);
            let mut copy = Connection::open(&path).map_err(failed)?;
            copy_pages(&source, &mut copy).map_err(|error| file::sqlite_error(from, "read", error))?;
            drop(copy);
            let copy = file::connect(&path)?;
            check(&copy, from)?;
            copy.close().map_err(|(_, error)| failed(error))
        })();
        match filled {
            Ok(()) => place.finish(),
            Err(error) => {
                let _ = fs::remove_dir_all(&place.unfinished);
                Err(error)
            }
        }
    }

    /// Whether there is a store in `directory`.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(file::FILE).exists()
    }

    /// An empty store that will be in `directory` once it is complete: what is half-filled when the process
    /// ends is never taken for a store.
    ///
    /// # Errors
    ///
    /// As for [`Sqlite::restore`].
    pub fn draft(directory: &Path) -> Result<Draft, StoreError> {
        let place = Place::claim(directory)?;
        let store = Sqlite::open(&place.unfinished)?;
        Ok(Draft { store, place })
    }
}

/// A store that is being filled, and its place.
#[derive(Debug)]
pub struct Draft {
    store: Sqlite,
    place: Place,
}

impl Draft {
    /// The store to fill.
    #[must_use]
    pub fn store(&self) -> &Sqlite {
        &self.store
    }

    /// Puts the store in its place.
    ///
    /// # Errors
    ///
    /// With [`StoreErrorKind::Io`]. There is no store then.
    pub fn finish(self) -> Result<(), StoreError> {
        drop(self.store);
        self.place.finish()
    }
}

/// A directory without a store, held for a new one.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// The new store's file is made in here.
    unfinished: PathBuf,
    _lock: File,
}

impl Place {
    fn claim(directory: &Path) -> Result<Self, StoreError> {
        let lock = file::claim(directory)?;
        let remedy = "choose another directory, or move that store away";
        refuse_existing(&directory.join(file::FILE), remedy)?;
        let unfinished = directory.join("unfinished");
        // What an earlier attempt left when it was killed.
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file::io_error("empty", &unfinished, error));
            }
            _ => {}
        }
        file::make_directory(&unfinished)?;
        Ok(Self {
            directory: directory.to_owned(),
            unfinished,
            _lock: lock,
        })
    }

    fn finish(self) -> Result<(), StoreError> {
        put_in_place(
            &self.unfinished.join(file::FILE),
            &self.directory.join(file::FILE),
        )?;
        file::sync_directories(&self.directory)?;
        // Nothing but an empty directory is left to be removed.
        let _ = fs::remove_dir_all(&self.unfinished);
        Ok(())
    }
}

fn refuse_existing(path: &Path, remedy: &str) -> Result<(), StoreError> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(exists(path, remedy));
    }
    Ok(())
}

fn exists(path: &Path, remedy: &str) -> StoreError {
    let text = format!("{} exists and is not overwritten: {remedy}", path.display());
    StoreError::new(StoreErrorKind::Exists, text)
}

/// Without a lock of ours and without a change to the database file, not even a checkpoint when it is closed.
fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error| file::sqlite_error(path, "open", error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection.busy_timeout(file::BUSY).map_err(failed)?;
    Ok(connection)
}

/// Any database has a version; a store has its tables.
fn refuse_others(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let is_store = connection
        .table_exists(None, "snapshot")
        .map_err(|error| file::sqlite_error(path, "open", error))?;
    if is_store {
        return Ok(());
    }
    let text = format!(
        "{} is a database, but no store: name a file that `store backup` made",
        path.display()
    );
    Err(StoreError::new(StoreErrorKind::Corrupt, text))
}

fn fill_backup(source: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| file::sqlite_error(path, "write the backup to", error);
    let mut copy = Connection::open(path).map_err(failed)?;
    copy_pages(source, &mut copy).map_err(failed)?;
    // One file, which can be read where nothing can be written.
    let _: String = copy
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .map_err(failed)?;
    refuse_others(&copy, path)?;
    check(&copy, path)?;
    copy.close().map_err(|(_, error)| failed(error))
}

/// All pages in one step, and so as they are at one moment.
fn copy_pages(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(from, to)?;
    for _ in 0..TRIES {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(PAUSE),
        }
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        None,
    ))
}

/// Looks at every page and, where this program knows them, at the digest of every row that nobody could do
/// without.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let pages: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| file::sqlite_error(path, "check", error))?;
    let damaged = |what: &str| {
        let text = format!("the store in {} is damaged: {what}", path.display());
        StoreError::new(StoreErrorKind::Corrupt, text)
    };
    if pages != "ok" {
        return Err(damaged(&pages));
    }
    if file::version(connection, path)? < schema::VERSION {
        return Ok(());
    }
    let rows = idp::all(connection)
        .and_then(|_| keyring::get(connection))
        .and_then(|_| revocation::page(connection, 0, usize::MAX));
    match rows {
        Ok(_) => Ok(()),
        Err(Failure::Damaged(row)) => Err(damaged(&row)),
        Err(Failure::Sqlite(error)) => Err(file::sqlite_error(path, "check", error)),
    }
}

/// Gives a complete file its name, durably, unless something has it already.
fn put_in_place(from: &Path, to: &Path) -> Result<(), StoreError> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(|error| file::io_error("sync", from, error))?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(exists(to, "another process made it just now")),
        Err(error) => return Err(file::io_error("make", to, error.into())),
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(|error| file::io_error("sync the directory", parent, error))
}
