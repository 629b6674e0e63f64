//! The embedded engine: one SQLite file, one thread that owns it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::{Snapshot, Snapshots, StoreError, StoreErrorKind};

mod audit;
mod copy;
mod family;
mod file;
mod idp;
#[cfg(feature = "redis")]
mod journal;
mod keyring;
mod ledger;
mod revocation;
mod schema;
mod snapshot;
mod writer;

pub use copy::Draft;

#[cfg(test)]
mod tests;

use file::Opened;
use rusqlite::Connection;
use writer::{Answer, Command, Failure, Health};

/// Commands that may wait for the thread; a caller beyond them waits before it is queued.
const QUEUE: usize = 1024;

/// A store in a directory of its own, for one process at a time.
///
/// The directory holds `tokenward.db`, a SQLite database in WAL mode with `synchronous=FULL`, and `lock`.
/// A write is on disk when it is acknowledged; writes that wait together share one commit. The process may
/// be killed at any instant: what was acknowledged is there afterwards, the rest may or may not be.
///
/// It needs no particular runtime. Dropping it finishes what is queued and closes the file, which blocks for
/// about one commit.
pub struct Sqlite {
    path: PathBuf,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<Health>,
}

impl Sqlite {
    /// Opens the store in `directory`, which is made, private to its owner, if it does not exist. A store
    /// of an older version is upgraded. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Locked`] where another process has it open, [`StoreErrorKind::Newer`] where a newer
    /// version wrote it, [`StoreErrorKind::Corrupt`] where the file is damaged or no database,
    /// [`StoreErrorKind::Io`] for everything else. All say which path and what to do.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::start(file::open(directory)?)
    }

    fn start(opened: Opened) -> Result<Self, StoreError> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let path = opened.path.clone();
        let health = Arc::new(Health {
            healthy: AtomicBool::new(true),
            probing: AtomicBool::new(false),
        });
        let known = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("tokenward-store".to_owned())
            .spawn(move || writer::run(opened, &known, queue))
            .map_err(|error| {
                StoreError::new(StoreErrorKind::Io, "cannot start the store's thread").because(error)
            })?;
        Ok(Self {
            path,
            commands: Some(commands),
            thread: Some(thread),
            health,
        })
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.ask(|answer| writer::write(work, answer)).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.ask(|answer| writer::read(work, answer)).await
    }

    /// Whether the last write could be stored; if not, the thread is asked to try again.
    fn probe(&self) -> bool {
        let healthy = self.health.healthy.load(Ordering::Relaxed);
        if !healthy
            && let Some(commands) = &self.commands
            && !self.health.probing.swap(true, Ordering::Relaxed)
            && commands.try_send(Command::Probe).is_err()
        {
            // The queue is full: of writes, which tell as well.
            self.health.probing.store(false, Ordering::Relaxed);
        }
        healthy
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ended = || {
            let text = format!("the thread of the store {} has ended", self.path.display());
            StoreError::new(StoreErrorKind::Io, text)
        };
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands.send(command(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Snapshots for Sqlite {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let snapshot = snapshot.clone();
        self.write(move |connection| Ok(snapshot::put(connection, &snapshot)?))
            .await
    }

    async fn put_all(&self, snapshots: Vec<Snapshot>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let mut snapshots = snapshots.iter();
            Ok(snapshots.try_for_each(|snapshot| snapshot::put(connection, snapshot))?)
        })
        .await
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.read(move |connection| Ok(snapshot::get(connection, &tenant, &name)?))
            .await
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.read(|connection| Ok(snapshot::load_all(connection)?)).await
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.write(move |connection| Ok(snapshot::remove(connection, &tenant, &name)?))
            .await
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The thread ends when it has emptied the closed queue.
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, the panic hook has reported that already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
