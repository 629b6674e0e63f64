//! The direct door.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokenward::SystemClock;
use tokenward_core::{Clock as _, Timestamp};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder, verdicts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program::{Answer, Program, ask, config, pause};

const ISSUER: &str = "https://issuer.test";

/// A program that knows one issuer, whose key is [`key`].
async fn start(authorize: &str) -> (Program, IdpServer) {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key()]);
    let yaml = format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n{authorize}",
        upstream.jwks_url()
    );
    let program = Program::start(&config(&yaml)).await;
    program.loaded("a").await;
    (program, upstream)
}

fn key() -> TestKey {
    TestKey::es256(0).with_kid("k")
}

fn now() -> Timestamp {
    SystemClock::new().wall()
}

/// A good token, to be changed.
fn good() -> TokenBuilder {
    TokenBuilder::new(now())
        .issuer(ISSUER)
        .audience("api")
        .subject("user-1")
        .expires_in(Duration::from_secs(600))
}

fn signed(token: &TokenBuilder) -> String {
    token.sign(&key())
}

async fn with_token(program: &Program, token: &str) -> Answer {
    program
        .ask(
            Method::GET,
            "/authorize",
            &[("authorization", &format!("Bearer {token}"))],
        )
        .await
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["error_code"], code);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-tokenward-subject"), None);
    assert_eq!(
        answer.header("www-authenticate").is_some(),
        matches!(status, 400 | 401 | 403),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_good_token_is_allowed_and_named() {
    let (program, _upstream) = start(
        "authorize: { claim_headers: { X-User-Email: email, X-Groups: groups, X-Level: level, X-None: none } }\n",
    )
    .await;
    let token = signed(
        &good()
            .claim("jti", json!("id-1"))
            .claim("scope", json!("read write"))
            .claim("email", json!("Zoë <z@x>\r\nX-Admin: 1"))
            .claim("groups", json!(["a", "b"]))
            .claim("level", json!(7)),
    );
    let authorization = format!("Bearer {token}");
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let answer = program
            .ask(method.clone(), "/authorize", &[("authorization", &authorization)])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{method}");
        assert!(answer.body.is_empty());
        for (name, value) in [
            ("x-tokenward-subject", "user-1"),
            ("x-tokenward-issuer", ISSUER),
            ("x-tokenward-token-id", "id-1"),
            ("x-tokenward-scope", "read write"),
            ("x-user-email", "Zo%C3%AB <z@x>%0D%0AX-Admin: 1"),
            ("x-groups", "[\"a\",\"b\"]"),
            ("x-level", "7"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}, {method}");
        }
        assert_eq!(
            answer.header("x-none"),
            None,
            "a claim that is not there sets nothing"
        );
        assert_eq!(answer.header("x-admin"), None);
    }
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let answer = program
            .ask(method.clone(), "/authorize", &[("authorization", &authorization)])
            .await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
        assert!(answer.header("x-request-id").is_some(), "{method}");
    }
    let long = signed(&good().claim("email", json!("x".repeat(5_000))));
    refused(&with_token(&program, &long).await, 401, "claim_rejected");
}

#[tokio::test]
async fn every_token_of_the_table_gets_its_verdict() {
    let (program, _upstream) = start("").await;
    for verdict in verdicts(now(), ISSUER, "api", &key()) {
        let answer = with_token(&program, &verdict.token).await;
        match verdict.refused {
            None => assert_eq!(
                answer.header("x-tokenward-subject"),
                Some("user-1"),
                "{}",
                verdict.name
            ),
            Some(denial) => {
                let seen = (answer.status.as_u16(), answer.json()["error_code"].clone());
                assert_eq!(
                    seen,
                    (denial.http_status(), denial.code().into()),
                    "{}",
                    verdict.name
                );
            }
        }
    }
}

