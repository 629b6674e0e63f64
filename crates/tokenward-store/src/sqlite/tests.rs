use std::{path::Path, time::Duration};

use tokenward_core::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Sqlite, file, snapshot as row,
    writer::{self, Answer, Command},
};
use crate::{Snapshot, Snapshots as _, StoreErrorKind};

fn snapshot(name: &str, bytes: usize) -> Snapshot {
    Snapshot {
        tenant: "default".to_owned(),
        name: name.to_owned(),
        url: "https://idp.test/jwks".to_owned(),
        config_hash: [7; 32],
        body: vec![b'x'; bytes],
        etag: None,
        last_modified: None,
        fetched_at: Timestamp::from_secs(1),
        upstream_max_age: Some(Duration::from_secs(60)),
    }
}

fn put(snapshot: Snapshot, answer: Answer<()>) -> Command {
    writer::write(move |connection| Ok(row::put(connection, &snapshot)?), answer)
}

/// A store whose file may grow by `pages` only.
fn small(directory: &Path, pages: u32) -> Sqlite {
    let opened = file::open(directory).unwrap();
    let used: u32 = opened
        .connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {}", used + pages);
    opened
        .connection
        .query_row(&limit, [], |row| row.get::<_, u32>(0))
        .unwrap();
    Sqlite::start(opened).unwrap()
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(directory.path(), 8);
    store.put(&snapshot("small", 100)).await.unwrap();

    let error = store.put(&snapshot("large", 100_000)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Io);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(std::error::Error::source(&error).is_some());

    assert!(store.get("default", "large").await.unwrap().is_none());
    assert!(store.get("default", "small").await.unwrap().is_some());
    store.put(&snapshot("small too", 100)).await.unwrap();
}

#[test]
fn one_write_that_fails_does_not_fail_those_that_wait_with_it() {
    let directory = tempfile::tempdir().unwrap();
    drop(Sqlite::open(directory.path()).unwrap());
    let opened = file::open(directory.path()).unwrap();
    let limit = "PRAGMA max_page_count = 12";
    opened
        .connection
        .query_row(limit, [], |row| row.get::<_, u32>(0))
        .unwrap();

    let (queue, commands) = mpsc::channel(8);
    let mut answers = Vec::new();
    for (name, bytes) in [("a", 100), ("b", 100_000), ("c", 100)] {
        let (answer, answered) = oneshot::channel();
        assert!(queue.try_send(put(snapshot(name, bytes), answer)).is_ok());
        answers.push(answered);
    }
    drop(queue);
    writer::run(opened, commands);
    let stored: Vec<bool> = answers
        .into_iter()
        .map(|answered| answered.blocking_recv().unwrap().is_ok())
        .collect();
    assert_eq!(stored, [true, false, true]);
}

#[test]
fn writes_that_wait_together_share_a_commit() {
    const WRITES: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let opened = file::open(directory.path()).unwrap();
    let wal = directory.path().join("tokenward.db-wal");
    let before = wal.metadata().unwrap().len();
    // A second connection keeps the log from being folded away at close.
    let reader = rusqlite::Connection::open(directory.path().join("tokenward.db")).unwrap();
    let count = "SELECT count(*) FROM snapshot";
    let _: i64 = reader.query_row(count, [], |row| row.get(0)).unwrap();

    let (queue, commands) = mpsc::channel(256);
    for index in 0..WRITES {
        let write = put(snapshot(&index.to_string(), 10), oneshot::channel().0);
        assert!(queue.try_send(write).is_ok());
    }
    drop(queue);
    writer::run(opened, commands);

    let stored: i64 = reader.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(u64::try_from(stored), Ok(WRITES));
    // A commit writes at least two pages of 4 KiB: one of the table, one of its index.
    let written = wal.metadata().unwrap().len() - before;
    assert!(written < WRITES * 4096, "{written} bytes for {WRITES} writes");
}
