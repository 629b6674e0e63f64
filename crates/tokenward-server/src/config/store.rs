//! Where state is kept, and what holds where the store cannot be reached.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use tokenward_store::Redis;

use super::{
    fields::{optional, scalar, section},
    model::{DAY, SECOND},
    record::{Check, record},
    rules::{Kind, Rule, boolean, certificates_text, duration, integer, text, word},
};

record! {
    /// Where state is kept.
    pub(crate) struct Store {
        /// The store: `sqlite:` and a directory keeps everything over restarts, `memory:` keeps nothing; Redis or Valkey is shared by all replicas of a cluster.
        url: StoreUrl = scalar("sqlite:./tokenward-data", store_url());
        /// What all keys in Redis begin with. Replicas with the same one are one cluster.
        prefix: String = scalar("tokenward", prefix());
        /// With Redis: the directory of this replica's own record of revocations, signing keys, dynamic IdPs and key sets.
        journal: PathBuf = scalar("./tokenward-journal", directory());
        /// How Redis is spoken with.
        redis: RedisSettings = section();
    }
}

record! {
    /// How Redis is spoken with.
    #[derive(PartialEq)]
    pub(crate) struct RedisSettings {
        /// Connections of this replica, which all calls share.
        connections: usize = scalar("2", integer(1, 64));
        /// How long a connection may take to be made, authenticated and found good.
        connect_timeout: Duration = scalar("2s", duration(Duration::from_millis(10), SECOND * 60));
        /// How long a command may take.
        command_timeout: Duration = scalar("1s", duration(Duration::from_millis(10), SECOND * 60));
        /// How long a fetched key set is shared through Redis. What a replica has fetched it also keeps itself, for as long as the IdP is configured.
        cache_ttl: Duration = scalar("15m", duration(SECOND, DAY * 30));
        /// Whether a Redis that evicts keys when its memory is full is accepted. It forgets revocations then.
        allow_eviction: bool = scalar("false", boolean());
        /// Certificate authorities that are trusted over TLS in the place of the system's, PEM.
        ca_file: Option<Pem> = optional("those of the system", certificates_text());
    }
}

record! {
    /// What holds where the store cannot be reached.
    #[derive(PartialEq)]
    pub(crate) struct Revocation {
        /// How old what a replica knows of revocations may be. It is looked at ten times a second for as long as Redis answers.
        max_staleness: Duration = scalar("60", duration(SECOND, DAY));
        /// What becomes of tokens once it is older: `deny` answers 503 `revocation_unavailable`, `allow` goes on. Known revocations hold either way.
        on_stale: OnStale = scalar("deny", word(&[("deny", OnStale::Deny), ("allow", OnStale::Allow)]));
    }
}

impl Check for Revocation {}

/// What becomes of tokens that may have been revoked elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStale {
    Deny,
    Allow,
}

impl Check for Store {}

impl Check for RedisSettings {}

impl Store {
    /// The members that are not as in `running`, which only a restart can change.
    pub(super) fn changed(
        &self,
        running: &Self,
    ) -> impl Iterator<Item = (Option<&'static str>, &'static str)> {
        let (old, new) = (&running.redis, &self.redis);
        [
            (None, "url", running.url == self.url),
            (None, "prefix", running.prefix == self.prefix),
            (None, "journal", running.journal == self.journal),
            (Some("redis"), "connections", old.connections == new.connections),
            (
                Some("redis"),
                "connect_timeout",
                old.connect_timeout == new.connect_timeout,
            ),
            (
                Some("redis"),
                "command_timeout",
                old.command_timeout == new.command_timeout,
            ),
            (Some("redis"), "cache_ttl", old.cache_ttl == new.cache_ttl),
            (
                Some("redis"),
                "allow_eviction",
                old.allow_eviction == new.allow_eviction,
            ),
            (Some("redis"), "ca_file", old.ca_file == new.ca_file),
        ]
        .into_iter()
        .filter_map(|(section, member, same)| (!same).then_some((section, member)))
    }
}

/// The storage engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// Nothing outlives the process.
    Memory,
    /// The embedded store, in this directory.
    Sqlite(PathBuf),
    /// Redis or Valkey, shared by all replicas.
    Redis(RedisUrl),
}

