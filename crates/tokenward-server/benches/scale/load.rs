//! Loading all key sets beside fetching them bare, and what each provider keeps resident.

use std::time::Duration;

use tokenward_testkit::bench::{Rows, median};

use crate::{
    bare,
    keys::KeyServer,
    program::{Program, Usage, configure, name},
};

/// Alternating rounds of loading and of bare fetches.
const ROUNDS: usize = 5;
/// Of the wall time to the bare fetches'.
const LIMIT_RATIO: f64 = 1.5;
/// Resident for each provider, in kB.
const LIMIT_RESIDENT: f64 = 5.0;

pub(crate) fn run(n: usize, rows: &mut Rows) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(n, rows));
}

async fn measure(n: usize, rows: &mut Rows) {
    let server = KeyServer::start(n);
    let directory = tempfile::tempdir().unwrap();
    // Refreshes at a pace that leaves the machine idle in between.
    let interval = Duration::from_secs((n as u64 / 500).max(20));
    let rounds = if n > 20_000 { 1 } else { ROUNDS };

    let (mut bare, mut started, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.push(bare::fetch_all(&server, n).await);
        let before = server.requests().await;
        let (program, parts) = load(&server, directory.path(), n, Duration::from_secs(3_600), before).await;
        println!(
            "round {round}: bare {:.3} s, program {:.3} s of which {:.3} s before the first fetch",
            bare[round].as_secs_f64(),
            parts[1].as_secs_f64(),
            parts[0].as_secs_f64()
        );
        started.push(parts[0]);
        loaded.push(parts[1]);
        drop(program);
        let _ = std::fs::remove_dir_all(directory.path().join("tokenward-data"));
    }
    let ratio = median(&loaded).as_secs_f64() / median(&bare).as_secs_f64();

    let empty = at_rest(&server, 0, interval).await;
    let before = server.requests().await;
    let (mut program, _) = load(&server, directory.path(), n, interval, before).await;
    let fresh = program.usage();
    program.until_asked(&server, before + 4 * n).await;
    let full = program.idle().await;

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let each = |usage: Usage| (usage.resident as f64 - empty.resident as f64) / n as f64;
    println!("{n} identity providers, two RSA-2048 keys each");
    println!(
        "  load: {:.2} s from the program's start, {:.2} s of it before the first fetch; bare fetches {:.2} s; ratio {ratio:.2} (limit {LIMIT_RATIO})",
        median(&loaded).as_secs_f64(),
        median(&started).as_secs_f64(),
        median(&bare).as_secs_f64(),
    );
    println!(
        "  resident for each: {:.2} kB loaded, {:.2} kB after three more rounds (limit {LIMIT_RESIDENT})",
        each(fresh),
        each(full)
    );
    println!("  at rest: without any {empty:?}; with {n} {full:?}");
    rows.at_most(
        &format!("loading {n} providers, to fetching the same bare"),
        ratio,
        LIMIT_RATIO,
    );
    rows.at_most(
        &format!("resident for each of {n} providers, kB"),
        each(full),
        LIMIT_RESIDENT,
    );
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let more = |many: usize, few: usize| many as f64 - few as f64;
    rows.at_most(
        &format!("sockets at rest that {n} providers add"),
        more(full.sockets, empty.sockets),
        0.0,
    );
    rows.at_most(
        &format!("threads at rest that {n} providers add"),
        more(full.threads, empty.threads),
        2.0,
    );
}

/// Starts the program and waits until it has all sets. Gives the time to the first fetch, and to the last set.
async fn load(
    server: &KeyServer,
    directory: &std::path::Path,
    n: usize,
    interval: Duration,
    before: usize,
) -> (Program, [Duration; 2]) {
    configure(directory, server, n, interval);
    let mut program = Program::start(directory);
    program.until_asked(server, before + 1).await;
    let first = program.started.elapsed();
    program.until_asked(server, before + n).await;
    // Asked for is not there yet: the last ones may be in any order, so each is asked for.
    for idp in n.saturating_sub(bare::CONCURRENCY)..n {
        program.until_ok(&format!("/jwks/{}", name(idp))).await;
    }
    let all = program.started.elapsed();
    (program, [first, all])
}

async fn at_rest(server: &KeyServer, n: usize, interval: Duration) -> Usage {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path(), server, n, interval);
    let mut program = Program::start(directory.path());
    program.until_ok("/livez").await;
    program.idle().await
}
