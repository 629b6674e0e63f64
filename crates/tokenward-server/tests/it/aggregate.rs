//! Key and status endpoints.

use std::io::Read as _;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey};

use crate::program::{Answer, Program, config};

const KEY_PATHS: [&str; 9] = [
    "/jwks.json",
    "/jwks/all",
    "/.well-known/jwks.json",
    "/jwks",
    "/jwks/a",
    "/tenants/default/jwks.json",
    "/tenants/default/jwks/all",
    "/tenants/default/jwks",
    "/tenants/default/jwks/a",
];

const OTHER_PATHS: [&str; 9] = [
    "/status",
    "/status/a",
    "/tenants/default/status",
    "/tenants/default/status/a",
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/readyz?verbose",
];

/// Some public key, as an upstream publishes it.
fn key(kid: &str) -> Value {
    TestKey::es256(0).with_kid(kid).jwk()
}

fn kids(set: &Value) -> Vec<String> {
    set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn set(upstream: &IdpServer, keys: impl IntoIterator<Item = Value>) {
    let keys: Vec<_> = keys.into_iter().collect();
    upstream.set_document(JWKS_PATH, json!({ "keys": keys }).to_string());
}

/// An upstream with keys of these ids, and the member of `idps` that reads from it.
fn idp(name: &str, kids: &[&str], more: &str) -> (IdpServer, String) {
    let upstream = IdpServer::spawn();
    set(&upstream, kids.iter().map(|kid| key(kid)));
    let member = format!(
        "  - {{ name: {name}, url: \"{}\", {more} }}\n",
        upstream.jwks_url()
    );
    (upstream, member)
}

/// A program with two identity providers that are loaded.
async fn two(extra: &str) -> (Program, [IdpServer; 2]) {
    let (a, a_member) = idp("a", &["a1", "shared"], "cache_duration: 600");
    let (b, b_member) = idp("b", &["shared", "b1"], "cache_duration: 700, max_keys: 5");
    let program = Program::start(&config(&format!("idps:\n{a_member}{b_member}{extra}"))).await;
    program.loaded("a").await;
    program.loaded("b").await;
    (program, [a, b])
}

#[tokio::test]
async fn every_path_answers_its_methods_and_no_other() {
    let (program, _upstreams) = two("").await;
    for path in KEY_PATHS.into_iter().chain(OTHER_PATHS) {
        let is_key = KEY_PATHS.contains(&path);
        let get = program.get(path).await;
        assert_eq!(get.status, StatusCode::OK, "{path}");
        let head = program.ask(Method::HEAD, path, &[]).await;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert!(head.body.is_empty(), "{path}");
        // The times in a body of health are written as short as they can be.
        let differ = if is_key { 3 } else { 4 };
        let varying = &["date", "x-request-id", "traceparent", "content-length"][..differ];
        for name in get
            .headers
            .keys()
            .filter(|name| !varying.contains(&name.as_str()))
        {
            assert_eq!(get.headers.get(name), head.headers.get(name), "{name} of {path}");
        }
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::TRACE,
        ] {
            let answer = program.ask(method.clone(), path, &[]).await;
            problem(&answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
            assert!(answer.header("x-request-id").is_some(), "{path}");
            let mut allow: Vec<_> = answer
                .header("allow")
                .unwrap()
                .split(',')
                .map(str::trim)
                .collect();
            allow.sort_unstable();
            assert_eq!(
                allow,
                if is_key {
                    &["GET", "HEAD", "OPTIONS"][..]
                } else {
                    &["GET", "HEAD"]
                },
                "{path}"
            );
        }
        let options = program.ask(Method::OPTIONS, path, &[]).await;
        if is_key {
            assert_eq!(options.status, StatusCode::NO_CONTENT, "{path}");
            assert_eq!(options.header("access-control-allow-origin"), Some("*"));
            assert!(
                options
                    .header("access-control-allow-methods")
                    .unwrap()
                    .contains("GET")
            );
            assert_eq!(get.header("access-control-allow-origin"), Some("*"), "{path}");
        } else {
            assert_eq!(options.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(get.header("access-control-allow-origin"), None, "{path}");
            assert_eq!(get.header("cache-control"), Some("no-store"), "{path}");
        }
    }
}

fn problem(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["status"], status.as_u16());
    assert_eq!(body["error_code"], code);
    for member in ["type", "title", "detail", "error"] {
        assert!(
            body[member].as_str().is_some_and(|text| !text.is_empty()),
            "{member}: {body}"
        );
    }
}

#[tokio::test]
async fn names_that_are_not_known_are_not_found_and_not_repeated() {
    let (program, _upstreams) = two("").await;
    for path in [
        "/",
        "/nothing",
        "/jwks/nobody",
        "/jwks/self",
        "/jwks/a/b",
        "/jwks/%ff",
        "/status/nobody",
        "/tenants/nobody/jwks",
        "/tenants/nobody/jwks.json",
        "/tenants/nobody/jwks/a",
        "/tenants/nobody/status",
        "/tenants/nobody/status/a",
        "/authorize/",
        "/authorize/x",
        "/v1/idps",
    ] {
        let answer = program.get(path).await;
        problem(&answer, StatusCode::NOT_FOUND, "not_found");
        assert!(!answer.text().contains("nobody"), "{path}");
    }
    for path in [
        "/jwks/",
        "/status/",
        "/tenants/default/jwks/",
        "/tenants/default/status/",
    ] {
        problem(
            &program.get(path).await,
            StatusCode::BAD_REQUEST,
            "request_malformed",
        );
    }
}

#[tokio::test]
async fn sets_carry_their_headers() {
    let (program, _upstreams) = two("merged: { max_age: 650 }\n").await;
    let merged = program.get("/jwks.json").await;
    assert_eq!(
        kids(&merged.json()),
        ["a1", "shared", "shared", "b1"],
        "in configuration order"
    );
    assert_eq!(merged.header("cache-control"), Some("public, max-age=600"));
    assert_eq!(merged.header("x-total-keys"), Some("4"));
    assert_eq!(merged.header("x-idp-count"), Some("2"));
    assert_eq!(merged.header("x-key-collisions"), Some("1"));
    for path in [
        "/jwks/all",
        "/.well-known/jwks.json",
        "/tenants/default/jwks.json",
        "/tenants/default/jwks/all",
    ] {
        let same = program.get(path).await;
        assert_eq!(same.body, merged.body, "{path}");
        assert_eq!(same.header("etag"), merged.header("etag"), "{path}");
    }
    let by_name = program.get("/jwks").await;
    assert_eq!(by_name.header("cache-control"), Some("public, max-age=600"));
    let by_name = by_name.json();
    assert_eq!(
        by_name.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["a", "b"]
    );

    let single = program.get("/jwks/b").await;
    assert_eq!(single.json(), by_name["b"]);
    assert_eq!(single.header("cache-control"), Some("public, max-age=700"));
    assert_eq!(single.header("x-key-count"), Some("2"));
    assert_eq!(single.header("x-max-keys"), Some("5"));
    let updated = single.header("x-last-updated").unwrap();
    assert!(updated.starts_with("20") && updated.ends_with('Z'), "{updated}");
    assert_eq!(
        program.get("/jwks/a").await.header("x-max-keys"),
        Some("10"),
        "the default"
    );
    assert_eq!(program.get("/tenants/default/jwks/b").await.body, single.body);
    assert!(
        program
            .admin("/metrics")
            .await
            .text()
            .contains("tokenward_merged_kid_collisions{tenant=\"default\"} 1")
    );
}

#[tokio::test]
async fn merged_max_age_is_capped() {
    for (cap, expected) in [("", 900), ("merged: { max_age: 1h }\n", 1800)] {
        let (_a, a) = idp("a", &["a"], "cache_duration: 1800");
        let (_b, b) = idp("b", &["b"], "cache_duration: 2000");
        let program = Program::start(&config(&format!("idps:\n{a}{b}{cap}"))).await;
        program.loaded("a").await;
        program.loaded("b").await;
        let merged = program.get("/jwks.json").await;
        assert_eq!(
            merged.header("cache-control"),
            Some(&*format!("public, max-age={expected}"))
        );
    }
}

#[tokio::test]
async fn collisions_are_settled_as_configured() {
    for (policy, expected) in [
        ("first_wins", &["a1", "shared", "b1"][..]),
        ("drop_both", &["a1", "b1"]),
    ] {
        let (program, _upstreams) = two(&format!("merged: {{ on_collision: {policy} }}\n")).await;
        let merged = program.get("/jwks.json").await;
        assert_eq!(kids(&merged.json()), expected, "{policy}");
        assert_eq!(merged.header("x-key-collisions"), Some("1"));
        assert_eq!(merged.header("x-total-keys").unwrap(), expected.len().to_string());
        assert_eq!(
            kids(&program.get("/jwks/b").await.json()),
            ["shared", "b1"],
            "single sets are whole"
        );
    }
}

#[tokio::test]
async fn answers_are_negotiated_and_revalidated() {
    let (program, _upstreams) = two("").await;
    for path in ["/jwks.json", "/jwks", "/jwks/a"] {
        let plain = program.get(path).await;
        let etag = plain.header("etag").unwrap();
        assert!(
            etag.starts_with('"') && etag.ends_with('"'),
            "a strong validator: {etag}"
        );
        let varies = if path == "/jwks" {
            "Accept-Encoding"
        } else {
            "Accept, Accept-Encoding"
        };
        assert_eq!(plain.header("vary"), Some(varies));
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("content-type"), Some("application/json"));
        assert_eq!(program.get(path).await.body, plain.body, "stable bytes");

        let packed = program
            .ask(Method::GET, path, &[("accept-encoding", "gzip")])
            .await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_ne!(
            packed.header("etag"),
            Some(etag),
            "each coding has a validator of its own"
        );
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed.body)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain.body);

        let weak = format!("W/{etag}");
        let list = format!("\"x\", {etag}");
        for condition in [etag, &weak, &list, "*"] {
            let answer = program
                .ask(Method::GET, path, &[("if-none-match", condition)])
                .await;
            assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{condition}");
            assert!(answer.body.is_empty());
            for name in ["etag", "cache-control", "vary"] {
                assert_eq!(answer.header(name), plain.header(name), "{name}");
            }
            let head = program
                .ask(Method::HEAD, path, &[("if-none-match", condition)])
                .await;
            assert_eq!(head.status, StatusCode::NOT_MODIFIED);
            for length in [head.header("content-length"), answer.header("content-length")] {
                let whole = plain.body.len().to_string();
                assert!(
                    length.is_none_or(|length| length == whole),
                    "{length:?}, not {whole}"
                );
            }
        }
        let other = program
            .ask(
                Method::GET,
                path,
                &[("if-none-match", packed.header("etag").unwrap())],
            )
            .await;
        assert_eq!(
            other.status,
            StatusCode::OK,
            "another coding is another representation"
        );

        let typed = program
            .ask(Method::GET, path, &[("accept", "application/jwk-set+json")])
            .await;
        let expected = if path == "/jwks" {
            "application/json"
        } else {
            "application/jwk-set+json"
        };
        assert_eq!(typed.header("content-type"), Some(expected), "{path}");
        assert_eq!(
            typed.header("etag") == Some(etag),
            path == "/jwks",
            "another type is another representation"
        );
        let typed = [
            ("accept", "application/jwk-set+json"),
            ("accept-encoding", "gzip"),
            ("if-none-match", etag),
        ];
        assert_eq!(
            program.ask(Method::GET, path, &typed).await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn changed_keys_are_served_at_once_and_change_the_validator() {
    let (a, member) = idp("a", &["one"], "refresh_interval: 1");
    let program = Program::start(&config(&format!("idps:\n{member}"))).await;
    program.loaded("a").await;
    // What is fetched again and is the same is newer, and no other set.
    let first = program.get("/jwks/a").await;
    let confirmed = program
        .until("/jwks/a", |answer| {
            answer.header("x-last-updated") != first.header("x-last-updated")
        })
        .await;
    assert_eq!(first.header("etag"), confirmed.header("etag"));
    let before = program.get("/jwks.json").await;
    set(&a, [key("two")]);
    let after = program
        .until("/jwks.json", |answer| kids(&answer.json()) == ["two"])
        .await;
    assert_ne!(before.header("etag"), after.header("etag"));
    assert_eq!(kids(&program.get("/jwks/a").await.json()), ["two"]);
    assert_eq!(kids(&program.get("/jwks").await.json()["a"]), ["two"]);
}

#[tokio::test]
async fn keys_that_are_not_there_are_an_outage() {
    let (a, a_member) = idp("a", &["a"], "");
    let (_b, b_member) = idp("b", &["b"], "");
    a.behave(JWKS_PATH, Behaviour::status(500));
    let program = Program::start(&config(&format!("idps:\n{a_member}{b_member}"))).await;
    program.loaded("b").await;
    let missing = program.get("/jwks/a").await;
    problem(&missing, StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable");
    assert!(missing.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(missing.header("access-control-allow-origin"), Some("*"));
    let merged = program.get("/jwks.json").await;
    assert_eq!(
        (merged.header("x-total-keys"), merged.header("x-idp-count")),
        (Some("1"), Some("2"))
    );
    assert_eq!(
        program
            .get("/jwks")
            .await
            .json()
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["b"]
    );

    let program = Program::start(&config(&format!("idps:\n{a_member}"))).await;
    for path in ["/jwks.json", "/jwks", "/jwks/a"] {
        let answer = program.get(path).await;
        problem(&answer, StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn nothing_configured_is_an_empty_set() {
    let program = Program::start(&config("")).await;
    assert_eq!(program.get("/jwks.json").await.text(), "{\"keys\":[]}");
    assert_eq!(program.get("/jwks").await.text(), "{}");
    assert_eq!(program.get("/status").await.text(), "{}");
}

#[tokio::test]
async fn private_material_is_never_served_and_unknown_members_are() {
    let upstream = IdpServer::spawn();
    let mut extended = key("extended");
    extended["x5u"] = json!("https://example.com/chain");
    extended["x-own"] = json!({ "deep": [1, 2] });
    let mut leaked = TestKey::es256(1).with_kid("leaked").jwk();
    leaked["d"] = json!("canary-private");
    let symmetric = json!({ "kty": "oct", "k": "canary-symmetric", "kid": "symmetric" });
    set(&upstream, [extended.clone(), leaked, symmetric]);
    let member = format!("  - {{ name: a, url: \"{}\" }}\n", upstream.jwks_url());
    let program = Program::start(&config(&format!("idps:\n{member}"))).await;
    program.loaded("a").await;
    assert_eq!(program.get("/jwks/a").await.json()["keys"], json!([extended]));
    for path in ["/jwks.json", "/jwks", "/jwks/a", "/status", "/status/a"] {
        let text = program.get(path).await.text() + &program.admin(path).await.text();
        assert!(!text.contains("canary"), "{path}: {text}");
    }
    assert!(!program.admin("/metrics").await.text().contains("canary"));
    assert!(!program.output().concat().contains("canary"));
}

#[tokio::test]
async fn a_status_tells_everything_but_not_to_everyone() {
    let (a, a_member) = idp("a", &["one"], "cache_duration: 600");
    let (b, b_member) = idp("b", &["two"], "");
    b.behave(JWKS_PATH, Behaviour::reply(500, &[], "canary-of-the-upstream"));
    let program = Program::start(&config(&format!("idps:\n{a_member}{b_member}"))).await;
    program.loaded("a").await;
    let all = program
        .until("/status", |answer| {
            answer.json()["b"]["error_count"].as_u64() > Some(0)
        })
        .await
        .json();
    for name in ["a", "b"] {
        let record = &all[name];
        for member in [
            "name",
            "tenant",
            "issuer",
            "state",
            "last_updated",
            "last_attempt",
            "last_error",
            "error_count",
            "update_count",
            "key_count",
            "max_keys",
            "skipped_keys",
            "dropped_kids",
            "cache_duration",
            "idp_suggested_cache",
            "cache_until",
            "refresh_interval",
            "next_refresh",
            "expires_at",
            "stale_until",
            "hit_rate",
            "stale_serve_ratio",
        ] {
            assert!(record.get(member).is_some(), "{member} of {record}");
        }
        assert_eq!(
            (&record["name"], &record["tenant"]),
            (&json!(name), &json!("default"))
        );
    }
    assert_eq!(all["a"]["cache_duration"], 600);
    assert_eq!(all["a"]["key_count"], 1);
    assert_eq!(all["b"]["key_count"], 0);
    assert!(all["b"]["last_error"].is_string());

    let one = program.get("/status/a").await.json();
    assert_eq!(one["jwks"], program.get("/jwks/a").await.json());
    assert_eq!(program.get("/status/b").await.json()["jwks"], Value::Null);
    for member in ["name", "last_updated", "update_count", "cache_until"] {
        assert_eq!(one[member], all["a"][member], "{member}");
    }
    assert_eq!(program.get("/tenants/default/status/a").await.json()["name"], "a");

    for (path, upstream) in [("/status", &a), ("/status/a", &a), ("/status/b", &b)] {
        let public = program.get(path).await.text();
        let admin = program.admin(path).await.text();
        assert!(!public.contains(&upstream.jwks_url()), "{public}");
        assert!(admin.contains(&upstream.jwks_url()), "{admin}");
        assert!(
            !public.contains("canary") && !admin.contains("canary"),
            "an upstream's body is never shown"
        );
    }
}

#[tokio::test]
async fn a_long_list_of_statuses_is_paged() {
    let members: String = (0..1_005)
        .map(|n| format!("  - {{ name: idp-{n:04}, url: \"http://127.0.0.1:1/jwks\" }}\n"))
        .collect();
    let program = Program::start(&config(&format!("idps:\n{members}"))).await;
    let first = program.get("/status").await;
    assert_eq!(first.json().as_object().unwrap().len(), 1_000);
    assert_eq!(
        first.header("link"),
        Some("</status?after=idp-0999>; rel=\"next\"")
    );
    let second = program.get("/status?after=idp-0999").await;
    let names: Vec<_> = second.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        ["idp-1000", "idp-1001", "idp-1002", "idp-1003", "idp-1004"]
    );
    assert_eq!(second.header("link"), None);
    let tenant = program.get("/tenants/default/status").await;
    assert_eq!(
        tenant.header("link"),
        Some("</tenants/default/status?after=idp-0999>; rel=\"next\"")
    );
}

#[tokio::test]
async fn a_shared_secret_is_never_shown() {
    let secret = "canary-secret-of-32-bytes-at-least-0123";
    let member = format!(
        "  - {{ name: hs, issuer: \"https://hs.test\", audiences: any, algorithms: [HS256], secret: \"{secret}\" }}\n"
    );
    let program = Program::start(&config(&format!("idps:\n{member}"))).await;
    problem(&program.get("/jwks/hs").await, StatusCode::NOT_FOUND, "not_found");
    for path in ["/jwks.json", "/jwks", "/status", "/status/hs"] {
        let text = program.get(path).await.text() + &program.admin(path).await.text();
        assert!(!text.contains("canary"), "{path}: {text}");
    }
    assert!(!program.output().concat().contains("canary"));
}
