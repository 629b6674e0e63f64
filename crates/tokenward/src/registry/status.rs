//! The status record of one identity provider.

use serde::Serialize;
use tokenward_core::freshness::{State, Status};
use url::Url;

use super::{Idp, IdpKeys};

/// The record that everybody shows of an identity provider. Durations are seconds, times RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct IdpStatus {
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Its issuer, where it is known.
    pub issuer: Option<String>,
    /// How its keys stand.
    #[serde(flatten)]
    pub keys: Status,
    /// Key lookups that a fresh set answered, of all; absent before the first.
    pub hit_rate: Option<f64>,
    /// Key lookups that a stale set answered, of all; absent before the first.
    pub stale_serve_ratio: Option<f64>,
}

/// What only operators are shown beside the record.
#[derive(Clone, Debug, Serialize)]
pub struct IdpDetails {
    /// Where the keys come from, as far as it is known; `***` stands for its query, which may hold a secret.
    pub url: Option<String>,
    /// The last failure in words; absent after a success.
    pub last_error_text: Option<String>,
}

impl Idp {
    /// The record of now.
    #[must_use]
    pub fn status(&self) -> IdpStatus {
        let now = self.clock.steady();
        let (keys, (all, hits, stale)) = match &self.keys {
            IdpKeys::Fetched(source) => (source.status(now), source.lookups.read()),
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => (Status::fixed(), (0, 0, 0)),
        };
        #[expect(clippy::cast_precision_loss, reason = "a ratio of counts far below 2^53")]
        let ratio = |part: u64| (all > 0).then(|| part as f64 / all as f64);
        IdpStatus {
            name: self.name().to_owned(),
            tenant: self.tenant().to_owned(),
            issuer: self.config().issuer().map(str::to_owned),
            keys,
            hit_rate: ratio(hits),
            stale_serve_ratio: ratio(stale),
        }
    }

    /// Whether it has keys that can be used, or needs none to be fetched.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        match &self.keys {
            IdpKeys::Fetched(source) => source.view().keys(self.clock.steady()).is_some(),
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => true,
        }
    }

    /// Whether its keys were fetched or restored, or that was tried.
    #[must_use]
    pub fn was_tried(&self) -> bool {
        match &self.keys {
            IdpKeys::Fetched(source) => {
                let state = source.state(self.clock.steady());
                !matches!(state, State::Empty | State::Loading)
            }
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => true,
        }
    }

    /// What only operators are to see.
    #[must_use]
    pub fn details(&self) -> IdpDetails {
        match &self.keys {
            IdpKeys::Fetched(source) => IdpDetails {
                url: source.url().map(shown),
                last_error_text: source.error_text(),
            },
            IdpKeys::Fixed(_) | IdpKeys::Given(_) => IdpDetails {
                url: None,
                last_error_text: None,
            },
        }
    }
}

/// An address as it may be shown: its query may hold what opens it.
fn shown(mut url: Url) -> String {
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.into()
}
