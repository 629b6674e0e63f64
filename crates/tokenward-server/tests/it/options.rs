//! Members of the configuration that nothing else shows to do what they say.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use http::{Method, StatusCode};
use tempfile::TempDir;
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program::{Program, config, wait_for};

/// What becomes of the keys of `a`: none for good ones, else the code of its last error.
async fn error(program: &Program) -> Option<String> {
    let tried = program
        .until("/status/a", |answer| !answer.json()["last_attempt"].is_null())
        .await;
    let settled = |status: &serde_json::Value| status["update_count"] != 0 || status["error_count"] != 0;
    let status = if settled(&tried.json()) {
        tried
    } else {
        program.until("/status/a", |answer| settled(&answer.json())).await
    };
    status.json()["last_error"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn the_public_listener_is_at_its_host() {
    let program = Program::start(&config("").replace("host: 127.0.0.1", "host: 127.0.0.2")).await;
    assert_eq!(program.public.ip().to_string(), "127.0.0.2");
    assert_eq!(program.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_global_domains_bind_every_hop() {
    let upstream = IdpServer::spawn();
    upstream.set_keys_at("/moved", &[&TestKey::es256(0)]);
    let moved = upstream.url("/moved").replace("127.0.0.1", "localhost");
    upstream.behave(JWKS_PATH, Behaviour::redirect(&moved));
    let idps = format!("idps: [{{ name: a, url: \"{}\" }}]\n", upstream.jwks_url());
    for (domains, expected) in [
        ("[127.0.0.1, localhost]", None),
        ("[127.0.0.1]", Some("domain_forbidden")),
    ] {
        let program = Program::start(&config(&format!("allowed_domains: {domains}\n{idps}"))).await;
        assert_eq!(error(&program).await.as_deref(), expected, "{domains}");
    }
}

#[tokio::test]
async fn a_strict_origin_binds_the_discovered_address() {
    let (issuer, elsewhere) = (IdpServer::spawn(), IdpServer::spawn());
    elsewhere.set_keys(&[&TestKey::es256(0)]);
    issuer.set_discovery("jwks_uri", elsewhere.jwks_url());
    for (strict, expected) in [(false, None), (true, Some("jwks_uri_forbidden"))] {
        let yaml = format!(
            "idps: [{{ name: a, issuer: \"{}\", strict_jwks_origin: {strict} }}]\n",
            issuer.issuer()
        );
        let program = Program::start(&config(&yaml)).await;
        assert_eq!(error(&program).await.as_deref(), expected, "{strict}");
    }
}

#[tokio::test]
async fn a_shared_secret_verifies_its_tokens() {
    let (key, other) = (TestKey::new("HS256", 0), TestKey::new("HS256", 1));
    let directory = TempDir::new().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, key.secret().unwrap()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let yaml = format!(
        "idps: [{{ name: a, issuer: shared, audiences: [api], algorithms: [HS256], secret_file: \"{}\" }}]\n",
        secret.display()
    );
    let program = Program::start(&config(&yaml)).await;
    for (key, status) in [(&key, StatusCode::OK), (&other, StatusCode::UNAUTHORIZED)] {
        let token = TokenBuilder::new(SystemClock::new().wall())
            .issuer("shared")
            .audience("api")
            .subject("user-1")
            .expires_in(Duration::from_secs(600));
        let bearer = format!("Bearer {}", token.sign(key));
        let answer = program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await;
        assert_eq!(answer.status, status, "{answer:?}");
        let subject = (status == StatusCode::OK).then_some("user-1");
        assert_eq!(answer.header("x-tokenward-subject"), subject);
    }
}

#[tokio::test]
async fn the_level_decides_what_is_logged_and_no_level_what_a_client_wrote() {
    for level in ["info", "debug"] {
        let program = Program::start(&config(&format!("logging: {{ level: {level} }}\n"))).await;
        let mut nonsense = TcpStream::connect(program.public).await.unwrap();
        nonsense.write_all(b"canary canary canary\r\n\r\n").await.unwrap();
        let _ = nonsense.read_to_end(&mut Vec::new()).await;
        let headers = [
            ("authorization", "Bearer canary.canary.canary"),
            ("cookie", "session=canary"),
            ("x-forwarded-for", "canary"),
        ];
        program
            .ask(Method::GET, "/authorize?canary=canary", &headers)
            .await;
        wait_for(|| program.logged("request").pop())
            .await
            .expect("the later one is logged");
        let of_nonsense = program.logged("connection failed");
        assert_eq!(
            of_nonsense.len(),
            usize::from(level == "debug"),
            "{of_nonsense:?}"
        );
        assert!(!program.output().concat().contains("canary"), "at {level}");
    }
}
