//! The thread that owns the connection.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::file::{Opened, sqlite_error};
use crate::{StoreError, StoreErrorKind};

/// Commands taken from the queue at once, so that a commit stays short and its waiters' time bounded.
const BATCH: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Command {
    Write(Box<dyn Write>),
    Read(Box<dyn Read>),
    /// Finds out whether a store that failed can write again.
    Probe,
}

/// Why a command could not be done.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    /// What it needs is there and is not what was written: what that is, and what to do.
    Damaged(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Changes, and the caller who waits for them.
pub(super) trait Write: Send {
    /// May run more than once, each time in a transaction that may hold others too.
    fn run(&mut self, connection: &Connection) -> Result<(), Failure>;

    /// Tells the caller what the last run gave, or the error. A caller who has gone away is no reason not to
    /// write.
    fn answer(self: Box<Self>, error: Option<StoreError>);
}

/// A question, and the caller who waits for the answer.
pub(super) trait Read: Send {
    fn run(self: Box<Self>, opened: &Opened);
}

pub(super) fn write<T, F>(work: F, answer: Answer<T>) -> Command
where
    T: Send + 'static,
    F: FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
{
    Command::Write(Box::new(Writing {
        work,
        result: None,
        answer,
    }))
}

pub(super) fn read<T, F>(work: F, answer: Answer<T>) -> Command
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
{
    Command::Read(Box::new(Reading { work, answer }))
}

struct Writing<T, F> {
    work: F,
    result: Option<T>,
    answer: Answer<T>,
}

impl<T, F> Write for Writing<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.result = Some((self.work)(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, error: Option<StoreError>) {
        let result = match (error, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            // It never ran: the caller hears that nobody will answer.
            (None, None) => return,
        };
        let _ = self.answer.send(result);
    }
}

struct Reading<T, F> {
    work: F,
    answer: Answer<T>,
}

impl<T, F> Read for Reading<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn run(self: Box<Self>, opened: &Opened) {
        let result = (self.work)(&opened.connection);
        let _ = self
            .answer
            .send(result.map_err(|failure| opened.error("read", failure)));
    }
}

/// What the thread and those who ask for it know of the store's health.
pub(super) struct Health {
    /// Whether the last commit was stored.
    pub(super) healthy: AtomicBool,
    /// Whether a probe is on its way, so that the queue never holds two.
    pub(super) probing: AtomicBool,
}

/// Works until every sender is gone and the queue is empty.
///
/// Commands take effect in the order of the queue. Writes next to each other share a transaction, and so one
/// sync of the disk; nobody hears of a write before the commit that holds it.
///
/// # A disk that fails
///
/// Where a sync fails, the kernel may have dropped what it should have written, and a later sync says nothing
/// about that. So none is ever repeated: what counts as stored was written *and* synced by one commit that
/// succeeded. SQLite takes the frames of the failed commit back and writes the next ones over them, whose
/// pages are thereby dirty again. The thread does so at once with a commit of its own (a mark), after which
/// the failed commit cannot come back even if the process dies; where the mark fails too, the next commit
/// takes its place. What a dead process left behind is settled when the store is opened.
pub(super) fn run(mut opened: Opened, health: &Health, mut queue: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut writes = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Write(write) => writes.push(write),
                Command::Read(read) => {
                    opened.commit_and_answer(std::mem::take(&mut writes), health);
                    read.run(&opened);
                }
                Command::Probe => {
                    opened.commit_and_answer(std::mem::take(&mut writes), health);
                    if !health.healthy.load(Ordering::Relaxed) {
                        opened.mark(health);
                    }
                    health.probing.store(false, Ordering::Relaxed);
                }
            }
        }
        opened.commit_and_answer(writes, health);
    }
}

impl Opened {
    fn commit_and_answer(&mut self, mut writes: Vec<Box<dyn Write>>, health: &Health) {
        if writes.is_empty() {
            return;
        }
        let failure = match self.commit(&mut writes, health) {
            Ok(()) => {
                writes.into_iter().for_each(|write| write.answer(None));
                return;
            }
            Err(failure) => failure,
        };
        if writes.len() > 1 && !failure.is_of_the_disk() {
            // The common transaction left nothing behind. Each write is tried by itself: one that cannot be
            // stored does not take the others with it.
            for write in writes {
                self.commit_and_answer(vec![write], health);
            }
            return;
        }
        if failure.is_of_the_disk() {
            self.mark(health);
        }
        let error = self.error("write to", failure);
        for write in writes {
            write.answer(Some(error.clone()));
        }
    }

    /// Commits something that nobody asked for.
    fn mark(&mut self, health: &Health) {
        let marked = self
            .connection
            .execute("UPDATE counter SET value = value + 1 WHERE name = 'mark'", []);
        health.healthy.store(marked.is_ok(), Ordering::Relaxed);
        if let Err(error) = marked {
            tracing::error!(%error, path = %self.path.display(), "The store cannot be written");
        }
    }

    /// All of them or, on an error, none: a transaction that is dropped is rolled back.
    fn commit(&mut self, writes: &mut [Box<dyn Write>], health: &Health) -> Result<(), Failure> {
        let result = self.try_commit(writes);
        health.healthy.store(result.is_ok(), Ordering::Relaxed);
        result
    }

    fn try_commit(&mut self, writes: &mut [Box<dyn Write>]) -> Result<(), Failure> {
        let transaction = self.connection.transaction()?;
        for write in writes {
            write.run(&transaction)?;
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn error(&self, what: &str, failure: Failure) -> StoreError {
        match failure {
            Failure::Sqlite(error) => sqlite_error(&self.path, what, error),
            Failure::Damaged(row) => StoreError::new(
                StoreErrorKind::Corrupt,
                format!("the store {} is damaged: {row}", self.path.display()),
            ),
        }
    }
}

impl Failure {
    /// Whether the disk itself failed, so that trying again would only wait for it again.
    fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure),
            Self::Damaged(_) => false,
        }
    }
}
