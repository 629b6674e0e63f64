//! Why a token, or the request that carries it, is not accepted.

use std::fmt;

/// The closed list of reasons. The code of each is stable and the same in HTTP, logs, metrics and the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Denial {
    /// No token was sent.
    TokenMissing,
    /// Not a compact JWS with a strict header and strict claims.
    TokenMalformed,
    /// Longer than the limit on tokens.
    TokenTooLarge,
    /// The header's `alg` is unknown, or not one that this issuer may use.
    AlgNotAllowed,
    /// No configured identity provider has this `iss`.
    IssuerUnknown,
    /// The issuer has no key that the token could have been signed with.
    KeyUnknown,
    /// The signature does not verify under the selected key.
    SignatureInvalid,
    /// `exp` has passed.
    TokenExpired,
    /// `nbf` or `iat` lies in the future.
    TokenNotYetValid,
    /// Issued longer ago than the policy allows.
    TokenTooOld,
    /// `aud` names none of the configured audiences.
    AudienceMismatch,
    /// A claim that the policy requires is absent.
    ClaimMissing,
    /// A claim is present, but its value is not acceptable.
    ClaimRejected,
    /// `typ` says that this is another kind of token.
    TypeRejected,
    /// The token itself was revoked.
    TokenRevoked,
    /// The parent that the token was minted from was revoked, and its children with it.
    ParentRevoked,
    /// Everything of its subject, or of its session, that was issued by then was revoked.
    SubjectRevoked,
    /// Everything of its issuer that was issued by then was revoked.
    IssuerRevoked,
    /// The key that signed it was revoked.
    KeyRevoked,
    /// A scope that is required was not granted.
    InsufficientScope,
    /// The rule that applies denies the request.
    RuleDenied,
    /// More was asked for than is allowed at the moment.
    RateLimited,
    /// The issuer's keys could not be obtained: an outage, not the caller's fault.
    IssuerUnavailable,
    /// What is known here of revocations is too old: whether the token was revoked since cannot be told.
    RevocationUnavailable,
    /// The request itself is malformed, for example by two `Authorization` headers.
    RequestMalformed,
    /// The token is bound to a key (`cnf`), or proof of possession is demanded of all, and none was presented.
    DpopMissing,
    /// What was presented as proof of possession is not one of this request.
    DpopInvalid,
    /// The proof of possession was used before.
    DpopReplayed,
    /// The proof is one of another key than that which the token is bound to, or the token is bound to none.
    DpopBindingMismatch,
    /// A token was presented with the scheme `DPoP` where no proofs are taken.
    DpopNotAllowed,
}

/// How one reason is rendered.
struct Row {
    code: &'static str,
    status: u16,
    title: &'static str,
    detail: &'static str,
}

impl Denial {
    /// Every reason, for tables and metrics.
    pub const ALL: [Self; 30] = [
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::AlgNotAllowed,
        Self::IssuerUnknown,
        Self::KeyUnknown,
        Self::SignatureInvalid,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenTooOld,
        Self::AudienceMismatch,
        Self::ClaimMissing,
        Self::ClaimRejected,
        Self::TypeRejected,
        Self::TokenRevoked,
        Self::ParentRevoked,
        Self::SubjectRevoked,
        Self::IssuerRevoked,
        Self::KeyRevoked,
        Self::InsufficientScope,
        Self::RuleDenied,
        Self::RateLimited,
        Self::IssuerUnavailable,
        Self::RevocationUnavailable,
        Self::RequestMalformed,
        Self::DpopMissing,
        Self::DpopInvalid,
        Self::DpopReplayed,
        Self::DpopBindingMismatch,
        Self::DpopNotAllowed,
    ];

