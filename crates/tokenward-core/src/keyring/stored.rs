//! The ring as it is stored: one document, its private keys sealed.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::{Entry, Material, Ring, Schedule, SealFault, Sealer, Stage};
use crate::{
    Timestamp,
    jose::{Algorithm, Key, KeyFault, SigningKey},
};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    algorithm: String,
    stage: String,
    published_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    longest_token: u64,
    public: String,
    /// Base64; absent where the private key is in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<String>,
}

/// Why a stored ring cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredFault {
    /// It is not what this or an earlier version wrote.
    Malformed,
    /// A newer version wrote it.
    Newer(u32),
    /// A private key does not open.
    Sealed {
        /// The key's id.
        kid: String,
        /// Why.
        fault: SealFault,
    },
    /// A key cannot be used.
    Key(KeyFault),
}

impl fmt::Display for StoredFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => {
                f.write_str("the stored signing keys are damaged: restore a backup of the store")
            }
            Self::Newer(version) => write!(
                f,
                "the stored signing keys have version {version}, and this program knows {VERSION}: run the newer program"
            ),
            Self::Sealed { kid, fault } => write!(f, "the stored signing key {kid} cannot be used: {fault}"),
            Self::Key(fault) => write!(f, "a stored signing key cannot be used: {fault}"),
        }
    }
}

impl std::error::Error for StoredFault {}

impl Ring {
    /// The document to store. Private keys are sealed, each bound to its id.
    ///
    /// # Errors
    /// If sealing fails, or there is no nonce. `nonce` must give 12 random bytes at each call.
    pub fn to_document(
        &self,
        sealer: &Sealer,
        nonce: &dyn Fn() -> Option<[u8; 12]>,
    ) -> Result<Vec<u8>, SealFault> {
        let keys = self
            .entries
            .iter()
            .map(|entry| entry.store(sealer, nonce))
            .collect::<Result<_, _>>()?;
        let document = Document {
            version: VERSION,
            keys,
        };
        serde_json::to_vec(&document).map_err(|_| SealFault::Failed)
    }

    /// The ring of a stored document, and whether it should be stored again because a private key in it is not sealed
    /// as `sealer` would seal it now.
    ///
    /// # Errors
    /// Why it cannot be used: a key that cannot be read is not passed over, since its tokens would be refused.
    pub fn from_document(
        document: &[u8],
        sealer: &Sealer,
        algorithm: Algorithm,
        schedule: Schedule,
    ) -> Result<(Self, bool), StoredFault> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(document).map_err(|_| StoredFault::Malformed)?;
        if version > VERSION {
            return Err(StoredFault::Newer(version));
        }
        let document: Document = serde_json::from_slice(document).map_err(|_| StoredFault::Malformed)?;
        let mut outdated = false;
        let mut ring = Self::empty(algorithm, schedule);
        for key in document.keys {
            ring.entries.push(key.load(sealer, &mut outdated)?);
        }
        let active = |entry: &&Entry| matches!(entry.stage, Stage::Active { .. });
        if ring.entries.iter().filter(active).count() > 1 {
            return Err(StoredFault::Malformed);
        }
        ring.reconfigure(algorithm, schedule);
        Ok((ring, outdated))
    }
}

fn purpose(kid: &str) -> String {
    format!("signing key {kid}")
}

impl Entry {
    fn store(&self, sealer: &Sealer, nonce: &dyn Fn() -> Option<[u8; 12]>) -> Result<StoredKey, SealFault> {
        let (since, until) = match self.stage {
            Stage::Pending => (None, None),
            Stage::Active { since } => (Some(since.as_millis()), None),
            Stage::Retiring { until } => (None, Some(until.as_millis())),
        };
        let (public, private) = match &self.material {
            Material::Own(key) => {
                let secret = key.to_pkcs8().ok_or(SealFault::Failed)?;
                let sealed = sealer.seal(
                    &purpose(key.kid()),
                    secret.expose_secret(),
                    nonce().ok_or(SealFault::Failed)?,
                )?;
                (key.public_jwk(), Some(STANDARD.encode(sealed)))
            }
            Material::Public { jwk, .. } => (jwk.as_str(), None),
        };
        Ok(StoredKey {
            algorithm: self.algorithm().map_or("", Algorithm::name).to_owned(),
            stage: self.stage.name().to_owned(),
            published_at: self.published_at.as_millis(),
            since,
            until,
            longest_token: self.longest_token.as_secs(),
            public: public.to_owned(),
            private,
        })
    }
}

impl StoredKey {
    fn load(self, sealer: &Sealer, outdated: &mut bool) -> Result<Entry, StoredFault> {
        let algorithm = Algorithm::parse(&self.algorithm).ok_or(StoredFault::Malformed)?;
        let time = |millis: Option<i64>| millis.map(Timestamp::from_millis).ok_or(StoredFault::Malformed);
        let stage = match self.stage.as_str() {
            "pending" => Stage::Pending,
            "active" => Stage::Active {
                since: time(self.since)?,
            },
            "retiring" => Stage::Retiring {
                until: time(self.until)?,
            },
            _ => return Err(StoredFault::Malformed),
        };
        let verifier = Key::from_jwk(self.public.as_bytes()).map_err(|_| StoredFault::Malformed)?;
        let kid = verifier.kid().ok_or(StoredFault::Malformed)?.to_owned();
        let material = match &self.private {
            None => Material::Public {
                jwk: self.public,
                verifier: Arc::new(verifier),
            },
            Some(private) => {
                let sealed = STANDARD.decode(private).map_err(|_| StoredFault::Malformed)?;
                let secret = sealer
                    .open(&purpose(&kid), &sealed)
                    .map_err(|fault| StoredFault::Sealed {
                        kid: kid.clone(),
                        fault,
                    })?;
                *outdated |= !sealer.is_current(&sealed);
                let key =
                    SigningKey::from_pkcs8(secret.expose_secret(), algorithm).map_err(StoredFault::Key)?;
                // What is published must be what signs.
                if key.kid() != kid {
                    return Err(StoredFault::Malformed);
                }
                Material::Own(key)
            }
        };
        Ok(Entry {
            material,
            published_at: Timestamp::from_millis(self.published_at),
            stage,
            longest_token: Duration::from_secs(self.longest_token),
        })
    }
}
