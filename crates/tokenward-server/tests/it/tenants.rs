//! Tenants beside one another: the same names and issuers, and nothing in common.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{IdpServer, JWKS_PATH, TestKey, TokenBuilder};

use crate::program::{Program, config};

const ISSUER: &str = "https://issuer.test";

/// An upstream with one key, and the member of `idps` that reads from it.
fn idp(name: &str, tenant: &str, key: &TestKey, more: &str) -> (IdpServer, String) {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[key]);
    let member = format!(
        "  - {{ name: {name}, tenant: {tenant}, issuer: \"{ISSUER}\", audiences: [api], url: \"{}\"{more} }}\n",
        upstream.jwks_url()
    );
    (upstream, member)
}

fn kids(set: &Value) -> Vec<&str> {
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap()).collect()
}

/// A program with an identity provider `a` in three tenants, each with a key of its own under another kid.
async fn three(more: &str) -> (Program, Vec<IdpServer>, Vec<TestKey>) {
    let tenants = ["default", "blue", "red"];
    let keys: Vec<_> = tenants
        .iter()
        .enumerate()
        .map(|(n, tenant)| TestKey::es256(n).with_kid(*tenant))
        .collect();
    let (servers, members): (Vec<_>, Vec<_>) = tenants
        .iter()
        .zip(&keys)
        .map(|(tenant, key)| idp("a", tenant, key, more))
        .unzip();
    let program = Program::start(&config(&format!("idps:\n{}", members.concat()))).await;
    for tenant in tenants {
        program
            .until(&format!("/tenants/{tenant}/jwks/a"), |answer| {
                answer.status == StatusCode::OK
            })
            .await;
    }
    (program, servers, keys)
}

