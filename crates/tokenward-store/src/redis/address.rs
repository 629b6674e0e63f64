//! Where the servers are and who asks them: the URL of the store.

use std::fmt;

use secrecy::SecretString;

use crate::{StoreError, StoreErrorKind};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What the URL says.
pub(super) struct Target {
    pub(super) topology: Topology,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) database: u16,
}

/// How the server that takes our commands is found.
pub(super) enum Topology {
    /// It is this one.
    Standalone(Host),
    /// These know which of those under the name is the master.
    Sentinel { sentinels: Vec<Host>, master: String },
    /// Any of these knows which node has our slot.
    Cluster(Vec<Host>),
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl Target {
    /// Reads a URL. What it complains of never holds the user or the password.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let (tls, kind) = match scheme {
            "redis" => (false, ""),
            "rediss" => (true, ""),
            _ => match scheme.split_once('+') {
                Some(("redis", kind)) => (false, kind),
                Some(("rediss", kind)) => (true, kind),
                _ => return Err(invalid("its scheme is none of a Redis store")),
            },
        };
        if rest.contains(['?', '#']) {
            return Err(invalid(
                "a query or a fragment means nothing in it; %3F and %23 stand for their signs in a password",
            ));
        }
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, hosts) = match place.rsplit_once('@') {
            Some((who, hosts)) => (Some(who), hosts),
            None => (None, place),
        };
        let (user, password) = who.map_or(Ok((None, None)), credentials)?;
        let (topology, database) = match kind {
            "" => match hosts_of(hosts, PORT)?.as_slice() {
                [host] => (Topology::Standalone(host.clone()), path),
                _ => return Err(invalid("one host is meant")),
            },
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                let master = decoded(master)?;
                if master.is_empty() {
                    return Err(invalid("the name of the master is missing behind the sentinels"));
                }
                let sentinels = hosts_of(hosts, SENTINEL_PORT)?;
                (Topology::Sentinel { sentinels, master }, database)
            }
            "cluster" => match path {
                "" | "0" => (Topology::Cluster(hosts_of(hosts, PORT)?), path),
                _ => return Err(invalid("a cluster has no databases but 0")),
            },
            _ => return Err(invalid("its scheme is none of a Redis store")),
        };
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| invalid("its database is no number"))?,
        };
        Ok(Self {
            topology,
            tls,
            user,
            password,
            database,
        })
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = |hosts: &[Host]| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
        match &self.topology {
            Topology::Standalone(host) => write!(f, "{host}"),
            Topology::Sentinel { sentinels, master } => write!(f, "{master} of {}", hosts(sentinels)),
            Topology::Cluster(seeds) => write!(f, "{}", hosts(seeds)),
        }
    }
}

fn credentials(text: &str) -> Result<(Option<String>, Option<SecretString>), StoreError> {
    let (user, password) = text
        .split_once(':')
        .ok_or_else(|| invalid("a user without a password: write `user:password@`, or `:password@`"))?;
    let user = decoded(user)?;
    Ok((
        (!user.is_empty()).then_some(user),
        Some(SecretString::from(decoded(password)?)),
    ))
}

fn hosts_of(text: &str, port: u16) -> Result<Vec<Host>, StoreError> {
    text.split(',').map(|host| host_of(host, port)).collect()
}

/// `name`, `name:port`, `[address]` or `[address]:port`.
fn host_of(text: &str, default: u16) -> Result<Host, StoreError> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, port.strip_prefix(':').or(Some(""))),
            None => return Err(invalid("a bracket of an address is not closed")),
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.map_or(Ok(default), str::parse) {
        Ok(port) if port > 0 => port,
        _ => return Err(invalid("a port is no number from 1 to 65535")),
    };
    match name.is_empty() || name.contains(char::is_whitespace) {
        true => Err(invalid("a host is missing")),
        false => Ok(Host {
            name: name.to_owned(),
            port,
        }),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, StoreError> {
    let wrong = || invalid("what follows a % is no sign in hexadecimal");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn invalid(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, format!("the URL of the store: {what}"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// Hosts, what they are, TLS, user, password, database.
    fn read(url: &str) -> String {
        match Target::parse(url) {
            Ok(target) => {
                let kind = match target.topology {
                    Topology::Standalone(_) => "one",
                    Topology::Sentinel { .. } => "sentinel",
                    Topology::Cluster(_) => "cluster",
                };
                let password = target.password.as_ref().map(|word| word.expose_secret());
                format!(
                    "{kind} {target} {} {:?} {:?} {}",
                    target.tls, target.user, password, target.database
                )
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Invalid);
                error.to_string().replace("the URL of the store: ", "")
            }
        }
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(read("redis://a"), "one a:6379 false None None 0");
        assert_eq!(
            read("rediss://u:p%40%2F@a:1/7"),
            "one a:1 true Some(\"u\") Some(\"p@/\") 7"
        );
        assert_eq!(
            read("redis://:p@w@[::1]:2"),
            "one [::1]:2 false None Some(\"p@w\") 0"
        );
        assert_eq!(
            read("redis+sentinel://a,b:1/the%20one/3"),
            "sentinel the one of a:26379,b:1 false None None 3"
        );
        assert_eq!(
            read("rediss+sentinel://:p@a/m"),
            "sentinel m of a:26379 true None Some(\"p\") 0"
        );
        assert_eq!(
            read("redis+cluster://u:p@a:1,[::2]"),
            "cluster a:1,[::2]:6379 false Some(\"u\") Some(\"p\") 0"
        );
        assert_eq!(read("rediss+cluster://a/0"), "cluster a:6379 true None None 0");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, what) in [
            ("a:1", "it has no scheme"),
            ("http://a", "its scheme is none of a Redis store"),
            ("redis+x://a", "its scheme is none of a Redis store"),
            ("redis://", "a host is missing"),
            ("redis://a,b", "one host is meant"),
            ("redis://a/x", "its database is no number"),
            ("redis://a/-1", "its database is no number"),
            ("redis://a:0", "a port is no number from 1 to 65535"),
            ("redis://a:65536", "a port is no number from 1 to 65535"),
            ("redis://[::1", "a bracket of an address is not closed"),
            ("redis://[::1]1", "a port is no number from 1 to 65535"),
            ("redis+cluster://a/1", "a cluster has no databases but 0"),
            (
                "redis+sentinel://a",
                "the name of the master is missing behind the sentinels",
            ),
            (
                "redis+sentinel://a//1",
                "the name of the master is missing behind the sentinels",
            ),
            (
                "redis://s3cret@a",
                "a user without a password: write `user:password@`, or `:password@`",
            ),
            ("redis://:s3cret%@a", "what follows a % is no sign in hexadecimal"),
            (
                "redis://:s3cret%+1@a",
                "what follows a % is no sign in hexadecimal",
            ),
            (
                "redis://:s3cret%ff@a",
                "what follows a % is no sign in hexadecimal",
            ),
            (
                "redis://:s3cret?@a",
                "a query or a fragment means nothing in it; %3F and %23 stand for their signs in a password",
            ),
        ] {
            let said = read(url);
            assert_eq!(said, what, "{url}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}
