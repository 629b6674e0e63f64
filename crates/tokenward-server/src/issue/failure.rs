//! Why a call of the token service failed.

use std::fmt;

use tokenward_core::{Denial, jose::SignError, limit::Exceeded};
use tokenward_store::StoreError;

use crate::{
    revocation::Failed,
    signer::{SignerError, Unsigned},
};

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The token that the call goes by is not good.
    Denied(Denial),
    /// The token would be larger than verifiers accept.
    TooLarge,
    /// So many revocations of one subject in a few seconds that their times would run ahead of the clock.
    TooSoon,
    /// A revocation of a user that time overtook: what was issued while it was stored may not be covered by it.
    Overtaken,
    /// So many renewals of one family in a minute.
    TooMany(Exceeded),
    /// As many follow the family as may.
    TooManyStreams,
    /// There is no key that signs.
    NoKey(Unsigned),
    /// It is not known yet whether the store is complete.
    Joining,
    /// The store did not take or give what it should. Nothing was changed.
    Store(StoreError),
    /// A fault of ours.
    Internal(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => denial.fmt(f),
            Self::TooLarge => f.write_str("the token would be too large"),
            Self::TooSoon => f.write_str("too many revocations of one subject"),
            Self::Overtaken => f.write_str("tokens were issued while the revocation was stored"),
            Self::TooMany(_) => f.write_str("too many renewals of one family"),
            Self::TooManyStreams => f.write_str("too many streams of one family"),
            Self::NoKey(why) => why.fmt(f),
            Self::Joining => f.write_str("the store is not known to be complete yet"),
            Self::Store(error) => error.fmt(f),
            Self::Internal(text) => f.write_str(text),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        match error {
            SignError::TooLarge => Self::TooLarge,
            SignError::Failed => Self::Internal("the cryptographic library failed".into()),
        }
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::TooSoon => Self::TooSoon,
            Failed::Store(error) => Self::Store(error),
            Failed::Overtaken => Self::Overtaken,
            Failed::NoKeys => Self::NoKey(Unsigned::Missing),
            Failed::NoRandomness => Self::Internal(failed.to_string()),
        }
    }
}

impl From<Unsigned> for Failure {
    fn from(why: Unsigned) -> Self {
        Self::NoKey(why)
    }
}

impl From<SignerError> for Failure {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Store(error) => Self::Store(error),
            other => Self::Internal(other.to_string()),
        }
    }
}
