//! Introspection and revocation as OAuth has them, with the real program.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    admin::{ADMIN, NARROW, READER, WRONG},
    program::{Answer, Program, ask, command, config},
    tokens::{admin, call, judged, pair, service, start, text},
};

const FORM: &str = "application/x-www-form-urlencoded";
const INTROSPECT: &str = "/oauth/introspect";
const REVOKE: &str = "/oauth/revoke";

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

async fn form(program: &Program, path: &str, authorization: Option<&str>, body: &str) -> Answer {
    let headers = [("host", "localhost"), ("content-type", FORM)];
    let headers: Vec<_> = headers
        .into_iter()
        .chain(authorization.map(|value| ("authorization", value)))
        .collect();
    ask(
        program.public,
        Method::POST,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

async fn introspected(program: &Program, token: &str) -> Value {
    let answer = form(
        program,
        INTROSPECT,
        Some(&basic("reader", READER)),
        &format!("token={token}"),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

async fn revoked(program: &Program, token: &str) {
    let answer = form(
        program,
        REVOKE,
        Some(&basic("ops", ADMIN)),
        &format!("token={token}"),
    )
    .await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::OK, 0),
        "{answer:?}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_good_token_is_told_of_and_everything_else_is_not_active() {
    let program = start().await;
    let body = r#"{"user_id":"alice","scope":"read write","audience":["a","b"],"claims":{"active":false,"plan":"x"}}"#;
    let minted = call(&program, Method::POST, "/tokens", Some(NARROW), body)
        .await
        .json();
    let told = introspected(&program, text(&minted, "token")).await;
    assert_eq!(told["active"], true, "a custom claim does not say so");
    for (claim, value) in [
        ("iss", json!("https://auth.example")),
        ("sub", json!("alice")),
        ("user_id", json!("alice")),
        ("aud", json!(["a", "b"])),
        ("client_id", json!("narrow")),
        ("scope", json!("read write")),
        ("token_type", json!("access")),
        ("jti", minted["token_id"].clone()),
        ("network", json!("default")),
        ("rate_limit", json!(100)),
        ("plan", json!("x")),
    ] {
        assert_eq!(told[claim], value, "{claim}");
    }
    let [issued, begins, ends] = ["iat", "nbf", "exp"].map(|claim| told[claim].as_i64().unwrap());
    assert_eq!((issued, issued + 3_600), (begins, ends));

    let family = pair(&program, r#"{"user_id":"alice","include_child":true}"#).await;
    let (parent, child) = (text(&family, "parent_token"), text(&family, "child_token"));
    assert_eq!(introspected(&program, parent).await["token_type"], "parent");
    let told = introspected(&program, child).await;
    assert_eq!(
        (&told["token_type"], &told["parent_jti"]),
        (&json!("child"), &family["parent_jti"])
    );

    let nothing = json!({ "active": false });
    let cut = &parent[..parent.len() - 1];
    for token in [
        "x",
        "eyJhbGciOiJub25lIn0.e30.",
        text(&family, "parent_jti"),
        cut,
        "%ff",
    ] {
        assert_eq!(introspected(&program, token).await, nothing, "{token}");
    }
    call(&program, Method::DELETE, "/users/alice/tokens", Some(ADMIN), "").await;
    for token in [parent, child, text(&minted, "token")] {
        assert_eq!(introspected(&program, token).await, nothing);
    }
}

#[tokio::test]
async fn what_is_revoked_stays_refused_after_a_kill() {
    let directory = TempDir::new().unwrap();
    let yaml = config(&service("")).replace("memory:", "sqlite:./data");
    let program = Program::run(command(&directory, &yaml)).await;
    let [one, two] = [
        pair(&program, r#"{"user_id":"a","include_child":true}"#).await,
        pair(&program, r#"{"user_id":"a","include_child":true}"#).await,
    ];
    for token in ["x", "eyJhbGciOiJub25lIn0.e30.", text(&one, "parent_jti")] {
        revoked(&program, token).await;
    }
    let metrics = admin(&program, Method::GET, "/metrics", "").await.text();
    assert!(
        metrics.contains("jwt_revoked_tokens_total 0"),
        "no record of what is not ours"
    );
    revoked(&program, text(&one, "child_token")).await;
    assert_eq!(judged(&program, text(&one, "child_token")).await, "token_revoked");
    revoked(&program, text(&two, "parent_token")).await;
    revoked(&program, text(&two, "parent_token")).await;
    assert_eq!(
        judged(&program, text(&two, "child_token")).await,
        "parent_revoked"
    );
    drop(program);

    let program = Program::run(command(&directory, &yaml)).await;
    assert_eq!(judged(&program, text(&one, "child_token")).await, "token_revoked");
    assert_eq!(
        judged(&program, text(&two, "child_token")).await,
        "parent_revoked"
    );
    let renew = async |family| {
        call(
            &program,
            Method::POST,
            "/renew",
            Some(text(family, "parent_token")),
            "",
        )
        .await
    };
    assert_eq!(renew(&one).await.status, StatusCode::OK);
    assert_eq!(renew(&two).await.status, StatusCode::UNAUTHORIZED);

    // The audit log names the token as the call by its id would, and has no record of what it was not told.
    let audit = admin(&program, Method::GET, "/v1/audit?limit=100", "")
        .await
        .json();
    let records = audit["records"].as_array().unwrap().iter();
    let told: Vec<_> = records
        .filter(|record| record["action"] == "oauth.revoke")
        .map(|record| {
            (
                record["who"].as_str().unwrap(),
                record["target"].as_str().unwrap(),
            )
        })
        .collect();
    let of_child = format!("/tokens/{}", text(&one, "child_jti"));
    let of_parent = format!("/tokens/{}", text(&two, "parent_jti"));
    assert_eq!(
        told[..3],
        [("ops", &*of_parent), ("ops", &of_parent), ("ops", &of_child)]
    );
    assert_eq!(told[3..], [("ops", REVOKE); 3]);
}

#[tokio::test]
async fn a_credential_is_presented_by_either_scheme_and_refused_in_the_words_of_oauth() {
    let program = start().await;
    let bearer = |secret: &str| format!("Bearer {secret}");
    let both = "Basic realm=\"tokenward\", charset=\"UTF-8\"";
    for (path, authorization, status, error, challenge) in [
        (INTROSPECT, Some(bearer(READER)), 200, None, None),
        (INTROSPECT, Some(basic("reader", READER)), 200, None, None),
        // As RFC 6749 has it, each byte may be escaped.
        (
            INTROSPECT,
            Some(basic("re%61der", &READER.replace('-', "%2D"))),
            200,
            None,
            None,
        ),
        (INTROSPECT, None, 401, Some("invalid_client"), Some(both)),
        (
            INTROSPECT,
            Some(bearer(WRONG)),
            401,
            Some("invalid_client"),
            Some("Bearer realm=\"tokenward\", error=\"invalid_token\""),
        ),
        (
            INTROSPECT,
            Some(basic("reader", WRONG)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        // The right secret of somebody else.
        (
            INTROSPECT,
            Some(basic("ops", READER)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        (
            INTROSPECT,
            Some(basic("", READER)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        (
            INTROSPECT,
            Some("Basic !".into()),
            400,
            Some("invalid_request"),
            None,
        ),
        (
            INTROSPECT,
            Some(bearer(NARROW)),
            403,
            Some("insufficient_scope"),
            Some("Bearer realm=\"tokenward\", error=\"insufficient_scope\", scope=\"tokens:read\""),
        ),
        (
            INTROSPECT,
            Some(basic("narrow", NARROW)),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (
            REVOKE,
            Some(basic("reader", READER)),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (REVOKE, Some(bearer(ADMIN)), 200, None, None),
    ] {
        let answer = form(&program, path, authorization.as_deref(), "token=x").await;
        let what = format!("{path} {authorization:?} {answer:?}");
        assert_eq!(answer.status.as_u16(), status, "{what}");
        assert_eq!(answer.header("www-authenticate"), challenge, "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        if let Some(error) = error {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
            let told = answer.json();
            assert_eq!(told["error"], error, "{what}");
            assert!(
                told["error_description"].is_string() && told["error_code"].is_string(),
                "{what}"
            );
        }
    }
    // Elsewhere the scheme is none.
    let headers = [("host", "localhost"), ("authorization", &basic("ops", ADMIN))];
    let tokens = ask(program.public, Method::POST, "/tokens", &headers, Bytes::new()).await;
    assert_eq!(tokens.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guesses_are_limited_by_either_scheme_and_lock_nobody_out() {
    let program = start().await;
    let (by_bearer, by_name) = (format!("Bearer {WRONG}"), basic("reader", WRONG));
    let mut limited = 0;
    for guess in [&by_bearer, &by_name].into_iter().cycle().take(40) {
        let answer = form(&program, INTROSPECT, Some(guess), "token=x").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            limited += 1;
            assert_eq!(answer.json()["error_code"], "rate_limited");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
    }
    assert!((5..=10).contains(&limited), "{limited}");
    // The same allowance as everywhere.
    let elsewhere = call(&program, Method::POST, "/tokens", Some(WRONG), "").await;
    assert_eq!(elsewhere.status, StatusCode::TOO_MANY_REQUESTS);
    introspected(&program, "x").await;
}

#[tokio::test]
async fn the_body_is_one_form_with_one_token() {
    let program = start().await;
    let minted = call(
        &program,
        Method::POST,
        "/tokens",
        Some(NARROW),
        r#"{"user_id":"a"}"#,
    )
    .await
    .json();
    let token = text(&minted, "token");
    let good = basic("ops", ADMIN);
    for body in [
        format!("token={token}&token_type_hint=refresh_token&client_id=x&foo=1&foo=2"),
        format!("token_type_hint=&token={token}"),
    ] {
        let answer = form(&program, INTROSPECT, Some(&good), &body).await;
        assert_eq!(answer.json()["active"], true, "{body}");
    }
    for path in [INTROSPECT, REVOKE] {
        for body in [
            String::new(),
            "token=".into(),
            format!("Token={token}"),
            format!("token={token}&token={token}"),
            format!("token={token}&token="),
            json!({ "token": token }).to_string(),
        ] {
            let answer = form(&program, path, Some(&good), &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(answer.json()["error"], "invalid_request", "{body}");
            assert!(!answer.text().contains(token));
        }
        for types in [
            &[][..],
            &["application/json"],
            &["multipart/form-data"],
            &[FORM, FORM],
            &["application/x-www-form-urlencodedx"],
        ] {
            let headers = [("host", "localhost"), ("authorization", &*good)];
            let headers: Vec<_> = headers
                .into_iter()
                .chain(types.iter().map(|value| ("content-type", *value)))
                .collect();
            let body = Bytes::from(format!("token={token}"));
            let answer = ask(program.public, Method::POST, path, &headers, body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{types:?}");
            assert_eq!(answer.json()["error"], "invalid_request", "{types:?}");
        }
        let large = format!("token={token}&x={}", "x".repeat(64 * 1024));
        let answer = form(&program, path, Some(&good), &large).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        // A token in the address would be in logs.
        let answer = form(&program, &format!("{path}?token={token}"), Some(&good), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let got = call(&program, Method::GET, path, Some(ADMIN), "").await;
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(judged(&program, token).await, "ok", "none of it revoked it");
    let headers = [
        ("host", "localhost"),
        ("authorization", &*good),
        ("content-type", "Application/X-WWW-Form-URLEncoded; charset=utf-8"),
    ];
    let body = Bytes::from(format!("token={token}"));
    let answer = ask(program.public, Method::POST, REVOKE, &headers, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(judged(&program, token).await, "token_revoked");
}
