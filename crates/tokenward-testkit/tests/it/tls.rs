use std::{net::SocketAddr, sync::Arc};

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokenward_testkit::{IdpServer, JWKS_PATH, Leaf, TestPki};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client;

async fn connect(server: &IdpServer, pki: &TestPki, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let pem = std::fs::read(pki.root_file()).unwrap();
    assert_eq!(pem, pki.root_pem().as_bytes());
    connect_to(server.address(), &pem, name).await
}

/// Connects as one who trusts the authority of `pem` alone.
pub(crate) async fn connect_to(
    address: SocketAddr,
    pem: &[u8],
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn good_leaves_are_trusted_below_the_root() {
    let pki = TestPki::new();
    for (leaf, sent) in [(Leaf::Good, 2), (Leaf::GoodWithStranger, 3)] {
        let server = IdpServer::spawn_tls(&pki, leaf);
        assert!(server.base().starts_with("https://127.0.0.1:"));
        for name in ["127.0.0.1", "localhost"] {
            let stream = connect(&server, &pki, name).await.unwrap();
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            assert_eq!(chain.len(), sent);
            let response = client::get_over(stream, JWKS_PATH, &[]).await.unwrap();
            assert_eq!(response.status(), 200);
        }
        assert_eq!(server.hits(JWKS_PATH), 2);
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn wrong_leaves_are_refused() {
    let pki = TestPki::new();
    for (leaf, reason) in [
        (Leaf::WrongName, "NotValidForName"),
        (Leaf::Expired, "Expired"),
        (Leaf::SelfSigned, "UnknownIssuer"),
    ] {
        let server = IdpServer::spawn_tls(&pki, leaf);
        let error = connect(&server, &pki, "127.0.0.1").await.unwrap_err();
        assert!(format!("{error:?}").contains(reason), "{leaf:?}: {error:?}");
        assert_eq!(server.hits(JWKS_PATH), 0);
    }
    let server = IdpServer::spawn_tls(&pki, Leaf::Good);
    assert!(connect(&server, &TestPki::new(), "127.0.0.1").await.is_err());
}

#[tokio::test]
async fn pins_name_the_certificates_that_are_sent() {
    let pki = TestPki::new();
    let server = IdpServer::spawn_tls(&pki, Leaf::GoodWithStranger);
    let stream = connect(&server, &pki, "localhost").await.unwrap();
    let sent: Vec<[u8; 32]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap()
        .iter()
        .map(spki)
        .collect();
    let pins = [
        server.leaf_spki().unwrap(),
        pki.intermediate_spki(),
        pki.stranger_spki(),
    ];
    assert_eq!(sent, pins);
    let root = CertificateDer::from_pem_slice(pki.root_pem().as_bytes()).unwrap();
    assert_eq!(spki(&root), pki.root_spki());
    assert_eq!(IdpServer::spawn().leaf_spki(), None);
}

/// The P-256 SubjectPublicKeyInfo found by its fixed prefix (RFC 5480), 91 bytes in all.
fn spki(certificate: &CertificateDer<'static>) -> [u8; 32] {
    const PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let start = certificate
        .windows(26)
        .position(|window| window == PREFIX)
        .unwrap();
    let hash = digest::digest(&digest::SHA256, certificate.get(start..start + 91).unwrap());
    hash.as_ref().try_into().unwrap()
}
