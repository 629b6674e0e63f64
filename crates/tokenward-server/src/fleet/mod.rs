//! Which identity providers run: those of the configuration, and those that were added at run time.
//!
//! One task changes them, one change at a time, so that a caller that goes away leaves nothing half done. Whoever
//! only reads asks the registry.

mod plan;
mod stored;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use tokenward::Registry;
use tokenward_core::Clock;
use tokenward_store::{Ledger, PutIdp, StoreError, StoredIdp};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, spawn_blocking},
};

pub(crate) use self::plan::Changed;
use self::{plan::Plan, stored::Newer};
use crate::config::{Config, Form, Problem};

/// Changes that wait for those before them; whoever asks for one more waits to ask.
const WAITING: usize = 64;

/// The identity providers of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet {
    known: Arc<RwLock<Known>>,
    asked: mpsc::Sender<Ask>,
}

/// Tenant and name.
type Name = (Arc<str>, Arc<str>);

/// Where the identity providers come from.
#[derive(Default)]
struct Known {
    /// Those of the configuration.
    file: HashSet<Name>,
    /// Those that were added at run time.
    stored: HashMap<Name, Stored>,
    /// Of the next one that is added.
    next: u64,
}

struct Stored {
    /// Where it stands among those that were added.
    order: u64,
    document: Arc<str>,
    /// Whether it is registered: not where the configuration has its name or its issuer, nor where its document has
    /// become invalid.
    running: bool,
}

enum Ask {
    Put(Name, Vec<u8>, oneshot::Sender<Result<Put, FleetError>>),
    Remove(Name, oneshot::Sender<Result<bool, FleetError>>),
    Reload(Arc<Config>, oneshot::Sender<Result<Changed, FleetError>>),
    Stored(oneshot::Sender<Result<(), FleetError>>),
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Created,
    Replaced,
}

/// Why an identity provider cannot be added, changed or removed. Nothing is changed then.
#[derive(Debug)]
pub(crate) enum FleetError {
    /// The document is not valid, or the configuration that was to be taken over is not.
    Invalid(Vec<Problem>),
    /// There are as many as `max_dynamic_idps` allows.
    Full {
        /// The limit.
        max: usize,
    },
    /// The configuration has the identity provider, so it is changed there.
    Configured,
    /// Another one of the tenant has the issuer.
    IssuerTaken,
    /// The store failed.
    Store(StoreError),
    /// The server is about to end.
    Closed,
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => write!(f, "{} members are not valid", problems.len()),
            Self::Full { max } => write!(f, "there are {max} already, as many as `max_dynamic_idps` allows"),
            Self::Configured => f.write_str("the configuration has the identity provider"),
            Self::IssuerTaken => f.write_str("another identity provider of the tenant has the issuer"),
            Self::Store(error) => write!(f, "the store failed: {error}"),
            Self::Closed => f.write_str("the server is about to end"),
        }
    }
}

