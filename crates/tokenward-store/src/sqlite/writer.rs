//! The thread that owns the connection.

use tokio::sync::{mpsc, oneshot};

use super::{
    file::{Opened, sqlite_error},
    row,
};
use crate::{Snapshot, StoreError};

/// Commands taken from the queue at once, so that a commit stays short and its waiters' time bounded.
const BATCH: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Command {
    Write(Write, Answer<()>),
    Get {
        tenant: String,
        name: String,
        answer: Answer<Option<Snapshot>>,
    },
    LoadAll(Answer<Vec<Snapshot>>),
}

pub(super) enum Write {
    Put(Box<Snapshot>),
    Remove { tenant: String, name: String },
}

/// Works until every sender is gone and the queue is empty.
///
/// Commands take effect in the order of the queue. Writes next to each other share a transaction, and so one
/// sync of the disk; nobody hears of a write before the commit that holds it. A caller that has gone away is
/// no reason not to write.
pub(super) fn run(mut opened: Opened, mut queue: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut writes = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Write(write, answer) => writes.push((write, answer)),
                Command::Get { tenant, name, answer } => {
                    opened.commit_and_answer(std::mem::take(&mut writes));
                    let found = row::get(&opened.connection, &tenant, &name);
                    let _ = answer.send(found.map_err(|error| opened.error("read", error)));
                }
                Command::LoadAll(answer) => {
                    opened.commit_and_answer(std::mem::take(&mut writes));
                    let found = row::load_all(&opened.connection);
                    let _ = answer.send(found.map_err(|error| opened.error("read", error)));
                }
            }
        }
        opened.commit_and_answer(writes);
    }
}

impl Opened {
    fn commit_and_answer(&mut self, writes: Vec<(Write, Answer<()>)>) {
        if writes.is_empty() {
            return;
        }
        let together = writes.len() > 1 && self.commit(writes.iter().map(|(write, _)| write)).is_ok();
        for (write, answer) in writes {
            // Where the common transaction failed it left nothing behind, and each write is tried by itself:
            // one that cannot be stored does not take the others with it.
            let result = if together {
                Ok(())
            } else {
                self.commit(std::iter::once(&write))
            };
            let _ = answer.send(result.map_err(|error| self.error("write to", error)));
        }
    }

    /// All of them or, on an error, none: a transaction that is dropped is rolled back. Its pages are
    /// written anew when a write is repeated, so a failed sync is never mistaken for a later good one.
    fn commit<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for write in writes {
            match write {
                Write::Put(snapshot) => row::put(&transaction, snapshot)?,
                Write::Remove { tenant, name } => row::remove(&transaction, tenant, name)?,
            }
        }
        transaction.commit()
    }

    fn error(&self, what: &str, error: rusqlite::Error) -> StoreError {
        sqlite_error(&self.path, what, error)
    }
}
