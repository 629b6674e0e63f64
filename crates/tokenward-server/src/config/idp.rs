//! One identity provider, as it is configured.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretSlice};
use tokenward::{
    MAX_NAME_BYTES,
    fetch::{AllowedHost, ExtraRoots, SpkiPin},
};
use tokenward_core::{
    freshness::{CachePolicy, Refresh},
    jose::{Algorithm, AlgorithmSet, Truncation},
    policy::Audiences,
};
use url::Url;

use super::{
    fields::{Nested, flat, list, list_or, optional, required, scalar, section},
    model::{DAY, SECOND},
    problem::{Place, suggestion},
    record::{Check, Field, Member, Section, record},
    rules::{self, Kind, Rule, boolean, certificates, domain, duration, integer, pin, text, url, word},
    secret::{Secret, is_sample},
    tree::Node,
};

/// The name under which the own issuer is among the identity providers.
pub(crate) const OWN_IDP: &str = "self";

const ZERO: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

record! {
    /// One identity provider.
    pub(crate) struct Idp {
        /// Its name in paths, logs and metrics: `[A-Za-z0-9_-]{1,64}`, unique within its tenant; `self` and `all` are reserved.
        name: String = required(name());
        /// The tenant that it belongs to, a namespace of names and issuers: `[A-Za-z0-9_-]{1,64}`.
        tenant: String = scalar("default", tenant());
        /// The exact `iss` of its tokens, unique within its tenant. Without it no token is verified.
        issuer: Option<String> = optional("none: keys are served, tokens are not verified", text());
        /// Its key set.
        url: Option<Url> = optional("found by OIDC discovery from `issuer`", url());
        /// The secret that its tokens are signed with (HS256, HS384, HS512), for an IdP that has no keys to fetch.
        secret: Option<SecretSlice<u8>> = Secret;
        /// What may stand in `idp_defaults` too.
        settings: Arc<IdpSettings> = flat();
    }
}