impl Fleet {
    /// Registers the identity providers of `config`, and the stored ones, with the key sets that the store holds, and has
    /// a task of `tasks` change them from then on. Snapshots that nothing uses any more are removed. Key sets that cannot be
    /// read are no error: they are fetched then.
    ///
    /// # Errors
    ///
    /// [`FleetError::Store`] where the stored ones cannot be read, and [`FleetError::Invalid`] where the registry does
    /// not take those of the configuration.
    pub(crate) async fn start(
        registry: Registry,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        config: Arc<Config>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, FleetError> {
        let stored = ledger.idps().await.map_err(FleetError::Store)?;
        let known = Arc::new(RwLock::new(Known::of(stored)));
        let (asked, asks) = mpsc::channel(WAITING);
        let mut worker = Worker {
            registry,
            ledger,
            clock,
            form: config.form(),
            max: config.max_dynamic_idps,
            known: Arc::clone(&known),
        };
        // One reads the store while the other one reads the configuration.
        let (restored, plan) = tokio::join!(worker.registry.restore(), worker.plan(&config));
        match restored {
            Ok(sets) => tracing::info!(sets, "key sets read from the store"),
            Err(error) => tracing::warn!(%error, "stored key sets cannot be read; they are fetched"),
        }
        worker.take_over(&config, plan?).await?;
        if let Err(error) = worker.registry.discard_unclaimed().await {
            tracing::warn!(%error, "stored key sets that nothing uses any more cannot be removed");
        }
        tasks.spawn(worker.run(asks));
        Ok(Self { known, asked })
    }

    /// Adds or changes an identity provider by its document: JSON with the members of one of the configuration but
    /// `name`, `tenant`, `secret`, `secret_file` and `ca_file`. It is stored when this returns, and runs.
    ///
    /// Once asked for, the change happens whether or not its caller waits for it.
    pub(crate) async fn put(&self, tenant: &str, name: &str, document: &[u8]) -> Result<Put, FleetError> {
        let name = (tenant.into(), name.into());
        self.ask(|done| Ask::Put(name, document.to_owned(), done)).await
    }

    /// Removes an identity provider that was added at run time. `false` where there is none of that name.
    pub(crate) async fn remove(&self, tenant: &str, name: &str) -> Result<bool, FleetError> {
        let name = (tenant.into(), name.into());
        self.ask(|done| Ask::Remove(name, done)).await
    }

    /// Takes over the identity providers of another configuration, all of them or nothing. Those that stay as they
    /// are keep their keys, counters and schedules.
    pub(crate) async fn reload(&self, config: Arc<Config>) -> Result<Changed, FleetError> {
        self.ask(|done| Ask::Reload(config, done)).await
    }

    /// Takes over what other processes of the store have added, changed and removed. Those that stay as they are keep their
    /// keys, counters and schedules, and those of the configuration are not touched.
    pub(crate) async fn reload_stored(&self) -> Result<(), FleetError> {
        self.ask(Ask::Stored).await
    }

    /// How many identity providers the configuration has.
    pub(crate) fn configured(&self) -> usize {
        read(&self.known).file.len()
    }

    /// Whether the identity provider was added at run time, rather than by the configuration.
    pub(crate) fn is_dynamic(&self, tenant: &str, name: &str) -> bool {
        read(&self.known)
            .stored
            .get(&(tenant.into(), name.into()))
            .is_some_and(|stored| stored.running)
    }

    /// The document of an identity provider that was added at run time.
    pub(crate) fn document(&self, tenant: &str, name: &str) -> Option<Arc<str>> {
        let known = read(&self.known);
        let stored = known.stored.get(&(tenant.into(), name.into()))?;
        Some(Arc::clone(&stored.document))
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, FleetError>>) -> Ask,
    ) -> Result<T, FleetError> {
        let (done, answer) = oneshot::channel();
        self.asked.send(ask(done)).await.map_err(|_| FleetError::Closed)?;
        answer.await.map_err(|_| FleetError::Closed)?
    }
}

impl Known {
    fn of(stored: Vec<StoredIdp>) -> Self {
        let mut known = Self::default();
        for idp in stored {
            known.keep((idp.tenant.into(), idp.name.into()), idp.document.into());
        }
        for stored in known.stored.values_mut() {
            stored.running = false;
        }
        known
    }

    /// Notes a document that is stored and runs.
    fn keep(&mut self, name: Name, document: Arc<str>) {
        let order = self.next;
        let stored = self.stored.entry(name).or_insert_with(|| {
            self.next += 1;
            Stored {
                order,
                document: Arc::clone(&document),
                running: true,
            }
        });
        stored.document = document;
        stored.running = true;
    }
}

fn read(known: &RwLock<Known>) -> RwLockReadGuard<'_, Known> {
    known.read().unwrap_or_else(PoisonError::into_inner)
}

/// The one that changes the identity providers.
struct Worker {
    registry: Registry,
    ledger: Arc<dyn Ledger>,
    /// By which changes are dated: of two that processes of one store made the later one holds.
    clock: Arc<dyn Clock>,
    form: Form,
    max: usize,
    known: Arc<RwLock<Known>>,
}

