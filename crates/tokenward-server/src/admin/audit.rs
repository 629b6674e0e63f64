//! `GET /v1/audit`: who did what.

use axum::{
    extract::{RawQuery, State},
    response::Response,
    routing::get,
};
use http::StatusCode;
use serde::Serialize;
use tokenward::Timestamp;
use tokenward_store::AuditRecord;
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Admin,
    call::{Call, json},
    query,
};
use crate::{
    access::Need,
    config::Scope,
    http::{Rejected, store_unavailable},
    openapi::{Operation, Parameter},
};

/// Records on one page, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

pub(super) fn calls() -> Vec<Call> {
    let operation = Operation::new(
        HttpMethod::Get,
        "/v1/audit",
        "audit",
        "The audit log, newest first",
    )
    .query(Parameter::integer(
        "before",
        "Only records with smaller numbers.",
        (0, i64::MAX),
    ))
    .query(Parameter::integer(
        "limit",
        "How many records; 100.",
        (1, MAX_PAGE as i64),
    ))
    .answers::<Page>(StatusCode::OK, "Records, and where the next page begins.")
    .problem(StatusCode::SERVICE_UNAVAILABLE, "The store cannot be read.");
    vec![Call::reads(operation, Need::Scope(Scope::Admin), get(audit))]
}

/// Records of the audit log.
#[derive(Serialize, ToSchema)]
struct Page {
    records: Vec<Record>,
    /// `before` of the next page; nothing where there is none.
    next: Option<u64>,
}

/// One call: who did what, on what, from where, and what came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord)]
struct Record {
    number: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The credential's name; empty where none was recognised.
    who: String,
    address: String,
    /// The operation, as `idps.put`.
    action: String,
    /// The path that was asked for.
    target: String,
    /// `ok`, or the code of the error.
    outcome: String,
}

async fn audit(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Rejected> {
    let values = query::only(query.as_deref(), &["before", "limit"])?;
    let before = query::integer(&values, "before", (0, i64::MAX as u64), i64::MAX as u64)?;
    let limit = query::integer(&values, "limit", (1, MAX_PAGE), PAGE)?;
    // The record of this very call is not among them yet.
    let Ok(mut records) = admin.0.audit.read(Some(before), limit + 1).await else {
        return Ok(store_unavailable());
    };
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|(number, _)| *number);
    let records = records.into_iter().map(Record::from).collect();
    Ok(json(&Page { records, next }))
}

impl From<(u64, AuditRecord)> for Record {
    fn from((number, record): (u64, AuditRecord)) -> Self {
        Self {
            number,
            at: record.at,
            who: record.who,
            address: record.address,
            action: record.action,
            target: record.target,
            outcome: record.outcome,
        }
    }
}
