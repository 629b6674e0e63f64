//! Serves the keys of all identity providers: one by one, by name, and merged.
//!
//! Every body is made once for each change of the keys and served from memory; a request costs a look at whether
//! something changed. Nothing here verifies anything, least of all against the merged set: it has lost which
//! issuer each key belongs to.

mod latest;
mod merged;
mod metadata;
mod own;
mod prepared;
mod status;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use quick_cache::{Weighter, sync::Cache};
use tokenward::{DEFAULT_TENANT, Registry};
use tokenward_core::{Timestamp, jose::KeySet};

pub(crate) use self::status::Detail;
use self::{
    latest::Latest,
    merged::{ByName, Merged},
    own::Own,
    prepared::{Media, Prepared},
};
use crate::{
    config::{self, WellKnown},
    http::{bad_request, internal, not_found, unavailable},
    signer::Signer,
    telemetry::TenantSeries,
};

/// Bytes of prepared single sets that are kept. Rarely asked ones are made anew when they are asked again.
const SINGLES_BYTES: u64 = 64 << 20;
/// Tenants whose merged sets are kept. All of them together hold each key a few times at most, so that what they
/// take grows with the keys that there are and not with what is asked for.
const TENANTS: usize = 10_000;
/// How often what is kept of tenants that are gone is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The key and status endpoints.
#[derive(Clone)]
pub(crate) struct Aggregate(Arc<Inner>);

struct Inner {
    registry: Registry,
    settings: config::Merged,
    own: Option<Own>,
    tenants: Cache<Arc<str>, Arc<Tenant>>,
    series: TenantSeries,
    swept: Mutex<Swept>,
    singles: Cache<(Arc<str>, Arc<str>), Arc<Single>, Size>,
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.registry.clock().steady()
    }
}

/// The prepared answers of one tenant.
struct Tenant {
    name: Arc<str>,
    merged: Arc<Latest<Merged>>,
    by_name: Arc<Latest<ByName>>,
}

/// When tenants that are gone were looked for the last time, and in which generation of the registry.
#[derive(Default)]
struct Swept {
    at: Timestamp,
    generation: u64,
}

/// The prepared set of one identity provider.
struct Single {
    keys: Arc<KeySet>,
    body: Prepared,
}

#[derive(Clone)]
struct Size;

impl Weighter<(Arc<str>, Arc<str>), Arc<Single>> for Size {
    fn weight(&self, _: &(Arc<str>, Arc<str>), single: &Arc<Single>) -> u64 {
        single.body.len().max(1)
    }
}

impl Aggregate {
    /// With the keys of `signer` where there is a token service.
    pub(crate) fn new(registry: Registry, settings: &config::Merged, signer: Option<Signer>) -> Self {
        // An estimate of how many there are, for the cache's first size only.
        let typical = 1_000;
        Self(Arc::new(Inner {
            registry,
            settings: settings.clone(),
            own: signer.map(|signer| Own::new(signer, settings.max_age)),
            tenants: Cache::new(TENANTS),
            series: TenantSeries::default(),
            swept: Mutex::default(),
            singles: Cache::with_weighter(typical, SINGLES_BYTES, Size),
        }))
    }

    /// The key endpoints, open to scripts of any origin.
    pub(crate) fn keys(&self) -> Router {
        Router::new()
            .route("/jwks.json", keys(get(merged)))
            .route("/jwks/all", keys(get(merged)))
            .route("/.well-known/jwks.json", keys(self.well_known()))
            .route("/jwks", keys(get(by_name)))
            .route("/jwks/", keys(get(no_name)))
            .route("/jwks/self", keys(get(own)))
            .route("/jwks/{idp}", keys(get(single)))
            .route("/.well-known/openid-configuration", keys(get(metadata)))
            .route(
                "/.well-known/openid-configuration/{*path}",
                keys(get(metadata_of)),
            )
            .route("/.well-known/oauth-authorization-server", keys(get(metadata)))
            .route(
                "/.well-known/oauth-authorization-server/{*path}",
                keys(get(metadata_of)),
            )
            .route("/tenants/{tenant}/jwks.json", keys(get(merged)))
            .route("/tenants/{tenant}/jwks/all", keys(get(merged)))
            .route("/tenants/{tenant}/jwks", keys(get(by_name)))
            .route("/tenants/{tenant}/jwks/", keys(get(no_name)))
            .route("/tenants/{tenant}/jwks/{idp}", keys(get(single)))
            .route_layer(map_response(cross_origin))
            .with_state(self.clone())
    }

