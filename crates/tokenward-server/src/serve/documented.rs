//! The OpenAPI document and the routers say the same.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Router, body::Body};
use http::{Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

/// Every path that is mounted on `router`, which has no other way to tell.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let found = text.split("RouteId(").filter_map(|rest| {
        let (number, rest) = rest.split_once("): \"")?;
        number.parse::<u32>().ok()?;
        Some(rest.split('"').next()?.to_owned())
    });
    // Where a name is missing there is a 400, and nothing to document; and the fallback is everything else. The rest of a path
    // is one parameter in the document.
    found
        .filter(|path| !path.ends_with('/') && !path.contains("axum_fallback"))
        .map(|path| path.replace("{*", "{"))
        .collect()
}

/// The methods that `router` answers at `path`; `get` stands for a path that answers every one.
async fn methods(router: &Router, path: &str) -> BTreeSet<String> {
    let concrete = path.replace(['{', '}'], "");
    let request = Request::builder()
        .method("BREW")
        .uri(concrete)
        .body(Body::empty())
        .unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    if path.starts_with("/authorize/") {
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        return BTreeSet::from(["get".to_owned()]);
    }
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    let allow = answer.headers()[header::ALLOW].to_str().unwrap().to_lowercase();
    let methods = allow.split(',').map(|method| method.trim().to_owned());
    // GET stands for HEAD, and a preflight is the browser's affair.
    methods
        .filter(|method| method != "head" && method != "options")
        .collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let config = Arc::new(crate::config::tests::read("server: { metrics_on_public: true }").unwrap());
    let registry = tokenward::Registry::builder().build().unwrap();
    let (_phase, phases) = watch::channel(Phase::Serving);
    let clock = registry.clock();
    let ledger: Arc<dyn tokenward_store::Ledger> = Arc::new(tokenward_store::Memory::new());
    let (audit, _) = Audit::new(Arc::clone(&ledger), Arc::clone(&clock));
    let mut tasks = JoinSet::new();
    let settings = config::token_service_of_dev("http://127.0.0.1").unwrap();
    let revocations = Revocations::load(Arc::clone(&ledger), Arc::clone(&clock))
        .await
        .unwrap();
    let world = tokens::World {
        registry: &registry,
        ledger: Arc::clone(&ledger),
        revocations: revocations.clone(),
        clock: Arc::clone(&clock),
        shared: false,
        drain: draining(phases.clone()),
        connections: 100,
    };
    let service = tokens::start(&settings, config.merged.max_age, true, world, &mut tasks)
        .await
        .unwrap();
    let fleet = Fleet::start(
        registry.clone(),
        ledger,
        Arc::clone(&clock),
        Arc::clone(&config),
        &mut tasks,
    )
    .await
    .unwrap();
    let reloads = Arc::new(ArcSwap::from_pointee(ReloadStatus::started(clock.wall())));
    let access = Access::new([], Arc::default(), clock);
    let site = Site::new(Parts {
        lasting: Lasting {
            registry: registry.clone(),
            verifier: Verifier::new(registry.clone()),
            revocations,
            fleet,
            audit: audit.clone(),
            reloads,
            signer: Some(service.signer().clone()),
            drain: draining(phases.clone()),
            streams: Streams::default(),
        },
        guard: Guard::new(access, audit, Reach::Loopback),
        failures: Arc::default(),
        used: Arc::default(),
        used_by_tokens: Arc::default(),
        proofs: tokenward::Dpop::allowed(),
        service: Some(service),
        generated: None,
        readiness: Readiness::new(registry.clone(), phases, None, None),
        cluster: None,
        exporter: Exporter::new(telemetry::Recorder::default(), registry.clone()),
    });
    let routes = site.routes(&config);
    let mut mounted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for router in [routes.public, routes.admin] {
        let paths = paths(&router);
        assert!(paths.len() > 10, "{router:?}");
        for path in paths {
            let methods = methods(&router, &path).await;
            // What takes the rest of a path is a parameter like others there.
            mounted
                .entry(path.replace("{*", "{"))
                .or_default()
                .extend(methods);
        }
    }
    let document: Value = serde_json::from_str(&crate::admin::openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let documented = document["paths"].as_object().unwrap().iter().map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().cloned().collect();
        (path.clone(), methods)
    });
    assert_eq!(mounted, documented.collect());

    // Whatever is referred to is there, and ids are unique.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
    let operations = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = operations
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}
