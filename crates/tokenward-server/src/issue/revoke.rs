//! Ends tokens, families and all that a user has, and hears of what others end.

use std::{sync::atomic::Ordering, time::Duration};

use tokenward_core::{Timestamp, revocation::Rule, session::TokenId};

use super::{
    failure::Failure,
    hub::{Ending, News},
    service::{Inner, TokenService},
};
use crate::revocation::{Failed, Issuer, Order, Target};

impl TokenService {
    /// Ends a token, and its children where it is a parent. `false`: the id is none of ours, and nothing was written.
    pub(crate) async fn revoke_token(&self, jti: &str) -> Result<bool, Failure> {
        if self.0.signer.read_id(jti)?.is_none() {
            return Ok(false);
        }
        self.revoke(Target::Token(jti.to_owned())).await?;
        Ok(true)
    }

    /// Ends everything that was issued to a user until now, by one record.
    pub(crate) async fn revoke_user(&self, user_id: &str) -> Result<(), Failure> {
        self.revoke(Target::Subject(user_id.to_owned())).await
    }

    async fn revoke(&self, target: Target) -> Result<(), Failure> {
        let order = Order::own(&self.0.settings.issuer, target);
        self.0.revocations.revoke(order).await?;
        Ok(())
    }
}

impl Issuer for Inner {
    fn name(&self) -> &str {
        &self.settings.issuer
    }

    fn longest(&self) -> Duration {
        // Lifetimes may be shorter now than they were when a published key signed.
        let signed = self.signer.keys().longest_token;
        self.settings.lifetimes.max.max(signed)
    }

    fn read(&self, jti: &str) -> Result<Option<TokenId>, Failed> {
        self.signer.read_id(jti).map_err(|_| Failed::NoKeys)
    }

    fn latest_issue(&self) -> Timestamp {
        Timestamp::from_secs(self.latest_issue.load(Ordering::Acquire))
    }

    fn revoked(&self, rule: &Rule) {
        match rule {
            // A family is told by its name, and a single token is nobody's to follow.
            Rule::Family(parent) => self.hub.tell(parent, News::Ended(Ending::Revoked)),
            Rule::Token(_) => {}
            Rule::Subject { .. } | Rule::Session(_) | Rule::Key(_) | Rule::IssuedBefore(_) => {
                self.hub.look_again();
            }
        }
    }
}