record! {
    /// What may stand in `idp_defaults` and in an IdP.
    pub(crate) struct IdpSettings {
        /// Audiences of which a token must name one. Needed to verify tokens; `any` waives it.
        audiences: Option<Audiences> = list_or(Some("any"), "none: no token is verified", text(), |list| match list {
            Some(list) => Audiences::OneOf(list),
            None => Audiences::Any,
        });
        /// Algorithms that its tokens may be signed with. HS ones need `secret`.
        algorithms: Option<AlgorithmSet> = list_or(None, "all asymmetric ones", algorithm(), |list| {
            list.into_iter().flatten().collect()
        });
        /// How often keys are fetched.
        refresh_interval: Duration = scalar("3600", duration(SECOND, DAY * 30));
        /// What sets the pace: `interval`, the HTTP freshness (`http`), or the shorter of the interval and half of the upstream's max-age (`adaptive`).
        refresh: Refresh = scalar("adaptive", word(&[
            ("adaptive", Refresh::Adaptive), ("interval", Refresh::Interval), ("http", Refresh::Http),
        ]));
        /// The `max-age` that clients of the key set are told.
        cache_duration: Duration = scalar("900", duration(SECOND, DAY * 30));
        /// How it goes together with the upstream's: the smaller, the larger, the upstream's, or `cache_duration` alone.
        cache_policy: CachePolicy = scalar("min", word(&[
            ("min", CachePolicy::Min), ("max", CachePolicy::Max),
            ("upstream", CachePolicy::Upstream), ("config", CachePolicy::Config),
        ]));
        /// How many keys are kept; 0 sets no limit beyond the ceiling of 1000.
        max_keys: usize = scalar("10", integer(0, 1_000));
        /// Which keys go where there are more: those that are not in use, or the last ones of the document.
        truncation: Truncation = scalar("keep_active", word(&[
            ("keep_active", Truncation::KeepActive), ("first_n", Truncation::FirstN),
        ]));
        /// Whether `/readyz` waits for its keys.
        required: bool = scalar("false", boolean());
        /// The shortest freshness that HTTP headers can ask for.
        min_ttl: Duration = scalar("30s", duration(SECOND, DAY * 30));
        /// The longest freshness that HTTP headers can ask for.
        max_ttl: Duration = scalar("24h", duration(SECOND, DAY * 30));
        /// How long before the end of its HTTP freshness a set is fetched again, at most 20 % of it.
        refresh_early: Duration = scalar("30s", duration(ZERO, DAY));
        /// How close together HTTP headers can bring two refreshes.
        min_refresh_interval: Duration = scalar("30s", duration(SECOND, DAY));
        /// By how much at most a refresh is moved at random, and never by more than 10 %.
        prefetch_jitter: Duration = scalar("5s", duration(ZERO, MINUTE * 60));
        /// How long keys stay usable after they stopped being fresh, while the IdP cannot be reached.
        stale_while_error: Duration = scalar("12h", duration(ZERO, DAY * 30));
        /// How long a key that is no longer listed still verifies.
        absent_key_grace: Duration = scalar("5m", duration(ZERO, DAY));
        /// How long after a failed first load callers are given that failure at once; 0: they wait.
        negative_cache_ttl: Duration = scalar("0", duration(ZERO, DAY));
        /// The longest body of a key set or discovery document, in bytes.
        max_response_bytes: usize = scalar("1048576", integer(1_024, 64 * 1_024 * 1_024));
        /// How many redirects a fetch follows; each is checked like the first URL.
        max_redirects: u8 = scalar("3", integer(0, 10));
        /// Domains, with their subdomains, that its keys may be fetched from.
        allowed_domains: Vec<AllowedHost> = list("any", domain());
        /// SHA-256 of public keys (SPKI) of which the IdP's verified certificate chain must hold one.
        pinned_spki: Vec<SpkiPin> = list("no pins", pin());
        /// Whether keys may be fetched without TLS.
        allow_http: bool = scalar("false", boolean()).in_dev("true");
        /// Whether keys may be fetched from loopback, private and other addresses that are not public.
        allow_private_addresses: bool = scalar("false", boolean()).in_dev("true");
        /// Whether the discovery document may name only a `jwks_uri` of the issuer's own origin.
        strict_jwks_origin: bool = scalar("false", boolean());
        /// Certificates, PEM, that are trusted beside the platform's.
        ca_file: Option<ExtraRoots> = optional("the platform's only", certificates());
        /// How a failed fetch is tried again.
        retry: Retry = section();
        /// What a token with an unknown kid may cause.
        unknown_kid: UnknownKid = section();
        /// How far the clocks may differ.
        leeway: Duration = scalar("60s", duration(ZERO, MINUTE * 5));
        /// Whether a token without `exp` is refused.
        require_exp: bool = scalar("true", boolean());
        /// How old a token may be, counted from its `iat`.
        max_token_age: Option<Duration> = optional("any", duration(SECOND, DAY * 3_650));
        /// The longest lifetime that a token may have: `exp` less `iat`, or less the present where there is no `iat`.
        max_token_lifetime: Option<Duration> =
            optional("`30d`; any with `require_exp: false`", duration(SECOND, DAY * 3_650));
        /// Claims that a token must have.
        required_claims: Vec<String> = list("none", text());
        /// The media type that the header's `typ` must name.
        typ: Option<String> = optional("any but those of other uses, as `logout+jwt`", text());
    }
}

/// What identity providers have in common, as values, and as a tree to look for members in.
#[derive(Clone)]
pub(crate) struct Defaults {
    pub(super) settings: IdpSettings,
    /// A mapping; without the files that it names, which have been read.
    pub(super) node: Node,
    pub(super) dev: bool,
}

impl PartialEq for Defaults {
    fn eq(&self, other: &Self) -> bool {
        // The rest of the settings is what the tree says.
        self.dev == other.dev && self.node == other.node && self.settings.ca_file == other.settings.ca_file
    }
}

impl std::fmt::Debug for Defaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// The section of what identity providers have in common.
pub(super) struct DefaultsOfIdps;

