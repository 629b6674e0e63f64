//! What a rule says: which requests it is for, and what it requires of their tokens.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use super::{
    decision::Outcome,
    path::{self, Path},
};
use crate::{
    Denial,
    claims::{Claim, Claims},
    session::TokenType,
};

/// The longest host, in bytes (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// A host, exact or with a wildcard for what is below it. Letter case does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host alone.
    Exact(String),
    /// Every host below this one, at any depth, and not itself.
    Below(String),
}

impl HostPattern {
    /// `api.example.com`, or `*.example.com` for all hosts below `example.com`; an IPv6 address in brackets.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        if name.contains('*') {
            return Err("a wildcard stands for whole labels at the beginning, as `*.example.com`");
        }
        // A port would be cut off, and a rule must not mean less than it says.
        let is_whole = name.ends_with(']') || !name.ends_with('.') && !name.contains(':');
        let whole = host(name.as_bytes()).filter(|_| is_whole);
        match (whole, below) {
            (Some(host), true) => Ok(Self::Below(host.to_ascii_lowercase())),
            (Some(host), false) => Ok(Self::Exact(host.to_ascii_lowercase())),
            (None, _) => {
                Err("expected a host as `api.example.com` or `*.example.com`, without scheme and port")
            }
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => host.eq_ignore_ascii_case(exact),
            Self::Below(parent) => below(host, parent),
        }
    }

    /// Whether every host that `other` matches is matched by this one.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(host), Self::Exact(other)) => host == other,
            (Self::Exact(_), Self::Below(_)) => false,
            (Self::Below(parent), Self::Exact(host)) => below(host, parent),
            (Self::Below(parent), Self::Below(other)) => parent == other || below(other, parent),
        }
    }
}

fn below(host: &str, parent: &str) -> bool {
    let Some(label_end) = host.len().checked_sub(parent.len() + 1).filter(|end| *end > 0) else {
        return false;
    };
    let (bytes, parent) = (host.as_bytes(), parent.as_bytes());
    bytes.get(label_end) == Some(&b'.')
        && bytes
            .get(label_end + 1..)
            .is_some_and(|end| end.eq_ignore_ascii_case(parent))
}

/// The host of a `Host` header, without its port and without a dot at its end, an IPv6 address in its one normal spelling.
/// `None` where it is none.
pub(super) fn host(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value).ok()?;
    if text.starts_with('[') {
        let (address, rest) = text.split_at(text.find(']')? + 1);
        let address: Ipv6Addr = address.get(1..address.len() - 1)?.parse().ok()?;
        return is_port(rest).then(|| format!("[{address}]").into());
    }
    let end = text.find(':').unwrap_or(text.len());
    let (name, port) = text.split_at(end);
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = (1..=MAX_HOST).contains(&name.len())
        && name.split('.').all(|label| !label.is_empty())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    (fits && is_port(port)).then_some(name.into())
}

/// Whether `text` is nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |digits| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPatternKind {
    /// This path alone.
    Exact,
    /// This path and all below it: whole segments. With `/` at its end, only what is below.
    Prefix,
    /// `*` stands for characters of one segment, at least one where it stands alone; `**` for any number of segments, none
    /// among them.
    Glob,
}

