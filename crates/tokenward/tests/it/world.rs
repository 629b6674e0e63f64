//! Identity providers without a network, on a clock that the test moves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokenward::{
    Audiences, CallerId, Clock, Denial, IdpConfig, Policy, Registry, Settings, Snapshots, Timestamp,
    VerifiedToken, Verifier,
    fetch::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Guards},
    random::Random,
};
use tokenward_core::BoxFuture;
use tokenward_store::Memory;
use tokenward_testkit::{ManualClock, TestKey, TokenBuilder, key_set};
use url::Url;

/// How a provider answers.
#[derive(Clone)]
pub(crate) enum Site {
    Keys(Vec<u8>),
    /// The same after so long.
    Slow(Duration, Vec<u8>),
    Down,
    Hangs,
}

#[derive(Default)]
pub(crate) struct Sites {
    sites: Mutex<HashMap<String, Site>>,
    log: Mutex<Vec<(String, Timestamp)>>,
}

/// Answers from memory and remembers when it was asked.
pub(crate) struct Scripted {
    pub(crate) sites: Arc<Sites>,
    clock: ManualClock,
}

impl Fetch for Scripted {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        let name = request
            .url
            .host_str()
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .to_owned();
        self.sites
            .log
            .lock()
            .unwrap()
            .push((name.clone(), self.clock.steady()));
        let site = self
            .sites
            .sites
            .lock()
            .unwrap()
            .get(&name)
            .cloned()
            .unwrap_or(Site::Down);
        Box::pin(async move {
            match site {
                Site::Keys(body) => Ok(answer(request, body)),
                Site::Slow(time, body) => {
                    self.clock.sleep(time).await;
                    Ok(answer(request, body))
                }
                Site::Down => Err(FetchError::new(FetchErrorKind::Connect, "down")),
                Site::Hangs => {
                    // An attempt's own limit is the fetcher's business, so it is kept here too.
                    self.clock.sleep(request.guards.retry.attempt).await;
                    Err(FetchError::new(FetchErrorKind::Timeout, "hangs"))
                }
            }
        })
    }
}

fn answer(request: &FetchRequest, body: Vec<u8>) -> FetchResponse {
    FetchResponse {
        status: 200,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
        final_url: request.url.clone(),
    }
}

/// A registry and a verifier over scripted providers.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) sites: Arc<Sites>,
    pub(crate) registry: Registry,
    pub(crate) verifier: Verifier,
    pub(crate) store: Arc<Memory>,
}

pub(crate) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const CALLER: CallerId = CallerId::new(1);
pub(crate) const OTHER: CallerId = CallerId::new(2);

impl World {
    pub(crate) fn new() -> Self {
        Self::with(START, Arc::default(), Arc::new(Memory::new()))
    }

    pub(crate) fn with(start: Timestamp, sites: Arc<Sites>, store: Arc<Memory>) -> Self {
        let snapshots = Some(Arc::clone(&store) as _);
        Self::build(start, sites, store, snapshots, Arc::new(|| 0.5))
    }

    /// Draws its jitter from `random`.
    pub(crate) fn with_random(random: Arc<dyn Random>) -> Self {
        Self::build(START, Arc::default(), Arc::default(), None, random)
    }

    /// Keeps its key sets there, or nowhere.
    pub(crate) fn with_snapshots(snapshots: Option<Arc<dyn Snapshots>>) -> Self {
        Self::build(START, Arc::default(), Arc::default(), snapshots, Arc::new(|| 0.5))
    }

    fn build(
        start: Timestamp,
        sites: Arc<Sites>,
        store: Arc<Memory>,
        snapshots: Option<Arc<dyn Snapshots>>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self::at(ManualClock::new(start), sites, store, snapshots, random)
    }

    /// One of several that have the clock, the providers and the store in common.
    pub(crate) fn replica(
        clock: &ManualClock,
        sites: &Arc<Sites>,
        snapshots: Arc<dyn Snapshots>,
        unit: f64,
    ) -> Self {
        let random = Arc::new(move || unit);
        Self::at(
            clock.clone(),
            Arc::clone(sites),
            Arc::default(),
            Some(snapshots),
            random,
        )
    }

