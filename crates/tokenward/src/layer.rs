//! A tower layer that lets only verified tokens through.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokenward_core::{Denial, freshness::CallerId};
use tower_layer::Layer;
use tower_service::Service;

use crate::{carrier, respond, verifier::Verifier};

/// The address of the peer, where the server puts it into the request's extensions. It tells callers apart
/// for the budget of unknown key ids; requests without it share one caller's share.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Puts a [`Verifier`] in front of a service: a request with a good bearer token in its `Authorization` header
/// goes on with an `Arc<VerifiedToken>` in its extensions, every other one is answered with a problem document.
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
#[derive(Clone, Debug)]
pub struct TokenLayer {
    verifier: Verifier,
    tenant: Arc<str>,
    scopes: Arc<[String]>,
}

impl TokenLayer {
    /// A layer for tokens of the tenant `default`.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            tenant: crate::DEFAULT_TENANT.into(),
            scopes: Arc::default(),
        }
    }

    /// Accepts tokens of the issuers of `tenant` instead.
    #[must_use]
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Demands that a token grants all of `scopes`. Without them the answer is 403 `insufficient_scope`.
    #[must_use]
    pub fn require_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    async fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Denial> {
        let caller = caller(request);
        let token = carrier::bearer(request.headers())?.ok_or(Denial::TokenMissing)?;
        let verified = self.verifier.verify(&self.tenant, token, caller).await?;
        if !self
            .scopes
            .iter()
            .all(|scope| verified.claims().scopes().any(|granted| granted == scope))
        {
            return Err(Denial::InsufficientScope);
        }
        request.extensions_mut().insert(verified);
        Ok(())
    }
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TokenService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`TokenLayer`] makes.
#[derive(Clone, Debug)]
pub struct TokenService<S> {
    inner: S,
    layer: TokenLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for TokenService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: From<String> + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready is the one to call; a fresh clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            match layer.admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(denial) => Ok(respond::denial(denial).map(ResBody::from)),
            }
        })
    }
}

fn caller<B>(request: &Request<B>) -> CallerId {
    let peer = request.extensions().get::<PeerAddress>();
    peer.map_or_else(CallerId::default, |PeerAddress(address)| caller_of(address.ip()))
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
