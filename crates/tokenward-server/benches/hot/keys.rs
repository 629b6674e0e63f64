//! Finding a key by issuer and key id, beside a bare map of maps that answers the same question.

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderMap;
use serde_json::json;
use tokenward::{
    Audiences, Clock as _, DEFAULT_TENANT, IdpConfig, Policy, Registry, SystemClock,
    fetch::{Fetch, FetchError, FetchRequest, FetchResponse},
};
use tokenward_core::{
    BoxFuture,
    jose::{Algorithm, Key},
};
use tokenward_testkit::{
    TestKey,
    bench::{Rows, compare, each, pause, pin},
};

use crate::scattered;

const ROUNDS: usize = 15;
const LIMIT: f64 = 1.5;

/// Every provider has two keys, under ids of its own.
struct Sets([TestKey; 2]);

impl Fetch for Sets {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        let idp = request.url.path().rsplit('/').next().unwrap_or_default();
        let keys = [0, 1].map(|place| {
            self.0[place]
                .clone()
                .with_kid(format!("{place}-{idp}-0WEaSzpUMuCPzYXsm"))
                .jwk()
        });
        let response = FetchResponse {
            status: 200,
            headers: HeaderMap::new(),
            body: json!({ "keys": keys }).to_string().into(),
            final_url: request.url.clone(),
        };
        Box::pin(async move { Ok(response) })
    }
}

pub(crate) fn run(n: usize, rows: &mut Rows) {
    measure(n / 100, rows);
    measure(n, rows);
}

fn measure(n: usize, rows: &mut Rows) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let registry = runtime.block_on(registry(n));
    pin(1);
    // A verification has it already.
    let now = SystemClock::new().steady();
    let issuers: Vec<(String, String)> = scattered(n)
        .into_iter()
        .map(|idp| (issuer(idp), format!("1-{idp}-0WEaSzpUMuCPzYXsm")))
        .collect();
    let find = |issuer: &str, kid: &str| -> Option<Arc<Key>> {
        let idp = registry.idp_by_issuer(DEFAULT_TENANT, issuer)?;
        idp.known_key(Some(kid), Algorithm::Rs256, now)
    };
    let bare: HashMap<String, HashMap<String, Arc<Key>>> = issuers
        .iter()
        .map(|(issuer, kid)| {
            let other = format!("0{}", &kid[1..]);
            let keys = [kid.clone(), other].map(|kid| {
                let key = find(issuer, &kid).unwrap();
                (kid, key)
            });
            (issuer.clone(), HashMap::from(keys))
        })
        .collect();
    let bare = ArcSwap::from_pointee(bare);
    let calls = n.max(50_000);
    let seen = compare(
        ROUNDS,
        || {
            each(calls, |call| {
                let (issuer, kid) = &issuers[call % n];
                black_box(find(black_box(issuer), kid)).unwrap();
            })
        },
        || {
            each(calls, |call| {
                let (issuer, kid) = &issuers[call % n];
                let map = bare.load();
                let key = map.get(black_box(issuer)).and_then(|keys| keys.get(kid)).cloned();
                black_box(key).unwrap();
            })
        },
    );
    println!(
        "{n} identity providers: a key {:.0} ns, bare {:.0} ns",
        seen.one, seen.other
    );
    rows.at_most(
        &format!("a key by issuer and kid among {n} providers, to a bare map"),
        seen.ratio,
        LIMIT,
    );
    runtime.block_on(registry.shutdown());
}

async fn registry(n: usize) -> Registry {
    let registry = Registry::builder()
        .fetcher(Arc::new(Sets([TestKey::rs256(0), TestKey::rs256(1)])))
        .build()
        .unwrap();
    for idp in 0..n {
        let policy = Policy::builder(issuer(idp), Audiences::Any).build().unwrap();
        let url = format!("{}/keys/{idp}", issuer(idp)).parse().unwrap();
        registry
            .register(IdpConfig::at(&format!("idp-{idp}"), url, Some(policy)).unwrap())
            .unwrap();
    }
    for idp in registry.idps(DEFAULT_TENANT) {
        while !idp.has_keys() {
            pause(Duration::from_millis(20)).await;
        }
    }
    registry
}

fn issuer(idp: usize) -> String {
    format!("https://login.example/tenants/{idp}")
}
