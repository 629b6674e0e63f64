//! Rules in their order, asked with the facts of a request.

use std::str;

use super::{
    path::Path,
    rule::{Requirement, Rule, host},
};
use crate::Denial;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes through, whoever it is from: a token is not looked at, good or bad.
    Allow,
    /// It is refused.
    Deny,
    /// It needs a token that meets this.
    Require(Requirement),
}

/// What is told of one property of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// As it came.
    As(&'a [u8]),
    /// It should be told, and is not.
    Missing,
    /// It is told more than once.
    Twice,
    /// Nobody could tell it here: what depends on it does not apply.
    Never,
}

/// The properties of a request that rules are about, as whoever asks tells them. They are read only where a rule needs them.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host, with or without a port.
    pub host: Told<'a>,
    /// The method.
    pub method: Told<'a>,
    /// The path with its query.
    pub target: Told<'a>,
}

/// Rules in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    otherwise: Outcome,
    needs_host: bool,
    needs_method: bool,
    needs_path: bool,
}

impl Rules {
    /// `rules`, the first one that fits applies, and what applies where none does.
    #[must_use]
    pub fn new(rules: Vec<Rule>, otherwise: Outcome) -> Self {
        Self {
            needs_host: rules.iter().any(|rule| rule.host.is_some()),
            needs_method: rules.iter().any(|rule| !rule.methods.is_empty()),
            needs_path: rules.iter().any(|rule| rule.path.is_some()),
            rules,
            otherwise,
        }
    }

    /// What applies to a request.
    ///
    /// # Errors
    ///
    /// [`Denial::RequestMalformed`] where something that a rule needs is told twice, or is no host and no method.
    /// [`Denial::RuleDenied`] where it is missing, and where a rule has a path and that of the request is not in
    /// normal form: whatever rule would fit, somebody might read another path.
    pub fn outcome(&self, facts: &Facts<'_>) -> Result<&Outcome, Denial> {
        let host = needed(self.needs_host, facts.host, |value| {
            host(value).ok_or(Denial::RequestMalformed)
        })?;
        let method = needed(self.needs_method, facts.method, |value| {
            method(value).ok_or(Denial::RequestMalformed)
        })?;
        let path = needed(self.needs_path, facts.target, |value| {
            Path::of_target(value).ok_or(Denial::RuleDenied)
        })?;
        let found = self
            .rules
            .iter()
            .find(|rule| rule.is_for(host.as_deref(), path.as_ref(), method));
        Ok(found.map_or(&self.otherwise, |rule| &rule.outcome))
    }
}

fn needed<'a, T>(
    is: bool,
    told: Told<'a>,
    read: impl FnOnce(&'a [u8]) -> Result<T, Denial>,
) -> Result<Option<T>, Denial> {
    match told {
        _ if !is => Ok(None),
        Told::As(value) => read(value).map(Some),
        Told::Missing => Err(Denial::RuleDenied),
        Told::Twice => Err(Denial::RequestMalformed),
        Told::Never => Ok(None),
    }
}

/// A method (RFC 9110 section 5.6.2: a token).
fn method(value: &[u8]) -> Option<&str> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (!value.is_empty() && value.iter().all(is_token)).then(|| str::from_utf8(value).ok())?
}

#[cfg(test)]
mod tests {
    use crate::authz::{HostPattern, PathPattern, PathPatternKind};

    use super::*;

    fn rule(host: &str, path: &str, methods: &[&str], outcome: Outcome) -> Rule {
        Rule {
            host: Some(host)
                .filter(|host| !host.is_empty())
                .map(|host| HostPattern::parse(host).unwrap()),
            path: Some(path)
                .filter(|path| !path.is_empty())
                .map(|path| PathPattern::parse(PathPatternKind::Glob, path).unwrap()),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            outcome,
        }
    }

    fn scoped(scope: &str) -> Outcome {
        Outcome::Require(Requirement {
            all_scopes: vec![scope.to_owned()],
            ..Requirement::default()
        })
    }

