//! `GET /v1/config`: what runs.

use axum::{extract::State, response::Response, routing::get};
use http::StatusCode;
use serde::Serialize;
use tokenward::Timestamp;
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Admin,
    call::{Call, json},
};
use crate::{access::Need, openapi::Operation, serve::ReloadStatus};

pub(super) fn calls() -> Vec<Call> {
    let operation = Operation::new(
        HttpMethod::Get,
        "/v1/config",
        "config",
        "What runs, without secrets",
    )
    .answers::<Running>(StatusCode::OK, "The configuration in force.");
    vec![Call::reads(operation, Need::Any, get(config))]
}

/// What runs.
#[derive(Serialize, ToSchema)]
struct Running {
    version: &'static str,
    /// Since when this configuration is in force.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// How the last reload went.
    last_reload: ReloadStatus,
    /// How many identity providers the file has; `/v1/idps` lists them.
    configured_idps: usize,
    /// The value in force of every member by its name, as `server.port`, defaults included. Secrets are left out.
    #[schema(value_type = Object)]
    config: serde_json::Map<String, serde_json::Value>,
}

async fn config(State(admin): State<Admin>) -> Response {
    json(&Running {
        version: env!("CARGO_PKG_VERSION"),
        since: admin.0.since,
        last_reload: ReloadStatus::clone(&admin.0.reloads.load()),
        configured_idps: admin.0.fleet.configured(),
        config: admin.0.effective.members().clone(),
    })
}
