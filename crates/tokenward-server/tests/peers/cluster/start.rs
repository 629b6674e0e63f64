//! Starting, and the store that is not there, or is not one to rely on.

use std::process::Command;
use std::time::Duration;

use tokenward_testkit::{Program, RedisServer};

use super::{Proxy, Replica, Upstream, pause, replicas};
use crate::child::wait_for;

/// What `/readyz?verbose` says of the revocations.
fn loaded(replica: &Replica) -> (u16, serde_json::Value) {
    let answer = replica.get("/readyz?verbose");
    (
        answer.status,
        answer.json()["checks"]["revocations_loaded"].clone(),
    )
}

#[test]
fn without_its_store_a_replica_serves_what_its_journal_has_and_becomes_ready_by_itself() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let proxy = Proxy::to(redis.port());
    let mut replica = Replica::start(&upstream.yaml(&proxy.url(), ""));
    let (good, bad) = (upstream.token("good"), upstream.token("bad"));
    assert!(replica.revoke("bad"));
    wait_for("its keys are there", || {
        replica.get("/jwks/upstream").status == 200
    });
    pause(Duration::from_millis(500));
    replica.kill();
    proxy.cut();
    // The provider is down too: its keys come from the journal.
    drop(upstream);
    replica.start_again();
    let (status, check) = loaded(&replica);
    assert_eq!((status, check["ok"].as_bool()), (503, Some(false)), "{check}");
    let why = check["why"].as_str().unwrap();
    assert!(why.contains("store") || why.contains("127.0.0.1"), "{why}");
    assert_eq!(replica.health().1, "unreachable");
    assert_eq!(replica.get("/jwks/upstream").status, 200, "keys are served");
    assert_eq!(
        replica.judge(&bad),
        "token_revoked",
        "what was acknowledged is denied"
    );
    assert_eq!(
        replica.judge(&good),
        "revocation_unavailable",
        "the rest is not known"
    );
    proxy.mend();
    wait_for("it becomes ready by itself", || loaded(&replica).0 == 200);
    assert_eq!(
        (replica.judge(&good), replica.judge(&bad)),
        ("ok".into(), "token_revoked".into())
    );
}

#[test]
fn one_that_comes_new_waits_for_what_others_write_back() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let yaml = upstream.yaml(&redis.url(), "");
    let old = replicas(1, &yaml).remove(0);
    let bad = upstream.token("bad");
    assert!(old.revoke("bad"));
    // The one who knows stands still while the store is emptied and another one comes.
    old.signal(rustix::process::Signal::STOP);
    redis.flush();
    let new = Replica::start_unready(&yaml);
    wait_for("it has marked the store", || {
        redis.text(&["EXISTS", "{tokenward}:meta"]) == "1"
    });
    assert!(!new.is_ready());
    let (_, check) = loaded(&new);
    assert!(
        check["why"].as_str().unwrap().contains("other replicas"),
        "{check}"
    );
    assert_ne!(new.judge(&bad), "ok", "nothing is accepted before it is known");
    old.signal(rustix::process::Signal::CONT);
    new.wait_until_ready();
    assert_eq!(new.judge(&bad), "token_revoked");
}

#[test]
fn a_redis_that_forgets_is_refused_unless_it_is_allowed() {
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"];
    let (redis, upstream) = (RedisServer::with(Program::Redis, &evicting), Upstream::start());
    let directory = tempfile::tempdir().unwrap();
    let yaml = upstream.yaml(&redis.url(), "").replace(
        "secret_file: ./secret",
        &format!(
            "secret_sha256: {}",
            "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
        ),
    );
    std::fs::write(directory.path().join("tokenward.yaml"), &yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tokenward"))
        .arg("serve")
        .env("TOKENWARD__SERVER__PORT", "0")
        .env("TOKENWARD__SERVER__ADMIN", "127.0.0.1:0")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("volatile-lru") && said.contains("noeviction"),
        "{said}"
    );
    let allowed = upstream.yaml(&redis.url(), "").replace(
        "journal: ./journal",
        "journal: ./journal, redis: { allow_eviction: true }",
    );
    let replica = Replica::start(&allowed);
    assert!(replica.log().contains("volatile-lru"), "it is warned about");
    let answer = replica.get("/health");
    assert_eq!(answer.json()["redis"], "connected");
}

#[test]
fn the_password_of_the_store_is_never_told() {
    let redis = RedisServer::with(Program::Redis, &["--requirepass", "canary-s3cret"]);
    let upstream = Upstream::start();
    let replica = Replica::start(&upstream.yaml(&redis.url(), ""));
    let shown = replica.call("GET", "/v1/config", "");
    let text = String::from_utf8(shown.body).unwrap();
    assert!(
        text.contains("redis://:***@127.0.0.1") && !text.contains("canary"),
        "{text}"
    );
    drop(redis);
    wait_for("it notices", || replica.health().1 == "unreachable");
    assert!(!replica.log().contains("canary"));
}
