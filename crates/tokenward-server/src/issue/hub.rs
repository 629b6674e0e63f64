//! Tells those who follow a family what happens to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokenward_core::{Timestamp, revocation::Marks};
use tokio::sync::watch;

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
    news: watch::Receiver<News>,
    revoked: watch::Receiver<u64>,
    /// As it was when it was looked at.
    sequence: u64,
    expires_at: Timestamp,
    marks: Option<Marks>,
}

impl Hub {
    /// Hears of the family of `parent` from now on.
    pub(super) fn follow(&self, parent: &str) -> Follower {
        let news = match self.lock().entry(parent.to_owned()) {
            std::collections::hash_map::Entry::Occupied(known) => known.get().subscribe(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(watch::Sender::new(News::Child(0))).subscribe()
            }
        };
        Follower {
            hub: self.clone(),
            parent: parent.to_owned(),
            news,
            revoked: self.0.revoked.subscribe(),
            sequence: 0,
            expires_at: Timestamp::MAX,
            marks: None,
        }
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
        match *self.news.borrow_and_update() {
            News::Child(told) => News::Child(told.max(self.sequence)),
            ended @ News::Ended(_) => ended,
        }
    }

    /// Waits until something may have happened. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        // The senders live in the hub for as long as somebody follows.
        tokio::select! {
            _ = self.news.changed() => {}
            _ = self.revoked.changed() => {}
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut families = self.hub.lock();
        // This one still counts.
        if families
            .get(&self.parent)
            .is_some_and(|family| family.receiver_count() <= 1)
        {
            families.remove(&self.parent);
        }
    }
}
