//! Takes over another configuration while the server runs: all of it, or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::Value;
use tokenward_core::{Clock, Timestamp};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
};
use utoipa::ToSchema;

use super::{
    Error,
    listener::{Phase, Served, reached},
    site::{Routes, Site},
    tls::Acceptors,
};
use crate::{
    config::{Config, Problem, Problems, Source},
    fleet::{Changed, Fleet, FleetError},
    telemetry::{self, Exporter, Log},
};

/// How often the files are looked at. A change is taken over when it was the same twice, since a file that is being
/// written is neither what it was nor what it will be.
const LOOK: Duration = Duration::from_millis(500);

/// Problems of one reload that are logged and kept.
const KEPT_PROBLEMS: usize = 100;

/// How the last reload went.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ReloadStatus {
    /// When; of `started` the start.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) time: Timestamp,
    pub(crate) outcome: ReloadOutcome,
    /// Identity providers of the configuration that were touched; none where nothing was changed.
    pub(crate) idps: Option<Changed>,
    /// What was wrong: `file line column variable member message`, as far as they are known.
    #[schema(value_type = Vec<Object>)]
    pub(crate) problems: Vec<Value>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReloadOutcome {
    /// There was none since the start.
    Started,
    /// The new configuration runs.
    Applied,
    /// The one before runs.
    Refused,
}

/// What each listener serves.
pub(super) struct Doors {
    pub(super) public: Arc<ArcSwap<Served>>,
    pub(super) admin: Arc<ArcSwap<Served>>,
    pub(super) grpc: Arc<ArcSwap<Served>>,
}

impl Doors {
    pub(super) fn open(routes: Routes, tls: Acceptors) -> Self {
        let [public, admin, grpc] = served(routes, tls).map(|served| Arc::new(ArcSwap::new(served)));
        Self { public, admin, grpc }
    }

    fn replace(&self, routes: Routes, tls: Acceptors) {
        let [public, admin, grpc] = served(routes, tls);
        self.public.store(public);
        self.admin.store(admin);
        self.grpc.store(grpc);
    }
}

fn served(routes: Routes, tls: Acceptors) -> [Arc<Served>; 3] {
    let log = routes.log;
    [
        (routes.public, tls.public),
        (routes.admin, tls.admin),
        (routes.grpc, tls.grpc),
    ]
    .map(|(routes, tls)| Arc::new(Served { tls, routes, log }))
}

/// The signal that asks for a reload.
pub(super) fn hangups() -> Result<Signal, Error> {
    signal(SignalKind::hangup()).map_err(|error| Error::system("listen for signals", error))
}

