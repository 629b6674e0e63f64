//! The audit log: who did what, on what, from where, and what came of it.
//!
//! One task writes, in batches. A change is answered only once its record is durable; what only reads or is refused is
//! written within a moment, and counted where even that is too much.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokenward_core::{Clock, Timestamp};
use tokenward_store::{AuditRecord, Ledger, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{http::within, telemetry};

/// Records that wait to be written, beside as many that somebody waits for.
const QUEUE: usize = 4_096;
/// Records of one write.
const BATCH: usize = 512;
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
    pending: Arc<Mutex<Pending>>,
    /// Wakes the writer. A record alone is no reason to: those of a burst go over together.
    bell: mpsc::Sender<()>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    /// When the allowance of refusals is whole again.
    denials_full_at: Arc<Mutex<Timestamp>>,
}

/// The audit log cannot be written or read: the store's log lines say why.
#[derive(Debug)]
pub(crate) struct Unavailable;

/// What is not written yet.
#[derive(Default)]
struct Pending {
    records: Vec<AuditRecord>,
    /// Those who wait until all of it is.
    waiting: Vec<oneshot::Sender<bool>>,
}

impl Audit {
    /// The log in `ledger`, and the task that writes it, which ends when the last clone is gone.
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        // Who rings while it rings is heard with the other: the writer looks at what is pending then.
        let (bell, rung) = mpsc::channel(1);
        let pending = Arc::<Mutex<Pending>>::default();
        let writer = Writer {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            pending: Arc::clone(&pending),
            rung,
        };
        let audit = Self {
            pending,
            bell,
            ledger,
            clock,
            denials_full_at: Arc::default(),
        };
        (audit, writer.run())
    }

    /// Writes `record` some time soon. Where the queue is full it is counted instead.
    pub(super) fn note(&self, record: AuditRecord) {
        let waiting = {
            let mut pending = lock(&self.pending);
            if pending.records.len() < QUEUE {
                pending.records.push(record);
                pending.records.len()
            } else {
                0
            }
        };
        match waiting {
            0 => telemetry::audit_lost("overflow", 1),
            // The first has to be written some time, and of so many there is a whole write.
            1 | BATCH => self.ring(),
            _ => {}
        }
    }

    /// The same for a refusal, as far as there are not too many of them.
    pub(super) fn note_denial(&self, record: AuditRecord) {
        let now = self.clock.steady();
        let admitted = {
            let mut full_at = lock(&self.denials_full_at);
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
        lock(&self.pending).records.len()
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
        {
            // Those who have stopped waiting leave their records here: a store that hangs must not fill the memory.
            let mut pending = lock(&self.pending);
            if pending.records.len() >= 2 * QUEUE || pending.waiting.len() >= QUEUE {
                drop(pending);
                telemetry::audit_lost("overflow", u64::from(record.is_some()));
                return Err(Unavailable);
            }
            pending.records.extend(record);
            pending.waiting.push(done);
        }
        if self.bell.is_closed() {
            return Err(Unavailable);
        }
        self.ring();
        match within(&*self.clock, PATIENCE, written).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false) | Err(_)) | None => Err(Unavailable),
        }
    }

    fn ring(&self) {
        // Where it rings already it will be heard.
        let _ = self.bell.try_send(());
    }
}

/// What a panicking holder left behind is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that writes.
struct Writer {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    pending: Arc<Mutex<Pending>>,
    rung: mpsc::Receiver<()>,
}

impl Writer {
    async fn run(mut self) {
        let mut linger: Option<BoxFuture<'static, ()>> = None;
        loop {
            let rung = tokio::select! {
                rung = self.rung.recv() => rung,
                () = async {
                    match &mut linger {
                        Some(linger) => linger.await,
                        None => std::future::pending().await,
                    }
                } => {
                    linger = None;
                    self.write().await;
                    continue;
                }
            };
            if rung.is_none() {
                self.write().await;
                return;
            }
            let due = {
                let pending = lock(&self.pending);
                !pending.waiting.is_empty() || pending.records.len() >= BATCH
            };
            if due {
                linger = None;
                self.write().await;
            } else {
                linger.get_or_insert_with(|| self.clock.sleep(LINGER));
            }
        }
    }

    /// Writes what is pending, and tells those who wait for it.
    async fn write(&self) {
        let Pending { records, waiting } = mem::take(&mut *lock(&self.pending));
        let mut written = true;
        for records in records.chunks(BATCH) {
            if let Err(error) = self.ledger.append_audit(records).await {
                Self::lost(&error, records.len());
                written = false;
            }
        }
        for done in waiting {
            // Whoever has stopped waiting need not know.
            let _ = done.send(written);
        }
    }

    fn lost(error: &StoreError, count: usize) {
        tracing::warn!(%error, count, "records of the audit log cannot be written");
        telemetry::audit_lost("store", count as u64);
    }
}

#[cfg(test)]
mod tests;
