//! Fetches and guards the signing keys of many identity providers, and verifies the tokens they sign.
//!
//! A [`Registry`] holds the identity providers and keeps their keys fresh; a [`Verifier`] judges tokens by them;
//! a [`TokenLayer`] puts a verifier in front of a service.

pub mod acquire;
pub mod carrier;
pub mod discovery;
pub mod fetch;
pub mod random;
#[cfg(feature = "redis")]
pub mod redis;
pub mod respond;
pub mod telemetry;

mod cache;
mod clock;
mod config;
mod dpop;
mod error;
mod events;
#[cfg(feature = "axum")]
mod extract;
mod layer;
mod registry;
mod verifier;

pub use clock::SystemClock;
pub use config::{DEFAULT_TENANT, IdpConfig, MAX_NAME_BYTES};
pub use dpop::{DEFAULT_REPLAY_CAPACITY, Dpop, DpopMode, DpopRequest};
pub use error::{Error, ErrorKind};
pub use events::{Event, EventKind};
#[cfg(feature = "axum")]
pub use extract::{Actors, Proven, Token, TokenClaims};
#[cfg(feature = "tonic")]
pub use layer::{GrpcTokenLayer, GrpcTokenService};
pub use layer::{Issuers, PeerAddress, ProxyHeaders, TokenLayer, TokenService, caller_of, client_behind};
pub use registry::{
    Changes, DEFAULT_MAX_CONCURRENT_FETCHES, Health, Idp, IdpDetails, IdpStatus, Registry, RegistryBuilder,
};
pub use tokenward_core::{
    BoxFuture, Check, Clock, Denial, Timestamp,
    claims::{Actor, Claims},
    dpop::{Proof, Window},
    freshness::{self, CachePolicy, CallerId, Refresh, Settings, State, Status, UnknownKid, View},
    jose::{self, Algorithm, AlgorithmSet},
    policy::{Audiences, Policy},
    revocation,
};
pub use tokenward_store::{Claim, FETCH_LEASE, Memory, Snapshot, Snapshots, StoreError, StoreErrorKind};
pub use verifier::{DEFAULT_CACHE_BYTES, Explanation, KEPT_BYTES, Terms, VerifiedToken, Verifier};

/// The example of the repository's front page compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The programs of the guide run.
#[cfg(all(doctest, feature = "axum", feature = "redis", feature = "tonic"))]
#[doc = include_str!("../../../docs/library.md")]
struct Guide;
