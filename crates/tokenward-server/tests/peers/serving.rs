//! Key sets, statuses and health of three real providers and one that is down, as they are on the wire.

use serde_json::Value;

use crate::http::Answer;
use crate::provider::Provider;
use crate::tokenward::{DEAD_URL, Tokenward};

struct Stage {
    tokenward: Tokenward,
    providers: [Provider; 3],
}

/// In this order: `one`, `two`, `three` with room for a single key, and `down`.
fn stage() -> Stage {
    let providers = [Provider::start(), Provider::start(), Provider::start()];
    let [one, two, three] = &providers;
    let idps = format!(
        "  - {{ name: one, issuer: \"{}\" }}\n\
         \x20 - {{ name: two, url: \"{}/jwks\", cache_duration: 600 }}\n\
         \x20 - {{ name: three, issuer: \"{}\", max_keys: 1 }}\n\
         \x20 - {{ name: down, url: \"{}\" }}\n",
        one.issuer, two.issuer, three.issuer, DEAD_URL
    );
    Stage {
        tokenward: Tokenward::start(&idps),
        providers,
    }
}

fn kids(set: &Value) -> Vec<&str> {
    set["keys"]
        .as_array()
        .expect("a key set")
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect()
}

#[track_caller]
fn assert_header(answer: &Answer, name: &str, value: &str) {
    assert_eq!(answer.header(name), Some(value), "{name} of {answer:?}");
}

#[test]
fn merged_sets() {
    let Stage { tokenward, providers } = stage();
    let merged = tokenward.get("/jwks.json", &[]);
    assert_eq!(merged.status, 200);
    assert_header(&merged, "content-type", "application/json");
    assert_header(&merged, "cache-control", "public, max-age=600");
    assert_header(&merged, "x-total-keys", "5");
    assert_header(&merged, "x-idp-count", "4");
    let set = merged.json();
    let kids = kids(&set);
    assert_eq!(kids.len(), 5, "two, two, and one of two");
    for (at, provider) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)] {
        assert!(
            providers[provider].kids.contains(kids[at]),
            "the order is that of the configuration"
        );
    }
    for path in [
        "/jwks/all",
        "/.well-known/jwks.json",
        "/tenants/default/jwks.json",
    ] {
        let same = tokenward.get(path, &[]);
        assert_eq!((same.status, &same.body), (200, &merged.body), "{path}");
        assert_eq!(
            same.header("cache-control"),
            merged.header("cache-control"),
            "{path}"
        );
    }
}

#[test]
fn one_set_and_the_map_of_all() {
    let Stage { tokenward, providers } = stage();
    let expected = [
        ("one", "2", "10", "900"),
        ("two", "2", "10", "600"),
        ("three", "1", "1", "900"),
    ];
    let map = tokenward.get("/jwks", &[]);
    assert_eq!(map.status, 200);
    for ((name, count, max, age), provider) in expected.iter().zip(&providers) {
        let set = tokenward.get(&format!("/jwks/{name}"), &[]);
        assert_eq!(set.status, 200, "{name}");
        assert_header(&set, "x-key-count", count);
        assert_header(&set, "x-max-keys", max);
        assert_header(&set, "cache-control", &format!("public, max-age={age}"));
        assert!(
            set.header("x-last-updated")
                .is_some_and(|time| time.ends_with('Z'))
        );
        let body = set.json();
        assert!(kids(&body).iter().all(|kid| provider.kids.contains(*kid)));
        assert_eq!(map.json()[name], body, "the map holds the same set");
        assert_eq!(
            tokenward.get(&format!("/tenants/default/jwks/{name}"), &[]).body,
            set.body
        );
    }
}

#[test]
fn what_is_not_there() {
    let Stage { tokenward, .. } = stage();
    assert_eq!(tokenward.get("/jwks/nobody", &[]).status, 404);
    assert_eq!(tokenward.get("/tenants/nobody/jwks/one", &[]).status, 404);
    assert_eq!(tokenward.get("/status/nobody", &[]).status, 404);
    assert_eq!(tokenward.get("/nowhere", &[]).status, 404);
    let down = tokenward.get("/jwks/down", &[]);
    assert_eq!(down.status, 503, "known, but not loaded yet");
    assert!(
        down.header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().is_ok())
    );
    for path in ["/jwks.json", "/jwks", "/jwks/one", "/status", "/livez"] {
        let wrong = tokenward.request("POST", path);
        assert_eq!(wrong.status, 405, "{path}");
        let allow = wrong.header("allow").unwrap_or_default();
        assert!(
            allow.contains("GET") && allow.contains("HEAD"),
            "{path}: Allow is {allow:?}"
        );
    }
}

