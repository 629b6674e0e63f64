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
    extract::{FromRequestParts as _, Path, RawPathParams, Request, rejection::PathRejection},
    handler::Handler as _,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get_service,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use tokenward::{DEFAULT_TENANT, Registry};
use tokenward_core::{Timestamp, freshness::View, jose::KeySet};

pub(crate) use self::status::Detail;
use self::{
    latest::Latest,
    merged::{ByName, Merged},
    own::Own,
    prepared::{Media, Prepared},
};
use crate::{
    config::{self, WellKnown},
    http::{
        Answered, Caller, Handler, Observer, bad_request, internal, not_found, observe, observed,
        unavailable, wrong_method,
    },
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
    /// What it was made of.
    view: Arc<View>,
    max_keys: usize,
    keys: Arc<KeySet>,
    body: Arc<Prepared>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A tenant and a name in it, as a request says them.
#[derive(Clone, Copy, Hash)]
struct Named<'a>(&'a str, &'a str);

impl Equivalent<(Arc<str>, Arc<str>)> for Named<'_> {
    fn equivalent(&self, (tenant, name): &(Arc<str>, Arc<str>)) -> bool {
        self.0 == &**tenant && self.1 == &**name
    }
}

/// What is at a path of keys.
#[derive(Clone, Copy)]
enum Asked {
    Merged,
    ByName,
    NoName,
    Own,
    Single,
    Metadata,
    /// Of an issuer whose path follows the well-known name.
    MetadataOf,
    /// Whether scripts of other origins may ask.
    Preflight,
}

/// What answers there.
struct At {
    aggregate: Aggregate,
    asked: Asked,
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

    /// The key endpoints, open to scripts of any origin, with `observer` in front of each.
    pub(crate) fn keys(&self, observer: &Arc<Observer>) -> Router {
        let at = |route, asked| {
            let aggregate = self.clone();
            observed(observer, route, At { aggregate, asked })
        };
        let mut routes = Router::new();
        for (route, asked) in [
            ("/jwks.json", Asked::Merged),
            ("/jwks/all", Asked::Merged),
            ("/.well-known/jwks.json", self.well_known()),
            ("/jwks", Asked::ByName),
            ("/jwks/", Asked::NoName),
            ("/jwks/self", Asked::Own),
            ("/jwks/{idp}", Asked::Single),
            ("/.well-known/openid-configuration", Asked::Metadata),
            ("/.well-known/openid-configuration/{*path}", Asked::MetadataOf),
            ("/.well-known/oauth-authorization-server", Asked::Metadata),
            (
                "/.well-known/oauth-authorization-server/{*path}",
                Asked::MetadataOf,
            ),
            ("/tenants/{tenant}/jwks.json", Asked::Merged),
            ("/tenants/{tenant}/jwks/all", Asked::Merged),
            ("/tenants/{tenant}/jwks", Asked::ByName),
            ("/tenants/{tenant}/jwks/", Asked::NoName),
            ("/tenants/{tenant}/jwks/{idp}", Asked::Single),
        ] {
            let methods = get_service(at(route, asked)).options_service(at(route, Asked::Preflight));
            routes = routes.route(route, methods);
        }
        let refused = wrong_method.layer(from_fn_with_state(Arc::clone(observer), observe));
        routes.method_not_allowed_fallback(refused)
    }

