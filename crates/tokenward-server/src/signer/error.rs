//! Why keys cannot be read, changed or used.

use std::fmt;

use tokenward_core::keyring::RingFault;
use tokenward_store::StoreError;

use super::vault::VaultFault;
use crate::revocation::Failed;

/// Why keys could not be read or changed.
#[derive(Debug)]
pub(crate) enum SignerError {
    /// There is none, and none may be made.
    Missing,
    /// What is stored cannot be used.
    Vault(VaultFault),
    /// The key was revoked.
    Revoked,
    /// The change is not possible as things stand.
    Ring(RingFault),
    /// The store failed.
    Store(StoreError),
    /// The store was changed by somebody else meanwhile, time after time.
    Raced,
    /// It is not known yet whether the store has all that it should: another process may be about to bring its keys back.
    Joining,
    /// The system failed.
    System(&'static str),
}

/// Why nothing can be signed at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// There is no signing key yet.
    Missing,
    /// The key is so new that other processes of the store may not publish it yet.
    Unpublished,
    /// The key is revoked, and its successor is not stored yet.
    Revoked,
    /// Nothing was heard of the store for so long that the key may be about to go.
    OutOfTouch,
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "there is no signing key: name one by `token_service.private_key_file`, or let one be made in the store by \
                 `token_service.generate_key: true`",
            ),
            Self::Vault(fault) => fault.fmt(f),
            Self::Revoked => f.write_str("the key was revoked, and what was revoked stays so: make another one"),
            Self::Ring(fault) => fault.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Raced => f.write_str("the keys were changed by somebody else at the same time; try again"),
            Self::Joining => f.write_str("the store is not known to be complete yet; try again"),
            Self::System(what) => write!(f, "cannot {what}"),
        }
    }
}

impl std::error::Error for SignerError {}

impl Unsigned {
    /// What is wrong, for those who ask for a token.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "There is no signing key yet: `tokenward keys generate` makes the first one.",
            Self::Unpublished => "The signing key is so new that not all replicas publish it yet.",
            Self::Revoked => "The signing key is revoked, and its successor is not stored yet.",
            Self::OutOfTouch => {
                "The store was not heard of for so long that the signing key may be out of date."
            }
        }
    }
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl From<StoreError> for SignerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for SignerError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => Self::Store(error),
            Failed::NoRandomness => Self::System("draw random numbers"),
            // They are said of users and of tokens alone.
            Failed::TooSoon | Failed::Overtaken | Failed::NoKeys => Self::Raced,
        }
    }
}

impl From<RingFault> for SignerError {
    fn from(fault: RingFault) -> Self {
        Self::Ring(fault)
    }
}

impl From<VaultFault> for SignerError {
    fn from(fault: VaultFault) -> Self {
        Self::Vault(fault)
    }
}
