//! A certification authority for TLS tests: root, intermediate, and leaves that are good or wrong in one way.

use std::{io::Write as _, path::Path, sync::Arc};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// What the server's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// For `127.0.0.1`, `::1` and `localhost`, in force, issued by the intermediate.
    Good,
    /// [`Leaf::Good`], but the chain that is sent also holds an unrelated certificate
    /// ([`TestPki::stranger_spki`]) which is on no path to the root.
    GoodWithStranger,
    /// For `other.invalid` only.
    WrongName,
    /// Ended in 2021.
    Expired,
    /// Signed by its own key.
    SelfSigned,
}

/// A root that tests may trust, and an intermediate below it that issues the leaves.
#[derive(Debug)]
pub struct TestPki {
    root_pem: String,
    root_file: tempfile::NamedTempFile,
    root_spki: [u8; 32],
    intermediate: CertificateDer<'static>,
    intermediate_spki: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
    stranger: CertificateDer<'static>,
    stranger_spki: [u8; 32],
}

impl Default for TestPki {
    fn default() -> Self {
        Self::new()
    }
}

impl TestPki {
    /// New keys and certificates (ECDSA P-256).
    #[must_use]
    pub fn new() -> Self {
        Self::named("tokenward test")
    }

    /// The same under another name, so that it is not taken for one whose signatures are broken.
    pub(crate) fn named(name: &str) -> Self {
        let root_key = new_key();
        let root_params = authority(&format!("{name} root"));
        let root = root_params.self_signed(&root_key).expect("a root is signed");
        let root_spki = spki(&root_key);
        let root_issuer = Issuer::new(root_params, root_key);

        let intermediate_key = new_key();
        let intermediate_params = authority(&format!("{name} intermediate"));
        let intermediate = intermediate_params
            .signed_by(&intermediate_key, &root_issuer)
            .expect("an intermediate is signed");
        let intermediate_spki = spki(&intermediate_key);

        let stranger_key = new_key();
        let stranger = authority("stranger")
            .self_signed(&stranger_key)
            .expect("a stranger is signed");

        let root_pem = root.pem();
        let mut root_file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        root_file
            .write_all(root_pem.as_bytes())
            .expect("a temporary file can be written");
        Self {
            root_pem,
            root_file,
            root_spki,
            intermediate: intermediate.der().clone(),
            intermediate_spki,
            issuer: Issuer::new(intermediate_params, intermediate_key),
            stranger: stranger.der().clone(),
            stranger_spki: spki(&stranger_key),
        }
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A file that holds [`TestPki::root_pem`] for as long as this lives.
    #[must_use]
    pub fn root_file(&self) -> &Path {
        self.root_file.path()
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo.
    #[must_use]
    pub fn root_spki(&self) -> [u8; 32] {
        self.root_spki
    }

    /// SHA-256 of the intermediate's SubjectPublicKeyInfo.
    #[must_use]
    pub fn intermediate_spki(&self) -> [u8; 32] {
        self.intermediate_spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the certificate that [`Leaf::GoodWithStranger`] sends along.
    #[must_use]
    pub fn stranger_spki(&self) -> [u8; 32] {
        self.stranger_spki
    }

    /// A server configuration with a new leaf, and the SHA-256 of the leaf's SubjectPublicKeyInfo. ALPN
    /// offers `h2` and `http/1.1`.
    pub fn server(&self, leaf: Leaf) -> (Arc<ServerConfig>, [u8; 32]) {
        let (chain, key) = self.issue(leaf);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .expect("the key fits the certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        (Arc::new(config), spki(&key))
    }

    /// A new leaf's chain and its key, both in PEM, for a server that is another program.
    #[must_use]
    pub fn pem(&self, leaf: Leaf) -> (String, String) {
        let (chain, key) = self.issue(leaf);
        let chain = chain.iter().map(|certificate| {
            let text = STANDARD.encode(certificate);
            // OpenSSL reads no longer lines.
            let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            let lines = lines.join("\n");
            format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
        });
        (chain.collect(), key.serialize_pem())
    }

    /// The certificates that a server sends, its own first, and its key.
    fn issue(&self, leaf: Leaf) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = new_key();
        let names: &[&str] = match leaf {
            Leaf::WrongName => &["other.invalid"],
            _ => &["127.0.0.1", "::1", "localhost"],
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if leaf == Leaf::Expired { 2021 } else { 2099 }, 1, 1);

        let mut chain = Vec::new();
        if leaf == Leaf::SelfSigned {
            chain.push(params.self_signed(&key).expect("a leaf is signed").der().clone());
        } else {
            let certificate = params.signed_by(&key, &self.issuer).expect("a leaf is signed");
            chain.extend([certificate.der().clone(), self.intermediate.clone()]);
        }
        if leaf == Leaf::GoodWithStranger {
            chain.push(self.stranger.clone());
        }
        (chain, key)
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key is generated")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn spki(key: &KeyPair) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, &key.subject_public_key_info()).as_ref());
    hash
}
