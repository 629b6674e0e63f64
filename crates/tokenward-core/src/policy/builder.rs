//! Building a policy: every value that is out of range is named, with what to write instead.

use std::{fmt, time::Duration};

use super::{Audiences, Policy, Rules};
use crate::jose::AlgorithmSet;

const DEFAULT_LEEWAY: Duration = Duration::from_secs(60);
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Builds a [`Policy`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to get the policy"]
pub struct PolicyBuilder {
    issuer: String,
    rules: Rules,
}

impl PolicyBuilder {
    pub(super) const fn new(issuer: String, audiences: Audiences) -> Self {
        Self {
            issuer,
            rules: Rules {
                audiences,
                algorithms: AlgorithmSet::ASYMMETRIC,
                leeway: DEFAULT_LEEWAY,
                require_exp: true,
                max_token_age: None,
                max_token_lifetime: None,
                required_claims: Vec::new(),
                typ: None,
                azp: Vec::new(),
            },
        }
    }

    /// The algorithms that the issuer may sign with. Default: every asymmetric one. Those of the HMAC family have to
    /// be named, and go with no other.
    pub const fn algorithms(mut self, algorithms: AlgorithmSet) -> Self {
        self.rules.algorithms = algorithms;
        self
    }

    /// How far clocks may be apart, for every comparison with the current time. Default 60 s, at most 300 s.
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway;
        self
    }

    /// Accepts tokens without `exp`, which live until their key is gone. By default they are refused.
    pub const fn allow_missing_exp(mut self) -> Self {
        self.rules.require_exp = false;
        self
    }

    /// Refuses tokens whose `iat` is absent or longer ago than this and the leeway. Default: no limit.
    pub const fn max_token_age(mut self, max: Duration) -> Self {
        self.rules.max_token_age = Some(max);
        self
    }

    /// Refuses tokens from whose `iat`, or from now where they have none, to `exp` there is more than this, and those
    /// without `exp`. Default: no limit.
    pub const fn max_token_lifetime(mut self, max: Duration) -> Self {
        self.rules.max_token_lifetime = Some(max);
        self
    }

    /// Names of claims that must be present and not null. Default: none.
    pub fn required_claims<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.rules.required_claims = names.into_iter().map(Into::into).collect();
        self
    }

    /// The one `typ` that is accepted, compared as a media type: the case does not matter, `application/` may be
    /// left out. Default: any type but those of other uses of JWTs, such as `logout+jwt` or `dpop+jwt`.
    pub fn typ(mut self, typ: impl Into<String>) -> Self {
        self.rules.typ = Some(typ.into());
        self
    }

    /// The authorized parties: `azp` must be one of them. Default: not checked.
    pub fn azp<S: Into<String>>(mut self, parties: impl IntoIterator<Item = S>) -> Self {
        self.rules.azp = parties.into_iter().map(Into::into).collect();
        self
    }

    /// Checks every member.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn build(self) -> Result<Policy, PolicyError> {
        let Self { issuer, rules } = self;
        let mut problems = Vec::new();
        let mut report = |holds: bool, member, message: &str| {
            if !holds {
                problems.push(PolicyProblem {
                    member,
                    message: message.to_owned(),
                });
            }
        };
        report(
            !issuer.is_empty(),
            "issuer",
            "is empty; write the exact `iss` of its tokens",
        );
        if let Audiences::OneOf(audiences) = &rules.audiences {
            report(
                !audiences.is_empty() && audiences.iter().all(|audience| !audience.is_empty()),
                "audiences",
                "is empty; name the audiences of this service, or `any` to waive the check",
            );
        }
        report(
            !rules.algorithms.is_empty(),
            "algorithms",
            "is empty; name at least one, such as RS256, or leave it out",
        );
        let mixed = !rules.algorithms.is_subset(AlgorithmSet::ASYMMETRIC)
            && !rules.algorithms.intersection(AlgorithmSet::ASYMMETRIC).is_empty();
        report(
            !mixed,
            "algorithms",
            "mixes HMAC with public-key algorithms; an issuer has either a shared secret or a key set",
        );
        report(
            rules.leeway <= MAX_LEEWAY,
            "leeway",
            "is over 300 s; set the clocks right instead",
        );
        for (member, limit) in [
            ("max_token_age", rules.max_token_age),
            ("max_token_lifetime", rules.max_token_lifetime),
        ] {
            report(
                limit != Some(Duration::ZERO),
                member,
                "is zero and would refuse every token; leave it out for no limit",
            );
        }
        report(
            rules.required_claims.iter().all(|name| !name.is_empty()),
            "required_claims",
            "holds an empty name; remove it",
        );
        report(
            rules
                .typ
                .as_deref()
                .is_none_or(|typ| !super::media_type(typ).is_empty()),
            "typ",
            "is empty; write a media type such as at+jwt, or leave it out",
        );
        report(
            rules.azp.iter().all(|party| !party.is_empty()),
            "azp",
            "holds an empty name; remove it",
        );
        if problems.is_empty() {
            Ok(Policy {
                issuer: issuer.into(),
                rules: rules.into(),
            })
        } else {
            Err(PolicyError { problems })
        }
    }
}

/// Why a policy could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    problems: Vec<PolicyProblem>,
}

impl PolicyError {
    /// Every problem; at least one.
    #[must_use]
    pub fn problems(&self) -> &[PolicyProblem] {
        &self.problems
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, PolicyProblem { member, message }) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            write!(f, "`{member}` {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// One value that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The member, as configuration spells it.
    pub member: &'static str,
    /// What is wrong, and what to write instead.
    pub message: String,
}
