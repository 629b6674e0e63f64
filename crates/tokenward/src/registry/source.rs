//! The keys of one identity provider, and everything that happens to them.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::{Either, select};
use http::{
    HeaderMap,
    header::{AGE, AsHeaderName, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED},
};
use tokenward_core::{
    Timestamp,
    freshness::{
        CacheHeaders, Cause, Entry, FetchPlan, Finished, Outcome, State, Status, Upstream, Validators, View,
    },
};
use tokenward_store::Snapshot;
use tokio::sync::Notify;
use url::Url;

use super::{
    Inner,
    health::{FAILING, KEYLESS_REQUIRED, Marks, UNTRIED},
    kept::{self, Kept},
    lock,
    places::Standing,
    tenants::Generation,
};
use crate::{
    acquire::{Acquired, Answer, Target},
    config::IdpConfig,
    error::{Error, ErrorKind},
    events::{Event, EventKind},
    telemetry::{self, IdpMetrics, Lookup, Lookups},
};

/// The keys of one identity provider.
///
/// The entry decides, under a lock that is held for a decision only; what readers need is in the view, which
/// they take without a lock.
pub(crate) struct Source {
    pub(super) id: u64,
    config: ArcSwap<IdpConfig>,
    pub(super) entry: Mutex<Entry>,
    view: ArcSwap<View>,
    /// A fetch that was decided on outside the schedule, until the driver starts it. Sources are many, and most have none.
    plan: Mutex<Option<Box<FetchPlan>>>,
    /// The key set's address, where discovery told it.
    resolved: Mutex<Option<Box<Url>>>,
    /// Wakes those who wait for the fetch in the air.
    pub(super) landed: Notify,
    retired: AtomicBool,
    /// Moves when something of its tenant changes.
    generation: Generation,
    marks: Marks,
    /// Whether what is stored of it is to change.
    pub(super) unsaved: AtomicBool,
    /// Whether its set was taken over from the store, and nobody was told yet.
    adopted: AtomicBool,
    /// Whether the source stands in the driver's inbox.
    pub(super) poked: AtomicBool,
    pub(crate) metrics: Arc<IdpMetrics>,
    pub(crate) lookups: Lookups,
}

impl Source {
    pub(super) fn new(
        id: u64,
        config: Arc<IdpConfig>,
        generation: Generation,
        inner: &Inner,
        kept: Option<Kept>,
    ) -> Self {
        let now = inner.clock.steady();
        let resolved = kept
            .as_ref()
            .filter(|_| config.url().is_none())
            .and_then(|kept| Url::parse(&kept.url).ok());
        // It may be another's, which only the shared store has.
        let mut adopted = false;
        let entry = match kept.and_then(|kept| kept::told(kept.restored)) {
            Some(restored) => {
                adopted = inner.shared_store().is_some();
                Entry::restored(config.shared_settings(), restored, now, inner.random.unit())
            }
            None => Entry::new(config.shared_settings(), now),
        };
        let marks = Marks::default();
        inner.tally.note(&marks, faults(&entry, &config, now));
        Self {
            id,
            generation,
            marks,
            view: ArcSwap::new(entry.view()),
            entry: Mutex::new(entry),
            plan: Mutex::new(None),
            resolved: Mutex::new(resolved.map(Box::new)),
            landed: Notify::new(),
            retired: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
            adopted: AtomicBool::new(adopted),
            poked: AtomicBool::new(false),
            metrics: inner.series.of(config.tenant(), config.name()),
            lookups: Lookups::default(),
            config: ArcSwap::new(config),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Looks at the view of now, which others do not count meanwhile: for what is over at once.
    pub(super) fn with_view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.load())
    }

    pub(crate) fn view_generation(&self) -> u64 {
        self.view.load().generation()
    }

    pub(crate) fn count(&self, outcome: Lookup) {
        self.lookups.count(outcome);
        self.metrics.looked_up(outcome);
    }

    pub(crate) fn state(&self, now: Timestamp) -> State {
        lock(&self.entry).state(now)
    }

    pub(crate) fn status(&self, now: Timestamp) -> Status {
        lock(&self.entry).status(now)
    }

    /// The last failure's text; none after a success.
    pub(crate) fn error_text(&self) -> Option<String> {
        lock(&self.entry).last_error().map(|(_, text)| text.to_owned())
    }

