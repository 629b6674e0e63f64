//! What goes into an entry and what comes out of it.

use std::time::Duration;

use super::{budget::CallerId, lifetime::Upstream};
use crate::{
    Timestamp,
    jose::{Dropped, KeySet, Thumbprint},
};

/// Why a fetch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is due.
    Scheduled,
    /// An operator wants it.
    Manual,
}

/// A fetch to carry out. There is never more than one for an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPlan {
    /// Names the fetch when it ends.
    pub ticket: u64,
    /// What the last answer told to ask with.
    pub validators: Option<Validators>,
    /// What it is for.
    pub errand: Errand,
}

impl FetchPlan {
    /// Whether there is to be one attempt only, since a caller waits for it.
    #[must_use]
    pub fn single_attempt(&self) -> bool {
        self.errand.is_on_demand()
    }
}

/// What a fetch is for, which says what may stand in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// It is due.
    Due,
    /// An operator wants it.
    Manual,
    /// A token names a key that is not there.
    Kid {
        /// The key id; empty where none is named.
        kid: Box<str>,
        /// What it came out of.
        share: Share,
    },
    /// A signature did not verify under a known key id.
    Signature,
}

impl Errand {
    /// Whether a token caused it. What clients send never moves the schedule, or a provider that fails could be
    /// made to be asked far beyond the budget.
    pub(super) fn is_on_demand(&self) -> bool {
        matches!(self, Self::Kid { .. } | Self::Signature)
    }
}

/// One fetch out of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who holds it.
    pub caller: CallerId,
    /// How many fetches the budget has.
    pub size: u32,
    /// How long one takes to come back.
    pub refill: Duration,
}

/// What an answer told to ask with the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
}

/// How a fetch ended.
#[derive(Debug)]
pub enum Outcome {
    /// A key set, possibly without a usable key.
    Fresh {
        /// The set, not yet truncated.
        keys: Box<KeySet>,
        /// Its [`KeySet::digest`].
        digest: [u8; 32],
        /// What to ask with the next time.
        validators: Validators,
        /// Its freshness.
        upstream: Upstream,
    },
    /// The set that is there is still the current one.
    NotModified {
        /// What to ask with the next time, where the answer told it anew.
        validators: Validators,
        /// Its freshness.
        upstream: Upstream,
    },
    /// An answer came that is no key set.
    Refused {
        /// The stable code of what is wrong with it.
        code: &'static str,
    },
    /// Another one asked a moment ago, and got nothing.
    FailedElsewhere {
        /// When it is time to ask again.
        retry_in: Duration,
    },
    /// No answer came, or an error.
    Failed {
        /// The stable code.
        code: &'static str,
        /// A text for the operator, without anything of the upstream's body.
        text: String,
        /// When the upstream wants to be asked again.
        retry_after: Option<Duration>,
    },
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// No key of the set before is in the new one.
    AllKeysReplaced,
    /// A key id names another key than before, or one that is not used. The old one is gone at once.
    KeyReplaced {
        /// The key id.
        kid: String,
        /// The key that it named.
        old: Thumbprint,
        /// The key that it names now; none where that is not used.
        new: Option<Thumbprint>,
    },
    /// Keys came with their private part, or symmetric ones: they are compromised and not used.
    KeysCompromised {
        /// How many.
        count: usize,
    },
    /// An answer was not taken; the keys of the one before are kept, save those that it shows to be compromised.
    SetRefused {
        /// Why, as a stable code.
        code: &'static str,
    },
}

impl Event {
    /// A stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AllKeysReplaced => "all_keys_replaced",
            Self::KeyReplaced { .. } => "key_replaced",
            Self::KeysCompromised { .. } => "keys_compromised",
            Self::SetRefused { .. } => "set_refused",
        }
    }
}

/// Keys were dropped for `max_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// How many keys the upstream had.
    pub original_count: usize,
    /// What was dropped.
    pub dropped: Dropped,
}

/// What became of a fetch.
#[derive(Debug, Default)]
pub struct Finished {
    /// The code of the failure; none where it succeeded.
    pub error: Option<&'static str>,
    /// What an operator should know.
    pub events: Vec<Event>,
    /// Keys that were dropped.
    pub truncated: Option<Truncated>,
    /// Whether there are other keys than before, which a refused answer brings about too where it shows that one is
    /// compromised.
    pub new_keys: bool,
    /// How long the schedule pauses after a failure of its own.
    pub pause: Option<Duration>,
}

/// What became of a set that somebody else fetched.
#[derive(Debug)]
pub struct Adopted {
    /// What it changed.
    pub finished: Finished,
    /// What is still to be carried out of the fetch in the air; none where the set was all that was wanted.
    pub plan: Option<FetchPlan>,
}

/// What to do for a token whose key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Carry out this fetch and look again.
    Fetch(FetchPlan),
    /// Wait for the fetch in the air and look again. It may have been sent before the key appeared, so a key that
    /// is missing afterwards has not been looked for yet.
    Join,
    /// The key was looked for in vain a moment ago.
    KnownAbsent,
    /// It cannot be looked for now.
    OverBudget,
}

/// A set out of a snapshot.
#[derive(Debug)]
pub struct Restored {
    /// The set.
    pub keys: KeySet,
    /// When it was last fetched or confirmed.
    pub fetched_at: Timestamp,
    /// Its [`KeySet::digest`].
    pub digest: [u8; 32],
    /// What to ask with the next time.
    pub validators: Validators,
    /// Its freshness at that time.
    pub upstream: Upstream,
}
