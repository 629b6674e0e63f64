//! The keys that our own tokens are signed with: kept in the store, published, and changed when they are due.
//!
//! A change is stored before anything acts on it: a key is never used, or shown, that a restart would not know.

mod vault;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use tokenward_core::{
    Clock, Timestamp,
    jose::{Algorithm, KeySet, SigningKey},
    keyring::{Changes, Ring, RingFault, Schedule, Sealer, Stage},
    session::IdKey,
};
use tokenward_store::{Ledger, StoreError};
use tokio::sync::{Mutex, watch};

use vault::{Vault, VaultFault};

use crate::revocation::{Failed, Order, Revocations, Target};

/// Signs, and owns the keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    sealer: Sealer,
    algorithm: Algorithm,
    /// The operator's own key, where it is in a file.
    file: Option<SigningKey>,
    ids: IdKey,
    issuer: String,
    revocations: Revocations,
    stored: Mutex<Stored>,
    current: ArcSwap<Keys>,
    changed: watch::Sender<u64>,
}

struct Stored {
    vault: Vault,
    version: u64,
}

/// The keys as they are now.
pub(crate) struct Keys {
    /// Signs.
    pub(crate) signer: SigningKey,
    /// What is published, as a key set.
    pub(crate) document: Bytes,
    /// The same, to verify with.
    pub(crate) set: Arc<KeySet>,
    /// The longest that a token of one of them may live.
    pub(crate) longest_token: Duration,
    /// What is published, and how it stands.
    pub(crate) published: Vec<Published>,
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

/// Where the first key comes from.
pub(crate) enum First {
    /// Out of a file of the operator's.
    File(SigningKey),
    /// Made where there is none yet.
    Generated,
    /// There must be one in the store.
    Stored,
}

/// How keys are made and kept.
pub(crate) struct Settings {
    pub(crate) algorithm: Algorithm,
    pub(crate) schedule: Schedule,
    pub(crate) sealer: Sealer,
    pub(crate) first: First,
    /// Whose keys they are.
    pub(crate) issuer: String,
    /// What refuses the tokens of a revoked key.
    pub(crate) revocations: Revocations,
}

/// Why keys could not be read or changed.
#[derive(Debug)]
pub(crate) enum SignerError {
    /// There is none, and none may be made.
    Missing,
    /// What is stored cannot be used.
    Vault(VaultFault),
    /// The key was revoked.
    Revoked,
    /// The change is not possible as things stand.
    Ring(RingFault),
    /// The store failed.
    Store(StoreError),
    /// The store was changed by somebody else meanwhile.
    Raced,
    /// The system failed.
    System(&'static str),
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "there is no signing key: name one by `token_service.private_key_file`, or let one be made in the store by \
                 `token_service.generate_key: true`",
            ),
            Self::Vault(fault) => fault.fmt(f),
            Self::Revoked => f.write_str("the key was revoked, and what was revoked stays so: make another one"),
            Self::Ring(fault) => fault.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Raced => f.write_str("the keys were changed by somebody else at the same time; try again"),
            Self::System(what) => write!(f, "cannot {what}"),
        }
    }
}

impl std::error::Error for SignerError {}

impl From<StoreError> for SignerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for SignerError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => Self::Store(error),
            Failed::NoRandomness => Self::System("draw random numbers"),
            // It is said of users alone.
            Failed::TooSoon | Failed::Overtaken => Self::Raced,
        }
    }
}

impl From<RingFault> for SignerError {
    fn from(fault: RingFault) -> Self {
        Self::Ring(fault)
    }
}

impl From<VaultFault> for SignerError {
    fn from(fault: VaultFault) -> Self {
        Self::Vault(fault)
    }
}