    /// Where the keys come from, as far as it is known.
    pub(crate) fn url(&self) -> Option<Url> {
        self.config.load().url().cloned().or_else(|| self.resolved())
    }

    pub(super) fn retire(&self, inner: &Inner) {
        let entry = lock(&self.entry);
        self.retired.store(true, Ordering::Release);
        inner.tally.note(&self.marks, 0);
        drop(entry);
        self.landed.notify_waiters();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// How well it does, for a place to fetch.
    pub(super) fn standing(&self) -> Standing {
        let entry = lock(&self.entry);
        match (entry.is_failing(), entry.has_succeeded()) {
            (true, _) => Standing::Failing,
            (false, true) => Standing::Proven,
            (false, false) => Standing::New,
        }
    }

    pub(super) fn next_wakeup(&self) -> Timestamp {
        lock(&self.entry).next_wakeup()
    }

    /// Drops what is past its deadline, and says whether a fetch is due.
    pub(super) fn tick(&self, inner: &Inner, now: Timestamp) -> bool {
        let mut entry = lock(&self.entry);
        if entry.tick(now) {
            self.publish(inner, &entry);
        }
        entry.is_due(now)
    }

    pub(super) fn begin(&self, cause: Cause, now: Timestamp) -> Option<FetchPlan> {
        lock(&self.entry).begin_fetch(cause, now)
    }

    pub(super) fn has_plan(&self) -> bool {
        lock(&self.plan).is_some()
    }

    pub(super) fn take_plan(&self) -> Option<FetchPlan> {
        lock(&self.plan).take().map(|plan| *plan)
    }

    /// What the fetch of now asks.
    pub(super) fn target(&self) -> Option<Target> {
        self.config.load().target(self.resolved())
    }

    fn resolved(&self) -> Option<Url> {
        lock(&self.resolved).as_deref().cloned()
    }

    pub(super) fn config(&self) -> Arc<IdpConfig> {
        self.config.load_full()
    }

    /// Takes other settings with the keys as they are.
    pub(super) fn reconfigure(&self, inner: &Inner, config: &Arc<IdpConfig>) {
        self.config.store(Arc::clone(config));
        let mut entry = lock(&self.entry);
        entry.reconfigure(config.shared_settings(), inner.clock.steady());
        self.publish(inner, &entry);
    }

    pub(super) fn purge(self: &Arc<Self>, inner: &Inner) {
        let mut entry = lock(&self.entry);
        entry.purge(inner.clock.steady());
        self.publish(inner, &entry);
        drop(entry);
        inner.inbox.poke(self);
    }

    /// Fetches now, or waits for the fetch that is in the air.
    pub(super) async fn refresh(self: &Arc<Self>, inner: &Inner) -> Result<(), Error> {
        let gone = || {
            let config = self.config();
            Error::not_found(config.tenant(), config.name())
        };
        let landed = self.landed.notified();
        // Who retires it after this wakes `landed`; who did it before will not.
        if self.is_retired() {
            return Err(gone());
        }
        if let Some(plan) = self.begin(Cause::Manual, inner.clock.steady()) {
            self.launch(inner, plan);
        }
        let mut stop = inner.stop.subscribe();
        // Without its driver nothing would ever land.
        if matches!(
            select(pin!(landed), pin!(stop.wait_for(|stop| *stop))).await,
            Either::Right(_)
        ) {
            return Err(Error::new(ErrorKind::Closed, "the registry has been shut down"));
        }
        if self.is_retired() {
            return Err(gone());
        }
        match lock(&self.entry).last_error() {
            None => Ok(()),
            Some((code, text)) => Err(Error::new(ErrorKind::Fetch, format!("{code}: {text}"))),
        }
    }

    pub(crate) fn note_use(&self, kid: &str, now: Timestamp) {
        lock(&self.entry).note_use(kid, now);
    }

    pub(super) fn launch(self: &Arc<Self>, inner: &Inner, plan: FetchPlan) {
        *lock(&self.plan) = Some(Box::new(plan));
        inner.inbox.poke(self);
    }

    /// Hands the outcome of a fetch to the entry. What comes for a registration that is gone, or was asked under earlier
    /// settings, changes nothing and wakes nobody: who waits, waits for the fetch that follows.
    pub(super) fn land(&self, inner: &Inner, ticket: u64, acquired: Acquired, took: Duration) -> Landed {
        let outcome = outcome(acquired.result, inner.clock.wall());
        let (jwks_uri, took) = (acquired.jwks_uri, Some(took));
        let change = |entry: &mut Entry, now| entry.finish_fetch(ticket, outcome, now, inner.random.unit());
        self.change(inner, jwks_uri, took, change)
            .map_or_else(Landed::default, |finished| Landed {
                changed: finished.error.is_none() || finished.new_keys,
                // What shows that a key has leaked must be seen by everybody, and soon.
                pause: finished.pause.filter(|_| !finished.new_keys),
            })
    }

    /// Another one fetched in vain, and it is not time to do it again.
    pub(super) fn fail_elsewhere(&self, inner: &Inner, ticket: u64, retry_in: Duration) {
        self.metrics.shared("failed_elsewhere");
        let outcome = Outcome::FailedElsewhere { retry_in };
        let change = |entry: &mut Entry, now| entry.finish_fetch(ticket, outcome, now, inner.random.unit());
        self.change(inner, None, None, change);
    }

    /// Takes over what another one fetched, if it is newer than what is here. What is left to be done of `plan`, if
    /// anything.
    pub(super) fn adopt(&self, inner: &Inner, plan: FetchPlan, snapshot: Snapshot) -> Option<FetchPlan> {
        let (view, now) = (self.view(), inner.clock.steady());
        let known = view.last_updated().filter(|_| view.keys(now).is_some());
        // Most of the time it is what is here already; that is not worth reading it.
        if known.is_some_and(|known| snapshot.fetched_at <= known) {
            return Some(plan);
        }
        let found_at = Url::parse(&snapshot.url).ok();
        let Some(restored) = kept::restored(snapshot) else {
            return Some(plan);
        };
        let mut left = None;
        let change = |entry: &mut Entry, now| {
            let adopted = entry.adopt(plan.ticket, restored, now, inner.random.unit())?;
            left = adopted.plan;
            Some(adopted.finished)
        };
        if self.change(inner, found_at, None, change).is_none() {
            return Some(plan);
        }
        self.adopted.store(true, Ordering::Release);
        self.metrics.shared("adopted");
        left
    }

    /// Whether a set was taken over since this was asked last.
    pub(super) fn was_adopted(&self) -> bool {
        self.adopted.swap(false, Ordering::AcqRel)
    }

    /// Changes the entry, and tells everybody. `took` is how long a fetch took, where there was one.
    fn change(
        &self,
        inner: &Inner,
        found_at: Option<Url>,
        took: Option<Duration>,
        change: impl FnOnce(&mut Entry, Timestamp) -> Option<Finished>,
    ) -> Option<Finished> {
        let now = inner.clock.steady();
        let mut entry = lock(&self.entry);
        if self.is_retired() {
            return None;
        }
        let finished = change(&mut entry, now)?;
        if let Some(url) = found_at.filter(|_| self.config.load().url().is_none()) {
            *lock(&self.resolved) = Some(Box::new(url));
        }
        self.publish(inner, &entry);
        let status = entry.status(now);
        let text = entry.last_error().map(|(_, text)| text.to_owned());
        drop(entry);
        self.landed.notify_waiters();
        self.report(inner, &finished, &status, text.as_deref(), took);
        Some(finished)
    }

    /// The fetch `ticket` came to nothing.
    pub(super) fn abandon(self: &Arc<Self>, inner: &Inner, ticket: u64) {
        lock(&self.entry).abandon_fetch(ticket, inner.clock.steady());
        self.landed.notify_waiters();
        inner.inbox.poke(self);
    }

    /// What is stored of the set of now.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let config = self.config.load();
        let entry = lock(&self.entry);
        let (validators, upstream) = entry.snapshot()?;
        let view = entry.view();
        drop(entry);
        let fetched_at = view.last_updated()?;
        Some(Snapshot {
            tenant: config.tenant().to_owned(),
            name: config.name().to_owned(),
            url: self.url().map(String::from).unwrap_or_default(),
            config_hash: config.source_hash(),
            body: view.keys(fetched_at)?.kept_body().into_bytes(),
            etag: validators.etag,
            last_modified: validators.last_modified,
            fetched_at,
            // From when it was fetched, not from when it was made.
            upstream_max_age: upstream.remaining,
        })
    }

