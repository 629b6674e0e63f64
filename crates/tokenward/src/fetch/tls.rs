//! Whom a fetch trusts: the platform's roots, an operator's own, and pinned keys.

use std::{cell::Cell, error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokenward_core::Clock;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::{
    error::{FetchError, FetchErrorKind, place},
    guard::Guards,
};

/// The SHA-256 of a certificate's public key (its `SubjectPublicKeyInfo`, RFC 7469 section 2.4).
///
/// It may be the server's own key, or that of an authority on the path which was verified for it. Two pins, the
/// second of a key in reserve, survive the loss of the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpkiPin([u8; 32]);

impl SpkiPin {
    /// Reads a pin in padded base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The pin of a `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn of(spki: &[u8]) -> Self {
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, spki);
        let mut pin = [0; 32];
        for (to, from) in pin.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(pin)
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiPin({self})")
    }
}

/// Certificates of authorities that are trusted besides the platform's.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtraRoots(Arc<[CertificateDer<'static>]>);

impl ExtraRoots {
    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong: no PEM, no certificate in it, or one that is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("it is no PEM text: {error}"))?;
        if certificates.is_empty() {
            return Err("it holds no certificate".to_owned());
        }
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            store
                .add(certificate.clone())
                .map_err(|error| format!("certificate {} cannot be trusted: {error}", index + 1))?;
        }
        Ok(Self(certificates.into()))
    }
}

impl fmt::Debug for ExtraRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtraRoots({} certificates)", self.0.len())
    }
}

/// TLS as a client. One configuration serves all identity providers that ask for nothing of their own.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    time: Arc<WallTime>,
    platform: Arc<RootCertStore>,
    shared: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the platform's roots, `SSL_CERT_FILE` and `SSL_CERT_DIR` honoured. Where there are none, only what
    /// brings its own roots can be fetched.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Result<Self, FetchError> {
        let mut platform = RootCertStore::empty();
        platform.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut tls = Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            time: Arc::new(WallTime(clock)),
            platform: Arc::new(platform),
            shared: None,
        };
        if !tls.platform.is_empty() {
            tls.shared = Some(tls.build(Arc::clone(&tls.platform), &[])?);
        }
        Ok(tls)
    }

    /// Shakes hands with the server of `url` over `stream`.
    pub(super) async fn connect(
        &self,
        url: &Url,
        guards: &Guards,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let connector = TlsConnector::from(self.config(guards)?);
        let name = server_name(url)?;
        connector
            .connect(name, stream)
            .await
            .map_err(|error| judge(url, &error))
    }

    fn config(&self, guards: &Guards) -> Result<Arc<ClientConfig>, FetchError> {
        match &guards.extra_roots {
            None if guards.pinned_spki.is_empty() => self.shared.clone().ok_or_else(no_roots),
            None => self.build(Arc::clone(&self.platform), &guards.pinned_spki),
            Some(extra) => {
                let mut roots = RootCertStore::clone(&self.platform);
                roots.add_parsable_certificates(extra.0.iter().cloned());
                self.build(Arc::new(roots), &guards.pinned_spki)
            }
        }
    }

    fn build(&self, roots: Arc<RootCertStore>, pins: &[SpkiPin]) -> Result<Arc<ClientConfig>, FetchError> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&self.provider))
                .build()
                .map_err(|_| no_roots())?;
        let time: Arc<dyn TimeProvider> = Arc::<WallTime>::clone(&self.time);
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                FetchError::new(FetchErrorKind::Tls, "TLS cannot be set up").caused_by(&error)
            })?;
        let mut config = if pins.is_empty() {
            builder.with_webpki_verifier(verifier).with_no_client_auth()
        } else {
            let verifier = PinnedVerifier {
                verifier,
                roots,
                provider: Arc::clone(&self.provider),
                pins: pins.to_vec(),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        };
        // A resumed session shows no certificate, so neither a pin nor an expiry could be judged. Fetches are
        // minutes apart: there is nothing to gain.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The name that the certificate must hold. A dot at the end of a host is no part of it (RFC 6066 section 3).
fn server_name(url: &Url) -> Result<ServerName<'static>, FetchError> {
    let name = match url.host() {
        Some(Host::Domain(domain)) => {
            ServerName::try_from(domain.strip_suffix('.').unwrap_or(domain).to_owned()).ok()
        }
        Some(Host::Ipv4(address)) => Some(ServerName::IpAddress(address.into())),
        Some(Host::Ipv6(address)) => Some(ServerName::IpAddress(address.into())),
        None => None,
    };
    name.ok_or_else(|| {
        let message = format!("{}: no certificate can hold the host's name", place(url));
        FetchError::new(FetchErrorKind::UrlInvalid, message)
    })
}

fn no_roots() -> FetchError {
    let message = "no certificate authority is trusted: install the system's (ca-certificates), or set SSL_CERT_FILE or ca_file";
    FetchError::new(FetchErrorKind::Tls, message)
}

/// What TLS refused is final. A connection that broke meanwhile may go better the next time.
fn judge(url: &Url, error: &io::Error) -> FetchError {
    let (kind, what) = match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::Other(OtherError(cause))) if cause.is::<PinMismatch>() => (
            FetchErrorKind::PinMismatch,
            "no certificate of the server's verified path has a pinned key",
        ),
        Some(_) => (FetchErrorKind::Tls, "the TLS handshake failed"),
        None => (
            FetchErrorKind::Connection,
            "the connection broke during the TLS handshake",
        ),
    };
    FetchError::new(kind, format!("{}: {what}", place(url))).caused_by(error)
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

/// Verifies as always, and then asks for a pinned key on a path that leads to a trusted root. A certificate that
/// the server merely sends along proves nothing, so it does not count.
#[derive(Debug)]
struct PinnedVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    pins: Vec<SpkiPin>,
}

#[derive(Debug)]
struct PinMismatch;

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no pinned key on the verified path")
    }
}

impl StdError for PinMismatch {}

impl PinnedVerifier {
    fn holds_a_pin(&self, path: &VerifiedPath<'_>) -> bool {
        let intermediates = path
            .intermediate_certificates()
            .map(|certificate| certificate.subject_public_key_info());
        let mut keys = [
            path.end_entity().subject_public_key_info(),
            webpki::spki_for_anchor(path.anchor()),
        ]
        .into_iter()
        .chain(intermediates);
        keys.any(|spki| self.pins.contains(&SpkiPin::of(&spki)))
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let pinned = Cell::new(false);
        // Called for each path that leads to a trusted root; refusing one makes the search go on.
        let judge_path = |path: &VerifiedPath<'_>| {
            pinned.set(self.holds_a_pin(path));
            if pinned.get() {
                Ok(())
            } else {
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let searched = EndEntityCert::try_from(end_entity).and_then(|certificate| {
            certificate
                .verify_for_usage(
                    self.provider.signature_verification_algorithms.all,
                    &self.roots.roots,
                    intermediates,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    Some(&judge_path),
                )
                .map(drop)
        });
        match searched {
            Ok(()) if pinned.get() => Ok(verified),
            _ => Err(rustls::Error::Other(OtherError(Arc::new(PinMismatch)))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
