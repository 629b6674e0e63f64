//! What benchmarks hold the program against. Compiled for them alone: it has no interface to rely on.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware::from_fn_with_state};
use futures_util::FutureExt as _;
use tokenward::{Clock, StoreError, Verifier};
use tokenward_core::{
    jose::Algorithm,
    keyring::{Schedule, Sealer},
    session::{AccessTyp, Lifetimes, Renewal},
};
use tokenward_store::{Ledger, Memory};

use crate::{
    access::{Access, Audit, Failures, Guard, Reach},
    authorize::{self, Engine},
    config::{self, Allow, Credential, Scope, SecretDigest},
    http::{Observer, observe},
    issue::{self, TokenService},
    limits,
    revocation::Revocations,
    signer::{self, First, Signer},
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

/// The calls that issue tokens, signed by ES256 and kept in memory, for whoever shows `secret`. What writes the audit log is spawned.
///
/// # Panics
/// If the defaults are no configuration.
#[expect(
    clippy::expect_used,
    reason = "a benchmark of what cannot start measures nothing"
)]
#[expect(clippy::disallowed_methods, reason = "the writer ends with the benchmark")]
pub async fn tokens(secret: &str, clock: Arc<dyn Clock>) -> Router {
    const DAY: Duration = Duration::from_secs(86_400);
    let config =
        config::parse_text("", false, &config::Environment::default()).expect("the defaults are valid");
    let ledger: Arc<dyn Ledger> = Arc::new(Memory::new());
    let revocations = Revocations::load(Arc::clone(&ledger), Arc::clone(&clock));
    let revocations = revocations.await.expect("memory can be read");
    let issuer = "https://auth.example".to_owned();
    let keys = signer::Settings {
        algorithm: Algorithm::Es256,
        schedule: Schedule {
            rotation_interval: DAY * 90,
            publish_ahead: DAY,
            advertised_max_age: DAY / 96,
            longest_token: DAY * 30,
        },
        sealer: Sealer::new([&[7; 32]]),
        first: First::Generated,
        issuer: issuer.clone(),
        revocations: revocations.clone(),
        shared: false,
    };
    let signer = Signer::open(Arc::clone(&ledger), Arc::clone(&clock), keys);
    let settings = issue::Settings {
        issuer,
        audience: vec!["my-api".to_owned()],
        typ: AccessTyp::AtJwt,
        lifetimes: Lifetimes {
            token: DAY / 24,
            parent: DAY * 30,
            child: DAY / 96,
            max: DAY * 30,
        },
        renewal: Renewal {
            threshold: Duration::from_secs(120),
            reuse_window: Duration::from_secs(10),
        },
        connections: 1_000,
    };
    let service = TokenService::new(
        settings,
        signer.await.expect("a key can be made"),
        Arc::clone(&ledger),
        revocations,
        Arc::clone(&clock),
        pending().boxed().shared(),
        None,
    );
    let credential = Credential {
        name: "bench".to_owned(),
        digest: SecretDigest::of(secret.as_bytes()),
        scopes: vec![Scope::Admin],
        allow: Allow::default(),
    };
    let (audit, writer) = Audit::new(ledger, Arc::clone(&clock));
    tokio::spawn(writer);
    let access = Access::new([credential], Arc::new(Failures::default()), Arc::clone(&clock));
    let limits = limits::TokenApi::new(Arc::default(), config.limits.token_api, Arc::clone(&clock));
    let guard = Guard::new(access, audit, Reach::Beyond).limited(limits);
    service
        .expect("the settings are valid")
        .routes(&guard)
        .layer(from_fn_with_state(observer(clock), observe))
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
    (Arc::new(engine), observer(clock), config.authorize.cache_max_age)
}

fn observer(clock: Arc<dyn Clock>) -> Arc<Observer> {
    Arc::new(Observer {
        listener: "public",
        requests: Requests::new("public"),
        clock,
        proxies: Arc::default(),
        max_body: usize::MAX,
        log: false,
    })
}
