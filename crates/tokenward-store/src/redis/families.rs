//! Families of tokens, and who renews which.

use std::time::Duration;

use tokenward_core::Timestamp;

use super::{
    Redis,
    call::{ATTEMPTS, Args, Values, contended, damaged, score, score_or_none, time_of},
    codec, revocations, scripts,
};
use crate::{Child, Family, Origin, Recorded, StoreError};

/// Families that are read at once: each may hold a token.
const PAGE: usize = 500;

/// How long a family that is due is one handle's.
const CLAIM: Duration = Duration::from_secs(15);

/// What became of a change.
enum Changed {
    /// This is the family now.
    To(Family),
    /// It was not to be changed.
    Not(Family),
    /// There is none.
    Gone,
    /// Its parent is revoked, by the record of this id.
    Revoked(String),
}

impl Redis {
    /// With a `rule` it is opened unless a revocation is or was kept under it; says whether there is one then.
    pub(super) async fn store_family(
        &self,
        family: &Family,
        rule: Option<String>,
    ) -> Result<bool, StoreError> {
        let mut args = Args::default()
            .of(family.parent_jti.as_str())
            .of(codec::write_family(family))
            .of(score(family.expires_at))
            .of(score_or_none(family.next_renewal));
        if let Some(rule) = rule {
            args = args.of(rule);
        }
        self.run(&scripts::FAMILY_OPEN, args).await
    }

    pub(super) async fn read_family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        let value = self.family_value(parent_jti).await?;
        value
            .map(|value| checked(parent_jti.as_bytes(), Some(&value)))
            .transpose()
    }

    pub(super) async fn families_after(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        let mut families: Vec<Family> = Vec::new();
        while families.len() < limit {
            let most = PAGE.min(limit - families.len());
            let last = families.last().map_or(after, |family| &family.parent_jti);
            let args = Args::default().of(last).of(most.to_string());
            let values: Values = self.run(&scripts::FAMILIES, args).await?;
            let is_last = values.len() < most;
            for (parent, value) in values {
                families.push(checked(&parent, value.as_deref())?);
            }
            if is_last {
                break;
            }
        }
        Ok(families)
    }

    pub(super) async fn add_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        let change = |family: &Family| {
            (family.sequence == after).then(|| Family {
                sequence: after.saturating_add(1),
                latest: Some(child.clone()),
                next_renewal,
                ..family.clone()
            })
        };
        Ok(
            match self.change_family(parent_jti, Some(origin), change).await? {
                Changed::To(family) => Recorded::Stored(family.sequence),
                Changed::Not(family) => Recorded::Behind(Box::new(family)),
                Changed::Gone => Recorded::Gone,
                Changed::Revoked(id) => Recorded::Revoked(id),
            },
        )
    }

    pub(super) async fn reschedule(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let change = |family: &Family| {
            (family.sequence == after).then(|| Family {
                next_renewal,
                ..family.clone()
            })
        };
        self.change_family(parent_jti, None, change).await.map(drop)
    }

    /// Reads a family and stores what `change` makes of it, if nobody else changed it meanwhile; else once more. A new child is
    /// one of a parent of `origin`.
    async fn change_family(
        &self,
        parent_jti: &str,
        origin: Option<&Origin>,
        change: impl Fn(&Family) -> Option<Family> + Send,
    ) -> Result<Changed, StoreError> {
        let mut stored = self.family_value(parent_jti).await?;
        for _ in 0..ATTEMPTS {
            let Some(value) = stored else {
                return Ok(Changed::Gone);
            };
            let family = checked(parent_jti.as_bytes(), Some(&value))?;
            let Some(changed) = change(&family) else {
                return Ok(Changed::Not(family));
            };
            let mut args = Args::default()
                .of(parent_jti)
                .of(value)
                .of(codec::write_family(&changed))
                .of(score_or_none(changed.next_renewal));
            if let Some(origin) = origin {
                args.add(changed.sequence.to_string());
                args.add(score(origin.issued_at));
                for rule in origin.rules(parent_jti, &family.user_id) {
                    args.add(codec::rule_name(&origin.issuer, &rule));
                }
            }
            let mut answer: Vec<Vec<u8>> = self.run(&scripts::FAMILY_WRITE, args).await?;
            match answer.first().map(Vec::as_slice) {
                Some(b"stored") => return Ok(Changed::To(changed)),
                Some(b"other") => stored = answer.pop(),
                Some(b"revoked") => return Ok(Changed::Revoked(revocations::id_of(answer)?)),
                _ => stored = None,
            }
        }
        Err(contended("the family"))
    }

    /// Damaged families are taken out of the schedule, so that they do not stop the others.
    pub(super) async fn claim_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        loop {
            let args = Args::default()
                .of(score(now))
                .of(limit.to_string())
                .of(self.0.holder.as_str())
                .of(CLAIM.as_millis().to_string());
            let values: Values = self.run(&scripts::DUE, args).await?;
            let mut due = Vec::with_capacity(values.len());
            let mut is_whole = true;
            for (parent, value) in values {
                if let Ok(family) = checked(&parent, value.as_deref()) {
                    due.push(family);
                    continue;
                }
                is_whole = false;
                tracing::error!(
                    parent_jti = %String::from_utf8_lossy(&parent),
                    "A parent token is not renewed any more: what the store's `families` holds of it is damaged"
                );
                let args = Args::default().of(parent).of(value.unwrap_or_default());
                let _: bool = self.run(&scripts::UNSCHEDULE, args).await?;
            }
            if is_whole {
                return Ok(due);
            }
            // Others take their places; those that are whole are still ours.
        }
    }

    pub(super) async fn next_unclaimed(&self) -> Result<Option<Timestamp>, StoreError> {
        let args = Args::default()
            .of(self.0.holder.as_str())
            .of(CLAIM.as_millis().to_string());
        let score: Option<f64> = self.run(&scripts::NEXT_DUE, args).await?;
        Ok(score.map(time_of))
    }

    async fn family_value(&self, parent_jti: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask("HGET", "families", Args::default().of(parent_jti)).await
    }
}

fn checked(parent_jti: &[u8], value: Option<&[u8]>) -> Result<Family, StoreError> {
    let family = value.and_then(|value| codec::read_family(parent_jti, value));
    family.ok_or_else(|| {
        damaged(format!(
            "what the store's `families` holds of the parent token `{}` is not what was stored, or of a newer version. \
             Put a backup in the store's place, or delete this field; the parent token can still be revoked",
            String::from_utf8_lossy(parent_jti)
        ))
    })
}
