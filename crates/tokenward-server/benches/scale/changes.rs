//! What adding and removing one provider among many costs, and what readers notice of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokenward::{
    Audiences, DEFAULT_TENANT, IdpConfig, Policy, Registry,
    fetch::{Fetch, FetchError, FetchRequest, FetchResponse},
};
use tokenward_core::BoxFuture;
use tokenward_testkit::{
    TestKey,
    bench::{Instant, Rows, median, pause, quantile},
    key_set,
};

/// Changes that are measured, half of them additions.
const CHANGES: usize = 2_000;
/// Milliseconds of the writer's processor time, at the median.
const LIMIT: f64 = 1.0;

/// Every set is the same, and at hand.
struct Instantly(Bytes);

impl Fetch for Instantly {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        let response = FetchResponse {
            status: 200,
            headers: HeaderMap::new(),
            body: self.0.clone(),
            final_url: request.url.clone(),
        };
        Box::pin(async move { Ok(response) })
    }
}

pub(crate) fn run(n: usize, rows: &mut Rows) {
    let few = measure(n / 100);
    let many = measure(n);
    for (n, measured) in [(n / 100, &few), (n, &many)] {
        println!(
            "{n} identity providers: one change takes {:.1} µs of the writer, 99 of 100 take less than {:.1} µs",
            micros(median(&measured.changes)),
            micros(quantile(&measured.changes, 0.99))
        );
        println!(
            "  a reader finds an issuer in {:.2} µs, 99.9 of 100 in {:.2} µs; while another changes: {:.2} and {:.2} µs",
            micros(median(&measured.quiet)),
            micros(quantile(&measured.quiet, 0.999)),
            micros(median(&measured.disturbed)),
            micros(quantile(&measured.disturbed, 0.999))
        );
    }
    rows.at_most(
        &format!("the writer's work to add or remove one of {n} providers, ms"),
        median(&many.changes).as_secs_f64() * 1e3,
        LIMIT,
    );
}

struct Measured {
    /// The writer's processor time for one change.
    changes: Vec<Duration>,
    /// Looking an issuer up, by the clock on the wall, while nothing changes.
    quiet: Vec<Duration>,
    /// The same while another thread changes providers all the time.
    disturbed: Vec<Duration>,
}

fn measure(n: usize) -> Measured {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let body = key_set(&[&TestKey::es256(0)]).to_string();
        let registry = Registry::builder()
            .fetcher(Arc::new(Instantly(body.into())))
            .build()
            .unwrap();
        for idp in 0..n {
            registry.register(config(idp)).unwrap();
        }
        while !registry
            .idp(DEFAULT_TENANT, &format!("idp-{}", n - 1))
            .unwrap()
            .has_keys()
        {
            pause(Duration::from_millis(50)).await;
        }
        pause(Duration::from_millis(500)).await;
        let quiet = look_up(&registry, n);
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (registry, stop) = (registry.clone(), Arc::clone(&stop));
            let reading = move || {
                let mut times = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    times.extend(look_up(&registry, n));
                }
                times
            };
            std::thread::Builder::new().spawn(reading).unwrap()
        };
        let mut changes = Vec::with_capacity(CHANGES);
        for change in 0..CHANGES / 2 {
            let config = config(n + change);
            let began = Instant::of_this_thread();
            registry.register(config).unwrap();
            changes.push(began.elapsed());
            let name = format!("idp-{}", n + change);
            let began = Instant::of_this_thread();
            registry.unregister(DEFAULT_TENANT, &name).await.unwrap();
            changes.push(began.elapsed());
        }
        stop.store(true, Ordering::Release);
        let disturbed = reader.join().unwrap();
        registry.shutdown().await;
        Measured {
            changes,
            quiet,
            disturbed,
        }
    })
}

/// Looks a thousand issuers up.
fn look_up(registry: &Registry, n: usize) -> Vec<Duration> {
    let looks = (0..1_000).map(|look| {
        let issuer = issuer(look * 7_919 % n);
        let began = Instant::now();
        let found = registry.idp_by_issuer(DEFAULT_TENANT, &issuer);
        let took = began.elapsed();
        assert!(found.is_some());
        took
    });
    looks.collect()
}

fn issuer(idp: usize) -> String {
    format!("https://login.example/tenants/{idp}")
}

pub(crate) fn config(idp: usize) -> IdpConfig {
    let policy = Policy::builder(issuer(idp), Audiences::Any).build().unwrap();
    let url = format!("https://login.example/tenants/{idp}/keys")
        .parse()
        .unwrap();
    IdpConfig::at(&format!("idp-{idp}"), url, Some(policy)).unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