impl Field for DefaultsOfIdps {
    type Output = Defaults;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        section::<IdpSettings>().members(name, doc)
    }

    fn read(&self, parent: &Section<'_>, name: &'static str) -> Option<Defaults> {
        let fields: Nested<IdpSettings> = section();
        let settings = fields.read(parent, name)?;
        let child = parent.child(name);
        let mut node = child
            .own()
            .cloned()
            .unwrap_or_else(|| Node::empty_map(Place::Whole));
        node.forget("ca_file");
        Some(Defaults {
            settings,
            node,
            dev: parent.cx.dev,
        })
    }
}

record! {
    /// How a failed fetch is tried again.
    pub(crate) struct Retry {
        /// How many more attempts there are.
        retries: u32 = scalar("2", integer(0, 10));
        /// The pause before the first of them.
        initial: Duration = scalar("250ms", duration(MILLISECOND, MINUTE));
        /// The longest pause.
        max: Duration = scalar("2s", duration(MILLISECOND, MINUTE));
        /// The longest one attempt may take.
        attempt: Duration = scalar("3s", duration(MILLISECOND, MINUTE));
        /// The longest a fetch may take in all.
        deadline: Duration = scalar("8s", duration(MILLISECOND, MINUTE));
    }
}

impl Check for Retry {
    fn check(&self, section: &Section<'_>) {
        if self.initial > self.max {
            section.report("initial", "must not be longer than `max`");
        }
        if self.attempt > self.deadline {
            section.report("attempt", "must not be longer than `deadline`");
        }
    }
}

record! {
    /// What a token with an unknown kid may cause.
    pub(crate) struct UnknownKid {
        /// How many fetches unknown kids may cause in a row.
        budget: u32 = scalar("2", integer(1, 1_000));
        /// How long it takes for one of them to come back.
        refill: Duration = scalar("30s", duration(SECOND, DAY));
        /// How long a kid that was not found is not looked for again.
        negative_ttl: Duration = scalar("30s", duration(SECOND, MINUTE * 60));
    }
}

impl Check for UnknownKid {}

impl Check for IdpSettings {
    fn check(&self, section: &Section<'_>) {
        if self.min_ttl > self.max_ttl {
            section.report("min_ttl", "must not be longer than `max_ttl`");
        }
    }
}

/// The members that say how tokens are verified, and mean nothing for an IdP without an issuer.
const VERIFICATION: [&str; 8] = [
    "audiences",
    "algorithms",
    "leeway",
    "require_exp",
    "max_token_age",
    "max_token_lifetime",
    "required_claims",
    "typ",
];

impl Check for Idp {
    fn check(&self, section: &Section<'_>) {
        match &self.secret {
            Some(secret) => self.check_symmetric(secret.expose_secret(), section),
            None => self.check_asymmetric(section),
        }
        if self.issuer.is_none() {
            for member in VERIFICATION.into_iter().filter(|member| section.says(member)) {
                section.report(
                    member,
                    "has no effect without `issuer`, the exact `iss` of the tokens to verify",
                );
            }
        }
        if let Some(Err(error)) = self.policy() {
            // What is wrong with the algorithms is said above, and depends on whether there is a secret.
            let others = error
                .problems()
                .iter()
                .filter(|problem| problem.member != "algorithms");
            others.for_each(|problem| section.report(problem.member, &problem.message));
        }
    }
}

impl Idp {
    fn check_symmetric(&self, secret: &[u8], section: &Section<'_>) {
        let member = if section.says("secret") {
            "secret"
        } else {
            "secret_file"
        };
        if self.issuer.is_none() {
            section.report("issuer", "an IdP with a secret needs `issuer`");
        }
        if self.url.is_some() {
            section.report(
                "url",
                "an IdP with a secret has no keys to fetch: leave `url` out",
            );
        }
        if self.settings.audiences.is_none() {
            section.report("audiences", "needed to verify tokens; `any` waives it");
        }
        let algorithms = self.settings.algorithms.unwrap_or_default();
        if algorithms.is_empty() {
            section.report(
                "algorithms",
                "an IdP with a secret names the HS algorithms of its tokens",
            );
        }
        if let Some(other) = algorithms.iter().find(|algorithm| !algorithm.is_symmetric()) {
            section.report("algorithms", format!("`{other}` cannot be used with a secret"));
        }
        let needed = algorithms.iter().filter_map(secret_bytes).max().unwrap_or(32);
        if secret.len() < needed {
            let message =
                format!("must be at least {needed} bytes long for these algorithms (RFC 7518 section 3.2)");
            section.report(member, message);
        } else if is_sample(secret) {
            let message = "is a sample that everyone knows; make one with `openssl rand -base64 48`";
            section.report(member, message);
        }
    }

