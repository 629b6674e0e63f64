//! How requests are authorized: carriers, identity headers, and rules.

mod names;
mod rules;

use std::time::Duration;

use http::HeaderName;
use tokenward_core::authz::{Outcome, Requirement, Rules};

use self::rules::AuthorizeRule;
use super::{
    fields::{list, map, optional, records, scalar},
    record::{Check, Section, record},
    rules::{Rule, boolean, cookie, duration, header, text, word},
};

/// The most rules: each request asks them one after another.
const MAX_RULES: usize = 1_000;

/// The longest that an answer may be kept.
const HOUR: Duration = Duration::from_secs(3_600);

record! {
    /// How requests are authorized for proxies.
    pub(crate) struct Authorize {
        /// What is done with a request that no rule is for.
        default: DefaultDecision = scalar("require_valid_token", word(&[
            ("require_valid_token", DefaultDecision::RequireValidToken),
            ("allow", DefaultDecision::Allow),
            ("deny", DefaultDecision::Deny),
        ]));
        /// Headers that may carry the token, in order. Any but `Authorization` carries it bare.
        headers: Vec<HeaderName> = list("no header", header()).or(&["Authorization"]);
        /// A cookie that may carry the token.
        cookie: Option<String> = optional("no cookie", cookie());
        /// Headers that an allowed request is given, and the claims that they hold: at most 32, and none on which proxies, caches and upstreams act, as `X-Forwarded-User`.
        claim_headers: Vec<(HeaderName, String)> = map(header(), text());
        /// How long nginx may keep an allowed request, told by `X-Accel-Expires`; 0: not at all. What is revoked goes on being let through for so long.
        cache_max_age: Duration = scalar("0", whole_seconds());
        /// Whether what a token says of its rate is enforced: its claim `rate_limit`, in requests a minute and as many at once; more are 429 `rate_limited`, 403 at the nginx door. Not together with `cache_max_age`.
        enforce_rate_limit: bool = scalar("false", boolean());
        /// Rules in the order in which they are asked: the first one whose `host`, `path` and `methods` fit a request applies, and `default` where none does. Each says one of `allow`, `deny` and `require`.
        rules: Vec<AuthorizeRule> = records();
    }
}

/// Headers that a claim must not be written to: they frame or describe the message, carry credentials or other verdicts, order
/// proxies and caches about, or are set by us for another purpose.
const NOT_FOR_CLAIMS: [&str; 51] = [
    "accept-encoding",
    "accept-ranges",
    "age",
    "alt-svc",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "cdn-loop",
    "cf-connecting-ip",
    "clear-site-data",
    "client-ip",
    "connection",
    "cookie",
    "date",
    "early-data",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "surrogate-control",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-method-override",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "x-sendfile",
];

/// What the names of further ones begin with: our own verdicts, and what proxies take for orders or set themselves.
const NOT_FOR_CLAIMS_PREFIXES: [&str; 12] = [
    "access-control-",
    "content-",
    "dpop",
    "if-",
    "proxy-",
    "sec-",
    "x-accel-",
    "x-envoy-",
    "x-forwarded-",
    "x-http-method",
    "x-original-",
    "x-tokenward-",
];

/// The most headers that hold claims: each of its spellings is removed from each request.
const MAX_CLAIM_HEADERS: usize = 32;

/// The most hyphens of a header that holds a claim. A client may write each of them as an underscore, and each such spelling
/// is removed.
const MAX_HYPHENS: usize = 6;

impl Check for Authorize {
    fn check(&self, section: &Section<'_>) {
        if self.headers.is_empty() && self.cookie.is_none() {
            section.report(
                "headers",
                "without a header and without a `cookie` no request can carry a token",
            );
        }
        for (index, header) in self.headers.iter().enumerate() {
            if self.headers.iter().take(index).any(|other| other == header) {
                section.report("headers", format!("`{header}` is listed twice"));
            }
            if header == http::header::COOKIE {
                section.report(
                    "headers",
                    "the member `cookie` names the cookie that carries a token",
                );
            }
        }
        if self.claim_headers.len() > MAX_CLAIM_HEADERS {
            section.report(
                "claim_headers",
                format!("there are more than {MAX_CLAIM_HEADERS}"),
            );
        }
        // Whoever makes a variable of a header makes an underscore of all that is no letter and no digit, so they are one name.
        let odd = |char: char| !char.is_ascii_alphanumeric();
        let plain = |header: &HeaderName| header.as_str().replace(odd, "-");
        for (index, (header, _)) in self.claim_headers.iter().enumerate() {
            let name = plain(header);
            let reserved = NOT_FOR_CLAIMS.contains(&name.as_str())
                || NOT_FOR_CLAIMS_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                || self.headers.iter().any(|carrier| plain(carrier) == name);
            if reserved {
                section.report(
                    "claim_headers",
                    format!("`{header}` cannot hold a claim: it has another meaning"),
                );
            }
            if name.matches('-').count() > MAX_HYPHENS {
                section.report(
                    "claim_headers",
                    format!("`{header}` has more than {MAX_HYPHENS} hyphens: too many spellings to remove from requests"),
                );
            }
            if self
                .claim_headers
                .iter()
                .take(index)
                .any(|(other, _)| plain(other) == name)
            {
                section.report("claim_headers", format!("`{header}` is named twice"));
            }
        }
        if self.enforce_rate_limit && !self.cache_max_age.is_zero() {
            section.report(
                "cache_max_age",
                "must be 0 with `enforce_rate_limit`: what nginx answers by itself is not counted",
            );
        }
        self.check_order(section);
    }
}

/// What is done with a request that no rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultDecision {
    RequireValidToken,
    Allow,
    Deny,
}

fn whole_seconds() -> Rule<Duration> {
    duration(Duration::ZERO, HOUR).and(|value| match value.subsec_nanos() {
        0 => Ok(value),
        _ => Err("nginx knows whole seconds only".to_owned()),
    })
}

impl Authorize {
    /// The rules, and what applies where none does.
    pub(crate) fn rules(&self) -> Rules {
        let otherwise = match self.default {
            DefaultDecision::Allow => Outcome::Allow,
            DefaultDecision::Deny => Outcome::Deny,
            DefaultDecision::RequireValidToken => Outcome::Require(Requirement::default()),
        };
        Rules::new(self.rules.iter().map(AuthorizeRule::judged).collect(), otherwise)
    }

    /// Reports rules that no request comes to.
    fn check_order(&self, section: &Section<'_>) {
        if self.rules.len() > MAX_RULES {
            return section.report("rules", format!("there are more than {MAX_RULES}"));
        }
        let rules: Vec<_> = self.rules.iter().map(AuthorizeRule::judged).collect();
        for (index, rule) in rules.iter().enumerate() {
            let hidden_by = rules.iter().take(index).position(|earlier| earlier.hides(rule));
            if let Some(first) = hidden_by
                && let Some(place) = section.element("rules", index, None)
            {
                place.report(
                    "",
                    format!("is never asked: `rules[{first}]` is for every request that it is for"),
                );
            }
        }
    }
}