#[tokio::test]
async fn bad_tokens_are_refused_for_their_reason() {
    let (program, _upstream) = start("").await;
    let token = signed(&good());
    assert_eq!(with_token(&program, &token).await.status, StatusCode::OK);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
    for (token, status, code) in [
        ("abc".to_owned(), 401, "token_malformed"),
        (
            format!("{head}.{flipped}{}", &signature[1..]),
            401,
            "signature_invalid",
        ),
        (
            good().sign(&TestKey::es256(1).with_kid("k")),
            401,
            "signature_invalid",
        ),
        (
            signed(&good().claim("exp", now().as_secs() - 3_600)),
            401,
            "token_expired",
        ),
        (
            signed(&good().claim("nbf", json!(32_503_680_000_u64))),
            401,
            "token_not_yet_valid",
        ),
        (signed(&good().audience("other")), 401, "audience_mismatch"),
        (signed(&good().issuer("https://else.test")), 401, "issuer_unknown"),
        (
            signed(&good().header("typ", json!("logout+jwt"))),
            401,
            "type_rejected",
        ),
        (
            signed(&good().claim("cnf", json!({ "jkt": "x" }))),
            401,
            "dpop_missing",
        ),
        (
            signed(&good().claim("pad", json!("x".repeat(17 * 1024)))),
            431,
            "token_too_large",
        ),
    ] {
        refused(&with_token(&program, &token).await, status, code);
    }
    refused(&program.get("/authorize").await, 401, "token_missing");
    assert_eq!(
        program.get("/authorize").await.header("www-authenticate"),
        Some("Bearer")
    );
    let expired = with_token(&program, &signed(&good().claim("exp", now().as_secs() - 3_600))).await;
    assert_eq!(
        expired.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\", error_description=\"The token has expired.\"")
    );
    let metrics = program.admin("/metrics").await.text();
    for reason in ["allow", "token_expired", "signature_invalid", "token_missing"] {
        assert!(
            metrics.contains(&format!(
                "tokenward_decisions_total{{door=\"direct\",reason=\"{reason}\"}}"
            )),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn an_outage_is_never_the_callers_fault() {
    let upstream = IdpServer::spawn();
    upstream.behave(JWKS_PATH, Behaviour::status(500));
    let yaml = format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n",
        upstream.jwks_url()
    );
    let program = Program::start(&config(&yaml)).await;
    let answer = with_token(&program, &signed(&good())).await;
    refused(&answer, 503, "issuer_unavailable");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn carriers_are_read_strictly() {
    let (program, _upstream) =
        start("authorize: { headers: [X-Api-Token, Authorization], cookie: session }\n").await;
    let token = signed(&good());
    let other = signed(&good().subject("user-2"));
    let bearer = format!("Bearer {token}");
    let lower = format!("bearer {token}");
    let other_bearer = format!("Bearer {other}");
    let joined = format!("{bearer}, {bearer}");
    let cookie = format!("a=b; session={token}");
    let scheme = format!("Token {token}");
    for (headers, status, code) in [
        (&[("authorization", bearer.as_str())][..], 200, ""),
        (&[("authorization", &lower)], 200, ""),
        (&[("x-api-token", &token)], 200, ""),
        (&[("cookie", &cookie)], 200, ""),
        (
            &[
                ("x-api-token", &token),
                ("authorization", &bearer),
                ("cookie", &cookie),
            ],
            200,
            "",
        ),
        (
            &[("x-api-token", &token), ("authorization", &other_bearer)],
            401,
            "request_malformed",
        ),
        (
            &[("authorization", &other_bearer), ("cookie", &cookie)],
            401,
            "request_malformed",
        ),
        (
            &[("authorization", &bearer), ("authorization", &bearer)],
            400,
            "request_malformed",
        ),
        (&[("authorization", &joined)], 400, "request_malformed"),
        (&[("authorization", "Bearer ")], 400, "request_malformed"),
        (&[("authorization", &scheme)], 401, "token_missing"),
        (
            &[("x-api-token", ""), ("authorization", &bearer)],
            401,
            "token_missing",
        ),
        (&[("x-api-token", &bearer)], 401, "token_malformed"),
        (&[("x-other", &token)], 401, "token_missing"),
    ] {
        let answer = program.ask(Method::GET, "/authorize", headers).await;
        if status == 200 {
            assert_eq!(answer.status, StatusCode::OK, "{headers:?}: {answer:?}");
            assert_eq!(answer.header("x-tokenward-subject"), Some("user-1"));
        } else {
            refused(&answer, status, code);
        }
    }
}

#[tokio::test]
async fn the_default_decides_where_no_token_is_asked_for() {
    let (program, _upstream) = start("authorize: { default: allow }\n").await;
    for token in [signed(&good()), "abc".to_owned()] {
        let answer = with_token(&program, &token).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.header("x-tokenward-subject"),
            None,
            "nobody was asked who it is"
        );
    }
    let (program, _upstream) = start("authorize: { default: deny }\n").await;
    refused(&with_token(&program, &signed(&good())).await, 403, "rule_denied");
}

#[tokio::test]
async fn bodies_are_ignored_and_cost_no_connection() {
    let (program, _upstream) = start("").await;
    let bearer = signed(&good());
    let head = |body: &str| {
        format!("POST /authorize HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bearer}\r\n{body}\r\n\r\n")
    };
    let mut connection = TcpStream::connect(program.public).await.unwrap();
    let whole = "x".repeat(60_000);
    // In one piece, late, in chunks, and after a question whether it is wanted.
    for (length, body) in [
        ("content-length: 60000", whole.as_str()),
        ("content-length: 20", "01234567890123456789"),
        ("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ("content-length: 3\r\nexpect: 100-continue", "abc"),
    ] {
        if body == whole {
            connection
                .write_all((head(length) + body).as_bytes())
                .await
                .unwrap();
        } else {
            connection.write_all(head(length).as_bytes()).await.unwrap();
            pause().await;
            connection.write_all(body.as_bytes()).await.unwrap();
        }
        let answer = answer(&mut connection).await;
        assert!(answer.contains("HTTP/1.1 200 "), "{length}: {answer:?}");
        assert!(!answer.contains("connection: close"), "{length}: {answer}");
    }
    connection
        .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(answer(&mut connection).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let (program, _upstream) = start("").await;
    let bearer = format!("Bearer {}", signed(&good()));
    let headers = [("authorization", bearer.as_str())];
    let body = Bytes::from(vec![b'x'; 70_000]);
    let large = ask(program.public, Method::POST, "/authorize", &headers, body).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(large.json()["error_code"], "request_too_large");
    assert_eq!(large.header("connection"), Some("close"));

    // Where the length is not announced the answer stands, and the connection ends.
    let mut connection = TcpStream::connect(program.public).await.unwrap();
    let head = format!(
        "POST /authorize HTTP/1.1\r\nhost: a\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    for _ in 0..7 {
        connection.write_all(chunk.as_bytes()).await.unwrap();
    }
    let answer = answer(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// The head of a final answer.
async fn answer(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") || head.starts_with(b"HTTP/1.1 100 ") {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
        }
        let Ok(byte) = connection.read_u8().await else {
            break;
        };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}
