//! `/v1/idps`: the identity providers of a tenant, and what can be done with them.
//!
//! Each call stands on two paths: `/v1/idps/…` for the default tenant, `/v1/tenants/{tenant}/idps/…` for any.

use std::{borrow::Cow, collections::HashMap};

use axum::{
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::Response,
    routing::{delete, get, post, put},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tokenward::{DEFAULT_TENANT, ErrorKind, Idp, IdpDetails, IdpStatus, State as KeyState, Timestamp};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{HttpMethod, RefOr, Schema},
};

use super::{
    Admin,
    call::{Call, json, no_content},
    query,
};
use crate::{
    access::Need,
    config::{Scope, document_schema},
    fleet::{FleetError, Put},
    http::{Fault, Rejected, not_found, problem, read, store_unavailable},
    openapi::{Operation, Parameter, any_object},
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
            )
            .problem(StatusCode::NOT_FOUND, "No tenant can have this name."),
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
                HttpMethod::Put,
                "/{idp}",
                "idps.put",
                "Add an identity provider, or change one that was added",
            )
            .takes::<Document>()
            .answers::<Record>(StatusCode::OK, "It is changed.")
            .answers::<Record>(StatusCode::CREATED, "It is added.")
            .problem(
                StatusCode::CONFLICT,
                "The configuration has it, another one has its issuer, or there are as many as there may be.",
            ),
            WRITE,
            put(replace),
        ),
        Call::changes(
            on(
                HttpMethod::Delete,
                "/{idp}",
                "idps.delete",
                "Remove an identity provider that was added",
            )
            .answers_as(StatusCode::NO_CONTENT, "It is gone, with its keys.", &[], None)
            .problem(StatusCode::NOT_FOUND, unknown)
            .problem(
                StatusCode::CONFLICT,
                "The configuration has it, so it is removed there.",
            ),
            WRITE,
            delete(remove),
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
    /// Whether it was added at run time, rather than by the configuration.
    dynamic: bool,
    /// How its keys stand.
    #[schema(value_type = String)]
    state: KeyState,
    key_count: usize,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_updated: Option<Timestamp>,
    /// The code of the last failure; nothing after a success.
    last_error: Option<&'static str>,
}

/// The members of an identity provider of the configuration, save for `name` and `tenant`, which the path has, and for
/// secrets and files, which belong to the configuration.
struct Document;

impl ToSchema for Document {
    fn name() -> Cow<'static, str> {
        "IdpDocument".into()
    }
}

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        // What is written as JSON Schema there is one here, too.
        serde_json::from_value(document_schema()).unwrap_or_else(|_| any_object())
    }
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
    /// Whether it was added at run time, rather than by the configuration.
    dynamic: bool,
    /// What it was added with.
    #[schema(value_type = Option<Object>)]
    document: Option<Box<RawValue>>,
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

    /// What there is to show of it.
    fn record(&self, admin: &Admin) -> Option<Record> {
        let idp = admin.0.registry.idp(&self.tenant, &self.name)?;
        let fleet = &admin.0.fleet;
        let dynamic = fleet.is_dynamic(&self.tenant, &self.name);
        let document = fleet.document(&self.tenant, &self.name).filter(|_| dynamic);
        Some(Record {
            status: idp.status(),
            details: idp.details(),
            dynamic,
            document: document.and_then(|document| RawValue::from_string(document.to_string()).ok()),
        })
    }
}

async fn list(
    State(admin): State<Admin>,
    names: Names,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejected> {
    let values = query::only(query.as_deref(), &["after", "limit"])?;
    let limit = query::integer(&values, "limit", (1, MAX_PAGE), PAGE)?;
    let after = query::name(&values, "after")?.unwrap_or_default();
    let tenant = Target::of(names).tenant;
    if !query::is_name(&tenant) {
        return Ok(not_found("There is no tenant of this name."));
    }
    let mut idps = admin.0.registry.idps(&tenant);
    idps.retain(|idp| idp.name() > after.as_str());
    idps.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let more = idps.len() > limit;
    idps.truncate(limit);
    let next = idps.last().filter(|_| more).map(|idp| idp.name().to_owned());
    let idps = idps.iter().map(|idp| Entry::of(idp, &admin)).collect();
    Ok(json(&Page { idps, next }))
}

async fn replace(State(admin): State<Admin>, names: Names, request: Request) -> Result<Response, Rejected> {
    let target = Target::of(names);
    let document = read(request.into_body(), &*admin.0.registry.clock()).await?;
    let put = match admin.0.fleet.put(&target.tenant, &target.name, &document).await {
        Ok(put) => put,
        Err(error) => return refused(error),
    };
    let Some(record) = target.record(&admin) else {
        // Somebody removed it again meanwhile.
        return Ok(unknown());
    };
    let mut response = json(&record);
    if put == Put::Created {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

async fn remove(State(admin): State<Admin>, names: Names) -> Result<Response, Rejected> {
    let target = Target::of(names);
    match admin.0.fleet.remove(&target.tenant, &target.name).await {
        Ok(true) => Ok(no_content()),
        Ok(false) => Ok(unknown()),
        Err(error) => refused(error),
    }
}

/// The answer to a change that was not made.
fn refused(error: FleetError) -> Result<Response, Rejected> {
    let conflict = |code, title, detail| Ok(problem(StatusCode::CONFLICT, code, title, detail));
    match error {
        FleetError::Invalid(problems) => {
            let faults = problems
                .into_iter()
                .map(|problem| Fault::new(problem.member, problem.message));
            Err(Rejected::Members(faults.collect()))
        }
        FleetError::Full { .. } => conflict(
            "too_many_idps",
            "Too many identity providers",
            "There are as many as max_dynamic_idps allows.",
        ),
        FleetError::Configured => conflict(
            "idp_configured",
            "Configured",
            "The configuration has this identity provider; it is changed there.",
        ),
        FleetError::IssuerTaken => conflict(
            "issuer_taken",
            "Issuer taken",
            "Another identity provider of the tenant has this issuer.",
        ),
        FleetError::Store(error) => {
            tracing::warn!(%error, "an identity provider cannot be stored");
            Ok(store_unavailable())
        }
        FleetError::Closed => Ok(store_unavailable()),
    }
}

async fn show(State(admin): State<Admin>, names: Names) -> Response {
    Target::of(names)
        .record(&admin)
        .map_or_else(unknown, |record| json(&record))
}

async fn refresh(State(admin): State<Admin>, names: Names) -> Response {
    let target = Target::of(names);
    let refreshed = admin.0.registry.refresh(&target.tenant, &target.name).await;
    let Some(record) = target.record(&admin) else {
        return unknown();
    };
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

impl Entry {
    fn of(idp: &Idp, admin: &Admin) -> Self {
        let (status, details) = (idp.status(), idp.details());
        Self {
            dynamic: admin.0.fleet.is_dynamic(&status.tenant, &status.name),
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
