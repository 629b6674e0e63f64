//! Revocations reach every replica, and none is lost.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokenward_testkit::RedisServer;

use super::client::Client;
use super::{Proxy, Replica, Upstream, now, pause, replicas};
use crate::child::wait_for;

/// How many tokens are revoked.
const MANY: usize = 5_000;
/// Who revoke at the same time, so that the journal is written for several at once.
const REVOKERS: usize = 8;

/// Of so many in the order of size, the one below which this part of them is.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand"
    )]
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len() - 1);
    sorted[at]
}

#[test]
fn five_thousand_revocations_are_refused_by_every_replica_within_a_second() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let replicas = replicas(3, &upstream.yaml(&redis.url(), ""));
    let tokens: Vec<_> = (0..MANY)
        .map(|n| (format!("t{n}"), upstream.token(&format!("t{n}"))))
        .collect();
    let next = AtomicUsize::new(0);
    // Of each of the others: what was acknowledged and is not yet seen to be refused, and how long it took.
    let seen: Vec<_> = (1..3)
        .map(|_| (Mutex::new(VecDeque::new()), Mutex::new(Vec::new())))
        .collect();
    thread::scope(|scope| {
        for _ in 0..REVOKERS {
            scope.spawn(|| {
                let (mut admin, mut public) =
                    (Client::new(&replicas[0].admin), Client::new(&replicas[0].public));
                while let Some((id, token)) = tokens.get(next.fetch_add(1, Ordering::SeqCst)) {
                    assert_eq!(admin.revoke(id), Some(201));
                    let at = now();
                    seen.iter()
                        .for_each(|(waiting, _)| waiting.lock().unwrap().push_back((token, at)));
                    assert_eq!(
                        public.judge(token).unwrap(),
                        "token_revoked",
                        "where it was asked for"
                    );
                }
            });
        }
        for (replica, (waiting, times)) in replicas[1..].iter().zip(&seen) {
            scope.spawn(move || {
                let mut client = Client::new(&replica.public);
                while times.lock().unwrap().len() < MANY {
                    let Some((token, at)) = waiting.lock().unwrap().pop_front() else {
                        pause(Duration::from_millis(1));
                        continue;
                    };
                    match client.judge(token).unwrap().as_str() {
                        "token_revoked" => times.lock().unwrap().push(at.elapsed()),
                        "ok" => {
                            assert!(at.elapsed() < Duration::from_secs(10), "never refused");
                            waiting.lock().unwrap().push_back((token, at));
                        }
                        other => panic!("{other}"),
                    }
                }
            });
        }
    });
    for (_, times) in seen {
        let mut times = times.into_inner().unwrap();
        times.sort();
        for bound in [50, 100, 150, 200, 300, 500, 1_000, 10_000] {
            let under = times
                .iter()
                .filter(|time| **time < Duration::from_millis(bound))
                .count();
            println!("refused within {bound:>5} ms: {under:>5} of {MANY}");
        }
        let (p50, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
        println!("p50 {p50:?}, p99 {p99:?}, slowest {:?}", times.last().unwrap());
        assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
    }
}

#[test]
fn no_request_that_judges_a_token_asks_the_store() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let replicas = replicas(2, &upstream.yaml(&redis.url(), ""));
    assert!(replicas[0].revoke("revoked"));
    let (good, bad) = (upstream.token("good"), upstream.token("revoked"));
    wait_for("both have heard of it", || {
        replicas.iter().all(|one| one.judge(&bad) == "token_revoked")
    });
    let commands = || -> u64 {
        let info = redis.text(&["INFO", "stats"]);
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    };
    let window = Duration::from_secs(3);
    let before = commands();
    pause(window);
    let idle = commands() - before;
    let before = commands();
    let asked = AtomicUsize::new(0);
    let end = now() + window;
    thread::scope(|scope| {
        for replica in &replicas {
            scope.spawn(|| {
                let mut client = Client::new(&replica.public);
                while now() < end {
                    assert_eq!(client.judge(&good).unwrap(), "ok");
                    assert_eq!(client.judge(&bad).unwrap(), "token_revoked");
                    // One that nobody has seen.
                    let fresh = upstream.token(&format!("f{}", asked.fetch_add(3, Ordering::SeqCst)));
                    assert_eq!(client.judge(&fresh).unwrap(), "ok");
                }
            });
        }
    });
    let (busy, asked) = (commands() - before, asked.into_inner() as u64);
    println!("{asked} tokens judged; commands of the store: {idle} idle, {busy} under load");
    assert!(asked > 300, "{asked}");
    assert!(busy <= idle + idle / 4 + 10, "idle {idle}, under load {busy}");
    assert!(idle > 20, "it is asked ten times a second: {idle}");
}

