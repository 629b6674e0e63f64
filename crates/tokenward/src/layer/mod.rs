//! Tower layers that let only verified tokens through.

#[cfg(feature = "tonic")]
mod grpc;
mod origin;
mod proxies;
mod service;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use http::{Extensions, Method, Response, request::Parts};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use tokenward_core::{
    Denial,
    authz::{Path, PathPattern, PathPatternKind},
    freshness::CallerId,
};

use self::proxies::Proxies;
use crate::{
    carrier::{self, Carrier, Scheme},
    dpop::{Dpop, DpopRequest},
    error::Error,
    telemetry,
    verifier::{Terms, VerifiedToken, Verifier},
};

#[cfg(feature = "tonic")]
pub use grpc::{GrpcTokenLayer, GrpcTokenService};
pub use proxies::{ProxyHeaders, client_behind};
pub use service::TokenService;

/// The address of the peer, where the server puts it into the request's extensions. It tells callers apart
/// for the budget of unknown key ids, and trusted proxies from others; requests without it share one caller's share.
/// axum's `ConnectInfo<SocketAddr>` does as well.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Puts a [`Verifier`] in front of a service: a request with a good token goes on with an `Arc<VerifiedToken>` in its
/// extensions, every other one is answered with a problem document.
///
/// The token is looked for in the `Authorization` header, and its issuer among those of the tenant `default`; each issuer
/// has audiences of its own, by its [`Policy`](crate::Policy). Tokens that are bound to a key need a proof of possession, which
/// is taken where [`origin`](Self::origin) says what it must be made for.
///
/// ```
/// # fn route(verifier: tokenward::Verifier) -> axum::Router {
/// use axum::{Router, routing::get};
/// use tokenward::{Token, TokenLayer};
///
/// async fn whoami(Token(token): Token) -> String {
///     token.subject().unwrap_or_default().to_owned()
/// }
///
/// Router::new().route("/", get(whoami)).layer(TokenLayer::new(verifier))
/// # }
/// ```
#[derive(Clone)]
pub struct TokenLayer {
    verifier: Verifier,
    options: Arc<Options>,
}

type Resolve = dyn Fn(&Parts) -> BoxFuture<'static, Result<Issuers, Denial>> + Send + Sync;
type ReadClaims = dyn Fn(&VerifiedToken, &mut Extensions) -> Result<(), Denial> + Send + Sync;
type OnDenial = dyn Fn(Denial, Response<String>) -> Response<String> + Send + Sync;

#[derive(Clone)]
struct Options {
    issuers: Issuers,
    resolve: Option<Arc<Resolve>>,
    carriers: Vec<Carrier>,
    scopes: Vec<String>,
    credentials_optional: bool,
    preflights_pass: bool,
    excluded: Vec<PathPattern>,
    claims: Option<Arc<ReadClaims>>,
    dpop: Dpop,
    proxies: Proxies,
    origin: Option<String>,
    on_denial: Option<Arc<OnDenial>>,
}

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct Issuers {
    tenant: Arc<str>,
    only: Option<Arc<[String]>>,
}

impl Issuers {
    /// All issuers of a tenant. One that has none accepts nothing.
    #[must_use]
    pub fn of_tenant(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            only: None,
        }
    }

    /// Of these, only those named, by their exact `iss`.
    #[must_use]
    pub fn only<S: Into<String>>(mut self, issuers: impl IntoIterator<Item = S>) -> Self {
        self.only = Some(issuers.into_iter().map(Into::into).collect());
        self
    }
}

/// Why a request goes no further, and under which scheme its token was presented.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    denial: Denial,
    scheme: Scheme,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            scheme: Scheme::Bare,
        }
    }
}

