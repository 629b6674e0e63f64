//! Children that are renewed by whichever replica is there.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokenward_testkit::RedisServer;

use super::keys::{ISSUING, issuers};
use super::{Replica, Upstream, now, pause};
use crate::child::wait_for;

const FAMILIES: usize = 1_000;
/// Seconds that a child lives, and after which the next one is due: a third of its life before its end.
const LIFE: i64 = 15;
const DUE: i64 = 10;
/// How long the claim of a replica that was killed lasts, and what it may take beside.
const CLAIM: i64 = 15;
const SLACK: i64 = 5;

fn open(replica: &Replica) -> (String, String) {
    let body = format!(r#"{{"user_id":"a","child_expires_in":{LIFE},"parent_expires_in":3600}}"#);
    let answer = replica.call("POST", "/token-pairs", &body);
    assert_eq!(answer.status, 201);
    let pair = answer.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    (text("parent_jti"), text("parent_token"))
}

/// Each family's sequence, and when its latest child was issued, in seconds.
fn families(redis: &RedisServer) -> HashMap<String, (u64, Option<i64>)> {
    let values = redis.text(&["HVALS", "{tokenward}:families"]);
    let values = values
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values
        .map(|family| {
            let parent = family["parent_jti"].as_str().unwrap().to_owned();
            let latest = family["latest"]["issued_at"].as_i64();
            let sequence = family["sequence"].as_u64().unwrap();
            (parent, (sequence, latest.map(|millis| millis / 1_000)))
        })
        .collect()
}

#[test]
fn each_due_time_has_one_child_and_none_is_lost_when_a_replica_is_killed() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let rest = ISSUING.replace("token_service: {", "token_service: { renew_worker_interval: 1s,");
    let mut replicas = issuers(3, &upstream.yaml(&redis.url(), &rest));
    for n in 0..FAMILIES {
        open(&replicas[n % 3]);
    }
    // Of each family, when each of its children was issued.
    let mut issued: HashMap<String, HashMap<u64, i64>> = HashMap::new();
    let (begin, mut killed) = (now(), false);
    while begin.elapsed() < Duration::from_secs(70) {
        for (parent, (sequence, latest)) in families(&redis) {
            if let Some(latest) = latest {
                issued.entry(parent).or_default().insert(sequence, latest);
            }
        }
        if !killed && begin.elapsed() > Duration::from_secs(25) {
            replicas[0].kill();
            killed = true;
        }
        pause(Duration::from_millis(500));
    }
    assert_eq!(issued.len(), FAMILIES);
    let (mut children, mut latest_gap) = (0, 0);
    for (parent, issued) in &issued {
        let last = *issued.keys().max().unwrap();
        // Seen twice a second, none was between two looks.
        let times: Vec<i64> = (1..=last).map(|n| issued[&n]).collect();
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(
                gap >= DUE,
                "{parent}: two children for one due time, {gap} s apart"
            );
            assert!(gap <= DUE + CLAIM + SLACK, "{parent}: one was lost, {gap} s");
            latest_gap = latest_gap.max(gap);
        }
        children += times.len();
        assert!(last >= 3, "{parent}: {last}");
    }
    println!(
        "{children} children of {FAMILIES} families, one for each due time; at most {latest_gap} s apart"
    );
}

#[test]
fn a_lost_family_is_there_again_and_a_revoked_one_is_not() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let replicas = issuers(2, &upstream.yaml(&redis.url(), ISSUING));
    let ((kept, shown), (revoked, ended)) = (open(&replicas[0]), open(&replicas[0]));
    let gone = replicas[0].call("DELETE", &format!("/tokens/{revoked}"), "");
    assert_eq!(gone.status, 204);
    redis.flush();
    wait_for("what was acknowledged is written back", || {
        redis.text(&["HLEN", "{tokenward}:revocations"]) == "1"
            && redis.text(&["EXISTS", "{tokenward}:keyring"]) == "1"
            && replicas.iter().all(Replica::is_ready)
    });
    let renew = |replica: &Replica, parent: &str| {
        let body = format!(r#"{{"parent_token":"{parent}"}}"#);
        let answer = replica.call("POST", "/renew", &body);
        (answer.status, answer.json())
    };
    let (status, child) = renew(&replicas[1], &shown);
    assert_eq!(status, 200, "{child}");
    let token = child["token"].as_str().unwrap();
    assert!(replicas.iter().all(|replica| replica.judge(token) == "ok"));
    assert!(families(&redis).contains_key(&kept));
    for replica in &replicas {
        let (status, body) = renew(replica, &ended);
        assert_eq!(
            (status, &body["error_code"]),
            (401, &"token_revoked".into()),
            "{body}"
        );
    }
    assert!(!families(&redis).contains_key(&revoked));
}