    /// What those who know only the host find. Whoever verifies our tokens there must not trust keys of others.
    fn well_known(&self) -> Asked {
        match (self.0.settings.well_known, &self.0.own) {
            (WellKnown::Auto, Some(_)) | (WellKnown::Own, _) => Asked::Own,
            (WellKnown::Auto, None) | (WellKnown::Merged, _) => Asked::Merged,
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
        let max_keys = idp.config().settings().max_keys;
        let single = self.prepared(Named(tenant, name), &view, keys, max_keys);
        single.body.answer(headers, Media::KeySet, &single.headers)
    }

    /// The body of one set, which is the same for as long as the set is, and what is said of it.
    fn prepared(
        &self,
        named: Named<'_>,
        view: &Arc<View>,
        keys: &Arc<KeySet>,
        max_keys: usize,
    ) -> Arc<Single> {
        let kept = self.0.singles.get(&named);
        if let Some(single) = &kept
            && Arc::ptr_eq(&single.view, view)
            && single.max_keys == max_keys
        {
            return Arc::clone(single);
        }
        let body = kept
            .filter(|single| Arc::ptr_eq(&single.keys, keys))
            .map_or_else(|| Arc::new(merged::one(keys)), |single| Arc::clone(&single.body));
        let max_age = view.advertised_max_age().as_secs();
        let updated = view.last_updated().map(|at| at.to_string());
        let updated = updated.and_then(|at| HeaderValue::try_from(at).ok());
        let headers = [
            (header::CACHE_CONTROL, Some(prepared::cache_control(max_age))),
            (prepared::KEY_COUNT, Some(keys.documents().count().into())),
            (prepared::MAX_KEYS, Some(max_keys.into())),
            (prepared::LAST_UPDATED, updated),
        ];
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let single = Arc::new(Single {
            view: Arc::clone(view),
            max_keys,
            keys: Arc::clone(keys),
            body,
            headers: headers.collect(),
        });
        let Named(tenant, name) = named;
        self.0
            .singles
            .insert((tenant.into(), name.into()), Arc::clone(&single));
        single
    }

    /// The metadata where the issuer's path follows the well-known name: a host may have other issuers at other paths.
    fn metadata_of(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let own = self.0.own.as_ref();
        let path = own.and_then(|own| metadata::path_of(own.issuer()));
        // The name is the first two segments, and the path begins with the slash after it.
        let asked = uri
            .path()
            .match_indices('/')
            .nth(2)
            .map(|(at, _)| uri.path().split_at(at).1);
        match (own, path) {
            (Some(own), Some(path)) if asked == Some(&path) => own.metadata(headers),
            _ => not_found("There is no issuer with this path."),
        }
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

impl Handler for At {
    async fn answer(&self, _: Caller, request: Request) -> Answered {
        let mut response = self.ask(request).await;
        // Public keys are for everyone, scripts of other origins included. No other endpoint says so.
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "ETag, X-Total-Keys, X-IDP-Count, X-Key-Collisions, X-Key-Count, X-Max-Keys, X-Last-Updated, X-Request-Id",
            ),
        );
        response.into()
    }
}

impl At {
    async fn ask(&self, request: Request) -> Response {
        let (mut request, _body) = request.into_parts();
        // A path whose escapes are no UTF-8 names nothing that exists.
        let Ok(names) = RawPathParams::from_request_parts(&mut request, &()).await else {
            return no_tenant();
        };
        let named = |wanted| {
            names
                .iter()
                .find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let tenant = named("tenant").unwrap_or(DEFAULT_TENANT);
        let (aggregate, headers) = (&self.aggregate, &request.headers);
        match self.asked {
            Asked::Merged => aggregate.merged(tenant, headers).await,
            Asked::ByName => aggregate.by_name(tenant, headers).await,
            Asked::NoName => no_name().await,
            Asked::Single => aggregate.single(tenant, named("idp").unwrap_or_default(), headers),
            Asked::Own => match &aggregate.0.own {
                Some(own) => own.answer(headers),
                None => not_found("No tokens are issued here, so there are no own keys."),
            },
            Asked::Metadata => match &aggregate.0.own {
                Some(own) => own.metadata(headers),
                None => not_found("No tokens are issued here, so there is no issuer."),
            },
            Asked::MetadataOf => aggregate.metadata_of(&request.uri, headers),
            Asked::Preflight => preflight(),
        }
    }
}

/// The names in a path. A path whose escapes are no UTF-8 names nothing that exists.
type Names = Result<Path<HashMap<String, String>>, PathRejection>;

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

/// The answer to a browser that asks for a script.
fn preflight() -> Response {
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
}