/// Which paths a rule is for. What it compares are resolved escapes, so `%C3%A9` and `é` are the same in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Matcher);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    Exact(String),
    Prefix(String),
    Glob(Vec<Segment>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`.
    Any,
    /// The literals between `*`; one more than there are stars.
    Literals(Vec<String>),
}

impl PathPattern {
    /// Reads a pattern. It must be a path in normal form itself, or it would match nothing; in a glob `%2A` is a star that
    /// stands for itself.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub fn parse(kind: PathPatternKind, text: &str) -> Result<Self, &'static str> {
        const NOT_NORMAL: &str = "expected a path in normal form: it begins with `/` and has no query, no `.`, `..` or empty \
                                  segments, no blanks, none of `;`, `\\` and `#`, and no needless escapes";
        let path = Path::parse(text.as_bytes()).ok_or(NOT_NORMAL)?;
        Ok(Self(match kind {
            PathPatternKind::Exact => Matcher::Exact(path.as_str().to_owned()),
            PathPatternKind::Prefix => Matcher::Prefix(path.as_str().to_owned()),
            // What has no star, or one `/**` at its end alone, is one of the others: `covers` knows more of those.
            PathPatternKind::Glob if !text.contains('*') => Matcher::Exact(path.as_str().to_owned()),
            PathPatternKind::Glob if text.find('*') == text.len().checked_sub(2) && text.ends_with("/**") => {
                let parent = path.as_str().strip_suffix("/**").unwrap_or_default();
                Matcher::Prefix(if parent.is_empty() { "/" } else { parent }.to_owned())
            }
            PathPatternKind::Glob => {
                let segments = text.split('/').skip(1).map(|segment| match segment {
                    "**" => Ok(Segment::Any),
                    _ if segment.contains("**") => Err("`**` stands for whole segments, as in `/a/**`"),
                    _ => {
                        let literals = segment.split('*').map(path::literal);
                        literals
                            .collect::<Option<_>>()
                            .map(Segment::Literals)
                            .ok_or(NOT_NORMAL)
                    }
                });
                Matcher::Glob(segments.collect::<Result<_, _>>()?)
            }
        }))
    }

    /// Whether the pattern matches `path`.
    #[must_use]
    pub fn matches(&self, path: &Path<'_>) -> bool {
        let path = path.as_str();
        match &self.0 {
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => is_below(path, prefix),
            Matcher::Glob(segments) => glob(segments, path.strip_prefix('/').unwrap_or(path)),
        }
    }

    /// Whether every path that `other` matches is surely matched by this one.
    fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (one, other) if one == other => true,
            (Matcher::Prefix(prefix), Matcher::Exact(path) | Matcher::Prefix(path)) => is_below(path, prefix),
            (Matcher::Glob(segments), Matcher::Exact(path)) => {
                glob(segments, path.strip_prefix('/').unwrap_or(path))
            }
            (Matcher::Prefix(prefix), Matcher::Glob(segments)) => {
                prefix == "/" || is_below(&before_stars(segments), prefix)
            }
            (Matcher::Exact(_) | Matcher::Glob(_), _) => false,
        }
    }
}

/// What every path that a glob matches begins with, by whole segments.
fn before_stars(segments: &[Segment]) -> String {
    let mut path = String::new();
    for segment in segments {
        let Segment::Literals(literals) = segment else {
            break;
        };
        path.push('/');
        match literals.as_slice() {
            [only] => path.push_str(only),
            _ => break,
        }
    }
    path
}

/// Whether `path` is `prefix` or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// Whether `segments` match `path`, which has no `/` at its beginning. Where a `**` was met, what follows it is tried at one
/// segment after another; an earlier `**` need not be tried again, so the time is at most the product of both lengths.
fn glob(segments: &[Segment], path: &str) -> bool {
    let (mut pattern, mut rest) = (segments, Some(path));
    let mut retry: Option<(&[Segment], Option<&str>)> = None;
    loop {
        match (pattern, rest) {
            ([Segment::Any, after @ ..], _) => {
                retry = Some((after, rest));
                pattern = after;
                continue;
            }
            ([], None) => return true,
            ([Segment::Literals(literals), after @ ..], Some(path)) => {
                let (segment, next) = split(path);
                if literals_match(literals, segment) {
                    pattern = after;
                    rest = next;
                    continue;
                }
            }
            _ => {}
        }
        // One more segment for the last `**`.
        let Some((after, Some(path))) = retry else {
            return false;
        };
        let (_, next) = split(path);
        retry = Some((after, next));
        pattern = after;
        rest = next;
    }
}

/// The first segment, and what follows it.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

fn literals_match(literals: &[String], segment: &str) -> bool {
    let [first, middle @ .., last] = literals else {
        return literals.first().is_some_and(|only| only == segment);
    };
    if first.is_empty() && middle.is_empty() && last.is_empty() {
        return !segment.is_empty();
    }
    let Some(mut rest) = segment
        .strip_prefix(first.as_str())
        .and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    for literal in middle {
        match rest.split_once(literal.as_str()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// What a claim is compared with. Types are never converted: the text `7` is not the number 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string, compared byte for byte.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
}

impl ClaimValue {
    fn is(&self, value: Claim<'_>) -> bool {
        match self {
            Self::Text(text) => value.as_str() == Some(text),
            Self::Integer(number) => value.as_i64() == Some(*number),
            Self::Boolean(boolean) => value.as_bool() == Some(*boolean),
        }
    }
}

/// How a claim is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTest {
    /// The claim is this value.
    Equals(ClaimValue),
    /// The claim is an array with this value among its elements. A string contains nothing.
    Contains(ClaimValue),
    /// The claim is one of these values.
    AnyOf(Vec<ClaimValue>),
}

/// What one claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTest {
    /// The claim's whole name; a dot or a slash in it means nothing.
    pub name: String,
    /// What it must be. An absent claim meets nothing.
    pub test: ValueTest,
}

impl ClaimTest {
    fn holds(&self, claims: &Claims) -> bool {
        let Some(value) = claims.get(&self.name) else {
            return false;
        };
        match &self.test {
            ValueTest::Equals(expected) => expected.is(value),
            ValueTest::Contains(expected) => value
                .as_array()
                .is_some_and(|elements| elements.iter().any(|element| expected.is(element.into()))),
            ValueTest::AnyOf(expected) => expected.iter().any(|expected| expected.is(value)),
        }
    }
}

