//! What the store keeps of the signing keys: the ring, and the key of token ids.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretBox};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokenward_core::{
    jose::Algorithm,
    keyring::{Ring, Schedule, SealFault, Sealer, StoredFault},
    session::ID_KEY_BYTES,
};

use super::{SignerError, random};

const ID_KEY: &str = "token id key";

/// The ring and what belongs to it.
pub(super) struct Vault {
    pub(super) ring: Ring,
    id_key: SecretBox<[u8; ID_KEY_BYTES]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ring: Box<RawValue>,
    id_key: String,
}

/// Why the stored keys cannot be used.
#[derive(Debug)]
pub(crate) enum VaultFault {
    /// It is not what this program wrote.
    Malformed,
    /// The ring cannot be used.
    Ring(StoredFault),
    /// A secret cannot be sealed or opened.
    Secret(SealFault),
}

impl fmt::Display for VaultFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => {
                f.write_str("the stored signing keys are damaged: restore a backup of the store")
            }
            Self::Ring(fault) => fault.fmt(f),
            Self::Secret(fault) => write!(f, "a stored secret cannot be used: {fault}"),
        }
    }
}

impl std::error::Error for VaultFault {}

impl Vault {
    pub(super) fn new(ring: Ring, id_key: [u8; ID_KEY_BYTES]) -> Self {
        Self {
            ring,
            id_key: SecretBox::new(Box::new(id_key)),
        }
    }

    /// The same with another ring.
    pub(super) fn with(&self, ring: Ring) -> Self {
        Self::new(ring, *self.id_key())
    }

    pub(super) fn id_key(&self) -> &[u8; ID_KEY_BYTES] {
        self.id_key.expose_secret()
    }

    /// Reads it, and says whether it should be stored anew.
    pub(super) fn open(
        document: &[u8],
        sealer: &Sealer,
        algorithm: Algorithm,
        schedule: Schedule,
    ) -> Result<(Self, bool), VaultFault> {
        let document: Document = serde_json::from_slice(document).map_err(|_| VaultFault::Malformed)?;
        let (ring, outdated) =
            Ring::from_document(document.ring.get().as_bytes(), sealer, algorithm, schedule)
                .map_err(VaultFault::Ring)?;
        let sealed = STANDARD
            .decode(&document.id_key)
            .map_err(|_| VaultFault::Malformed)?;
        let id_key = sealer.open(ID_KEY, &sealed).map_err(VaultFault::Secret)?;
        let id_key: [u8; ID_KEY_BYTES] = id_key
            .expose_secret()
            .try_into()
            .map_err(|_| VaultFault::Malformed)?;
        let vault = Self {
            ring,
            id_key: SecretBox::new(Box::new(id_key)),
        };
        Ok((vault, outdated || !sealer.is_current(&sealed)))
    }

    pub(super) fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>, SignerError> {
        let ring = self
            .ring
            .to_document(sealer, &|| random().ok())
            .map_err(VaultFault::Secret)?;
        let id_key = sealer
            .seal(ID_KEY, self.id_key(), random()?)
            .map_err(VaultFault::Secret)?;
        let ring = String::from_utf8(ring).map_err(|_| VaultFault::Malformed)?;
        let document = Document {
            ring: RawValue::from_string(ring).map_err(|_| VaultFault::Malformed)?,
            id_key: STANDARD.encode(id_key),
        };
        serde_json::to_vec(&document).map_err(|_| VaultFault::Malformed.into())
    }
}
