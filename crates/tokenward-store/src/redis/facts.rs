//! What a server says of itself.

use crate::{StoreError, StoreErrorKind};

/// What matters about the server of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Where it was found, as `host:port`.
    pub address: String,
    /// What it is, as `redis 7.0.15`.
    pub version: String,
    /// What it throws out where its memory ends: `noeviction` where nothing.
    pub eviction: String,
    /// Whether it keeps what it holds through a restart; none where it does not tell.
    pub persistent: Option<bool>,
}

impl ServerFacts {
    /// From what INFO says, and CONFIG GET save, which not everybody may ask.
    pub(super) fn read(address: String, info: &str, save: Option<&str>) -> Result<Self, StoreError> {
        let version = match field(info, "valkey_version") {
            Some(version) => format!("valkey {version}"),
            None => format!(
                "redis {}",
                field(info, "redis_version").unwrap_or("of no version")
            ),
        };
        let Some(eviction) = field(info, "maxmemory_policy") else {
            let message = format!("the store at {address} does not say what it does where its memory ends");
            return Err(StoreError::new(StoreErrorKind::Io, message));
        };
        let persistent = match (field(info, "aof_enabled"), save) {
            (Some("1"), _) => Some(true),
            (_, Some(save)) => Some(!save.is_empty()),
            (_, None) => None,
        };
        Ok(Self {
            address,
            version,
            eviction: eviction.to_owned(),
            persistent,
        })
    }

    /// Whether it may throw out what it holds.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.eviction != "noeviction"
    }
}

/// What INFO says of one thing.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nx_redis_version:1\r\n\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n";

    #[test]
    fn what_matters_is_read() {
        let facts =
            |more: &str, save| ServerFacts::read("a:1".to_owned(), &format!("{INFO}{more}"), save).unwrap();
        let found = facts("aof_enabled:0\r\n", Some(""));
        assert_eq!(
            (found.version.as_str(), found.persistent),
            ("redis 7.0.15", Some(false))
        );
        assert!(!found.evicts());
        assert_eq!(facts("aof_enabled:0\r\n", Some("3600 1")).persistent, Some(true));
        assert_eq!(facts("aof_enabled:0\r\n", None).persistent, None);
        assert_eq!(facts("aof_enabled:1\r\n", None).persistent, Some(true));
        assert_eq!(facts("valkey_version:9.1.2\r\n", None).version, "valkey 9.1.2");
        let evicting = ServerFacts::read(String::new(), "maxmemory_policy:allkeys-lru", None).unwrap();
        assert!(evicting.evicts());
        assert!(ServerFacts::read(String::new(), "", None).is_err());
    }
}
