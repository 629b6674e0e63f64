//! A gRPC service that answers whoever has a good token with who that is.
//!
//! ```sh
//! cargo run -p tokenward --example tonic --features tonic -- https://accounts.google.com my-client-id
//! grpcurl -plaintext -proto examples/tonic/whoami.proto -H "Authorization: Bearer $TOKEN" 127.0.0.1:3001 whoami.v1.WhoAmI/Get
//! ```

pub(crate) mod whoami;

use std::{error::Error, sync::Arc};

use tokenward::{Audiences, IdpConfig, Policy, Registry, TokenLayer, VerifiedToken, Verifier};
use tonic::{Request, Response, Status, transport::Server};

use self::whoami::{Identity, Question, WhoAmIServer};

async fn get(question: Request<Question>) -> Result<Response<Identity>, Status> {
    let token = question.extensions().get::<Arc<VerifiedToken>>();
    let token = token.ok_or_else(|| Status::internal("the layer is missing"))?;
    let subject = token.subject();
    let subject = subject.ok_or_else(|| Status::invalid_argument("the token names no subject"))?;
    Ok(Response::new(Identity {
        issuer: token.issuer().to_owned(),
        subject: subject.to_owned(),
        claims: serde_json::to_string(token.claims()).unwrap_or_default(),
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("give the issuer")?;
    let audience = arguments.next().ok_or("give the audience of this service")?;

    let registry = Registry::builder().build()?;
    let policy = Policy::builder(issuer, Audiences::OneOf(vec![audience])).build()?;
    registry.register(IdpConfig::discovered("login", policy)?)?;

    // Where clients reach this service: tokens that are bound to a key come with proofs that are made for it.
    let layer = TokenLayer::new(Verifier::new(registry)).origin("http://127.0.0.1:3001")?;
    let layer = layer.exclude(["/grpc.health.v1.Health/*"])?;
    let server = Server::builder().layer(layer.grpc()).add_service(WhoAmIServer);
    server.serve("127.0.0.1:3001".parse()?).await?;
    Ok(())
}