    fn publish(&self, inner: &Inner, entry: &Entry) {
        let view = entry.view();
        let keys = view
            .keys(inner.clock.steady())
            .map_or(0, |keys| keys.documents().count());
        self.metrics.status(view.advertised_max_age(), keys);
        self.view.store(view);
        if !self.is_retired() {
            let faults = faults(entry, &self.config.load(), inner.clock.steady());
            inner.tally.note(&self.marks, faults);
        }
        inner.note_change(&self.generation);
    }

    fn report(
        &self,
        inner: &Inner,
        finished: &Finished,
        status: &Status,
        text: Option<&str>,
        took: Option<Duration>,
    ) {
        let config = self.config.load();
        if let Some(took) = took {
            self.metrics.refreshed(finished.error, took);
        }
        if finished.new_keys {
            for key in &status.skipped_keys {
                self.metrics.skipped(key.reason);
            }
        }
        if finished.truncated.is_some() {
            self.metrics.truncated();
        }
        telemetry::log_refresh(&config, finished, status, text);
        let send = |kind| {
            let event = Event {
                tenant: config.shared_tenant(),
                idp: config.shared_name(),
                at: status.last_attempt.unwrap_or_default(),
                kind,
            };
            // Nobody may be listening.
            let _ = inner.events.send(event);
        };
        send(match finished.error {
            None => EventKind::Updated,
            Some(code) => EventKind::RefreshFailed { code },
        });
        for event in &finished.events {
            self.metrics.event(event.name());
            send(EventKind::Notable(event.clone()));
        }
    }
}

