//! What is shown of what was recorded: the series of what is there, and of nothing that is gone.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokenward::{DEFAULT_TENANT, Registry};
use tokenward_core::Timestamp;

use super::recorder::{Labels, Recorder};

const EXPIRES: &str = "jwt_parent_token_expiry_timestamp_seconds";
const ISSUED: &str = "jwt_parent_token_issued_timestamp_seconds";

/// The label of all identity providers that have no series of their own.
const OTHER: &str = "other";

/// A parent token that has series of its own.
pub(crate) struct Parent {
    pub(crate) parent_jti: String,
    pub(crate) user_id: String,
    pub(crate) network: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// Shows metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Exporter(Arc<Inner>);

struct Inner {
    recorder: Recorder,
    /// Whose identity providers have series.
    registry: Registry,
    /// Whether single parent tokens have.
    per_token: AtomicBool,
    /// The ids of those that have.
    parents: Mutex<HashSet<String>>,
}

impl Exporter {
    pub(crate) fn new(recorder: Recorder, registry: Registry) -> Self {
        Self(Arc::new(Inner {
            recorder,
            registry,
            per_token: AtomicBool::new(false),
            parents: Mutex::default(),
        }))
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self) -> String {
        self.forget();
        self.0.recorder.render()
    }

    /// Forgets the series of what is gone.
    pub(crate) fn forget(&self) {
        let parents = self.0.parents.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.recorder.retain(|labels| match labels.get("parent_jti") {
            Some(parent) => parents.contains(parent),
            None => self.is_registered(labels),
        });
    }

    /// Whether single parent tokens are to have series, from now on.
    pub(crate) fn show_parents(&self, per_token: bool) {
        self.0.per_token.store(per_token, Ordering::Relaxed);
    }

    pub(crate) fn shows_parents(&self) -> bool {
        self.0.per_token.load(Ordering::Relaxed)
    }

    /// These parent tokens have series, and no others.
    pub(crate) fn parents(&self, parents: &[Parent]) {
        let ids = parents.iter().map(|parent| parent.parent_jti.clone()).collect();
        *self.0.parents.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        for parent in parents {
            for (name, time) in [(EXPIRES, parent.expires_at), (ISSUED, parent.issued_at)] {
                let gauge = metrics::gauge!(
                    name,
                    "user_id" => parent.user_id.clone(),
                    "network" => parent.network.clone(),
                    "parent_jti" => parent.parent_jti.clone()
                );
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                gauge.set(time.as_secs() as f64);
            }
        }
    }

    fn is_registered(&self, labels: &Labels<'_>) -> bool {
        match labels.get("provider").or(labels.get("idp")) {
            None | Some(OTHER) => true,
            Some(idp) => {
                let tenant = labels.get("tenant").unwrap_or(DEFAULT_TENANT);
                self.0.registry.idp(tenant, idp).is_some()
            }
        }
    }
}

pub(super) fn describe() {
    metrics::describe_gauge!(
        EXPIRES,
        "When a parent token expires, seconds since 1970; with `metrics.per_token`, for 1,000 of them at most."
    );
    metrics::describe_gauge!(
        ISSUED,
        "When a parent token was issued, seconds since 1970; with `metrics.per_token`, for 1,000 of them at most."
    );
}
