//! Tokens that somebody shows: whether they are ours, and good.

use std::time::Duration;

use tokenward_core::{
    Denial, Timestamp, Verified,
    claims::Claims,
    jose::{MAX_TOKEN_BYTES, Token},
    session::{TokenId, TokenType},
    verify,
};

use super::service::TokenService;
use crate::signer::Unsigned;

impl TokenService {
    /// Lets those through who ask about a token where it is known which ones are ours.
    pub(super) fn knows_its_own(&self) -> Result<(), Unsigned> {
        match self.0.signer.keys().ids {
            Some(_) => Ok(()),
            None => Err(Unsigned::Missing),
        }
    }

    /// What a token of ours claims that is good now, of whatever type and for whomever it is, and its type. None for everything
    /// else, and nothing says why.
    ///
    /// # Errors
    ///
    /// [`Denial::RevocationUnavailable`]: an outage must not look like a token that has ended.
    pub(crate) fn introspect(&self, token: &str) -> Result<Option<(Claims, TokenType)>, Denial> {
        let inner = &self.0;
        let now = inner.clock.wall();
        let good = self.own(token, now).filter(|(verified, _)| {
            // Nothing is allowed to be late: clocks cannot be apart where the issuer itself is asked.
            verified.claims().expires_at().is_some_and(|end| end > now)
        });
        let Some((verified, id)) = good else {
            return Ok(None);
        };
        let marks = inner
            .index
            .marks(&inner.settings.issuer, verified.claims(), verified.kid());
        match inner.index.admit(&marks, inner.clock.steady()) {
            Ok(()) => Ok(Some((verified.into_claims(), id.token_type()))),
            Err(denial) if denial.is_outage() => Err(denial),
            Err(_) => Ok(None),
        }
    }

    /// A token of ours that somebody wants to end. Whether it is in its time does not matter: what a wrong clock takes for over
    /// would be good again once it is right.
    pub(super) fn own_at_any_time(&self, token: &str) -> Option<(Verified, TokenId)> {
        let time = self.in_its_time(token)?;
        self.own(token, time)
    }

    /// The time that is nearest to now of those at which a token says that it is good.
    fn in_its_time(&self, token: &str) -> Option<Timestamp> {
        let parsed = Token::parse(token, MAX_TOKEN_BYTES).ok()?;
        let (claims, now) = (parsed.claims(), self.0.clock.wall());
        let last = claims.expires_at()? - Duration::from_millis(1);
        Some(now.min(last).max(claims.issued_at()?))
    }

    /// A token that we signed and that is in its time at `now`, give or take the leeway that verifiers have; revoked ones too.
    fn own(&self, token: &str, now: Timestamp) -> Option<(Verified, TokenId)> {
        let inner = &self.0;
        let parsed = Token::parse(token, MAX_TOKEN_BYTES).ok()?;
        let keys = inner.signer.keys();
        let id = keys.ids.as_ref()?.read(parsed.claims().token_id()?)?;
        let policy = match id.token_type() {
            TokenType::Parent => &inner.parents,
            TokenType::Access | TokenType::Child => &inner.own,
        };
        let verified = verify(token, &keys.set, policy, now).ok()?;
        Some((verified, id))
    }
}
