//! A start with all key sets in the store and every provider down, beside reading the same rows bare.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};
use tokenward_testkit::bench::{Instant, Rows, median};

use crate::{
    keys::KeyServer,
    program::{Program, configure, name},
};

const ROUNDS: usize = 5;
/// From the program's start until it is ready, to reading the same rows.
const LIMIT: f64 = 3.0;

pub(crate) fn run(n: usize, rows: &mut Rows) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(n, rows));
}

async fn measure(n: usize, rows: &mut Rows) {
    let directory = tempfile::tempdir().unwrap();
    let server = KeyServer::start(n);
    // So short that every set is due again at the second start, and every fetch of it fails.
    configure(directory.path(), &server, n, Duration::from_secs(5));
    let mut program = Program::start(directory.path());
    program.until_asked(&server, n).await;
    while stored(directory.path()) < n {
        tokenward_testkit::bench::pause(Duration::from_millis(50)).await;
    }
    program.terminate();
    drop(server);

    let (mut bare, mut ready, mut serving) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let rows = read_bare(&directory.path().join("tokenward-data").join("tokenward.db"));
        bare.push(began.elapsed());
        assert_eq!(rows, n);
        let mut program = Program::start(directory.path());
        program.until_ok("/readyz").await;
        ready.push(program.started.elapsed());
        for idp in [0, n / 2, n - 1] {
            let status = program.ask(&format!("/jwks/{}", name(idp))).await;
            assert_eq!(status, Some(200), "ready without the keys of {}", name(idp));
        }
        serving.push(program.started.elapsed());
        program.terminate();
    }
    println!("{n} stored key sets of two RSA-2048 keys, every identity provider down");
    println!(
        "  ready {:.2} s after the program's start, keys served after {:.2} s; reading the same rows bare takes {:.2} s",
        median(&ready).as_secs_f64(),
        median(&serving).as_secs_f64(),
        median(&bare).as_secs_f64(),
    );
    let ratios: Vec<_> = ready
        .iter()
        .zip(&bare)
        .map(|(ready, bare)| ready.div_duration_f64(*bare))
        .map(Duration::from_secs_f64)
        .collect();
    rows.at_most(
        &format!("ready with {n} stored sets, to reading the rows bare"),
        median(&ratios).as_secs_f64(),
        LIMIT,
    );
}

fn open(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn stored(directory: &Path) -> usize {
    let connection = open(&directory.join("tokenward-data").join("tokenward.db"));
    let count: i64 = connection
        .query_row("SELECT count(*) FROM snapshot", [], |row| row.get(0))
        .unwrap();
    usize::try_from(count).unwrap()
}

/// Reads every member of every row into memory of our own.
fn read_bare(file: &Path) -> usize {
    let connection = open(file);
    let mut select = connection
        .prepare("SELECT tenant, name, url, config_hash, body, etag, fetched_at FROM snapshot ORDER BY tenant, name")
        .unwrap();
    let rows = select.query_map([], |row| {
        let texts: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let bytes: [Vec<u8>; 2] = [row.get(3)?, row.get(4)?];
        let rest: (Option<String>, i64) = (row.get(5)?, row.get(6)?);
        Ok((texts, bytes, rest))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    rows.len()
}
