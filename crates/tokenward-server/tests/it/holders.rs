//! What the holders of parent tokens do is in the audit log, like what credentials do.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admin::{ADMIN, NARROW},
    program::{Program, config, pause},
    tokens::{admin, call, pair, service, start, text},
};

/// What the audit log has of these actions, oldest first.
async fn audited(program: &Program, actions: &[&str]) -> Vec<Value> {
    let audit = admin(program, Method::GET, "/v1/audit?limit=1000", "")
        .await
        .json();
    let records = audit["records"].as_array().unwrap().iter().rev();
    records
        .filter(|record| actions.iter().any(|action| record["action"] == *action))
        .map(|record| {
            assert_eq!(record["address"], "127.0.0.1");
            json!([
                record["who"],
                record["action"],
                record["target"],
                record["outcome"]
            ])
        })
        .collect()
}

/// Callers at many addresses would not meet the limit of one.
async fn start_for_many() -> Program {
    let limits = "limits: { token_api: { per_address: off } }\n";
    Program::start(&config(&format!("{}{limits}", service("")))).await
}

#[tokio::test]
async fn each_call_is_recorded_by_the_id_of_its_parent() {
    let program = start().await;
    let family = pair(&program, r#"{"user_id":"a"}"#).await;
    let (parent, jti) = (text(&family, "parent_token"), text(&family, "parent_jti"));
    let single = call(
        &program,
        Method::POST,
        "/tokens",
        Some(NARROW),
        r#"{"user_id":"a"}"#,
    )
    .await;
    let single = single.json();
    let body = json!({ "parent_token": parent }).to_string();
    for (method, path, bearer, body, status) in [
        (Method::POST, "/renew", Some(parent), "", StatusCode::OK),
        (Method::POST, "/renew", None, &*body, StatusCode::OK),
        (Method::GET, "/tokens/latest", Some(parent), "", StatusCode::OK),
        (Method::POST, "/renew", None, "", StatusCode::UNAUTHORIZED),
        (
            Method::POST,
            "/renew",
            Some("eyJhbGciOiJub25lIn0.e30."),
            "",
            StatusCode::UNAUTHORIZED,
        ),
        (
            Method::GET,
            "/tokens/latest",
            Some(text(&single, "token")),
            "",
            StatusCode::UNAUTHORIZED,
        ),
    ] {
        let answer = call(&program, method, path, bearer, body).await;
        assert_eq!(answer.status, status, "{path} {answer:?}");
    }
    let asked = format!("/tokens/latest?parent_jti={jti}");
    call(&program, Method::GET, &asked, Some(NARROW), "").await;
    let latest = call(
        &program,
        Method::DELETE,
        &format!("/tokens/{jti}"),
        Some(ADMIN),
        "",
    )
    .await;
    assert_eq!(latest.status, StatusCode::NO_CONTENT);
    call(&program, Method::POST, "/renew", Some(parent), "").await;
    let refused = call(&program, Method::GET, "/tokens/stream", Some(parent), "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let told = audited(&program, &["tokens.renew", "tokens.latest", "tokens.stream"]).await;
    assert_eq!(
        told,
        [
            json!([jti, "tokens.renew", "/renew", "ok"]),
            json!([jti, "tokens.renew", "/renew", "ok"]),
            json!([jti, "tokens.latest", "/tokens/latest", "ok"]),
            json!(["", "tokens.renew", "/renew", "token_missing"]),
            json!(["", "tokens.renew", "/renew", "alg_not_allowed"]),
            json!(["", "tokens.latest", "/tokens/latest", "type_rejected"]),
            json!(["narrow", "tokens.latest", "/tokens/latest", "ok"]),
            json!(["", "tokens.renew", "/renew", "token_revoked"]),
            json!(["", "tokens.stream", "/tokens/stream", "token_revoked"]),
        ]
    );
    let audit = admin(&program, Method::GET, "/v1/audit?limit=1000", "")
        .await
        .text();
    assert!(!audit.contains(parent), "no token is in it");
}

#[tokio::test]
async fn too_many_renewals_are_recorded_as_those_of_their_parent() {
    let program = start_for_many().await;
    let family = pair(&program, r#"{"user_id":"a","auto_renew":false}"#).await;
    let (parent, jti) = (text(&family, "parent_token"), text(&family, "parent_jti"));
    // Each child is revoked, so that the next renewal is another one.
    let mut refused = 0;
    for _ in 0..70 {
        let answer = call(&program, Method::POST, "/renew", Some(parent), "").await;
        match answer.status {
            StatusCode::OK => {
                let path = format!("/tokens/{}", text(&answer.json(), "token_id"));
                call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
            }
            status => {
                assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    let limited = json!([jti, "tokens.renew", "/renew", "rate_limited"]);
    let told = audited(&program, &["tokens.renew"]).await;
    assert_eq!(told.iter().filter(|record| **record == limited).count(), refused);
    assert_eq!(told.len(), 70);
}

#[tokio::test]
async fn a_stream_is_recorded_when_it_begins() {
    let program = start().await;
    let family = pair(&program, r#"{"user_id":"a"}"#).await;
    let (parent, jti) = (text(&family, "parent_token"), text(&family, "parent_jti"));
    let stream = call(&program, Method::GET, "/tokens/stream", Some(parent), "");
    let end = async {
        for _ in 0..500 {
            let told = audited(&program, &["tokens.stream"]).await;
            if told == [json!([jti, "tokens.stream", "/tokens/stream", "ok"])] {
                break;
            }
            pause().await;
        }
        call(
            &program,
            Method::DELETE,
            &format!("/tokens/{jti}"),
            Some(ADMIN),
            "",
        )
        .await;
        audited(&program, &["tokens.stream"]).await
    };
    let (stream, told) = tokio::join!(stream, end);
    assert!(stream.text().contains("event: revoked"), "{stream:?}");
    assert_eq!(told, [json!([jti, "tokens.stream", "/tokens/stream", "ok"])]);
}

#[tokio::test]
async fn those_who_only_fail_do_not_push_out_what_others_did() {
    let program = start_for_many().await;
    for _ in 0..340 {
        let answer = call(&program, Method::POST, "/renew", None, "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let told = audited(&program, &["tokens.renew"]).await.len();
    assert!((300..=320).contains(&told), "{told}");
}
