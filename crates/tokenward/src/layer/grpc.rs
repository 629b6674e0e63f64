//! The layer for services that speak gRPC.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use tokenward_core::Denial;
use tower_layer::Layer;
use tower_service::Service;

use super::{Refusal, TokenLayer};

/// The reason's code, beside the status.
const ERROR_CODE: HeaderName = HeaderName::from_static("error-code");

impl TokenLayer {
    /// The same layer for a gRPC server, as tonic's: refused calls are answered with a status instead of a problem document.
    ///
    /// A missing or bad token or proof is `UNAUTHENTICATED`, a scope that was not granted `PERMISSION_DENIED`, a malformed
    /// request `INVALID_ARGUMENT`, a limit `RESOURCE_EXHAUSTED`, an outage of the identity provider `UNAVAILABLE`. The
    /// metadata `error-code` is the reason's stable code. Handlers find the token in the request's extensions.
    ///
    /// ```
    /// # use tokenward::{TokenLayer, Verifier};
    /// # fn server(verifier: Verifier) -> Result<(), tokenward::Error> {
    /// let layer = TokenLayer::new(verifier).exclude(["/grpc.health.v1.Health/*"])?.grpc();
    /// let server = tonic::transport::Server::builder().layer(layer);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn grpc(self) -> GrpcTokenLayer {
        GrpcTokenLayer(self)
    }

    fn status(&self, denial: Denial) -> Response<String> {
        let mut response = Response::new(String::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code(denial)));
        // Texts of ours in ASCII without `%`, which need no encoding.
        headers.insert("grpc-message", HeaderValue::from_static(denial.detail()));
        headers.insert(ERROR_CODE, HeaderValue::from_static(denial.code()));
        self.answer(denial, response)
    }
}

/// The code of a status (gRPC's `google.rpc.Code`).
const fn code(denial: Denial) -> u16 {
    match denial.http_status() {
        400 => 3,
        403 => 7,
        429 => 8,
        503 => 14,
        _ => 16,
    }
}

/// What [`TokenLayer::grpc`] makes.
#[derive(Clone, Debug)]
pub struct GrpcTokenLayer(TokenLayer);

impl<S> Layer<S> for GrpcTokenLayer {
    type Service = GrpcTokenService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcTokenService {
            inner,
            layer: self.0.clone(),
        }
    }
}

/// The service that [`GrpcTokenLayer`] makes.
#[derive(Clone, Debug)]
pub struct GrpcTokenService<S> {
    inner: S,
    layer: TokenLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for GrpcTokenService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: Default + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready is the one to call; a fresh clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match layer.admit(&mut parts).await {
                Ok(()) => inner.call(Request::from_parts(parts, body)).await,
                // Trailers alone: the status stands in the head, and no body follows.
                Err(Refusal { denial, .. }) => Ok(layer.status(denial).map(|_| ResBody::default())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_status_and_a_text_that_needs_no_encoding() {
        for denial in Denial::ALL {
            let expected = match denial {
                Denial::RequestMalformed => 3,
                Denial::InsufficientScope | Denial::RuleDenied => 7,
                Denial::RateLimited => 8,
                _ if denial.is_outage() => 14,
                _ => 16,
            };
            assert_eq!(code(denial), expected, "{denial}");
            assert!(!denial.detail().contains('%'), "{denial}");
        }
    }
}
