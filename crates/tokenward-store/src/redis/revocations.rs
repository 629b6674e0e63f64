//! Revocations, which only grow.

use std::{borrow::Cow, str::FromStr, time::Duration};

use futures_util::future::try_join_all;
use tokenward_core::Timestamp;

use super::{
    Redis,
    call::{ATTEMPTS, Args, Values, contended, damaged, place, score, score_or_none},
    codec::{self, Asked},
    scripts,
};
use crate::{Revocation, RevocationRule, Revoked, StoreError, StoreErrorKind};

/// Revocations that are read at once.
const PAGE: usize = 10_000;

/// Revocations that one script asserts, so that it does not hold up others; and such scripts at a time.
const TOGETHER: usize = 200;
const AT_ONCE: usize = 4;

/// What became of a revocation.
enum Joined {
    /// It is in force as it was.
    Was(Revoked),
    /// It is in force, which is news.
    Is(Revoked),
    /// It was deleted after it was asked for.
    Deleted,
    /// Another one has its id.
    Taken,
    /// What is stored of its issuer and rule is damaged.
    Damaged,
}

/// What is stored where a revocation belongs.
struct Former {
    value: Vec<u8>,
    asked: Asked,
    sequence: u64,
}

/// One that is yet to be stored.
struct Pending<'a> {
    at: usize,
    revocation: Cow<'a, Revocation>,
    rule: String,
    former: Option<Former>,
}

impl Redis {
    pub(super) async fn join(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        match self
            .join_all("revoke", std::slice::from_ref(revocation))
            .await?
            .pop()
        {
            Some(Joined::Was(revoked) | Joined::Is(revoked)) => Ok(revoked),
            Some(Joined::Damaged) => Err(is_damaged(&codec::rule_name(
                &revocation.issuer,
                &revocation.rule,
            ))),
            _ => Err(StoreError::new(
                StoreErrorKind::Io,
                "another revocation has the id of the one that was to be stored",
            )),
        }
    }

    /// Writes back what the store may have lost, with new sequences, but what was deleted later than it was asked for;
    /// and tells how many records are new or grew. What cannot be stored is reported in the log: it must not
    /// stop the others. A hundred thousand take about two seconds.
    ///
    /// # Errors
    ///
    /// As those of [`Ledger`](crate::Ledger). Some of them may be stored then.
    pub async fn assert_revocations(&self, revocations: &[Revocation]) -> Result<usize, StoreError> {
        let mut asserted = 0;
        for revocations in revocations.chunks(TOGETHER * AT_ONCE) {
            let calls = revocations.chunks(TOGETHER).map(|some| self.assert_some(some));
            asserted += try_join_all(calls).await?.into_iter().sum::<usize>();
        }
        Ok(asserted)
    }

    async fn assert_some(&self, revocations: &[Revocation]) -> Result<usize, StoreError> {
        let mut asserted = 0;
        for (joined, revocation) in self
            .join_all("assert", revocations)
            .await?
            .iter()
            .zip(revocations)
        {
            match joined {
                Joined::Is(_) => asserted += 1,
                Joined::Was(_) | Joined::Deleted => {}
                Joined::Taken | Joined::Damaged => tracing::error!(
                    id = revocation.id,
                    "A revocation is not written back: the store holds something else in its place"
                ),
            }
        }
        Ok(asserted)
    }

    /// Stores each where what is stored is still what it was joined with; where it is not, joins it anew.
    async fn join_all(&self, how: &str, revocations: &[Revocation]) -> Result<Vec<Joined>, StoreError> {
        let mut joined: Vec<Joined> = revocations.iter().map(|_| Joined::Deleted).collect();
        let mut set = |at: usize, what: Joined| {
            if let Some(place) = joined.get_mut(at) {
                *place = what;
            }
        };
        let mut pending: Vec<Pending<'_>> = revocations
            .iter()
            .enumerate()
            .map(|(at, revocation)| Pending {
                at,
                revocation: Cow::Borrowed(revocation),
                rule: codec::rule_name(&revocation.issuer, &revocation.rule),
                former: None,
            })
            .collect();
        for _ in 0..ATTEMPTS {
            let mut args = Args::default().of(how);
            let mut asking = Vec::with_capacity(pending.len());
            for one in pending {
                let next = one.next();
                let is_same = one.former.as_ref().is_some_and(|former| former.asked == next);
                if let (true, Some(former), None) = (is_same, &one.former, one.parent()) {
                    let (sequence, effective) = (former.sequence, next.revocation);
                    set(one.at, Joined::Was(Revoked { sequence, effective }));
                    continue;
                }
                one.pass(&next, &mut args);
                asking.push((one, next));
            }
            if asking.is_empty() {
                return Ok(joined);
            }
            let answers: Vec<Vec<Vec<u8>>> = self.run(&scripts::REVOKE, args).await?;
            pending = Vec::new();
            for ((one, next), answer) in asking.into_iter().zip(answers) {
                match answer.first().map(Vec::as_slice) {
                    Some(b"stored") => {
                        let grew = one.grows_to(&next);
                        let revoked = Revoked {
                            sequence: number(answer.get(1))?,
                            effective: next.revocation,
                        };
                        set(
                            one.at,
                            if grew {
                                Joined::Is(revoked)
                            } else {
                                Joined::Was(revoked)
                            },
                        );
                    }
                    Some(b"other") => match Former::read(&one.rule, answer)? {
                        Some(former) => pending.push(Pending { former, ..one }),
                        None => set(one.at, Joined::Damaged),
                    },
                    Some(b"late") => pending.push(one.after(&answer)?),
                    Some(b"taken") => set(one.at, Joined::Taken),
                    _ => set(one.at, Joined::Deleted),
                }
            }
            if pending.is_empty() {
                return Ok(joined);
            }
        }
        Err(contended("a revocation"))
    }

