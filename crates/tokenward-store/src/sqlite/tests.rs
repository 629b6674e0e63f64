use std::{path::Path, time::Duration};

use rusqlite::{Connection, StatementStatus, params_from_iter};
use tokenward_core::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Sqlite, audit, family, file, idp, revocation, snapshot as row,
    writer::{self, Answer, Command, Health},
};
use crate::{Family, Snapshot, Snapshots as _, StoreErrorKind, StoredIdp};

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

fn healthy() -> Health {
    Health {
        healthy: true.into(),
        probing: false.into(),
    }
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
    writer::run(opened, &healthy(), commands);
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
    writer::run(opened, &healthy(), commands);

    let stored: i64 = reader.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(u64::try_from(stored), Ok(WRITES));
    // A commit writes at least two pages of 4 KiB: one of the table, one of its index.
    let written = wal.metadata().unwrap().len() - before;
    assert!(written < WRITES * 4096, "{written} bytes for {WRITES} writes");
}

/// The statements that run often, or over tables that grow, go by an index and sort nothing.
#[test]
fn statements_over_large_tables_use_their_index() {
    let directory = tempfile::tempdir().unwrap();
    let opened = file::open(directory.path()).unwrap();
    for (statement, index) in [
        (
            family::DUE,
            "SEARCH family USING INDEX family_due (next_renewal<?)",
        ),
        (family::NEXT_DUE, "USING COVERING INDEX family_due"),
        (
            family::EXPIRED,
            "USING COVERING INDEX family_expired (expires_at<?)",
        ),
        (
            family::AFTER,
            "USING INDEX sqlite_autoindex_family_1 (parent_jti>?)",
        ),
        (revocation::AFTER, "USING INTEGER PRIMARY KEY (rowid>?)"),
        (
            revocation::EXPIRED,
            "USING COVERING INDEX revocation_expired (expires_at<?)",
        ),
        (revocation::BY_RULE, "(issuer=? AND kind=? AND value=?)"),
        (audit::BEFORE, "USING INTEGER PRIMARY KEY (rowid<?)"),
        (
            audit::OVER,
            "USING COVERING INDEX audit_of_kind (action=? AND <expr>=?)",
        ),
        (
            family::ACTIVE,
            "USING COVERING INDEX family_expired (expires_at<?)",
        ),
    ] {
        let mut explain = opened
            .connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        let parameters = params_from_iter(vec![0; explain.parameter_count()]);
        let plan: Vec<String> = explain
            .query_map(parameters, |row| row.get("detail"))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{statement}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{statement}: {plan}");
    }
}

/// How many steps of SQLite's machine it takes to find what is due, and how many parents and providers there are.
fn steps(others: i64) -> [i32; 4] {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = file::open(directory.path()).unwrap();
    let transaction = opened.connection.transaction().unwrap();
    for n in 0..others {
        open(&transaction, &format!("{n}"), 1000 + n);
        let idp = StoredIdp {
            tenant: String::new(),
            name: n.to_string(),
            document: String::new(),
            changed_at: Timestamp::default(),
        };
        idp::put(&transaction, &idp, usize::MAX).unwrap();
    }
    for n in 0..3 {
        open(&transaction, &format!("due-{n}"), n);
    }
    transaction.commit().unwrap();
    [
        (family::DUE, 3),
        (family::NEXT_DUE, 1),
        (family::ACTIVE, 1),
        (idp::COUNT, 1),
    ]
    .map(|(sql, found)| {
        let mut statement = opened.connection.prepare(sql).unwrap();
        let now = vec![500_000; sql.matches('?').count()];
        let rows = statement.query_map(params_from_iter(now), |_| Ok(())).unwrap();
        assert_eq!(rows.count(), found);
        statement.get_status(StatementStatus::VmStep)
    })
}

fn open(connection: &Connection, parent_jti: &str, due: i64) {
    let family = Family {
        parent_jti: parent_jti.to_owned(),
        user_id: String::new(),
        profile: Vec::new(),
        expires_at: Timestamp::MAX,
        sequence: 0,
        latest: None,
        next_renewal: Some(Timestamp::from_secs(due)),
    };
    family::open(connection, &family).unwrap();
}

#[test]
fn what_it_costs_to_find_the_due_does_not_depend_on_the_others() {
    assert_eq!(steps(10), steps(5_000));
}
