//! The thread that owns the connection.

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
}

/// Why a command could not be done.
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

/// Works until every sender is gone and the queue is empty.
///
/// Commands take effect in the order of the queue. Writes next to each other share a transaction, and so one
/// sync of the disk; nobody hears of a write before the commit that holds it.
pub(super) fn run(mut opened: Opened, mut queue: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut writes = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Write(write) => writes.push(write),
                Command::Read(read) => {
                    opened.commit_and_answer(std::mem::take(&mut writes));
                    read.run(&opened);
                }
            }
        }
        opened.commit_and_answer(writes);
    }
}

impl Opened {
    fn commit_and_answer(&mut self, mut writes: Vec<Box<dyn Write>>) {
        if writes.is_empty() {
            return;
        }
        let failure = match self.commit(&mut writes) {
            Ok(()) => {
                writes.into_iter().for_each(|write| write.answer(None));
                return;
            }
            Err(failure) => failure,
        };
        if writes.len() == 1 || failure.is_of_the_medium() {
            let error = self.error("write to", failure);
            for write in writes {
                write.answer(Some(error.clone()));
            }
            return;
        }
        // The common transaction left nothing behind. Each write is tried by itself: one that cannot be stored
        // does not take the others with it.
        for mut write in writes {
            let result = self.commit(std::slice::from_mut(&mut write));
            write.answer(result.err().map(|failure| self.error("write to", failure)));
        }
    }

    /// All of them or, on an error, none: a transaction that is dropped is rolled back.
    fn commit(&mut self, writes: &mut [Box<dyn Write>]) -> Result<(), Failure> {
        let transaction = self.connection.transaction()?;
        for write in writes {
            write.run(&transaction)?;
        }
        Ok(transaction.commit()?)
    }

    fn error(&self, what: &str, failure: Failure) -> StoreError {
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
    fn is_of_the_medium(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure),
            Self::Damaged(_) => false,
        }
    }
}
