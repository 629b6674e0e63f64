//! A snapshot as a value, sealed against change.

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tokenward_core::Timestamp;

use crate::{Snapshot, digest::digest};

const VERSION: u32 = 1;

/// Tells values that we wrote from what others made of them.
#[derive(Clone)]
pub(super) struct Seal(Vec<hmac::Key>);

/// A [`Snapshot`] in JSON; bytes are base64.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    tenant: String,
    name: String,
    url: String,
    config_hash: String,
    body: String,
    etag: Option<String>,
    last_modified: Option<String>,
    fetched_at: i64,
    max_age: Option<u64>,
    tag: String,
}

impl Seal {
    /// The first key seals, and any opens. Without keys a value is told from a damaged one alone.
    pub(super) fn new(keys: &[[u8; 32]]) -> Self {
        Self(
            keys.iter()
                .map(|key| hmac::Key::new(hmac::HMAC_SHA256, key))
                .collect(),
        )
    }

    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<Vec<u8>, serde_json::Error> {
        let Snapshot {
            tenant,
            name,
            url,
            config_hash,
            body,
            etag,
            last_modified,
            fetched_at,
            upstream_max_age,
        } = snapshot;
        let max_age = upstream_max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let digest = digest_of(snapshot, max_age);
        let tag = match self.0.first() {
            Some(key) => STANDARD.encode(hmac::sign(key, &digest)),
            None => STANDARD.encode(digest),
        };
        serde_json::to_vec(&Stored {
            v: VERSION,
            tenant: tenant.clone(),
            name: name.clone(),
            url: url.clone(),
            config_hash: STANDARD.encode(config_hash),
            body: STANDARD.encode(body),
            etag: etag.clone(),
            last_modified: last_modified.clone(),
            fetched_at: fetched_at.as_millis(),
            max_age,
            tag,
        })
    }

    /// The snapshot, or in which way the value is none.
    pub(super) fn read(&self, value: &[u8]) -> Result<Snapshot, &'static str> {
        let stored: Stored = serde_json::from_slice(value).map_err(|_| "it cannot be read")?;
        if stored.v != VERSION {
            return Err("it is of another version");
        }
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| "it cannot be read");
        let snapshot = Snapshot {
            config_hash: bytes(&stored.config_hash)?
                .try_into()
                .map_err(|_| "it cannot be read")?,
            body: bytes(&stored.body)?,
            tenant: stored.tenant,
            name: stored.name,
            url: stored.url,
            etag: stored.etag,
            last_modified: stored.last_modified,
            fetched_at: Timestamp::from_millis(stored.fetched_at),
            upstream_max_age: stored.max_age.map(Duration::from_millis),
        };
        let (digest, tag) = (digest_of(&snapshot, stored.max_age), bytes(&stored.tag)?);
        let good = match self.0.as_slice() {
            [] => constant_time::verify_slices_are_equal(&digest, &tag).is_ok(),
            keys => keys.iter().any(|key| hmac::verify(key, &digest, &tag).is_ok()),
        };
        match good {
            true => Ok(snapshot),
            false => Err("its tag does not match"),
        }
    }
}

fn digest_of(snapshot: &Snapshot, max_age: Option<u64>) -> [u8; 32] {
    let Snapshot {
        tenant,
        name,
        url,
        config_hash,
        body,
        etag,
        last_modified,
        fetched_at,
        upstream_max_age: _, // as stored: `max_age`
    } = snapshot;
    digest(&[
        Some(b"snapshot 1"),
        Some(tenant.as_bytes()),
        Some(name.as_bytes()),
        Some(url.as_bytes()),
        Some(config_hash),
        Some(body),
        etag.as_deref().map(str::as_bytes),
        last_modified.as_deref().map(str::as_bytes),
        Some(&fetched_at.as_millis().to_be_bytes()),
        max_age.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice),
    ])
}