    pub(super) async fn revocations_after(
        &self,
        mut after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revocation)>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit {
            let most = PAGE.min(limit - found.len());
            let args = Args::default()
                .of("revocations")
                .of(place(after))
                .of(most.to_string());
            let (numbers, values): (Vec<u64>, Values) = self.run(&scripts::PAGE, args).await?;
            let is_last = numbers.len() < most;
            for (number, (rule, value)) in numbers.into_iter().zip(values) {
                after = number;
                found.push((number, checked(&rule, value.as_deref())?));
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// The revocation of a rule.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn revocation_of_rule(
        &self,
        issuer: &str,
        rule: &RevocationRule,
    ) -> Result<Option<Revocation>, StoreError> {
        let rule = codec::rule_name(issuer, rule);
        let found: Option<Vec<u8>> = self
            .ask("HGET", "revocations", Args::default().of(rule.as_str()))
            .await?;
        found
            .map(|value| checked(rule.as_bytes(), Some(&value)))
            .transpose()
    }

    /// When what a rule names was deleted, unless it was revoked since.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn deletion_of_rule(
        &self,
        issuer: &str,
        rule: &RevocationRule,
    ) -> Result<Option<Timestamp>, StoreError> {
        let rule = codec::rule_name(issuer, rule);
        let found: Option<Vec<u8>> = self
            .ask("HGET", "revocations:deleted", Args::default().of(rule.as_str()))
            .await?;
        let tombstone = found.and_then(|value| codec::read_tombstone(rule.as_bytes(), &value));
        Ok(tombstone.map(|tombstone| tombstone.deleted_at))
    }

    pub(super) async fn revocation_of(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        let found: Option<(Vec<u8>, Option<Vec<u8>>)> =
            self.run(&scripts::REVOCATION, Args::default().of(id)).await?;
        found
            .map(|(rule, value)| checked(&rule, value.as_deref()))
            .transpose()
    }
}

impl Pending<'_> {
    /// The same, made after a deletion of what it names: an answer says when that was. By a clock that is behind it would be
    /// taken for what was deleted.
    fn after(self, answer: &[Vec<u8>]) -> Result<Self, StoreError> {
        let deleted_at: i64 = number(answer.get(1))?;
        let revocation = Revocation {
            created_at: Timestamp::from_millis(deleted_at) + Duration::from_millis(1),
            ..self.revocation.into_owned()
        };
        Ok(Self {
            revocation: Cow::Owned(revocation),
            ..self
        })
    }

    /// What is to be stored.
    fn next(&self) -> Asked {
        let at = self.revocation.created_at;
        match &self.former {
            Some(former) => Asked {
                revocation: former.asked.revocation.grown(&self.revocation),
                at: former.asked.at.max(at),
            },
            None => Asked {
                revocation: self.revocation.clone().into_owned(),
                at,
            },
        }
    }

    /// Whether what is to be stored says more than what is.
    fn grows_to(&self, next: &Asked) -> bool {
        let former = self.former.as_ref();
        former.is_none_or(|former| former.asked.revocation != next.revocation)
    }

    /// The parent whose family goes with it.
    fn parent(&self) -> Option<&str> {
        match &self.revocation.rule {
            RevocationRule::Parent(parent_jti) => Some(parent_jti),
            _ => None,
        }
    }

    /// Passes it to the script.
    fn pass(&self, next: &Asked, args: &mut Args) {
        let former = self.former.as_ref();
        args.add(self.rule.as_str());
        args.add(next.revocation.id.as_str());
        args.add(former.map(|former| former.value.clone()).unwrap_or_default());
        args.add(codec::write_revocation(next));
        args.add(score_or_none(next.revocation.expires_at));
        args.add(score(self.revocation.created_at));
        args.add(
            self.parent()
                .map(|parent| format!("p{parent}"))
                .unwrap_or_default(),
        );
        args.add(if self.grows_to(next) { "1" } else { "0" });
    }
}

impl Former {
    /// From an answer that says what is stored. `None` in it: nothing is. No answer: it is damaged.
    fn read(rule: &str, answer: Vec<Vec<u8>>) -> Result<Option<Option<Self>>, StoreError> {
        let sequence = number(answer.get(2))?;
        let value = answer.into_iter().nth(1).unwrap_or_default();
        if value.is_empty() {
            return Ok(Some(None));
        }
        Ok(codec::read_revocation(rule.as_bytes(), &value).map(|asked| {
            Some(Self {
                value,
                asked,
                sequence,
            })
        }))
    }
}

fn number<T: FromStr>(text: Option<&Vec<u8>>) -> Result<T, StoreError> {
    let number = text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    number.ok_or_else(|| damaged("a revocation in the store has no place in the order"))
}

/// The id of the record that an answer names: behind the first word its rule, and its value.
pub(super) fn id_of(mut answer: Vec<Vec<u8>>) -> Result<String, StoreError> {
    let (value, rule) = (answer.pop(), answer.pop());
    checked(&rule.unwrap_or_default(), value.as_deref()).map(|record| record.id)
}

/// A damaged one is an error: without it a revoked token would be accepted.
fn checked(rule: &[u8], value: Option<&[u8]>) -> Result<Revocation, StoreError> {
    let asked = value.and_then(|value| codec::read_revocation(rule, value));
    asked
        .map(|asked| asked.revocation)
        .ok_or_else(|| is_damaged(&String::from_utf8_lossy(rule)))
}

fn is_damaged(rule: &str) -> StoreError {
    damaged(format!(
        "the field `{rule}` of the store's `revocations` is not what was stored, or of a newer version. Put a backup in \
         the store's place, or delete this revocation and revoke again what it revoked"
    ))
}
