//! The one decision behind all doors.

use std::{any::Any, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokenward::{
    DEFAULT_TENANT, Dpop, DpopMode, DpopRequest, KEPT_BYTES, Terms, VerifiedToken, Verifier,
    carrier::{Found, Scheme, Unread},
};
use tokenward_core::{
    Clock, Denial, Verified,
    authz::{Facts, Outcome, Presented, Requirement, Rules, Told},
    claims::Claims,
    freshness::CallerId,
    session::TokenType,
};

use super::{
    carriers::Carriers,
    identity::{Headers, Identity},
};
use crate::{
    config,
    limits::{self, Exceeding},
    telemetry::Decisions,
};

/// Judges a parent token of our own, which no verifier takes for an access token.
pub(crate) type Parents = Arc<dyn Fn(&str) -> Result<Verified, Denial> + Send + Sync>;

/// Whoever asks, and so how an answer is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A caller that forwards the credentials of a request and acts on the status.
    Direct,
    /// Envoy's HTTP `ext_authz`.
    Envoy,
    /// Envoy's gRPC `ext_authz`.
    EnvoyGrpc,
    /// nginx's `auth_request`.
    Nginx,
    /// Traefik's `ForwardAuth` and Caddy's `forward_auth`.
    Forward,
}

impl Door {
    /// In metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Envoy => "envoy",
            Self::EnvoyGrpc => "envoy_grpc",
            Self::Nginx => "nginx",
            Self::Forward => "forward",
        }
    }

    /// The status that refuses for `reason`. A proxy that passes 401 and 403 on may make a 500 of what else is the
    /// client's fault, so that is said in their words.
    const fn status(self, reason: Denial) -> u16 {
        match (self, reason.http_status()) {
            (Self::Direct, status) => status,
            (_, 400 | 413 | 431) => 401,
            (Self::Nginx, 429) => 403,
            (_, status) => status,
        }
    }

    pub(super) const fn refused(self, reason: Denial, exceeding: Option<Exceeding>) -> Refused {
        Refused {
            reason,
            status: self.status(reason),
            exceeding,
            proofs: DpopMode::Disabled,
            scheme: Scheme::Bare,
        }
    }
}

/// A request that waits for a decision.
pub(crate) struct Asked<'a> {
    pub(crate) door: Door,
    /// What its rules are about, as the door tells it.
    pub(crate) facts: Facts<'a>,
    /// `http` or `https`, as the door tells it. A door that never knows it takes no proofs of possession.
    pub(crate) scheme: Told<'a>,
    /// Its headers, among which its token is looked for.
    pub(crate) headers: &'a HeaderMap,
    /// For the budget of unknown key ids.
    pub(crate) caller: CallerId,
}

impl Asked<'_> {
    /// The absolute URL. None where part of it is not told, or told twice.
    fn url(&self) -> Option<String> {
        let scheme = match text(self.scheme)? {
            // Traefik calls them so where a connection is to become a WebSocket.
            "https" | "wss" => "https",
            "http" | "ws" => "http",
            _ => return None,
        };
        let (host, target) = (text(self.facts.host)?, text(self.facts.target)?);
        Some(format!("{scheme}://{host}{target}"))
    }
}

fn text(told: Told<'_>) -> Option<&str> {
    match told {
        Told::As(value) => std::str::from_utf8(value).ok(),
        Told::Missing | Told::Twice | Told::Never => None,
    }
}

/// How a door says that a request goes through, and whom it is from: made once for each token that is remembered.
pub(super) trait Words: Send + Sync + 'static {
    /// Of these headers, which replace those of the client; whatever else [`Identity::beside`] names must go. There is no token where
    /// nobody was asked for one.
    fn of(identity: &Identity, headers: Headers, token: Option<&Accepted>) -> Self;

    /// About how much memory they take.
    fn bytes(&self) -> usize;
}

/// The request goes through.
pub(super) struct Allowed<W> {
    /// Its token, and the words about it; none where nobody was asked for one.
    pub(super) token: Option<(Accepted, Arc<W>)>,
}

/// What was said last of a token that is remembered.
type Kept = ArcSwap<Said>;

/// Words of one kind of door, and whose they are: another configuration may say the same of a token in others.
struct Said {
    by: Arc<Identity>,
    words: Arc<dyn Any + Send + Sync>,
}

/// The request does not go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Denial,
    /// The HTTP status that says so at the door that asked.
    pub(crate) status: u16,
    /// What its token has used up, where that is the reason.
    pub(crate) exceeding: Option<Exceeding>,
    /// Whether the client is told that a proof of possession is needed, or taken.
    pub(crate) proofs: DpopMode,
    /// The scheme under which the token came.
    pub(crate) scheme: Scheme,
}

