//! What the metrics are told of the families that there are.

use std::time::Duration;

use tokenward_core::Timestamp;

use super::{failure::Failure, service::TokenService};
use crate::telemetry::{self, Exporter, Parent};

/// Parent tokens that have series of their own, at most.
const MAX_SERIES: usize = 1_000;

/// Families that are read at once, and how often: those of a user who was revoked stay until they end.
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 10;

impl TokenService {
    /// Counts the families. What the store does not tell stays as it was told last, and its errors are counted.
    pub(crate) async fn take_census(&self, exporter: &Exporter) {
        telemetry::streams(self.streams().taken());
        if let Err(failure) = self.count(exporter).await {
            tracing::debug!(error = %failure, "the families were not counted");
        }
    }

    async fn count(&self, exporter: &Exporter) -> Result<(), Failure> {
        let inner = &self.0;
        let now = inner.clock.wall();
        telemetry::active_parents(inner.ledger.active_families(now).await?);
        let due = inner.ledger.next_due().await?;
        telemetry::overdue(due.map_or(Duration::ZERO, |due| now.since(due)));
        let parents = match exporter.shows_parents() {
            true => self.parents(now, MAX_SERIES).await?,
            false => Vec::new(),
        };
        exporter.parents(&parents);
        Ok(())
    }

    /// The first `most` parents, by their ids, that are good at `now`.
    pub(super) async fn parents(&self, now: Timestamp, most: usize) -> Result<Vec<Parent>, Failure> {
        let (mut parents, mut after) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let page = self.0.ledger.families(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.parent_jti.clone();
            for family in page.iter().filter(|family| family.expires_at > now) {
                if parents.len() == most {
                    return Ok(parents);
                }
                // One that cannot be read is reported where it is used.
                if let Ok(marks) = self.marks(family)
                    && self.0.index.check(&marks).is_ok()
                {
                    parents.extend(self.shown(family).ok());
                }
            }
        }
        Ok(parents)
    }
}
