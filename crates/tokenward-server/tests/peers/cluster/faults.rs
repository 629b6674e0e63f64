//! Rounds of whatever may happen to replicas and their store: what was acknowledged is never lost, and what was refused never
//! accepted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokenward_testkit::RedisServer;

use super::history::History;
use super::{Replica, Upstream, durable_redis, now, pause, replicas};
use crate::child::wait_for;

/// Where `scripts/soak cluster` does not say how many.
const ROUNDS: usize = 20;
/// Of earlier revocations as many are looked at after each round, so that a long run does not take ever longer.
const LOOKED_AT: usize = 300;
/// Within this the store has again what it lost, and every replica knows it.
const REASSERTED: Duration = Duration::from_secs(5);

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillReplica,
    Flush,
    KillRedis,
    RestoreOldDump,
    PauseRedis,
    PauseReplica,
}

const FAULTS: [Fault; 6] = [
    Fault::Flush,
    Fault::KillRedis,
    Fault::KillReplica,
    Fault::RestoreOldDump,
    Fault::PauseRedis,
    Fault::PauseReplica,
];

/// The directory of the server's append-only files.
fn kept(redis: &RedisServer) -> PathBuf {
    let answer = redis.text(&["CONFIG", "GET", "dir"]);
    let directory = answer.lines().nth(1).unwrap();
    Path::new(directory).join("appendonlydir")
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a long run says how many")]
fn rounds() -> usize {
    std::env::var("TOKENWARD_CLUSTER_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

#[test]
fn acknowledged_revocations_survive_every_fault_and_stay_refused() {
    let rounds = rounds();
    let (mut redis, upstream) = (durable_redis(), Upstream::start());
    // A pause of the store is no reason to deny everything here.
    let mut replicas = replicas(
        3,
        &upstream.yaml(&redis.url(), "revocation: { max_staleness: 60 }\n"),
    );
    let mut history = History::default();
    let mut slowest = Duration::ZERO;
    let backup = tempfile::tempdir().unwrap();
    let old = backup.path().join("old");
    copy(&kept(&redis), &old);
    for round in 0..rounds {
        let fault = FAULTS[round % FAULTS.len()];
        let victim = round / FAULTS.len() % replicas.len();
        // Some before, of which some reach the others only by the store.
        let mut taken = 0;
        for n in 0..9 {
            taken += usize::from(history.revoke(&upstream, &replicas[n % replicas.len()]));
        }
        assert_eq!(taken, 9, "round {round}: all is well");
        match fault {
            Fault::KillReplica => {
                replicas[victim].kill();
                let other = (victim + 1) % replicas.len();
                history.revoke(&upstream, &replicas[other]);
                replicas[victim].start_again();
            }
            Fault::Flush => redis.flush(),
            Fault::KillRedis => {
                redis.kill();
                history.revoke(&upstream, &replicas[victim]);
                redis.start_again();
            }
            Fault::RestoreOldDump => {
                let place = kept(&redis);
                redis.kill();
                copy(&old, &place);
                redis.start_again();
            }
            Fault::PauseRedis => {
                redis.pause();
                history.revoke(&upstream, &replicas[victim]);
                pause(Duration::from_millis(1_500));
                redis.go_on();
            }
            Fault::PauseReplica => {
                replicas[victim].signal(Signal::STOP);
                let other = (victim + 1) % replicas.len();
                history.revoke(&upstream, &replicas[other]);
                redis.flush();
                pause(Duration::from_millis(700));
                replicas[victim].signal(Signal::CONT);
            }
        }
        // While it is not over yet, what was refused is.
        for (number, replica) in replicas.iter().enumerate() {
            if replica.is_ready() && !matches!(fault, Fault::PauseReplica) {
                history.missing(number, replica, 9);
            }
        }
        replicas.iter().for_each(Replica::wait_until_ready);
        if matches!(fault, Fault::KillReplica) {
            let missing = history.missing(victim, &replicas[victim], LOOKED_AT);
            assert_eq!(
                missing, 0,
                "round {round}: it knows everything before it is ready"
            );
        }
        let ended = now();
        for (number, replica) in replicas.iter().enumerate() {
            while history.missing(number, replica, LOOKED_AT) > 0 {
                assert!(
                    ended.elapsed() < REASSERTED,
                    "round {round}, {fault:?}: lost at {number}"
                );
                pause(Duration::from_millis(50));
            }
        }
        slowest = slowest.max(ended.elapsed());
        wait_for("every replica follows the store", || {
            replicas.iter().all(|replica| replica.health().1 == "connected")
        });
        // What the store lost is there again: one who comes new learns of all of it.
        if round % 5 == 4 {
            let new = Replica::start(&upstream.yaml(&redis.url(), ""));
            assert_eq!(
                history.missing(1_000 + round, &new, LOOKED_AT),
                0,
                "round {round}: one that is new"
            );
            // And the next restored dump is not always the oldest.
            copy(&kept(&redis), &old);
        }
    }
    let (acknowledged, looks) = (history.acknowledged(), history.looks);
    let written: f64 = replicas
        .iter()
        .map(|replica| replica.metric("tokenward_store_reasserted_total"))
        .sum();
    println!(
        "{rounds} rounds, {acknowledged} revocations acknowledged, {looks} looks, {written} records written back, all known again \
         {slowest:?} after a fault at the latest"
    );
    assert!(written > 0.0 || rounds < 2);
}
