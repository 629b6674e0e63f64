//! Who may use the API.

use super::{
    fields::{list, required},
    record::{Check, Section, record},
    rules::{Kind, Rule, word},
    secret::{Presented, SecretDigest},
};

record! {
    /// What a caller of the API proves itself with.
    pub(crate) struct Credential {
        /// Its name in the audit log: `[A-Za-z0-9_.-]{1,64}`, unique.
        name: String = required(name());
        /// What it is recognised by.
        digest: SecretDigest = Presented;
        /// What it may do. Every credential, one without scopes too, reads identity providers, events and the configuration.
        scopes: Vec<Scope> = list("it only reads", word(&Scope::WORDS));
    }
}

impl Check for Credential {
    fn check(&self, section: &Section<'_>) {
        for (index, scope) in self.scopes.iter().enumerate() {
            if self.scopes.iter().take(index).any(|other| other == scope) {
                section.report("scopes", format!("`{}` is listed twice", scope.name()));
            }
        }
    }
}

/// What a credential may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Mint and renew tokens.
    TokensIssue,
    /// Ask about tokens.
    TokensRead,
    /// Revoke tokens.
    TokensRevoke,
    /// Add, change, remove, refresh and purge identity providers.
    IdpsWrite,
    /// Generate, rotate, import and revoke signing keys.
    KeysWrite,
    /// All of it, and the audit log.
    Admin,
}

impl Scope {
    /// Every scope, by its name.
    pub(crate) const WORDS: [(&'static str, Self); 6] = [
        ("tokens:issue", Self::TokensIssue),
        ("tokens:read", Self::TokensRead),
        ("tokens:revoke", Self::TokensRevoke),
        ("idps:write", Self::IdpsWrite),
        ("keys:write", Self::KeysWrite),
        ("admin", Self::Admin),
    ];

    /// As it is written in the configuration and in challenges.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TokensIssue => "tokens:issue",
            Self::TokensRead => "tokens:read",
            Self::TokensRevoke => "tokens:revoke",
            Self::IdpsWrite => "idps:write",
            Self::KeysWrite => "keys:write",
            Self::Admin => "admin",
        }
    }
}

fn name() -> Rule<String> {
    Rule::new(Kind::Text, "name", |text| {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if fits {
            Ok(text.to_owned())
        } else {
            Err("must be 1 to 64 letters, digits, `_`, `.` or `-`".into())
        }
    })
}
