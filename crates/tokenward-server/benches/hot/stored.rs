//! Reading the revocations at a start, beside reading the same rows bare.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OpenFlags};
use tokenward::{Clock as _, SystemClock, Timestamp};
use tokenward_store::{Ledger as _, Revocation, RevocationRule, Sqlite};
use tokenward_testkit::bench::{Instant, Rows, compare};

const ROUNDS: usize = 5;
/// Written at once.
const TOGETHER: usize = 500;

pub(crate) fn run(n: usize, rows: &mut Rows) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    println!("storing {n} revocations");
    runtime.block_on(store(directory.path(), n));
    let seen = compare(
        ROUNDS,
        || {
            let began = Instant::now();
            let read = runtime.block_on(async {
                let ledger = Arc::new(Sqlite::open(directory.path()).unwrap());
                tokenward_server::bench::revocations(ledger, Arc::new(SystemClock::new())).await
            });
            let took = began.elapsed().as_secs_f64();
            assert_eq!(read.unwrap(), n);
            took
        },
        || {
            let began = Instant::now();
            let read = read_bare(&directory.path().join("tokenward.db"));
            let took = began.elapsed().as_secs_f64();
            assert_eq!(read, n);
            took
        },
    );
    println!(
        "{n} stored revocations in force after {:.2} s; the rows bare {:.2} s",
        seen.one, seen.other
    );
    rows.at_most(
        &format!("{n} stored revocations in force at a start, to reading the rows bare"),
        seen.ratio,
        2.0,
    );
}

/// As the program stores them.
async fn store(directory: &Path, n: usize) {
    let store = Sqlite::open(directory).unwrap();
    let now = SystemClock::new().wall();
    let ends = Timestamp::from_secs(now.as_secs() + 86_400);
    for first in (0..n).step_by(TOGETHER) {
        let records: Vec<_> = (first..n.min(first + TOGETHER))
            .map(|number| Revocation {
                id: format!("Q0Q2eB1q2m0wzv{number:08}"),
                issuer: "https://login.example/tenants/1".to_owned(),
                rule: RevocationRule::Jti(format!("wZ2kVqQ0Q2eB1q2m0wzv7g{number:010}")),
                expires_at: Some(ends),
                created_at: now,
                note: String::new(),
            })
            .collect();
        let writes = records.iter().map(|record| store.revoke(record));
        for written in futures_util::future::join_all(writes).await {
            written.unwrap();
        }
    }
}

/// Reads every member of every row into memory of our own.
fn read_bare(file: &Path) -> usize {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = connection
        .prepare("SELECT sequence, id, issuer, kind, value, time, expires_at, created_at, note, digest FROM revocation")
        .unwrap();
    let rows = select.query_map([], |row| {
        let texts: [String; 5] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(8)?];
        let numbers: (i64, Option<i64>, Option<i64>, i64) =
            (row.get(0)?, row.get(5)?, row.get(6)?, row.get(7)?);
        let digest: Vec<u8> = row.get(9)?;
        Ok(std::hint::black_box((texts, numbers, digest)).0.len())
    });
    rows.unwrap()
        .map(Result::unwrap)
        .filter(|texts| *texts == 5)
        .count()
}