impl TokenLayer {
    /// A layer for tokens of the tenant `default`.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            options: Arc::new(Options {
                issuers: Issuers::of_tenant(crate::DEFAULT_TENANT),
                resolve: None,
                carriers: vec![Carrier::Authorization],
                scopes: Vec::new(),
                credentials_optional: false,
                preflights_pass: false,
                excluded: Vec::new(),
                claims: None,
                dpop: Dpop::default(),
                proxies: Proxies::default(),
                origin: None,
                on_denial: None,
            }),
        }
    }

    /// Accepts tokens of the issuers of `tenant` instead.
    #[must_use]
    pub fn tenant(self, tenant: &str) -> Self {
        self.issuers(Issuers::of_tenant(tenant))
    }

    /// Accepts tokens of these issuers instead.
    #[must_use]
    pub fn issuers(self, issuers: Issuers) -> Self {
        self.with(|options| options.issuers = issuers)
    }

    /// Asks for each request with a token whose tokens it may come with, for example by its host or a header. An error is
    /// the answer: [`Denial::IssuerUnknown`] where there is no such tenant, [`Denial::IssuerUnavailable`] where it could
    /// not be found out.
    #[must_use]
    pub fn issuers_by<F, Fut>(self, resolve: F) -> Self
    where
        F: Fn(&Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Issuers, Denial>> + Send + 'static,
    {
        let resolve: Arc<Resolve> = Arc::new(move |parts| Box::pin(resolve(parts)));
        self.with(|options| options.resolve = Some(resolve))
    }

    /// Where the token is looked for. Default: the `Authorization` header alone. See [`carrier::find`] for requests that
    /// have several.
    #[must_use]
    pub fn carriers(self, carriers: impl IntoIterator<Item = Carrier>) -> Self {
        self.with(|options| options.carriers = carriers.into_iter().collect())
    }

    /// Demands that a token grants all of `scopes`. Without them the answer is 403 `insufficient_scope`.
    #[must_use]
    pub fn require_scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.with(|options| options.scopes = scopes.into_iter().map(Into::into).collect())
    }

    /// Lets requests without a token through, with nothing in their extensions. One that comes with a token still needs a
    /// good one.
    #[must_use]
    pub fn credentials_optional(self) -> Self {
        self.with(|options| options.credentials_optional = true)
    }

    /// Lets `OPTIONS` requests through without looking at them, since browsers send no credentials with the preflights of
    /// CORS. Not needed where a CORS layer in front answers them. By default they are treated like any other method.
    #[must_use]
    pub fn let_options_through(self) -> Self {
        self.with(|options| options.preflights_pass = true)
    }

    /// Lets requests whose path matches one of `patterns` through without looking at them; may be called again for more.
    ///
    /// In a pattern `*` stands for characters of one segment and `**` for any number of segments: `/health`,
    /// `/public/**`, `/grpc.health.v1.Health/*`. A `/` at the end makes another path. Patterns are compared with the whole
    /// path as the client sent it, in a nested axum router too, and only with a path in normal form: a path that others
    /// might read in another way, as `/public/../admin`, is never excluded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a pattern that could match no path in normal form.
    pub fn exclude<'a>(self, patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let patterns = patterns.into_iter().map(|pattern| {
            PathPattern::parse(PathPatternKind::Glob, pattern)
                .map_err(|problem| Error::invalid(format!("excluded path `{pattern}`: {problem}")))
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        Ok(self.with(|options| options.excluded.extend(patterns)))
    }

    /// Reads the claims of each token as a type of yours and has them checked by `check`. They go on with the request as an
    /// `Arc<T>` in its extensions. Claims that do not fit the type are [`Denial::ClaimRejected`].
    #[must_use]
    pub fn claims<T, F>(self, check: F) -> Self
    where
        T: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&T) -> Result<(), Denial> + Send + Sync + 'static,
    {
        let read: Arc<ReadClaims> = Arc::new(move |token, extensions| {
            let claims: T = token.deserialize()?;
            check(&claims)?;
            extensions.insert(Arc::new(claims));
            Ok(())
        });
        self.with(|options| options.claims = Some(read))
    }

    /// Which tokens need a proof of possession. Default: [`Dpop::allowed`], those that are bound to a key. Proofs are taken only
    /// where [`origin`](Self::origin) or a trusted proxy says what they must be made for. One that was checked goes on with the
    /// request, as an `Arc<Proof>` in its extensions.
    #[must_use]
    pub fn dpop(self, dpop: Dpop) -> Self {
        self.with(|options| options.dpop = dpop)
    }

    /// The origin at which clients reach this service, as `https://api.example.com`: what proofs of possession are made
    /// for.
    ///
    /// Without it, they are those that a [trusted proxy](Self::trusted_proxies) says, if it says both, and that proxy must pass
    /// on requests to hosts of yours alone: whoever has come by a proof that was made for another host could name that one. With
    /// neither, no proof can be checked, and tokens that are bound to a key are refused as [`Denial::DpopInvalid`]. The request's
    /// own `Host` or absolute target is never taken. Default: none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) unless it is `http` or `https` with a host, and
    /// nothing behind it.
    pub fn origin(self, origin: &str) -> Result<Self, Error> {
        let origin = origin::parse(origin)?;
        Ok(self.with(|options| options.origin = Some(origin)))
    }

    /// Believes what proxies in these `networks`, as `10.0.0.0/8` or one address, write into `headers` about the client's
    /// address, scheme and host. Needs the peer's address: see [`PeerAddress`]. Default: none is believed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for what is no network.
    pub fn trusted_proxies<'a>(
        self,
        networks: impl IntoIterator<Item = &'a str>,
        headers: ProxyHeaders,
    ) -> Result<Self, Error> {
        let networks = networks.into_iter().map(|text| {
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| {
                Error::invalid(format!(
                    "trusted proxy `{text}`: expected a network as 10.0.0.0/8"
                ))
            })
        });
        let proxies = Proxies::new(networks.collect::<Result<_, _>>()?, headers);
        Ok(self.with(|options| options.proxies = proxies))
    }

    /// Has the answer to each refused request changed or replaced. It is given the reason and the answer that would be sent.
    #[must_use]
    pub fn on_denial(
        self,
        handler: impl Fn(Denial, Response<String>) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.on_denial = Some(Arc::new(handler)))
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }

    /// Judges a request. Where it may go on, its extensions hold what was found out.
    async fn admit(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let outcome = self.judge(parts).await;
        if let Err(Refusal { denial, .. }) = outcome {
            telemetry::refused(denial);
        }
        outcome
    }

    async fn judge(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let options = &self.options;
        if options.preflights_pass && parts.method == Method::OPTIONS || options.excludes(parts) {
            return Ok(());
        }
        let found = carrier::find(&options.carriers, &parts.headers, parts.uri.query());
        let Some(found) = found.map_err(Denial::from)? else {
            return if options.credentials_optional {
                Ok(())
            } else {
                Err(Denial::TokenMissing.into())
            };
        };
        let scheme = found.scheme;
        let refusal = |denial| Refusal { denial, scheme };

        let issuers = match &options.resolve {
            Some(resolve) => resolve(parts).await.map_err(refusal)?,
            None => options.issuers.clone(),
        };
        let mut terms = Terms::default();
        if let Some(only) = issuers.only {
            terms = terms.only_issuers(only);
        }
        if options.dpop.takes_proofs() {
            terms = terms.binding_left_to_caller();
        }
        let forwarded = options
            .proxies
            .look(peer(&parts.extensions), &parts.headers)
            .map_err(refusal)?;
        let caller = forwarded.client.map(caller_of).unwrap_or_default();
        let verified = self
            .verifier
            .verify_with(&issuers.tenant, &found.token, caller, &terms)
            .await
            .map_err(refusal)?;

        let request = DpopRequest {
            scheme,
            token: &found.token,
            method: parts.method.as_str(),
            url: &|| origin::url(options.origin.as_deref(), &forwarded, parts),
            headers: &parts.headers,
        };
        let clock = self.verifier.registry().clock_ref();
        let proof = options.dpop.check(&verified, &request, clock).map_err(refusal)?;
        if let Some(read) = &options.claims {
            read(&verified, &mut parts.extensions).map_err(refusal)?;
        }
        let granted = |wanted: &String| verified.claims().scopes().any(|granted| granted == wanted);
        if !options.scopes.iter().all(granted) {
            return Err(refusal(Denial::InsufficientScope));
        }
        if let Some(proof) = proof {
            parts.extensions.insert(Arc::new(proof));
        }
        parts.extensions.insert(verified);
        Ok(())
    }

    /// The answer to a refused request, after the handler for denials.
    fn answer(&self, denial: Denial, response: Response<String>) -> Response<String> {
        match &self.options.on_denial {
            Some(handler) => handler(denial, response),
            None => response,
        }
    }
}

impl fmt::Debug for TokenLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenLayer")
            .field("verifier", &self.verifier)
            .field("dpop", &self.options.dpop)
            .finish_non_exhaustive()
    }
}

impl Options {
    fn excludes(&self, parts: &Parts) -> bool {
        if self.excluded.is_empty() {
            return false;
        }
        let path = Path::parse(origin::uri(parts).path().as_bytes());
        path.is_some_and(|path| self.excluded.iter().any(|pattern| pattern.matches(&path)))
    }
}

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<PeerAddress>().map(|peer| peer.0.ip());
    #[cfg(feature = "axum")]
    let peer = peer.or_else(|| {
        let info = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0.ip())
    });
    peer
}

/// The caller that an address stands for. An IPv6 host owns its /64, so that is one caller.
#[must_use]
pub fn caller_of(address: IpAddr) -> CallerId {
    match address.to_canonical() {
        IpAddr::V4(v4) => CallerId::new(u64::from(u32::from(v4))),
        IpAddr::V6(v6) => CallerId::new(u64::from_be_bytes(
            v6.octets().first_chunk::<8>().copied().unwrap_or_default(),
        )),
    }
}
