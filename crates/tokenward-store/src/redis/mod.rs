//! The engine that many processes share: Redis or Valkey.

use std::{fmt, sync::Arc, time::Duration};

use redis::Value;
use secrecy::{ExposeSecret as _, SecretString};
use tokenward_core::Clock;

use crate::{StoreError, StoreErrorKind};

mod address;
mod breaker;
mod call;
mod codec;
mod dial;
mod draft;
mod facts;
mod families;
mod fault;
mod feed;
mod guide;
mod idps;
mod keys;
mod ledger;
mod link;
mod reassert;
mod revocations;
mod script;
mod scripts;
mod snapshots;
mod stored;
mod tls;

pub use codec::Tombstone;
pub use draft::RedisDraft;
pub use facts::ServerFacts;
pub use feed::{Change, Feed};
pub use reassert::RemovedIdp;

use address::Target;
use dial::Dialer;
use keys::Keys;
use link::Link;
use stored::Seal;
use tls::Tls;

/// How a [`Redis`] is reached and used.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where it is: `redis://[user:password@]host[:port][/database]`, `redis+sentinel://[user:password@]host[:port],…/master[/database]` or
    /// `redis+cluster://[user:password@]host[:port],…`; with `rediss` in the place of `redis` over TLS. The user and the
    /// password are percent-encoded.
    pub url: SecretString,
    /// What all keys begin with, in braces: 1 to 64 of `A-Z a-z 0-9 _ - . :`. Default: `tokenward`.
    pub prefix: String,
    /// How many connections are shared by all calls, at least 1. Default: 2.
    pub connections: usize,
    /// How long a connection may take to be made and introduced, and how long a call waits for one. Default: 2 s.
    pub connect_timeout: Duration,
    /// How long an answer may take. A connection over which one was late is not used again. Default: 1 s.
    pub command_timeout: Duration,
    /// Over TLS, the certificate authorities that are trusted, in PEM, in the place of the platform's. Default: none.
    pub ca_file: Option<Vec<u8>>,
    /// How long a snapshot is kept after it was stored; at least a millisecond. Default: until it is removed.
    pub snapshot_ttl: Option<Duration>,
    /// Keys by which snapshots are told from what others put in their place: the first seals, any opens. Without any,
    /// whoever can write to the server can change the keys that we verify with. Default: none.
    pub integrity_keys: Vec<[u8; 32]>,
    /// Whether a server may throw out what it holds where its memory ends. Default: no.
    pub allow_eviction: bool,
}

impl RedisOptions {
    /// The defaults, for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            prefix: "tokenward".to_owned(),
            connections: 2,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            ca_file: None,
            snapshot_ttl: None,
            integrity_keys: Vec::new(),
            allow_eviction: false,
        }
    }
}

/// Without the URL, which may hold a password, and the keys.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("snapshot_ttl", &self.snapshot_ttl)
            .field("allow_eviction", &self.allow_eviction)
            .finish_non_exhaustive()
    }
}

/// A store in a Redis or Valkey server, for any number of processes. Clones share its connections.
///
/// Nothing is written but under its prefix, and all of it on one node of a cluster. A call fails within the two time
/// limits of [`RedisOptions`], with [`StoreErrorKind::Unavailable`] where the server cannot be reached; after three
/// failures in a row calls fail at once, and one task tries to connect, a second apart at most, until it succeeds.
///
/// It needs a Tokio runtime.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    link: Link,
    keys: Keys,
    /// Those of the ledger.
    ledger: Keys,
    /// Those of them that its scripts get.
    ledger_keys: [String; scripts::KEYS.len()],
    /// Tells the families that this handle and its clones renew from those of others.
    holder: String,
    place: String,
    seal: Seal,
    snapshot_ttl: Option<Duration>,
    allow_eviction: bool,
}

impl Redis {
    /// Whether a URL can be one of a store: see [`RedisOptions::url`].
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`], with what is wrong and no password.
    pub fn check_url(url: &str) -> Result<(), StoreError> {
        Target::parse(url).map(|_| ())
    }

    /// A store that connects when it is first used. Times are taken from `clock`.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`] where an option makes no sense. The message holds no password.
    pub fn new(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let RedisOptions {
            url,
            prefix,
            connections,
            connect_timeout,
            command_timeout,
            ca_file,
            snapshot_ttl,
            integrity_keys,
            allow_eviction,
        } = options;
        let keys = Keys::new(&prefix)?;
        let target = Target::parse(url.expose_secret())?;
        let tls = match target.tls {
            true => Some(Tls::new(ca_file.as_deref(), Arc::clone(&clock))?),
            false => None,
        };
        let invalid = |message: &str| Err(StoreError::new(StoreErrorKind::Invalid, message));
        if connections == 0 {
            return invalid("the store needs at least one connection");
        }
        if snapshot_ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            return invalid("snapshots of the store are kept for a millisecond at least");
        }
        let place = target.to_string();
        let dialer = Dialer {
            target,
            tls,
            meta: keys.name("meta"),
            clock,
            connect_timeout,
        };
        Ok(Self(Arc::new(Inner {
            link: Link::new(dialer, connections, command_timeout),
            holder: holder()?,
            ledger_keys: scripts::KEYS.map(|key| keys.name(key)),
            ledger: keys.clone(),
            keys,
            place,
            seal: Seal::new(&integrity_keys),
            snapshot_ttl,
            allow_eviction,
        })))
    }

    /// Makes sure that the server still is the one that takes commands: where it was deposed, or nobody who would know can be
    /// reached, what it answers may be old.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] then. The next call looks for the right one.
    pub async fn leads(&self) -> Result<(), StoreError> {
        self.0.link.leads().await
    }

    /// Asks the server what matters about it, connecting where there is no connection yet.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] where it cannot be reached, [`StoreErrorKind::Newer`] where a newer version of the
    /// program wrote the store, [`StoreErrorKind::Evicting`] where it throws out what it holds and may not.
    pub async fn check(&self) -> Result<ServerFacts, StoreError> {
        let link = &self.0.link;
        let mut questions = redis::pipe();
        for section in ["server", "memory", "persistence"] {
            questions.cmd("INFO").arg(section);
        }
        let (answers, address) = link.pipeline(&questions).await?;
        let info: Vec<String> = answers.into_iter().filter_map(text).collect();
        let saves = link.command(redis::cmd("CONFIG").arg("GET").arg("save")).await;
        let save = match saves {
            Ok(Value::Array(pair)) => pair.into_iter().nth(1).and_then(text),
            _ => None,
        };
        let facts = ServerFacts::read(address, &info.concat(), save.as_deref())?;
        if facts.evicts() && !self.0.allow_eviction {
            let message = format!(
                "the store at {} has maxmemory-policy {}, by which it forgets what was acknowledged: set noeviction, or allow it",
                facts.address, facts.eviction
            );
            return Err(StoreError::new(StoreErrorKind::Evicting, message));
        }
        Ok(facts)
    }

    /// How many connections there are now, and how many there may be: [`RedisOptions::connections`].
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.0.link.connections()
    }

    /// Whether the server answered what it was asked last.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.link.is_up()
    }
}

/// Without user and password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

/// A name that no other handle has.
fn holder() -> Result<String, StoreError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|error| StoreError::new(StoreErrorKind::Io, "there is no randomness").because(error))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A text that the server answered with.
fn text(value: Value) -> Option<String> {
    redis::from_redis_value(value).ok()
}
