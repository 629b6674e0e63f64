//! Snapshots, and who fetches for all that share them.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use redis::{FromRedisValue, Value};

use super::{Redis, keys::hashed, script::Script};
use crate::{Claim, FETCH_LEASE, Snapshot, Snapshots, StoreError, StoreErrorKind};

static PUT: Script = Script::new(include_str!("scripts/put.lua"));
static REMOVE: Script = Script::new(include_str!("scripts/remove.lua"));
static CLAIM: Script = Script::new(include_str!("scripts/claim.lua"));
static RELEASE: Script = Script::new(include_str!("scripts/release.lua"));
static TAKE: Script = Script::new(include_str!("scripts/take.lua"));

/// How many are asked for at once; each may be large.
const AT_ONCE: usize = 32;

#[async_trait]
impl Snapshots for Redis {
    async fn put(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let value = self.0.seal.write(snapshot).map_err(|error| {
            StoreError::new(StoreErrorKind::Io, "a snapshot cannot be written down").because(error)
        })?;
        let member = hashed(&[&snapshot.tenant, &snapshot.name]);
        let keys = self.snapshot_keys(&member);
        let ttl = millis(self.0.snapshot_ttl.unwrap_or_default());
        for anyway in [0, 1] {
            let args = (&value, &member, ttl, snapshot.fetched_at.as_millis(), anyway);
            let newer: Option<Vec<u8>> = read(self.0.link.script(&PUT, &keys, args).await?)?;
            // Whatever stands there and is no snapshot of ours is in nobody's way.
            if newer.is_none_or(|newer| self.0.seal.read(&newer).is_ok()) {
                break;
            }
        }
        Ok(())
    }

    async fn get(&self, tenant: &str, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let [key, _] = self.snapshot_keys(&hashed(&[tenant, name]));
        let value = self.0.link.command(redis::cmd("GET").arg(key)).await?;
        let found = self.read(read(value)?);
        Ok(found.filter(|snapshot| snapshot.tenant == tenant && snapshot.name == name))
    }

    async fn load_all(&self) -> Result<Vec<Snapshot>, StoreError> {
        let link = &self.0.link;
        let list = self.0.keys.name("snapshots");
        let (mut members, mut cursor) = (BTreeSet::<String>::new(), 0_u64);
        loop {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(&list).arg(cursor).arg("COUNT").arg(512);
            let (next, found): (u64, Vec<String>) = read(link.command(&scan).await?)?;
            members.extend(found);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let members: Vec<String> = members.into_iter().collect();
        let mut snapshots = Vec::with_capacity(members.len());
        for members in members.chunks(AT_ONCE) {
            let mut ask = redis::cmd("MGET");
            for member in members {
                let [key, _] = self.snapshot_keys(member);
                ask.arg(key);
            }
            let values: Vec<Option<Vec<u8>>> = read(link.command(&ask).await?)?;
            for (member, value) in members.iter().zip(values) {
                if value.is_none() {
                    let keys = self.snapshot_keys(member);
                    link.script(&REMOVE, &keys, (member, 1)).await?;
                }
                let found = self.read(value);
                snapshots.extend(found.filter(|it| hashed(&[&it.tenant, &it.name]) == *member));
            }
        }
        Ok(snapshots)
    }

    async fn remove(&self, tenant: &str, name: &str) -> Result<(), StoreError> {
        let member = hashed(&[tenant, name]);
        let keys = self.snapshot_keys(&member);
        self.0.link.script(&REMOVE, &keys, (&member, 0)).await?;
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn claim(&self, tenant: &str, name: &str, config_hash: &[u8; 32]) -> Result<Claim, StoreError> {
        let keys = [
            self.claim_key(tenant, name, config_hash),
            self.0.keys.name("meta"),
        ];
        let answer = self.0.link.script(&CLAIM, &keys, millis(FETCH_LEASE)).await?;
        match read::<(String, u64)>(answer)? {
            (what, _) if what == "held" => Ok(Claim::Held),
            (what, left) if what == "failed" => Ok(Claim::Failed {
                retry_in: Duration::from_millis(left),
            }),
            (_, fence) => Ok(Claim::Granted { fence }),
        }
    }

    async fn release(
        &self,
        tenant: &str,
        name: &str,
        config_hash: &[u8; 32],
        fence: u64,
        failed_for: Option<Duration>,
    ) -> Result<(), StoreError> {
        let key = self.claim_key(tenant, name, config_hash);
        let args = (fence, millis(failed_for.unwrap_or_default()));
        self.0.link.script(&RELEASE, &[key], args).await?;
        Ok(())
    }

    async fn take(
        &self,
        tenant: &str,
        name: &str,
        caller: u64,
        size: u32,
        refill: Duration,
    ) -> Result<bool, StoreError> {
        let key = self.0.keys.item("budget", &[tenant, name]);
        let answer = (self.0.link)
            .script(&TAKE, &[key], (size, millis(refill), caller))
            .await?;
        Ok(read::<u8>(answer)? == 1)
    }
}

impl Redis {
    /// The key of a snapshot, and that of their list, whose members are the ends of their keys.
    fn snapshot_keys(&self, member: &str) -> [String; 2] {
        let keys = &self.0.keys;
        [keys.name(&format!("snapshot:{member}")), keys.name("snapshots")]
    }

    fn claim_key(&self, tenant: &str, name: &str, config_hash: &[u8; 32]) -> String {
        let config: String = config_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.keys.item("claim", &[tenant, name, &config])
    }

    /// The snapshot of a value; none, with a warning, where it is damaged or not ours.
    fn read(&self, value: Option<Vec<u8>>) -> Option<Snapshot> {
        match self.0.seal.read(&value?) {
            Ok(snapshot) => Some(snapshot),
            Err(what) => {
                tracing::warn!("Skipping a snapshot of the store: {what}");
                None
            }
        }
    }
}

/// An answer as what it must be.
pub(super) fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|_| unreadable())
}

fn unreadable() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "the store has something else where this was expected",
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