impl Signer {
    /// Reads the keys, or makes the first ones. What is stored under an older encryption key is stored anew.
    pub(crate) async fn open(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, SignerError> {
        let Settings {
            algorithm,
            schedule,
            sealer,
            first,
            issuer,
            revocations,
        } = settings;
        let now = clock.wall();
        let stored = ledger.keyring().await?;
        let version = stored.as_ref().map_or(0, |(version, _)| *version);
        let (mut vault, mut changed) = match stored {
            Some((_, document)) => Vault::open(&document, &sealer, algorithm, schedule)?,
            None => (Vault::empty(algorithm, schedule, random()?), true),
        };
        let file = match first {
            First::File(key) => {
                if revocations.index().refuses_key(&issuer, key.kid()) {
                    return Err(SignerError::Revoked);
                }
                changed |= !vault.ring.keep_in_file(&key, now).is_empty();
                Some(key)
            }
            First::Generated => {
                let (ring, changes) = blocking(vault.ring, move |ring| {
                    ring.keep_in_store(now, &SigningKey::generate)
                        .map_err(RingFault::from)
                })
                .await?;
                vault.ring = ring;
                changed |= !changes.is_empty();
                None
            }
            First::Stored if vault.ring.signer().is_none() => return Err(SignerError::Missing),
            First::Stored => None,
        };
        // A process that ended between the revocation of a key and the change of the ring left it here.
        let refused: Vec<String> = vault
            .ring
            .published()
            .map(|key| key.kid().to_owned())
            .filter(|kid| revocations.index().refuses_key(&issuer, kid))
            .collect();
        for kid in refused {
            tracing::warn!(
                kid,
                "a signing key is revoked and was published still; it is taken out"
            );
            let (ring, _) = blocking(vault.ring, move |ring| {
                ring.revoke(&kid, now, &SigningKey::generate)
            })
            .await?;
            vault.ring = ring;
            changed = true;
        }
        let version = match changed {
            false => version,
            true => {
                let document = vault.seal(&sealer)?;
                if !ledger.put_keyring(version, &document).await? {
                    return Err(SignerError::Raced);
                }
                version + 1
            }
        };
        let keys = Keys::of(&vault.ring, file.as_ref()).ok_or(SignerError::Missing)?;
        let ids = IdKey::new(vault.id_key());
        Ok(Self(Arc::new(Inner {
            ledger,
            clock,
            sealer,
            algorithm,
            file,
            ids,
            issuer,
            revocations,
            stored: Mutex::new(Stored { vault, version }),
            current: ArcSwap::from_pointee(keys),
            changed: watch::Sender::new(0),
        })))
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.0.current.load_full()
    }

    /// Follows changes of the keys.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The issuer of the tokens that are signed.
    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Makes and reads ids of our tokens.
    pub(crate) fn ids(&self) -> &IdKey {
        &self.0.ids
    }

    /// Seals what must not be in the store in the clear.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// Lets the successor sign.
    pub(crate) async fn rotate(&self, force: bool) -> Result<Changes, SignerError> {
        self.change(move |ring, now| ring.rotate(force, now, &SigningKey::generate))
            .await
    }

    /// What new keys are for.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Publishes a new key that signs after the active one.
    pub(crate) async fn generate(&self) -> Result<Changes, SignerError> {
        let algorithm = self.0.algorithm;
        self.change(move |ring, now| ring.add(SigningKey::generate(algorithm)?, now))
            .await
    }

    /// Publishes the operator's key, which signs after the active one.
    pub(crate) async fn import(&self, key: SigningKey) -> Result<Changes, SignerError> {
        // Its tokens would be good again.
        if self.0.revocations.index().refuses_key(&self.0.issuer, key.kid()) {
            return Err(SignerError::Revoked);
        }
        self.change(move |ring, now| ring.add(key, now)).await
    }

    /// Ends a key and its tokens at once, for good.
    pub(crate) async fn revoke(&self, kid: String) -> Result<Changes, SignerError> {
        let name = kid.clone();
        self.change_revoking(Some(kid), move |ring, now| {
            ring.revoke(&name, now, &SigningKey::generate)
        })
        .await
    }

    /// Does what is due, for ever. A failure is tried again after a minute.
    pub(crate) async fn keep(self) {
        // Civil time may be set, so the wait is never long.
        let longest = Duration::from_secs(60);
        loop {
            let due = self.0.stored.lock().await.vault.ring.next_wakeup();
            let wait = due.map_or(longest, |due| due.since(self.now())).min(longest);
            self.0.clock.sleep(wait).await;
            if due.is_none_or(|due| due > self.now()) {
                continue;
            }
            match self
                .change(|ring, now| Ok(ring.tick(now, &SigningKey::generate)?))
                .await
            {
                Ok(changes) => {
                    tracing::info!(
                        activated = changes.activated.as_deref(),
                        added = ?changes.added,
                        gone = ?changes.gone,
                        "signing keys changed as scheduled"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "signing keys are due to change and cannot; trying again");
                    self.0.clock.sleep(longest).await;
                }
            }
        }
    }

    /// A civil clock that is set forward by mistake must not take a key away whose tokens are good.
    fn now(&self) -> Timestamp {
        self.0.clock.wall().min(self.0.clock.steady())
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Ring, Timestamp) -> Result<Changes, RingFault> + Send + 'static,
    ) -> Result<Changes, SignerError> {
        self.change_revoking(None, change).await
    }

