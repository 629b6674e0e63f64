//! A store that takes its place only when it is complete.

use std::sync::Arc;

use super::{Inner, Redis, call::Args, call::read, scripts};
use crate::{StoreError, StoreErrorKind};

/// A store that is being filled, under keys of its own beside those of its place.
#[derive(Debug)]
pub struct RedisDraft {
    store: Redis,
    place: Redis,
}

impl Redis {
    /// Whether nothing was ever acknowledged here. Key sets, and what goes with fetching them, are none of that.
    ///
    /// # Errors
    ///
    /// As those of [`Ledger`](crate::Ledger).
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        self.place("look", &self.beside()).await
    }

    /// An empty store that will be this one once it is complete: what is half-filled when the process ends is never taken for a
    /// store, and the next draft begins anew. Key sets are stored here at once. One at a time.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Exists`] where there is a store already, and as those of [`Ledger`](crate::Ledger).
    pub async fn draft(&self) -> Result<RedisDraft, StoreError> {
        let store = self.beside();
        match self.place("begin", &store).await? {
            true => Ok(RedisDraft {
                store,
                place: self.clone(),
            }),
            false => Err(self.exists()),
        }
    }

    /// The same server, with a ledger beside this one.
    fn beside(&self) -> Self {
        let Inner {
            link,
            keys,
            ledger,
            holder,
            place,
            seal,
            snapshot_ttl,
            allow_eviction,
            ..
        } = &*self.0;
        let ledger = ledger.beside("draft");
        Self(Arc::new(Inner {
            link: link.clone(),
            keys: keys.clone(),
            ledger_keys: scripts::KEYS.map(|key| ledger.name(key)),
            ledger,
            holder: holder.clone(),
            place: place.clone(),
            seal: seal.clone(),
            snapshot_ttl: *snapshot_ttl,
            allow_eviction: *allow_eviction,
        }))
    }

    async fn place(&self, how: &str, draft: &Self) -> Result<bool, StoreError> {
        let keys = [self.0.ledger_keys.as_slice(), &draft.0.ledger_keys].concat();
        let args = Args::default().of(how);
        read(self.0.link.script(&scripts::PLACE, &keys, args.0).await?)
    }

    fn exists(&self) -> StoreError {
        let Inner { place, keys, .. } = &*self.0;
        let message = format!(
            "the store at {place} has something in its keys {keys}, and is not overwritten: choose another prefix or \
             another database, or empty it"
        );
        StoreError::new(StoreErrorKind::Exists, message)
    }
}

impl RedisDraft {
    /// The store to fill.
    #[must_use]
    pub fn store(&self) -> &Redis {
        &self.store
    }

    /// Puts the store in its place, as a whole.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Exists`] where another store came to be there meanwhile, which stays as it is. Otherwise as those of
    /// [`Ledger`](crate::Ledger).
    pub async fn finish(self) -> Result<(), StoreError> {
        match self.place.place("finish", &self.store).await? {
            true => Ok(()),
            false => Err(self.place.exists()),
        }
    }
}