    /// The stable code, for example `token_expired`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status that answers it: an outage is never a 401.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.row().status
    }

    /// A short title, the same for every occurrence (RFC 9457 section 3.1.3).
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// One fixed sentence for clients. It holds nothing of the token, of the upstream or of the configuration.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        self.row().detail
    }

    /// The error code of the `WWW-Authenticate` challenge (RFC 6750 section 3.1, RFC 9449 section 7.1). None where no
    /// token was sent, and where the answer is not about the token.
    #[must_use]
    pub const fn bearer_error(self) -> Option<&'static str> {
        match self {
            Self::TokenMissing
            | Self::IssuerUnavailable
            | Self::RevocationUnavailable
            | Self::RuleDenied
            | Self::RateLimited => None,
            Self::RequestMalformed => Some("invalid_request"),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::DpopInvalid | Self::DpopReplayed => Some("invalid_dpop_proof"),
            _ => Some("invalid_token"),
        }
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::IssuerUnavailable | Self::RevocationUnavailable)
    }

    #[rustfmt::skip]
    const fn row(self) -> Row {
        const fn row(code: &'static str, status: u16, title: &'static str, detail: &'static str) -> Row {
            Row { code, status, title, detail }
        }
        match self {
            Self::TokenMissing => row("token_missing", 401, "Token missing", "The request carries no token."),
            Self::TokenMalformed => row("token_malformed", 401, "Token malformed", "The token is not a well-formed signed JWT in compact form."),
            Self::TokenTooLarge => row("token_too_large", 431, "Token too large", "The token is larger than the limit."),
            Self::AlgNotAllowed => row("alg_not_allowed", 401, "Algorithm not allowed", "The token's signature algorithm is not allowed for its issuer."),
            Self::IssuerUnknown => row("issuer_unknown", 401, "Issuer unknown", "The token's issuer is not trusted here."),
            Self::KeyUnknown => row("key_unknown", 401, "Key unknown", "The issuer has no key that the token could have been signed with."),
            Self::SignatureInvalid => row("signature_invalid", 401, "Signature invalid", "The token's signature does not verify."),
            Self::TokenExpired => row("token_expired", 401, "Token expired", "The token has expired."),
            Self::TokenNotYetValid => row("token_not_yet_valid", 401, "Token not yet valid", "The token is not valid yet."),
            Self::TokenTooOld => row("token_too_old", 401, "Token too old", "The token was issued too long ago."),
            Self::AudienceMismatch => row("audience_mismatch", 401, "Audience mismatch", "The token is meant for another audience."),
            Self::ClaimMissing => row("claim_missing", 401, "Claim missing", "The token lacks a required claim."),
            Self::ClaimRejected => row("claim_rejected", 401, "Claim rejected", "A claim of the token is not acceptable."),
            Self::TypeRejected => row("type_rejected", 401, "Token type rejected", "This type of token is not accepted here."),
            Self::TokenRevoked => row("token_revoked", 401, "Token revoked", "The token has been revoked."),
            Self::ParentRevoked => row("parent_revoked", 401, "Parent revoked", "The token that this one was minted from has been revoked."),
            Self::SubjectRevoked => row("subject_revoked", 401, "Subject revoked", "What was issued to this subject or session has been revoked."),
            Self::IssuerRevoked => row("issuer_revoked", 401, "Issuer revoked", "What this issuer had issued has been revoked."),
            Self::KeyRevoked => row("key_revoked", 401, "Key revoked", "The key that signed the token has been revoked."),
            Self::InsufficientScope => row("insufficient_scope", 403, "Insufficient scope", "The token does not grant a required scope."),
            Self::RuleDenied => row("rule_denied", 403, "Denied by rule", "The request is denied by the rules of this service."),
            Self::RateLimited => row("rate_limited", 429, "Too many requests", "More was asked for than is allowed at the moment."),
            Self::IssuerUnavailable => row("issuer_unavailable", 503, "Issuer unavailable", "The keys of the token's issuer cannot be obtained at the moment."),
            Self::RevocationUnavailable => row("revocation_unavailable", 503, "Revocations unavailable", "Whether the token was revoked cannot be told at the moment."),
            Self::RequestMalformed => row("request_malformed", 400, "Request malformed", "The request is malformed."),
            Self::DpopMissing => row("dpop_missing", 401, "Proof of possession missing", "The token has to be presented with a proof of possession, under the scheme DPoP."),
            Self::DpopInvalid => row("dpop_invalid", 401, "Proof of possession invalid", "The proof of possession is not a valid one for this request and token."),
            Self::DpopReplayed => row("dpop_replayed", 401, "Proof of possession replayed", "The proof of possession was used before."),
            Self::DpopBindingMismatch => row("dpop_binding_mismatch", 401, "Proof of another key", "The token is not bound to the key of the proof of possession."),
            Self::DpopNotAllowed => row("dpop_not_allowed", 401, "DPoP not allowed", "This service takes no proofs of possession."),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_every_reason_is_listed() {
        let codes: HashSet<_> = Denial::ALL.iter().map(|denial| denial.code()).collect();
        assert_eq!(codes.len(), Denial::ALL.len());
    }

    #[test]
    fn an_outage_is_never_a_401() {
        for denial in Denial::ALL {
            assert_eq!(denial.is_outage(), denial.http_status() == 503, "{denial}");
        }
    }
}
