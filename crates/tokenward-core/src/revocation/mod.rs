//! Revocation: what is refused although its signature and its times are good.
//!
//! A record names one token, a family, a session, a key, or everything of a subject or an issuer up to a time; never a list
//! of tokens. So ending a family of any size, or all tokens of a user, is one record and one lookup.
//!
//! # Revoking against minting
//!
//! A revocation is durable, then in the [`Index`], then acknowledged. The index is asked at every use of a token, whatever
//! is cached, and a child names its parent: so once a parent's revocation is acknowledged no child of it is accepted,
//! whenever and by whomever it was minted. A child that is minted while its parent is being revoked may be handed out; it
//! is refused like the others from the acknowledgement on.
//!
//! Tokens of a subject are refused if they were issued at or before the record's time, in whole seconds. Whoever mints
//! stamps a token later than that time (see [`Stamp::new`](crate::session::Stamp::new)), so one that is minted after the
//! acknowledgement is good, in the same second too.

mod index;

use std::time::Duration;

use crate::Timestamp;

pub use index::{Index, Marks};

/// How much longer than a token a record of it is kept: verifiers may grant it this much leeway.
pub const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

/// How far the times of a subject's revocations, and of what is minted after them, may run ahead of the clock, in seconds.
pub const MAX_AHEAD: i64 = 30;

/// What is refused, among the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The token with this `jti`.
    Token(String),
    /// The parent with this `jti`, and all its children.
    Family(String),
    /// What was issued to a subject until a time.
    Subject {
        /// `sub`.
        sub: String,
        /// Seconds since the epoch; a token whose `iat`, rounded down, is this or earlier is refused.
        not_before: i64,
    },
    /// The tokens of a session, by `sid`.
    Session(String),
    /// What the key with this `kid` signed.
    Key(String),
    /// What was issued before a time.
    IssuedBefore(Timestamp),
}

impl Rule {
    /// Until when a record must be kept: until everything that it refuses has expired anyway. None: until it is deleted.
    ///
    /// `expires_at` is when the named token ends, where that is known; of a rule for many tokens it can only make the life
    /// longer, since nobody knows the ends of all of them. `longest` is the longest that a token of the issuer may live; none
    /// where there is no limit.
    #[must_use]
    pub fn kept_until(
        &self,
        expires_at: Option<Timestamp>,
        longest: Option<Duration>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let last_end = |last_issued: Timestamp| longest.map(|longest| last_issued + longest);
        let end = match self {
            Self::Key(_) => None,
            Self::Token(_) | Self::Family(_) => expires_at.or(last_end(now)),
            Self::Session(_) => expires_at.max(last_end(now)),
            Self::Subject { not_before, .. } => {
                expires_at.max(last_end(now.max(Timestamp::from_secs(*not_before))))
            }
            Self::IssuedBefore(time) => expires_at.max(last_end(now.max(*time))),
        };
        end.map(|end| end + LONGEST_LEEWAY)
    }
}

/// The time of a revocation of everything that a subject has now: not before this second, and after every token that was
/// stamped because of the revocation before it. None where that would run too far ahead of the clock, so many revocations
/// of the subject were there in a few seconds: the caller has to come back.
#[must_use]
pub fn subject_not_before(now: Timestamp, previous: Option<i64>) -> Option<i64> {
    let time = now
        .as_secs()
        .max(previous.map_or(i64::MIN, |time| time.saturating_add(1)));
    (time <= now.as_secs() + MAX_AHEAD).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_record_outlives_what_it_names() {
        let now = at(1_000_000);
        let day = HOUR * 24;
        let kept = |rule: &Rule, expires_at| rule.kept_until(expires_at, Some(day), now);
        let whole_day = Some(now + day + LONGEST_LEEWAY);
        let subject = |not_before| Rule::Subject {
            sub: "a".into(),
            not_before,
        };
        let token = Rule::Token("a".into());
        assert_eq!(kept(&token, Some(at(1_000_500))), Some(at(1_000_800)));
        assert_eq!(kept(&token, None), whole_day);
        let many = [subject(5), Rule::Session("a".into()), Rule::IssuedBefore(at(9))];
        for rule in many {
            assert_eq!(kept(&rule, None), whole_day, "{rule:?}");
            // Of many tokens one may live longer than the one that is known.
            assert_eq!(kept(&rule, Some(at(1_000_500))), whole_day, "{rule:?}");
            let later = now + day * 2;
            assert_eq!(kept(&rule, Some(later)), Some(later + LONGEST_LEEWAY), "{rule:?}");
            // Without a limit only somebody's word ends it.
            assert_eq!(rule.kept_until(None, None, now), None, "{rule:?}");
            assert_eq!(
                rule.kept_until(Some(at(1_000_500)), None, now),
                Some(at(1_000_800))
            );
        }
        assert_eq!(
            kept(&subject(1_000_005), None),
            Some(at(1_000_005) + day + LONGEST_LEEWAY)
        );
        assert_eq!(
            kept(&Rule::IssuedBefore(at(1_000_005)), None),
            Some(at(1_000_005) + day + LONGEST_LEEWAY)
        );
        assert_eq!(token.kept_until(None, None, now), None);
        assert_eq!(kept(&Rule::Key("a".into()), None), None);
        assert_eq!(kept(&Rule::Key("a".into()), Some(at(1_000_500))), None);
    }

    #[test]
    fn each_revocation_of_a_subject_covers_what_was_stamped_after_the_one_before() {
        let now = Timestamp::from_millis(100_900);
        assert_eq!(subject_not_before(now, None), Some(100));
        assert_eq!(subject_not_before(now, Some(50)), Some(100));
        assert_eq!(subject_not_before(now, Some(100)), Some(101));
        assert_eq!(subject_not_before(now, Some(129)), Some(130));
        assert_eq!(subject_not_before(now, Some(130)), None);
        assert_eq!(subject_not_before(at(101), Some(130)), Some(131));
    }
}
