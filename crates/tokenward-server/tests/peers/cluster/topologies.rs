//! Replicas whose Redis is behind sentinels, in a cluster, or spoken with over TLS as a user of its own: all works through the
//! loss of the master.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokenward_testkit::{Leaf, Program, RedisCluster, RedisServer, Sentinels, TestPki};

use super::keys::{ISSUING, issuers, published};
use super::{Replica, Upstream, now};
use crate::child::wait_for;
use crate::process::root;

/// A token of ours, and its id.
struct Minted {
    token: String,
    id: String,
}

fn minted(replica: &Replica) -> Minted {
    let answer = replica.call("POST", "/tokens", r#"{"user_id":"a"}"#);
    assert_eq!(answer.status, 201, "minting needs no store");
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    Minted {
        token: text("token"),
        id: text("token_id"),
    }
}

/// The status of the answer, which is a good one, or that the store is not there, and what it holds.
fn asked(replica: &Replica, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = replica.call(method, path, body);
    if answer.status == 204 {
        return (204, Value::Null);
    }
    let body = answer.json();
    if answer.status == 503 {
        assert_eq!(body["error_code"], "store_unavailable", "{body}");
    }
    (answer.status, body)
}

/// A pair: the parent with its id, and the child.
fn opened(replica: &Replica) -> Option<(Minted, String)> {
    let body = r#"{"user_id":"b","include_child":true}"#;
    let (status, pair) = asked(replica, "POST", "/token-pairs", body);
    if status == 503 {
        return None;
    }
    assert_eq!(status, 201, "{pair}");
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    let parent = Minted {
        token: text("parent_token"),
        id: text("parent_jti"),
    };
    Some((parent, text("child_token")))
}

fn renewed(replica: &Replica, parent: &Minted) -> (u16, Value) {
    asked(
        replica,
        "POST",
        "/renew",
        &format!(r#"{{"parent_token":"{}"}}"#, parent.token),
    )
}

/// All that a cluster does, before and after `lose` has the master lost, at the store of this section.
fn all_works_through_the_loss_of_the_master(store: &str, lose: impl FnOnce()) {
    let upstream = Upstream::start();
    let yaml = upstream.yaml("", ISSUING);
    let yaml = yaml.replace("store: { url: ''", &format!("store: {{ {store}"));
    let replicas = issuers(2, &yaml);
    let [one, two] = replicas.as_slice() else {
        panic!("two replicas")
    };
    let kids = published(one);
    let foreign = upstream.token("foreign");
    let (good, bad) = (minted(one), minted(one));
    let ((kept, _), (ended, orphan)) = (opened(one).unwrap(), opened(two).unwrap());
    for id in [&bad.id, &ended.id] {
        assert_eq!(asked(one, "DELETE", &format!("/tokens/{id}"), "").0, 204);
    }
    assert!(one.revoke("foreign"));
    let refused = [
        (&bad.token, "token_revoked"),
        (&orphan, "parent_revoked"),
        (&foreign, "token_revoked"),
    ];
    wait_for("the other one has heard of it", || {
        refused.iter().all(|(token, why)| two.judge(token) == *why)
    });

    lose();
    let lost = now();
    // None of this needs the store.
    for replica in &replicas {
        assert_eq!(replica.judge(&good.token), "ok");
        for (token, why) in refused {
            assert_eq!(replica.judge(token), why);
        }
        assert_eq!(published(replica), kids);
        assert_eq!(replica.judge(&minted(replica).token), "ok");
    }
    // And what does goes on by itself.
    let mut late = None;
    wait_for("a family is opened", || {
        late = opened(two);
        late.is_some()
    });
    let took = lost.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (late, child) = late.unwrap();
    assert_eq!(one.judge(&child), "ok");
    // It may not have been copied from the master before that was lost: its parent is enough.
    wait_for("what was there before is renewed", || {
        let (status, body) = renewed(two, &kept);
        assert!(
            matches!(status, 200 | 503),
            "a family from before: {status} {body}"
        );
        status == 200 && one.judge(body["token"].as_str().unwrap()) == "ok"
    });
    for replica in &replicas {
        wait_for("what has ended is not", || {
            let (status, body) = renewed(replica, &ended);
            assert!(matches!(status, 401 | 503), "{status} {body}");
            body["error_code"] == "token_revoked"
        });
    }
    wait_for("a revocation is taken", || {
        asked(two, "DELETE", &format!("/tokens/{}", late.id), "").0 == 204
    });
    assert_eq!(two.judge(&child), "parent_revoked");
    wait_for("the other one has heard of it", || {
        one.judge(&child) == "parent_revoked"
    });
    // Not before all have had the time to write back what the store may have lost.
    let mut made = Value::Null;
    wait_for("a key is made", || {
        let (status, answer) = asked(one, "POST", "/v1/keys/generate", "");
        assert!(matches!(status, 200 | 503), "{status} {answer}");
        made = answer["added"][0].clone();
        status == 200
    });
    let made = made.as_str().unwrap().to_owned();
    wait_for("the other one publishes the new key", || {
        published(two).contains(&made)
    });

    // One that comes new has all of it from the store.
    let new = Replica::start(&yaml);
    assert_eq!(new.judge(&child), "parent_revoked");
    for (token, why) in refused {
        assert_eq!(new.judge(token), why);
    }
    assert_eq!(new.judge(&good.token), "ok");
    assert_eq!(published(&new), published(two));
    assert_eq!(renewed(&new, &kept).0, 200);
}

fn through_sentinels_that_have_another_master_take_over() {
    let mut sentinels = Sentinels::start(Some("s3cret"));
    let store = format!("url: '{}'", sentinels.url());
    all_works_through_the_loss_of_the_master(&store, || sentinels.servers()[0].kill());
}

fn in_a_cluster_where_a_node_takes_the_place_of_its_master() {
    let mut cluster = RedisCluster::start(Program::Valkey, "{tokenward}:meta");
    let store = format!("url: '{}'", cluster.url());
    all_works_through_the_loss_of_the_master(&store, || cluster.owner().kill());
}

fn over_tls_as_a_user_with_the_documented_rights_while_the_server_is_started_anew() {
    let pki = TestPki::new();
    let page = std::fs::read_to_string(root().join("docs/clusters.md")).unwrap();
    let rights = page
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER tokenward on >PASSWORD "));
    let mut settings = vec!["--appendonly", "yes", "--appendfsync", "always"];
    settings.extend(["--user", "ward", "on", ">p@ss/word"]);
    settings.extend(rights.unwrap().split(' '));
    let mut server = RedisServer::with_tls(&pki, Leaf::Good, &settings);
    let url = server
        .tls_url()
        .replace("rediss://", "rediss://ward:p%40ss%2Fword@");
    let store = format!(
        "url: '{url}/3', redis: {{ ca_file: '{}' }}",
        pki.root_file().display()
    );
    all_works_through_the_loss_of_the_master(&store, || server.start_again());
}

/// At the same time, since most of it is waiting.
#[test]
fn all_works_through_the_loss_of_the_master_however_it_is_found() {
    let ways: [(&str, fn()); 3] = [
        ("sentinels", through_sentinels_that_have_another_master_take_over),
        ("cluster", in_a_cluster_where_a_node_takes_the_place_of_its_master),
        (
            "tls",
            over_tls_as_a_user_with_the_documented_rights_while_the_server_is_started_anew,
        ),
    ];
    thread::scope(|scope| {
        for (name, way) in ways {
            // The name stands in what a failure says.
            let started = thread::Builder::new().name(name.to_owned());
            started.spawn_scoped(scope, way).unwrap();
        }
    });
}
