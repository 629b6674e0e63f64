//! A store that takes every question and answers none.

use std::time::Duration;

use tokenward_testkit::RedisServer;

use super::{Client, Replica, Upstream, now, pause};
use crate::child::wait_for;

/// Questions of each kind in one round.
const ASKED: usize = 700;

/// What is refused while nobody asks the store any more is refused within this.
const AT_ONCE: Duration = Duration::from_millis(250);

/// How long each of many answers takes that need no store, sorted: a token that is known, one that nobody has seen, keys.
fn round(replica: &Replica, upstream: &Upstream, name: &str) -> Vec<Duration> {
    let mut client = Client::new(&replica.public);
    let known = upstream.token("known");
    let fresh: Vec<_> = (0..ASKED)
        .map(|n| upstream.token(&format!("{name}-{n}")))
        .collect();
    let mut took = Vec::new();
    for token in &fresh {
        for token in [&known, token] {
            let asked = now();
            assert_eq!(client.judge(token).as_deref(), Some("ok"));
            took.push(now() - asked);
        }
        let asked = now();
        assert_eq!(client.get("/jwks/upstream"), Some(200));
        took.push(now() - asked);
    }
    took.sort();
    took
}

#[test]
fn a_store_that_hangs_slows_nothing_that_does_not_need_it_and_what_does_is_refused_at_once() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    // So that the whole test is within what may be stale.
    let replica = Replica::start(&upstream.yaml(&redis.url(), "revocation: { max_staleness: 300 }"));
    wait_for("it judges", || replica.judge(&upstream.token("first")) == "ok");
    round(&replica, &upstream, "warm");
    let (mut well, mut hanging) = (Vec::new(), Vec::new());
    for n in 0..3 {
        well.extend(round(&replica, &upstream, &format!("well-{n}")));
        redis.pause();
        hanging.extend(round(&replica, &upstream, &format!("hanging-{n}")));
        redis.go_on();
        wait_for("the store is followed again", || {
            replica.health().1 == "connected"
        });
    }
    well.sort();
    hanging.sort();
    let at = |sorted: &[Duration], part: usize| sorted[sorted.len() * part / 1_000];
    for part in [500, 990] {
        println!(
            "{part} of 1,000: {:?} well, {:?} hanging",
            at(&well, part),
            at(&hanging, part)
        );
    }
    assert!(at(&hanging, 500) < at(&well, 500) * 3 / 2);
    assert!(at(&hanging, 990) < at(&well, 990) * 3 + Duration::from_millis(5));
    // Nobody waited for an answer that did not come.
    assert!(at(&hanging, 999) < Duration::from_millis(500));

    redis.pause();
    let mut client = Client::new(&replica.admin);
    let mut refuse = |id: &str| {
        let asked = now();
        assert_eq!(client.revoke(id), Some(503));
        now() - asked
    };
    wait_for("nobody asks the store any more", || refuse("waits") < AT_ONCE);
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        slowest = slowest.max(refuse(&format!("refused-{n}")));
        pause(Duration::from_millis(50));
    }
    println!("503 after at most {slowest:?}");
    assert!(slowest < AT_ONCE);

    redis.go_on();
    let back = now();
    while !replica.revoke("works again") {
        assert!(now() - back < Duration::from_secs(5), "it works again within 5 s");
        pause(Duration::from_millis(50));
    }
}
