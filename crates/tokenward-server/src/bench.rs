//! What benchmarks hold the program against. Compiled for them alone: it has no interface to rely on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokenward::{Clock, StoreError, Verifier};
use tokenward_store::Ledger;

use crate::{
    authorize::{self, Engine},
    config,
    http::Observer,
    revocation::Revocations,
    telemetry::Requests,
};

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, as gRPC speaks it.
    Http2,
}

/// Serves `routes`, and nothing around them, on a listener of the program's own, for as long as the process lives.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(address: SocketAddr, spoken: Spoken, routes: Router) -> std::io::Result<()> {
    crate::serve::bare(address, spoken, routes).await
}

/// `/authorize`, and what stands around every request, as a program by default has them.
///
/// # Panics
/// If the defaults are no configuration.
pub fn authorize(verifier: Verifier, clock: Arc<dyn Clock>) -> Router {
    let (engine, observer, cache_max_age) = parts(verifier, clock);
    authorize::routes(engine, cache_max_age, &observer)
}

/// The same for Envoy's gRPC service.
///
/// # Panics
/// If the defaults are no configuration.
pub fn check(verifier: Verifier, clock: Arc<dyn Clock>) -> Router {
    let (engine, observer, _) = parts(verifier, clock);
    authorize::grpc_routes(engine, &observer)
}

/// Records metrics from now on, as the program does.
///
/// # Panics
/// If something records them already.
pub fn record() {
    #[expect(clippy::expect_used, reason = "without it a benchmark measures less")]
    let _ = crate::telemetry::metrics().expect("no other recorder is installed");
}

/// Reads the revocations of `ledger` as the program does when it starts, and says how many are in force then.
///
/// # Errors
/// If the store cannot be read.
pub async fn revocations(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Result<usize, StoreError> {
    let revocations = Revocations::load(ledger, clock).await?;
    Ok(revocations.index().len())
}

fn parts(verifier: Verifier, clock: Arc<dyn Clock>) -> (Arc<Engine>, Arc<Observer>, Duration) {
    #[expect(
        clippy::expect_used,
        reason = "a benchmark of what cannot be configured measures nothing"
    )]
    let config =
        config::parse_text("", false, &config::Environment::default()).expect("the defaults are valid");
    let engine = Engine::new(
        verifier,
        None,
        Arc::clone(&clock),
        &Arc::default(),
        tokenward::Dpop::allowed(),
        &config.authorize,
    );
    let observer = Observer {
        listener: "public",
        requests: Requests::new("public"),
        clock,
        proxies: Arc::default(),
        max_body: usize::MAX,
        log: false,
    };
    (
        Arc::new(engine),
        Arc::new(observer),
        config.authorize.cache_max_age,
    )
}
