//! `/v1/idps`: the identity providers of a tenant, and what can be done with them.
//!
//! Each call stands on two paths: `/v1/idps/…` for the default tenant, `/v1/tenants/{tenant}/idps/…` for any.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use serde::Serialize;
use tokenward::{DEFAULT_TENANT, ErrorKind, Idp, IdpDetails, IdpStatus, State as KeyState, Timestamp};
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Admin,
    call::{Call, json, no_content, store_unavailable},
    query,
};
use crate::{
    access::Need,
    config::Scope,
    http::{Rejected, not_found},
    openapi::{Operation, Parameter},
};

/// Identity providers on one page, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

const WRITE: Need = Need::Scope(Scope::IdpsWrite);

pub(super) fn calls() -> Vec<Call> {
    ["/v1", "/v1/tenants/{tenant}"]
        .into_iter()
        .flat_map(calls_below)
        .collect()
}

fn calls_below(prefix: &str) -> Vec<Call> {
    let on =
        |method, path: &str, id, summary| Operation::new(method, format!("{prefix}/idps{path}"), id, summary);
    let unknown = "There is no such identity provider.";
    vec![
        Call::reads(
            on(
                HttpMethod::Get,
                "",
                "idps.list",
                "The identity providers, by name",
            )
            .query(Parameter::name("after", "The name that the page goes on after."))
            .query(Parameter::integer(
                "limit",
                "How many; 100.",
                (1, MAX_PAGE as i64),
            ))
            .answers::<Page>(
                StatusCode::OK,
                "Identity providers, and where the next page begins.",
            ),
            Need::Any,
            get(list),
        ),
        Call::reads(
            on(HttpMethod::Get, "/{idp}", "idps.get", "One identity provider")
                .answers::<Record>(
                    StatusCode::OK,
                    "How it is, and its document where it was added at run time.",
                )
                .problem(StatusCode::NOT_FOUND, unknown),
            Need::Any,
            get(show),
        ),
        Call::changes(
            on(
                HttpMethod::Post,
                "/{idp}/refresh",
                "idps.refresh",
                "Fetch its keys now",
            )
            .answers::<Refreshed>(StatusCode::OK, "What became of the fetch.")
            .problem(StatusCode::NOT_FOUND, unknown),
            WRITE,
            post(refresh),
        ),
        Call::changes(
            on(
                HttpMethod::Post,
                "/{idp}/purge",
                "idps.purge",
                "Drop its keys at once and fetch them anew",
            )
            .answers_as(StatusCode::NO_CONTENT, "They are gone.", &[], None)
            .problem(StatusCode::NOT_FOUND, unknown),
            WRITE,
            post(purge),
        ),
    ]
}

/// Some of the identity providers of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = IdpPage)]
struct Page {
    idps: Vec<Entry>,
    /// `after` of the next page; nothing where there is none.
    next: Option<String>,
}

/// One identity provider in short.
#[derive(Serialize, ToSchema)]
#[schema(as = IdpEntry)]
struct Entry {
    name: String,
    tenant: String,
    issuer: Option<String>,
    url: Option<String>,
    /// How its keys stand.
    #[schema(value_type = String)]
    state: KeyState,
    key_count: usize,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_updated: Option<Timestamp>,
    /// The code of the last failure; nothing after a success.
    last_error: Option<&'static str>,
}

/// One identity provider, with everything that its status says.
#[derive(Serialize, ToSchema)]
#[schema(as = Idp)]
struct Record {
    #[serde(flatten)]
    #[schema(inline, value_type = Named)]
    status: IdpStatus,
    #[serde(flatten)]
    #[schema(inline, value_type = Details)]
    details: IdpDetails,
}

/// The members of a status that are always there. What the others mean is written at `/status`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Named {
    name: String,
    tenant: String,
    issuer: Option<String>,
    state: String,
    key_count: usize,
    error_count: u64,
    update_count: u64,
}

/// What only operators see.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Details {
    url: Option<String>,
    last_error_text: Option<String>,
}

/// What became of a fetch.
#[derive(Serialize, ToSchema)]
struct Refreshed {
    /// Whether the provider answered with keys, or with the word that they are the same.
    refreshed: bool,
    /// Why not, as a stable code.
    error: Option<&'static str>,
    idp: Record,
}

/// The names in a path. A path whose escapes are no UTF-8 names nothing that exists.
type Names = Result<Path<HashMap<String, String>>, PathRejection>;

/// Which identity provider is meant.
struct Target {
    tenant: String,
    name: String,
}

impl Target {
    fn of(names: Names) -> Self {
        let mut names = names.map(|Path(names)| names).unwrap_or_default();
        Self {
            tenant: names
                .remove("tenant")
                .unwrap_or_else(|| DEFAULT_TENANT.to_owned()),
            name: names.remove("idp").unwrap_or_default(),
        }
    }

    fn find(&self, admin: &Admin) -> Option<Arc<Idp>> {
        admin.0.registry.idp(&self.tenant, &self.name)
    }
}

async fn list(
    State(admin): State<Admin>,
    names: Names,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejected> {
    let values = query::only(query.as_deref(), &["after", "limit"])?;
    let limit = query::integer(&values, "limit", (1, MAX_PAGE), PAGE)?;
    let after = values.get("after").map_or("", String::as_str);
    let mut idps = admin.0.registry.idps(&Target::of(names).tenant);
    idps.retain(|idp| idp.name() > after);
    idps.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let more = idps.len() > limit;
    idps.truncate(limit);
    let next = idps.last().filter(|_| more).map(|idp| idp.name().to_owned());
    let idps = idps.iter().map(|idp| Entry::from(&**idp)).collect();
    Ok(json(&Page { idps, next }))
}

async fn show(State(admin): State<Admin>, names: Names) -> Response {
    match Target::of(names).find(&admin) {
        Some(idp) => json(&Record::of(&idp)),
        None => unknown(),
    }
}

async fn refresh(State(admin): State<Admin>, names: Names) -> Response {
    let target = Target::of(names);
    let refreshed = admin.0.registry.refresh(&target.tenant, &target.name).await;
    let Some(idp) = target.find(&admin) else {
        return unknown();
    };
    let record = Record::of(&idp);
    json(&Refreshed {
        refreshed: refreshed.is_ok(),
        error: refreshed
            .err()
            .map(|_| record.status.keys.last_error.unwrap_or("failed")),
        idp: record,
    })
}

async fn purge(State(admin): State<Admin>, names: Names) -> Response {
    let target = Target::of(names);
    match admin.0.registry.purge(&target.tenant, &target.name).await {
        Ok(()) => no_content(),
        Err(error) if error.kind() == ErrorKind::NotFound => unknown(),
        Err(error) => {
            tracing::warn!(%error, "a key set cannot be removed from the store");
            store_unavailable()
        }
    }
}

fn unknown() -> Response {
    not_found("There is no identity provider of this name.")
}

impl Record {
    fn of(idp: &Idp) -> Self {
        Self {
            status: idp.status(),
            details: idp.details(),
        }
    }
}

impl From<&Idp> for Entry {
    fn from(idp: &Idp) -> Self {
        let (status, details) = (idp.status(), idp.details());
        Self {
            name: status.name,
            tenant: status.tenant,
            issuer: status.issuer,
            url: details.url,
            state: status.keys.state,
            key_count: status.keys.key_count,
            last_updated: status.keys.last_updated,
            last_error: status.keys.last_error,
        }
    }
}
