//! Renews children when they are due.

use std::time::Duration;

use futures_util::future::join_all;
use tokenward_core::{Denial, Timestamp};
use tokenward_store::Family;

use super::{failure::Failure, family::Next, service::TokenService};
use crate::telemetry;

/// Families that are renewed between two looks at what else is due.
const BATCH: usize = 100;
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// A family that cannot be renewed is tried again after this.
const POSTPONED: Duration = Duration::from_secs(60);

impl TokenService {
    /// Mints each child when it is due, for ever. Between two it sleeps until the next one is, `longest` at most.
    pub(crate) async fn keep_renewing(self, longest: Duration) {
        loop {
            let inner = &self.0;
            let wait = match self.renew_due().await {
                Ok(0) => match inner.ledger.next_due().await {
                    Ok(due) => due
                        .map_or(longest, |due| due.since(inner.clock.wall()))
                        .min(longest),
                    Err(error) => self.failed(&Failure::Store(error)),
                },
                Ok(_) => continue,
                Err(failure) => self.failed(&failure),
            };
            tokio::select! {
                () = inner.clock.sleep(wait) => {}
                () = inner.wake.notified() => {}
            }
        }
    }

    /// Renews what is due now, and says how many there were.
    pub(crate) async fn renew_due(&self) -> Result<usize, Failure> {
        let now = self.0.clock.wall();
        let due = self.0.ledger.due_families(now, BATCH).await?;
        // At the same time, so that the store writes them together.
        let renewals = due.iter().map(|family| self.renew_one(family, now));
        for renewed in join_all(renewals).await {
            renewed?;
        }
        Ok(due.len())
    }

    async fn renew_one(&self, family: &Family, now: Timestamp) -> Result<(), Failure> {
        match self.next_child(family).await {
            Ok(Next::Minted(_)) => {
                telemetry::renewed(family.next_renewal.map_or(Duration::ZERO, |due| now.since(due)));
                Ok(())
            }
            Ok(Next::Behind(_)) => Ok(()),
            Ok(Next::Over(Denial::TokenExpired)) => {
                // A civil clock that is set forward by mistake must not end a family.
                if family.expires_at > now.min(self.0.clock.steady()) {
                    return self.postpone(&family.parent_jti, now).await;
                }
                self.0.ledger.postpone(&family.parent_jti, None).await?;
                self.expired(&family.parent_jti);
                Ok(())
            }
            Ok(Next::Over(_)) => Ok(self.0.ledger.postpone(&family.parent_jti, None).await?),
            Err(Failure::Store(error)) => Err(Failure::Store(error)),
            // One that cannot be renewed must not stop the others.
            Err(failure) => {
                tracing::error!(parent_jti = family.parent_jti, error = %failure, "a child cannot be renewed");
                self.postpone(&family.parent_jti, now).await
            }
        }
    }

    async fn postpone(&self, parent: &str, now: Timestamp) -> Result<(), Failure> {
        self.0.ledger.postpone(parent, Some(now + POSTPONED)).await?;
        Ok(())
    }

    fn failed(&self, failure: &Failure) -> Duration {
        tracing::warn!(error = %failure, "renewal has to wait");
        PAUSE
    }
}
