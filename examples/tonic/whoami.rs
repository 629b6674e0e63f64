//! The service of `whoami.proto`, by hand: no more than what `tonic-prost-build` would make of it, so that the example
//! builds without a compiler for protocol buffers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body, server::Grpc, server::NamedService};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Question {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Identity {
    #[prost(string, tag = "1")]
    pub(crate) issuer: String,
    #[prost(string, tag = "2")]
    pub(crate) subject: String,
    #[prost(string, tag = "3")]
    pub(crate) claims: String,
}

type Once = tokio_stream::Once<Result<Identity, Status>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

#[derive(Clone, Debug)]
pub(crate) struct WhoAmIServer;

impl NamedService for WhoAmIServer {
    const NAME: &'static str = "whoami.v1.WhoAmI";
}

impl Service<Request<Body>> for WhoAmIServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let mut grpc = Grpc::new(ProstCodec::<Identity, Question>::default());
        match request.uri().path() {
            "/whoami.v1.WhoAmI/Get" => Box::pin(async move {
                let unary = service_fn(super::get);
                Ok(grpc.unary(unary, request).await)
            }),
            "/whoami.v1.WhoAmI/Watch" => Box::pin(async move {
                let streaming = service_fn(|question| async {
                    let answer = super::get(question).await?;
                    Ok::<tonic::Response<Once>, Status>(
                        answer.map(|identity| tokio_stream::once(Ok(identity))),
                    )
                });
                Ok(grpc.server_streaming(streaming, request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}
