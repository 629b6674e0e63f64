//! `tokenward store migrate` from the embedded store to Redis and back, as an operator does it.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, RedisServer, TestKey, TokenBuilder};

use super::keys::{ISSUING, mint, published};
use super::{Replica, Upstream, now};
use crate::child::wait_for;

/// As it stands in an address.
const PASSWORD: &str = "canary%2Ds3cret";

impl Replica {
    /// Has its configuration name another store.
    fn configure(&self, yaml: &str) {
        fs::write(self.directory.path().join("tokenward.yaml"), yaml).unwrap();
    }

    /// `tokenward store migrate` beside its configuration.
    #[track_caller]
    fn migrate(&self, arguments: &[&str], code: i32) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .args(["store", "migrate"])
            .args(arguments)
            .env("REDIS_WORD", PASSWORD)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        output
    }

    /// What it is refused with.
    #[track_caller]
    fn migrate_fails(&self, to: &str, code: i32, words: &[&str]) {
        let begin = now();
        let output = self.migrate(&["--to", to], code);
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{to}: {:?}",
            begin.elapsed()
        );
        let said = String::from_utf8(output.stderr).unwrap();
        for word in words {
            assert!(said.contains(word), "{to}: {said}");
        }
        assert!(!said.contains("canary") && !said.contains("wrong-word"), "{said}");
    }
}

/// What there is, and must be wherever the store is.
struct Everything {
    kids: Vec<String>,
    good: String,
    bad: String,
    parent: String,
    orphan: String,
    foreign: String,
    second: String,
}

impl Everything {
    #[track_caller]
    fn is_there(&self, replica: &Replica) {
        replica.wait_until_ready();
        wait_for("the keys of the second provider are there", || {
            replica.judge(&self.second) == "ok"
        });
        assert_eq!(published(replica), self.kids);
        assert_eq!(replica.judge(&self.good), "ok");
        assert_eq!(replica.judge(&self.bad), "token_revoked");
        assert_eq!(replica.judge(&self.orphan), "parent_revoked");
        assert_eq!(replica.judge(&self.foreign), "token_revoked");
        let body = format!(r#"{{"parent_token":"{}"}}"#, self.parent);
        let renewed = replica.call("POST", "/renew", &body);
        assert_eq!(renewed.status, 200);
        assert_eq!(replica.judge(renewed.json()["token"].as_str().unwrap()), "ok");
        assert_eq!(replica.judge(&mint(replica).unwrap()), "ok");
        let audit = replica.call("GET", "/v1/audit?limit=100", "").json();
        let records = audit["records"].as_array().unwrap();
        assert!(records.iter().any(|record| record["target"] == "/v1/idps/second"));
    }
}

#[test]
fn a_store_moves_to_redis_and_back_with_all_that_it_holds() {
    let kept = ["--requirepass", "canary-s3cret", "--appendonly", "yes"];
    let redis = RedisServer::with(tokenward_testkit::Program::Redis, &kept);
    let upstream = Upstream::start();
    let yaml = |url: &str| match url.starts_with("redis") {
        true => upstream.yaml(url, ISSUING),
        false => {
            let own_key = ISSUING.replace("token_service: { ", "token_service: { generate_key: true, ");
            upstream.yaml(url, &own_key)
        }
    };
    let mut replica = Replica::start_unready(&yaml("sqlite:./data"));
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    replica.wait_until_ready();
    let (server, key) = (IdpServer::spawn(), TestKey::es256(1));
    server.set_keys(&[&key]);
    let document = format!(
        r#"{{"issuer":"https://second.example","url":"{}","audiences":["my-api"],"allow_http":true,"allow_private_addresses":true}}"#,
        server.jwks_url()
    );
    assert_eq!(replica.call("PUT", "/v1/idps/second", &document).status, 201);
    let pair = || {
        let body = r#"{"user_id":"a","include_child":true}"#;
        replica.call("POST", "/token-pairs", body).json()
    };
    let (keeps, ends) = (pair(), pair());
    let bad = replica.call("POST", "/tokens", r#"{"user_id":"a"}"#).json();
    for id in [text(&bad, "token_id"), text(&ends, "parent_jti")] {
        assert_eq!(replica.call("DELETE", &format!("/tokens/{id}"), "").status, 204);
    }
    assert!(replica.revoke("foreign"));
    let all = Everything {
        kids: published(&replica),
        good: mint(&replica).unwrap(),
        bad: text(&bad, "token"),
        parent: text(&keeps, "parent_token"),
        orphan: text(&ends, "child_token"),
        foreign: upstream.token("foreign"),
        second: TokenBuilder::new(tokenward::SystemClock::new().wall())
            .issuer("https://second.example")
            .audience("my-api")
            .subject("u")
            .expires_in(Duration::from_secs(3_600))
            .sign(&key),
    };
    all.is_there(&replica);

    let host = format!("127.0.0.1:{}", redis.port());
    let to = format!("redis://:${{REDIS_WORD}}@{host}/2");
    replica.migrate_fails(&to, 3, &["another process holds the store"]);
    replica.kill();
    // Nothing listens at port 1.
    replica.migrate_fails("redis://127.0.0.1:1", 3, &["127.0.0.1:1", "refused"]);
    replica.migrate_fails(&format!("redis://:wrong-word@{host}"), 3, &[&host, "password"]);
    replica.migrate_fails(&format!("redis://{host}"), 3, &[&host, "NOAUTH"]);
    replica.migrate_fails(
        &format!("redis://wrong-word@{host}"),
        2,
        &["a user without a password"],
    );
    replica.migrate_fails("redis://:${NO_SUCH_WORD}@h", 2, &["NO_SUCH_WORD", "is not set"]);
    let journal = replica.directory.path().join("journal");
    fs::create_dir(&journal).unwrap();
    fs::write(journal.join("tokenward.db"), "").unwrap();
    replica.migrate_fails(
        &to,
        2,
        &["the journal ./journal is there already", "move it away"],
    );
    fs::remove_dir_all(&journal).unwrap();
    let said = replica.migrate(&["--to", &to], 0);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("Change `store.url`"), "{said}");
    replica.migrate_fails(&to, 2, &[&host, "is not overwritten"]);

    let url = format!("redis://:{PASSWORD}@{host}/2");
    replica.configure(&yaml(&url));
    replica.start_again();
    all.is_there(&replica);
    assert!(replica.revoke("later"));
    replica.kill();

    replica.migrate_fails("sqlite:./data", 2, &["./data", "is not overwritten"]);
    let back = replica.migrate(&["--to", "sqlite:./back", "--json"], 0);
    let counts: Value = serde_json::from_slice(&back.stdout).unwrap();
    for (name, count) in [("idps", 1), ("token_families", 1), ("revocations", 4)] {
        assert_eq!(counts[name], count, "{counts}");
    }
    assert_eq!(counts["keyring"], true);
    replica.configure(&yaml(&format!("redis://:{PASSWORD}@{host}/3")));
    replica.migrate_fails("sqlite:./nothing", 2, &["no store with the prefix `tokenward`"]);
    replica.configure(&yaml("sqlite:./back"));
    replica.start_again();
    all.is_there(&replica);
    assert_eq!(replica.judge(&upstream.token("later")), "token_revoked");
}
