//! One fetch for all replicas.

use std::{fmt::Write as _, time::Duration};

use tokenward_testkit::{Behaviour, IdpServer, RedisServer, TestKey};

use super::{Replica, now, pause, replicas};
use crate::child::wait_for;

const IDPS: usize = 100;
const HELD: &str = "/keys/0";

/// A configuration with so many providers, all at one server, whose keys are fetched so often.
fn yaml(redis: &RedisServer, idp: &IdpServer, count: usize, interval: &str) -> String {
    let mut yaml = format!(
        "store: {{ url: '{}', journal: ./journal }}\n\
         credentials: [{{ name: ops, secret_file: ./secret, scopes: [admin] }}]\n\
         logging: {{ requests: false }}\n\
         idps:\n",
        redis.url()
    );
    for n in 0..count {
        let path = format!("/keys/{n}");
        idp.set_keys_at(&path, &[&TestKey::es256(0)]);
        writeln!(
            yaml,
            "  - {{ name: i{n}, url: '{}', refresh_interval: {interval}, allow_http: true, allow_private_addresses: true }}",
            idp.url(&path)
        )
        .unwrap();
    }
    yaml
}

fn hits(idp: &IdpServer) -> Vec<usize> {
    (0..IDPS).map(|n| idp.hits(&format!("/keys/{n}"))).collect()
}

fn serves(replica: &Replica, name: &str) -> bool {
    replica.get(&format!("/jwks/{name}")).status == 200
}

#[test]
fn three_replicas_ask_a_hundred_providers_as_often_as_one_does() {
    let (redis_of_one, redis_of_three) = (RedisServer::start(), RedisServer::start());
    let (idp_of_one, idp_of_three) = (IdpServer::spawn(), IdpServer::spawn());
    let one = replicas(1, &yaml(&redis_of_one, &idp_of_one, IDPS, "3s"));
    let three = replicas(3, &yaml(&redis_of_three, &idp_of_three, IDPS, "3s"));
    let before = (hits(&idp_of_one), hits(&idp_of_three));
    // They began together, whenever they were ready.
    assert!(before.1.iter().all(|hits| *hits >= 1));
    pause(Duration::from_secs(15));
    let after = (hits(&idp_of_one), hits(&idp_of_three));
    let total =
        |before: &[usize], after: &[usize]| after.iter().sum::<usize>() - before.iter().sum::<usize>();
    let (alone, together) = (total(&before.0, &after.0), total(&before.1, &after.1));
    println!(
        "a hundred providers in 15 s of refreshes every 3 s: one replica {alone} fetches, three {together}"
    );
    assert!(alone >= 3 * IDPS, "{alone}");
    // A third more is far from three times as many.
    assert!(together <= alone * 4 / 3, "{together} instead of {alone}");
    for replica in three.iter().chain(&one) {
        assert!(serves(replica, "i0") && serves(replica, "i99"));
    }
    for replica in &three {
        let adopted = replica.log();
        assert!(!adopted.contains("panicked"));
    }
}

#[test]
fn the_one_that_fetches_may_be_killed() {
    let (redis, idp) = (RedisServer::start(), IdpServer::spawn());
    let yaml = yaml(&redis, &idp, 1, "1h");
    idp.behave(HELD, Behaviour::HangBeforeHeaders);
    let mut first = Replica::start_unready(&yaml);
    wait_for("it asks", || idp.hits(HELD) > 0);
    let others = [0, 1].map(|_| Replica::start_unready(&yaml));
    first.kill();
    let (asked, began) = (idp.hits(HELD), now());
    idp.behave(HELD, Behaviour::normal());
    wait_for("the others have the keys", || {
        others.iter().all(|other| serves(other, "i0"))
    });
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(idp.hits(HELD), asked + 1);
}

#[test]
fn what_a_replica_took_over_it_has_without_redis_and_provider() {
    let (mut redis, idp) = (RedisServer::start(), IdpServer::spawn());
    let yaml = yaml(&redis, &idp, 1, "1h");
    let mut both = replicas(2, &yaml);
    assert_eq!(idp.hits(HELD), 1, "one fetched and the other took over");
    // What is written comes a moment after what is served.
    pause(Duration::from_secs(1));
    both.iter_mut().for_each(Replica::kill);
    redis.kill();
    idp.behave(HELD, Behaviour::Close);
    for replica in &mut both {
        replica.start_again();
        wait_for("it serves the keys", || serves(replica, "i0"));
        assert!(!replica.is_ready());
    }
}
