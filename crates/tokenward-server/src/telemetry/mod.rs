//! Log and metric set-up, and every metric name of the server itself. Those of the library are in the library.
//!
//! Labels come from closed sets: route templates, known methods, listener names, reason codes.

mod exporter;
mod kept;
mod log;
mod recorder;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kept::Kept;
use metrics::SetRecorderError;
use tokenward_core::{Timestamp, session::TokenType};

pub(crate) use exporter::{Exporter, Parent};
pub(crate) use log::{Log, log};
pub(crate) use recorder::Recorder;

const REQUESTS: &str = "tokenward_http_requests_total";
const REQUEST_DURATION: &str = "tokenward_http_request_duration_seconds";
const CONNECTIONS: &str = "tokenward_http_connections";
const CONNECTIONS_REFUSED: &str = "tokenward_http_connections_refused_total";
const DECISIONS: &str = "tokenward_decisions_total";
const DECISION_DURATION: &str = "tokenward_decision_duration_seconds";
const COLLISIONS: &str = "tokenward_merged_kid_collisions";
const AUDIT_LOST: &str = "tokenward_audit_records_lost_total";
const MINTED: &str = "tokenward_tokens_minted_total";
const REVOKED: &str = "jwt_revoked_tokens_total";
const ACTIVE_PARENTS: &str = "jwt_parent_tokens_active_total";
const RENEWAL_LAG: &str = "tokenward_renewal_lag_seconds";
const OVERDUE: &str = "tokenward_renewal_overdue_seconds";
const STREAMS: &str = "tokenward_token_streams";
const LIMITED: &str = "tokenward_rate_limited_total";
const STORE_DURATION: &str = "tokenward_store_duration_seconds";
const STORE_ERRORS: &str = "tokenward_store_errors_total";
const STORE_HEALTHY: &str = "tokenward_store_healthy";
const STORE_CONNECTED: &str = "tokenward_store_connected";
const STORE_CONNECTIONS: &str = "tokenward_store_connections";
const STORE_CONNECTIONS_LIMIT: &str = "tokenward_store_connections_limit";
const VIEW_AGE: &str = "tokenward_revocation_view_age_seconds";
const RECONCILES: &str = "tokenward_store_reconciles_total";
const REASSERTED: &str = "tokenward_store_reasserted_total";
const AUDIT_QUEUED: &str = "tokenward_audit_records_queued";
const RELOADS: &str = "tokenward_config_reloads_total";
const RELOADED: &str = "tokenward_config_last_reload_successful";
const RELOADED_AT: &str = "tokenward_config_last_reload_success_timestamp_seconds";
const BUILD_INFO: &str = "tokenward_build_info";

/// Tenants that have series of their own.
const OWN_SERIES: usize = 1_000;

/// Installs the recorder that `/metrics` shows. Call it before anything registers a metric.
///
/// # Errors
///
/// If another recorder is installed already.
pub(crate) fn metrics() -> Result<Recorder, SetRecorderError<Recorder>> {
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone())?;
    describe();
    Ok(recorder)
}

