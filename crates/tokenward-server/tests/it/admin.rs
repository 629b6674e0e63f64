//! The admin API: who may do what, and what it answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, TestKey, TokenBuilder};

use crate::program::{Answer, Program, ask, config};

/// A secret for each scope, and for none.
const ADMIN: &str = "Xb7-admin-0123456789abcdefghijklmnop";
const NARROW: &str = "Xb7-narrow-0123456789abcdefghijklmno";
const READER: &str = "Xb7-reader-0123456789abcdefghijklmno";
const WRONG: &str = "Xb7-wrong-0123456789abcdefghijklmnopq";

fn digest(secret: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Credentials: one for everything, one with a scope that no admin call needs, one that only reads.
fn credentials() -> String {
    format!(
        "credentials:\n- {{ name: ops, secret_sha256: {}, scopes: [admin] }}\n\
         - {{ name: narrow, secret_sha256: {}, scopes: ['tokens:issue'] }}\n\
         - {{ name: reader, secret_sha256: {}, scopes: ['tokens:read'] }}\n",
        digest(ADMIN),
        digest(NARROW),
        digest(READER)
    )
}

async fn start(rest: &str) -> Program {
    Program::start(&config(&format!("{}{rest}", credentials()))).await
}

/// One call with these headers beside a host that is this machine's.
async fn call(program: &Program, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let host = [("host", "localhost")];
    let headers: Vec<_> = host.iter().chain(headers).copied().collect();
    ask(
        program.admin,
        method,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

async fn with(program: &Program, secret: &str, method: Method, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {secret}");
    call(program, method, path, &[("authorization", &bearer)], body).await
}

async fn explain(program: &Program, secret: &str, body: &str) -> Answer {
    with(program, secret, Method::POST, "/v1/explain", body).await
}

#[tokio::test]
async fn a_credential_opens_what_its_scopes_say() {
    let program = start("").await;
    let body = r#"{"token":"x"}"#;
    for (secret, status, code, challenge) in [
        (ADMIN, StatusCode::OK, None, None),
        (READER, StatusCode::OK, None, None),
        (
            NARROW,
            StatusCode::FORBIDDEN,
            Some("insufficient_scope"),
            Some("Bearer realm=\"tokenward\", error=\"insufficient_scope\", scope=\"tokens:read\""),
        ),
        (
            WRONG,
            StatusCode::UNAUTHORIZED,
            Some("credential_unknown"),
            Some("Bearer realm=\"tokenward\", error=\"invalid_token\""),
        ),
    ] {
        let answer = explain(&program, secret, body).await;
        assert_eq!(answer.status, status, "{secret}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), challenge, "{secret}");
        if let Some(code) = code {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["error_code"], code);
        }
    }
    let none = call(&program, Method::POST, "/v1/explain", &[], body).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"tokenward\"")
    );
    assert_eq!(none.json()["error_code"], "credential_missing");
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    let twice = call(&program, Method::POST, "/v1/explain", &twice, body).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    let log = program.output().join("\n");
    for secret in [ADMIN, READER, NARROW, WRONG] {
        assert!(!log.contains(secret), "no secret is logged");
    }
}

#[tokio::test]
async fn without_credentials_every_guarded_call_is_refused() {
    let program = Program::start(&config("")).await;
    let answer = explain(&program, ADMIN, r#"{"token":"x"}"#).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn failures_are_limited_and_lock_nobody_out() {
    let program = start("").await;
    let body = r#"{"token":"x"}"#;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(explain(&program, WRONG, body).await);
    }
    let refused = statuses
        .iter()
        .filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
        .collect::<Vec<_>>();
    assert!((5..=10).contains(&refused.len()), "{}", refused.len());
    let wait: u64 = refused[0].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(refused[0].json()["error_code"], "rate_limited");
    assert_eq!(explain(&program, ADMIN, body).await.status, StatusCode::OK);
    assert_eq!(
        explain(&program, NARROW, body).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn pages_of_other_sites_and_foreign_names_are_refused() {
    let program = start("").await;
    let bearer = format!("Bearer {ADMIN}");
    let body = r#"{"token":"x"}"#;
    let port = program.admin.port();
    let (own_host, own_origin) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    for (headers, status) in [
        (vec![("host", own_host.as_str())], StatusCode::OK),
        (
            vec![("host", own_host.as_str()), ("origin", own_origin.as_str())],
            StatusCode::OK,
        ),
        (vec![("host", "evil.example")], StatusCode::MISDIRECTED_REQUEST),
        (
            vec![("host", "localhost"), ("origin", "http://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (
            vec![("host", "localhost"), ("origin", "null")],
            StatusCode::FORBIDDEN,
        ),
        (
            vec![("host", "localhost"), ("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
    ] {
        for (method, path) in [(Method::POST, "/v1/explain"), (Method::GET, "/openapi.json")] {
            let mut all = headers.clone();
            all.push(("authorization", &bearer));
            let answer = ask(program.admin, method, path, &all, Bytes::from(body)).await;
            assert_eq!(answer.status, status, "{path} {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    // A preflight of a browser gets no permission.
    let preflight = call(
        &program,
        Method::OPTIONS,
        "/v1/explain",
        &[("origin", "http://evil.example")],
        "",
    )
    .await;
    assert_eq!(preflight.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn bodies_are_strict_and_bounded() {
    let program = start("").await;
    let wrong = explain(
        &program,
        ADMIN,
        r#"{"tokne":"x","tenant":1,"token":"a","token":"b"}"#,
    )
    .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let wrong = wrong.json();
    assert_eq!(wrong["error_code"], "request_malformed");
    assert_eq!(
        wrong["errors"],
        json!([
            { "member": "tokne", "message": "unknown member" },
            { "member": "token", "message": "given twice" },
            { "member": "tenant", "message": "expected a string" },
        ])
    );
    for body in ["", "[]", "{", "null"] {
        assert_eq!(
            explain(&program, ADMIN, body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    let large = format!(r#"{{"token":"{}"}}"#, "x".repeat(64 * 1024));
    assert_eq!(
        explain(&program, ADMIN, &large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn explain_tells_every_check_and_never_the_token() {
    let upstream = IdpServer::spawn();
    let key = TestKey::es256(0).with_kid("k");
    upstream.set_keys(&[&key]);
    let idp = "name: one, issuer: 'https://issuer.test', audiences: [my-api]";
    let program = start(&format!("idps: [{{ {idp}, url: '{}' }}]\n", upstream.jwks_url())).await;
    program.loaded("one").await;
    let token = TokenBuilder::new(SystemClock::new().wall())
        .issuer("https://issuer.test")
        .audience("my-api")
        .expires_in(Duration::from_secs(600));
    let expired = token.clone().claim("exp", 1_000_000_000);
    let (token, expired) = (token.sign(&key), expired.sign(&key));
    let answer = explain(&program, READER, &json!({ "token": token }).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = answer.json();
    assert_eq!(
        (&told["valid"], &told["reason"]),
        (&Value::Bool(true), &Value::Null),
        "{told}"
    );
    assert_eq!(told["idp"]["name"], "one");
    assert_eq!(told["idp"]["state"], "ready");
    let checks: Vec<_> = told["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(&checks[..2], ["format", "issuer_known"]);
    assert!(
        checks.contains(&"signature") && checks.contains(&"exp"),
        "{checks:?}"
    );
    assert!(!answer.text().contains(&token));

    let told = explain(&program, READER, &json!({ "token": expired }).to_string())
        .await
        .json();
    assert_eq!(
        (&told["valid"], &told["reason"]),
        (&Value::Bool(false), &"token_expired".into())
    );
    assert_eq!(told["idp"]["name"], "one", "the one that the issuer selects");
    let elsewhere = json!({ "token": token, "tenant": "other" }).to_string();
    let told = explain(&program, READER, &elsewhere).await.json();
    assert_eq!(
        (&told["reason"], &told["idp"]),
        (&"issuer_unknown".into(), &Value::Null)
    );
}
