//! Tokens that somebody shows: whether they are ours and good, and their end.

use tokenward_core::{
    Verified,
    claims::Claims,
    jose::{MAX_TOKEN_BYTES, Token},
    session::{TokenId, TokenType},
    verify,
};

use super::{failure::Failure, service::TokenService};

impl TokenService {
    /// What a token of ours claims that is good now, of whatever type and for whomever it is. None for everything else, and
    /// nothing says why.
    pub(crate) fn introspect(&self, token: &str) -> Option<Claims> {
        let inner = &self.0;
        let (verified, _) = self.own(token)?;
        // Nothing is allowed to be late: clocks cannot be apart where the issuer itself is asked.
        let end = verified.claims().expires_at()?;
        if end <= inner.clock.wall() {
            return None;
        }
        let marks = inner
            .index
            .marks(&inner.settings.issuer, verified.claims(), verified.kid());
        inner.index.check(&marks).ok()?;
        Some(verified.into_claims())
    }

    /// Ends the token that is shown, and its children where it is a parent. None where it is none of ours, or would not be
    /// accepted anywhere: nothing is written then.
    pub(crate) async fn revoke_shown(&self, token: &str) -> Result<Option<TokenId>, Failure> {
        let Some((_, id)) = self.own(token) else {
            return Ok(None);
        };
        self.revoke_token(id.as_str()).await?;
        Ok(Some(id))
    }

    /// A token that we signed and that is in its time, give or take the leeway that verifiers have; revoked ones too.
    fn own(&self, token: &str) -> Option<(Verified, TokenId)> {
        let inner = &self.0;
        let parsed = Token::parse(token, MAX_TOKEN_BYTES).ok()?;
        let id = inner.signer.ids().read(parsed.claims().token_id()?)?;
        let policy = match id.token_type() {
            TokenType::Parent => &inner.parents,
            TokenType::Access | TokenType::Child => &inner.own,
        };
        let verified = verify(token, &inner.signer.keys().set, policy, inner.clock.wall()).ok()?;
        Some((verified, id))
    }
}