impl Worker {
    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            // Whoever asked may have gone meanwhile.
            match ask {
                Ask::Put(name, document, done) => {
                    let _ = done.send(self.put(name, &document).await);
                }
                Ask::Remove(name, done) => {
                    let _ = done.send(self.remove(name).await);
                }
                Ask::Reload(config, done) => {
                    let _ = done.send(self.reload(config).await);
                }
                Ask::Stored(done) => {
                    let _ = done.send(self.reload_stored().await);
                }
            }
        }
    }

    async fn put(&self, name: Name, document: &[u8]) -> Result<Put, FleetError> {
        if read(&self.known).file.contains(&name) {
            return Err(FleetError::Configured);
        }
        let config = plan::idp(&self.form, &name, document).map_err(FleetError::Invalid)?;
        if let Some(policy) = config.policy()
            && let Some(other) = self.registry.idp_by_issuer(&name.0, policy.issuer())
            && *other.name() != *name.1
        {
            return Err(FleetError::IssuerTaken);
        }
        let document = String::from_utf8_lossy(document).into_owned();
        let stored = StoredIdp {
            tenant: name.0.to_string(),
            name: name.1.to_string(),
            document,
            changed_at: self.clock.wall(),
        };
        // Durable first: what was acknowledged runs after a restart too.
        let put = match self
            .ledger
            .put_idp(&stored, self.max)
            .await
            .map_err(FleetError::Store)?
        {
            PutIdp::Created => Put::Created,
            PutIdp::Replaced => Put::Replaced,
            PutIdp::Full => return Err(FleetError::Full { max: self.max }),
        };
        // Nobody else registers anything, so what was looked at above still holds.
        self.registry
            .register(config)
            .map_err(|_| FleetError::IssuerTaken)?;
        self.change(|known| known.keep(name, stored.document.into()));
        Ok(put)
    }

    async fn remove(&self, name: Name) -> Result<bool, FleetError> {
        let (configured, running) = {
            let known = read(&self.known);
            let stored = known.stored.get(&name);
            (known.file.contains(&name), stored.map(|stored| stored.running))
        };
        match running {
            None if configured => return Err(FleetError::Configured),
            // Another process may have added it just now.
            None | Some(_) => {}
        }
        let removed = self
            .ledger
            .remove_idp(&name.0, &name.1)
            .await
            .map_err(FleetError::Store)?;
        if running == Some(true)
            && let Err(error) = self.registry.unregister(&name.0, &name.1).await
        {
            tracing::warn!(tenant = &*name.0, idp = &*name.1, %error, "a removed key set is still stored");
        }
        self.change(|known| known.stored.remove(&name));
        Ok(removed)
    }

    async fn reload(&mut self, config: Arc<Config>) -> Result<Changed, FleetError> {
        let plan = self.plan(&config).await?;
        self.take_over(&config, plan).await
    }

    async fn plan(&self, config: &Arc<Config>) -> Result<Plan, FleetError> {
        let (registry, known, form) = (self.registry.clone(), Arc::clone(&self.known), self.form.clone());
        let config = Arc::clone(config);
        // It reads up to 100,000 documents.
        let planned = spawn_blocking(move || Plan::of(&config, &form, &registry, &read(&known)));
        planned
            .await
            .map_err(|_| FleetError::Closed)?
            .map_err(FleetError::Invalid)
    }

    async fn take_over(&mut self, config: &Config, plan: Plan) -> Result<Changed, FleetError> {
        if let Err(error) = self.registry.apply(plan.changes).await {
            if error.kind() != tokenward::ErrorKind::Store {
                return Err(FleetError::Invalid(vec![Problem::of_whole(
                    "idps",
                    error.to_string(),
                )]));
            }
            tracing::warn!(%error, "removed key sets are still stored");
        }
        for (tenant, names) in &plan.order {
            self.registry.arrange(tenant, names.iter().map(|name| &**name));
        }
        for (name, why) in &plan.idle {
            tracing::warn!(
                tenant = &*name.0,
                idp = &*name.1,
                why,
                "a stored identity provider does not run"
            );
        }
        self.form = config.form();
        self.max = config.max_dynamic_idps;
        self.change(|known| {
            known.file = plan.file;
            for (name, stored) in &mut known.stored {
                stored.running = !plan.idle.contains_key(name);
            }
        });
        Ok(plan.changed)
    }

    async fn reload_stored(&self) -> Result<(), FleetError> {
        let stored = self.ledger.idps().await.map_err(FleetError::Store)?;
        let (registry, known, form) = (self.registry.clone(), Arc::clone(&self.known), self.form.clone());
        // It may read up to 100,000 documents.
        let planned = spawn_blocking(move || Newer::of(stored, &form, &registry, &read(&known)));
        let newer = planned.await.map_err(|_| FleetError::Closed)?;
        if let Err(error) = self.registry.apply(newer.changes).await {
            if error.kind() != tokenward::ErrorKind::Store {
                return Err(FleetError::IssuerTaken);
            }
            tracing::warn!(%error, "removed key sets are still stored");
        }
        for (name, why) in &newer.idle {
            // Once, and not at each change of another.
            if read(&self.known)
                .stored
                .get(name)
                .is_none_or(|stored| stored.running)
            {
                tracing::warn!(
                    tenant = &*name.0,
                    idp = &*name.1,
                    why,
                    "a stored identity provider does not run"
                );
            }
        }
        self.change(|known| {
            known.next = newer.stored.len() as u64;
            known.stored = newer.stored;
        });
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}
