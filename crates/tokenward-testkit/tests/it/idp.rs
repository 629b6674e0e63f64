use std::{io::Read as _, net::TcpStream, time::Duration};

use flate2::read::GzDecoder;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokenward_testkit::{Behaviour, DISCOVERY_PATH, IdpServer, JWKS_PATH, TestKey, Validators, key_set};
use tokio::time::timeout;

use crate::client::{body, get, get_body};

/// Longer than loopback ever takes, short enough to wait for what must not come.
const MOMENT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn serves_keys_that_can_be_rotated_and_discovery() {
    let server = IdpServer::spawn();
    let (old, new) = (TestKey::es256(0), TestKey::es256(1));
    server.set_keys(&[&old]);
    let set: Value = serde_json::from_slice(&get_body(&server, JWKS_PATH).await).unwrap();
    assert_eq!(set, key_set(&[&old]));
    server.set_keys(&[&old, &new]);
    let set: Value = serde_json::from_slice(&get_body(&server, JWKS_PATH).await).unwrap();
    assert_eq!(set, key_set(&[&old, &new]));

    server.set_keys_at("/other", &[&new]);
    server.set_document("/raw", "not json");
    assert_eq!(get_body(&server, "/raw").await, "not json");
    assert_eq!(get(&server, "/none", &[]).await.unwrap().status(), 404);

    assert_eq!(server.issuer(), server.base());
    server.set_discovery("issuer", "https://me.test");
    server.set_discovery("extra", 1);
    assert_eq!(server.issuer(), "https://me.test");
    let wanted = json!({"issuer": "https://me.test", "jwks_uri": server.jwks_url(), "extra": 1});
    for path in [
        DISCOVERY_PATH,
        "/tenant/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/tenant",
    ] {
        let document: Value = serde_json::from_slice(&get_body(&server, path).await).unwrap();
        assert_eq!(document, wanted, "{path}");
    }
}

#[tokio::test]
async fn validators_answer_304_until_the_document_changes() {
    let server = IdpServer::spawn();
    for (validators, name, condition) in [
        (Validators::ETag, "etag", "if-none-match"),
        (Validators::LastModified, "last-modified", "if-modified-since"),
    ] {
        server.set_validators(validators);
        server.set_keys(&[&TestKey::es256(0)]);
        server.behave(
            JWKS_PATH,
            Behaviour::with_headers(&[("cache-control", "max-age=60")]),
        );
        let first = get(&server, JWKS_PATH, &[]).await.unwrap();
        assert_eq!(first.headers()["cache-control"], "max-age=60");
        assert_eq!(first.headers()["content-type"], "application/json");
        assert!(
            first.headers().get("date").is_none(),
            "dates come from the script alone"
        );
        let validator = first.headers()[name].to_str().unwrap();
        let again = get(&server, JWKS_PATH, &[(condition, validator)]).await.unwrap();
        assert_eq!(again.status(), 304);
        assert_eq!(again.headers()["cache-control"], "max-age=60");
        assert_eq!(again.headers()[name], validator);
        server.set_keys(&[&TestKey::es256(1)]);
        let changed = get(&server, JWKS_PATH, &[(condition, validator)]).await.unwrap();
        assert_eq!(changed.status(), 200);
        assert_ne!(changed.headers()[name], validator);
    }
    server.set_validators(Validators::None);
    let none = get(&server, JWKS_PATH, &[]).await.unwrap();
    assert!(none.headers().get("etag").is_none());
}

#[tokio::test]
async fn requests_are_counted_and_recorded() {
    let server = IdpServer::spawn();
    get(&server, "/jwks?a=b", &[("x-test", "1")]).await.unwrap();
    get(&server, "/none", &[]).await.unwrap();
    assert_eq!(
        (
            server.hits(JWKS_PATH),
            server.hits("/none"),
            server.requests().len()
        ),
        (1, 1, 2)
    );
    assert_eq!(server.connections(), 2);
    let request = server.last_request(JWKS_PATH).unwrap();
    assert_eq!(request.query.as_deref(), Some("a=b"));
    assert_eq!(request.headers["x-test"], "1");
    assert_eq!(request.method, "GET");
    server.wait_for_hits(JWKS_PATH, 1).await;
    assert!(server.wait_for_hits(JWKS_PATH, 2).now_or_never().is_none());
}

