//! Identity providers that one replica is given.

use std::time::Duration;

use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, RedisServer, TestKey, TokenBuilder};

use super::{Replica, Upstream, now, replicas};
use crate::child::wait_for;

/// What the promise is.
const HEARD: Duration = Duration::from_secs(2);

fn all_say(replicas: &[Replica], token: &str, word: &str) -> Duration {
    let at = now();
    wait_for(word, || {
        replicas.iter().all(|replica| replica.judge(token) == word)
    });
    at.elapsed()
}

#[test]
fn one_that_is_added_on_one_verifies_on_all_within_two_seconds_and_goes_as_soon() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let replicas = replicas(3, &upstream.yaml(&redis.url(), ""));
    let (server, key) = (IdpServer::spawn(), TestKey::es256(1));
    server.set_keys(&[&key]);
    let token = TokenBuilder::new(tokenward::SystemClock::new().wall())
        .issuer("https://second.example")
        .audience("my-api")
        .subject("u")
        .expires_in(Duration::from_secs(3_600))
        .sign(&key);
    assert!(
        replicas
            .iter()
            .all(|replica| replica.judge(&token) == "issuer_unknown")
    );
    let document = |audience: &str| {
        format!(
            r#"{{"issuer": "https://second.example", "url": "{}", "audiences": ["{audience}"], "allow_http": true,
                "allow_private_addresses": true}}"#,
            server.jwks_url()
        )
    };
    let put = |replica: &Replica, audience: &str| {
        let answer = replica.call("PUT", "/v1/idps/second", &document(audience));
        assert!(matches!(answer.status, 200 | 201), "{}", answer.status);
    };
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        put(&replicas[round % 3], "my-api");
        slowest = slowest.max(all_say(&replicas, &token, "ok"));
        // Those of the file, and what was fetched for them, are not touched.
        assert!(
            replicas
                .iter()
                .all(|replica| replica.judge(&upstream.token("t")) == "ok")
        );
        put(&replicas[(round + 1) % 3], "another");
        slowest = slowest.max(all_say(&replicas, &token, "audience_mismatch"));
        let gone = replicas[(round + 2) % 3].call("DELETE", "/v1/idps/second", "");
        assert_eq!(gone.status, 204);
        slowest = slowest.max(all_say(&replicas, &token, "issuer_unknown"));
    }
    println!("known to all three replicas after {slowest:?} at most");
    assert!(slowest < HEARD, "{slowest:?}");
}