#[tokio::test]
async fn each_tenant_has_its_own_keys_and_nothing_of_the_others() {
    let (program, servers, _) = three("").await;
    for tenant in ["default", "blue", "red"] {
        let path = |rest: &str| format!("/tenants/{tenant}/{rest}");
        for set in ["jwks.json", "jwks/all", "jwks/a"] {
            let answer = program.get(&path(set)).await;
            assert_eq!(kids(&answer.json()), [tenant], "{set} of {tenant}");
            assert!(answer.header("etag").is_some());
            if set != "jwks/a" {
                assert_eq!(answer.header("x-idp-count"), Some("1"), "{set} of {tenant}");
                assert_eq!(answer.header("x-total-keys"), Some("1"), "{set} of {tenant}");
            }
        }
        let by_name = program.get(&path("jwks")).await.json();
        assert_eq!(by_name.as_object().unwrap().len(), 1);
        assert_eq!(kids(&by_name["a"]), [tenant]);
        let status = program.get(&path("status")).await.json();
        assert_eq!(status.as_object().unwrap().len(), 1);
        assert_eq!(status["a"]["tenant"], tenant);
        let one = program.get(&path("status/a")).await.json();
        assert_eq!(one["tenant"], tenant);
        assert_eq!(kids(&one["jwks"]), [tenant]);
        let upstream = servers.iter().map(|server| server.jwks_url()).collect::<Vec<_>>();
        let operators = program.admin(&path("status/a")).await;
        let url = operators.json()["url"].as_str().unwrap().to_owned();
        assert!(upstream.contains(&url), "{url}");
        assert!(program.get(&path("status/a")).await.json().get("url").is_none());
    }
    // Paths without a tenant are those of the default one.
    for path in ["/jwks.json", "/jwks/all", "/.well-known/jwks.json", "/jwks/a"] {
        assert_eq!(kids(&program.get(path).await.json()), ["default"], "{path}");
    }
    assert_eq!(program.get("/status/a").await.json()["tenant"], "default");
    for path in [
        "/tenants/green/jwks",
        "/tenants/green/jwks.json",
        "/tenants/green/jwks/a",
        "/tenants/green/status",
        "/tenants/green/status/a",
        "/tenants/blue/jwks/b",
        "/tenants/Blue/jwks/a",
        "/tenants/blue%2f..%2fred/jwks/a",
        "/tenants//jwks",
        "/jwks/blue%2fa",
    ] {
        assert_eq!(program.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_change_in_one_tenant_moves_no_byte_of_another() {
    let (program, servers, _) = three(", refresh_interval: 1").await;
    let before = program.get("/tenants/blue/jwks.json").await;
    let red = program.get("/tenants/red/jwks.json").await;
    let more = [
        TestKey::es256(2).with_kid("red"),
        TestKey::es256(3).with_kid("later"),
    ];
    servers[2].set_document(
        JWKS_PATH,
        json!({ "keys": more.each_ref().map(TestKey::jwk) }).to_string(),
    );
    let changed = program
        .until("/tenants/red/jwks.json", |answer| {
            answer.header("x-total-keys") == Some("2")
        })
        .await;
    assert_ne!(changed.header("etag"), red.header("etag"));
    let after = program.get("/tenants/blue/jwks.json").await;
    assert_eq!(
        (after.header("etag"), &after.body),
        (before.header("etag"), &before.body)
    );
    assert_eq!(kids(&program.get("/jwks.json").await.json()), ["default"]);
}

#[tokio::test]
async fn direct_callers_are_judged_by_the_default_tenant_alone() {
    let (program, servers, keys) = three("").await;
    let hits = || servers.iter().map(|server| server.hits(JWKS_PATH)).sum::<usize>();
    let token = |key: &TestKey| {
        let token = TokenBuilder::new(SystemClock::new().wall())
            .issuer(ISSUER)
            .audience("api");
        format!("Bearer {}", token.expires_in(Duration::from_secs(600)).sign(key))
    };
    let good = token(&keys[0]);
    let answer = program
        .ask(Method::GET, "/authorize", &[("authorization", &good)])
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let before = hits();
    for key in &keys[1..] {
        // The key of another tenant, under the kid of the default tenant's and under its own. That it is not known may
        // be looked up once.
        let bearer = token(&key.clone().with_kid("default"));
        let answer = program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await;
        assert_eq!(answer.json()["error_code"], "signature_invalid");
        let bearer = token(key);
        let answer = program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await;
        assert!(matches!(answer.status.as_u16(), 401 | 503), "{answer:?}");
    }
    // Looking for the unknown kids asked the default tenant's provider at most.
    assert_eq!(servers[1].hits(JWKS_PATH) + servers[2].hits(JWKS_PATH), 2);
    assert!(hits() > before);
}

#[tokio::test]
async fn readiness_and_metrics_know_every_tenant() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0)]);
    let down = IdpServer::spawn();
    down.behave(JWKS_PATH, tokenward_testkit::Behaviour::status(500));
    let program = Program::start(&config(&format!(
        "idps:\n  - {{ name: a, url: \"{}\" }}\n  - {{ name: a, tenant: blue, url: \"{}\", required: true }}\n",
        upstream.jwks_url(),
        down.jwks_url()
    )))
    .await;
    let failed = program
        .until("/readyz?verbose", |answer| {
            answer.json()["checks"]["idps_tried"]["ok"] == true
        })
        .await;
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        failed.json()["checks"]["required_idps_have_keys"],
        json!({ "ok": false, "missing": ["blue/a"] })
    );
    assert_eq!(program.get("/health").await.json()["status"], "degraded");
    down.set_keys(&[&TestKey::es256(1), &TestKey::es256(2)]);
    down.behave(JWKS_PATH, tokenward_testkit::Behaviour::normal());
    program
        .until("/readyz", |answer| answer.status == StatusCode::OK)
        .await;
    program.get("/tenants/blue/jwks.json").await;
    let metrics = program.admin("/metrics").await.text();
    for line in [
        "idp_key_count{idp=\"a\"} 1",
        "idp_key_count{idp=\"a\",tenant=\"blue\"} 2",
        "tokenward_merged_kid_collisions{tenant=\"blue\"} 0",
        "jwks_cache_refresh_total{tenant=\"blue\",provider=\"a\",status=\"ok\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let log = program.logged("Successfully updated JWKS");
    assert!(
        log.iter()
            .any(|line| line["tenant"] == "blue" && line["idp"] == "a"),
        "{log:?}"
    );
}
