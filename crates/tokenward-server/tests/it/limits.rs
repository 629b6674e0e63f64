//! How much of the token API is answered.

use bytes::Bytes;
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    admin::{ADMIN, NARROW, READER, WRONG, credentials},
    program::{Answer, Program, ask, command, pause, wait_for},
};

fn yaml(proxies: &str, limits: &str, rest: &str) -> String {
    format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: '127.0.0.1:0', trusted_proxies: [{proxies}] }}\n\
         store: {{ url: 'memory:' }}\n{}\
         token_service: {{ issuer: 'https://auth.example', audience: [my-api], algorithm: ES256, generate_key: true, \
         allow_plaintext_keys: true{rest} }}\n{limits}",
        credentials()
    )
}

async fn start(limits: &str) -> Program {
    Program::start(&yaml("", limits, "")).await
}

async fn call(program: &Program, method: Method, path: &str, bearer: &str) -> Answer {
    from(program, "", method, path, bearer, r#"{"user_id":"a"}"#).await
}

/// A call that a proxy forwards for `address`.
async fn from(
    program: &Program,
    address: &str,
    method: Method,
    path: &str,
    bearer: &str,
    body: &str,
) -> Answer {
    let bearer = format!("Bearer {bearer}");
    let mut headers = vec![("host", "localhost"), ("authorization", bearer.as_str())];
    if path.starts_with("/oauth/") {
        headers.push(("content-type", "application/x-www-form-urlencoded"));
    }
    if !address.is_empty() {
        headers.push(("x-forwarded-for", address));
    }
    let body = Bytes::from(body.to_owned());
    ask(program.public, method, path, &headers, body).await
}

fn lines<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.headers.get_all(name).iter();
    lines.map(|line| line.to_str().unwrap()).collect()
}

#[track_caller]
fn is_limited(answer: &Answer, policy: &str, w: u64) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert_eq!(answer.json()["error_code"], "rate_limited");
    let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=w).contains(&retry), "{retry}");
    let told = |name, start: &str| {
        let lines = lines(answer, name);
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start}: {lines:?}"
        );
    };
    told("ratelimit-policy", &format!("\"{policy}\";q="));
    told("ratelimit", &format!("\"{policy}\";r=0;t="));
}

