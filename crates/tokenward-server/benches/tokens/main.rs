//! What it costs to issue tokens. `bench/tokens` runs it; `docs/performance.md` has its figures.
//!
//! The real program is called over loopback by 64 connections. Durable pairs stand beside bare SQLite commits of the
//! same rows, single tokens beside the bare signature; the two take turns, and medians are compared.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

mod bare;
mod client;

use std::{path::Path, process::ExitCode, time::Duration};

use client::Program;
use tokenward_testkit::bench::Rows;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;
/// Pairs in a second, to bare rows in a second.
const PAIRS_GOAL: f64 = 0.50;
/// Tokens for each second of the program's processor time, to bare signatures for each.
const SINGLE_GOAL: f64 = 0.95;

fn main() -> ExitCode {
    let mut rows = Rows::default();
    rows.at_least(
        "durable pairs in a second, to bare commits of the same rows",
        pairs(),
        PAIRS_GOAL,
    );
    rows.at_least(
        "RS256 tokens for each second of work, to bare signatures",
        single(),
        SINGLE_GOAL,
    );
    if rows.are_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn pairs() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), "ES256");
    // What is connected and compiled for the first time is not counted.
    program.rate("/token-pairs", CONNECTIONS, Duration::from_secs(1));
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut rows = bare::Rows::like(&directory.path().join("data/tokenward.db"), directory.path());
    for _ in 0..ROUNDS {
        ours.push(program.rate("/token-pairs", CONNECTIONS, ROUND).0);
        bare.push(rows.rate(CONNECTIONS, ROUND));
    }
    let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "pairs, ES256, {CONNECTIONS} connections: {ours:.0}/s; the same rows bare, {CONNECTIONS} to a commit: {bare:.0}/s"
    );
    ratio
}

fn single() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), "RS256");
    program.rate("/tokens", CONNECTIONS, Duration::from_secs(1));
    let (mut ours, mut seconds, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (rate, for_each_cpu_second) = program.rate("/tokens", CONNECTIONS, ROUND);
        ours.push(for_each_cpu_second);
        seconds.push(rate);
        bare.push(bare::signatures(ROUND));
    }
    let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
    let (ours, seconds, bare) = (median(ours), median(seconds), median(bare));
    println!(
        "tokens, RS256, {CONNECTIONS} connections: {seconds:.0}/s; for each second of the program's processor time \
         {ours:.0}, bare signatures {bare:.0}"
    );
    ratio
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of processor time that a process or a thread has used, by its `stat`.
fn cpu_seconds(stat: &Path) -> f64 {
    let text = std::fs::read_to_string(stat).unwrap();
    // After the name, which may hold anything: user and system time are the 12th and 13th, in hundredths.
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
