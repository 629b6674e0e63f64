//! The identity providers of this process, and the keys they have.

mod builder;
mod driver;
mod flight;
mod health;
mod idp;
mod keep;
mod kept;
mod places;
mod search;
mod shards;
mod sharing;
mod source;
mod status;
mod tenants;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokenward_core::Clock;
use tokenward_store::Snapshots;
use tokio::{
    runtime::Handle,
    sync::{broadcast, watch},
    task::JoinHandle,
};

pub use self::{
    builder::RegistryBuilder,
    health::Health,
    idp::Idp,
    status::{IdpDetails, IdpStatus},
};
use self::{
    driver::Inbox,
    health::Tally,
    keep::Turns,
    kept::Kept,
    shards::Index,
    sharing::Silence,
    tenants::{Generation, Tenant, Tenants, UNARRANGED},
};
pub(crate) use self::{
    idp::IdpKeys,
    search::{NotFound, Seen},
    source::Source,
};
use crate::{
    config::{IdpConfig, Keys, Parts},
    error::{Error, ErrorKind},
    events::Event,
    fetch::Fetch,
    random::Random,
    telemetry::{self, Series},
};

/// How many fetches may be in the air at once by default.
pub const DEFAULT_MAX_CONCURRENT_FETCHES: usize = 128;

/// Events that a slow subscriber may lag behind before it misses some.
const EVENT_BUFFER: usize = 1_024;

/// The identity providers of this process. Cheap to clone; all clones are the same registry.
///
/// One task fetches for all of them. It ends with [`Registry::shutdown`], or when the runtime does.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    fetcher: Arc<dyn Fetch>,
    random: Arc<dyn Random>,
    snapshots: Option<Arc<dyn Snapshots>>,
    by_name: Index,
    by_issuer: Index,
    tenants: Tenants,
    tally: Tally,
    /// Serialises those who change the indexes. Readers never take it.
    writer: Mutex<Writer>,
    turns: Turns,
    silence: Silence,
    inbox: Inbox,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    series: Series,
    stop: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
    runtime: Handle,
}

struct Writer {
    /// Of the next registration; also the place of one that has none yet.
    next_id: u64,
    parts: Parts,
    /// Snapshots that were read at start and wait for their identity provider to be registered.
    restored: HashMap<(String, String), Kept>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            next_id: UNARRANGED,
            parts: Parts::default(),
            restored: HashMap::new(),
        }
    }
}

impl Writer {
    fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// What [`Registry::apply`] changes, all of it or nothing.
#[derive(Debug, Default)]
pub struct Changes {
    /// Identity providers to register or to change, as by [`Registry::register`].
    pub register: Vec<IdpConfig>,
    /// Tenant and name of those to remove. One that is not there is none.
    pub unregister: Vec<(String, String)>,
}

impl Registry {
    /// A builder with the defaults.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Registers an identity provider, or changes the one of the same tenant and name. Its keys are fetched
    /// at once, unless a restored snapshot says when they are due.
    ///
    /// A change keeps the keys where issuer, URL, `strict_jwks_origin`, pins and allowed domains stay the same. Tokens
    /// that were verified under the earlier settings are verified anew. Registering the same settings again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] where another identity provider of the tenant has the issuer already.
    pub fn register(&self, config: IdpConfig) -> Result<Arc<Idp>, Error> {
        let (tenant, name) = (config.shared_tenant(), config.shared_name());
        let mut writer = lock(&self.inner.writer);
        let config = vec![config];
        self.inner.admissible(&config, &HashSet::new())?;
        let replaced = self.inner.put(&mut writer, config);
        let registered = self.existing(&tenant, &name);
        drop(writer);
        self.inner.wake_retired(replaced.iter());
        registered
    }

    /// Removes an identity provider, its keys and its snapshot.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Store`] where the snapshot could not be removed; the provider
    /// is gone from the registry all the same.
    pub async fn unregister(&self, tenant: &str, name: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let old = {
            let _writer = lock(&inner.writer);
            let old = self.existing(tenant, name)?;
            inner.take(std::slice::from_ref(&old));
            old
        };
        inner.wake_retired(std::iter::once(&old));
        inner.keep(tenant, name).await.map_err(store_error)
    }

