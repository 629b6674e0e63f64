//! One rule: which requests it is for, and what becomes of them.

use tokenward::DEFAULT_TENANT;
use tokenward_core::{
    authz::{
        ClaimTest, ClaimValue, HostPattern, Outcome, PathPattern, PathPatternKind, Requirement,
        Rule as Judged, ValueTest,
    },
    session::TokenType,
};

use crate::config::{
    fields::{list, optional, optional_section, records, required, scalar},
    idp::OWN_IDP,
    record::{Check, Field, Member, Section, Shape, record},
    rules::{Kind, Rule, boolean, text, word},
    tree::{Node, Value},
};

record! {
    /// Which requests it is for, and what becomes of them: `allow`, `deny` or `require`.
    pub(crate) struct AuthorizeRule {
        /// The host, without a port; `*.example.com` is every host below it. Its letter case does not matter.
        host: Option<HostPattern> = optional("any", host());
        /// The path, without a query.
        path: Option<PathRule> = optional_section("any path");
        /// The methods, in capitals.
        methods: Vec<String> = list("any", method());
        /// Lets the request through, whoever it is from; a token, good or bad, is not looked at.
        allow: bool = scalar("false", boolean());
        /// Refuses the request.
        deny: bool = scalar("false", boolean());
        /// What its token must be like; `{}`: any good token.
        require: Option<Require> = optional_section("no token is asked for");
    }
}

impl Check for AuthorizeRule {
    fn check(&self, section: &Section<'_>) {
        let said = [self.allow, self.deny, self.require.is_some()];
        if said.into_iter().filter(|said| *said).count() != 1 {
            section.report(
                "",
                "needs one of `allow: true`, `deny: true` and `require`, and only one",
            );
        }
        not_empty(section, "methods", self.methods.is_empty());
        if self.host.is_none() && self.require.as_ref().is_some_and(|require| require.dpop) {
            section.child("require").report(
                "dpop",
                "the rule needs a `host`: a proof is made for one, and a proxy may pass on whichever a client names",
            );
        }
    }
}

record! {
    /// The path, in one of three ways. A pattern is a path in normal form; escapes are compared by what they stand for.
    pub(crate) struct PathRule {
        /// This path alone.
        exact: Option<PathPattern> = optional("none", path(PathPatternKind::Exact));
        /// This path and all below it, by whole segments: `/a` is not `/ab`. With `/` at its end only what is below: `/a/` is not `/a`.
        prefix: Option<PathPattern> = optional("none", path(PathPatternKind::Prefix));
        /// `*` stands for characters of one segment, at least one where it stands alone, `**` for any number of segments, none too: `/a/**` is `/a` and all below it.
        glob: Option<PathPattern> = optional("none", path(PathPatternKind::Glob));
    }
}

impl PathRule {
    fn pattern(&self) -> Option<&PathPattern> {
        self.exact
            .as_ref()
            .or(self.prefix.as_ref())
            .or(self.glob.as_ref())
    }
}

impl Check for PathRule {
    fn check(&self, section: &Section<'_>) {
        let said = [&self.exact, &self.prefix, &self.glob];
        if said.into_iter().flatten().count() != 1 {
            section.report("", "needs one of `exact`, `prefix` and `glob`, and only one");
        }
    }
}

record! {
    /// What its token must be like: everything that is said must hold.
    pub(crate) struct Require {
        /// The tenant whose identity providers may have signed it.
        tenant: String = scalar("default", text());
        /// The names of the identity providers that may have signed it; `self` is the own issuer.
        idps: Vec<String> = list("any of the tenant", text());
        /// It must be meant for one of these, beside what its identity provider's `audiences` ask.
        audiences: Vec<String> = list("any", text());
        /// The scopes that it must grant.
        scopes: Option<Scopes> = optional_section("none");
        /// Claims that it must have, all of them.
        claims: Vec<ClaimRule> = records();
        /// What it may be: tokens of our own are `access`, `parent` or `child`; those of others are `access`.
        token_types: Vec<TokenType> = list("`access` and `child`", word(&[
            ("access", TokenType::Access),
            ("parent", TokenType::Parent),
            ("child", TokenType::Child),
        ]));
        /// Whether it must be bound to a key (DPoP, RFC 9449), and the request prove possession of it; the rule then has to name a `host`. A token that is bound needs its proof in any case.
        dpop: bool = scalar("allowed", word(&[("allowed", false), ("required", true)]));
    }
}

impl Check for Require {
    fn check(&self, section: &Section<'_>) {
        not_empty(section, "idps", self.idps.is_empty());
        not_empty(section, "audiences", self.audiences.is_empty());
        not_empty(section, "claims", self.claims.is_empty());
        not_empty(section, "token_types", self.token_types.is_empty());
        let own = self.idps.iter().all(|idp| idp == OWN_IDP) && !self.idps.is_empty();
        let others = self.token_types.is_empty() || self.token_types.contains(&TokenType::Access);
        if self.dpop && (own || !others) {
            section.report(
                "dpop",
                "tokens of our own are bound to no key: none can meet this rule",
            );
        }
    }
}

record! {
    /// The scopes that it must grant.
    pub(crate) struct Scopes {
        /// Every one of these.
        all: Vec<String> = list("none", scope());
        /// One of these.
        any: Vec<String> = list("none", scope());
    }
}

impl Check for Scopes {
    fn check(&self, section: &Section<'_>) {
        if self.all.is_empty() && self.any.is_empty() {
            section.report("", "needs `all` or `any`, a list of scopes");
        }
    }
}

