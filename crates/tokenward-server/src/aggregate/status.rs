//! The status of identity providers, by name.

use std::fmt::Write as _;

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
    routing::get,
};
use http::{HeaderValue, header};
use serde::Serialize;
use tokenward::{Idp, IdpDetails, IdpStatus};

use super::{Aggregate, Names, merged, no_name, no_tenant, tenant_in};
use crate::http::{internal, not_found};

/// Records on one page.
const PAGE: usize = 1_000;

/// How much a listener tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// No address and no text of an error: an upstream's words are for operators only.
    Public,
    /// All of it.
    Operator,
}

/// One record as it is shown.
#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    status: IdpStatus,
    #[serde(flatten)]
    details: Option<IdpDetails>,
}

#[derive(Clone)]
struct Statuses {
    aggregate: Aggregate,
    detail: Detail,
}

pub(super) fn routes(aggregate: Aggregate, detail: Detail) -> Router {
    Router::new()
        .route("/status", get(all))
        .route("/status/", get(no_name))
        .route("/status/{idp}", get(one))
        .route("/tenants/{tenant}/status", get(all))
        .route("/tenants/{tenant}/status/", get(no_name))
        .route("/tenants/{tenant}/status/{idp}", get(one))
        .with_state(Statuses { aggregate, detail })
}

async fn all(State(statuses): State<Statuses>, names: Names, RawQuery(query): RawQuery) -> Response {
    let Ok(Path(names)) = names else {
        return no_tenant();
    };
    let tenant = tenant_in(&names);
    if statuses.aggregate.generation(tenant).is_none() {
        return no_tenant();
    }
    // One more than is shown tells whether there is a next page.
    let registry = &statuses.aggregate.0.registry;
    let idps = registry.idps_after(tenant, after(query.as_deref()), PAGE + 1);
    let (page, more) = idps.split_at(idps.len().min(PAGE));
    let mut body = String::from("{");
    for (index, idp) in page.iter().enumerate() {
        let Some(record) = record(idp, statuses.detail) else {
            return internal();
        };
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(body, "{comma}{}:{record}", serde_json::Value::from(idp.name()));
    }
    body.push('}');
    let mut response = json(body);
    if let (Some(last), false) = (page.last(), more.is_empty()) {
        let path = if names.contains_key("tenant") {
            format!("/tenants/{tenant}/status")
        } else {
            "/status".into()
        };
        // Names and tenants are of a character set that needs no escaping in a URL.
        if let Ok(link) = HeaderValue::try_from(format!("<{path}?after={}>; rel=\"next\"", last.name())) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// The name that the page goes on after. Names need no decoding.
fn after(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("after="))
}

async fn one(State(statuses): State<Statuses>, names: Names) -> Response {
    let Ok(Path(names)) = names else { return unknown() };
    let idp = names
        .get("idp")
        .and_then(|name| statuses.aggregate.0.registry.idp(tenant_in(&names), name));
    let Some(idp) = idp else { return unknown() };
    let Some(mut record) = record(&idp, statuses.detail) else {
        return internal();
    };
    // The key set is text already; it is put in as it is, where the record ends.
    record.truncate(record.len() - 1);
    let view = idp.view();
    let keys = view
        .as_ref()
        .and_then(|view| view.keys(statuses.aggregate.0.now()));
    let _ = write!(
        record,
        ",\"jwks\":{}}}",
        keys.map_or_else(|| "null".to_owned(), |keys| merged::text(keys))
    );
    json(record)
}

fn unknown() -> Response {
    not_found("There is no identity provider of this name.")
}

fn record(idp: &Idp, detail: Detail) -> Option<String> {
    let details = match detail {
        Detail::Public => None,
        Detail::Operator => Some(idp.details()),
    };
    serde_json::to_string(&Record {
        status: idp.status(),
        details,
    })
    .ok()
}

fn json(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