    /// Registers, changes and removes many identity providers in one step. What counts is how they stand
    /// afterwards: an issuer may go from one to another. Whoever asks meanwhile finds every one of them that was
    /// there before and is there afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] where two of a tenant would have one name or one issuer: nothing is changed
    /// then. [`ErrorKind::Store`] where a snapshot could not be removed: everything is changed all the same.
    pub async fn apply(&self, changes: Changes) -> Result<(), Error> {
        let inner = &self.inner;
        let gone: HashSet<(&str, &str)> = changes
            .unregister
            .iter()
            .map(|(tenant, name)| (tenant.as_str(), name.as_str()))
            .collect();
        let (replaced, removed) = {
            let mut writer = lock(&inner.writer);
            inner.admissible(&changes.register, &gone)?;
            // What comes is there before what goes is gone, and an issuer has its new provider before it loses
            // the old one.
            let replaced = inner.put(&mut writer, changes.register);
            let removed: Vec<_> = gone
                .iter()
                .filter_map(|(tenant, name)| inner.by_name.get(tenant, name))
                .collect();
            inner.take(&removed);
            (replaced, removed)
        };
        inner.wake_retired(replaced.iter().chain(&removed));
        inner
            .keep_all(removed.iter().map(|idp| idp.shared_name()).collect())
            .await
    }

    /// Has the identity providers of `tenant` with these names stand before all others, in this order. Those that
    /// an earlier call named and this one does not go to the end.
    pub fn arrange<'a>(&self, tenant: &str, names: impl Iterator<Item = &'a str>) {
        let mut writer = lock(&self.inner.writer);
        if let Some(tenant) = self.inner.tenants.get(tenant)
            && tenant.arrange(names, || writer.next_id())
        {
            self.inner.note_change(tenant.generation());
        }
    }

    /// Fetches the keys of an identity provider now, fresh or not, or waits for the fetch that is in the air.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Fetch`] with the reason where the fetch failed.
    pub async fn refresh(&self, tenant: &str, name: &str) -> Result<(), Error> {
        match &self.existing(tenant, name)?.keys {
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => Ok(()),
            IdpKeys::Fetched(source) => source.refresh(&self.inner).await,
        }
    }

    /// Drops the keys of an identity provider at once and fetches them anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Store`] where the snapshot could not be removed.
    pub async fn purge(&self, tenant: &str, name: &str) -> Result<(), Error> {
        let idp = self.existing(tenant, name)?;
        if let IdpKeys::Fetched(source) = &idp.keys {
            source.purge(&self.inner);
            self.inner.keep(tenant, name).await.map_err(store_error)?;
        }
        Ok(())
    }

    /// The identity provider `name` of `tenant`.
    #[must_use]
    pub fn idp(&self, tenant: &str, name: &str) -> Option<Arc<Idp>> {
        self.inner.by_name.get(tenant, name)
    }

    /// The identity provider of `tenant` whose tokens carry exactly this issuer.
    #[must_use]
    pub fn idp_by_issuer(&self, tenant: &str, issuer: &str) -> Option<Arc<Idp>> {
        self.inner.by_issuer.get(tenant, issuer)
    }

    /// The identity providers of `tenant` in the order of their first registration, unless
    /// [`Registry::arrange`] says otherwise.
    #[must_use]
    pub fn idps(&self, tenant: &str) -> Vec<Arc<Idp>> {
        self.inner
            .tenants
            .get(tenant)
            .map_or_else(Vec::new, |tenant| tenant.all())
    }

    /// At most `limit` identity providers of `tenant` in the order of their names, from the first whose name comes
    /// after `after`.
    #[must_use]
    pub fn idps_after(&self, tenant: &str, after: Option<&str>, limit: usize) -> Vec<Arc<Idp>> {
        self.inner
            .tenants
            .get(tenant)
            .map_or_else(Vec::new, |tenant| tenant.page(after, limit))
    }

    /// How many identity providers `tenant` has.
    #[must_use]
    pub fn count(&self, tenant: &str) -> usize {
        self.inner.tenants.get(tenant).map_or(0, |tenant| tenant.len())
    }

    /// The tenants that have identity providers, in no order.
    #[must_use]
    pub fn tenants(&self) -> Vec<Arc<str>> {
        self.inner.tenants.names()
    }

