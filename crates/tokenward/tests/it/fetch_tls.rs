//! Whom a fetch believes.

use std::{process::Command, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokenward::{
    SystemClock,
    fetch::{ExtraRoots, Guards, HttpFetcher, SpkiPin},
};
use tokenward_core::{BoxFuture, Clock, Timestamp};

use crate::site::{Names, Site, code, fetch_with, fetcher, local, ok, redirect};

const HOST: &str = "idp.example";

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(crate) fn root(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn intermediate(root: &Authority) -> Authority {
    CertifiedIssuer::signed_by(authority_params("between"), KeyPair::generate().unwrap(), root).unwrap()
}

fn leaf_params(host: &str) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A key with the chain of certificates that a server shows for it.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Identity {
    fn issued(params: &CertificateParams, issuer: &Authority, between: &[&Authority]) -> Self {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, issuer).unwrap();
        let mut chain = vec![leaf.der().clone()];
        chain.extend(between.iter().map(|authority| authority.der().clone()));
        Self { chain, key }
    }

    fn pin(&self) -> SpkiPin {
        pin(&self.key)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .unwrap();
        Arc::new(config)
    }

    async fn site(&self) -> Site {
        Site::https(self.server(), |_| ok("{}")).await
    }
}

fn pin(key: &KeyPair) -> SpkiPin {
    SpkiPin::of(&key.subject_public_key_info())
}

/// Only https, only trust in `root`.
pub(crate) fn trusting(root: &Authority) -> Guards {
    Guards {
        allow_http: false,
        extra_roots: Some(ExtraRoots::from_pem(root.pem().as_bytes()).unwrap()),
        ..local()
    }
}

fn pinned(root: &Authority, pins: &[SpkiPin]) -> Guards {
    Guards {
        pinned_spki: pins.to_vec(),
        ..trusting(root)
    }
}

fn named(fetcher: HttpFetcher) -> HttpFetcher {
    fetcher.with_resolver(Names::new(&[
        (HOST, &["127.0.0.1"]),
        ("idp.example.", &["127.0.0.1"]),
    ]))
}

async fn judge(guards: Guards, site: &Site) -> &'static str {
    code(&fetch_with(&named(fetcher()), guards, site.secure(HOST, "/")).await)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_host_is_believed() {
    let root = root("root");
    let between = intermediate(&root);
    let direct = Identity::issued(&leaf_params(HOST), &root, &[]).site().await;
    let longer = Identity::issued(&leaf_params(HOST), &between, &[&between])
        .site()
        .await;
    assert_eq!(judge(trusting(&root), &direct).await, "ok");
    assert_eq!(judge(trusting(&root), &longer).await, "ok");
    let dotted = fetch_with(
        &named(fetcher()),
        trusting(&root),
        direct.secure("idp.example.", "/"),
    )
    .await;
    assert_eq!(code(&dotted), "ok");

    let by_address = Identity::issued(&leaf_params("127.0.0.1"), &root, &[])
        .site()
        .await;
    let result = fetch_with(&fetcher(), trusting(&root), by_address.secure("127.0.0.1", "/")).await;
    assert_eq!(code(&result), "ok");
}

#[tokio::test]
async fn nothing_else_is() {
    let (ours, theirs) = (root("root"), root("another root"));
    let between = intermediate(&ours);
    let mut expired = leaf_params(HOST);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = leaf_params(HOST);
    early.not_before = date_time_ymd(3000, 1, 1);
    let mut client = leaf_params(HOST);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf_params(HOST).self_signed(&key).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key,
        }
    };
    for (what, identity) in [
        ("expired", Identity::issued(&expired, &ours, &[])),
        ("not yet valid", Identity::issued(&early, &ours, &[])),
        (
            "another name",
            Identity::issued(&leaf_params("other.example"), &ours, &[]),
        ),
        (
            "a parent's name",
            Identity::issued(&leaf_params("example"), &ours, &[]),
        ),
        ("for clients", Identity::issued(&client, &ours, &[])),
        ("self-signed", self_signed),
        ("another root", Identity::issued(&leaf_params(HOST), &theirs, &[])),
        (
            "a gap in the chain",
            Identity::issued(&leaf_params(HOST), &between, &[]),
        ),
    ] {
        let site = identity.site().await;
        let error = fetch_with(&named(fetcher()), trusting(&ours), site.secure(HOST, "/"))
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("tls", false), "{what}");
        assert_eq!(site.asks().len(), 0, "{what}");
    }
}

