//! One replica of a cluster: the store that all share, and a journal of its own.
//!
//! What is acknowledged is in both. So the shared store may lose what it had, in a failover, by a flush or an old backup: each
//! replica that lives notices, and writes back what is missing. What is asked often is answered from the journal, which is as
//! new as the last call of [`Replicated::follow`].

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex as Lock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokenward_core::{Clock, Timestamp};
use tokio::sync::Mutex;

use self::follow::Follower;
use crate::{Redis, Revocation, RevocationRule, ServerFacts, Sqlite, StoreError, StoreErrorKind};

mod follow;
mod ledger;
mod reconcile;
mod snapshots;

/// A shared store and a journal, as one ledger. Cheap to clone.
///
/// [`Replicated::follow`] must be called again and again, several times a second, by one task: it brings what other replicas
/// change, and takes care of what the shared store loses.
#[derive(Clone)]
pub struct Replicated(Arc<Inner>);

struct Inner {
    shared: Redis,
    journal: Sqlite,
    clock: Arc<dyn Clock>,
    /// Identity providers are written, or copied into the journal, by one at a time.
    idps: Mutex<()>,
    follower: Mutex<Follower>,
    standing: Lock<Standing>,
    ground: Lock<Ground>,
    /// Whether the last poll succeeded.
    following: AtomicBool,
}

/// What this replica knows of the server that it follows.
#[derive(Default)]
struct Ground {
    /// In which run of it everything was compared last.
    run_id: Option<String>,
    /// Since when, in steady time, others are writing back what it lost.
    lost: Option<Timestamp>,
}

/// Whether a replica knows all that the shared store acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet.
    Joining {
        /// What it waits for.
        why: String,
    },
    /// It did once, and has followed since.
    Joined,
}

/// What became of one poll.
#[derive(Debug)]
pub struct Followed {
    /// The shared store's time.
    pub time: Timestamp,
    /// When it was asked, in steady time. All that was acknowledged before is known here now, if the poll is complete.
    pub asked: Timestamp,
    /// When it answered, in steady time.
    pub answered: Timestamp,
    /// Whether there is nothing more to be told, and this replica has joined.
    pub is_complete: bool,
    /// What others changed, beside revocations.
    pub news: Vec<News>,
    /// Whether everything was compared with the shared store, and how much of it had to be written back.
    pub reconciled: Option<usize>,
}

/// What others changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A revocation may have been deleted: see [`Replicated::forget`].
    Unrevoked {
        /// Whose tokens it named.
        issuer: String,
        /// Which of them.
        rule: RevocationRule,
    },
    /// Identity providers changed. They are in the journal: [`Ledger::idps`](crate::Ledger::idps) tells them.
    Idps,
    /// The keyring changed, and is in the journal.
    Keyring,
    /// A family has a new child.
    Child {
        /// Its parent's id.
        parent_jti: String,
        /// The family's sequence.
        sequence: u64,
    },
    /// Children may have been missed.
    Children,
}

impl Replicated {
    /// A replica of `shared`, with a journal in `directory`, which is made where there is none. Nothing is asked yet of the
    /// shared store. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// Those of [`Sqlite::open`].
    pub fn open(shared: Redis, directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Inner {
            shared,
            journal: Sqlite::open(directory)?,
            clock,
            idps: Mutex::default(),
            follower: Mutex::default(),
            standing: Lock::new(Standing::Joining {
                why: "the store has not answered yet".to_owned(),
            }),
            ground: Lock::default(),
            following: AtomicBool::new(false),
        })))
    }

    /// What matters about the server of the shared store.
    ///
    /// # Errors
    ///
    /// Those of [`Redis::check`].
    pub async fn check(&self) -> Result<ServerFacts, StoreError> {
        self.0.shared.check().await
    }

    /// What this replica knows by itself: all that it acknowledged or heard of, and it may be old.
    #[must_use]
    pub fn journal(&self) -> &Sqlite {
        &self.0.journal
    }

    /// Whether the shared store was reached the last time that it was followed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.following.load(Ordering::Acquire) && self.0.shared.is_connected()
    }

    /// How many connections with the shared store there are, and how many there may be.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.0.shared.connections()
    }

    /// Whether this replica knows all that was acknowledged. Once it does it never joins anew: what the store loses later it
    /// knows itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.0
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether it has joined.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.standing() == Standing::Joined
    }

    /// Takes over what others changed since the last call. Revocations are given to `revoked`, some of them more than once, and
    /// find their way into the journal meanwhile; everything else is in what comes back.
    ///
    /// Where this replica does not know the store as it is, since it is the first call, or the server was started anew,
    /// replaced, emptied or put back to an older state, everything is compared: what the store lacks is written back to it.
    ///
    /// # Errors
    ///
    /// With the first error of the store or the journal. The next call goes on where this one began.
    pub async fn follow(
        &self,
        revoked: &(dyn Fn(&[Revocation]) + Send + Sync),
    ) -> Result<Followed, StoreError> {
        let mut follower = self.0.follower.lock().await;
        let followed = self.poll(&mut follower, revoked).await;
        self.0.following.store(followed.is_ok(), Ordering::Release);
        if let Err(error) = &followed {
            self.still_joining(error.to_string());
        }
        followed
    }

    /// Forgets a revocation that was said to be deleted, unless there is one of its rule by now, which comes back.
    /// Whoever revokes at the same time must wait.
    ///
    /// # Errors
    ///
    /// Those of both stores. Nothing is forgotten then.
    pub async fn forget(
        &self,
        issuer: &str,
        rule: &RevocationRule,
    ) -> Result<Option<Revocation>, StoreError> {
        let mut follower = self.0.follower.lock().await;
        // What was read before must not come into the journal after it.
        while let Some(written) = follower.writes.join_next().await {
            follower.written(written)?;
        }
        if let Some(record) = self.0.shared.revocation_of_rule(issuer, rule).await? {
            return Ok(Some(record));
        }
        self.bury(issuer, rule).await?;
        Ok(None)
    }

    /// Forgets in the journal what was deleted, as of when the shared store says: what is revoked again at this moment is dated
    /// after that, and would be taken for what was deleted if it were said to be later. A store that does not say lost it, and
    /// gets it back from others.
    async fn bury(&self, issuer: &str, rule: &RevocationRule) -> Result<(), StoreError> {
        let deleted_at = self.0.shared.deletion_of_rule(issuer, rule).await?;
        let deleted_at = deleted_at.unwrap_or_default();
        self.0.journal.forget(issuer, rule, deleted_at).await
    }

    /// In which run of the server keys may be changed. Where one that lost them was given others, there would be two rings of one
    /// version.
    fn ground(&self) -> Result<Option<String>, StoreError> {
        let ground = self.0.ground.lock().unwrap_or_else(PoisonError::into_inner);
        match ground.lost {
            None => Ok(ground.run_id.clone()),
            Some(_) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the store lost what it had, or another one took its place: replicas write back what they know",
            )),
        }
    }

    fn joined(&self) {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner) = Standing::Joined;
    }

    fn still_joining(&self, because: String) {
        if let Standing::Joining { why } =
            &mut *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *why = because;
        }
    }
}

impl fmt::Debug for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated")
            .field("shared", &self.0.shared)
            .field("journal", &self.0.journal)
            .finish_non_exhaustive()
    }
}
