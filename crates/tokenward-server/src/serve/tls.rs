//! TLS on the listeners.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

use super::error::Error;
use crate::config::{Server, Tls};

/// The TLS of each listener that has any.
#[derive(Clone, Default)]
pub(super) struct Acceptors {
    pub(super) public: Option<TlsAcceptor>,
    pub(super) admin: Option<TlsAcceptor>,
    pub(super) grpc: Option<TlsAcceptor>,
}

impl Acceptors {
    /// Reads the files of all.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or key and certificate do not fit; with the member that names them.
    pub(super) fn of(server: &Server) -> Result<Self, (&'static str, Error)> {
        let acceptor = |files: &Option<Tls>, member, protocols: &[&[u8]]| {
            let files = files.as_ref();
            let read = files.map(|files| acceptor(files, protocols)).transpose();
            read.map_err(|error| (member, error))
        };
        Ok(Self {
            public: acceptor(&server.tls, "server.tls", &[b"h2", b"http/1.1"])?,
            admin: acceptor(&server.admin_tls, "server.admin_tls", &[b"h2", b"http/1.1"])?,
            grpc: acceptor(&server.grpc_tls, "server.grpc_tls", &[b"h2"])?,
        })
    }
}

/// TLS 1.2 and 1.3 for these protocols, out of PEM files.
fn acceptor(files: &Tls, protocols: &[&[u8]]) -> Result<TlsAcceptor, Error> {
    let chain = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| Error::tls(&files.cert, error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| Error::tls(&files.key, error))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::tls(Path::new("the provider"), error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| Error::tls(&files.cert, error))?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
