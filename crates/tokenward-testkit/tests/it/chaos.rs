//! Providers that misbehave by a script, seen by a plain client.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use flate2::read::GzDecoder;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use tokenward_core::{
    Clock, Timestamp,
    jose::{KeySet, MAX_TOKEN_BYTES, Token},
};
use tokenward_testkit::{Chaos, ManualClock, Script};
use tokio::time::timeout;

use crate::{
    client::{Response, ask, body, get_over},
    tls::connect_to,
};

/// Longer than loopback ever takes, short enough to wait for what must not come.
const MOMENT: Duration = Duration::from_millis(150);

struct World {
    chaos: Chaos,
    clock: ManualClock,
}

impl World {
    fn new(script: &str) -> Self {
        let script = Script::parse(script).unwrap_or_else(|error| panic!("{error}"));
        let clock = ManualClock::default();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let chaos = Chaos::start(script, listen, &shared).unwrap();
        Self { chaos, clock }
    }

    /// One provider `a` that has this fault from the start.
    fn with_fault(fault: &str) -> Self {
        Self::new(&format!(
            "idps: [{{ name: a, timeline: [{{ at: 0s, fault: {fault} }}] }}]"
        ))
    }

    async fn get(&self, path: &str) -> hyper::Result<Response> {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> hyper::Result<Response> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        ask(self.chaos.address(), request, "").await
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&body(response).await.unwrap()).unwrap()
    }

    /// The key ids of the set of now.
    async fn kids(&self) -> Vec<String> {
        let set = self.json("/a/jwks").await;
        let keys = set["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    fn token(&self) -> String {
        self.chaos.mint("a", &Map::new())
    }

    /// Whether the set of now has the key that signed `token`.
    async fn verifies(&self, token: &str) -> bool {
        let set = KeySet::parse(self.json("/a/jwks").await.to_string().as_bytes()).unwrap();
        let token = Token::parse(token, MAX_TOKEN_BYTES).unwrap();
        let keys = set
            .usable()
            .iter()
            .filter(|key| key.kid() == token.header().kid());
        keys.into_iter()
            .any(|key| token.verify_signature(key, &mut ()).is_ok())
    }
}

#[tokio::test]
async fn silence_and_broken_connections() {
    let world = World::with_fault("hang");
    for path in ["/a/jwks", "/a/.well-known/openid-configuration"] {
        assert!(timeout(MOMENT, world.get(path)).await.is_err(), "{path}");
    }
    for (fault, reset) in [("close", false), ("reset", true)] {
        let world = World::with_fault(fault);
        let error = world.get("/a/jwks").await.unwrap_err();
        let text = format!("{error:?}");
        assert_eq!(text.contains("ConnectionReset"), reset, "{fault}: {text}");
    }

    let world = World::with_fault("hang_in_body");
    let mut response = world.get("/a/jwks").await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    assert!(timeout(MOMENT, response.body_mut().frame()).await.is_err());

    let world = World::with_fault("truncate");
    assert!(body(world.get("/a/jwks").await.unwrap()).await.is_err());

    let world = World::with_fault("{ slow: 300ms, }");
    let mut slow = std::pin::pin!(world.get("/a/jwks"));
    assert!(timeout(MOMENT, &mut slow).await.is_err());
    assert_eq!(slow.await.unwrap().status(), 200);

    let world = World::with_fault("{ drip: 20, every: 10ms }");
    let mut response = world.get("/a/jwks").await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap().len(), 20);
    assert!(body(response).await.unwrap().ends_with(b"}]}"));
}

