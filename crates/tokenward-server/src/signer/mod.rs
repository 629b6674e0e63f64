//! The keys that our own tokens are signed with: kept in the store, published, and changed when they are due.
//!
//! A change is stored before anything acts on it: a key is never used, or shown, that a restart would not know. Where several
//! processes share the store each follows what the others change, and signs with no key that one of them may not publish yet.

mod change;
mod error;
mod keys;
#[cfg(test)]
pub(crate) mod tests;
mod vault;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use secrecy::ExposeSecret as _;
use tokenward_core::{
    Clock, Timestamp,
    jose::{Algorithm, SigningKey},
    keyring::{Changes, HELD, Ring, Schedule, Sealer},
    session::TokenId,
};
use tokenward_store::Ledger;
use tokio::sync::{Mutex, Notify, watch};

use self::{change::Change, vault::Vault};
pub(crate) use self::{
    error::{SignerError, Unsigned},
    keys::{Keys, Published},
    vault::VaultFault,
};
use crate::revocation::{Order, Revocations, Target};

/// The longest wait between two looks at what is due: civil time may be set, and what others changed may not have been heard.
const LONGEST: Duration = Duration::from_secs(60);
/// After which what was merged is tried to be stored again: others do not publish all of it yet.
const MERGING: Duration = Duration::from_secs(5);
/// How often a change is tried where others change the keys at the same time, and how long what they stored is waited for.
const ATTEMPTS: usize = 10;
const HEARING: Duration = Duration::from_millis(200);

/// Signs, and owns the keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    sealer: Sealer,
    algorithm: Algorithm,
    schedule: Schedule,
    first: First,
    issuer: String,
    revocations: Revocations,
    shared: bool,
    /// Whether the store is known to have what it should.
    joined: AtomicBool,
    /// Whether [`First`] was seen to.
    begun: AtomicBool,
    stored: Mutex<Stored>,
    current: ArcSwap<Keys>,
    /// When these were last known to be the keys of the store, in milliseconds of the clock that does not leap.
    confirmed: AtomicI64,
    /// Whether something else is stored, and cannot be taken over.
    behind: AtomicBool,
    /// Whether there is something in [`Stored::missed`].
    misses: AtomicBool,
    /// How far civil time was ahead of the clock that does not leap when the store was joined, in milliseconds.
    ahead: AtomicI64,
    changed: watch::Sender<u64>,
    wake: Notify,
}

