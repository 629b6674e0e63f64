//! Tells those who follow a family what happens to it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokenward_core::{Timestamp, revocation::Marks};
use tokio::sync::watch;

/// Who may follow one family at the same time: more are one holder's mistake, at the cost of all others.
const MAX_FOLLOWERS: usize = 32;

/// Who follows which family. A family that nobody follows costs nothing.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    families: Mutex<HashMap<String, watch::Sender<News>>>,
    /// Moves when something was revoked that is not one family: everybody looks whether it is theirs.
    revoked: watch::Sender<u64>,
}

/// What happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The family has had this many children.
    Child(u64),
    /// There will be no more.
    Ended(Ending),
}

/// Why a family ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Revoked,
    Expired,
}

/// Follows one family until it is dropped.
pub(crate) struct Follower {
    hub: Hub,
    parent: String,
    /// There until it is dropped.
    news: Option<watch::Receiver<News>>,
    revoked: watch::Receiver<u64>,
    /// As it was when it was looked at.
    sequence: u64,
    expires_at: Timestamp,
    marks: Option<Marks>,
}

impl Hub {
    /// Hears of the family of `parent` from now on. None: [`MAX_FOLLOWERS`] do so already.
    pub(super) fn follow(&self, parent: &str) -> Option<Follower> {
        let news = match self.lock().entry(parent.to_owned()) {
            Entry::Occupied(known) if known.get().receiver_count() >= MAX_FOLLOWERS => return None,
            Entry::Occupied(known) => known.get().subscribe(),
            Entry::Vacant(free) => free.insert(watch::Sender::new(News::Child(0))).subscribe(),
        };
        Some(Follower {
            hub: self.clone(),
            parent: parent.to_owned(),
            news: Some(news),
            revoked: self.0.revoked.subscribe(),
            sequence: 0,
            expires_at: Timestamp::MAX,
            marks: None,
        })
    }

    /// How many families somebody follows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The families that somebody follows.
    pub(super) fn followed(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Has everybody look whether their family was revoked.
    pub(super) fn look_again(&self) {
        self.0.revoked.send_modify(|count| *count += 1);
    }

    /// Tells those who follow the family. What has ended stays so.
    pub(crate) fn tell(&self, parent: &str, news: News) {
        if let Some(family) = self.lock().get(parent) {
            family.send_if_modified(|held| {
                let changes = match (*held, news) {
                    (News::Ended(_), _) => false,
                    (News::Child(held), News::Child(new)) => new > held,
                    (News::Child(_), News::Ended(_)) => true,
                };
                if changes {
                    *held = news;
                }
                changes
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<News>>> {
        // Each critical section is one call of the map.
        self.0.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    pub(super) fn of(mut self, sequence: u64, expires_at: Timestamp, marks: Marks) -> Self {
        self.sequence = sequence;
        self.expires_at = expires_at;
        self.marks = Some(marks);
        self
    }

    pub(super) fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// When the parent ends.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The family's id.
    pub(crate) fn parent(&self) -> &str {
        &self.parent
    }

    /// What happened last, now.
    pub(crate) fn news(&mut self) -> News {
        let told = self.news.as_mut().map(|news| *news.borrow_and_update());
        match told {
            Some(News::Child(told)) => News::Child(told.max(self.sequence)),
            Some(ended @ News::Ended(_)) => ended,
            None => News::Child(self.sequence),
        }
    }

    /// Waits until something may have happened. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        // The senders live in the hub for as long as somebody follows.
        let Some(news) = &mut self.news else { return };
        tokio::select! {
            _ = news.changed() => {}
            _ = self.revoked.changed() => {}
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut families = self.hub.lock();
        // Under the lock, or two that leave together would each count the other.
        drop(self.news.take());
        if families
            .get(&self.parent)
            .is_some_and(|family| family.receiver_count() == 0)
        {
            families.remove(&self.parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn followers_that_leave_together_leave_nothing_behind() {
        const FAMILIES: usize = 100_000;
        let hub = Hub::default();
        let all = || -> Vec<_> {
            (0..FAMILIES)
                .map(|family| hub.follow(&family.to_string()))
                .collect()
        };
        let (one, two) = (all(), all());
        // Both wait for each other before each drop, as closely as two threads can.
        let turns = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for followers in [one, two] {
                let turns = &turns;
                scope.spawn(move || {
                    for (turn, follower) in followers.into_iter().enumerate() {
                        turns.fetch_add(1, Ordering::SeqCst);
                        while turns.load(Ordering::SeqCst) < 2 * (turn + 1) {
                            std::thread::yield_now();
                        }
                        drop(follower);
                    }
                });
            }
        });
        assert_eq!(hub.len(), 0);
    }

    #[test]
    fn a_family_has_so_many_followers() {
        let hub = Hub::default();
        let mut followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| hub.follow("a").unwrap()).collect();
        assert!(hub.follow("a").is_none());
        assert!(hub.follow("b").is_some());
        followers.pop();
        assert!(hub.follow("a").is_some());
    }
}