/// Reads the configuration again when a signal or a change of its files says so.
pub(super) struct Reloader {
    pub(super) source: Arc<Source>,
    pub(super) running: Arc<Config>,
    pub(super) site: Site,
    pub(super) doors: Doors,
    pub(super) fleet: Fleet,
    pub(super) log: Log,
    pub(super) exporter: Exporter,
    pub(super) status: Arc<ArcSwap<ReloadStatus>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Reloader {
    /// Goes on until the server leaves. `files` are those of the configuration that runs.
    pub(super) async fn run(
        mut self,
        files: BTreeSet<PathBuf>,
        mut hangups: Signal,
        mut phases: watch::Receiver<Phase>,
    ) {
        telemetry::configured(Some(self.clock.wall()));
        let mut watched = Watched::of(files).await;
        loop {
            let why = tokio::select! {
                () = reached(&mut phases, Phase::Leaving) => return,
                Some(()) = hangups.recv() => "signal",
                () = self.clock.sleep(LOOK) => match watched.changed().await {
                    true => "change of a file",
                    false => continue,
                },
            };
            watched.settle().await;
            let (outcome, files) = self.reload().await;
            watched.add(files).await;
            self.report(why, outcome);
        }
    }

    /// Reads the configuration and takes it over; also the files that it depends on.
    async fn reload(&mut self) -> (Result<Changed, Problems>, BTreeSet<PathBuf>) {
        let (source, running) = (Arc::clone(&self.source), Arc::clone(&self.running));
        let (dev, signing) = (source.is_dev(), self.site.signing());
        let read = spawn_blocking(move || {
            let reading = source.read(Some(&running));
            let checked = reading.config.and_then(|config| {
                let tls = Acceptors::of(&config.server);
                // The path may be the same and the file another.
                let key = config.token_service.as_ref().map(|service| service.file_key(dev));
                if let Some(Ok(Some(key))) = key
                    && signing.as_ref().is_some_and(|kid| kid != key.kid())
                {
                    let member = "token_service.private_key_file";
                    return Err(problem(member, "only a restart can take another key".to_owned()));
                }
                match tls {
                    Ok(tls) => Ok((config, tls)),
                    Err((member, error)) => Err(problem(member, explain(&error))),
                }
            });
            (checked, reading.files)
        });
        let (config, tls, files) = match read.await {
            Ok((Ok((config, tls)), files)) => (Arc::new(config), tls, files),
            Ok((Err(problems), files)) => return (Err(problems), files),
            // A fault of ours; whoever waits for the files to change waits on.
            Err(error) => return (Err(problem("", error.to_string())), BTreeSet::new()),
        };
        // The last thing that can fail. Whatever follows is a swap.
        let changed = match self.fleet.reload(Arc::clone(&config)).await {
            Ok(changed) => changed,
            Err(FleetError::Invalid(list)) => return (Err(problems(list)), files),
            Err(error) => return (Err(problem("idps", error.to_string())), files),
        };
        self.doors.replace(self.site.routes(&config), tls);
        self.log.set(config.logging.level, config.logging.format);
        self.exporter.show_parents(config.metrics.per_token);
        self.running = Arc::new(Arc::unwrap_or_clone(config).without_idps());
        (Ok(changed), files)
    }

    fn report(&self, why: &'static str, outcome: Result<Changed, Problems>) {
        let time = self.clock.wall();
        let status = match outcome {
            Ok(idps) => {
                telemetry::reloaded(Some(time));
                let Changed {
                    added,
                    changed,
                    removed,
                    unchanged,
                } = idps;
                tracing::info!(why, added, changed, removed, unchanged, "configuration reloaded");
                ReloadStatus {
                    time,
                    outcome: ReloadOutcome::Applied,
                    idps: Some(idps),
                    problems: Vec::new(),
                }
            }
            Err(problems) => {
                telemetry::reloaded(None);
                for problem in problems.lines().take(KEPT_PROBLEMS) {
                    tracing::error!(problem, "the new configuration is not valid");
                }
                let count = problems.lines().count();
                tracing::error!(why, count, "configuration not reloaded: nothing is changed");
                let mut list = match problems.to_json() {
                    Value::Array(list) => list,
                    _ => Vec::new(),
                };
                list.truncate(KEPT_PROBLEMS);
                ReloadStatus {
                    time,
                    outcome: ReloadOutcome::Refused,
                    idps: None,
                    problems: list,
                }
            }
        };
        self.status.store(Arc::new(status));
    }
}

impl ReloadStatus {
    pub(super) fn started(time: Timestamp) -> Self {
        Self {
            time,
            outcome: ReloadOutcome::Started,
            idps: None,
            problems: Vec::new(),
        }
    }
}

fn problem(member: &str, message: String) -> Problems {
    problems(vec![Problem::of_whole(member, message)])
}

fn problems(list: Vec<Problem>) -> Problems {
    Problems::new(None, list.into_iter().collect())
}

/// An error and its causes.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The files of the configuration, and what they looked like.
struct Watched {
    seen: Looks,
    /// A change that was seen once.
    pending: Option<Looks>,
}

/// What each file looks like from outside; none where it is not there.
type Looks = BTreeMap<PathBuf, Option<Look>>;

/// Device, inode, size, and the times of the last change of content and of status: some of it moves with every way of
/// changing a file, replacing it and pointing a link elsewhere among them.
type Look = (u64, u64, u64, (i64, i64), (i64, i64));

impl Watched {
    async fn of(files: BTreeSet<PathBuf>) -> Self {
        Self {
            seen: look(files).await,
            pending: None,
        }
    }

    /// Whether some file has changed since it was seen, and stays as it is now.
    async fn changed(&mut self) -> bool {
        let now = self.look().await;
        if now == self.seen {
            self.pending = None;
            return false;
        }
        let settled = self.pending.as_ref() == Some(&now);
        self.pending = Some(now);
        settled
    }

    /// What is there now is about to be read.
    async fn settle(&mut self) {
        self.seen = self.look().await;
        self.pending = None;
    }

    /// Watches these files too. Those that were watched already are as they were before they were read, so that a
    /// change since then is seen.
    async fn add(&mut self, files: BTreeSet<PathBuf>) {
        let new = files
            .into_iter()
            .filter(|file| !self.seen.contains_key(file))
            .collect();
        self.seen.extend(look(new).await);
    }

    async fn look(&self) -> Looks {
        look(self.seen.keys().cloned().collect()).await
    }
}

async fn look(files: BTreeSet<PathBuf>) -> Looks {
    let looked = spawn_blocking(move || {
        let look = |path: PathBuf| {
            let look = std::fs::metadata(&path).ok().map(|file| {
                let (content, status) = (
                    (file.mtime(), file.mtime_nsec()),
                    (file.ctime(), file.ctime_nsec()),
                );
                (file.dev(), file.ino(), file.size(), content, status)
            });
            (path, look)
        };
        files.into_iter().map(look).collect()
    });
    // It fails only where the runtime ends.
    looked.await.unwrap_or_default()
}
