//! One table of tokens for everything that judges them.

use serde_json::json;
use tokenward_core::{Denial, Timestamp};

use crate::{TestKey, TokenBuilder, with_broken_signature};

/// A token, and what becomes of it as a bearer token.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What it is about.
    pub name: &'static str,
    /// The token.
    pub token: String,
    /// Why it is refused; none where it is accepted.
    pub refused: Option<Denial>,
}

/// Tokens of an issuer with the one ES256 key `key` and a policy that is all defaults but for its one `audience`, whose
/// subject is `user-1`. Whatever judges tokens has to come to the same verdicts.
///
/// Times keep away from the edges, so that a slow test on the real clock sees the same.
#[must_use]
pub fn verdicts(now: Timestamp, issuer: &str, audience: &str, key: &TestKey) -> Vec<Verdict> {
    let good = || {
        TokenBuilder::new(now)
            .issuer(issuer)
            .audience(audience)
            .subject("user-1")
    };
    let at = |seconds: i64| now.as_secs() + seconds;
    let forged = || TestKey::es256(7).with_kid(key.kid().unwrap_or_default());
    let signed = good().sign(key);
    let accepted = [
        ("an honest token", good()),
        (
            "one of several audiences",
            good().claim("aud", json!(["x", audience])),
        ),
        ("expired within the leeway", good().claim("exp", at(-20))),
        ("begins within the leeway", good().claim("nbf", at(20))),
        (
            "a type in another spelling",
            good().header("typ", "application/at+JWT"),
        ),
        (
            "claims that nobody knows",
            good().claim("x", json!({ "y": [1, null] })),
        ),
    ];
    let refused = [
        ("expired", good().claim("exp", at(-120)), Denial::TokenExpired),
        ("never expires", good().without_claim("exp"), Denial::ClaimMissing),
        (
            "begins later",
            good().claim("nbf", at(600)),
            Denial::TokenNotYetValid,
        ),
        (
            "issued later",
            good().claim("iat", at(600)),
            Denial::TokenNotYetValid,
        ),
        (
            "another audience",
            good().audience("other"),
            Denial::AudienceMismatch,
        ),
        ("no audience", good().without_claim("aud"), Denial::ClaimMissing),
        (
            "another issuer",
            good().issuer("https://else.test"),
            Denial::IssuerUnknown,
        ),
        (
            "almost the issuer",
            good().issuer(&format!("{issuer}/")),
            Denial::IssuerUnknown,
        ),
        ("no issuer", good().without_claim("iss"), Denial::IssuerUnknown),
        (
            "a logout token",
            good().header("typ", "logout+jwt"),
            Denial::TypeRejected,
        ),
        (
            "a proof of possession",
            good().header("typ", "dpop+jwt"),
            Denial::TypeRejected,
        ),
        (
            "a parent token",
            good().header("typ", "parent+jwt"),
            Denial::TypeRejected,
        ),
        (
            "bound to a key",
            good().claim("cnf", json!({ "jkt": "x" })),
            Denial::DpopMissing,
        ),
        (
            "bound to a certificate",
            good().claim("cnf", json!({ "x5t#S256": "x" })),
            Denial::ClaimRejected,
        ),
        (
            "a critical extension",
            good().header("crit", json!(["exp"])),
            Denial::TokenMalformed,
        ),
        (
            "brings its key",
            good().header("jwk", key.jwk()),
            Denial::TokenMalformed,
        ),
        (
            "a time that is text",
            good().claim("exp", "4000000000"),
            Denial::TokenMalformed,
        ),
        (
            "a claim twice",
            good().raw_claims(r#"{"iss":"a","iss":"b"}"#),
            Denial::TokenMalformed,
        ),
        (
            "too large",
            good().claim("x", "x".repeat(17 * 1024)),
            Denial::TokenTooLarge,
        ),
        (
            "of an unknown algorithm",
            good().header("alg", "ES256X"),
            Denial::AlgNotAllowed,
        ),
    ];
    let spelled = [
        ("unsigned", good().unsigned(), Denial::AlgNotAllowed),
        (
            "signed with a secret",
            good().sign(&TestKey::new("HS256", 0)),
            Denial::AlgNotAllowed,
        ),
        (
            "a changed signature",
            with_broken_signature(&signed),
            Denial::SignatureInvalid,
        ),
        (
            "of another key under the same id",
            good().sign(&forged()),
            Denial::SignatureInvalid,
        ),
        ("two parts", "a.b".to_owned(), Denial::TokenMalformed),
        ("five parts", format!("{signed}.a.b"), Denial::TokenMalformed),
        (
            "of an unknown key",
            good().sign(&TestKey::es256(8).with_kid("nobody's")),
            Denial::KeyUnknown,
        ),
    ];
    let accepted = accepted.map(|(name, token)| (name, token.sign(key), None));
    let refused = refused.map(|(name, token, denial)| (name, token.sign(key), Some(denial)));
    let spelled = spelled.map(|(name, token, denial)| (name, token, Some(denial)));
    let all = accepted.into_iter().chain(refused).chain(spelled);
    all.map(|(name, token, refused)| Verdict { name, token, refused })
        .collect()
}
