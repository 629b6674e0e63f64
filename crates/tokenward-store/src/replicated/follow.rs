//! One look at what others changed, and what tells that the shared store may have lost something.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokenward_core::Timestamp;
use tokio::task::{JoinError, JoinSet};

use super::{Followed, Inner, News, Replicated};
use crate::{Change, Feed, Ledger as _, Revocation, StoreError, StoreErrorKind};

/// How long others have to write back what they know, before one who comes new to the store takes it for whole.
const SETTLING: Duration = Duration::from_secs(5);

/// Revocations that are read at once.
pub(super) const PAGE: usize = 10_000;

/// After every sequence that there is: there is nothing to be told yet.
const END: u64 = 1 << 53;

/// Pages that may be on their way into the journal.
const WRITES: usize = 8;

/// How often it is made sure that the server is still the one that takes our commands: a master that was deposed behind a
/// partition goes on answering.
const LEAD: Duration = Duration::from_secs(2);

/// Attempts to mark the store, where others do so at the same time.
const ATTEMPTS: usize = 5;

/// How far this replica has come.
#[derive(Default)]
pub(super) struct Follower {
    pub(super) place: Option<Place>,
    /// Since when, in steady time, it has waited for others to write back what they know.
    waiting: Option<Timestamp>,
    /// What is on its way into the journal: a slow disk must not hold up what others revoke.
    pub(super) writes: JoinSet<Result<(), StoreError>>,
    /// What is to be told: all of it, though a later step of the poll that brought it fails.
    news: Vec<News>,
    /// When, in steady time, it was last made sure that the server still is the one that takes our commands.
    led: Option<Timestamp>,
}

pub(super) struct Place {
    /// The store's marker.
    generation: String,
    cursor: u64,
}

impl Replicated {
    pub(super) async fn poll(
        &self,
        follower: &mut Follower,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
    ) -> Result<Followed, StoreError> {
        let Inner { shared, clock, .. } = &*self.0;
        while let Some(written) = follower.writes.try_join_next() {
            follower.written(written)?;
        }
        if follower.place.is_none() {
            // It may be another server than the one that was looked at before.
            shared.check().await?;
        }
        if follower.led.is_none_or(|led| clock.steady().since(led) >= LEAD) {
            shared.leads().await?;
            follower.led = Some(clock.steady());
        }
        for _ in 0..ATTEMPTS {
            let asked = clock.steady();
            let after = follower.place.as_ref().map_or(END, |place| place.cursor);
            let feed = shared.changes(after).await?;
            let answered = clock.steady();
            // It has less than it had: though it is the same run, others must hear of it as well.
            let is_older = follower
                .place
                .as_ref()
                .is_some_and(|place| place.cursor > feed.head);
            let Some((generation, is_new)) = self.marked(&feed, is_older).await? else {
                continue;
            };
            if is_new {
                follower.waiting = None;
            }
            let run_id = feed.run_id.clone();
            let had_place = follower.place.is_some();
            let known = follower.place.take().filter(|place| {
                let same = place.generation == generation && place.cursor <= feed.head;
                same && !feed.gap
            });
            if had_place && known.is_none() {
                self.ground_is_lost(answered);
            }
            let (time, made_at) = (feed.time, Marker::read(&generation).map(|marker| marker.made_at));
            let has_more = feed.next < feed.head;
            let (reconciled, cursor) = match known {
                Some(place) => {
                    let cursor = feed.next;
                    // Where it fails it is done again from the place where it began.
                    follower.place = Some(place);
                    self.take_over(feed, after, revoked, follower).await?;
                    (None, cursor)
                }
                None => {
                    let cursor = feed.head;
                    while let Some(written) = follower.writes.join_next().await {
                        follower.written(written)?;
                    }
                    let written = self.reconcile(revoked, &mut follower.news).await?;
                    follower.news.extend(children(feed));
                    (Some(written), cursor)
                }
            };
            self.stands_on(run_id, answered);
            let is_whole = reconciled.is_some() || !has_more;
            follower.place = Some(Place { generation, cursor });
            let age = made_at.map_or(Duration::ZERO, |made_at| time.since(made_at));
            let waited = answered.since(*follower.waiting.get_or_insert(answered));
            if is_whole && age.max(waited) >= SETTLING {
                self.joined();
            } else {
                self.still_joining(
                    "the store is new, or lost what it had: other replicas have a few seconds to write back what they know"
                        .to_owned(),
                );
            }
            return Ok(Followed {
                time,
                asked,
                answered,
                is_complete: is_whole && self.has_joined(),
                news: std::mem::take(&mut follower.news),
                reconciled,
            });
        }
        Err(StoreError::new(
            StoreErrorKind::Unavailable,
            "others mark the store anew again and again",
        ))
    }

    /// Notes that the server may have lost something.
    fn ground_is_lost(&self, now: Timestamp) {
        let mut ground = self.0.ground.lock().unwrap_or_else(PoisonError::into_inner);
        ground.lost = Some(now);
    }