#[test]
fn a_replica_that_is_cut_off_goes_on_for_as_long_as_it_may_and_knows_everything_before_it_is_well_again() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let proxy = Proxy::to(redis.port());
    let terms = "revocation: { max_staleness: 4 }\n";
    let lax = "revocation: { max_staleness: 4, on_stale: allow }\n";
    let near = Replica::start(&upstream.yaml(&redis.url(), terms));
    let far = Replica::start(&upstream.yaml(&proxy.url(), terms));
    let lenient = Replica::start(&upstream.yaml(&proxy.url(), lax));
    let (good, early, late) = (
        upstream.token("good"),
        upstream.token("early"),
        upstream.token("late"),
    );
    assert!(near.revoke("early"));
    wait_for("it is known", || {
        [&far, &lenient]
            .iter()
            .all(|one| one.judge(&early) == "token_revoked")
    });
    assert_eq!(far.health(), ("healthy".to_owned(), "connected".to_owned()));

    proxy.cut();
    let cut = now();
    assert!(near.revoke("late"));
    wait_for("it notices", || {
        far.health() == ("degraded".to_owned(), "unreachable".to_owned())
    });
    if cut.elapsed() < Duration::from_secs(3) {
        assert_eq!(far.judge(&good), "ok");
        assert_eq!(far.judge(&late), "ok", "it cannot know");
    }
    assert_eq!(far.judge(&early), "token_revoked");
    let refused = far.call(
        "POST",
        "/v1/revocations",
        r#"{"issuer":"https://upstream.example","jti":"x"}"#,
    );
    assert_eq!(
        (refused.status, refused.json()["error_code"].as_str()),
        (503, Some("store_unavailable"))
    );
    wait_for("it says that it cannot tell", || {
        far.judge(&good) == "revocation_unavailable"
    });
    let after = cut.elapsed();
    assert!(
        after > Duration::from_secs(3) && after < Duration::from_secs(7),
        "{after:?}"
    );
    let answer = crate::http::get(
        &format!("http://{}/authorize", far.public),
        &[("authorization", &format!("Bearer {good}"))],
    );
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(far.judge(&early), "token_revoked", "what is known holds");
    assert_eq!(far.judge(&late), "revocation_unavailable");
    assert_eq!(
        (lenient.judge(&good), lenient.judge(&early)),
        ("ok".to_owned(), "token_revoked".to_owned())
    );
    assert!(
        far.is_ready(),
        "a store that is lost later does not make it unready"
    );
    assert_eq!(far.get("/jwks/upstream").status, 200, "keys are served");
    assert_eq!(near.judge(&good), "ok");
    wait_for("the age is shown", || {
        far.metric("tokenward_revocation_view_age_seconds") > 4.0
    });
    assert_eq!(far.metric("tokenward_store_connected"), 0.0);
    let connections = |of: &Replica| {
        let counts = ["tokenward_store_connections", "tokenward_store_connections_limit"];
        counts.map(|name| of.metric(name))
    };
    assert_eq!(connections(&near), [2.0, 2.0]);

    // The cut lasts half a minute in all.
    pause(Duration::from_secs(30).saturating_sub(cut.elapsed()));
    proxy.mend();
    let mended = now();
    for one in [&far, &lenient] {
        wait_for("it is well again", || {
            one.health() == ("healthy".to_owned(), "connected".to_owned())
        });
        assert_eq!(one.judge(&late), "token_revoked", "at once");
        assert_eq!(one.judge(&good), "ok");
    }
    assert!(
        mended.elapsed() < Duration::from_secs(5),
        "{:?}",
        mended.elapsed()
    );
}

#[test]
fn what_one_deletes_is_accepted_everywhere_and_stays_deleted() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let yaml = upstream.yaml(&redis.url(), "");
    let mut replicas = replicas(2, &yaml);
    let (kept, deleted) = (upstream.token("kept"), upstream.token("deleted"));
    assert!(replicas[0].revoke("kept"));
    let body = r#"{"issuer":"https://upstream.example","jti":"deleted"}"#;
    let answer = replicas[0].call("POST", "/v1/revocations", body);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    wait_for("it is heard of", || {
        replicas[1].judge(&deleted) == "token_revoked"
    });
    // One that is away meanwhile has it in its journal.
    replicas[1].kill();
    assert_eq!(
        replicas[0]
            .call("DELETE", &format!("/v1/revocations/{id}"), "")
            .status,
        204
    );
    assert_eq!(replicas[0].judge(&deleted), "ok");
    // And the store loses that it was deleted.
    redis.flush();
    wait_for("it is written back", || {
        replicas[0].metric("tokenward_store_reasserted_total") >= 2.0
    });
    replicas[1].start_again();
    replicas[1].wait_until_ready();
    pause(Duration::from_millis(500));
    for replica in &replicas {
        assert_eq!(replica.judge(&deleted), "ok");
        assert_eq!(replica.judge(&kept), "token_revoked");
    }
    // What is revoked again is revoked.
    assert!(replicas[1].revoke("deleted"));
    wait_for("it is heard of", || {
        replicas[0].judge(&deleted) == "token_revoked"
    });
    // Deleted on one while the other follows.
    let page = replicas[1].call("GET", "/v1/revocations", "").json();
    let items = page["revocations"]
        .as_array()
        .or_else(|| page["items"].as_array())
        .unwrap();
    let again = items.iter().find(|item| item["jti"] == "deleted").unwrap();
    let path = format!("/v1/revocations/{}", again["id"].as_str().unwrap());
    assert_eq!(replicas[1].call("DELETE", &path, "").status, 204);
    wait_for("it is heard of", || replicas[0].judge(&deleted) == "ok");
}
