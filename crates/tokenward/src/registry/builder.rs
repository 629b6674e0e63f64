//! A registry, put together.

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use tokenward_core::Clock;
use tokenward_store::Snapshots;
use tokio::sync::{broadcast, watch};

use super::{
    DEFAULT_MAX_CONCURRENT_FETCHES, EVENT_BUFFER, Inner, Registry,
    driver::{Driver, Inbox},
    health::Tally,
    keep::Turns,
    lock,
    shards::Index,
    sharing::Silence,
    tenants::Tenants,
};
use crate::{
    clock::SystemClock,
    error::Error,
    fetch::{Fetch, HttpFetcher},
    random::Random,
    telemetry::Series,
};

/// Builds a [`Registry`].
#[derive(Default)]
pub struct RegistryBuilder {
    clock: Option<Arc<dyn Clock>>,
    fetcher: Option<Arc<dyn Fetch>>,
    random: Option<Arc<dyn Random>>,
    snapshots: Option<Arc<dyn Snapshots>>,
    max_concurrent_fetches: Option<usize>,
}

impl RegistryBuilder {
    /// Where time comes from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How key sets and discovery documents are fetched; by [`HttpFetcher`] by default.
    #[must_use]
    pub fn fetcher(mut self, fetcher: Arc<dyn Fetch>) -> Self {
        self.fetcher = Some(fetcher);
        self
    }

    /// Where the jitter comes from; the system's randomness by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = Some(random);
        self
    }

    /// Where good key sets are kept over a restart; nowhere by default.
    #[must_use]
    pub fn snapshots(mut self, snapshots: Arc<dyn Snapshots>) -> Self {
        self.snapshots = Some(snapshots);
        self
    }

    /// How many scheduled fetches may be in the air at once, at least 4; 128 by default. Providers whose last
    /// attempt failed share at most a quarter. A fetch that takes longer than a fifth of a second makes room for another;
    /// of those there are at most three times as many. Fetches that a caller waits for have as many places again.
    #[must_use]
    pub fn max_concurrent_fetches(mut self, max: usize) -> Self {
        self.max_concurrent_fetches = Some(max.max(4));
        self
    }

    /// Starts the registry's task on the current Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidConfig`] where there is no runtime, or the platform's trust anchors cannot be read.
    pub fn build(self) -> Result<Registry, Error> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::invalid("a registry needs a Tokio runtime").caused_by(error))?;
        let clock: Arc<dyn Clock> = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let fetcher = match self.fetcher {
            Some(fetcher) => fetcher,
            None => Arc::new(HttpFetcher::new(Arc::clone(&clock)).map_err(|error| {
                Error::invalid("the HTTP client for key sets could not be set up").caused_by(error)
            })?),
        };
        let (stop, stopped) = watch::channel(false);
        let inner = Arc::new(Inner {
            clock,
            fetcher,
            random: self.random.unwrap_or_else(crate::random::system),
            snapshots: self.snapshots,
            by_name: Index::by(|idp| Some(idp.name())),
            by_issuer: Index::by(|idp| idp.issuer.as_deref()),
            tenants: Tenants::default(),
            tally: Tally::default(),
            writer: Mutex::default(),
            turns: Turns::default(),
            silence: Silence::default(),
            inbox: Inbox::default(),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_BUFFER),
            series: Series::default(),
            stop,
            driver: Mutex::default(),
            runtime: runtime.clone(),
        });
        let driver = Driver::new(
            Arc::clone(&inner),
            self.max_concurrent_fetches
                .unwrap_or(DEFAULT_MAX_CONCURRENT_FETCHES),
        );
        let task = runtime.spawn(driver.run(stopped));
        *lock(&inner.driver) = Some(task);
        Ok(Registry { inner })
    }
}