/// A verified token, as a requirement sees it.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// What it says.
    pub claims: &'a Claims,
    /// The name of the identity provider that signed it.
    pub idp: &'a str,
    /// What it is for. Tokens of other issuers are access tokens, whatever they call themselves.
    pub token_type: TokenType,
}

/// Names the identity provider and the type, and no claims.
impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("idp", &self.idp)
            .field("token_type", &self.token_type)
            .finish_non_exhaustive()
    }
}

/// What a token must be like. Everything that is said must hold; the default is any good token but parents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The tenant whose issuers may have signed it; none: `default`.
    pub tenant: Option<String>,
    /// The identity providers that may have signed it; empty: any.
    pub idps: Vec<String>,
    /// It must be meant for one of these; empty: whatever its identity provider's policy accepts.
    pub audiences: Vec<String>,
    /// It must grant all of these scopes.
    pub all_scopes: Vec<String>,
    /// It must grant one of these scopes, where there are any.
    pub any_scope: Vec<String>,
    /// All of these must hold.
    pub claims: Vec<ClaimTest>,
    /// The types that are allowed; empty: all but parents.
    pub token_types: Vec<TokenType>,
    /// It must be bound to a key, and the request prove possession of it. [`Requirement::check`] does not see the request, so
    /// that is for whoever asks it to check.
    pub dpop: bool,
}

impl Requirement {
    /// Whether parent tokens may meet it.
    #[must_use]
    pub fn admits_parents(&self) -> bool {
        self.token_types.contains(&TokenType::Parent)
    }

    /// Judges a verified token.
    ///
    /// # Errors
    ///
    /// [`Denial::TypeRejected`] for a parent that is not admitted, [`Denial::RuleDenied`] where the identity provider, the
    /// type, the audience or a claim is another one, [`Denial::InsufficientScope`] where only scopes are missing.
    pub fn check(&self, token: &Presented<'_>) -> Result<(), Denial> {
        let claims = token.claims;
        if token.token_type == TokenType::Parent && !self.admits_parents() {
            return Err(Denial::TypeRejected);
        }
        let granted = |scope: &String| claims.scopes().any(|granted| granted == scope);
        let holds = (self.idps.is_empty() || self.idps.iter().any(|idp| idp == token.idp))
            && (self.token_types.is_empty() || self.token_types.contains(&token.token_type))
            && (self.audiences.is_empty()
                || claims
                    .audiences()
                    .any(|audience| self.audiences.iter().any(|wanted| wanted == audience)))
            && self.claims.iter().all(|test| test.holds(claims));
        if !holds {
            return Err(Denial::RuleDenied);
        }
        let scoped = self.all_scopes.iter().all(granted)
            && (self.any_scope.is_empty() || self.any_scope.iter().any(granted));
        if scoped {
            Ok(())
        } else {
            Err(Denial::InsufficientScope)
        }
    }
}

/// One rule: the requests that it is for, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The hosts; none: any.
    pub host: Option<HostPattern>,
    /// The paths; none: any, and requests without a path.
    pub path: Option<PathPattern>,
    /// The methods, compared exactly; empty: any.
    pub methods: Vec<String>,
    /// What becomes of a request.
    pub outcome: Outcome,
}

impl Rule {
    /// Whether a rule behind this one is never asked, since every request that it is for stops here. Not every such case is
    /// found.
    #[must_use]
    pub fn hides(&self, later: &Self) -> bool {
        let host = match (&self.host, &later.host) {
            (None, _) => true,
            (Some(host), Some(later)) => host.covers(later),
            (Some(_), None) => false,
        };
        let path = match (&self.path, &later.path) {
            (None, _) => true,
            (Some(path), Some(later)) => path.covers(later),
            (Some(_), None) => false,
        };
        let methods = self.methods.is_empty()
            || (!later.methods.is_empty()
                && later.methods.iter().all(|method| self.methods.contains(method)));
        host && path && methods
    }

    pub(super) fn is_for(&self, host: Option<&str>, path: Option<&Path<'_>>, method: Option<&str>) -> bool {
        let host_fits = self
            .host
            .as_ref()
            .is_none_or(|wanted| host.is_some_and(|host| wanted.matches(host)));
        let method_fits = self.methods.is_empty()
            || method.is_some_and(|method| self.methods.iter().any(|wanted| wanted == method));
        host_fits
            && method_fits
            && self
                .path
                .as_ref()
                .is_none_or(|wanted| path.is_some_and(|path| wanted.matches(path)))
    }
}

#[cfg(test)]
mod tests;