    /// Notes that all was compared with this run of the server. Others may be at it still for a few seconds.
    fn stands_on(&self, run_id: String, now: Timestamp) {
        let mut ground = self.0.ground.lock().unwrap_or_else(PoisonError::into_inner);
        ground.run_id = Some(run_id);
        ground.lost = ground.lost.filter(|lost| now.since(*lost) < SETTLING);
    }

    /// The marker of the store as it is, and whether it was set now: its own, or a new one where it has none, that of another
    /// server, or less than it had. None: another one marks it at this moment.
    async fn marked(&self, feed: &Feed, is_older: bool) -> Result<Option<(String, bool)>, StoreError> {
        let own = feed.generation.as_deref();
        if let Some(generation) = own
            && !is_older
            && Marker::read(generation).is_some_and(|marker| marker.run_id == feed.run_id)
        {
            return Ok(Some((generation.to_owned(), false)));
        }
        let new = Marker {
            run_id: &feed.run_id,
            made_at: feed.time,
        };
        let new = new.to_string();
        let set = self.0.shared.set_generation(own, &new).await?;
        if set {
            tracing::info!(
                "The store is new, or its server was started anew: all replicas compare what they know"
            );
        }
        Ok(set.then_some((new, true)))
    }

    async fn take_over(
        &self,
        feed: Feed,
        after: u64,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
        follower: &mut Follower,
    ) -> Result<(), StoreError> {
        let (mut has_revoked, mut has_idps, mut has_keyring) = (false, false, false);
        let news = &mut follower.news;
        for (_, change) in feed.changes {
            match change {
                Change::Revoked => has_revoked = true,
                Change::Idps => has_idps = true,
                Change::Keyring => has_keyring = true,
                Change::Unrevoked { issuer, rule } => news.push(News::Unrevoked { issuer, rule }),
                Change::Child { parent_jti, sequence } => news.push(News::Child { parent_jti, sequence }),
            }
        }
        if has_revoked {
            self.take_revocations(after, revoked, follower).await?;
        }
        if has_idps && self.take_idps().await? {
            follower.news.push(News::Idps);
        }
        if has_keyring && self.take_keyring().await? {
            follower.news.push(News::Keyring);
        }
        Ok(())
    }

    /// Reads revocations from the store, for whoever hears of them and for the journal.
    async fn take_revocations(
        &self,
        mut after: u64,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
        follower: &mut Follower,
    ) -> Result<(), StoreError> {
        loop {
            let page = self.0.shared.revocations(after, PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = *last;
            let records: Vec<_> = page.into_iter().map(|(_, record)| record).collect();
            // They are durable in the store, and are heard of again where this process ends before it has written them.
            revoked(&records);
            while follower.writes.len() >= WRITES
                && let Some(written) = follower.writes.join_next().await
            {
                follower.written(written)?;
            }
            let inner = Arc::clone(&self.0);
            follower
                .writes
                .spawn(async move { inner.journal.keep_revocations(records).await.map(drop) });
        }
    }

    pub(super) async fn take_idps(&self) -> Result<bool, StoreError> {
        let Inner {
            shared,
            journal,
            idps,
            ..
        } = &*self.0;
        let _alone = idps.lock().await;
        let removed = shared.removed_idps().await?;
        journal.keep_idps(shared.idps().await?, removed).await
    }

    pub(super) async fn take_keyring(&self) -> Result<bool, StoreError> {
        match self.0.shared.keyring().await? {
            Some((version, bytes)) => self.0.journal.keep_keyring(version, bytes).await,
            None => Ok(false),
        }
    }
}

impl Follower {
    /// Notes that a page was written to the journal; where it was not everything is compared anew.
    pub(super) fn written(
        &mut self,
        outcome: Result<Result<(), StoreError>, JoinError>,
    ) -> Result<(), StoreError> {
        let outcome = outcome.map_err(ended).flatten();
        if outcome.is_err() {
            self.place = None;
        }
        outcome
    }
}

fn ended(error: JoinError) -> StoreError {
    StoreError::new(StoreErrorKind::Io, "a write to the journal was not carried out").because(error)
}

/// What is told of children where everything else is read anew.
fn children(feed: Feed) -> impl Iterator<Item = News> {
    feed.changes.into_iter().filter_map(|(_, change)| match change {
        Change::Child { parent_jti, sequence } => Some(News::Child { parent_jti, sequence }),
        _ => None,
    })
}

/// What marks a store as the one that replicas know: which run of which server it is in, and since when. A server that was
/// started anew may have lost something, and so may one that takes the place of another.
struct Marker<'a> {
    run_id: &'a str,
    made_at: Timestamp,
}

impl<'a> Marker<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (run_id, millis) = text.rsplit_once('@')?;
        Some(Self {
            run_id,
            made_at: Timestamp::from_millis(millis.parse().ok()?),
        })
    }
}

impl fmt::Display for Marker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.run_id, self.made_at.as_millis())
    }
}
