//! Log and metric set-up, and every metric name of the server itself. Those of the library are in the library.
//!
//! Labels come from closed sets: route templates, known methods, listener names, reason codes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokenward_core::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{Level, LogFormat};

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
const RENEWAL_LAG: &str = "tokenward_renewal_lag_seconds";
const RELOADED: &str = "tokenward_config_last_reload_successful";
const RELOADED_AT: &str = "tokenward_config_last_reload_success_timestamp_seconds";
const BUILD_INFO: &str = "tokenward_build_info";

/// Tenants that have series of their own.
const OWN_SERIES: usize = 1_000;

/// Upper bounds of the buckets of every histogram, in seconds: from a cached decision to a fetch's deadline.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 8.0,
];

/// Where log lines go, and which.
pub(crate) struct Log {
    set: Box<dyn Fn(Level, LogFormat) + Send + Sync>,
}

impl Log {
    /// Writes lines from `level` on in `format`, from now on.
    pub(crate) fn set(&self, level: Level, format: LogFormat) {
        (self.set)(level, format);
    }
}

/// Sends log lines to stdout. Call it once, first of all.
///
/// Lines of other crates are never finer than `warn`: below that the HTTP ones write header values, tokens among
/// them.
pub(crate) fn log(level: Level, format: LogFormat) -> Log {
    // Both formats are there, and the filter of one of them lets nothing through.
    let (json_filter, json) = reload::Layer::new(filter(level, format == LogFormat::Json));
    let (text_filter, text) = reload::Layer::new(filter(level, format == LogFormat::Text));
    let json_lines = tracing_subscriber::fmt::layer().with_ansi(false).json();
    let json_lines = json_lines.flatten_event(true).with_current_span(false);
    let text_lines = tracing_subscriber::fmt::layer().with_ansi(false);
    // A second call, as tests of one process make, leaves the first in place.
    let _ = tracing_subscriber::registry()
        .with(json_lines.with_filter(json_filter))
        .with(text_lines.with_filter(text_filter))
        .try_init();
    Log {
        set: Box::new(move |level, format| {
            // It fails only where the call was not the first.
            let _ = json.reload(filter(level, format == LogFormat::Json));
            let _ = text.reload(filter(level, format == LogFormat::Text));
        }),
    }
}

fn filter(level: Level, writes: bool) -> Targets {
    if !writes {
        return Targets::new();
    }
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("tokenward", level)
        .with_target("tokenward_core", level)
        .with_target("tokenward_store", level)
}

/// Installs the recorder that `/metrics` shows. Call it before anything registers a metric.
///
/// # Errors
///
/// If another recorder is installed already.
pub(crate) fn metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)?
        .install_recorder()?;
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
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokenward::telemetry::describe();
    Ok(handle)
}

/// One answered request.
pub(crate) fn request(
    listener: &'static str,
    route: &str,
    method: &'static str,
    status: u16,
    took: Duration,
) {
    let (route, status) = (route.to_owned(), status.to_string());
    metrics::histogram!(REQUEST_DURATION, "listener" => listener, "route" => route.clone())
        .record(took.as_secs_f64());
    metrics::counter!(REQUESTS, "listener" => listener, "route" => route, "method" => method, "status" => status)
        .increment(1);
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
pub(crate) fn minted(token_type: &'static str) {
    metrics::counter!(MINTED, "type" => token_type).increment(1);
}

/// How many revocations are in force.
pub(crate) fn revocations(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    metrics::gauge!(REVOKED).set(count as f64);
}

/// A child was minted so much later than it was due.
pub(crate) fn renewed(late: Duration) {
    metrics::histogram!(RENEWAL_LAG).record(late.as_secs_f64());
}

/// One authorization decision. `reason` is `allow` or the code of the denial.
pub(crate) fn decision(door: &'static str, reason: &'static str, took: Duration) {
    metrics::counter!(DECISIONS, "door" => door, "reason" => reason).increment(1);
    metrics::histogram!(DECISION_DURATION, "door" => door).record(took.as_secs_f64());
}

/// The configuration was taken over `at` a time, or refused.
pub(crate) fn reloaded(at: Option<Timestamp>) {
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