/// How a token came, and what it may need, as far as a decision got.
struct Came {
    scheme: Scheme,
    proofs: DpopMode,
}

impl Came {
    /// Says so to the client. That proofs are taken is told to those who know what they are.
    fn tell(&self, refused: Refused) -> Refused {
        let of_proof = refused.reason.code().starts_with("dpop_") || self.scheme == Scheme::Dpop;
        let proofs = match self.proofs {
            DpopMode::Allowed if !of_proof => DpopMode::Disabled,
            proofs => proofs,
        };
        Refused {
            proofs,
            scheme: self.scheme,
            ..refused
        }
    }
}

/// A token that is good and meets what is required.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Of an issuer that is trusted.
    Token(Arc<VerifiedToken>),
    /// A parent of our own, where a rule admits it.
    Parent(Box<Verified>),
}

impl Accepted {
    pub(crate) fn claims(&self) -> &Claims {
        match self {
            Self::Token(token) => token.claims(),
            Self::Parent(token) => token.claims(),
        }
    }

    /// The tenant of that identity provider.
    pub(crate) fn tenant(&self) -> &str {
        match self {
            Self::Token(token) => token.idp().tenant(),
            Self::Parent(_) => DEFAULT_TENANT,
        }
    }

    /// The name of the identity provider that signed it.
    pub(crate) fn idp(&self) -> &str {
        match self {
            Self::Token(token) => token.idp().name(),
            Self::Parent(_) => config::OWN_IDP,
        }
    }

    /// Only our own tokens say what they are for in words of ours.
    fn token_type(&self) -> TokenType {
        let named = || {
            self.claims()
                .get("token_type")?
                .as_str()
                .and_then(TokenType::named)
        };
        match self {
            Self::Parent(_) => TokenType::Parent,
            Self::Token(_) if self.idp() == config::OWN_IDP => named().unwrap_or(TokenType::Access),
            Self::Token(_) => TokenType::Access,
        }
    }
}

/// Decides by one configuration. It knows nothing of HTTP but headers.
pub(crate) struct Engine {
    verifier: Verifier,
    parents: Option<Parents>,
    clock: Arc<dyn Clock>,
    rules: Rules,
    carriers: Carriers,
    identity: Arc<Identity>,
    /// Which proofs of possession were used.
    proofs: Dpop,
    /// Where what tokens say of their rate is enforced.
    rates: Option<limits::Tokens>,
    decisions: Decisions,
}