record! {
    /// One claim, compared in one of three ways. Values keep their types: `7` is not `"7"`.
    pub(crate) struct ClaimRule {
        /// The claim's whole name.
        name: String = required(text());
        /// It is this value.
        equals: Option<ClaimValue> = OneValue;
        /// It is an array, with this value among its elements.
        contains: Option<ClaimValue> = OneValue;
        /// It is one of these values.
        any_of: Vec<ClaimValue> = Values;
    }
}

impl Check for ClaimRule {
    fn check(&self, section: &Section<'_>) {
        let said = [
            self.equals.is_some(),
            self.contains.is_some(),
            section.says("any_of"),
        ];
        if said.into_iter().filter(|said| *said).count() != 1 {
            section.report("", "needs one of `equals`, `contains` and `any_of`, and only one");
        }
        not_empty(section, "any_of", self.any_of.is_empty());
    }
}

/// An empty list could mean nothing and everything.
fn not_empty(section: &Section<'_>, name: &str, is_empty: bool) {
    if is_empty && section.says(name) {
        section.report(
            name,
            "the list is empty; leave the member out to have its default",
        );
    }
}

/// One value of a claim, of the type that it is written in.
struct OneValue;

const CLAIM_VALUE: &str = "text, integer or boolean";

impl Field for OneValue {
    type Output = Option<ClaimValue>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        vec![Member {
            name,
            shape: Shape::Scalar,
            default: "none".into(),
            takes: CLAIM_VALUE.into(),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Self::Output> {
        match section.find(name) {
            Some(node) => claim_value(section, node, section.path_of(name)).map(Some),
            None => Some(None),
        }
    }
}

/// A list of them.
struct Values;

impl Field for Values {
    type Output = Vec<ClaimValue>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        vec![Member {
            name,
            shape: Shape::List,
            default: "`[]`: none".into(),
            takes: format!("list of {CLAIM_VALUE}"),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Self::Output> {
        let Some(node) = section.find(name) else {
            return Some(Vec::new());
        };
        let Value::List(nodes) = &node.value else {
            section.report(name, format!("expected a list of values, found {}", node.kind()));
            return None;
        };
        let path = section.path_of(name);
        let values = nodes.iter().enumerate();
        let values: Vec<_> = values
            .map(|(index, node)| claim_value(section, node, format!("{path}[{index}]")))
            .collect();
        values.into_iter().collect()
    }
}

fn claim_value(section: &Section<'_>, node: &Node, path: String) -> Option<ClaimValue> {
    match node.kind() {
        "a boolean" => section.scalar(node, path, &boolean()).map(ClaimValue::Boolean),
        "a number" => {
            let whole = Rule::new(Kind::Integer, "integer", |text| {
                text.parse()
                    .map_err(|_| "expected a whole number of at most 64 bits, or text in quotes".to_owned())
            });
            section.scalar(node, path, &whole).map(ClaimValue::Integer)
        }
        _ => section.scalar(node, path, &text()).map(ClaimValue::Text),
    }
}

fn host() -> Rule<HostPattern> {
    Rule::new(Kind::Text, "host, or `*.` and a domain", |text| {
        HostPattern::parse(text).map_err(str::to_owned)
    })
}

fn path(kind: PathPatternKind) -> Rule<PathPattern> {
    Rule::new(Kind::Text, "path", move |text| {
        PathPattern::parse(kind, text).map_err(str::to_owned)
    })
}

/// A method (RFC 9110 section 9.1), which is compared with its letter case.
fn method() -> Rule<String> {
    text()
        .and(|text| {
            if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
                return Err(format!(
                    "methods are told apart by their case; write `{}`",
                    text.to_ascii_uppercase()
                ));
            }
            match http::Method::from_bytes(text.as_bytes()) {
                Ok(_) => Ok(text),
                Err(_) => Err("expected a method as `GET`".to_owned()),
            }
        })
        .takes("method")
}

/// A scope (RFC 6749 section 3.3), one of the words of a token's `scope`.
fn scope() -> Rule<String> {
    text()
        .and(|text| match text.contains(' ') {
            true => Err("a scope has no blanks; name each of them as an element".to_owned()),
            false => Ok(text),
        })
        .takes("scope")
}

impl AuthorizeRule {
    /// As requests are judged by it.
    pub(super) fn judged(&self) -> Judged {
        let outcome = match &self.require {
            Some(require) => Outcome::Require(require.requirement()),
            None if self.allow => Outcome::Allow,
            None => Outcome::Deny,
        };
        Judged {
            host: self.host.clone(),
            path: self.path.as_ref().and_then(PathRule::pattern).cloned(),
            methods: self.methods.clone(),
            outcome,
        }
    }
}

impl Require {
    fn requirement(&self) -> Requirement {
        let (all_scopes, any_scope) = match &self.scopes {
            Some(Scopes { all, any }) => (all.clone(), any.clone()),
            None => Default::default(),
        };
        let claims = self.claims.iter().map(|claim| ClaimTest {
            name: claim.name.clone(),
            test: match (&claim.equals, &claim.contains) {
                (Some(value), _) => ValueTest::Equals(value.clone()),
                (None, Some(value)) => ValueTest::Contains(value.clone()),
                (None, None) => ValueTest::AnyOf(claim.any_of.clone()),
            },
        });
        Requirement {
            tenant: Some(self.tenant.clone()),
            idps: self.idps.clone(),
            audiences: self.audiences.clone(),
            all_scopes,
            any_scope,
            claims: claims.collect(),
            token_types: self.token_types.clone(),
            dpop: self.dpop,
        }
    }

    /// Whether a token of our own may meet it.
    pub(super) fn takes_own(&self) -> bool {
        self.tenant == DEFAULT_TENANT && (self.idps.is_empty() || self.idps.iter().any(|idp| idp == OWN_IDP))
    }
}
