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
/// One that is refused by a rule that may be taken back.
const REFUSED: Duration = Duration::from_secs(3_600);

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
                if !self.is_over(family, now) {
                    return self.postpone(&family.parent_jti, now + POSTPONED).await;
                }
                self.0.ledger.postpone(&family.parent_jti, None).await?;
                self.expired(&family.parent_jti);
                Ok(())
            }
            Ok(Next::Over(Denial::SubjectRevoked | Denial::KeyRevoked | Denial::IssuerRevoked))
                if !self.is_over(family, now) =>
            {
                // For the last time when its parent ends.
                let end = Some(family.expires_at).filter(|end| *end > now);
                let until = end.unwrap_or(now + POSTPONED).min(now + REFUSED);
                self.postpone(&family.parent_jti, until).await
            }
            Ok(Next::Over(_)) => Ok(self.0.ledger.postpone(&family.parent_jti, None).await?),
            Err(failure @ (Failure::Store(_) | Failure::NoKey)) => Err(failure),
            // One that cannot be renewed must not stop the others.
            Err(failure) => {
                tracing::error!(parent_jti = family.parent_jti, error = %failure, "a child cannot be renewed");
                self.postpone(&family.parent_jti, now + POSTPONED).await
            }
        }
    }

    /// Whether a family's parent has ended. A civil clock that is set forward by mistake must not end it.
    fn is_over(&self, family: &Family, now: Timestamp) -> bool {
        family.expires_at <= now.min(self.0.clock.steady())
    }

    async fn postpone(&self, parent: &str, until: Timestamp) -> Result<(), Failure> {
        self.0.ledger.postpone(parent, Some(until)).await?;
        Ok(())
    }

    fn failed(&self, failure: &Failure) -> Duration {
        tracing::warn!(error = %failure, "renewal has to wait");
        PAUSE
    }
}