#[tokio::test]
async fn simple_answers() {
    let server = IdpServer::spawn();
    let answers = [
        (Behaviour::status(503), 503, ""),
        (Behaviour::empty_set(), 200, r#"{"keys":[]}"#),
        (Behaviour::empty_object(), 200, "{}"),
        (
            Behaviour::reply(429, &[("retry-after", "7")], "slow"),
            429,
            "slow",
        ),
        (Behaviour::redirect("/other"), 302, ""),
    ];
    for (behaviour, status, text) in answers {
        server.behave_once(JWKS_PATH, behaviour);
        let response = get(&server, JWKS_PATH, &[]).await.unwrap();
        assert_eq!(response.status(), status);
        match status {
            429 => assert_eq!(response.headers()["retry-after"], "7"),
            302 => assert_eq!(response.headers()["location"], "/other"),
            _ => {}
        }
        assert_eq!(body(response).await.unwrap(), text);
    }
    // What was queued is used up, and the standing behaviour is back.
    assert_eq!(get_body(&server, JWKS_PATH).await, r#"{"keys":[]}"#);
    server.behave(JWKS_PATH, Behaviour::html());
    for _ in 0..2 {
        assert!(get_body(&server, JWKS_PATH).await.starts_with(b"<!doctype html>"));
    }
}

#[tokio::test]
async fn gzip_and_its_bomb() {
    const UNPACKED: usize = 8 << 20;
    let server = IdpServer::spawn();
    server.behave_once(JWKS_PATH, Behaviour::Gzip);
    server.behave_once(JWKS_PATH, Behaviour::GzipBomb { unpacked: UNPACKED });
    for size in [r#"{"keys":[]}"#.len(), UNPACKED] {
        let response = get(&server, JWKS_PATH, &[]).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let packed = body(response).await.unwrap();
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), size);
        assert!(packed.len() < 100 + size / 500);
    }
}

#[tokio::test]
async fn slow_and_silent_answers() {
    let server = IdpServer::spawn();
    server.behave_once(JWKS_PATH, Behaviour::HangBeforeHeaders);
    assert!(timeout(MOMENT, get(&server, JWKS_PATH, &[])).await.is_err());

    server.behave_once(JWKS_PATH, Behaviour::HangMidBody);
    let mut response = get(&server, JWKS_PATH, &[]).await.unwrap();
    let half = response
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(half, r#"{"key"#);
    assert!(timeout(MOMENT, response.body_mut().frame()).await.is_err());

    let every = Duration::from_millis(20);
    server.behave_once(JWKS_PATH, Behaviour::Drip { bytes: 4, every });
    let mut response = get(&server, JWKS_PATH, &[]).await.unwrap();
    let first = response
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(first, r#"{"ke"#);
    assert_eq!(body(response).await.unwrap(), r#"ys":[]}"#);

    let late = Behaviour::Delay(MOMENT * 2, Box::new(Behaviour::status(418)));
    server.behave_once(JWKS_PATH, late);
    let mut delayed = std::pin::pin!(get(&server, JWKS_PATH, &[]));
    assert!(timeout(MOMENT, &mut delayed).await.is_err());
    assert_eq!(delayed.await.unwrap().status(), 418);
}

#[tokio::test]
async fn what_is_held_goes_on_when_it_is_released() {
    let server = IdpServer::spawn();
    server.behave(JWKS_PATH, Behaviour::Hold);
    for _ in 0..2 {
        let mut held = std::pin::pin!(get(&server, JWKS_PATH, &[]));
        assert!(timeout(MOMENT, &mut held).await.is_err());
        server.release();
        assert_eq!(held.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn broken_off_and_endless_answers() {
    let server = IdpServer::spawn();
    server.behave_once(JWKS_PATH, Behaviour::Close);
    assert!(get(&server, JWKS_PATH, &[]).await.is_err());

    server.behave_once(JWKS_PATH, Behaviour::Truncate);
    let response = get(&server, JWKS_PATH, &[]).await.unwrap();
    assert_eq!(response.headers()["content-length"], "11");
    assert!(body(response).await.is_err());

    server.behave_once(JWKS_PATH, Behaviour::Endless);
    let mut response = get(&server, JWKS_PATH, &[]).await.unwrap();
    let mut seen = 0;
    while seen < 4 << 20 {
        seen += response
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    assert_eq!(server.hits(JWKS_PATH), 3);
}

#[test]
fn works_without_a_runtime_and_ends_with_its_last_owner() {
    let server = IdpServer::spawn();
    server.behave(JWKS_PATH, Behaviour::HangBeforeHeaders);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /jwks HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    while server.hits(JWKS_PATH) == 0 {
        std::thread::yield_now();
    }
    let address = server.address();
    drop(server);
    let mut rest = Vec::new();
    // Closed, whether it says so politely or not.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(TcpStream::connect(address).is_err());
}
