//! What happens to the key sets, for those who want to know at once.

use std::sync::Arc;

use tokenward_core::{Timestamp, freshness::Event as KeyEvent};

/// Something happened to an identity provider's keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The tenant of the identity provider.
    pub tenant: Arc<str>,
    /// Its name.
    pub idp: Arc<str>,
    /// When, on the registry's steady clock.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A refresh succeeded; the set may be the same as before.
    Updated,
    /// A refresh failed or brought no usable key; the keys stay as they were. The code names why.
    RefreshFailed {
        /// The stable code of the failure.
        code: &'static str,
    },
    /// A change of the set that deserves attention.
    Notable(KeyEvent),
}