#[tokio::test]
async fn too_much() {
    let world = World::with_fault("{ huge: 3MiB }");
    let bytes = body(world.get("/a/jwks").await.unwrap()).await.unwrap();
    assert_eq!(bytes.len(), 3 << 20);
    assert_eq!(KeySet::parse(&bytes).unwrap().usable().len(), 1);

    let world = World::with_fault("endless");
    let mut response = world.get("/a/jwks").await.unwrap();
    let mut seen = 0;
    while seen < 4 << 20 {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        seen += frame.into_data().unwrap().len();
    }

    for (fault, least) in [("gzip", 100), ("{ gzip_bomb: 8MiB }", 8 << 20)] {
        let response = World::with_fault(fault).get("/a/jwks").await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let packed = body(response).await.unwrap();
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked.len() >= least, "{fault}: {}", unpacked.len());
    }
}

#[tokio::test]
async fn wrong_answers() {
    for (fault, status, content) in [
        ("html", 200, "<!doctype html>"),
        ("not_json", 200, "{\"keys\": ["),
        ("empty_set", 200, "{\"keys\":[]}"),
        ("empty_object", 200, "{}"),
        ("{ status: 404 }", 404, ""),
        ("{ status: 429, retry_after: 7 }", 429, ""),
    ] {
        let response = World::with_fault(fault).get("/a/jwks").await.unwrap();
        assert_eq!(response.status(), status, "{fault}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 429);
        let bytes = body(response).await.unwrap();
        assert!(bytes.starts_with(content.as_bytes()), "{fault}: {bytes:?}");
        assert!(
            KeySet::parse(&bytes).map_or(true, |set| set.usable().is_empty()),
            "{fault}"
        );
    }
    let world = World::new(
        "idps:\n- name: a\n  timeline:\n  - at: 0s\n    headers: { content-type: text/plain, Cache-Control: 'max-age=0, max-age=9', age: '-1' }",
    );
    let response = world.get("/a/jwks").await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.headers()["cache-control"], "max-age=0, max-age=9");
    assert_eq!(response.headers()["age"], "-1");
    assert_eq!(
        KeySet::parse(&body(response).await.unwrap())
            .unwrap()
            .usable()
            .len(),
        1
    );
}

#[tokio::test]
async fn redirects() {
    let elsewhere = World::with_fault("{ redirect: 'http://169.254.169.254/latest' }");
    let around = World::with_fault("{ redirect: loop }");
    let other = World::with_fault("{ redirect: other_host }");
    let port = other.chaos.address().port();
    for (world, to) in [
        (&elsewhere, "http://169.254.169.254/latest".to_owned()),
        (&around, "/a/jwks".to_owned()),
        (&other, format!("http://localhost:{port}/a/jwks")),
    ] {
        let response = world.get("/a/jwks").await.unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["location"].to_str().unwrap()
            ),
            (302, &*to)
        );
    }
    let down = World::new(
        "idps: [{ name: a, tls: true, timeline: [{ at: 0s, fault: { redirect: http } }, { at: 1s }] }]",
    );
    let address = down.chaos.jwks_url("a");
    let address = address
        .strip_prefix("https://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let pem = std::fs::read(down.chaos.ca_file()).unwrap();
    let stream = connect_to(address.parse().unwrap(), &pem, "127.0.0.1")
        .await
        .unwrap();
    let response = get_over(stream, "/a/jwks", &[]).await.unwrap();
    let plain = format!("http://{}/a/jwks", down.chaos.address());
    assert_eq!(response.headers()["location"].to_str().unwrap(), plain);
}

