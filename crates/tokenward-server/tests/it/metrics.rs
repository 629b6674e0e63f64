//! What `/metrics` shows.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward_testkit::{IdpServer, TestKey};

use crate::{
    admin::{ADMIN, credentials},
    program::{Answer, Program, ask, command, config, pause, wait_for},
    tokens,
};

async fn call(program: &Program, method: Method, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    let body = Bytes::from(body.to_string());
    ask(program.admin, method, path, &headers, body).await
}

async fn metrics(program: &Program) -> String {
    program.admin("/metrics").await.text()
}

/// Waits until the metrics are as wanted.
async fn until(program: &Program, wanted: impl Fn(&str) -> bool) -> String {
    for _ in 0..1_000 {
        let text = metrics(program).await;
        if wanted(&text) {
            return text;
        }
        pause().await;
    }
    panic!("never as wanted: {}", metrics(program).await);
}

#[tokio::test]
async fn every_metric_is_documented() {
    let program = tokens::start().await;
    let text = metrics(&program).await;
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let explained: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    assert_eq!(shown, explained);
    let page = include_str!("../../../../docs/operations.md");
    let (_, section) = page.split_once("\n## Metrics\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let documented: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let names: BTreeSet<&str> = documented.iter().copied().collect();
    assert_eq!(names.len(), documented.len(), "one of them is there twice");
    assert_eq!(names, shown);
}

#[tokio::test]
async fn a_provider_takes_its_series_along() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0)]);
    let yaml = format!(
        "{}idps: [{{ name: stays, url: '{}' }}]\n",
        credentials(),
        upstream.jwks_url()
    );
    let program = Program::start(&config(&yaml)).await;
    let document = json!({ "url": upstream.jwks_url() });
    for _ in 0..2 {
        let added = call(&program, Method::PUT, "/v1/idps/comes-and-goes", &document).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        // It counts from the start each time.
        let once =
            "jwks_cache_refresh_total{tenant=\"default\",provider=\"comes-and-goes\",status=\"ok\"} 1\n";
        until(&program, |text| {
            text.contains("idp_key_count{idp=\"comes-and-goes\"} 1\n") && text.contains(once)
        })
        .await;
        let removed = call(&program, Method::DELETE, "/v1/idps/comes-and-goes", &json!({})).await;
        assert_eq!(removed.status, StatusCode::NO_CONTENT);
        let text = until(&program, |text| !text.contains("comes-and-goes")).await;
        assert!(text.contains("idp_key_count{idp=\"stays\"} 1\n"), "{text}");
    }
}

#[tokio::test]
async fn parents_are_counted_and_shown_one_by_one_where_that_is_wanted() {
    let yaml = |per_token| {
        config(&format!(
            "{}metrics: {{ per_token: {per_token} }}\n\
             token_service: {{ issuer: 'https://auth.example', audience: [my-api], algorithm: ES256, generate_key: true, \
             allow_plaintext_keys: true }}\n",
            credentials()
        ))
    };
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &yaml(true))).await;
    let mut pairs = Vec::new();
    for (user, network) in [("alice", "one"), ("bob", "two"), ("carol \"c\"", "two")] {
        let body =
            json!({ "user_id": user, "network": network, "parent_expires_in": 1_000, "auto_renew": false });
        let pair = call(&program, Method::POST, "/token-pairs", &body).await;
        assert_eq!(pair.status, StatusCode::CREATED, "{pair:?}");
        pairs.push(pair.json()["parent_jti"].as_str().unwrap().to_owned());
    }
    let active = |count: usize| format!("\njwt_parent_tokens_active_total {count}\n");
    let text = until(&program, |text| {
        text.contains(&active(3)) && pairs.iter().all(|pair| text.contains(pair))
    })
    .await;
    let value = |name: &str, labels: &str| -> u64 {
        let start = format!("{name}{{{labels}}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} in {text}"))
            .parse()
            .unwrap()
    };
    for (pair, user, network) in [
        (&pairs[0], "alice", "one"),
        (&pairs[1], "bob", "two"),
        (&pairs[2], "carol \\\"c\\\"", "two"),
    ] {
        let labels = format!("user_id=\"{user}\",network=\"{network}\",parent_jti=\"{pair}\"");
        let issued = value("jwt_parent_token_issued_timestamp_seconds", &labels);
        let expires = value("jwt_parent_token_expiry_timestamp_seconds", &labels);
        assert_eq!(expires - issued, 1_000);
    }
    let revoked = call(
        &program,
        Method::DELETE,
        &format!("/tokens/{}", pairs[0]),
        &json!({}),
    )
    .await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    let revoked = call(&program, Method::DELETE, "/users/bob/tokens", &json!({})).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    until(&program, |text| {
        text.contains(&active(2))
            && !text.contains(&pairs[0])
            && !text.contains(&pairs[1])
            && text.contains(&pairs[2])
    })
    .await;
    // Each call of the store was timed, and a reload is counted.
    let text = metrics(&program).await;
    assert!(
        text.contains("tokenward_store_duration_seconds_count{operation=\"open_family\"} 3\n"),
        "{text}"
    );
    for (yaml, outcome) in [(yaml(false), "applied"), ("nonsense: 1\n".to_owned(), "refused")] {
        std::fs::write(directory.path().join("tokenward.yaml"), yaml).unwrap();
        program.signal(Signal::HUP);
        let line = format!("tokenward_config_reloads_total{{outcome=\"{outcome}\"}} 1\n");
        until(&program, |text| text.contains(&line)).await;
    }
    until(&program, |text| !text.contains(&pairs[2])).await;
    assert!(
        wait_for(|| program.logged("configuration reloaded").first().cloned())
            .await
            .is_some()
    );
}

#[tokio::test]
async fn verifications_are_counted_by_outcome_and_by_whether_the_token_was_known() {
    let upstream = IdpServer::spawn();
    let key = TestKey::es256(0);
    upstream.set_keys(&[&key]);
    let yaml = format!(
        "idps: [{{ name: a, issuer: 'https://a.test', audiences: [api], url: '{}' }}]\n",
        upstream.jwks_url()
    );
    let program = Program::start(&config(&yaml)).await;
    program.loaded("a").await;
    let now = tokenward::Clock::wall(&tokenward::SystemClock::new());
    let token = tokenward_testkit::TokenBuilder::new(now).issuer("https://a.test");
    let lives = std::time::Duration::from_secs(600);
    let good = format!(
        "Bearer {}",
        token.clone().audience("api").expires_in(lives).sign(&key)
    );
    let bad = format!("Bearer {}", token.audience("other").expires_in(lives).sign(&key));
    for (bearer, status) in [
        (&good, 200),
        (&good, 200),
        (&good, 200),
        (&good, 200),
        (&bad, 401),
    ] {
        let headers = [("authorization", bearer.as_str())];
        let answer = program.ask(Method::GET, "/authorize", &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    let text = metrics(&program).await;
    for line in [
        "tokenward_token_cache_total{status=\"hit\"} 3\n",
        "tokenward_token_cache_total{status=\"miss\"} 2\n",
        "tokenward_verifications_total{reason=\"ok\"} 4\n",
        "tokenward_verifications_total{reason=\"audience_mismatch\"} 1\n",
        "tokenward_verification_duration_seconds_count 5\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
