//! Pages by address with validators and a delay, for what depends on more than a provider's keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokenward::{
    Clock, IdpConfig, Registry, Status, Timestamp,
    fetch::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse},
};
use tokenward_core::BoxFuture;
use tokenward_store::{Memory, Snapshots};
use tokenward_testkit::{ManualClock, TestKey, key_set};
use url::Url;

#[derive(Clone)]
struct Page {
    body: Vec<u8>,
    headers: HeaderMap,
}

#[derive(Default)]
struct Pages {
    pages: Mutex<HashMap<String, Page>>,
    delay: Mutex<Duration>,
    /// What was asked, and with which `ETag`.
    asked: Mutex<Vec<(String, Option<String>)>>,
}

struct Fetcher(Arc<Pages>, ManualClock);

impl Fetch for Fetcher {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        let url = request.url.to_string();
        self.0
            .asked
            .lock()
            .unwrap()
            .push((url.clone(), request.etag.clone()));
        let delay = *self.0.delay.lock().unwrap();
        let page = self.0.pages.lock().unwrap().get(&url).cloned();
        Box::pin(async move {
            if !delay.is_zero() {
                self.1.sleep(delay).await;
            }
            let Some(Page { body, headers }) = page else {
                return Err(FetchError::new(FetchErrorKind::Connect, "nothing is there"));
            };
            let current = headers.get("etag").map(|etag| etag.to_str().unwrap());
            let unmodified = current.is_some() && request.etag.as_deref() == current;
            Ok(FetchResponse {
                status: if unmodified { 304 } else { 200 },
                body: if unmodified { Bytes::new() } else { body.into() },
                headers,
                final_url: request.url.clone(),
            })
        })
    }
}

/// A registry that fetches from pages in memory.
pub(crate) struct Web {
    pub(crate) clock: ManualClock,
    pub(crate) registry: Registry,
    pages: Arc<Pages>,
    store: Arc<dyn Snapshots>,
}

impl Web {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        Self::at(clock, Arc::new(Memory::new()))
    }

    pub(crate) fn at(clock: ManualClock, store: Arc<dyn Snapshots>) -> Self {
        Self::begin(clock, Arc::default(), store)
    }

    fn begin(clock: ManualClock, pages: Arc<Pages>, store: Arc<dyn Snapshots>) -> Self {
        let registry = Registry::builder()
            .clock(Arc::new(clock.clone()))
            .fetcher(Arc::new(Fetcher(Arc::clone(&pages), clock.clone())))
            .random(Arc::new(|| 0.5))
            .max_concurrent_fetches(4)
            .snapshots(Arc::clone(&store))
            .build()
            .unwrap();
        Self {
            clock,
            registry,
            pages,
            store,
        }
    }

    /// Another registry with the same pages and the same store.
    pub(crate) fn beside(&self) -> Self {
        Self::begin(
            self.clock.clone(),
            Arc::clone(&self.pages),
            Arc::clone(&self.store),
        )
    }

    /// The same pages and the same store under another registry, with its snapshots read.
    pub(crate) async fn restart(self) -> Self {
        self.registry.shutdown().await;
        let next = Self::begin(self.clock, self.pages, self.store);
        next.registry.restore().await.unwrap();
        next
    }

    pub(crate) fn page(&self, url: &str, body: impl Into<Vec<u8>>, headers: &[(&'static str, &str)]) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let page = Page {
            body: body.into(),
            headers,
        };
        self.pages.pages.lock().unwrap().insert(url.to_owned(), page);
    }

    pub(crate) fn keys(&self, url: &str, keys: &[&TestKey]) {
        self.page(url, key_set(keys).to_string(), &[]);
    }

    pub(crate) fn gone(&self, url: &str) {
        self.pages.pages.lock().unwrap().remove(url);
    }

    pub(crate) fn delay(&self, delay: Duration) {
        *self.pages.delay.lock().unwrap() = delay;
    }

    pub(crate) fn asked(&self) -> Vec<(String, Option<String>)> {
        self.pages.asked.lock().unwrap().clone()
    }

    pub(crate) fn register(&self, config: IdpConfig) {
        self.registry.register(config).unwrap();
    }

    pub(crate) async fn run(&self, time: Duration) {
        self.clock.run_for(time).await;
    }

    pub(crate) fn status(&self, name: &str) -> Status {
        self.registry.idp("default", name).unwrap().status().keys
    }

    /// The address of what is stored for a provider.
    pub(crate) async fn stored(&self, name: &str) -> Option<String> {
        let snapshot = self.store.get("default", name).await.unwrap();
        snapshot.map(|snapshot| snapshot.url)
    }
}

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}
