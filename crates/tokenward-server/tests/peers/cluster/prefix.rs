//! Deployments that share a Redis and nothing else.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokenward_testkit::RedisServer;

use super::keys::{ISSUING, mint, published};
use super::{Replica, Upstream, pause};
use crate::child::wait_for;

#[test]
fn deployments_with_prefixes_of_their_own_do_not_see_each_other() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let yaml = |prefix: &str| {
        let yaml = upstream.yaml(&redis.url(), ISSUING);
        yaml.replace("store: { ", &format!("store: {{ prefix: {prefix}, "))
    };
    let both = ["one", "two"].map(|prefix| Replica::start_unready(&yaml(prefix)));
    let [one, two] = &both;
    let generate = |replica: &Replica| {
        wait_for("the first key is made", || {
            replica.call("POST", "/v1/keys/generate", "").status == 200
        });
        replica.wait_until_ready();
    };
    generate(one);
    assert!(
        !two.is_ready() && published(two).is_empty(),
        "that was none of its"
    );
    generate(two);
    assert!(
        published(one).iter().all(|kid| !published(two).contains(kid)),
        "each has its own"
    );

    // A token of the provider of both is revoked in one.
    let token = upstream.token("shared");
    assert!(one.revoke("shared"));
    let added = one.call(
        "PUT",
        "/v1/idps/second",
        r#"{"issuer":"https://second.example","url":"https://second.example/jwks","audiences":["my-api"]}"#,
    );
    assert_eq!(added.status, 201);
    let own = mint(one).unwrap();
    pause(Duration::from_millis(500));
    assert_eq!(
        (one.judge(&token).as_str(), two.judge(&token).as_str()),
        ("token_revoked", "ok")
    );
    assert_eq!(one.judge(&own), "ok");
    assert_ne!(two.judge(&own), "ok");
    assert_eq!(two.call("GET", "/v1/idps/second", "").status, 404);
    let keys = redis.text(&["KEYS", "*"]);
    for prefix in ["{one}:", "{two}:"] {
        assert!(keys.lines().any(|key| key.starts_with(prefix)), "{keys}");
    }
    let is_known = |key: &str| key.starts_with("{one}:") || key.starts_with("{two}:");
    assert!(keys.lines().all(is_known), "{keys}");

    // One cannot become the other while it runs.
    fs::write(one.directory.path().join("tokenward.yaml"), yaml("two")).unwrap();
    one.signal(Signal::HUP);
    wait_for("it is refused", || {
        one.metric("tokenward_config_last_reload_successful") == 0.0
    });
    let problems = one.call("GET", "/v1/config", "").json()["last_reload"]["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    assert_eq!(problems[0]["member"], "store.prefix");
    assert_eq!(problems[0]["message"], "only a restart can change this member");
    assert_eq!(
        (one.judge(&token).as_str(), two.judge(&token).as_str()),
        ("token_revoked", "ok")
    );
}