    fn check_asymmetric(&self, section: &Section<'_>) {
        let algorithms = self.settings.algorithms.unwrap_or_default();
        if let Some(symmetric) = algorithms.iter().find(|algorithm| algorithm.is_symmetric()) {
            section.report(
                "algorithms",
                format!("`{symmetric}` needs `secret` or `secret_file`"),
            );
        }
        if self.url.is_some() && self.issuer.is_some() && self.settings.audiences.is_none() {
            section.report(
                "audiences",
                "needed to verify the tokens of `issuer`; `any` waives it",
            );
        }
        match (&self.url, &self.issuer) {
            (None, None) => section.report("url", "needs `url`, or `issuer` for discovery"),
            (Some(url), _) => self.check_source("url", url, section),
            (None, Some(issuer)) => match rules::url().parse(issuer) {
                Ok(url) if url.query().is_some() => {
                    section.report(
                        "issuer",
                        "discovery needs an issuer without a query; give `url` instead",
                    );
                }
                Ok(url) => self.check_source("issuer", &url, section),
                Err(message) => {
                    section.report(
                        "issuer",
                        format!("discovery needs a URL: {message}; or give `url`"),
                    );
                }
            },
        }
    }

    fn check_source(&self, member: &str, url: &Url, section: &Section<'_>) {
        if url.scheme() == "http" && !self.settings.allow_http {
            section.report(
                member,
                "keys are fetched by https only; `allow_http: true` allows http",
            );
        }
        if url.scheme() == "http" && !self.settings.pinned_spki.is_empty() {
            section.report(member, "pinned keys cannot hold over plain http");
        }
        if !self.fetched_within(&self.settings.allowed_domains) {
            section.report(member, "the host is not within `allowed_domains`");
        }
    }

    /// The member that names a host beyond the domains which stand for all, and what is wrong with that.
    pub(super) fn outside(&self, allowed: &[AllowedHost]) -> Option<(&'static str, &'static str)> {
        let member = if self.url.is_some() { "url" } else { "issuer" };
        (!self.fetched_within(allowed))
            .then_some((member, "the host is not within the global `allowed_domains`"))
    }

    /// Whether `allowed`, where it is not empty, admits the host that keys or the discovery document come from.
    fn fetched_within(&self, allowed: &[AllowedHost]) -> bool {
        let discovery = || Url::parse(self.issuer.as_deref()?).ok();
        let fetched = self
            .secret
            .is_none()
            .then(|| self.url.clone().or_else(discovery))
            .flatten();
        let host = fetched.as_ref().and_then(Url::host);
        allowed.is_empty() || host.is_none_or(|host| allowed.iter().any(|entry| entry.admits(&host)))
    }
}

pub(super) fn name() -> Rule<String> {
    tenant()
        .and(|name| match name.as_str() {
            OWN_IDP | "all" => Err("`self` and `all` are reserved".into()),
            _ => Ok(name),
        })
        .takes("name")
}

pub(super) fn tenant() -> Rule<String> {
    Rule::new(Kind::Text, "name of a tenant", |text| {
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if fits {
            Ok(text.to_owned())
        } else {
            Err("must be 1 to 64 letters, digits, `_` or `-`".into())
        }
    })
}

fn algorithm() -> Rule<Algorithm> {
    Rule::new(Kind::Text, "algorithm, as `RS256`", |text| {
        Algorithm::parse(text).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name);
            let near = suggestion(text, names);
            format!(
                "must be one of {}{near}",
                names.map(|name| format!("`{name}`")).join(", ")
            )
        })
    })
}

/// How long a secret for `algorithm` must be, in bytes (RFC 7518 section 3.2); nothing for an asymmetric one.
fn secret_bytes(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::Hs256 => Some(32),
        Algorithm::Hs384 => Some(48),
        Algorithm::Hs512 => Some(64),
        _ => None,
    }
}
