//! What a credential may mint.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    admin::{ADMIN, NARROW, READER, explain, with},
    oauth::{form, introspected_by},
    program::{Answer, Program, command, config, pause},
    tokens::{call, judged, service, text},
};

const ALLOW: &str = "allow: { users: [alice, svc-*], audiences: [my-api, b], scopes: [read, write], claims: [plan], max_lifetime: 10m }";

/// The usual credentials, of which `narrow` is bound.
fn bound(allow: &str) -> String {
    config(&service("")).replace(
        "scopes: ['tokens:issue']",
        &format!("scopes: ['tokens:issue', 'tokens:revoke'], {allow}"),
    )
}

async fn mint(program: &Program, path: &str, secret: &str, body: &Value) -> Answer {
    call(program, Method::POST, path, Some(secret), &body.to_string()).await
}

fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn lifetime(token: &str) -> i64 {
    let claims = claims(token);
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

#[tokio::test]
async fn nothing_beyond_it_is_minted() {
    let program = Program::start(&bound(ALLOW)).await;
    for (path, fits) in [
        ("/tokens", json!({ "user_id": "alice" })),
        (
            "/tokens",
            json!({ "user_id": "svc-7", "audience": ["b", "my-api"], "scope": "write read", "expires_in": 600 }),
        ),
        (
            "/token-pairs",
            json!({ "user_id": "svc-", "audience": "b", "scope": "read", "claims": { "plan": "x" } }),
        ),
        (
            "/token-pairs",
            json!({ "user_id": "alice", "parent_expires_in": 600, "child_expires_in": 600 }),
        ),
    ] {
        let answer = mint(&program, path, NARROW, &fits).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{fits} {answer:?}");
    }
    let free = json!({ "user_id": "bob", "audience": "c", "scope": "admin", "expires_in": 3600 });
    let answer = mint(&program, "/tokens", ADMIN, &free).await;
    assert_eq!(
        answer.status,
        StatusCode::CREATED,
        "another credential is not bound"
    );

    for (path, beyond, members) in [
        ("/tokens", json!({ "user_id": "bob" }), &["user_id"][..]),
        ("/tokens", json!({ "user_id": "alice2" }), &["user_id"]),
        (
            "/tokens",
            json!({ "user_id": "alice", "audience": ["b", "c"] }),
            &["audience"],
        ),
        (
            "/tokens",
            json!({ "user_id": "alice", "scope": "read admin" }),
            &["scope"],
        ),
        (
            "/tokens",
            json!({ "user_id": "alice", "claims": { "plan": "x", "groups": ["ops"] } }),
            &["claims"],
        ),
        (
            "/tokens",
            json!({ "user_id": "alice", "expires_in": 601 }),
            &["expires_in"],
        ),
        (
            "/tokens",
            json!({ "user_id": "alice", "expiry_days": 1 }),
            &["expires_in"],
        ),
        (
            "/token-pairs",
            json!({ "user_id": "alice", "parent_expiry_hours": 1 }),
            &["parent_expires_in"],
        ),
        (
            "/token-pairs",
            json!({ "user_id": "alice", "child_expires_in": 900 }),
            &["child_expires_in"],
        ),
        (
            "/token-pairs",
            json!({ "user_id": "bob", "audience": "c", "scope": "x", "claims": { "a": 1 }, "parent_expires_in": 601 }),
            &["user_id", "audience", "scope", "claims", "parent_expires_in"],
        ),
    ] {
        let answer = mint(&program, path, NARROW, &beyond).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{beyond}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"tokenward\", error=\"insufficient_scope\"")
        );
        let told = answer.json();
        assert_eq!(told["error_code"], "insufficient_scope");
        let named: Vec<_> = told["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["member"].as_str().unwrap())
            .collect();
        assert_eq!(named, members, "{beyond}");
    }
    // What is not asked for is cut to what is allowed.
    let minted = mint(&program, "/tokens", NARROW, &json!({ "user_id": "alice" }))
        .await
        .json();
    assert_eq!(lifetime(text(&minted, "token")), 600);
    let pair = json!({ "user_id": "alice", "include_child": true });
    let pair = mint(&program, "/token-pairs", NARROW, &pair).await.json();
    assert_eq!(
        ["parent_token", "child_token"].map(|token| lifetime(text(&pair, token))),
        [600, 600]
    );
}

