//! Verified tokens, so that a repeated one costs a lookup instead of a signature check.

use std::{
    hash::{Hash, Hasher, RandomState},
    sync::Arc,
};

use quick_cache::{Equivalent, Weighter, sync::Cache};

use crate::verifier::{KEPT_BYTES, VerifiedToken};

/// What an entry costs beside its token and its claims, and what may be kept with it. An estimate on the high side.
const OVERHEAD: u64 = 640 + KEPT_BYTES as u64;

/// As many characters of a token's end as are 192 bits of its signature.
const SIGNED: usize = 32;

/// Keyed by the tenant and the whole token, compared byte for byte; the hash only finds the slot.
///
/// Its hasher is keyed at random, since tokens are hostile input. The cache is asked nothing that the token's validity
/// depends on: whether a found entry still holds is for [`VerifiedToken::holds`] to say, at every use.
pub(crate) struct TokenCache {
    entries: Cache<Key, Arc<VerifiedToken>, Weight, RandomState>,
    max_bytes: u64,
}

struct Key {
    tenant: Arc<str>,
    token: Box<str>,
}

struct Asked<'a> {
    tenant: &'a str,
    token: &'a str,
}

/// The end of a token's signature tells it from others as well as the whole: with one key nobody can make two that verify and end alike. What
/// does not verify is never kept, so many that end alike cost a comparison each.
fn place<H: Hasher>(tenant: &str, token: &str, state: &mut H) {
    let token = token.as_bytes();
    (
        tenant,
        token.len(),
        token.last_chunk::<SIGNED>().unwrap_or(&[0; SIGNED]),
    )
        .hash(state);
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        place(&self.tenant, &self.token, state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token && self.tenant == other.tenant
    }
}

impl Eq for Key {}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        place(self.tenant, self.token, state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.token == *key.token && *self.tenant == *key.tenant
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<VerifiedToken>> for Weight {
    fn weight(&self, key: &Key, verified: &Arc<VerifiedToken>) -> u64 {
        OVERHEAD + key.token.len() as u64 + verified.claims().bytes() as u64
    }
}

impl TokenCache {
    /// A cache that holds about `max_bytes` at most; zero holds nothing.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let typical = usize::try_from(max_bytes / (OVERHEAD + 2_048)).unwrap_or(usize::MAX);
        Self {
            entries: Cache::with(typical, max_bytes, Weight, RandomState::new(), Default::default()),
            max_bytes,
        }
    }

    pub(crate) const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(crate) fn get(&self, tenant: &str, token: &str) -> Option<Arc<VerifiedToken>> {
        self.entries.get(&Asked { tenant, token })
    }

    pub(crate) fn put(&self, verified: &Arc<VerifiedToken>, token: &str) {
        let key = Key {
            tenant: verified.shared_tenant(),
            token: token.into(),
        };
        self.entries.insert(key, Arc::clone(verified));
    }

    pub(crate) fn forget(&self, tenant: &str, token: &str) {
        self.entries.remove(&Asked { tenant, token });
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache")
            .field("entries", &self.entries.len())
            .finish()
    }
}
