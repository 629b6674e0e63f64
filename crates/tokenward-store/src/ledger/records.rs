//! What the ledger holds.

use std::fmt;

use tokenward_core::Timestamp;

/// How many records of the audit log an engine keeps of each kind ([`AuditRecord::kind`]): the newest ones.
pub const AUDIT_KEPT: usize = 20_000;

/// An identity provider that was added at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdp {
    /// Its tenant.
    pub tenant: String,
    /// Its name, unique within its tenant.
    pub name: String,
    /// Its settings, as JSON, as they were accepted.
    pub document: String,
    /// When they were accepted.
    pub changed_at: Timestamp,
}

/// What became of an identity provider that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutIdp {
    /// It is new.
    Created,
    /// It stands in the place of the former one of its name.
    Replaced,
    /// It is new and there are as many as there may be: nothing changed.
    Full,
}

/// One call that changed something, or tried to. It names things and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Name of the credential; empty where none was shown.
    pub who: String,
    /// Address of the caller.
    pub address: String,
    /// What was asked for, as `idps.put`.
    pub action: String,
    /// On what.
    pub target: String,
    /// `ok`, or the code of the error.
    pub outcome: String,
}

impl AuditRecord {
    /// What it competes with for a place in the log: the records of the same action that succeeded as it did, or failed. So
    /// what happens a thousand times a second, or whoever fails on purpose, pushes out nothing else.
    #[must_use]
    pub fn kind(&self) -> (&str, bool) {
        (&self.action, self.outcome == "ok")
    }
}

/// How many families, and how many revocations, one call deletes at most, so that it does not hold up others.
pub const PRUNED: usize = 1000;

/// A parent token and the latest of the children that were minted from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Family {
    /// Id of the parent token.
    pub parent_jti: String,
    /// Who it was issued to.
    pub user_id: String,
    /// What its children look like, opaque.
    pub profile: Vec<u8>,
    /// When the parent expires.
    pub expires_at: Timestamp,
    /// How many children were recorded.
    pub sequence: u64,
    /// The latest child.
    pub latest: Option<Child>,
    /// When the next child is due, if one is.
    pub next_renewal: Option<Timestamp>,
}

/// A token that was minted from a parent.
#[derive(Clone, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub jti: String,
    /// The token itself, sealed by the caller.
    pub token: Vec<u8>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Without the profile.
impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("parent_jti", &self.parent_jti)
            .field("user_id", &self.user_id)
            .field("expires_at", &self.expires_at)
            .field("sequence", &self.sequence)
            .field("latest", &self.latest)
            .field("next_renewal", &self.next_renewal)
            .finish_non_exhaustive()
    }
}

/// Without the token.
impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("jti", &self.jti)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a parent token can be revoked by, beside its id and its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who issued it: the exact `iss`.
    pub issuer: String,
    /// Its `iat`, in whole seconds.
    pub issued_at: Timestamp,
    /// The key that signed it.
    pub kid: String,
}

impl Origin {
    /// The rules of all revocations that can refuse this parent; the times in them do not matter.
    pub(crate) fn rules(&self, parent_jti: &str, user_id: &str) -> [RevocationRule; 5] {
        [
            RevocationRule::Parent(parent_jti.to_owned()),
            RevocationRule::Jti(parent_jti.to_owned()),
            RevocationRule::Kid(self.kid.clone()),
            RevocationRule::Subject {
                sub: user_id.to_owned(),
                not_before: self.issued_at,
            },
            RevocationRule::IssuedBefore(self.issued_at),
        ]
    }
}

/// What became of a child that was to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is the latest, and this is the family's sequence.
    Stored(u64),
    /// Another child was recorded since. Nothing changed; this is the family as it is.
    Behind(Box<Family>),
    /// There is no such family.
    Gone,
    /// The parent is revoked, by the record of this id. Nothing changed.
    Revoked(String),
}

/// Tokens that are refused although nothing else is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Names the record.
    pub id: String,
    /// Whose tokens: the exact `iss`.
    pub issuer: String,
    /// Which of them.
    pub rule: RevocationRule,
    /// When the record may go, because the tokens have expired by then; `None`: when it is deleted.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What somebody wanted to remember about it.
    pub note: String,
}

/// Which tokens of an issuer a revocation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationRule {
    /// The one with this id.
    Jti(String),
    /// A parent token and all children of it.
    Parent(String),
    /// All of a subject that were issued at this time or before.
    Subject {
        /// The exact `sub`.
        sub: String,
        /// The latest time of issue that is refused.
        not_before: Timestamp,
    },
    /// All of a session: the exact `sid`.
    Session(String),
    /// All that a key signed.
    Kid(String),
    /// All that were issued at this time or before.
    IssuedBefore(Timestamp),
}

/// A revocation that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its place in [`Ledger::revocations`](crate::Ledger::revocations).
    pub sequence: u64,
    /// What counts now: the new record, or the former one as it grew.
    pub effective: Revocation,
}

impl Revocation {
    /// This record with what a later one for the same issuer and rule adds to it. It only ever refuses more
    /// tokens, and for longer.
    pub(crate) fn grown(&self, later: &Self) -> Self {
        use RevocationRule::{IssuedBefore, Subject};
        let rule = match (&self.rule, &later.rule) {
            (Subject { sub, not_before: own }, Subject { not_before, .. }) => Subject {
                sub: sub.clone(),
                not_before: *own.max(not_before),
            },
            (IssuedBefore(own), IssuedBefore(time)) => IssuedBefore(*own.max(time)),
            (rule, _) => rule.clone(),
        };
        Self {
            rule,
            expires_at: self
                .expires_at
                .zip(later.expires_at)
                .map(|(own, time)| own.max(time)),
            note: if later.note.is_empty() {
                &self.note
            } else {
                &later.note
            }
            .clone(),
            ..self.clone()
        }
    }
}

impl RevocationRule {
    /// The rule's kind, and what it names: with the issuer that is what there is one record for.
    pub(crate) fn key(&self) -> (&'static str, &str) {
        match self {
            Self::Jti(jti) => ("jti", jti),
            Self::Parent(jti) => ("parent", jti),
            Self::Subject { sub, .. } => ("sub", sub),
            Self::Session(sid) => ("sid", sid),
            Self::Kid(kid) => ("kid", kid),
            Self::IssuedBefore(_) => ("issued_before", ""),
        }
    }

    /// Whether it refuses what it names where that was issued then, in whole seconds.
    pub(crate) fn refuses(&self, issued_at: Timestamp) -> bool {
        self.time().is_none_or(|time| issued_at <= time)
    }

    /// The time that the rule compares with, where it has one.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Subject { not_before: time, .. } | Self::IssuedBefore(time) => Some(*time),
            Self::Jti(_) | Self::Parent(_) | Self::Session(_) | Self::Kid(_) => None,
        }
    }

    /// The rule that [`RevocationRule::key`] and [`RevocationRule::time`] were taken from.
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    pub(crate) fn from_parts(kind: &str, value: String, time: Option<Timestamp>) -> Option<Self> {
        match (kind, time) {
            ("jti", None) => Some(Self::Jti(value)),
            ("parent", None) => Some(Self::Parent(value)),
            ("sub", Some(not_before)) => Some(Self::Subject {
                sub: value,
                not_before,
            }),
            ("sid", None) => Some(Self::Session(value)),
            ("kid", None) => Some(Self::Kid(value)),
            ("issued_before", Some(time)) => Some(Self::IssuedBefore(time)),
            _ => None,
        }
    }
}