#[tokio::test]
async fn a_credential_may_ask_for_so_much_wherever_it_asks() {
    let program = start("limits: { token_api: { per_credential: 6/h, per_address: off } }\n").await;
    let pair = call(&program, Method::POST, "/token-pairs", ADMIN).await;
    assert_eq!(pair.status, StatusCode::CREATED, "{pair:?}");
    assert_eq!(lines(&pair, "ratelimit-policy"), ["\"credential\";q=6;w=3600"]);
    assert_eq!(lines(&pair, "ratelimit"), ["\"credential\";r=5;t=600"]);
    let pair = pair.json();
    let parent = pair["parent_token"].as_str().unwrap();
    for (method, path) in [
        (Method::POST, "/tokens"),
        (Method::GET, "/tokens/latest?parent_jti=x"),
        (Method::DELETE, "/tokens/x"),
        (Method::POST, "/oauth/introspect"),
    ] {
        let answer = call(&program, method, path, ADMIN).await;
        assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    // The last one, on the other listener.
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    let mint = || {
        let body = Bytes::from_static(br#"{"user_id":"a"}"#);
        ask(program.admin, Method::POST, "/tokens", &headers, body)
    };
    assert_eq!(mint().await.status, StatusCode::CREATED);
    is_limited(&mint().await, "credential", 600);
    for (method, path) in [
        (Method::POST, "/tokens"),
        (Method::POST, "/token-pairs"),
        (Method::GET, "/tokens/latest?parent_jti=x"),
        (Method::GET, "/tokens/stream?parent_jti=x"),
        (Method::DELETE, "/tokens/x"),
        (Method::DELETE, "/users/x/tokens"),
        (Method::POST, "/oauth/introspect"),
        (Method::POST, "/oauth/revoke"),
    ] {
        let answer = call(&program, method, path, ADMIN).await;
        is_limited(&answer, "credential", 600);
        let is_oauth = answer.json()["error_description"].is_string();
        assert_eq!(is_oauth, path.starts_with("/oauth/"), "{answer:?}");
    }
    // Others have their own; holders have none; and the rest of the API is no matter of this limit.
    let other = call(&program, Method::POST, "/tokens", NARROW).await;
    assert_eq!(other.status, StatusCode::CREATED, "{other:?}");
    let renewed = from(&program, "", Method::POST, "/renew", parent, "").await;
    assert_eq!(renewed.status, StatusCode::OK, "{renewed:?}");
    let read = ask(program.admin, Method::GET, "/v1/keys", &headers, Bytes::new()).await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    // A refusal is in the request log, and not in the audit log.
    let refused = wait_for(|| {
        let lines = program.logged("request");
        lines.into_iter().find(|line| line["reason"] == "rate_limited")
    });
    assert_eq!(refused.await.unwrap()["status"], 429);
    let metrics = program.admin("/metrics").await.text();
    assert!(
        metrics.contains("tokenward_rate_limited_total{policy=\"credential\"} 9\n"),
        "{metrics}"
    );
    let audit = ask(program.admin, Method::GET, "/v1/audit", &headers, Bytes::new()).await;
    assert!(!audit.text().contains("rate_limited"), "{audit:?}");
}

#[tokio::test]
async fn an_address_may_ask_for_so_much_whoever_it_is() {
    let limits = "limits: { token_api: { per_address: 3/h, per_credential: off } }\n";
    let program = Program::start(&yaml("127.0.0.1", limits, "")).await;
    let mint = |address: &'static str, bearer| {
        let path = "/tokens";
        from(
            &program,
            address,
            Method::POST,
            path,
            bearer,
            r#"{"user_id":"a"}"#,
        )
    };
    let one = "198.51.100.7";
    let first = mint(one, NARROW).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(lines(&first, "ratelimit-policy"), ["\"address\";q=3;w=3600"]);
    // It counts whatever comes of it.
    assert_eq!(mint(one, READER).await.status, StatusCode::FORBIDDEN);
    assert_eq!(mint(one, WRONG).await.status, StatusCode::UNAUTHORIZED);
    is_limited(&mint(one, NARROW).await, "address", 1_200);
    is_limited(&mint(one, WRONG).await, "address", 1_200);
    for path in ["/renew", "/token-pairs", "/oauth/introspect", "/oauth/revoke"] {
        let answer = from(&program, one, Method::POST, path, "x", "").await;
        is_limited(&answer, "address", 1_200);
        let is_oauth = answer.json()["error_description"].is_string();
        if is_oauth {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        }
        assert_eq!(is_oauth, path.starts_with("/oauth/"), "{answer:?}");
    }
    // Keys and decisions are not part of it.
    for (path, status) in [
        ("/jwks/self", StatusCode::OK),
        ("/authorize", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(
            from(&program, one, Method::GET, path, "x", "").await.status,
            status,
            "{path}"
        );
    }
    assert_eq!(mint("198.51.100.8", NARROW).await.status, StatusCode::CREATED);
    // A host has a whole /64 of IPv6.
    for address in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::3"] {
        assert_eq!(mint(address, NARROW).await.status, StatusCode::CREATED);
    }
    is_limited(&mint("2001:db8:1:2::4", NARROW).await, "address", 1_200);
    assert_eq!(mint("2001:db8:1:3::1", NARROW).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn who_is_forwarded_counts_only_behind_a_trusted_proxy() {
    let program = start("limits: { token_api: { per_address: 2/h } }\n").await;
    for address in ["198.51.100.1", "198.51.100.2"] {
        let answer = from(&program, address, Method::POST, "/tokens", WRONG, "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let answer = from(&program, "198.51.100.3", Method::POST, "/tokens", WRONG, "").await;
    is_limited(&answer, "address", 1_800);
}

#[tokio::test]
async fn limits_are_on_by_default_and_a_reload_changes_them() {
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &yaml("", "", ""))).await;
    let answer = call(&program, Method::POST, "/tokens", NARROW).await;
    assert_eq!(
        lines(&answer, "ratelimit-policy"),
        ["\"credential\";q=1000;w=1", "\"address\";q=100;w=1"]
    );
    let change = async |limits: &str| {
        let before = program.logged("configuration reloaded").len();
        std::fs::write(directory.path().join("tokenward.yaml"), yaml("", limits, "")).unwrap();
        program.signal(Signal::HUP);
        let reloaded = wait_for(|| program.logged("configuration reloaded").get(before).cloned());
        assert!(reloaded.await.is_some());
    };
    change("limits: { token_api: { per_credential: off, per_address: 1/h } }\n").await;
    let answer = call(&program, Method::POST, "/tokens", NARROW).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(lines(&answer, "ratelimit-policy"), ["\"address\";q=1;w=3600"]);
    is_limited(
        &call(&program, Method::POST, "/tokens", NARROW).await,
        "address",
        3_600,
    );
    // What was used of an hour is not an hour without calls under another limit.
    change("limits: { token_api: { per_credential: 1/h, per_address: 10/s } }\n").await;
    let mut answer = call(&program, Method::POST, "/tokens", NARROW).await;
    while answer.status != StatusCode::CREATED {
        is_limited(&answer, "address", 1);
        pause().await;
        answer = call(&program, Method::POST, "/tokens", NARROW).await;
    }
    change("limits: { token_api: { per_credential: off, per_address: off } }\n").await;
    let answer = call(&program, Method::POST, "/tokens", NARROW).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(lines(&answer, "ratelimit"), [""; 0]);
}

#[tokio::test]
async fn a_parent_is_renewed_at_most_sixty_times_a_minute() {
    let limits = "limits: { token_api: { per_address: off } }\n";
    let program = Program::start(&yaml("", limits, ", renew_reuse_window: 0")).await;
    let pair = call(&program, Method::POST, "/token-pairs", NARROW).await.json();
    let parent = pair["parent_token"].as_str().unwrap();
    let mut renewed = 0;
    let refused = loop {
        let answer = from(&program, "", Method::POST, "/renew", parent, "").await;
        match answer.status {
            StatusCode::OK => renewed += 1,
            _ => break answer,
        }
        assert!(renewed < 200);
    };
    is_limited(&refused, "renewals", 1);
    assert_eq!(lines(&refused, "ratelimit-policy"), ["\"renewals\";q=60;w=60"]);
    // One a second comes back meanwhile.
    assert!((60..120).contains(&renewed), "{renewed}");
    let other: Value = call(&program, Method::POST, "/token-pairs", NARROW).await.json();
    let other = other["parent_token"].as_str().unwrap();
    let answer = from(&program, "", Method::POST, "/renew", other, "").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn a_token_goes_through_as_often_as_it_says_where_that_is_enforced() {
    let yaml = |enforce| {
        format!(
            "{}authorize: {{ enforce_rate_limit: {enforce}, rules: [ {{ path: {{ prefix: /closed/ }}, deny: true }}, \
             {{ path: {{ prefix: /open/ }}, allow: true }} ] }}\n",
            yaml("", "", ", renew_reuse_window: 0")
        )
    };
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &yaml(true))).await;
    let body = r#"{"user_id":"a","rate_limit":3,"include_child":true}"#;
    let pair = from(&program, "", Method::POST, "/token-pairs", NARROW, body).await;
    let pair = pair.json();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let child = text(&pair, "child_token");
    let judged = async |path: &str, token: &str| call(&program, Method::GET, path, token).await;
    // What is refused for another reason, and what needs no token, costs nothing.
    for (path, status) in [
        ("/authorize/envoy/closed/x", StatusCode::FORBIDDEN),
        ("/authorize/envoy/open/x", StatusCode::OK),
    ] {
        for _ in 0..4 {
            assert_eq!(judged(path, &child).await.status, status, "{path}");
        }
    }
    for path in ["/authorize", "/authorize/envoy/x"] {
        let answer = judged(path, &child).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    // Another child of the same parent has no allowance of its own, or renewing would buy one.
    let parent = text(&pair, "parent_token");
    let renewed = from(&program, "", Method::POST, "/renew", &parent, "").await;
    let second = text(&renewed.json(), "token");
    assert_eq!(judged("/authorize", &second).await.status, StatusCode::OK);
    for (path, status) in [
        ("/authorize", StatusCode::TOO_MANY_REQUESTS),
        ("/authorize/envoy/x", StatusCode::TOO_MANY_REQUESTS),
        ("/authorize/nginx", StatusCode::FORBIDDEN),
        ("/authorize/forward", StatusCode::TOO_MANY_REQUESTS),
    ] {
        let answer = with_target(&program, path, &second).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.json()["error_code"], "rate_limited", "{path}");
        let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=20).contains(&retry), "{retry}");
        assert_eq!(
            lines(&answer, "ratelimit-policy"),
            ["\"token\";q=3;w=60"],
            "{path}"
        );
        let [left] = lines(&answer, "ratelimit")[..] else {
            panic!("{answer:?}")
        };
        assert!(left.starts_with("\"token\";r=0;t="), "{left}");
    }
    let single = call(&program, Method::POST, "/tokens", NARROW).await;
    let single = text(&single.json(), "token");
    assert_eq!(
        judged("/authorize", &single).await.status,
        StatusCode::OK,
        "others have their own"
    );
    // What was used is remembered over a reload, and nothing is enforced where that is off.
    for enforce in [false, true] {
        let before = program.logged("configuration reloaded").len();
        std::fs::write(directory.path().join("tokenward.yaml"), yaml(enforce)).unwrap();
        program.signal(Signal::HUP);
        let reloaded = wait_for(|| program.logged("configuration reloaded").get(before).cloned());
        assert!(reloaded.await.is_some());
        for _ in 0..4 {
            let answer = judged("/authorize", &child).await;
            let status = if enforce {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::OK
            };
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
}

/// Asks a door with the headers that each of them needs where rules have paths.
async fn with_target(program: &Program, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("host", "localhost"),
        ("authorization", bearer.as_str()),
        ("x-original-uri", "/x"),
        ("x-original-method", "GET"),
        ("x-forwarded-uri", "/x"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "http"),
    ];
    ask(program.public, Method::GET, path, &headers, Bytes::new()).await
}
