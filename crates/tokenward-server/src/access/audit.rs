//! The audit log: who did what, on what, from where, and what came of it.
//!
//! One task writes, in batches. A change is answered only once its record is durable; what only reads or is refused is
//! written within a moment, and counted where even that is too much.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokenward_core::{Clock, Timestamp};
use tokenward_store::{AuditRecord, Ledger, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{http::within, telemetry};

/// Records that wait to be written.
const QUEUE: usize = 4_096;
/// Records of one write.
const BATCH: usize = 256;
/// How long a record that nobody waits for may stay in memory.
const LINGER: Duration = Duration::from_millis(500);
/// How long somebody waits for a record to be durable.
const PATIENCE: Duration = Duration::from_secs(5);
/// Refusals that are written at once, and how long it takes for one to come back. The log keeps a number of records:
/// without a bound anybody could push out, by failing, what the others did.
const DENIALS: u32 = 300;
const DENIAL_EVERY: Duration = Duration::from_secs(6);

/// Takes records for the audit log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    queue: mpsc::Sender<Entry>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    /// When the allowance of refusals is whole again.
    denials_full_at: Arc<Mutex<Timestamp>>,
}

/// The audit log cannot be written or read: the store's log lines say why.
#[derive(Debug)]
pub(crate) struct Unavailable;

struct Entry {
    /// None: only to be told when what came before is written.
    record: Option<AuditRecord>,
    done: Option<oneshot::Sender<bool>>,
}

impl Audit {
    /// The log in `ledger`, and the task that writes it, which ends when the last clone is gone.
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, entries) = mpsc::channel(QUEUE);
        let writer = Writer {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            entries,
            pending: Vec::new(),
        };
        let audit = Self {
            queue,
            ledger,
            clock,
            denials_full_at: Arc::default(),
        };
        (audit, writer.run())
    }

    /// Writes `record` some time soon. Where the queue is full it is counted instead.
    pub(super) fn note(&self, record: AuditRecord) {
        let entry = Entry {
            record: Some(record),
            done: None,
        };
        if self.queue.try_send(entry).is_err() {
            telemetry::audit_lost("overflow", 1);
        }
    }

    /// The same for a refusal, as far as there are not too many of them.
    pub(super) fn note_denial(&self, record: AuditRecord) {
        let now = self.clock.steady();
        let admitted = {
            let mut full_at = self
                .denials_full_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let next = (*full_at).max(now) + DENIAL_EVERY;
            let admitted = next.since(now) <= DENIAL_EVERY * DENIALS;
            if admitted {
                *full_at = next;
            }
            admitted
        };
        if admitted {
            self.note(record);
        } else {
            telemetry::audit_lost("denials", 1);
        }
    }

    /// How many records wait to be written.
    pub(crate) fn queued(&self) -> usize {
        QUEUE.saturating_sub(self.queue.capacity())
    }

    /// Writes `record`, and everything before it.
    ///
    /// # Errors
    ///
    /// Where it is not known to be durable in time.
    pub(super) async fn keep(&self, record: AuditRecord) -> Result<(), Unavailable> {
        self.send(Some(record)).await
    }

    /// Writes everything that was noted before.
    ///
    /// # Errors
    ///
    /// Where that takes too long, or the store fails.
    pub(crate) async fn flush(&self) -> Result<(), Unavailable> {
        self.send(None).await
    }

    /// At most `limit` records, newest first, with their numbers; with `before` only those with smaller ones.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub(crate) async fn read(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditRecord)>, Unavailable> {
        self.flush().await?;
        self.ledger.audit(before, limit).await.map_err(|error| {
            tracing::warn!(%error, "the audit log cannot be read");
            Unavailable
        })
    }

    async fn send(&self, record: Option<AuditRecord>) -> Result<(), Unavailable> {
        let (done, written) = oneshot::channel();
        let entry = Entry {
            record,
            done: Some(done),
        };
        let sent = async {
            self.queue.send(entry).await.map_err(|_| Unavailable)?;
            written.await.map_err(|_| Unavailable)
        };
        match within(&*self.clock, PATIENCE, sent).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false) | Err(Unavailable)) | None => Err(Unavailable),
        }
    }
}

/// The task that writes.
struct Writer {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    entries: mpsc::Receiver<Entry>,
    /// What nobody waits for yet.
    pending: Vec<AuditRecord>,
}

impl Writer {
    async fn run(mut self) {
        let mut linger: Option<BoxFuture<'static, ()>> = None;
        loop {
            let entry = tokio::select! {
                entry = self.entries.recv() => entry,
                () = async {
                    match &mut linger {
                        Some(linger) => linger.await,
                        None => std::future::pending().await,
                    }
                } => {
                    linger = None;
                    self.write(Vec::new()).await;
                    continue;
                }
            };
            let Some(entry) = entry else {
                self.write(Vec::new()).await;
                return;
            };
            // Whoever else waits by now shares the write.
            let mut waiting = Vec::new();
            let mut next = Some(entry);
            while let Some(Entry { record, done }) = next {
                self.pending.extend(record);
                waiting.extend(done);
                next = if self.pending.len() < BATCH {
                    self.entries.try_recv().ok()
                } else {
                    None
                };
            }
            if waiting.is_empty() && self.pending.len() < BATCH {
                linger.get_or_insert_with(|| self.clock.sleep(LINGER));
            } else {
                linger = None;
                self.write(waiting).await;
            }
        }
    }

    /// Writes what is pending, and tells those who wait for it.
    async fn write(&mut self, waiting: Vec<oneshot::Sender<bool>>) {
        let records = mem::take(&mut self.pending);
        let written = match records.as_slice() {
            [] => Ok(()),
            records => self.ledger.append_audit(records).await,
        };
        if let Err(error) = &written {
            Self::lost(error, records.len());
        }
        for done in waiting {
            // Whoever has stopped waiting need not know.
            let _ = done.send(written.is_ok());
        }
    }

    fn lost(error: &StoreError, count: usize) {
        tracing::warn!(%error, count, "records of the audit log cannot be written");
        telemetry::audit_lost("store", count as u64);
    }
}