#[tokio::test]
async fn an_audience_that_is_not_named_is_judged_too_and_an_empty_list_has_none() {
    let program = Program::start(&bound("allow: { audiences: [other], scopes: [] }")).await;
    for (body, status) in [
        (
            json!({ "user_id": "a", "audience": "other" }),
            StatusCode::CREATED,
        ),
        (json!({ "user_id": "a" }), StatusCode::FORBIDDEN),
        (
            json!({ "user_id": "a", "audience": "other", "scope": "x" }),
            StatusCode::FORBIDDEN,
        ),
    ] {
        assert_eq!(
            mint(&program, "/tokens", NARROW, &body).await.status,
            status,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_reload_changes_it_and_renewals_go_on() {
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &bound(ALLOW))).await;
    let body = json!({ "user_id": "alice", "include_child": true });
    let pair = mint(&program, "/token-pairs", NARROW, &body).await.json();
    let yaml = bound("allow: { users: [] }");
    std::fs::write(directory.path().join("tokenward.yaml"), yaml).unwrap();
    program.signal(Signal::HUP);
    let mut answer = mint(&program, "/token-pairs", NARROW, &body).await;
    for _ in 0..500 {
        if answer.status == StatusCode::FORBIDDEN {
            break;
        }
        pause().await;
        answer = mint(&program, "/token-pairs", NARROW, &body).await;
    }
    assert_eq!(answer.json()["errors"][0]["member"], "user_id");
    let told = latest(&program, NARROW, text(&pair, "parent_jti")).await;
    assert_eq!(told.json()["child_jti"], pair["child_jti"], "it is its own");
    let revoked = revoke(&program, text(&pair, "child_token")).await;
    assert_eq!(revoked.status, StatusCode::OK, "it is its own: {revoked:?}");
    let renewed = call(
        &program,
        Method::POST,
        "/renew",
        Some(text(&pair, "parent_token")),
        "",
    )
    .await;
    assert_eq!(renewed.status, StatusCode::OK);
    assert_ne!(renewed.json()["token_id"], pair["child_jti"]);
}

#[tokio::test]
async fn tokens_for_others_are_not_told_of() {
    let yaml = config(&service("")).replace(
        "scopes: ['tokens:read']",
        "scopes: ['tokens:read', 'tokens:issue'], allow: { audiences: [b], users: [alice, bob] }",
    );
    let program = Program::start(&yaml).await;
    for (body, known) in [
        (json!({ "user_id": "alice", "audience": ["a", "b"] }), true),
        (json!({ "user_id": "alice", "audience": "a" }), false),
        (json!({ "user_id": "carol", "audience": "b" }), false),
    ] {
        let minted = mint(&program, "/tokens", NARROW, &body).await.json();
        let told = introspected_by(&program, "reader", READER, text(&minted, "token")).await;
        assert_eq!(told["active"], known, "{body}");
        let body = json!({ "token": minted["token"] }).to_string();
        let explained = explain(&program, READER, &body).await;
        if known {
            assert_eq!(explained.json()["checks"][0]["passed"], true);
        } else {
            let code = explained.json()["error_code"].clone();
            assert_eq!(
                (explained.status, code),
                (StatusCode::FORBIDDEN, json!("insufficient_scope"))
            );
            // It is not told whether it would be good either.
            let forged = json!({ "token": format!("{}A", &text(&minted, "token")[..text(&minted, "token").len() - 1]) });
            let forged = explain(&program, READER, &forged.to_string()).await;
            assert_eq!(forged.body, explained.body);
        }
        assert_eq!(explain(&program, ADMIN, &body).await.status, StatusCode::OK);
        assert_eq!(told.as_object().unwrap().len() == 1, !known, "{told}");
        let told = introspected_by(&program, "ops", ADMIN, text(&minted, "token")).await;
        assert_eq!(told["active"], true, "{body}");
    }
    // Its own it knows, parents too, whose audience is the issuer.
    let body = json!({ "user_id": "bob", "audience": "b" });
    let own = mint(&program, "/token-pairs", READER, &body).await.json();
    let told = introspected_by(&program, "reader", READER, text(&own, "parent_token")).await;
    assert_eq!(
        (&told["active"], &told["token_use"]),
        (&json!(true), &json!("parent"))
    );
    let other = mint(&program, "/token-pairs", NARROW, &body).await.json();
    let told = introspected_by(&program, "reader", READER, text(&other, "parent_token")).await;
    assert_eq!(told, json!({ "active": false }));
}

async fn latest(program: &Program, secret: &str, parent_jti: &str) -> Answer {
    let path = format!("/tokens/latest?parent_jti={parent_jti}");
    call(program, Method::GET, &path, Some(secret), "").await
}

/// How a stream begins; it is not read.
async fn stream_status(program: &Program, secret: &str, parent_jti: &str) -> StatusCode {
    let stream = TcpStream::connect(program.public).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::get(format!("/tokens/stream?parent_jti={parent_jti}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {secret}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn families_of_others_are_as_if_there_were_none() {
    let program = Program::start(&bound(ALLOW)).await;
    let narrow = |path: &str, jti: &str| {
        let path = format!("{path}?parent_jti={jti}");
        let program = &program;
        async move {
            let answer = call(program, Method::GET, &path, Some(NARROW), "");
            let answer = timeout(Duration::from_secs(10), answer).await.expect("a stream");
            let challenge = answer.header("www-authenticate").map(str::to_owned);
            (answer.status, challenge, answer.json())
        }
    };
    for (member, value, is_told) in [
        ("user_id", json!("svc-1"), true),
        ("user_id", json!("bob"), false),
        ("audience", json!(["b", "c"]), false),
        ("scope", json!("read admin"), false),
        ("claims", json!({ "groups": ["ops"] }), false),
        ("parent_expires_in", json!(601), false),
        ("child_expires_in", json!(601), false),
    ] {
        let mut body = json!({ "user_id": "alice", "parent_expires_in": 600, "child_expires_in": 600, "include_child": true });
        body[member] = value;
        let pair = mint(&program, "/token-pairs", ADMIN, &body).await.json();
        let jti = text(&pair, "parent_jti");
        if is_told {
            let told = latest(&program, NARROW, jti).await;
            assert_eq!(told.json()["child_token"], pair["child_token"]);
            assert_eq!(stream_status(&program, NARROW, jti).await, StatusCode::OK);
        } else {
            for path in ["/tokens/latest", "/tokens/stream"] {
                let refused = narrow(path, jti).await;
                assert_eq!(refused.0, StatusCode::UNAUTHORIZED, "{body} {refused:?}");
                assert_eq!(refused, narrow(path, "x").await, "{body}");
            }
        }
        // Whoever is not bound, and the holder, are told of all.
        for secret in [ADMIN, text(&pair, "parent_token")] {
            let told = latest(&program, secret, jti).await;
            assert_eq!(told.json()["child_token"], pair["child_token"]);
            assert_eq!(stream_status(&program, secret, jti).await, StatusCode::OK);
        }
        if !is_told {
            // A revoked one is no other either.
            let path = format!("/users/{}/tokens", text(&body, "user_id"));
            call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
            let revoked = narrow("/tokens/latest", jti).await;
            assert_eq!(revoked, narrow("/tokens/latest", "x").await);
        }
    }
}

/// As `narrow` revokes what it shows.
async fn revoke(program: &Program, token: &str) -> Answer {
    let (bearer, body) = (format!("Bearer {NARROW}"), format!("token={token}"));
    form(program, "/oauth/revoke", Some(&bearer), &body).await
}

#[tokio::test]
async fn tokens_of_others_are_not_ended() {
    let program = Program::start(&bound(ALLOW)).await;
    // Whatever else it may not mint.
    for (user, may) in [("alice", true), ("svc-1", true), ("bob", false)] {
        let body = json!({ "user_id": user, "scope": "admin", "audience": "my-api", "include_child": true });
        let pair = mint(&program, "/token-pairs", ADMIN, &body).await.json();
        let (parent, child) = (text(&pair, "parent_token"), text(&pair, "child_token"));
        let single = mint(&program, "/tokens", ADMIN, &json!({ "user_id": user }))
            .await
            .json();
        let single = text(&single, "token");
        for token in [child, parent] {
            let answer = revoke(&program, token).await;
            if may {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            } else {
                assert_eq!(answer.status, StatusCode::BAD_REQUEST);
                let told = answer.json();
                assert_eq!(
                    (&told["error"], &told["error_code"]),
                    (&json!("unauthorized_client"), &json!("insufficient_scope"))
                );
            }
        }
        assert_eq!(judged(&program, child).await == "ok", !may, "{user}");
        assert_eq!(judged(&program, single).await, "ok");
        let path = format!("/users/{user}/tokens");
        let answer = call(&program, Method::DELETE, &path, Some(NARROW), "").await;
        if may {
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
        } else {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
            let told = answer.json();
            assert_eq!(
                (&told["error_code"], &told["errors"][0]["member"]),
                (&json!("insufficient_scope"), &json!("user_id"))
            );
        }
        assert_eq!(judged(&program, single).await == "ok", !may, "{user}");
    }
    // What is nothing is ended by anybody.
    assert_eq!(revoke(&program, "x").await.status, StatusCode::OK);
}

/// As `narrow` asks for revocations.
async fn revocation(program: &Program, method: Method, path: &str, body: &Value) -> Answer {
    let path = format!("/v1/revocations{path}");
    with(program, NARROW, method, &path, &body.to_string()).await
}

#[tokio::test]
async fn a_credential_for_some_users_has_nothing_of_others_refused() {
    let program = Program::start(&bound("allow: { users: [alice] }")).await;
    let others = mint(&program, "/tokens", ADMIN, &json!({ "user_id": "bob" }))
        .await
        .json();
    let kid = call(&program, Method::GET, "/jwks/self", None, "").await.json()["keys"][0]["kid"].clone();
    for (body, member) in [
        (json!({ "sub": "bob" }), "sub"),
        (json!({ "sid": "s" }), "sid"),
        (json!({ "kid": kid }), "kid"),
        (
            json!({ "issued_before": "2999-01-01T00:00:00Z" }),
            "issued_before",
        ),
        (json!({ "jti": "none-of-ours" }), "jti"),
    ] {
        let refused = revocation(&program, Method::POST, "", &body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{body} {refused:?}");
        let told = refused.json();
        assert_eq!(
            (&told["error_code"], &told["errors"][0]["member"]),
            (&json!("insufficient_scope"), &json!(member))
        );
    }
    assert_eq!(judged(&program, text(&others, "token")).await, "ok");
    // Its users, and what it knows the id of, as by the other calls.
    for body in [json!({ "sub": "alice" }), json!({ "jti": others["token_id"] })] {
        let answer = revocation(&program, Method::POST, "", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{body} {answer:?}");
        let path = format!("/{}", text(&answer.json(), "id"));
        let refused = revocation(&program, Method::DELETE, &path, &json!({})).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    }
    assert_eq!(judged(&program, text(&others, "token")).await, "token_revoked");

    // What bounds only what is minted bounds none of it.
    let program = Program::start(&bound("allow: { scopes: [read] }")).await;
    let answer = revocation(&program, Method::POST, "", &json!({ "sub": "bob" })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let path = format!("/{}", text(&answer.json(), "id"));
    let deleted = revocation(&program, Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{deleted:?}");
}