/// What a fetch came to.
#[derive(Default)]
pub(super) struct Landed {
    /// Whether what is stored has to change.
    pub(super) changed: bool,
    /// How long the schedule pauses, where it failed and another attempt by anybody would fail as well.
    pub(super) pause: Option<Duration>,
}

/// What is not as it should be, for the tally.
fn faults(entry: &Entry, config: &IdpConfig, now: Timestamp) -> u8 {
    let view = entry.view();
    let has_keys = view.keys(now).is_some();
    let tried = has_keys || entry.last_error().is_some() || view.last_updated().is_some();
    let mark = |is_so: bool, mark| if is_so { mark } else { 0 };
    mark(!tried, UNTRIED)
        | mark(config.is_required() && !has_keys, KEYLESS_REQUIRED)
        | mark(tried && (!has_keys || entry.last_error().is_some()), FAILING)
}

/// Reads the answer of a fetch that arrived at `received`, civil time.
fn outcome(result: Result<Answer, crate::fetch::FetchError>, received: Timestamp) -> Outcome {
    match result {
        Ok(Answer::Fresh { keys, headers }) => Outcome::Fresh {
            digest: keys.digest(),
            keys: Box::new(keys),
            validators: validators(&headers),
            upstream: upstream(&headers, received),
        },
        Ok(Answer::NotModified { headers }) => Outcome::NotModified {
            validators: validators(&headers),
            upstream: upstream(&headers, received),
        },
        Err(error) if error.is_key_set_invalid() => Outcome::Refused { code: error.code() },
        Err(error) => Outcome::Failed {
            code: error.code(),
            text: crate::error::chain(&error),
            retry_after: error.retry_after(),
        },
    }
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn validators(headers: &HeaderMap) -> Validators {
    Validators {
        etag: text(headers, ETAG).map(str::to_owned),
        last_modified: text(headers, LAST_MODIFIED).map(str::to_owned),
    }
}

fn upstream(headers: &HeaderMap, received: Timestamp) -> Upstream {
    let cache_control = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let headers = CacheHeaders {
        cache_control,
        age: text(headers, AGE),
        date: text(headers, DATE),
        expires: text(headers, EXPIRES),
    };
    Upstream::read(&headers, received)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokenward_core::BoxFuture;

    use super::*;
    use crate::{
        fetch::{Fetch, FetchError, FetchRequest, FetchResponse},
        registry::{IdpKeys, Registry},
    };

    struct Hangs;

    impl Fetch for Hangs {
        fn fetch<'a>(&'a self, _: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_refresh_of_what_is_gone_already_waits_for_nothing() {
        let registry = Registry::builder().fetcher(Arc::new(Hangs)).build().unwrap();
        let url = Url::parse("https://a.example/keys").unwrap();
        let idp = registry.register(IdpConfig::at("a", url, None).unwrap()).unwrap();
        let IdpKeys::Fetched(source) = &idp.keys else {
            panic!("it is fetched");
        };
        registry.unregister("default", "a").await.unwrap();
        let outcome = source.refresh(registry.inner()).now_or_never();
        assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
