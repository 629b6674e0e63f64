//! Ends tokens, families and all that a user has.

use std::sync::atomic::Ordering;

use tokenward_core::{
    Timestamp,
    revocation::{Rule, subject_not_before},
    session::TokenType,
};
use tokenward_store::{Revocation, RevocationRule};

use super::{
    failure::Failure,
    hub::{Ending, News},
    service::TokenService,
};
use crate::telemetry;

/// How often a user's revocation is written where a second passes while it is: enough for a store that takes seconds.
const USER_ATTEMPTS: usize = 4;

impl TokenService {
    /// Ends a token, and its children where it is a parent. `false`: the id is none of ours, and nothing was written.
    pub(crate) async fn revoke_token(&self, jti: &str) -> Result<bool, Failure> {
        let inner = &self.0;
        let Some(id) = inner.signer.ids().read(jti) else {
            return Ok(false);
        };
        let (rule, stored) = match id.token_type() {
            TokenType::Parent => (
                Rule::Family(jti.to_owned()),
                RevocationRule::Parent(jti.to_owned()),
            ),
            TokenType::Access | TokenType::Child => {
                (Rule::Token(jti.to_owned()), RevocationRule::Jti(jti.to_owned()))
            }
        };
        self.record(&rule, stored, Some(id.expires_at())).await?;
        inner.hub.tell(jti, News::Ended(Ending::Revoked));
        Ok(true)
    }

    /// Ends everything that was issued to a user until now, by one record.
    pub(crate) async fn revoke_user(&self, user_id: &str) -> Result<(), Failure> {
        let inner = &self.0;
        let issuer = &inner.settings.issuer;
        let latest = || Timestamp::from_secs(inner.latest_issue.load(Ordering::Acquire));
        for _ in 0..USER_ATTEMPTS {
            let now = inner.clock.wall().max(latest());
            let previous = inner.index.subject_not_before(issuer, user_id);
            let not_before = subject_not_before(now, previous).ok_or(Failure::TooSoon)?;
            let rule = Rule::Subject {
                sub: user_id.to_owned(),
                not_before,
            };
            let stored = RevocationRule::Subject {
                sub: user_id.to_owned(),
                not_before: Timestamp::from_secs(not_before),
            };
            self.record(&rule, stored, None).await?;
            // What was stamped in a later second, while that was written, is covered as well.
            if latest().as_secs() <= not_before {
                break;
            }
        }
        Ok(())
    }

    /// Durable first, then in force, then acknowledged.
    async fn record(
        &self,
        rule: &Rule,
        stored: RevocationRule,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let inner = &self.0;
        let now = inner.clock.wall();
        // Lifetimes may be shorter now than they were when a published key signed.
        let longest = inner
            .settings
            .lifetimes
            .max
            .max(inner.signer.keys().longest_token);
        let kept_until = rule.kept_until(expires_at, longest, now);
        let revocation = Revocation {
            id: signer_id()?,
            issuer: inner.settings.issuer.clone(),
            rule: stored,
            expires_at: kept_until,
            created_at: now,
            note: String::new(),
        };
        inner.ledger.revoke(&revocation).await?;
        inner.index.insert(&inner.settings.issuer, rule, kept_until);
        // A family is told by its name, and a single token is nobody's to follow.
        if !matches!(rule, Rule::Token(_) | Rule::Family(_)) {
            inner.hub.look_again();
        }
        telemetry::revocations(inner.index.len());
        Ok(())
    }

    /// Drops revocations whose tokens have all expired.
    pub(super) fn prune_index(&self, now: Timestamp) {
        self.0.index.prune(now);
        telemetry::revocations(self.0.index.len());
    }
}

fn signer_id() -> Result<String, Failure> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::Internal("no randomness".into()))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
