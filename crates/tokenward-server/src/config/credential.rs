//! Who may use the API.

use std::time::Duration;

use super::{
    fields::{list, optional, optional_list, required, section},
    model::SECOND,
    record::{Check, Section, record},
    rules::{Kind, Rule, duration, text, word},
    secret::{Presented, SecretDigest},
    token_service::CENTURY,
};

record! {
    /// What a caller of the API proves itself with.
    #[derive(PartialEq, Eq)]
    pub(crate) struct Credential {
        /// Its name in the audit log: `[A-Za-z0-9_.-]{1,64}`, unique.
        name: String = required(name());
        /// What it is recognised by.
        digest: SecretDigest = Presented;
        /// What it may do. Every credential, one without scopes too, reads identity providers, events and the configuration.
        scopes: Vec<Scope> = list("it only reads", word(&Scope::WORDS));
        /// What the tokens may be like that it mints. What is left out is not bounded; an empty list allows nothing.
        allow: Allow = section();
    }
}

record! {
    /// Bounds of what a credential may mint, whatever its scopes are. In a list that is there but empty there is nothing that it may.
    #[derive(Default, PartialEq, Eq)]
    pub(crate) struct Allow {
        /// Users that its tokens may be for: exact ids, or with a `*` at the end all that begin so.
        users: Option<Vec<String>> = optional_list("any", user());
        /// Audiences that its tokens may have. Where a request names none, those of `token_service.audience` count.
        audiences: Option<Vec<String>> = optional_list("any", text());
        /// Scopes that its tokens may have.
        scopes: Option<Vec<String>> = optional_list("any", scope_word());
        /// Names of custom claims that its tokens may have.
        claims: Option<Vec<String>> = optional_list("any", text());
        /// The longest that its tokens may live, parents too. Where a request does not say, they live no longer than this.
        max_lifetime: Option<Duration> = optional("`token_service.max_lifetime`", duration(SECOND, CENTURY));
    }
}

impl Check for Allow {}

impl Allow {
    /// Whether it bounds nothing.
    pub(crate) fn is_open(&self) -> bool {
        let Self {
            users,
            audiences,
            scopes,
            claims,
            max_lifetime,
        } = self;
        let lists = [users, audiences, scopes, claims];
        lists.into_iter().all(Option::is_none) && max_lifetime.is_none()
    }

    /// Whether its tokens may be for this user.
    pub(crate) fn user(&self, id: &str) -> bool {
        let fits = |allowed: &String| match allowed.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == allowed,
        };
        self.users.as_ref().is_none_or(|users| users.iter().any(fits))
    }

    /// Whether its tokens may have this audience.
    pub(crate) fn audience(&self, audience: &str) -> bool {
        is_among(self.audiences.as_ref(), audience)
    }

    /// Whether its tokens may have this scope.
    pub(crate) fn scope(&self, scope: &str) -> bool {
        is_among(self.scopes.as_ref(), scope)
    }

    /// Whether its tokens may have a custom claim of this name.
    pub(crate) fn claim(&self, name: &str) -> bool {
        is_among(self.claims.as_ref(), name)
    }
}

fn is_among(allowed: Option<&Vec<String>>, text: &str) -> bool {
    allowed.is_none_or(|allowed| allowed.iter().any(|allowed| allowed == text))
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

fn user() -> Rule<String> {
    text()
        .and(
            |text| match text.trim_end_matches('*').contains('*') || text.ends_with("**") {
                true => Err("a `*` stands at the end only".to_owned()),
                false => Ok(text),
            },
        )
        .takes("user id, or its beginning and `*`")
}

fn scope_word() -> Rule<String> {
    text()
        .and(|text| match text.contains(' ') {
            true => Err("must be one scope; write several as elements of the list".to_owned()),
            false => Ok(text),
        })
        .takes("scope")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Config, tests::read};

    fn with(allow: &str) -> Result<Config, String> {
        let digest = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        read(&format!(
            "credentials: [{{ name: a, secret_sha256: {digest}, scopes: ['tokens:issue']{allow} }}]"
        ))
    }

    #[test]
    fn what_is_not_bounded_is_allowed_and_an_empty_list_allows_nothing() {
        let free = with("").unwrap().credentials.remove(0).allow;
        assert!(free.user("a") && free.audience("a") && free.scope("a") && free.claim("a") && free.is_open());
        let bound = with(
            ", allow: { users: [alice, svc-*], audiences: [x], scopes: [], claims: [plan], max_lifetime: 15m }",
        )
        .unwrap();
        let allow = &bound.credentials[0].allow;
        for (user, fits) in [
            ("alice", true),
            ("svc-", true),
            ("svc-a", true),
            ("alice2", false),
            ("Alice", false),
            ("svc", false),
            ("xsvc-a", false),
            ("*", false),
        ] {
            assert_eq!(allow.user(user), fits, "{user}");
        }
        assert!(allow.audience("x") && !allow.audience("xy") && !allow.scope("x"));
        assert!(allow.claim("plan") && !allow.claim("groups"));
        assert_eq!(allow.max_lifetime, Some(Duration::from_secs(900)));
        let shown = bound.effective.members();
        for (path, value) in [
            ("credentials[0].allow.users[1]", json!("svc-*")),
            ("credentials[0].allow.audiences[0]", json!("x")),
            ("credentials[0].allow.scopes", json!([])),
            ("credentials[0].allow.claims[0]", json!("plan")),
            ("credentials[0].allow.max_lifetime", json!("15m")),
        ] {
            assert_eq!(shown.get(path), Some(&value), "{path}");
        }
        let all = with(", allow: { users: ['*'] }")
            .unwrap()
            .credentials
            .remove(0)
            .allow;
        assert!(all.user("anybody") && all.scope("any"));
        for bound in ["users", "audiences", "scopes", "claims"] {
            let one = with(&format!(", allow: {{ {bound}: [x] }}")).unwrap();
            assert!(!one.credentials[0].allow.is_open(), "{bound}");
        }
    }

    #[test]
    fn what_could_not_mean_what_it_says_is_refused() {
        for (allow, says) in [
            ("users: ['a*b']", "a `*` stands at the end only"),
            ("users: ['a**']", "a `*` stands at the end only"),
            ("users:", "expected a list of texts, found nothing"),
            ("scopes: ['read write']", "must be one scope"),
            ("max_lifetime: 0", "must be from 1s"),
            ("user: [a]", "unknown member"),
        ] {
            let error = with(&format!(", allow: {{ {allow} }}")).unwrap_err();
            assert!(
                error.contains("credentials[0].allow.") && error.contains(says),
                "{error}"
            );
        }
    }
}