impl Engine {
    /// `parents` judges parent tokens, where there are own ones; `used` is what tokens have used of their limits, and `proofs` remembers
    /// proofs of possession.
    pub(crate) fn new(
        verifier: Verifier,
        parents: Option<Parents>,
        clock: Arc<dyn Clock>,
        used: &Arc<limits::UsedByTokens>,
        proofs: Dpop,
        settings: &config::Authorize,
    ) -> Self {
        let rates = || limits::Tokens::new(Arc::clone(used), Arc::clone(&clock));
        Self {
            rates: settings.enforce_rate_limit.then(rates),
            verifier,
            parents,
            clock,
            rules: settings.rules(),
            carriers: Carriers::new(settings.headers.clone(), settings.cookie.clone()),
            identity: Arc::new(Identity::new(settings.claim_headers.clone())),
            proofs,
            decisions: Decisions::default(),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// What is said of a request that needs no token.
    pub(super) fn words_of_nobody<W: Words>(&self) -> W {
        W::of(&self.identity, Headers::new(), None)
    }

    /// Decides, and counts what was decided.
    pub(super) async fn decide<W: Words>(&self, asked: &Asked<'_>) -> Result<Allowed<W>, Refused> {
        let started = self.clock.steady();
        let mut came = Came {
            scheme: Scheme::Bare,
            proofs: DpopMode::Disabled,
        };
        let decision = self.judge(asked, &mut came).await.map_err(|unread| match unread {
            // It is about the token, at every door.
            Unread::Differ => Refused {
                status: 401,
                ..asked.door.refused(Denial::RequestMalformed, None)
            },
            Unread::Denied(reason) => asked.door.refused(reason, None),
        });
        let decision = decision
            .and_then(|allowed| self.admit(allowed, asked.door))
            .map_err(|refused| came.tell(refused));
        let reason = decision
            .as_ref()
            .map_or_else(|refused| refused.reason.code(), |_| "allow");
        self.count(asked.door, reason, self.clock.steady().since(started));
        decision
    }

    /// Counts a decision. `reason` is `allow` or the code of a denial.
    pub(super) fn count(&self, door: Door, reason: &'static str, took: Duration) {
        self.decisions.count(door.name(), reason, took);
    }

    /// Takes one of the requests that the token of an allowed one is good for. What is refused costs none.
    fn admit<W>(&self, allowed: Allowed<W>, door: Door) -> Result<Allowed<W>, Refused> {
        if let (Some(rates), Some((token, _))) = (&self.rates, &allowed.token) {
            let taken = rates.take(token.claims());
            let taken = taken.map_err(|denial| door.refused(denial, None))?;
            taken.map_err(|exceeding| door.refused(Denial::RateLimited, Some(exceeding)))?;
        }
        Ok(allowed)
    }

    async fn judge<W: Words>(&self, asked: &Asked<'_>, came: &mut Came) -> Result<Allowed<W>, Unread> {
        // What `Connection` names is dropped on the next hop, our identity headers too (RFC 9110 section 7.6.1).
        if self.identity.is_dropped_by(asked.headers) {
            return Err(Denial::RequestMalformed.into());
        }
        let requirement = match self.rules.outcome(&asked.facts)? {
            Outcome::Require(requirement) => requirement,
            Outcome::Deny => return Err(Denial::RuleDenied.into()),
            Outcome::Allow => return Ok(Allowed { token: None }),
        };
        came.proofs = match (asked.scheme, requirement.dpop) {
            (Told::Never, _) => DpopMode::Disabled,
            (_, true) => DpopMode::Required,
            (_, false) => DpopMode::Allowed,
        };
        let carried = self.carriers.token(asked.headers)?;
        came.scheme = carried.scheme;
        let token = self.verify(requirement, &carried.token, asked).await?;
        requirement.check(&Presented {
            claims: token.claims(),
            idp: token.idp(),
            token_type: token.token_type(),
        })?;
        self.prove(requirement, came.proofs, &token, &carried, asked)?;
        let said = self.say(&token)?;
        Ok(Allowed {
            token: Some((token, said)),
        })
    }

    /// What is said of a token, which whoever was shown it before may have left with it.
    fn say<W: Words>(&self, token: &Accepted) -> Result<Arc<W>, Denial> {
        let remembered = match token {
            Accepted::Token(token) => Some(token),
            Accepted::Parent(_) => None,
        };
        let kept = remembered.and_then(|token| token.kept::<Kept>());
        if let Some(kept) = &kept {
            let said = kept.load();
            let words = said.by.is_like(&self.identity).then(|| Arc::clone(&said.words));
            if let Some(Ok(words)) = words.map(Arc::downcast) {
                return Ok(words);
            }
        }
        let headers = self.identity.of(token.claims())?;
        let words = Arc::new(W::of(&self.identity, headers, Some(token)));
        let said = Said {
            by: Arc::clone(&self.identity),
            words: Arc::clone(&words) as _,
        };
        let bytes = size_of::<Kept>() + size_of::<Said>() + size_of::<W>() + words.bytes();
        match (kept, remembered) {
            (Some(kept), _) if bytes <= KEPT_BYTES => kept.store(Arc::new(said)),
            (None, Some(token)) => token.keep(&Arc::new(Kept::from_pointee(said)), bytes),
            _ => {}
        }
        Ok(words)
    }

    async fn verify(
        &self,
        requirement: &Requirement,
        text: &str,
        asked: &Asked<'_>,
    ) -> Result<Accepted, Denial> {
        let tenant = requirement.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        let terms = match asked.scheme {
            Told::Never => Terms::default(),
            _ => Terms::default().binding_left_to_caller(),
        };
        let verified = self.verifier.verify_with(tenant, text, asked.caller, &terms);
        match (verified.await, &self.parents) {
            (Ok(token), _) => Ok(Accepted::Token(token)),
            (Err(Denial::TypeRejected), Some(parents))
                if requirement.admits_parents() && tenant == DEFAULT_TENANT =>
            {
                parents(text).map(Box::new).map(Accepted::Parent)
            }
            (Err(denial), _) => Err(denial),
        }
    }

    /// Checks that who presents a token holds the key that it is bound to, where it is to any or has to be.
    fn prove(
        &self,
        requirement: &Requirement,
        mode: DpopMode,
        token: &Accepted,
        carried: &Found<'_>,
        asked: &Asked<'_>,
    ) -> Result<(), Denial> {
        if requirement.dpop && mode == DpopMode::Disabled {
            // Nothing that it could be presented with would do.
            return Err(Denial::DpopMissing);
        }
        let token = match token {
            Accepted::Token(token) => token,
            // It is bound to no key, and no proof could change that.
            Accepted::Parent(_) if requirement.dpop => return Err(Denial::DpopMissing),
            Accepted::Parent(_) if carried.scheme == Scheme::Dpop => return Err(Denial::DpopNotAllowed),
            Accepted::Parent(_) => return Ok(()),
        };
        let request = DpopRequest {
            scheme: carried.scheme,
            token: &carried.token,
            method: text(asked.facts.method).unwrap_or_default(),
            url: &|| asked.url(),
            headers: asked.headers,
        };
        let proofs = self.proofs.with_mode(mode);
        proofs.check(token, &request, &*self.clock).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokenward::{Audiences, IdpConfig, Policy, Registry};
    use tokenward_core::jose::KeySet;
    use tokenward_testkit::{ManualClock, TestKey, TokenBuilder, key_set};

    use super::*;

    /// Words of one kind of door, of so many bytes.
    struct Counted<const DOOR: usize, const BYTES: usize>;

    static MADE: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

    impl<const DOOR: usize, const BYTES: usize> Words for Counted<DOOR, BYTES> {
        fn of(_: &Identity, _: Headers, _: Option<&Accepted>) -> Self {
            MADE[DOOR].fetch_add(1, Ordering::AcqRel);
            Self
        }

        fn bytes(&self) -> usize {
            BYTES
        }
    }

    #[tokio::test]
    async fn words_are_made_once_until_another_door_or_configuration_has_others() {
        let clock = ManualClock::default();
        let key = TestKey::rs256(0);
        let keys = KeySet::parse(key_set(&[&key]).to_string().as_bytes()).unwrap();
        let policy = Policy::builder("https://issuer.example", Audiences::OneOf(vec!["api".to_owned()]));
        let idp = IdpConfig::with_keys("idp", Arc::new(keys), policy.build().unwrap()).unwrap();
        let registry = Registry::builder()
            .clock(Arc::new(clock.clone()))
            .build()
            .unwrap();
        registry.register(idp).unwrap();
        let verifier = Verifier::new(registry);
        let engine = |settings: &str| {
            let config = crate::config::tests::read(settings).unwrap();
            let clock = Arc::new(clock.clone());
            Engine::new(
                verifier.clone(),
                None,
                clock,
                &Arc::default(),
                Dpop::allowed(),
                &config.authorize,
            )
        };
        let (one, same) = (engine(""), engine(""));
        let other = engine("authorize: { claim_headers: { X-Name: name } }");
        let token = TokenBuilder::new(clock.wall())
            .issuer("https://issuer.example")
            .audience("api")
            .sign(&key);
        let bearer = format!("Bearer {token}").parse().unwrap();
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer)]);
        let asked = Asked {
            door: Door::Direct,
            facts: Facts {
                host: Told::Missing,
                method: Told::As(b"GET"),
                target: Told::Never,
            },
            scheme: Told::Never,
            headers: &headers,
            caller: CallerId::default(),
        };
        let made = || MADE.each_ref().map(|made| made.load(Ordering::Acquire));
        for _ in 0..3 {
            assert!(one.decide::<Counted<0, 10>>(&asked).await.is_ok());
            assert!(same.decide::<Counted<0, 10>>(&asked).await.is_ok());
        }
        assert_eq!(made(), [1, 0, 0]);
        for _ in 0..3 {
            assert!(one.decide::<Counted<1, 10>>(&asked).await.is_ok());
        }
        assert_eq!(made(), [1, 1, 0]);
        for _ in 0..3 {
            assert!(other.decide::<Counted<1, 10>>(&asked).await.is_ok());
        }
        assert_eq!(made(), [1, 2, 0]);
        // What is too large takes the place of nothing.
        for _ in 0..3 {
            assert!(other.decide::<Counted<2, KEPT_BYTES>>(&asked).await.is_ok());
            assert!(other.decide::<Counted<1, 10>>(&asked).await.is_ok());
        }
        assert_eq!(made(), [1, 2, 3]);
    }