#[tokio::test]
async fn without_its_authority_a_server_is_not_believed() {
    let root = root("root");
    let site = Identity::issued(&leaf_params(HOST), &root, &[]).site().await;
    let guards = Guards {
        extra_roots: None,
        ..trusting(&root)
    };
    assert_eq!(judge(guards, &site).await, "tls");
}

#[tokio::test]
async fn a_plain_server_is_not_spoken_to_as_https_and_the_other_way_round() {
    let root = root("root");
    let plain = Site::http(|_| ok("{}")).await;
    // It waits for the end of a head that never comes; a real one would answer with an error.
    let guards = Guards {
        retry: quick(),
        ..trusting(&root)
    };
    assert_eq!(judge(guards, &plain).await, "timeout");
    let secure = Identity::issued(&leaf_params(HOST), &root, &[]).site().await;
    let result = fetch_with(&named(fetcher()), local(), secure.at(HOST, "/")).await;
    assert!(result.is_err());
}

fn quick() -> tokenward::fetch::Retry {
    tokenward::fetch::Retry {
        attempt: Duration::from_millis(150),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_pin_holds_for_the_leaf_and_for_every_authority_on_the_verified_path() {
    let root = root("root");
    let between = intermediate(&root);
    let identity = Identity::issued(&leaf_params(HOST), &between, &[&between]);
    let site = identity.site().await;
    let spare = pin(&KeyPair::generate().unwrap());
    for (what, pins, expected) in [
        ("leaf", vec![identity.pin()], "ok"),
        ("intermediate", vec![pin(between.key())], "ok"),
        ("root", vec![pin(root.key())], "ok"),
        ("a spare one and the leaf", vec![spare, identity.pin()], "ok"),
        ("another", vec![spare], "pin_mismatch"),
    ] {
        assert_eq!(judge(pinned(&root, &pins), &site).await, expected, "{what}");
    }
    assert_eq!(site.asks().len(), 4);
}

#[tokio::test]
async fn a_pinned_certificate_that_is_merely_sent_along_proves_nothing() {
    let root = root("root");
    let bystander = Identity::issued(&leaf_params(HOST), &root, &[]);
    let other_root = self::root("another root");
    let mut identity = Identity::issued(&leaf_params(HOST), &root, &[]);
    identity.chain.push(bystander.chain[0].clone());
    identity.chain.push(other_root.der().clone());
    let site = identity.site().await;
    assert_eq!(
        judge(pinned(&root, &[bystander.pin(), pin(other_root.key())]), &site).await,
        "pin_mismatch"
    );
    assert_eq!(judge(pinned(&root, &[identity.pin()]), &site).await, "ok");
}

#[tokio::test]
async fn a_pin_is_no_substitute_for_trust() {
    let (ours, theirs) = (root("root"), root("another root"));
    let identity = Identity::issued(&leaf_params(HOST), &theirs, &[]);
    let site = identity.site().await;
    assert_eq!(judge(pinned(&ours, &[identity.pin()]), &site).await, "tls");
}

#[tokio::test]
async fn no_session_is_resumed_so_every_connection_shows_its_certificate() {
    let root = root("root");
    let identity = Identity::issued(&leaf_params(HOST), &root, &[]);
    let site = identity.site().await;
    let fetcher = named(fetcher());
    let wrong = pin(&KeyPair::generate().unwrap());
    for (guards, expected) in [
        (trusting(&root), "ok"),
        (trusting(&root), "ok"),
        (pinned(&root, &[identity.pin()]), "ok"),
        (pinned(&root, &[wrong]), "pin_mismatch"),
        (pinned(&root, &[identity.pin()]), "ok"),
    ] {
        assert_eq!(
            code(&fetch_with(&fetcher, guards, site.secure(HOST, "/")).await),
            expected
        );
    }
    assert_eq!((site.resumed(), site.asks().len()), (0, 4));
}

#[tokio::test]
async fn every_hop_is_held_to_the_pins_and_none_leads_to_http() {
    let root = root("root");
    let target = Identity::issued(&leaf_params(HOST), &root, &[]);
    let end = target.site().await;
    let plain = Site::http(|_| ok("{}")).await;
    let first = Identity::issued(&leaf_params(HOST), &root, &[]);
    let to_end = end.secure(HOST, "/").to_string();
    let start = Site::https(first.server(), move |_| redirect(&to_end)).await;

    assert_eq!(judge(trusting(&root), &start).await, "ok");
    assert_eq!(
        judge(pinned(&root, &[first.pin(), target.pin()]), &start).await,
        "ok"
    );
    assert_eq!(judge(pinned(&root, &[first.pin()]), &start).await, "pin_mismatch");

    let to_plain = plain.at(HOST, "/").to_string();
    let down = Site::https(first.server(), move |_| redirect(&to_plain)).await;
    let guards = Guards {
        allow_http: true,
        ..trusting(&root)
    };
    assert_eq!(judge(guards, &down).await, "scheme_forbidden");
    assert_eq!(plain.connections(), 0);
}

/// A clock that has run ahead by many years.
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn wall(&self) -> Timestamp {
        self.0.wall() + self.1
    }

    fn steady(&self) -> Timestamp {
        self.0.steady()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }
}

#[tokio::test]
async fn certificates_expire_by_the_clock_that_was_given() {
    let root = root("root");
    let mut params = leaf_params(HOST);
    params.not_after = date_time_ymd(2060, 1, 1);
    let site = Identity::issued(&params, &root, &[]).site().await;
    for (years, expected) in [(0, "ok"), (50, "tls")] {
        let clock = Ahead(SystemClock::new(), Duration::from_secs(years * 31_556_952));
        let fetcher = named(HttpFetcher::new(Arc::new(clock)).unwrap());
        let result = fetch_with(&fetcher, trusting(&root), site.secure(HOST, "/")).await;
        assert_eq!(code(&result), expected, "in {years} years");
    }
}

#[test]
fn extra_roots_and_pins_are_read_or_refused() {
    let pem = root("root").pem();
    assert!(ExtraRoots::from_pem(format!("# two\n{pem}{pem}").as_bytes()).is_ok());
    let cut = pem.replace("-----END", "-----");
    for bad in [
        "",
        "text",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &cut,
    ] {
        assert!(ExtraRoots::from_pem(bad.as_bytes()).is_err(), "{bad}");
    }
    let text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(SpkiPin::parse(text), Some(SpkiPin::of(b"")));
    assert_eq!(SpkiPin::of(b"").to_string(), text);
    for bad in [
        "",
        "47DEQpj8",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ] {
        assert_eq!(SpkiPin::parse(bad), None, "{bad}");
    }
}

/// Set in the process that [`the_platforms_roots_are_trusted`] starts: the server's port.
const CHILD: &str = "TOKENWARD_TEST_PLATFORM_ROOTS";

/// The platform's store is chosen by the environment, which is the process's: so the fetch runs in another one,
/// which is this same test.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test's two processes speak through the environment"
)]
async fn the_platforms_roots_are_trusted() {
    if let Ok(url) = std::env::var(CHILD) {
        let guards = Guards {
            allow_private_addresses: true,
            ..Guards::default()
        };
        // Twice over the one configuration that all share, which is the one that could resume a session.
        let fetcher = fetcher();
        for _ in 0..2 {
            let result = fetch_with(&fetcher, guards.clone(), url.parse().unwrap()).await;
            assert_eq!(code(&result), "ok");
        }
        return;
    }
    let root = root("root");
    let site = Identity::issued(&leaf_params("127.0.0.1"), &root, &[])
        .site()
        .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), root.pem()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "fetch_tls::the_platforms_roots_are_trusted"]);
    child
        .env(CHILD, site.secure("127.0.0.1", "/").as_str())
        .env("SSL_CERT_FILE", file.path())
        .env_remove("SSL_CERT_DIR");
    // Proxies that the environment names are not used.
    for proxy in [
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "HTTP_PROXY",
        "http_proxy",
    ] {
        child.env(proxy, "http://127.0.0.1:9");
    }
    let output = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!((site.asks().len(), site.resumed()), (2, 0));
}