#[test]
fn conditional_negotiated_and_head_requests() {
    let Stage { tokenward, .. } = stage();
    for path in ["/jwks.json", "/jwks", "/jwks/one"] {
        let whole = tokenward.get(path, &[]);
        let etag = whole.header("etag").expect("a validator");
        assert!(etag.starts_with('"'), "{path}: a strong one");
        assert_eq!(tokenward.get(path, &[]).body, whole.body, "{path}: stable bytes");

        let unchanged = tokenward.get(path, &[("if-none-match", etag)]);
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{path}");
        assert_header(&unchanged, "etag", etag);
        assert_eq!(
            unchanged.header("cache-control"),
            whole.header("cache-control"),
            "{path}"
        );
        assert_eq!(
            tokenward.get(path, &[("if-none-match", "\"other\"")]).status,
            200,
            "{path}"
        );

        let head = tokenward.request("HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for name in [
            "etag",
            "cache-control",
            "content-type",
            "content-length",
            "x-key-count",
            "x-total-keys",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{path}: {name}");
        }

        let zipped = tokenward.get(path, &[("accept-encoding", "gzip")]);
        assert_header(&zipped, "content-encoding", "gzip");
        assert_ne!(
            zipped.header("etag"),
            whole.header("etag"),
            "{path}: another coding, another validator"
        );
        assert!(
            zipped.body.starts_with(&[0x1f, 0x8b]) && zipped.body.len() < whole.body.len(),
            "{path}"
        );

        assert_header(
            &tokenward.get(path, &[("origin", "https://app.test")]),
            "access-control-allow-origin",
            "*",
        );
    }
    let media_type = "application/jwk-set+json";
    assert_header(
        &tokenward.get("/jwks.json", &[("accept", media_type)]),
        "content-type",
        media_type,
    );
    assert_eq!(
        tokenward
            .get("/status", &[("origin", "https://app.test")])
            .header("access-control-allow-origin"),
        None
    );
}

#[test]
fn statuses_say_what_happened() {
    let Stage { tokenward, providers } = stage();
    let all = tokenward.get("/status", &[]);
    assert_eq!(all.status, 200);
    assert_header(&all, "cache-control", "no-store");
    let all = all.json();
    for (name, provider) in ["one", "two", "three"].iter().zip(&providers) {
        let status = &all[name];
        assert_eq!(
            (&status["name"], &status["tenant"], &status["state"]),
            (&(*name).into(), &"default".into(), &"ready".into())
        );
        assert_eq!(
            (
                &status["update_count"],
                &status["error_count"],
                &status["last_error"]
            ),
            (&1.into(), &0.into(), &Value::Null)
        );
        assert_eq!(status["url"], Value::Null, "an address is for the admin listener");
        for member in [
            "last_updated",
            "last_attempt",
            "next_refresh",
            "cache_until",
            "expires_at",
            "stale_until",
        ] {
            assert!(
                status[member].as_str().is_some_and(|time| time.ends_with('Z')),
                "{name}: {member}: {status}"
            );
        }
        assert_eq!(status["refresh_interval"], 3600);
        let one = tokenward.get(&format!("/status/{name}"), &[]).json();
        assert!(kids(&one["jwks"]).iter().all(|kid| provider.kids.contains(*kid)));
    }
    assert_eq!(all["two"]["cache_duration"], 600);
    assert_eq!(
        (&all["three"]["key_count"], &all["three"]["max_keys"]),
        (&1.into(), &1.into())
    );
    assert_eq!(all["three"]["dropped_kids"].as_array().map(Vec::len), Some(1));

    let down = &all["down"];
    assert!(
        down["error_count"].as_u64() >= Some(1) && down["update_count"] == 0,
        "{down}"
    );
    assert!(
        down["last_error"].is_string() && down["last_updated"].is_null(),
        "{down}"
    );
    assert!(
        !down.to_string().contains("127.0.0.1"),
        "no address in a public status: {down}"
    );
}

#[test]
fn health() {
    let Stage { tokenward, .. } = stage();
    for path in ["/health", "/healthz", "/livez"] {
        let answer = tokenward.get(path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        let body = answer.json();
        assert!(
            matches!(body["status"].as_str(), Some("healthy" | "degraded")),
            "{path}: {body}"
        );
        assert!(body["time"].is_string(), "{path}: {body}");
    }
    assert_eq!(tokenward.get("/readyz", &[]).status, 200);
    let checks = tokenward.get("/readyz?verbose", &[]);
    assert_eq!(checks.status, 200);
    let checks = checks.json()["checks"].as_object().expect("every check").clone();
    assert!(
        checks.len() >= 3 && checks.values().all(|check| check["ok"] == true),
        "{checks:?}"
    );
}