/// Gives every metric its kind and its help text, so that it is shown before it was ever recorded.
fn describe() {
    for (name, help) in [
        (
            REQUESTS,
            "HTTP requests by listener, route template, method and status.",
        ),
        (
            CONNECTIONS_REFUSED,
            "Connections closed at once because server.max_connections were open.",
        ),
        (DECISIONS, "Authorization decisions by door and reason."),
        (
            MINTED,
            "Tokens of our own that were minted, by type: access, parent, child.",
        ),
        (
            LIMITED,
            "Requests that a limit refused: of an address, a credential, a token, the renewals of a parent, failed credentials.",
        ),
        (STORE_ERRORS, "Calls of the store that failed, by operation."),
        (
            RECONCILES,
            "Times that everything was compared with the shared store: at the start, and after it may have lost something.",
        ),
        (
            REASSERTED,
            "Revocations, deletions, identity providers and keyrings that the shared store had lost and that were written back.",
        ),
        (
            RELOADS,
            "Times that another configuration was read while the server ran, by outcome: applied, refused.",
        ),
        (
            AUDIT_LOST,
            "Records that are not in the audit log: the queue was full, the store failed, or refusals were too many.",
        ),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        (CONNECTIONS, "Open connections by listener."),
        (
            COLLISIONS,
            "Key ids in the merged set of a tenant that more than one identity provider uses.",
        ),
        (
            RELOADED,
            "Whether the configuration was taken over the last time it was read; 0: it was refused as a whole.",
        ),
        (
            RELOADED_AT,
            "When the configuration was taken over the last time, seconds since 1970.",
        ),
        (
            REVOKED,
            "Revocations in force: of tokens, families, subjects, sessions, keys and issuers.",
        ),
        (
            ACTIVE_PARENTS,
            "Parent tokens that have neither expired nor been revoked by their id.",
        ),
        (
            OVERDUE,
            "How long the renewal that is due longest has been waiting; 0: none is due.",
        ),
        (STREAMS, "Token streams that are open."),
        (STORE_HEALTHY, "Whether the last write could be stored."),
        (
            STORE_CONNECTED,
            "Whether the shared store answered the last time; it is asked ten times a second.",
        ),
        (
            STORE_CONNECTIONS,
            "Connections with the shared store that there are.",
        ),
        (
            STORE_CONNECTIONS_LIMIT,
            "Connections with the shared store that there may be.",
        ),
        (
            VIEW_AGE,
            "How old what is known here of revocations is; -1: nothing was ever known. Of a store of one process always 0.",
        ),
        (AUDIT_QUEUED, "Records of the audit log that wait to be written."),
        (BUILD_INFO, "Always 1; the version is a label."),
    ] {
        metrics::describe_gauge!(name, help);
    }
    let seconds = metrics::Unit::Seconds;
    metrics::describe_histogram!(
        REQUEST_DURATION,
        seconds,
        "How long HTTP requests took, by listener and route."
    );
    metrics::describe_histogram!(
        DECISION_DURATION,
        seconds,
        "How long authorization decisions took, by door."
    );
    metrics::describe_histogram!(
        RENEWAL_LAG,
        seconds,
        "How much later than it was due a child was minted by itself."
    );
    metrics::describe_histogram!(
        STORE_DURATION,
        seconds,
        "How long calls of the store took, by operation."
    );
    exporter::describe();
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokenward::telemetry::describe();
}

/// Counts what one listener answers.
pub(crate) struct Requests {
    listener: &'static str,
    /// By route, what methods were answered with which status.
    routes: Kept<(&'static str, u16)>,
}

impl Requests {
    pub(crate) fn new(listener: &'static str) -> Self {
        Self {
            listener,
            routes: Kept::default(),
        }
    }

    /// One answered request. `route` is a template, `method` of a closed set.
    pub(crate) fn count(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let listener = self.listener;
        self.routes.count(
            route,
            (method, status),
            took,
            || metrics::histogram!(REQUEST_DURATION, "listener" => listener, "route" => route.to_owned()),
            || {
                let (route, status) = (route.to_owned(), status.to_string());
                metrics::counter!(REQUESTS, "listener" => listener, "route" => route, "method" => method, "status" => status)
            },
        );
    }
}

/// How many connections a listener has open.
pub(crate) fn connections(listener: &'static str, open: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    metrics::gauge!(CONNECTIONS, "listener" => listener).set(open as f64);
}

/// One connection was closed for the limit on them.
pub(crate) fn connection_refused(listener: &'static str) {
    metrics::counter!(CONNECTIONS_REFUSED, "listener" => listener).increment(1);
}

/// A token of our own was minted. `token_type` is of a closed set.
pub(crate) fn minted(token_type: TokenType) {
    // With a label that is written here, the name of the counter is put together once.
    let counter = match token_type {
        TokenType::Access => metrics::counter!(MINTED, "type" => "access"),
        TokenType::Parent => metrics::counter!(MINTED, "type" => "parent"),
        TokenType::Child => metrics::counter!(MINTED, "type" => "child"),
    };
    counter.increment(1);
}

/// How many revocations are in force.
pub(crate) fn revocations(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    metrics::gauge!(REVOKED).set(count as f64);
}

/// How many parents have not ended.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn active_parents(count: usize) {
    metrics::gauge!(ACTIVE_PARENTS).set(count as f64);
}