    const fn facts<'a>(host: &'a str, method: &'a str, target: &'a str) -> Facts<'a> {
        Facts {
            host: Told::As(host.as_bytes()),
            method: Told::As(method.as_bytes()),
            target: Told::As(target.as_bytes()),
        }
    }

    #[test]
    fn the_first_rule_that_fits_applies() {
        let rules = Rules::new(
            vec![
                rule("a.example", "/public/**", &["GET", "HEAD"], Outcome::Allow),
                rule("", "/public/secret", &[], Outcome::Deny),
                rule("", "/admin/**", &["DELETE"], scoped("root")),
                rule("", "/admin/**", &[], scoped("admin")),
                rule("*.internal.example", "", &[], Outcome::Deny),
            ],
            scoped("any"),
        );
        for (host, method, target, expected) in [
            ("a.example", "GET", "/public/x", Outcome::Allow),
            ("A.Example:8443", "HEAD", "/public?x=/admin", Outcome::Allow),
            ("a.example.", "GET", "/public/secret", Outcome::Allow),
            ("a.example", "POST", "/public/secret", Outcome::Deny),
            ("b.example", "GET", "/public/secret", Outcome::Deny),
            ("b.example", "GET", "/public/x", scoped("any")),
            ("a.example", "get", "/public/x", scoped("any")),
            ("a.example", "DELETE", "/admin", scoped("root")),
            ("a.example", "GET", "/admin/x/y", scoped("admin")),
            ("x.internal.example", "GET", "/", Outcome::Deny),
            ("internal.example", "GET", "/", scoped("any")),
            ("x.internal.example", "GET", "/admin/", scoped("admin")),
        ] {
            assert_eq!(
                rules.outcome(&facts(host, method, target)),
                Ok(&expected),
                "{host} {method} {target}"
            );
        }
    }

    #[test]
    fn an_address_is_the_same_in_every_spelling() {
        let rules = Rules::new(vec![rule("[0:0::1]", "", &[], Outcome::Deny)], Outcome::Allow);
        for (host, expected) in [
            ("[::1]", Outcome::Deny),
            ("[0:0:0:0:0:0:0:1]:8443", Outcome::Deny),
            ("[::0001]", Outcome::Deny),
            ("[::2]", Outcome::Allow),
        ] {
            assert_eq!(rules.outcome(&facts(host, "GET", "/")), Ok(&expected), "{host}");
        }
    }

    #[test]
    fn with_a_path_in_any_rule_every_path_must_be_normal() {
        let open = rule("a.example", "", &[], Outcome::Allow);
        let with_path = Rules::new(
            vec![open.clone(), rule("", "/x", &[], Outcome::Deny)],
            Outcome::Allow,
        );
        let without = Rules::new(vec![open], Outcome::Allow);
        for target in ["/a/../b", "/a//b", "/%61", "*", "", "http://a.example/"] {
            let facts = facts("a.example", "GET", target);
            assert_eq!(with_path.outcome(&facts), Err(Denial::RuleDenied), "{target}");
            assert_eq!(without.outcome(&facts), Ok(&Outcome::Allow), "{target}");
        }
    }

    #[test]
    fn what_a_rule_needs_must_be_told_once_and_well() {
        let none = Rules::new(Vec::new(), Outcome::Allow);
        let host = Rules::new(vec![rule("a.example", "", &[], Outcome::Deny)], Outcome::Allow);
        let path = Rules::new(vec![rule("", "/x", &[], Outcome::Deny)], Outcome::Allow);
        let method = Rules::new(vec![rule("", "", &["GET"], Outcome::Deny)], Outcome::Allow);
        let good = facts("b.example", "POST", "/");
        let bad = Err(Denial::RequestMalformed);
        for (told, expected) in [
            (Told::Missing, Err(Denial::RuleDenied)),
            (Told::Twice, bad),
            (Told::Never, Ok(&Outcome::Allow)),
        ] {
            assert_eq!(host.outcome(&Facts { host: told, ..good }), expected, "{told:?}");
            assert_eq!(
                path.outcome(&Facts { target: told, ..good }),
                expected,
                "{told:?}"
            );
            assert_eq!(
                method.outcome(&Facts { method: told, ..good }),
                expected,
                "{told:?}"
            );
            let nothing = Facts {
                host: told,
                method: told,
                target: told,
            };
            assert_eq!(none.outcome(&nothing), Ok(&Outcome::Allow), "{told:?}");
        }
        for odd in [
            "",
            " ",
            "a b",
            "a,b",
            "a.example, b.example",
            "a@b",
            "a/b",
            "a..b",
            ".a",
            "a:b",
            "[x]",
            "a%2e",
            "é",
        ] {
            assert_eq!(host.outcome(&facts(odd, "GET", "/")), bad, "{odd:?}");
        }
        for odd in ["", "GET POST", "GET,POST", "G\u{e9}T", "GET\t"] {
            assert_eq!(method.outcome(&facts("a", odd, "/")), bad, "{odd:?}");
        }
        assert_eq!(method.outcome(&facts("a", "GET", "/")), Ok(&Outcome::Deny));
        assert_eq!(
            host.outcome(&facts("[2001:db8::1]:443", "GET", "/")),
            Ok(&Outcome::Allow)
        );
    }
}
