//! A restart with every identity provider down.

use std::time::Duration;

use http::{Method, StatusCode};
use rustix::process::Signal;
use tempfile::TempDir;
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};

use crate::program::{Program, command};

fn yaml(server: &IdpServer) -> String {
    format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true, audiences: [api] }}\n\
         idps: [{{ name: a, issuer: \"https://a.example\", url: \"{}\" }}]\n",
        server.jwks_url()
    )
}

#[tokio::test]
async fn after_a_kill_the_keys_come_from_the_snapshot_with_their_real_age() {
    let (server, key) = (IdpServer::spawn(), TestKey::es256(0));
    server.set_keys(&[&key]);
    let directory = TempDir::new().unwrap();
    let mut first = Program::run(command(&directory, &yaml(&server))).await;
    first.loaded("a").await;
    let before = first.get("/status/a").await.json();
    // The set is served before it is stored: wait until the store's log holds it, commit included.
    let log = directory.path().join("tokenward-data").join("tokenward.db-wal");
    let kid = key.kid().unwrap().as_bytes().to_vec();
    let stored = || std::fs::read(&log).is_ok_and(|log| log.windows(kid.len()).any(|part| part == kid));
    let clock = SystemClock::new();
    for _ in 0..500 {
        if stored() {
            break;
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
    assert!(stored(), "it is never stored");
    clock.sleep(Duration::from_millis(100)).await;
    first.signal(Signal::KILL);
    first.ended().await;

    server.behave(JWKS_PATH, Behaviour::status(500));
    let second = Program::run(command(&directory, &yaml(&server))).await;
    let keys = second.get("/jwks/a").await;
    assert_eq!(keys.status, StatusCode::OK);
    assert_eq!(keys.json()["keys"][0]["kid"], key.jwk()["kid"]);
    let after = second.get("/status/a").await.json();
    assert_eq!(
        after["last_updated"], before["last_updated"],
        "the age is not the real one"
    );
    assert_eq!(after["stale_until"], before["stale_until"]);
    assert_eq!(second.get("/readyz").await.status, StatusCode::OK);
    let token = TokenBuilder::new(SystemClock::new().wall())
        .issuer("https://a.example")
        .audience("api")
        .sign(&key);
    let bearer = format!("Bearer {token}");
    let decision = second
        .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
        .await;
    assert_eq!(decision.status, StatusCode::OK, "{decision:?}");
}

#[tokio::test]
async fn a_second_server_on_the_same_store_is_refused_with_what_to_do() {
    let server = IdpServer::spawn();
    server.set_keys(&[&TestKey::es256(0)]);
    let directory = TempDir::new().unwrap();
    let first = Program::run(command(&directory, &yaml(&server))).await;
    let output = command(&directory, &yaml(&server)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("tokenward-data"), "{said}");
    assert_eq!(first.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn hundreds_of_stored_sets_are_served_at_once_while_every_provider_is_down() {
    const IDPS: usize = 300;
    let (server, key) = (IdpServer::spawn(), TestKey::es256(0));
    server.set_keys(&[&key]);
    let idps: String = (0..IDPS)
        .map(|n| {
            format!(
                "- {{ name: a{n}, issuer: \"https://a{n}.example\", url: \"{}\" }}\n",
                server.jwks_url()
            )
        })
        .collect();
    let yaml = format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true, audiences: [api], refresh_interval: 1 }}\n\
         idps:\n{idps}"
    );
    let directory = TempDir::new().unwrap();
    let mut first = Program::run(command(&directory, &yaml)).await;
    for n in 0..IDPS {
        first.loaded(&format!("a{n}")).await;
    }
    // What is left is written on the way out.
    first.signal(Signal::TERM);
    assert!(first.ended().await.success());

    // All of them are due again, and none answers.
    server.behave(JWKS_PATH, Behaviour::HangBeforeHeaders);
    let second = Program::run(command(&directory, &yaml)).await;
    assert_eq!(second.get("/readyz").await.status, StatusCode::OK);
    for n in 0..IDPS {
        let keys = second.get(&format!("/jwks/a{n}")).await;
        assert_eq!(keys.status, StatusCode::OK, "a{n}");
    }
}
