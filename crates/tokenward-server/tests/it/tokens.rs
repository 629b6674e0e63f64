//! The token service over HTTP, with the real program.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    admin::{ADMIN, NARROW, READER, WRONG, credentials},
    program::{Answer, Program, ask, command, config},
};

const ISSUER: &str = "https://auth.example";

pub(crate) fn service(rest: &str) -> String {
    format!(
        "{}token_service: {{ issuer: '{ISSUER}', audience: [my-api], algorithm: ES256, generate_key: true, \
         allow_plaintext_keys: true{rest} }}\n",
        credentials()
    )
}

pub(crate) async fn start() -> Program {
    Program::start(&config(&service(""))).await
}

/// A call of the public listener.
pub(crate) async fn call(
    program: &Program,
    method: Method,
    path: &str,
    bearer: Option<&str>,
    body: &str,
) -> Answer {
    let bearer = bearer.map(|bearer| format!("Bearer {bearer}"));
    let headers: Vec<_> = [("host", "localhost")]
        .into_iter()
        .chain(bearer.as_deref().map(|bearer| ("authorization", bearer)))
        .collect();
    let body = Bytes::from(body.to_owned());
    ask(program.public, method, path, &headers, body).await
}

pub(crate) async fn admin(program: &Program, method: Method, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    ask(
        program.admin,
        method,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

pub(crate) async fn pair(program: &Program, body: &str) -> Value {
    let answer = call(program, Method::POST, "/token-pairs", Some(NARROW), body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// What `/authorize` says of a token: `ok`, or why not.
pub(crate) async fn judged(program: &Program, token: &str) -> String {
    let answer = call(program, Method::GET, "/authorize", Some(token), "").await;
    match answer.status {
        StatusCode::OK => "ok".to_owned(),
        _ => answer.json()["error_code"].as_str().unwrap().to_owned(),
    }
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {value}"))
}

#[tokio::test]
async fn a_family_is_opened_used_renewed_and_revoked() {
    let program = start().await;
    let pair = pair(
        &program,
        r#"{"user_id":"alice","include_child":true,"scope":"read"}"#,
    )
    .await;
    let (parent, child) = (text(&pair, "parent_token"), text(&pair, "child_token"));
    assert_eq!(
        (&pair["parent_expiry"], &pair["child_expiry"]),
        (&json!(2_592_000), &json!(900))
    );
    assert!(
        text(&pair, "parent_expires_at").ends_with('Z') && text(&pair, "child_expires_at").ends_with('Z')
    );
    assert_eq!(judged(&program, child).await, "ok");
    assert_eq!(judged(&program, parent).await, "type_rejected");

    // The proof is enough, in the header or in the body.
    let renewed = call(&program, Method::POST, "/renew", Some(parent), "").await;
    assert_eq!(renewed.status, StatusCode::OK);
    assert_eq!(renewed.json()["token_id"], pair["child_jti"], "within the window");
    let body = json!({ "parent_token": parent }).to_string();
    let again = call(&program, Method::POST, "/renew", None, &body).await;
    assert_eq!(again.json(), renewed.json());
    let beside = call(&program, Method::POST, "/renew", Some(NARROW), &body).await;
    assert_eq!(
        beside.json(),
        renewed.json(),
        "a credential beside it is no contradiction"
    );
    let two = call(&program, Method::POST, "/renew", Some(child), &body).await;
    assert_eq!(two.status, StatusCode::BAD_REQUEST);
    let latest = call(&program, Method::GET, "/tokens/latest", Some(parent), "").await;
    assert_eq!(latest.json()["child_jti"], pair["child_jti"]);

    let path = format!("/tokens/{}", text(&pair, "parent_jti"));
    for _ in 0..2 {
        let revoked = call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(judged(&program, child).await, "parent_revoked");
    for (method, path) in [
        (Method::POST, "/renew"),
        (Method::GET, "/tokens/latest"),
        (Method::GET, "/tokens/stream"),
    ] {
        let refused = call(&program, method, path, Some(parent), "").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.json()["error_code"], "token_revoked", "{path}");
    }
}

#[tokio::test]
async fn access_tokens_have_the_type_that_is_configured_and_parents_their_own() {
    for (option, typ) in [("", "at+jwt"), (", typ: JWT", "JWT")] {
        let program = Program::start(&config(&service(option))).await;
        let family = pair(&program, r#"{"user_id":"alice","include_child":true}"#).await;
        let body = r#"{"user_id":"alice"}"#;
        let minted = call(&program, Method::POST, "/tokens", Some(NARROW), body).await;
        let minted = minted.json();
        for (token, expected, verdict) in [
            (text(&minted, "token"), typ, "ok"),
            (text(&family, "child_token"), typ, "ok"),
            (text(&family, "parent_token"), "parent+jwt", "type_rejected"),
        ] {
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header["typ"], expected, "{option}");
            assert_eq!(judged(&program, token).await, verdict, "{option}");
        }
    }
}

#[tokio::test]
async fn nothing_answers_without_a_credential_that_is_good_for_it() {
    let program = start().await;
    let pair = pair(&program, r#"{"user_id":"alice","include_child":true}"#).await;
    let jti = text(&pair, "parent_jti");
    let (read, revoke) = (
        format!("/tokens/latest?parent_jti={jti}"),
        format!("/tokens/{jti}"),
    );
    let stream = format!("/tokens/stream?parent_jti={jti}");
    let narrow = [
        // Each with a credential that has another scope.
        (Method::POST, "/tokens", READER),
        (Method::POST, "/token-pairs", READER),
        (Method::GET, read.as_str(), READER),
        (Method::GET, stream.as_str(), READER),
        (Method::DELETE, revoke.as_str(), NARROW),
        (Method::DELETE, "/users/alice/tokens", NARROW),
    ];
    let body = r#"{"user_id":"alice"}"#;
    for (method, path, secret) in narrow {
        for (bearer, status) in [
            (None, StatusCode::UNAUTHORIZED),
            (Some(WRONG), StatusCode::UNAUTHORIZED),
            (Some(secret), StatusCode::FORBIDDEN),
        ] {
            let answer = call(&program, method.clone(), path, bearer, body).await;
            assert_eq!(answer.status, status, "{method} {path} {bearer:?}");
        }
    }
    // The parent opens its own family and no other.
    let other = self::pair(&program, r#"{"user_id":"bob"}"#).await;
    let foreign = call(
        &program,
        Method::GET,
        &read,
        Some(text(&other, "parent_token")),
        "",
    )
    .await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    // A child or a forged parent opens none.
    for token in [text(&pair, "child_token"), "eyJhbGciOiJub25lIn0.e30."] {
        let answer = call(&program, Method::GET, &read, Some(token), "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}");
    }
    assert_eq!(
        judged(&program, text(&pair, "child_token")).await,
        "ok",
        "and nothing happened"
    );
}

#[tokio::test]
async fn a_bad_body_is_refused_by_the_name_of_its_member() {
    let program = start().await;
    for (path, body, member) in [
        ("/tokens", r#"{"user_id":"a","expires_in":0}"#, "expires_in"),
        (
            "/tokens",
            r#"{"user_id":"a","expires_in":60,"expiry_days":1}"#,
            "expiry_days",
        ),
        ("/tokens", r#"{"user_id":"a","user_id":"b"}"#, "user_id"),
        (
            "/tokens",
            r#"{"user_id":"a","include_child":true}"#,
            "include_child",
        ),
        (
            "/token-pairs",
            r#"{"user_id":"a","claims":{"iss":"me"}}"#,
            "claims.iss",
        ),
        ("/token-pairs", r#"{"parent_expires_in":5}"#, "user_id"),
    ] {
        let answer = call(&program, Method::POST, path, Some(NARROW), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["errors"][0]["member"], member, "{body}");
    }
    let large = json!({"user_id": "a", "claims": {"x": "y".repeat(13_000)}}).to_string();
    let answer = call(&program, Method::POST, "/tokens", Some(NARROW), &large).await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_REQUEST,
        "no verifier would take it"
    );
    let huge = json!({"user_id": "a", "claims": {"x": "y".repeat(70_000)}}).to_string();
    let answer = call(&program, Method::POST, "/tokens", Some(NARROW), &huge).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let long = format!("/users/{}/tokens", "x".repeat(257));
    let user = call(&program, Method::DELETE, &long, Some(ADMIN), "").await;
    assert_eq!(user.status, StatusCode::BAD_REQUEST);
    let ids = call(&program, Method::DELETE, "/tokens/unknown", Some(ADMIN), "").await;
    assert_eq!(ids.status, StatusCode::NO_CONTENT, "idempotent");
}

#[tokio::test]
async fn the_own_keys_stand_alone_and_verify_what_is_issued() {
    let program = start().await;
    let own = call(&program, Method::GET, "/jwks/self", None, "").await;
    assert_eq!(own.status, StatusCode::OK);
    assert_eq!(own.header("cache-control"), Some("public, max-age=900"));
    assert_eq!(own.header("x-key-count"), Some("2"));
    assert!(own.header("etag").is_some());
    assert_eq!(own.header("access-control-allow-origin"), Some("*"));
    let well_known = call(&program, Method::GET, "/.well-known/jwks.json", None, "").await;
    assert_eq!(well_known.body, own.body);
    for key in own.json()["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none() && key["use"] == "sig");
    }
    let merged = call(&program, Method::GET, "/jwks.json", None, "").await;
    assert_eq!(
        (merged.status, merged.header("x-idp-count")),
        (StatusCode::OK, Some("0"))
    );
    let status = call(&program, Method::GET, "/status", None, "").await;
    assert_eq!(status.json(), json!({}));
}

#[tokio::test]
async fn keys_are_listed_rotated_and_revoked() {
    let program = start().await;
    let old = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    let listed = admin(&program, Method::GET, "/v1/keys", "").await.json();
    let stages = |listed: &Value| -> Vec<String> {
        let keys = listed["keys"].as_array().unwrap().iter();
        keys.map(|key| text(key, "stage").to_owned()).collect()
    };
    assert_eq!(stages(&listed), ["active", "pending"]);
    let early = admin(&program, Method::POST, "/v1/keys/rotate", "").await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert_eq!(early.json()["error_code"], "key_not_published");
    let forced = admin(&program, Method::POST, "/v1/keys/rotate", r#"{"force":true}"#).await;
    assert_eq!(forced.json()["activated"], listed["keys"][1]["kid"]);
    let listed = admin(&program, Method::GET, "/v1/keys", "").await.json();
    assert_eq!(stages(&listed), ["active", "retiring", "pending"]);
    // Old and new tokens are good.
    assert_eq!(judged(&program, text(&old, "child_token")).await, "ok");
    let new = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    assert_eq!(judged(&program, text(&new, "child_token")).await, "ok");
    // A revoked key takes its tokens with it, and no others.
    let path = format!("/v1/keys/{}/revoke", text(&listed["keys"][1], "kid"));
    let revoked = admin(&program, Method::POST, &path, "").await;
    assert_eq!(revoked.json()["gone"][0], listed["keys"][1]["kid"]);
    // Either reason: which one it is depends on whether the verifier has met the new set yet.
    let refused = judged(&program, text(&old, "child_token")).await;
    assert!(
        ["key_revoked", "key_unknown"].contains(&refused.as_str()),
        "{refused}"
    );
    assert_eq!(judged(&program, text(&new, "child_token")).await, "ok");
    let again = admin(&program, Method::POST, &path, "").await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let bad = admin(
        &program,
        Method::POST,
        "/v1/keys/import",
        r#"{"private_key":"x"}"#,
    )
    .await;
    assert_eq!(
        (bad.status, &bad.json()["errors"][0]["member"]),
        (StatusCode::BAD_REQUEST, &json!("private_key"))
    );
    let pem = include_str!("../../../tokenward-core/tests/it/keys/p256-pkcs8.pem");
    let import = json!({ "private_key": pem }).to_string();
    let imported = admin(&program, Method::POST, "/v1/keys/import", &import)
        .await
        .json();
    let path = format!("/v1/keys/{}/revoke", imported["added"][0].as_str().unwrap());
    let revoked = admin(&program, Method::POST, &path, "").await;
    assert_eq!(revoked.status, StatusCode::OK);
    let again = admin(&program, Method::POST, "/v1/keys/import", &import).await;
    assert_eq!(
        (again.status, &again.json()["error_code"]),
        (StatusCode::CONFLICT, &json!("key_revoked"))
    );
    let generated = admin(&program, Method::POST, "/v1/keys/generate", "").await;
    assert_eq!(generated.json()["added"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let directory = TempDir::new().unwrap();
    let yaml = config(&service("")).replace("memory:", "sqlite:./data");
    let program = Program::run(command(&directory, &yaml)).await;
    let kept = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    let revoked = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    let user = pair(&program, r#"{"user_id":"b","include_child":true}"#).await;
    let path = format!("/tokens/{}", text(&revoked, "parent_jti"));
    call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
    call(&program, Method::DELETE, "/users/b/tokens", Some(ADMIN), "").await;
    drop(program);

    let program = Program::run(command(&directory, &yaml)).await;
    assert_eq!(judged(&program, text(&kept, "child_token")).await, "ok");
    assert_eq!(
        judged(&program, text(&revoked, "child_token")).await,
        "parent_revoked"
    );
    assert_eq!(
        judged(&program, text(&user, "child_token")).await,
        "subject_revoked"
    );
    let renewed = call(
        &program,
        Method::POST,
        "/renew",
        Some(text(&kept, "parent_token")),
        "",
    )
    .await;
    assert_eq!(renewed.status, StatusCode::OK);
    let refused = call(
        &program,
        Method::POST,
        "/renew",
        Some(text(&revoked, "parent_token")),
        "",
    )
    .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_pair_whose_children_would_be_too_large_is_refused_at_once() {
    let program = start().await;
    // Parents are for the issuer, children for all of these.
    let audience: Vec<_> = (0..16).map(|n| format!("{n:0250}")).collect();
    let claims = json!({ "x": "x".repeat(9_500) });
    for (body, status) in [
        (
            json!({ "audience": audience, "claims": claims }),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({ "audience": audience, "claims": claims, "auto_renew": false }),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({ "audience": audience, "claims": claims, "include_child": true }),
            StatusCode::BAD_REQUEST,
        ),
        (json!({ "audience": audience }), StatusCode::CREATED),
        (json!({ "claims": claims }), StatusCode::CREATED),
    ] {
        let mut body = body;
        body["user_id"] = "a".into();
        let answer = call(
            &program,
            Method::POST,
            "/token-pairs",
            Some(NARROW),
            &body.to_string(),
        )
        .await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn ids_that_are_no_text_are_problems() {
    let program = start().await;
    for path in ["/tokens/%ff", "/users/%ff/tokens"] {
        let answer = call(&program, Method::DELETE, path, Some(ADMIN), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["error_code"], "request_malformed");
    }
}

#[tokio::test]
async fn a_stream_tells_each_child_and_the_end() {
    let program = start().await;
    let pair = pair(
        &program,
        r#"{"user_id":"a","include_child":true,"auto_renew":false}"#,
    )
    .await;
    let parent = text(&pair, "parent_token").to_owned();
    let mut tasks = JoinSet::new();
    let mut follow = async |last: Option<&str>| {
        let stream = TcpStream::connect(program.public).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut request = http::Request::get("/tokens/stream")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {parent}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body()
    };
    let (mut all, mut resumed) = (follow(None).await, follow(Some("1")).await);
    let next = async |body: &mut hyper::body::Incoming| {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame())
            .await
            .unwrap()?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    let connected = next(&mut all).await.unwrap();
    assert!(
        connected.starts_with("retry: ") && connected.contains("event: connected"),
        "{connected}"
    );
    let first = next(&mut all).await.unwrap();
    assert!(
        first.starts_with("id: 1\nevent: token\n") && first.contains(text(&pair, "child_jti")),
        "{first}"
    );
    next(&mut resumed).await.unwrap();
    // The child is revoked so that the next renewal gives another one.
    let path = format!("/tokens/{}", text(&pair, "child_jti"));
    call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
    let renewed = call(&program, Method::POST, "/renew", Some(&parent), "")
        .await
        .json();
    for stream in [&mut all, &mut resumed] {
        let second = next(stream).await.unwrap();
        assert!(
            second.starts_with("id: 2\nevent: token\n") && second.contains(text(&renewed, "token_id")),
            "{second}"
        );
    }
    call(&program, Method::DELETE, "/users/a/tokens", Some(ADMIN), "").await;
    for stream in [&mut all, &mut resumed] {
        assert!(next(stream).await.unwrap().starts_with("event: revoked\n"));
        assert_eq!(next(stream).await, None, "and it ends");
    }
}

#[tokio::test]
async fn metrics_count_what_is_minted_and_revoked() {
    let program = start().await;
    let pair = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    call(
        &program,
        Method::POST,
        "/tokens",
        Some(NARROW),
        r#"{"user_id":"a"}"#,
    )
    .await;
    let path = format!("/tokens/{}", text(&pair, "parent_jti"));
    call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
    let metrics = admin(&program, Method::GET, "/metrics", "").await.text();
    for line in [
        "tokenward_tokens_minted_total{type=\"parent\"} 1",
        "tokenward_tokens_minted_total{type=\"child\"} 1",
        "tokenward_tokens_minted_total{type=\"access\"} 1",
        "jwt_revoked_tokens_total 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn no_secret_and_no_token_is_logged_or_told() {
    let program = Program::start(&config(&format!("{}logging: {{ level: debug }}\n", service("")))).await;
    let pair = pair(&program, r#"{"user_id":"a","include_child":true}"#).await;
    call(
        &program,
        Method::POST,
        "/renew",
        Some(text(&pair, "parent_token")),
        "",
    )
    .await;
    call(
        &program,
        Method::POST,
        "/renew",
        Some("eyJhbGciOiJub25lIn0.e30."),
        "",
    )
    .await;
    judged(&program, text(&pair, "child_token")).await;
    let told = [
        admin(&program, Method::GET, "/v1/config", "").await.text(),
        admin(&program, Method::GET, "/v1/keys", "").await.text(),
        admin(&program, Method::GET, "/v1/audit", "").await.text(),
        admin(&program, Method::GET, "/metrics", "").await.text(),
        admin(&program, Method::GET, "/status", "").await.text(),
        program.output().join("\n"),
    ]
    .join("\n");
    assert!(told.len() > 5_000);
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let canaries = [
        signature(text(&pair, "parent_token")),
        signature(text(&pair, "child_token")),
        ADMIN.to_owned(),
        NARROW.to_owned(),
    ];
    for canary in canaries {
        assert!(!told.contains(&canary), "{canary}");
    }
}