    /// How many identity providers are not as they should be.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.tally.read()
    }

    /// A number that moves whenever the keys or the settings of any identity provider change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// A number that moves whenever the keys or the settings of an identity provider of `tenant` change. None where
    /// the tenant has none.
    #[must_use]
    pub fn tenant_generation(&self, tenant: &str) -> Option<u64> {
        let tenant = self.inner.tenants.get(tenant)?;
        Some(tenant.generation().load(Ordering::Acquire))
    }

    /// Follows [`Registry::generation`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// What happens to key sets from now on. A subscriber that lags more than 1,024 events behind misses some.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Reads all snapshots; each serves the identity provider that is registered under its name afterwards,
    /// where [`Registry::register`] would have kept the keys. Returns how many were read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`]. Registration works all the same, with no keys to begin with.
    pub async fn restore(&self) -> Result<usize, Error> {
        let Some(snapshots) = &self.inner.snapshots else {
            return Ok(0);
        };
        let all = snapshots.load_all().await.map_err(store_error)?;
        let count = all.len();
        let kept = kept::read_all(all, &self.inner.runtime).await;
        lock(&self.inner.writer).restored = kept;
        Ok(count)
    }

    /// Removes the snapshots that no identity provider was registered for since [`Registry::restore`]. Those of a store
    /// that others have too may be theirs, and stay.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] with the first failure; the others are removed all the same.
    pub async fn discard_unclaimed(&self) -> Result<(), Error> {
        let unclaimed = std::mem::take(&mut lock(&self.inner.writer).restored);
        if self.inner.shared_store().is_some() {
            return Ok(());
        }
        let names = unclaimed
            .into_keys()
            .map(|(tenant, name)| (tenant.into(), name.into()));
        self.inner.keep_all(names.collect()).await
    }

    /// Writes the snapshots that are not stored yet: they are written as the sets change, but that may have failed or
    /// been cut short.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] with the first failure; the others are written all the same.
    pub async fn persist_all(&self) -> Result<(), Error> {
        let idps = self.inner.by_name.all();
        let unsaved = idps.iter().filter(|idp| match &idp.keys {
            IdpKeys::Fetched(source) => source.unsaved.load(Ordering::Acquire),
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => false,
        });
        let names = unsaved.map(|idp| idp.shared_name()).collect();
        self.inner.keep_all(names).await
    }

    /// The clock that everything here is driven by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// Ends the registry's task, once the snapshots that it is writing are written or have had their 10 s. What it
    /// holds can still be read, but is not refreshed any more.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        let task = lock(&self.inner.driver).take();
        if let Some(task) = task {
            // It can only have ended by our stop or by its runtime's end.
            let _ = task.await;
        }
    }

    pub(crate) fn clock_ref(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    fn existing(&self, tenant: &str, name: &str) -> Result<Arc<Idp>, Error> {
        self.idp(tenant, name)
            .ok_or_else(|| Error::not_found(tenant, name))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Whether all of `configs` can be registered, and those of `gone` removed, with one name and one issuer for
    /// each of a tenant afterwards.
    fn admissible(&self, configs: &[IdpConfig], gone: &HashSet<(&str, &str)>) -> Result<(), Error> {
        let mut names = HashSet::new();
        for config in configs {
            let key = (config.tenant(), config.name());
            if !names.insert(key) || gone.contains(&key) {
                return Err(Error::invalid(format!(
                    "`{}` of tenant `{}` is named twice",
                    key.1, key.0
                )));
            }
        }
        let mut issuers = HashMap::new();
        for config in configs {
            let Some(policy) = config.policy() else { continue };
            let (tenant, name) = (config.tenant(), config.name());
            let taken = |other: &str| {
                Error::invalid(format!(
                    "issuer of `{name}`: `{other}` of tenant `{tenant}` has the same; an issuer names one identity \
                     provider"
                ))
            };
            if let Some(other) = issuers.insert((tenant, policy.issuer()), name) {
                return Err(taken(other));
            }
            if let Some(other) = self.by_issuer.get(tenant, policy.issuer())
                && other.name() != name
                && !names.contains(&(tenant, other.name()))
                && !gone.contains(&(tenant, other.name()))
            {
                return Err(taken(other.name()));
            }
        }
        Ok(())
    }

    /// Registers `configs` as one change, and gives the registrations that they replace. The caller holds the writer and
    /// has looked whether they are admissible.
    fn put(&self, writer: &mut Writer, configs: Vec<IdpConfig>) -> Vec<Arc<Idp>> {
        let mut tenants = HashMap::new();
        let (mut made, mut replaced) = (Vec::with_capacity(configs.len()), Vec::new());
        for mut config in configs {
            config.share(&mut writer.parts);
            let old = self.by_name.get(config.tenant(), config.name());
            if old.as_ref().is_some_and(|old| *old.config == config) {
                continue;
            }
            let tenant = tenants
                .entry(config.shared_tenant())
                .or_insert_with_key(|tenant| self.tenants.open(tenant));
            made.push(self.make(writer, config, tenant, old.as_deref()));
            replaced.extend(old);
        }
        // A new one is found before the old one counts no more, so that nobody finds none.
        self.by_issuer.insert(made.iter());
        self.by_name.insert(made.iter());
        self.by_issuer.remove(replaced.iter());
        for old in &replaced {
            old.retire(self, self.by_name.get(old.tenant(), old.name()).as_deref());
        }
        for idp in &made {
            // What is verified here and shown by whoever gave the keys is none of those that are listed.
            if let Some(tenant) = tenants.get(idp.tenant())
                && !matches!(idp.keys, IdpKeys::Given(_))
            {
                tenant.insert(idp);
            }
        }
        for tenant in tenants.values() {
            self.note_change(tenant.generation());
        }
        self.inbox.poke_all(made.iter().filter_map(|idp| idp.source()));
        replaced
    }

    /// A registration that is to stand in place of `old`.
    fn make(&self, writer: &mut Writer, config: IdpConfig, tenant: &Tenant, old: Option<&Idp>) -> Arc<Idp> {
        let id = writer.next_id();
        let config = Arc::new(config);
        let keys = match config.keys() {
            Keys::Secret(key) => IdpKeys::Fixed(Arc::clone(key)),
            Keys::Given(keys) => IdpKeys::Given(Arc::clone(keys)),
            Keys::Url(_) | Keys::Discovered(_) => {
                let same = old.filter(|old| old.config.same_source(&config));
                IdpKeys::Fetched(match same.and_then(Idp::source) {
                    Some(source) => {
                        source.reconfigure(self, &config);
                        Arc::clone(source)
                    }
                    None => {
                        let kept = writer
                            .restored
                            .remove(&(config.tenant().to_owned(), config.name().to_owned()))
                            .filter(|kept| kept.config_hash == config.source_hash());
                        let generation = Arc::clone(tenant.generation());
                        Arc::new(Source::new(id, Arc::clone(&config), generation, self, kept))
                    }
                })
            }
        };
        Arc::new(Idp {
            tenant: config.shared_tenant(),
            issuer: config.policy().map(|policy| policy.shared_issuer()),
            config,
            place: AtomicU64::new(old.map_or(id, Idp::place)),
            retired: AtomicBool::new(false),
            clock: Arc::clone(&self.clock),
            keys,
        })
    }

    /// Removes registrations. The caller holds the writer.
    fn take(&self, gone: &[Arc<Idp>]) {
        self.by_issuer.remove(gone.iter());
        self.by_name.remove(gone.iter());
        let mut tenants = HashMap::new();
        for old in gone {
            old.retire(self, None);
            if let Some(tenant) = self.tenants.get(old.tenant()) {
                tenant.remove(old);
                tenants.insert(old.tenant(), tenant);
            }
        }
        for (name, tenant) in tenants {
            self.note_change(tenant.generation());
            self.tenants.close(name);
        }
    }

    /// Something of the tenant with this generation changed.
    fn note_change(&self, tenant: &Generation) {
        let now = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        // Numbers of the whole registry, so that a tenant that comes again does not count from the start.
        tenant.fetch_max(now, Ordering::AcqRel);
        self.changed.send_replace(now);
    }

    /// Lets the driver forget the sources of registrations that nothing refers to any more.
    fn wake_retired<'a>(&self, old: impl Iterator<Item = &'a Arc<Idp>>) {
        let sources = old.filter_map(|idp| idp.source());
        self.inbox.poke_all(sources.filter(|source| source.is_retired()));
    }
}

fn store_error(error: tokenward_store::StoreError) -> Error {
    telemetry::snapshot_error();
    Error::new(ErrorKind::Store, "the snapshot store failed").caused_by(error)
}

/// What a panicking holder left behind is still whole: every change under these locks is a single step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