    /// What a key that is `revoked` signed is refused once the change is known to be possible: durably, then in force, and
    /// only then is the key taken out.
    async fn change_revoking(
        &self,
        revoked: Option<String>,
        change: impl FnOnce(&mut Ring, Timestamp) -> Result<Changes, RingFault> + Send + 'static,
    ) -> Result<Changes, SignerError> {
        let inner = &self.0;
        let mut stored = inner.stored.lock().await;
        let now = self.now();
        let (ring, changes) = blocking(stored.vault.ring.clone(), move |ring| change(ring, now)).await?;
        if let Some(kid) = revoked {
            let order = Order::own(&inner.issuer, Target::Key(kid));
            inner.revocations.revoke(order).await?;
        }
        if changes.is_empty() {
            return Ok(changes);
        }
        let vault = stored.vault.with(ring);
        let keys = Keys::of(&vault.ring, inner.file.as_ref()).ok_or(SignerError::Missing)?;
        let document = vault.seal(&inner.sealer)?;
        if !inner.ledger.put_keyring(stored.version, &document).await? {
            return Err(SignerError::Raced);
        }
        *stored = Stored {
            vault,
            version: stored.version + 1,
        };
        inner.current.store(Arc::new(keys));
        inner.changed.send_modify(|count| *count += 1);
        Ok(changes)
    }
}

impl Keys {
    fn of(ring: &Ring, file: Option<&SigningKey>) -> Option<Self> {
        let signer = ring.signer().or(file)?.clone();
        let (mut texts, mut published) = (Vec::new(), Vec::new());
        for key in ring.published() {
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
            signer,
            set: Arc::new(KeySet::parse(&document).ok()?),
            document,
            longest_token: ring.longest_token(),
            published,
        })
    }
}

/// Changes a ring where it may take its time: making an RSA key takes up to seconds.
async fn blocking(
    mut ring: Ring,
    change: impl FnOnce(&mut Ring) -> Result<Changes, RingFault> + Send + 'static,
) -> Result<(Ring, Changes), SignerError> {
    let changed = tokio::task::spawn_blocking(move || {
        let changes = change(&mut ring)?;
        Ok::<_, RingFault>((ring, changes))
    });
    Ok(changed.await.map_err(|_| SignerError::System("make a key"))??)
}

/// Random bytes.
fn random<const N: usize>() -> Result<[u8; N], SignerError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignerError::System("draw random numbers"))?;
    Ok(bytes)
}

/// Seals under a nonce of its own.
pub(crate) fn seal(sealer: &Sealer, purpose: &str, secret: &str) -> Result<Vec<u8>, SignerError> {
    let nonce = random()?;
    sealer
        .seal(purpose, secret.as_bytes(), nonce)
        .map_err(|fault| SignerError::Vault(VaultFault::Secret(fault)))
}

/// Opens what [`seal`] made.
pub(crate) fn open(sealer: &Sealer, purpose: &str, sealed: &[u8]) -> Result<String, SignerError> {
    let secret = sealer
        .open(purpose, sealed)
        .map_err(|fault| SignerError::Vault(VaultFault::Secret(fault)))?;
    String::from_utf8(secret.expose_secret().to_vec()).map_err(|_| SignerError::Vault(VaultFault::Malformed))
}
