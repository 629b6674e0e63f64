//! Renews children when they are due.

use std::time::Duration;

use futures_util::future::join_all;
use tokenward_core::{Denial, Timestamp, session::next_renewal};
use tokenward_store::{Family, StoreErrorKind};

use super::{failure::Failure, family::Next, service::TokenService};
use crate::{revocation::Issuer as _, telemetry};

/// Families that are renewed between two looks at what else is due.
const BATCH: usize = 100;
/// After a failure, and between two looks at what another process renews: it may end before it is done.
const PAUSE: Duration = Duration::from_secs(1);
/// A family that cannot be renewed is tried again after this.
const POSTPONED: Duration = Duration::from_secs(60);
/// One that is refused by a rule that may be taken back.
const REFUSED: Duration = Duration::from_secs(3_600);

impl TokenService {
    /// Mints each child when it is due, for ever. Between two it sleeps until the next one is, `longest` at most.
    pub(crate) async fn keep_renewing(self, longest: Duration) {
        // What was issued before tells how far ahead the clock of another process was.
        let mut ahead = self.ahead(self.0.clock.wall().max(self.0.latest_issue()));
        loop {
            let inner = &self.0;
            let renewed = match self.heed_clock(&mut ahead).await {
                Ok(()) => self.renew_due().await,
                Err(failure) => Err(failure),
            };
            let wait = match renewed {
                Ok(0) => match inner.ledger.next_due().await {
                    Ok(due) => match due.map_or(longest, |due| due.since(inner.clock.wall())) {
                        // It is due, and another process is at it.
                        Duration::ZERO => PAUSE,
                        wait => wait.min(longest),
                    },
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

    /// How far a civil time is ahead of the one that does not leap, in milliseconds.
    fn ahead(&self, wall: Timestamp) -> i64 {
        wall.as_millis().saturating_sub(self.0.clock.steady().as_millis())
    }

    /// Makes due what a clock that was ahead has put off, once it is set back. `ahead` is how far ahead it was at most.
    async fn heed_clock(&self, ahead: &mut i64) -> Result<(), Failure> {
        let now = self.ahead(self.0.clock.wall());
        if Timestamp::from_millis(*ahead).since(Timestamp::from_millis(now)) <= POSTPONED {
            *ahead = now.max(*ahead);
            return Ok(());
        }
        // All families are looked through this once: the schedule does not tell which times are wrong.
        let mut after = String::new();
        loop {
            let page = self.0.ledger.families(&after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.parent_jti);
            let wall = self.0.clock.wall();
            let waiting = page.iter().filter(|family| self.waits_in_vain(family, wall));
            let due = waiting.map(|family| self.postpone(family, wall));
            for made_due in join_all(due).await {
                made_due?;
            }
        }
        *ahead = now;
        Ok(())
    }

    /// Whether the next child of a family is planned by a clock that was ahead.
    fn waits_in_vain(&self, family: &Family, wall: Timestamp) -> bool {
        let soon = wall + POSTPONED;
        let child = family.latest.as_ref();
        if child.is_some_and(|child| child.issued_at > soon) {
            // It may be dated so close to its parent's end that it was to be the last.
            return family
                .next_renewal
                .map_or_else(|| TokenService::is_renewed(family), |due| due > soon);
        }
        let usual = child.and_then(|child| {
            let renewal = &self.0.settings.renewal;
            next_renewal(renewal, child.issued_at, child.expires_at, family.expires_at)
        });
        family
            .next_renewal
            .is_some_and(|due| due > soon.max(usual.unwrap_or(soon)))
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
                    return self.postpone(family, now + POSTPONED).await;
                }
                self.plan(family, None).await?;
                self.expired(&family.parent_jti);
                Ok(())
            }
            Ok(Next::Over(Denial::SubjectRevoked | Denial::KeyRevoked | Denial::IssuerRevoked))
                if !self.is_over(family, now) =>
            {
                // For the last time when its parent ends.
                let end = Some(family.expires_at).filter(|end| *end > now);
                let until = end.unwrap_or(now + POSTPONED).min(now + REFUSED);
                self.postpone(family, until).await
            }
            Ok(Next::Over(_)) => self.plan(family, None).await,
            Err(Failure::Store(error)) if error.kind() != StoreErrorKind::Corrupt => Err(error.into()),
            Err(failure @ Failure::NoKey(_)) => Err(failure),
            // One that cannot be renewed must not stop the others.
            Err(failure) => {
                tracing::error!(parent_jti = family.parent_jti, error = %failure, "a child cannot be renewed");
                self.postpone(family, now + POSTPONED).await
            }
        }
    }

    /// Whether a family's parent has ended. A civil clock that is set forward by mistake must not end it.
    fn is_over(&self, family: &Family, now: Timestamp) -> bool {
        family.expires_at <= now.min(self.0.clock.steady())
    }

    async fn postpone(&self, family: &Family, until: Timestamp) -> Result<(), Failure> {
        self.plan(family, Some(until)).await
    }

    /// Unless another child of it was recorded meanwhile.
    async fn plan(&self, family: &Family, next: Option<Timestamp>) -> Result<(), Failure> {
        let Family {
            parent_jti, sequence, ..
        } = family;
        Ok(self.0.ledger.postpone(parent_jti, *sequence, next).await?)
    }

    fn failed(&self, failure: &Failure) -> Duration {
        tracing::warn!(error = %failure, "renewal has to wait");
        PAUSE
    }
}
