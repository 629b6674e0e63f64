//! What it costs to keep very many sets fresh while nothing else happens: an hour by a clock that is moved on, with sets that are
//! at hand, so that all there is is choosing what is due, reading what comes, and keeping it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokenward::{
    DEFAULT_TENANT, Memory, Registry,
    fetch::{Fetch, FetchError, FetchRequest, FetchResponse},
};
use tokenward_core::BoxFuture;
use tokenward_testkit::{
    ManualClock, TestKey,
    bench::{Instant, Rows},
    key_set,
};

use crate::changes::config;

const HOUR: Duration = Duration::from_secs(3_600);
/// Of the time that passes.
const LIMIT: f64 = 0.01;

/// The same set for all, counted.
struct Counted(Bytes, AtomicUsize);

impl Fetch for Counted {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (fetches, worked) = runtime.block_on(measure(n));
    println!(
        "{n} identity providers: an idle hour takes {fetches} fetches and {:.2} s of work",
        worked.as_secs_f64()
    );
    rows.at_most(
        &format!("an idle hour of {n} providers, work to time"),
        worked.as_secs_f64() / HOUR.as_secs_f64(),
        LIMIT,
    );
}

async fn measure(n: usize) -> (usize, Duration) {
    let clock = ManualClock::default();
    let keys = [0, 1].map(TestKey::rs256);
    let fetcher = Arc::new(Counted(
        key_set(&keys.each_ref()).to_string().into(),
        AtomicUsize::new(0),
    ));
    let registry = Registry::builder()
        .clock(Arc::new(clock.clone()))
        .fetcher(Arc::clone(&fetcher) as Arc<dyn Fetch>)
        .snapshots(Arc::new(Memory::default()))
        .build()
        .unwrap();
    for idp in 0..n {
        registry.register(config(idp)).unwrap();
    }
    while registry.idps(DEFAULT_TENANT).iter().any(|idp| !idp.has_keys()) {
        clock.run_for(Duration::from_secs(1)).await;
    }
    // By the second hour they are spread as they will be.
    clock.run_for(HOUR).await;
    let before = fetcher.1.load(Ordering::Relaxed);
    let began = Instant::of_this_process();
    clock.run_for(HOUR).await;
    let worked = began.elapsed();
    let fetches = fetcher.1.load(Ordering::Relaxed) - before;
    assert!(fetches > n / 2, "{fetches} fetches are too few");
    registry.shutdown().await;
    (fetches, worked)
}
