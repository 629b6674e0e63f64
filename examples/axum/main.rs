//! A service that answers whoever has a good token with who that is.
//!
//! ```sh
//! cargo run -p tokenward --example axum --features axum -- https://accounts.google.com my-client-id
//! curl -i -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3000/
//! ```

use std::{error::Error, net::SocketAddr};

use axum::{Json, Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use tokenward::{Audiences, IdpConfig, Policy, Registry, Token, TokenLayer, Verifier};

/// Where clients reach this service: tokens that are bound to a key come with proofs that are made for it.
const ORIGIN: &str = "http://127.0.0.1:3000";

pub(crate) fn app(verifier: Verifier) -> Result<Router, tokenward::Error> {
    let layer = TokenLayer::new(verifier).origin(ORIGIN)?;
    Ok(Router::new().route("/", get(whoami)).layer(layer))
}

async fn whoami(Token(token): Token) -> Result<Json<Value>, StatusCode> {
    // Nothing in a good token has to name a subject, but this service has no use for one without.
    let subject = token.subject().ok_or(StatusCode::BAD_REQUEST)?;
    Ok(Json(json!({
        "issuer": token.issuer(),
        "subject": subject,
        "claims": token.claims(),
    })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("give the issuer")?;
    let audience = arguments.next().ok_or("give the audience of this service")?;

    let registry = Registry::builder().build()?;
    let policy = Policy::builder(issuer, Audiences::OneOf(vec![audience])).build()?;
    registry.register(IdpConfig::discovered("login", policy)?)?;

    let app = app(Verifier::new(registry))?.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
