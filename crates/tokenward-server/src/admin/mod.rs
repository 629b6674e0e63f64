//! The admin API: what operators ask and change, each call behind its guard.
//!
//! A call is declared once, with its operation of the OpenAPI document, what it needs, and its handler. The router, the
//! document and the guard come from that one value, so none of them can be forgotten.

mod audit;
mod call;
mod config;
mod events;
mod explain;
mod idps;
mod keys;
mod query;
mod revocations;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{Router, body::Bytes, response::IntoResponse as _, routing::get};
use http::header;
use tokenward::{Registry, Timestamp, Verifier};
use tokio::sync::Semaphore;

use self::call::Call;
use crate::{
    access::{Audit, Guard, same_site},
    config::{Config, Effective},
    fleet::Fleet,
    http::Drain,
    openapi::{self, Operation},
    revocation::Revocations,
    serve::ReloadStatus,
    signer::Signer,
};

/// What the calls work on.
#[derive(Clone)]
pub(crate) struct Admin(Arc<Inner>);

struct Inner {
    registry: Registry,
    verifier: Verifier,
    revocations: Revocations,
    fleet: Fleet,
    audit: Audit,
    reloads: Arc<ArcSwap<ReloadStatus>>,
    /// Where tokens are issued.
    signer: Option<Signer>,
    /// Ends what would never end by itself.
    drain: Drain,
    streams: Streams,
    since: Timestamp,
    effective: Effective,
}

/// What the calls need that lives longer than a configuration.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) registry: Registry,
    pub(crate) verifier: Verifier,
    pub(crate) revocations: Revocations,
    pub(crate) fleet: Fleet,
    pub(crate) audit: Audit,
    pub(crate) reloads: Arc<ArcSwap<ReloadStatus>>,
    pub(crate) signer: Option<Signer>,
    pub(crate) drain: Drain,
    pub(crate) streams: Streams,
}

/// Places for streams.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(events::MAX_STREAMS)))
    }
}

impl Admin {
    pub(crate) fn new(lasting: Lasting, config: &Config) -> Self {
        let Lasting {
            registry,
            verifier,
            revocations,
            fleet,
            audit,
            reloads,
            signer,
            drain,
            streams,
        } = lasting;
        Self(Arc::new(Inner {
            since: registry.clock().wall(),
            effective: config.effective.clone(),
            registry,
            verifier,
            revocations,
            fleet,
            audit,
            reloads,
            signer,
            drain,
            streams,
        }))
    }

    /// Every call behind `guard`, and the document.
    pub(crate) fn routes(&self, guard: &Guard) -> Router {
        let mut router = Router::new();
        for call in calls() {
            router = call.mount(router, guard);
        }
        let document =
            get(document).route_layer(axum::middleware::from_fn_with_state(guard.clone(), same_site));
        router.route(DOCUMENT, document).with_state(self.clone())
    }
}

/// The path of the document. It says what the program can do, which is no secret.
const DOCUMENT: &str = "/openapi.json";

/// The whole document, public calls included, as JSON.
pub(crate) fn openapi_json() -> String {
    let document = Operation::new(
        utoipa::openapi::HttpMethod::Get,
        DOCUMENT,
        "openapi",
        "This document",
    )
    .tag("admin")
    .answers_as(
        http::StatusCode::OK,
        "The document.",
        &["application/json"],
        Some(&openapi::any_object()),
    );
    let calls = calls().into_iter().map(|call| call.operation);
    let operations = openapi::public_operations()
        .into_iter()
        .chain(openapi::token_operations())
        .chain(calls)
        .chain([document]);
    openapi::document(operations).to_pretty_json().unwrap_or_default()
}

/// Every call of the admin API.
fn calls() -> Vec<Call> {
    [
        explain::calls(),
        events::calls(),
        idps::calls(),
        config::calls(),
        audit::calls(),
        keys::calls(),
        revocations::calls(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn document() -> axum::response::Response {
    static DOCUMENT: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi_json().into()).clone();
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, document).into_response()
}