#[tokio::test]
async fn certificates_go_wrong_with_time() {
    let world = World::new(
        "idps:\n- name: a\n  tls: true\n  timeline:\n\
         \x20 - { at: 0s }\n  - { at: 10s, certificate: expired }\n  - { at: 20s, certificate: wrong_name }\n\
         \x20 - { at: 30s, certificate: self_signed }\n  - { at: 40s, certificate: unknown_ca }\n  - { at: 50s, certificate: good }",
    );
    let url = world.chaos.jwks_url("a");
    let address = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let pem = std::fs::read(world.chaos.ca_file()).unwrap();
    for refused in [
        None,
        Some("Expired"),
        Some("NotValidForName"),
        Some("UnknownIssuer"),
        Some("UnknownIssuer"),
        None,
    ] {
        match (connect_to(address, &pem, "127.0.0.1").await, refused) {
            (Ok(stream), None) => {
                let response = get_over(stream, "/a/jwks", &[]).await.unwrap();
                assert_eq!(response.status(), 200);
            }
            (Err(error), Some(reason)) => assert!(format!("{error:?}").contains(reason), "{error:?}"),
            (outcome, _) => panic!("{refused:?}: {outcome:?}"),
        }
        world.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(world.chaos.key_set_requests("a"), 2);
}

#[tokio::test]
async fn keys_change_at_their_times() {
    let world = World::new(
        "idps:\n- name: a\n  keys: 2\n  timeline:\n\
         \x20 - { at: 10s, keys: add }\n  - { at: 20s, keys: switch }\n  - { at: 30s, keys: [drop, drop] }\n\
         \x20 - { at: 40s, keys: rotate }\n  - { at: 50s, keys: [add, replace] }\n  - { at: 60s, keys: reuse_kid }\n\
         \x20 - { at: 70s, keys: drop }",
    );
    let first = world.token();
    assert_eq!(world.kids().await, ["a-0", "a-1"]);
    let mut last = first.clone();
    for (listed, signs, old_verifies) in [
        (vec!["a-0", "a-1", "a-2"], "a-1", true),
        (vec!["a-0", "a-1", "a-2"], "a-2", true),
        (vec!["a-2"], "a-2", true),
        (vec!["a-3"], "a-3", false),
        (vec!["a-5"], "a-5", false),
        (vec!["a-5"], "a-5", false),
        (vec![], "a-5", false),
    ] {
        world.clock.advance(Duration::from_millis(9_999));
        assert!(world.verifies(&last).await, "the step before lasts to its end");
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.kids().await, listed);
        let token = world.token();
        let kid = Token::parse(&token, MAX_TOKEN_BYTES)
            .unwrap()
            .header()
            .kid()
            .map(str::to_owned);
        assert_eq!(kid.as_deref(), Some(signs));
        assert_eq!(world.verifies(&token).await, !listed.is_empty());
        assert_eq!(world.verifies(&last).await, old_verifies, "{listed:?}");
        last = token;
    }
}

#[tokio::test]
async fn faults_are_for_one_document_or_both_and_end_with_their_step() {
    let discovery = "/a/.well-known/openid-configuration";
    let world = World::new(
        "idps:\n- name: a\n  timeline:\n\
         \x20 - { at: 0s, fault: { status: 500 }, on: jwks }\n  - { at: 1s, fault: { status: 500 }, on: discovery }\n\
         \x20 - { at: 2s, issuer: https://wrong.test }\n  - { at: 3s }",
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut statuses = Vec::new();
        for path in ["/a/jwks", discovery, "/.well-known/oauth-authorization-server/a"] {
            statuses.push(world.get(path).await.unwrap().status().as_u16());
        }
        seen.push(statuses);
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(
        seen,
        [[500, 200, 200], [200, 500, 500], [200, 200, 200], [200, 200, 200]]
    );
    assert_eq!(world.json(discovery).await["issuer"], world.chaos.issuer("a"));
    assert_eq!(world.json(discovery).await["jwks_uri"], world.chaos.jwks_url("a"));

    let wrong = World::new("idps: [{ name: a, timeline: [{ at: 0s, issuer: https://wrong.test }] }]");
    assert_eq!(wrong.json(discovery).await["issuer"], "https://wrong.test");
}

#[tokio::test]
async fn a_flapping_set_tells_its_halves_in_turns() {
    let world = World::new("idps: [{ name: a, keys: 3, timeline: [{ at: 0s, flapping: true }] }]");
    assert_eq!(world.kids().await, ["a-0", "a-2"]);
    assert_eq!(world.kids().await, ["a-1"]);
    assert_eq!(world.kids().await, ["a-0", "a-2"]);
}

#[tokio::test]
async fn validators_right_and_wrong() {
    let script = |validators: &str| {
        format!(
            "idps: [{{ name: a, timeline: [{{ at: 0s, validators: {validators} }}, {{ at: 10s, keys: rotate, validators: {validators} }}] }}]"
        )
    };
    // Asked again with what was given: before the rotation, and after it.
    for (validators, header, condition, again, rotated) in [
        ("etag", "etag", "if-none-match", 304, 200),
        ("last_modified", "last-modified", "if-modified-since", 304, 200),
        ("changing", "etag", "if-none-match", 200, 200),
        ("stuck", "etag", "if-none-match", 304, 304),
    ] {
        let world = World::new(&script(validators));
        let first = world.get("/a/jwks").await.unwrap();
        let validator = first.headers()[header].to_str().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let answer = world
                .get_with("/a/jwks", &[(condition, validator)])
                .await
                .unwrap();
            statuses.push(answer.status().as_u16());
            world.clock.advance(Duration::from_secs(10));
        }
        assert_eq!(statuses, [again, rotated], "{validators}");
    }
    let world = World::new(&script("none"));
    assert!(!world.get("/a/jwks").await.unwrap().headers().contains_key("etag"));
    let world = World::new(&script("always_304"));
    assert_eq!(world.get("/a/jwks").await.unwrap().status(), 304);
}