/// A file of certificates, as text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pem(pub(super) Vec<u8>);

impl Pem {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

/// The address of a Redis, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl(String);

const SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis+cluster",
    "redis+sentinel",
    "rediss+cluster",
    "rediss+sentinel",
];

impl RedisUrl {
    /// The whole address.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Without the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

fn store_url() -> Rule<StoreUrl> {
    let takes = "`sqlite:DIRECTORY`, `memory:`, `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `rediss://…`, \
                 `redis+sentinel://[USER:PASSWORD@]HOST:PORT,…/MASTER[/DB]`, `redis+cluster://[USER:PASSWORD@]HOST:PORT,…`";
    Rule::new(Kind::Text, takes, str::parse)
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(StoreUrl::Memory),
            Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() => {
                // `sqlite:///var/lib/x` is how others write it.
                let path = path
                    .strip_prefix("//")
                    .filter(|path| path.starts_with('/'))
                    .unwrap_or(path);
                Ok(StoreUrl::Sqlite(path.into()))
            }
            Some((scheme, rest)) if SCHEMES.contains(&scheme) && rest.starts_with("//") => {
                Redis::check_url(text).map_err(|error| error.to_string())?;
                Ok(StoreUrl::Redis(RedisUrl(text.to_owned())))
            }
            _ => Err(
                "must be `sqlite:DIRECTORY`, `memory:`, `redis://HOST:PORT`, `rediss://HOST:PORT`, \
                 `redis+sentinel://HOST:PORT,…/MASTER` or `redis+cluster://HOST:PORT,…`"
                    .into(),
            ),
        }
    }
}

/// `address` of a Redis, with `password` where it has none. `HOST:PORT` alone is an address too.
pub(super) fn with_password(address: &str, password: Option<&str>) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("redis", address));
    let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
    match password {
        Some(password) if !user.contains(':') => {
            format!("{scheme}://{user}:{}@{hosts}", percent_encoded(password))
        }
        _ => format!("{scheme}://{rest}"),
    }
}

/// Whether it is the address of a Redis, whatever may be wrong with it.
pub(super) fn is_redis(address: &str) -> bool {
    address
        .split_once("://")
        .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

/// `address`, if it is one of a Redis, with stars for its password: all that stands before the last `@`, since a password may
/// hold what should have been escaped.
pub(super) fn without_password(address: &str) -> String {
    let parts = address.split_once("://").and_then(|(scheme, rest)| {
        let (user, hosts) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{hosts}"))
    });
    parts.unwrap_or_else(|| address.to_owned())
}

/// Every byte that could mean something in an address, escaped (RFC 3986 section 2.1).
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Without the braces and colons that have a meaning in the names of keys.
fn prefix() -> Rule<String> {
    let takes = "1 to 64 of `A-Z a-z 0-9 . _ -`";
    text()
        .and(move |text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if text.len() <= 64 && text.bytes().all(plain) {
                Ok(text)
            } else {
                Err(format!("must be {takes}"))
            }
        })
        .takes(takes)
}

/// A directory, which is made where there is none.
fn directory() -> Rule<PathBuf> {
    text()
        .and(|text| Ok(PathBuf::from(text)))
        .takes("path of a directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_put_in_and_never_shown() {
        let hosts = "redis+sentinel://a@h:1,i:2/m/0";
        let with = with_password(hosts, Some("p@s/w:d"));
        assert_eq!(with, "redis+sentinel://a:p%40s%2Fw%3Ad@h:1,i:2/m/0");
        assert_eq!(without_password(&with), "redis+sentinel://a:***@h:1,i:2/m/0");
        assert_eq!(with_password("h:6379", Some("x")), "redis://:x@h:6379");
        assert_eq!(with_password("h:6379", None), "redis://h:6379");
        assert_eq!(with_password("redis://:own@h", Some("x")), "redis://:own@h");
        // What should have been escaped is hidden all the same.
        assert_eq!(without_password("redis://u:p/q@r@h:1/0"), "redis://u:***@h:1/0");
        assert_eq!(without_password("redis://u@h:1"), "redis://u@h:1");
        let url: StoreUrl = "rediss://u:hush@h:1".parse().unwrap();
        assert_eq!(format!("{url:?}"), "Redis(rediss://u:***@h:1)");
    }
}