/// What is known of the store.
#[derive(Default)]
struct Stored {
    vault: Option<Vault>,
    version: u64,
    /// As it is stored.
    document: Vec<u8>,
    /// Whether it should be stored anew: it is not sealed as it would be now.
    outdated: bool,
    /// Rings that were known here and had keys which the one that took their place lacks: the store had lost those when others
    /// changed it, or they were revoked, which is known once the store was heard after this one was taken over. With whether
    /// they were of the same version.
    missed: Vec<(Ring, bool)>,
    /// When the ring was taken over, by the clock that does not leap.
    taken_at: Timestamp,
    /// Whether the ring has keys of those by now, and is not stored.
    merged: bool,
    /// Since when each published key is known to be stored, by the clock that does not leap.
    seen: HashMap<String, Timestamp>,
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
    /// Whether other processes have the same store. Then there may be no key yet, and none is made or changed before
    /// [`Signer::set_joined`]; the store may even be out of reach.
    pub(crate) shared: bool,
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
            shared,
        } = settings;
        if let First::File(key) = &first
            && revocations.index().refuses_key(&issuer, key.kid())
        {
            return Err(SignerError::Revoked);
        }
        let schedule = match shared {
            true => schedule.shared(),
            false => schedule,
        };
        let signer = Self(Arc::new(Inner {
            confirmed: AtomicI64::new(clock.steady().as_millis()),
            behind: AtomicBool::default(),
            misses: AtomicBool::default(),
            ahead: AtomicI64::new(0),
            ledger,
            clock,
            sealer,
            algorithm,
            first,
            issuer,
            revocations,
            shared,
            joined: AtomicBool::new(!shared),
            begun: AtomicBool::default(),
            stored: Mutex::default(),
            current: ArcSwap::from_pointee(Keys::none(schedule.longest_token)),
            schedule,
            changed: watch::Sender::new(0),
            wake: Notify::new(),
        }));
        match signer.reload().await {
            Err(SignerError::Store(error)) if shared => {
                tracing::warn!(%error, "the signing keys cannot be read yet");
            }
            read => read?,
        }
        if !shared {
            signer.begin().await?;
            if signer.keys().active().is_none() {
                return Err(SignerError::Missing);
            }
        }
        Ok(signer)
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.0.current.load_full()
    }

    /// The one of `keys` that signs a token which ends then.
    pub(crate) fn signing<'k>(&self, keys: &'k Keys, ends: Timestamp) -> Result<&'k SigningKey, Unsigned> {
        let inner = &self.0;
        let now = inner.clock.steady();
        let confirmed = Timestamp::from_millis(inner.confirmed.load(Ordering::Acquire));
        if inner.shared && now.since(confirmed) > HELD {
            return Err(Unsigned::OutOfTouch);
        }
        let mut why = Unsigned::Missing;
        for signs in &keys.signers {
            if signs.from.is_some_and(|from| now < from) {
                why = Unsigned::Unpublished;
            } else if inner
                .revocations
                .index()
                .refuses_key(&inner.issuer, signs.key.kid())
            {
                // Its revocation comes before its successor.
                why = Unsigned::Revoked;
            } else if signs.last_end.is_none_or(|last| ends <= last) {
                return Ok(&signs.key);
            }
        }
        Err(why)
    }

    /// Whether a token could be signed now, and why not.
    pub(crate) fn can_sign(&self) -> Result<(), Unsigned> {
        self.signing(&self.keys(), self.0.clock.wall()).map(|_| ())
    }

    /// Follows changes of the keys.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The issuer of the tokens that are signed.
    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Whether the store is known to have what it should.
    pub(crate) fn is_joined(&self) -> bool {
        self.0.joined.load(Ordering::Acquire)
    }

    /// Whether other processes have the same store.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.shared
    }

    /// What an id says, if it is one of ours; nobody knows before there are keys.
    pub(crate) fn read_id(&self, jti: &str) -> Result<Option<TokenId>, Unsigned> {
        let keys = self.keys();
        let ids = keys.ids.as_ref().ok_or(Unsigned::Missing)?;
        Ok(ids.read(jti))
    }

    /// Seals what must not be in the store in the clear.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// What new keys are for.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The id of the operator's key, where it is in a file; otherwise of the active one.
    pub(crate) fn kid(&self) -> Option<String> {
        match &self.0.first {
            First::File(key) => Some(key.kid().to_owned()),
            First::Generated | First::Stored => self.keys().active().map(str::to_owned),
        }
    }

    /// Lets the successor sign.
    pub(crate) async fn rotate(&self, force: bool) -> Result<Changes, SignerError> {
        self.change(Change::Rotate { force }).await
    }

    /// Publishes a new key that signs after the active one, or the first ones.
    pub(crate) async fn generate(&self) -> Result<Changes, SignerError> {
        self.change(Change::Generate(self.0.algorithm)).await
    }

    /// Publishes the operator's key, which signs after the active one.
    pub(crate) async fn import(&self, key: SigningKey) -> Result<Changes, SignerError> {
        // Its tokens would be good again.
        if self.0.revocations.index().refuses_key(&self.0.issuer, key.kid()) {
            return Err(SignerError::Revoked);
        }
        self.change(Change::Import(key)).await
    }

    /// Ends a key and its tokens at once, for good.
    pub(crate) async fn revoke(&self, kid: String) -> Result<Changes, SignerError> {
        self.change(Change::Revoke(kid)).await
    }

    /// Takes over what another process has stored.
    pub(crate) async fn reload(&self) -> Result<(), SignerError> {
        let mut stored = self.0.stored.lock().await;
        self.take_over(&mut stored).await
    }

    /// Notes that the store was heard then, by the clock that does not leap, and had nothing that is not known here. Without
    /// that for an hour nothing is signed any more.
    pub(crate) fn confirm(&self, asked: Timestamp) {
        if !self.0.behind.load(Ordering::Acquire) {
            self.0.confirmed.fetch_max(asked.as_millis(), Ordering::AcqRel);
            if self.0.misses.load(Ordering::Acquire) {
                self.0.wake.notify_one();
            }
        }
    }

    /// Says whether the store is known to have what it should. Where it is not, keys are not changed: the store may have lost
    /// them, and others be about to bring them back.
    pub(crate) fn set_joined(&self, joined: bool) {
        let inner = &self.0;
        if joined {
            // What the store's clock says from now on is believed as far as time passes.
            let (wall, steady) = (inner.clock.wall(), inner.clock.steady());
            let ahead = wall.as_millis().saturating_sub(steady.as_millis());
            inner.ahead.store(ahead, Ordering::Release);
        }
        inner.joined.store(joined, Ordering::Release);
        inner.wake.notify_one();
    }

    /// Does what is due, for ever.
    pub(crate) async fn keep(self) {
        loop {
            let wait = match self.tend().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "the signing keys cannot be looked after; trying again");
                    match self.0.stored.lock().await.merged {
                        true => MERGING,
                        false => LONGEST,
                    }
                }
            };
            tokio::select! {
                () = self.0.clock.sleep(wait) => {}
                () = self.0.wake.notified() => {}
            }
        }
    }

    /// Does what is due now, and says how long nothing else is.
    async fn tend(&self) -> Result<Duration, SignerError> {
        let inner = &self.0;
        if inner.shared {
            self.reload().await?;
        }
        if !self.is_joined() {
            return Ok(LONGEST);
        }
        self.begin().await?;
        let is_merged = inner.stored.lock().await.merged;
        if is_merged || self.next_wakeup().await.is_some_and(|due| due <= self.now()) {
            let changes = self.change(Change::Tick).await?;
            if !changes.is_empty() {
                tracing::info!(
                    activated = changes.activated.as_deref(),
                    added = ?changes.added,
                    gone = ?changes.gone,
                    "signing keys changed as scheduled"
                );
            }
        }
        let due = self.next_wakeup().await;
        Ok(due.map_or(LONGEST, |due| due.since(self.now())).min(LONGEST))
    }

    async fn next_wakeup(&self) -> Option<Timestamp> {
        self.0.stored.lock().await.vault.as_ref()?.ring.next_wakeup()
    }

    /// Sees to the first key, once, and to what a process left that ended between the revocation of a key and the change of
    /// the ring.
    async fn begin(&self) -> Result<(), SignerError> {
        let inner = &self.0;
        if !inner.begun.load(Ordering::Acquire) {
            let change = match &inner.first {
                First::File(key) => Change::KeepInFile(key.clone()),
                First::Generated => Change::KeepInStore,
                First::Stored => Change::TakeOut(Vec::new()),
            };
            self.change(change).await?;
            inner.begun.store(true, Ordering::Release);
        }
        let refused: Vec<String> = self
            .keys()
            .published
            .iter()
            .map(|key| key.kid.clone())
            .filter(|kid| inner.revocations.index().refuses_key(&inner.issuer, kid))
            .collect();
        if !refused.is_empty() {
            tracing::warn!(kids = ?refused, "signing keys are revoked and were published still; they are taken out");
            self.change(Change::TakeOut(refused)).await?;
        }
        Ok(())
    }

    /// A civil clock that is set forward by mistake must not take a key away whose tokens are good.
    fn now(&self) -> Timestamp {
        let inner = &self.0;
        let steady = inner.clock.steady().as_millis();
        let passed = steady.saturating_add(inner.ahead.load(Ordering::Acquire));
        inner.clock.wall().min(Timestamp::from_millis(passed))
    }

    /// Changes the keys: in the store, then here. Where somebody else was quicker it is done to what they made, unless they did
    /// the same.
    ///
    /// What a key signed that is to be revoked is refused once the change is known to be possible: durably, then in force, and
    /// only then is the key taken out.
    async fn change(&self, change: Change) -> Result<Changes, SignerError> {
        let inner = &self.0;
        if !self.is_joined() {
            return Err(SignerError::Joining);
        }
        let mut stored = inner.stored.lock().await;
        if inner.shared {
            self.take_over(&mut stored).await?;
        }
        let begun = self.ring(&stored);
        for attempt in 0..ATTEMPTS {
            let ring = self.ring(&stored);
            if attempt > 0 && change.is_done(&begun, &ring) {
                return Ok(change::between(&begun, &ring));
            }
            let (ring, changes) = blocking(ring, change.clone(), self.now()).await?;
            if let Change::Revoke(kid) = &change
                && attempt == 0
            {
                let order = Order::own(&inner.issuer, Target::Key(kid.clone()));
                inner.revocations.revoke(order).await?;
            }
            if changes.is_empty() && !stored.outdated && !stored.merged {
                return Ok(changes);
            }
            let vault = match &stored.vault {
                Some(vault) => vault.with(ring),
                None => Vault::new(ring, random()?),
            };
            let document = vault.seal(&inner.sealer)?;
            if inner.ledger.put_keyring(stored.version, &document).await? {
                let next = Stored {
                    version: stored.version + 1,
                    document,
                    ..Stored::default()
                };
                return self.adopt(&mut stored, next, vault).map(|()| changes);
            }
            if !inner.shared {
                break;
            }
            let former = stored.version;
            self.take_over(&mut stored).await?;
            if stored.version == former {
                // What somebody else stored is not heard of yet.
                inner.clock.sleep(HEARING).await;
            }
        }
        Err(SignerError::Raced)
    }

    fn ring(&self, stored: &Stored) -> Ring {
        match &stored.vault {
            Some(vault) => vault.ring.clone(),
            None => Ring::empty(self.0.algorithm, self.0.schedule),
        }
    }

    async fn take_over(&self, stored: &mut Stored) -> Result<(), SignerError> {
        let inner = &self.0;
        let (version, document) = match inner.ledger.keyring().await? {
            Some(found) => found,
            // A store that has lost its keys gets them back from one of those who have them.
            None => return Ok(()),
        };
        // Somebody stored it in the place of the one that is known here, which the store had lost.
        let is_rival = version == stored.version && document != stored.document;
        if version > stored.version || is_rival {
            inner.behind.store(true, Ordering::Release);
            let (vault, outdated) = Vault::open(&document, &inner.sealer, inner.algorithm, inner.schedule)?;
            let mut missed = stored.missed.clone();
            missed.extend(stored.vault.as_ref().map(|known| (known.ring.clone(), is_rival)));
            missed.retain(|(known, is_rival)| self.merge(&mut vault.ring.clone(), known, *is_rival));
            inner.misses.store(!missed.is_empty(), Ordering::Release);
            let next = Stored {
                version,
                document,
                outdated,
                missed,
                taken_at: inner.clock.steady(),
                ..Stored::default()
            };
            self.adopt(stored, next, vault)?;
        }
        inner.behind.store(version < stored.version, Ordering::Release);
        let confirmed = Timestamp::from_millis(inner.confirmed.load(Ordering::Acquire));
        match stored.taken_at < confirmed {
            true => self.take_back(stored),
            false => Ok(()),
        }
    }

    /// Publishes again what the store had lost, if anything.
    fn take_back(&self, stored: &mut Stored) -> Result<(), SignerError> {
        let missed = std::mem::take(&mut stored.missed);
        self.0.misses.store(false, Ordering::Release);
        let mut ring = self.ring(stored);
        let merged = missed.iter().fold(false, |merged, (known, is_rival)| {
            self.merge(&mut ring, known, *is_rival) || merged
        });
        let Some(vault) = stored.vault.as_ref().filter(|_| merged) else {
            return Ok(());
        };
        let vault = vault.with(ring);
        tracing::warn!(
            version = stored.version,
            "the store had lost signing keys while others were changed: they are published again"
        );
        let next = Stored {
            version: stored.version,
            document: stored.document.clone(),
            outdated: stored.outdated,
            taken_at: stored.taken_at,
            merged: true,
            ..Stored::default()
        };
        self.adopt(stored, next, vault)
    }

    fn merge(&self, ring: &mut Ring, known: &Ring, is_rival: bool) -> bool {
        let inner = &self.0;
        let is_revoked = |kid: &str| inner.revocations.index().refuses_key(&inner.issuer, kid);
        // Before the store is joined it is not known how far its clock is from the time that does not leap.
        ring.merge(known, is_rival, inner.clock.wall(), &is_revoked)
    }

    /// Goes on with what is stored now.
    fn adopt(&self, stored: &mut Stored, next: Stored, vault: Vault) -> Result<(), SignerError> {
        let inner = &self.0;
        let now = inner.clock.steady();
        let seen = vault.ring.published().map(|key| {
            let seen = stored.seen.get(key.kid()).copied().unwrap_or(now);
            (key.kid().to_owned(), seen)
        });
        let seen = seen.collect();
        let file = match &inner.first {
            First::File(key) => Some(key),
            First::Generated | First::Stored => None,
        };
        let keys = Keys::of(&vault, file, inner.shared.then_some(&seen)).ok_or(VaultFault::Malformed)?;
        *stored = Stored {
            vault: Some(vault),
            seen,
            ..next
        };
        inner.current.store(Arc::new(keys));
        inner.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Changes a ring where it may take its time: making an RSA key takes up to seconds.
async fn blocking(mut ring: Ring, change: Change, now: Timestamp) -> Result<(Ring, Changes), SignerError> {
    let changed = tokio::task::spawn_blocking(move || {
        let changes = change.apply(&mut ring, now)?;
        Ok::<_, SignerError>((ring, changes))
    });
    changed.await.map_err(|_| SignerError::System("make a key"))?
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
