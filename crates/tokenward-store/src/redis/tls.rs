//! TLS to the server.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs, time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokenward_core::Clock;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::address::Host;
use crate::{StoreError, StoreErrorKind};

/// Shakes hands with servers whose certificates a trusted authority has issued.
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Trusts the authorities of this PEM text alone, or else the platform's. Reads those from disk.
    pub(super) fn new(authorities: Option<&[u8]>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| invalid("is no PEM text", error))?;
                    let added = roots.add(certificate);
                    added.map_err(|error| invalid("holds a certificate that is none", error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let message = "no certificate authority is trusted for the store: give it one, or install the system's (ca-certificates)";
            return Err(StoreError::new(StoreErrorKind::Invalid, message));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(WallTime(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::new(StoreErrorKind::Io, "TLS cannot be set up").because(error))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        // A resumed session shows no certificate, whose end could not be noticed.
        config.resumption = Resumption::disabled();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands over `stream` with the server that was dialed as `host`.
    pub(super) async fn connect(&self, host: &Host, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.name.clone()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "no certificate can hold the host's name",
            )
        })?;
        self.0.connect(name, stream).await
    }
}

fn invalid(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    let message = format!("the file of the store's certificate authorities {what}");
    StoreError::new(StoreErrorKind::Invalid, message).because(error)
}

/// Certificates are valid or expired by our clock.
struct WallTime(Arc<dyn Clock>);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.wall().as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}