    /// What those who know only the host find. Whoever verifies our tokens there must not trust keys of others.
    fn well_known(&self) -> MethodRouter<Self> {
        match (self.0.settings.well_known, &self.0.own) {
            (WellKnown::Auto, Some(_)) | (WellKnown::Own, _) => get(own),
            (WellKnown::Auto, None) | (WellKnown::Merged, _) => get(merged),
        }
    }

    /// The status endpoints, with as much as `detail` says.
    pub(crate) fn status(&self, detail: Detail) -> Router {
        status::routes(self.clone(), detail)
    }

    async fn merged(&self, tenant: &str, headers: &HeaderMap) -> Response {
        let Some((tenant, generation)) = self.tenant(tenant) else {
            return no_tenant();
        };
        let (inner, name) = (Arc::clone(&self.0), Arc::clone(&tenant.name));
        let clock = inner.registry.clock();
        let merged = tenant.merged.at(generation, clock, move |previous| {
            let idps = inner.registry.idps(&name);
            let merged = Merged::of(&idps, inner.now(), &inner.settings, previous);
            inner.series.collisions(&name, merged.collisions());
            merged
        });
        match merged.await {
            Some(merged) if merged.is_loaded() => {
                merged.body().answer(headers, Media::KeySet, merged.headers())
            }
            Some(merged) => with(not_loaded(), merged.headers_of_count()),
            None => internal(),
        }
    }

    async fn by_name(&self, tenant: &str, headers: &HeaderMap) -> Response {
        let Some((tenant, generation)) = self.tenant(tenant) else {
            return no_tenant();
        };
        let (inner, name) = (Arc::clone(&self.0), Arc::clone(&tenant.name));
        let clock = inner.registry.clock();
        let sets = tenant.by_name.at(generation, clock, move |previous| {
            let idps = inner.registry.idps(&name);
            ByName::of(&idps, inner.now(), &inner.settings, previous)
        });
        match sets.await {
            Some(sets) if sets.is_loaded() => sets.body().answer(headers, Media::Object, sets.headers()),
            Some(_) => not_loaded(),
            None => internal(),
        }
    }

    fn single(&self, tenant: &str, name: &str, headers: &HeaderMap) -> Response {
        let idp = self.0.registry.idp(tenant, name);
        // A shared secret has no public half, so there is nothing that could be shown of it.
        let Some((idp, view)) = idp.and_then(|idp| idp.view().map(|view| (idp, view))) else {
            return not_found("There is no identity provider of this name with public keys.");
        };
        let Some(keys) = view.keys(self.0.now()) else {
            return not_loaded();
        };
        let single = self.prepared(tenant, name, keys);
        let max_keys = idp.config().settings().max_keys;
        let mut extra = vec![
            (
                header::CACHE_CONTROL,
                prepared::cache_control(view.advertised_max_age().as_secs()),
            ),
            (prepared::KEY_COUNT, HeaderValue::from(keys.documents().count())),
            (prepared::MAX_KEYS, HeaderValue::from(max_keys)),
        ];
        let updated = view.last_updated().map(|at| at.to_string());
        extra.extend(
            updated
                .and_then(|at| HeaderValue::try_from(at).ok())
                .map(|at| (prepared::LAST_UPDATED, at)),
        );
        single.body.answer(headers, Media::KeySet, &extra)
    }

    /// The body of one set, which is the same for as long as the set is.
    fn prepared(&self, tenant: &str, name: &str, keys: &Arc<KeySet>) -> Arc<Single> {
        let key: (Arc<str>, Arc<str>) = (tenant.into(), name.into());
        if let Some(single) = self.0.singles.get(&key)
            && Arc::ptr_eq(&single.keys, keys)
        {
            return single;
        }
        let single = Arc::new(Single {
            keys: Arc::clone(keys),
            body: merged::one(keys),
        });
        self.0.singles.insert(key, Arc::clone(&single));
        single
    }

