//! Signing keys of several replicas.

use std::time::Duration;

use serde_json::Value;
use tokenward_testkit::RedisServer;

use super::{Replica, Upstream, durable_redis, now, pause};
use crate::child::wait_for;

/// A token service whose first key is made by a call.
pub(super) const ISSUING: &str = "\
    token_service: { issuer: 'https://auth.example', audience: [my-api], algorithm: ES256, allow_plaintext_keys: true }\n\
    limits: { token_api: { per_address: off, per_credential: off } }\n";

/// So many replicas that have a key.
pub(super) fn issuers(count: usize, yaml: &str) -> Vec<Replica> {
    let replicas: Vec<_> = (0..count).map(|_| Replica::start_unready(yaml)).collect();
    wait_for("the first key is made", || {
        replicas[0].call("POST", "/v1/keys/generate", "").status == 200
    });
    replicas.iter().for_each(Replica::wait_until_ready);
    replicas
}

/// The kids that a replica publishes, in order; none where it has no keys.
pub(super) fn published(replica: &Replica) -> Vec<String> {
    let answer = replica.get("/jwks/self");
    let keys = answer.json()["keys"].as_array().cloned().unwrap_or_default();
    let mut kids: Vec<String> = keys
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    kids.sort_unstable();
    kids
}

pub(super) fn mint(replica: &Replica) -> Result<String, (u16, Value)> {
    let answer = replica.call("POST", "/tokens", r#"{"user_id":"a"}"#);
    match answer.status {
        201 => Ok(answer.json()["token"].as_str().unwrap().to_owned()),
        status => Err((status, answer.json())),
    }
}

fn signed_by(token: &str) -> String {
    let token = tokenward_core::jose::Token::parse(token, 20_000).unwrap();
    token.header().kid().unwrap().to_owned()
}

/// A token that was minted just now is good everywhere, and by a key that is published everywhere.
fn is_good_everywhere(token: &str, replicas: &[Replica]) {
    for replica in replicas {
        assert!(published(replica).contains(&signed_by(token)));
        assert_eq!(replica.judge(token), "ok");
    }
}

#[test]
fn the_first_key_comes_by_a_call_and_all_accept_its_tokens_from_the_first() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let yaml = upstream.yaml(&redis.url(), ISSUING);
    let replicas: Vec<_> = (0..3).map(|_| Replica::start_unready(&yaml)).collect();
    for replica in &replicas {
        wait_for("it waits for nothing but a key", || {
            let answer = replica.get("/readyz?verbose");
            let checks = answer.json()["checks"].clone();
            let others = checks.as_object().unwrap().iter();
            let mut others = others.filter(|(name, _)| *name != "signing_key");
            answer.status == 503 && others.all(|(_, check)| check["ok"] == true)
        });
        let check = replica.get("/readyz?verbose").json()["checks"]["signing_key"].clone();
        assert!(
            check["why"].as_str().unwrap().contains("keys generate"),
            "{check}"
        );
        assert_eq!(mint(replica).unwrap_err().1["error_code"], "keys_unavailable");
        assert_eq!(replica.get("/jwks/self").status, 503, "no empty set to keep");
    }
    let made = replicas[0].call("POST", "/v1/keys/generate", "");
    assert_eq!(made.status, 200);
    // All try all the time, and whoever is the first one signs with a key that all publish.
    let end = now() + Duration::from_secs(6);
    let (mut minted, mut refused) = ([0; 3], 0);
    while now() < end {
        for (replica, minted) in replicas.iter().zip(&mut minted) {
            match mint(replica) {
                Ok(token) => {
                    *minted += 1;
                    is_good_everywhere(&token, &replicas);
                }
                Err((status, _)) => {
                    refused += 1;
                    assert_eq!(status, 503);
                }
            }
        }
    }
    assert!(
        minted.iter().all(|minted| *minted > 0) && refused > 0,
        "{minted:?} {refused}"
    );
    replicas.iter().for_each(Replica::wait_until_ready);

    // A key that is forced in as soon as it was made costs no token, and none is refused meanwhile.
    let before = signed_by(&mint(&replicas[1]).unwrap());
    let pending = published(&replicas[1]);
    let forced = replicas[1].call("POST", "/v1/keys/generate", "").json()["added"][0].clone();
    let rotated = replicas[1]
        .call("POST", "/v1/keys/rotate", r#"{"force":true}"#)
        .json();
    assert_eq!(rotated["activated"], forced);
    assert!(!pending.contains(&forced.as_str().unwrap().to_owned()));
    let end = now() + Duration::from_secs(6);
    let mut signers = Vec::new();
    while now() < end {
        for replica in &replicas {
            let token = mint(replica).unwrap_or_else(|(status, body)| panic!("{status} {body}"));
            is_good_everywhere(&token, &replicas);
            signers.push(signed_by(&token));
        }
    }
    assert!(signers.first() == Some(&before) && signers.last().map(String::as_str) == forced.as_str());

    // One that is revoked on one is refused by all.
    let token = mint(&replicas[2]).unwrap();
    let kid = signed_by(&token);
    let revoked = replicas[2].call("POST", &format!("/v1/keys/{kid}/revoke"), "");
    assert_eq!(revoked.status, 200);
    let at = now();
    wait_for("all refuse it and publish it no more", || {
        replicas
            .iter()
            .all(|replica| replica.judge(&token) != "ok" && !published(replica).contains(&kid))
    });
    assert!(at.elapsed() < Duration::from_secs(3), "{:?}", at.elapsed());
    for replica in &replicas {
        is_good_everywhere(&mint(replica).unwrap(), &replicas);
    }
}

#[test]
fn replicas_that_rotate_at_once_lose_no_rotation_and_have_one_ring() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let replicas = issuers(3, &upstream.yaml(&redis.url(), ISSUING));
    let kids = published(&replicas[0]);
    assert_eq!(kids.len(), 2);
    assert!(replicas.iter().all(|replica| published(replica) == kids));
    let version = |redis: &RedisServer| {
        let version = redis.text(&["HGET", "{tokenward}:keyring", "version"]);
        version.parse::<u64>().unwrap()
    };
    let before = version(&redis);
    let active: Vec<String> = std::thread::scope(|scope| {
        let rotating: Vec<_> = replicas
            .iter()
            .map(|replica| scope.spawn(|| replica.call("POST", "/v1/keys/rotate", r#"{"force":true}"#)))
            .collect();
        let answers = rotating.into_iter().map(|rotating| rotating.join().unwrap());
        answers
            .map(|answer| {
                assert_eq!(answer.status, 200);
                answer.json()["activated"].as_str().unwrap().to_owned()
            })
            .collect()
    });
    // Where they did not quite meet they are rotations one after the other; none was lost.
    let rotations = version(&redis) - before;
    let distinct: std::collections::HashSet<_> = active.iter().collect();
    assert_eq!(rotations, distinct.len() as u64, "{active:?}");
}

#[test]
fn an_emptied_store_gets_its_keys_back_and_no_rival() {
    let (redis, upstream) = (durable_redis(), Upstream::start());
    let yaml = upstream.yaml(&redis.url(), ISSUING);
    let mut old = issuers(2, &yaml);
    let token = mint(&old[0]).unwrap();
    let kids = published(&old[0]);
    // One that knows nothing comes while the store is empty, and is asked for the first key.
    let gone = old.remove(1);
    drop(gone);
    redis.flush();
    let new = Replica::start_unready(&yaml);
    let early = new.call("POST", "/v1/keys/generate", "");
    assert!(
        early.status == 503 || !published(&new).is_empty(),
        "{}",
        early.status
    );
    new.wait_until_ready();
    old.push(new);
    wait_for("both have the keys again", || {
        old.iter().all(|replica| {
            let now = published(replica);
            kids.iter().all(|kid| now.contains(kid))
        })
    });
    for _ in 0..10 {
        for replica in &old {
            assert_eq!(replica.judge(&token), "ok");
            let minted = mint(replica).unwrap();
            assert!(kids.contains(&signed_by(&minted)), "no rival signs");
            is_good_everywhere(&minted, &old);
        }
        pause(Duration::from_millis(200));
    }
}
