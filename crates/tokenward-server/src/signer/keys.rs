//! The keys as they are at one moment.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokenward_core::{
    Timestamp,
    jose::{Algorithm, KeySet, SigningKey},
    keyring::{PublishedKey, Ring, Stage},
    revocation::LONGEST_LEEWAY,
    session::IdKey,
};

use super::vault::Vault;

/// For how long a key is in the store before it signs where several processes have one: each of the others has taken it over
/// within 2 seconds, and publishes it.
const KNOWN: Duration = Duration::from_secs(3);

/// The keys as they are now.
pub(crate) struct Keys {
    /// Those that may sign, best first.
    pub(super) signers: Vec<Signs>,
    /// Makes and reads ids of our tokens. None: there are no keys yet.
    pub(crate) ids: Option<IdKey>,
    /// What is published, as a key set.
    pub(crate) document: Bytes,
    /// The same, to verify with.
    pub(crate) set: Arc<KeySet>,
    /// The longest that a token of one of them may live.
    pub(crate) longest_token: Duration,
    /// What is published, and how it stands: the active one first.
    pub(crate) published: Vec<Published>,
}

/// A key that may sign.
pub(super) struct Signs {
    pub(super) key: SigningKey,
    /// From when on, by the clock that does not leap; at any time where that is not said.
    pub(super) from: Option<Timestamp>,
    /// When the last of its tokens has to have ended.
    pub(super) last_end: Option<Timestamp>,
}

/// One published key.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) stage: Stage,
    pub(crate) published_at: Timestamp,
    pub(crate) in_file: bool,
    /// The public key as it is published, in JSON.
    pub(crate) jwk: Box<RawValue>,
}

impl Keys {
    /// Before there are any.
    pub(super) fn none(longest_token: Duration) -> Self {
        Self {
            signers: Vec::new(),
            ids: None,
            document: Bytes::from_static(br#"{"keys":[]}"#),
            set: Arc::default(),
            longest_token,
            published: Vec::new(),
        }
    }

    /// Those of `vault`. Where other processes publish them too, `seen` says since when this one has known each to be stored.
    pub(super) fn of(
        vault: &Vault,
        file: Option<&SigningKey>,
        seen: Option<&HashMap<String, Timestamp>>,
    ) -> Option<Self> {
        let (mut texts, mut published) = (Vec::new(), Vec::new());
        for key in vault.ring.published() {
            texts.push(key.jwk().to_owned());
            published.push(Published {
                kid: key.kid().to_owned(),
                algorithm: key.algorithm()?,
                stage: key.stage(),
                published_at: key.published_at(),
                in_file: key.is_kept_in_file(),
                jwk: RawValue::from_string(key.jwk().to_owned()).ok()?,
            });
        }
        let document: Bytes = format!(r#"{{"keys":[{}]}}"#, texts.join(",")).into();
        Some(Self {
            signers: signers(&vault.ring, file, seen),
            ids: Some(IdKey::new(vault.id_key())),
            set: Arc::new(KeySet::parse(&document).ok()?),
            document,
            longest_token: vault.ring.longest_token(),
            published,
        })
    }

    /// The id of the active key.
    pub(crate) fn active(&self) -> Option<&str> {
        let first = self.published.first()?;
        matches!(first.stage, Stage::Active { .. }).then_some(first.kid.as_str())
    }
}

/// The active key and, where several processes publish them, those before it, latest first: they stand in for it as long as
/// not everybody may publish it.
fn signers(ring: &Ring, file: Option<&SigningKey>, seen: Option<&HashMap<String, Timestamp>>) -> Vec<Signs> {
    let private = |key: &PublishedKey<'_>| {
        let own = key.signing_key();
        own.or(file.filter(|file| file.kid() == key.kid())).cloned()
    };
    let mut signers = Vec::new();
    for key in ring.published() {
        let last_end = match key.stage() {
            Stage::Active { .. } => None,
            Stage::Retiring { until } if seen.is_some() => Some(until - LONGEST_LEEWAY),
            Stage::Retiring { .. } | Stage::Pending => continue,
        };
        let from = seen.map(|seen| seen.get(key.kid()).copied().unwrap_or(Timestamp::MAX) + KNOWN);
        signers.extend(private(&key).map(|key| Signs { key, from, last_end }));
    }
    signers.sort_by_key(|signs| std::cmp::Reverse(signs.last_end.unwrap_or(Timestamp::MAX)));
    signers
}