    fn at(
        clock: ManualClock,
        sites: Arc<Sites>,
        store: Arc<Memory>,
        snapshots: Option<Arc<dyn Snapshots>>,
        random: Arc<dyn Random>,
    ) -> Self {
        let fetcher = Scripted {
            sites: Arc::clone(&sites),
            clock: clock.clone(),
        };
        let mut builder = Registry::builder()
            .clock(Arc::new(clock.clone()))
            .fetcher(Arc::new(fetcher))
            .random(random);
        if let Some(snapshots) = snapshots {
            builder = builder.snapshots(snapshots);
        }
        let registry = builder.build().unwrap();
        Self {
            clock,
            sites,
            verifier: Verifier::new(registry.clone()),
            registry,
            store,
        }
    }

    pub(crate) fn serve(&self, name: &str, keys: &[&TestKey]) {
        self.set(name, Site::Keys(key_set(keys).to_string().into_bytes()));
    }

    pub(crate) fn set(&self, name: &str, site: Site) {
        self.sites.sites.lock().unwrap().insert(name.to_owned(), site);
    }

    pub(crate) async fn add(&self, name: &str) {
        self.add_with(name, Settings::default()).await;
    }

    pub(crate) async fn add_with(&self, name: &str, settings: Settings) {
        self.register(name, settings);
        self.clock.run_for(Duration::from_millis(1)).await;
    }

    /// Registers it and lets nothing happen yet.
    pub(crate) fn register(&self, name: &str, settings: Settings) {
        self.register_with(name, settings, Guards::default());
    }

    pub(crate) fn register_with(&self, name: &str, settings: Settings, guards: Guards) {
        let policy = Policy::builder(issuer(name), Audiences::OneOf(vec!["api".to_owned()]))
            .build()
            .unwrap();
        let url = Url::parse(&format!("https://{name}.example/jwks")).unwrap();
        let config = IdpConfig::at(name, url, Some(policy))
            .unwrap()
            .with_settings(settings)
            .unwrap()
            .with_guards(guards)
            .unwrap();
        self.registry.register(config).unwrap();
    }

    /// When each provider was asked.
    pub(crate) fn asked_all(&self) -> HashMap<String, Vec<Timestamp>> {
        let mut all: HashMap<String, Vec<Timestamp>> = HashMap::new();
        for (name, at) in self.sites.log.lock().unwrap().iter() {
            all.entry(name.clone()).or_default().push(*at);
        }
        all
    }

    /// When the provider was asked.
    pub(crate) fn asked(&self, name: &str) -> Vec<Timestamp> {
        let log = self.sites.log.lock().unwrap();
        log.iter()
            .filter(|(asked, _)| asked == name)
            .map(|(_, at)| *at)
            .collect()
    }

    pub(crate) fn token(&self, name: &str, key: &TestKey) -> String {
        self.builder(name).sign(key)
    }

    pub(crate) fn builder(&self, name: &str) -> TokenBuilder {
        TokenBuilder::new(self.clock.wall())
            .issuer(&issuer(name))
            .audience("api")
            .subject("sub")
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<VerifiedToken>, Denial> {
        self.verify_as(token, CALLER).await
    }

    /// Verifies while time goes on, so that what waits can end.
    pub(crate) async fn verify_as(
        &self,
        token: &str,
        caller: CallerId,
    ) -> Result<Arc<VerifiedToken>, Denial> {
        self.going_on(self.verifier.verify("default", token, caller))
            .await
    }

    /// What `future` comes to while time goes on, so that what it waits for can end.
    pub(crate) async fn going_on<T>(&self, future: impl Future<Output = T>) -> T {
        let going_on = async {
            loop {
                self.clock.run_for(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            biased;
            outcome = future => outcome,
            () = going_on => unreachable!(),
        }
    }
}

pub(crate) fn issuer(name: &str) -> String {
    format!("https://{name}.example/")
}
