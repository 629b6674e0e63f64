//! Identity providers without a network, on a clock that the test moves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokenward::{
    Audiences, CallerId, Clock, Denial, IdpConfig, Policy, Registry, Settings, Timestamp, VerifiedToken,
    Verifier,
    fetch::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Guards},
};
use tokenward_core::BoxFuture;
use tokenward_store::Memory;
use tokenward_testkit::{ManualClock, TestKey, TokenBuilder, key_set};
use url::Url;

/// How a provider answers.
#[derive(Clone)]
pub(crate) enum Site {
    Keys(Vec<u8>),
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
                Site::Keys(body) => Ok(FetchResponse {
                    status: 200,
                    headers: HeaderMap::new(),
                    body: Bytes::from(body),
                    final_url: request.url.clone(),
                }),
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

/// A registry and a verifier over scripted providers.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) sites: Arc<Sites>,
    pub(crate) registry: Registry,
    pub(crate) verifier: Verifier,
    pub(crate) store: Arc<Memory>,
}

pub(crate) const CALLER: CallerId = CallerId::new(1);
pub(crate) const OTHER: CallerId = CallerId::new(2);

impl World {
    pub(crate) fn new() -> Self {
        Self::with(
            Timestamp::from_secs(1_800_000_000),
            Arc::default(),
            Arc::new(Memory::new()),
        )
    }

    pub(crate) fn with(start: Timestamp, sites: Arc<Sites>, store: Arc<Memory>) -> Self {
        let clock = ManualClock::new(start);
        let fetcher = Scripted {
            sites: Arc::clone(&sites),
            clock: clock.clone(),
        };
        let registry = Registry::builder()
            .clock(Arc::new(clock.clone()))
            .fetcher(Arc::new(fetcher))
            .random(Arc::new(|| 0.5))
            .snapshots(Arc::clone(&store) as _)
            .build()
            .unwrap();
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
        let policy = Policy::builder(issuer(name), Audiences::OneOf(vec!["api".to_owned()]))
            .build()
            .unwrap();
        let url = Url::parse(&format!("https://{name}.example/jwks")).unwrap();
        let config = IdpConfig::at(name, url, Some(policy))
            .unwrap()
            .with_settings(settings)
            .unwrap()
            .with_guards(Guards::default())
            .unwrap();
        self.registry.register(config).unwrap();
        self.clock.run_for(Duration::from_millis(1)).await;
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
        let verifying = self.verifier.verify("default", token, caller);
        let going_on = async {
            loop {
                self.clock.run_for(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            biased;
            outcome = verifying => outcome,
            () = going_on => unreachable!(),
        }
    }
}

pub(crate) fn issuer(name: &str) -> String {
    format!("https://{name}.example/")
}