    #[test]
    fn a_url_is_made_of_what_is_told_once() {
        let headers = HeaderMap::new();
        let url = |scheme, host, target| {
            let asked = Asked {
                door: Door::Forward,
                facts: Facts {
                    host,
                    method: Told::Never,
                    target,
                },
                scheme,
                headers: &headers,
                caller: CallerId::default(),
            };
            asked.url()
        };
        let (host, target) = (Told::As(b"a.example:8443"), Told::As(b"/x?y"));
        for (scheme, expected) in [
            ("https", Some("https://a.example:8443/x?y")),
            ("wss", Some("https://a.example:8443/x?y")),
            ("http", Some("http://a.example:8443/x?y")),
            ("ws", Some("http://a.example:8443/x?y")),
            ("ftp", None),
            ("https, http", None),
            ("", None),
        ] {
            assert_eq!(
                url(Told::As(scheme.as_bytes()), host, target).as_deref(),
                expected,
                "{scheme}"
            );
        }
        for untold in [Told::Missing, Told::Twice, Told::Never, Told::As(b"\xff")] {
            let https = Told::As(b"https");
            assert_eq!(url(untold, host, target), None);
            assert_eq!(url(https, untold, target), None);
            assert_eq!(url(https, host, untold), None);
        }
    }
}
