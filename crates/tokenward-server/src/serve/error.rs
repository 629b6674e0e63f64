//! What keeps the server from starting.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, path::Path};

use crate::fleet::FleetError;

/// A start-up error: what was attempted, and what the operator can do about it. The cause is its source.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    of_configuration: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl Error {
    pub(super) fn bind(listener: &str, address: SocketAddr, source: io::Error) -> Self {
        let member = if listener == "admin" {
            "server.admin"
        } else {
            "server.host and server.port"
        };
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another port",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
            io::ErrorKind::AddrNotAvailable => "this machine does not have the address",
            _ => "choose another address",
        };
        let message = format!("cannot listen on {address} ({listener} listener): {remedy} ({member})");
        Self {
            message,
            of_configuration: false,
            source: source.into(),
        }
    }

    pub(super) fn tls(path: &Path, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let message = format!("cannot use {} for TLS (server.tls)", path.display());
        Self {
            message,
            of_configuration: true,
            source: source.into(),
        }
    }

    pub(super) fn store(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let message = "cannot open the store (store.url)".to_owned();
        Self {
            message,
            of_configuration: false,
            source: source.into(),
        }
    }

    /// The identity providers cannot be registered.
    pub(super) fn fleet(source: &FleetError) -> Self {
        let message = match source {
            FleetError::Invalid(problems) => {
                let problems: Vec<_> = problems
                    .iter()
                    .map(|problem| format!("{}: {}", problem.member, problem.message))
                    .collect();
                format!(
                    "cannot use the identity providers: {} (idps)",
                    problems.join("; ")
                )
            }
            _ => "cannot read the identity providers that were added at run time (store.url)".to_owned(),
        };
        Self {
            message,
            of_configuration: matches!(source, FleetError::Invalid(_)),
            source: source.to_string().into(),
        }
    }

    /// The token service cannot sign, or its tokens cannot be verified.
    pub(super) fn token_service(source: &str) -> Self {
        Self {
            message: "cannot start the token service (token_service)".to_owned(),
            of_configuration: true,
            source: source.into(),
        }
    }

    pub(super) fn system(what: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            message: format!("cannot {what}"),
            of_configuration: false,
            source: source.into(),
        }
    }

    /// Whether the configuration has to be changed, rather than the world around it.
    pub(crate) fn is_of_configuration(&self) -> bool {
        self.of_configuration
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