/// How long the renewal that is due longest has been waiting.
pub(crate) fn overdue(late: Duration) {
    metrics::gauge!(OVERDUE).set(late.as_secs_f64());
}

/// How many token streams are open.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn streams(open: usize) {
    metrics::gauge!(STREAMS).set(open as f64);
}

/// A limit refused a request. `policy` is of a closed set.
pub(crate) fn limited(policy: &'static str) {
    metrics::counter!(LIMITED, "policy" => policy).increment(1);
}

/// One call of the store. `operation` is of a closed set.
pub(crate) fn store(operation: &'static str, took: Duration, ok: bool) {
    metrics::histogram!(STORE_DURATION, "operation" => operation).record(took.as_secs_f64());
    if !ok {
        metrics::counter!(STORE_ERRORS, "operation" => operation).increment(1);
    }
}

/// Whether the last write could be stored, and how many records of the audit log wait for theirs.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn store_state(healthy: bool, queued: usize) {
    metrics::gauge!(STORE_HEALTHY).set(if healthy { 1.0 } else { 0.0 });
    metrics::gauge!(AUDIT_QUEUED).set(queued as f64);
}

/// Whether the shared store can be reached, how many connections there are and may be, and how old what is known of
/// revocations is.
pub(crate) fn cluster(connected: bool, (open, limit): (usize, usize), age: Option<Duration>) {
    metrics::gauge!(STORE_CONNECTED).set(if connected { 1.0 } else { 0.0 });
    for (name, count) in [(STORE_CONNECTIONS, open), (STORE_CONNECTIONS_LIMIT, limit)] {
        metrics::gauge!(name).set(u32::try_from(count).map_or(f64::MAX, f64::from));
    }
    metrics::gauge!(VIEW_AGE).set(age.map_or(-1.0, |age| age.as_secs_f64()));
}

/// Everything was compared with the shared store, and so much written back to it.
pub(crate) fn reconciled(written: usize) {
    metrics::counter!(RECONCILES).increment(1);
    metrics::counter!(REASSERTED).increment(written as u64);
}

/// A child was minted so much later than it was due.
pub(crate) fn renewed(late: Duration) {
    metrics::histogram!(RENEWAL_LAG).record(late.as_secs_f64());
}

/// Counts authorization decisions: by door, what was decided.
#[derive(Default)]
pub(crate) struct Decisions(Kept<&'static str>);

impl Decisions {
    /// One decision. `reason` is `allow` or the code of the denial.
    pub(crate) fn count(&self, door: &'static str, reason: &'static str, took: Duration) {
        self.0.count(
            door,
            reason,
            took,
            || metrics::histogram!(DECISION_DURATION, "door" => door),
            || metrics::counter!(DECISIONS, "door" => door, "reason" => reason),
        );
    }
}

/// Another configuration was taken over `at` a time, or refused.
pub(crate) fn reloaded(at: Option<Timestamp>) {
    let outcome = if at.is_some() { "applied" } else { "refused" };
    metrics::counter!(RELOADS, "outcome" => outcome).increment(1);
    configured(at);
}

/// The configuration that runs was taken over `at` a time; none: the last one that was read was not.
pub(crate) fn configured(at: Option<Timestamp>) {
    metrics::gauge!(RELOADED).set(if at.is_some() { 1.0 } else { 0.0 });
    if let Some(at) = at {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        metrics::gauge!(RELOADED_AT).set(at.as_millis() as f64 / 1_000.0);
    }
}

/// The tenants that have series of their own: the first ones that were asked for. Others have none.
#[derive(Default)]
pub(crate) struct TenantSeries(Mutex<HashSet<Arc<str>>>);

impl TenantSeries {
    /// How many key ids collide in the merged set of `tenant`.
    pub(crate) fn collisions(&self, tenant: &Arc<str>, count: usize) {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains(tenant) || named.len() < OWN_SERIES && named.insert(Arc::clone(tenant)) {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            metrics::gauge!(COLLISIONS, "tenant" => Arc::clone(tenant)).set(count as f64);
        }
    }
}

/// Records of the audit log that were not written. `why` is of a closed set.
pub(crate) fn audit_lost(why: &'static str, count: u64) {
    metrics::counter!(AUDIT_LOST, "reason" => why).increment(count);
}