#[tokio::test]
async fn tokens_are_minted_and_everything_is_told_whatever_the_fault() {
    let world = World::new(
        "idps:\n- { name: a, timeline: [{ at: 0s, fault: hang }, { at: 5s }] }\n- { name: b, alg: RS256 }",
    );
    let address = world.chaos.address();
    let answer = ask(address, Request::get("/"), "").await.unwrap();
    let told: Value = serde_json::from_slice(&body(answer).await.unwrap()).unwrap();
    assert_eq!(told, world.chaos.describe());
    assert_eq!(told["idps"][1]["name"], "b");
    let endpoint = told["idps"][0]["token"].as_str().unwrap();
    assert_eq!(endpoint, format!("http://{address}/a/token"));

    let claims = json!({"sub": "me", "aud": null, "roles": ["x"]}).to_string();
    for (body_sent, subject, audience) in [("", "chaos", Some("api")), (&*claims, "me", None)] {
        let answer = ask(address, Request::post("/a/token"), body_sent).await.unwrap();
        let answer: Value = serde_json::from_slice(&body(answer).await.unwrap()).unwrap();
        assert_eq!(
            (answer["token_type"].as_str(), answer["kid"].as_str()),
            (Some("Bearer"), Some("a-0"))
        );
        let token = Token::parse(answer["access_token"].as_str().unwrap(), MAX_TOKEN_BYTES).unwrap();
        let claims = token.claims();
        assert_eq!(claims.issuer(), Some(&*world.chaos.issuer("a")));
        assert_eq!(claims.subject(), Some(subject));
        assert_eq!(claims.get("aud").and_then(|aud| aud.as_str()), audience);
        assert_eq!(
            claims.expires_at(),
            Some(Timestamp::from_secs(world.clock.wall().as_secs() + 300))
        );
    }
    for (method, sent, status) in [
        (Method::GET, "", 405),
        (Method::POST, "[1]", 400),
        (Method::POST, "{", 400),
    ] {
        let request = Request::builder().method(method).uri("/a/token");
        assert_eq!(ask(address, request, sent).await.unwrap().status(), status);
    }
    world.clock.advance(Duration::from_secs(5));
    let token = world.token();
    assert!(world.verifies(&token).await);
    assert_eq!(world.chaos.describe()["idps"][0]["key_set_requests"], 1);
    assert_eq!(world.chaos.describe()["idps"][0]["step_at"], 5.0);
}
