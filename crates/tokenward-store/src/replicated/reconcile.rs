//! Comparing everything: what the shared store lacks is written back, what this replica lacks is taken over.

use std::collections::{HashMap, HashSet};

use super::{Inner, News, Replicated, follow::PAGE};
use crate::{
    Ledger as _, Revocation, StoreError, StoredIdp,
    digest::{Digest, digest},
};

impl Replicated {
    /// Adds to `news` what changed here, and says how many things the store lacked.
    pub(super) async fn reconcile(
        &self,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
        news: &mut Vec<News>,
    ) -> Result<usize, StoreError> {
        let mut written = self.reconcile_deletions(news).await?;
        written += self.reconcile_revocations(revoked).await?;
        written += self.reconcile_idps(news).await?;
        written += self.reconcile_keyring(news).await?;
        news.push(News::Children);
        Ok(written)
    }

    /// First, so that nothing of what was deleted is written back.
    async fn reconcile_deletions(&self, news: &mut Vec<News>) -> Result<usize, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let mut written = shared.assert_tombstones(&journal.tombstones().await?).await?;
        written += shared.assert_removed_idps(&journal.removed_idps().await?).await?;
        let buried = journal.bury(shared.tombstones().await?).await?;
        let unrevoked = buried.into_iter().map(|tombstone| News::Unrevoked {
            issuer: tombstone.issuer,
            rule: tombstone.rule,
        });
        news.extend(unrevoked);
        Ok(written)
    }

    async fn reconcile_revocations(
        &self,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
    ) -> Result<usize, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let (mut known, mut written, mut after) = (HashSet::new(), 0, 0);
        loop {
            let page = shared.revocations(after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            known.extend(page.iter().map(|(_, record)| name_of(record)));
            let records: Vec<_> = page.into_iter().map(|(_, record)| record).collect();
            revoked(&records);
            let wider = journal.keep_revocations(records).await?.wider;
            written += shared.assert_revocations(&wider).await?;
        }
        let mut after = 0;
        loop {
            let page = journal.revocations(after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let records = page.into_iter().map(|(_, record)| record);
            let lost: Vec<_> = records
                .filter(|record| !known.contains(&name_of(record)))
                .collect();
            written += shared.assert_revocations(&lost).await?;
        }
        Ok(written)
    }

    async fn reconcile_idps(&self, news: &mut Vec<News>) -> Result<usize, StoreError> {
        let Inner {
            shared,
            journal,
            idps,
            ..
        } = &*self.0;
        let mut written = 0;
        {
            let _alone = idps.lock().await;
            let there = shared.idps().await?;
            let there: HashMap<_, _> = there
                .iter()
                .map(|idp| ((&*idp.tenant, &*idp.name), idp.changed_at))
                .collect();
            let is_lost = |idp: &StoredIdp| {
                let changed_at = there.get(&(&*idp.tenant, &*idp.name));
                changed_at.is_none_or(|changed_at| *changed_at < idp.changed_at)
            };
            let lost: Vec<_> = journal.idps().await?.into_iter().filter(is_lost).collect();
            written += shared.assert_idps(&lost).await?;
        }
        if self.take_idps().await? {
            news.push(News::Idps);
        }
        Ok(written)
    }

    /// The later version wins.
    async fn reconcile_keyring(&self, news: &mut Vec<News>) -> Result<usize, StoreError> {
        let Inner { shared, journal, .. } = &*self.0;
        let own = journal.keyring().await?;
        let there = shared.keyring().await?.map_or(0, |(version, _)| version);
        match own {
            Some((version, bytes)) if version > there => {
                Ok(usize::from(shared.assert_keyring(version, &bytes).await?))
            }
            _ => {
                if self.take_keyring().await? {
                    news.push(News::Keyring);
                }
                Ok(0)
            }
        }
    }
}

/// What there is one record for.
fn name_of(record: &Revocation) -> Digest {
    let (kind, value) = record.rule.key();
    digest(&[
        Some(record.issuer.as_bytes()),
        Some(kind.as_bytes()),
        Some(value.as_bytes()),
    ])
}