    /// What is kept of a tenant, and its generation. None where it has no identity provider: names that only a
    /// client says are not remembered. The default tenant is always there.
    fn tenant(&self, name: &str) -> Option<(Arc<Tenant>, u64)> {
        let generation = self.generation(name)?;
        self.sweep();
        let tenant = self.0.tenants.get(name).unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let tenant = Arc::new(Tenant {
                name: Arc::clone(&name),
                merged: Arc::default(),
                by_name: Arc::default(),
            });
            self.0.tenants.insert(name, Arc::clone(&tenant));
            tenant
        });
        Some((tenant, generation))
    }

    fn generation(&self, tenant: &str) -> Option<u64> {
        let registry = &self.0.registry;
        // The registry's own number goes on where the default tenant has lost its last identity provider.
        let none = || (tenant == DEFAULT_TENANT).then(|| registry.generation());
        registry.tenant_generation(tenant).or_else(none)
    }

    /// Drops what is kept of tenants that are gone, now and then.
    fn sweep(&self) {
        let (now, generation) = (self.0.now(), self.0.registry.generation());
        let mut swept = self.0.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if generation == swept.generation || now.since(swept.at) < SWEEP {
            return;
        }
        *swept = Swept { at: now, generation };
        drop(swept);
        self.0.tenants.retain(|name, _| {
            let stays = self.generation(name).is_some();
            if !stays {
                self.0.series.collisions(name, 0);
            }
            stays
        });
    }
}

/// The names in a path. A path whose escapes are no UTF-8 names nothing that exists.
type Names = Result<Path<HashMap<String, String>>, PathRejection>;

async fn merged(State(aggregate): State<Aggregate>, names: Names, headers: HeaderMap) -> Response {
    let Ok(Path(names)) = names else {
        return no_tenant();
    };
    aggregate.merged(tenant_in(&names), &headers).await
}

async fn by_name(State(aggregate): State<Aggregate>, names: Names, headers: HeaderMap) -> Response {
    let Ok(Path(names)) = names else {
        return no_tenant();
    };
    aggregate.by_name(tenant_in(&names), &headers).await
}

async fn single(State(aggregate): State<Aggregate>, names: Names, headers: HeaderMap) -> Response {
    let Ok(Path(names)) = names else {
        return no_tenant();
    };
    let idp = names.get("idp").map_or("", String::as_str);
    aggregate.single(tenant_in(&names), idp, &headers)
}

async fn own(State(aggregate): State<Aggregate>, headers: HeaderMap) -> Response {
    match &aggregate.0.own {
        Some(own) => own.answer(&headers),
        None => not_found("No tokens are issued here, so there are no own keys."),
    }
}

async fn metadata(State(aggregate): State<Aggregate>, headers: HeaderMap) -> Response {
    match &aggregate.0.own {
        Some(own) => own.metadata(&headers),
        None => not_found("No tokens are issued here, so there is no issuer."),
    }
}

/// The same where the issuer's path follows the well-known name: a host may have other issuers at other paths.
async fn metadata_of(State(aggregate): State<Aggregate>, uri: Uri, headers: HeaderMap) -> Response {
    let own = aggregate.0.own.as_ref();
    let path = own.and_then(|own| metadata::path_of(own.issuer()));
    // The name is the first two segments, and the path begins with the slash after it.
    let asked = uri
        .path()
        .match_indices('/')
        .nth(2)
        .map(|(at, _)| uri.path().split_at(at).1);
    match (own, path) {
        (Some(own), Some(path)) if asked == Some(&path) => own.metadata(&headers),
        _ => not_found("There is no issuer with this path."),
    }
}

async fn no_name() -> Response {
    bad_request("The name of an identity provider is missing.")
}

fn tenant_in(names: &HashMap<String, String>) -> &str {
    names.get("tenant").map_or(DEFAULT_TENANT, String::as_str)
}

fn no_tenant() -> Response {
    not_found("There is no tenant of this name.")
}

fn not_loaded() -> Response {
    unavailable(
        "keys_unavailable",
        "Keys unavailable",
        "No keys are loaded yet, or those that were have expired.",
    )
}

fn with(mut response: Response, extra: &[(http::HeaderName, HeaderValue)]) -> Response {
    response.headers_mut().extend(extra.iter().cloned());
    response
}

/// Adds the answer to a browser's preflight to a key endpoint.
fn keys(methods: MethodRouter<Aggregate>) -> MethodRouter<Aggregate> {
    methods.options(|| async {
        let headers = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Accept, If-None-Match, X-Request-Id, Traceparent",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            (header::ALLOW, "GET, HEAD, OPTIONS"),
        ];
        (StatusCode::NO_CONTENT, headers).into_response()
    })
}

/// Public keys are for everyone, scripts of other origins included. No other endpoint says so.
async fn cross_origin(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "ETag, X-Total-Keys, X-IDP-Count, X-Key-Collisions, X-Key-Count, X-Max-Keys, X-Last-Updated, X-Request-Id",
        ),
    );
    response
}
