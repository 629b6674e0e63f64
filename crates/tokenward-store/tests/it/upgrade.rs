//! Stores of other versions of the program.

use std::{fs, path::Path};

use tokenward_core::Timestamp;
use tokenward_store::{Ledger as _, PutIdp, Snapshots as _, Sqlite, StoreErrorKind};
use tokenward_testkit::conformance::{snapshot, stored_idp};

use crate::sqlite::{database, tamper};

/// Each was written by the program of its time.
const OLDER: [(i64, &str); 3] = [
    (1, include_str!("../fixtures/version-1.sql")),
    (2, include_str!("../fixtures/version-2.sql")),
    (3, include_str!("../fixtures/version-3.sql")),
];
/// How many families, revocations and records of the audit log they have.
const HELD: [[usize; 3]; 3] = [[0, 0, 0], [2, 1, 7], [2, 1, 7]];

pub(crate) fn make(directory: &Path, dump: &str) {
    let connection = rusqlite::Connection::open(database(directory)).unwrap();
    connection
        .execute_batch(&format!("PRAGMA journal_mode = WAL; {dump}"))
        .unwrap();
}

pub(crate) fn version(file: &Path) -> i64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn every_older_store_is_upgraded_and_keeps_its_content() {
    let fresh = tempfile::tempdir().unwrap();
    drop(Sqlite::open(fresh.path()).unwrap());
    let newest = version(&database(fresh.path()));
    assert_eq!(
        OLDER.len() as i64,
        newest - 1,
        "each older version has its store here"
    );

    for ((number, dump), held) in OLDER.into_iter().zip(HELD) {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path(), dump);
        assert_eq!(version(&database(directory.path())), number);
        for _ in 0..2 {
            let store = Sqlite::open(directory.path()).unwrap();
            let mut sets = store.load_all().await.unwrap();
            sets.sort_by(|a, b| a.name.cmp(&b.name));
            let names: Vec<_> = sets.iter().map(|set| set.name.as_str()).collect();
            assert_eq!(names, ["one", "two"], "version {number}");
            for set in &sets {
                assert_eq!(set.tenant, "default");
                assert!(set.url.starts_with("http://127.0.0.1:18477/jwks"), "{}", set.url);
                assert_eq!(set.body.len(), 174);
                assert!(set.body.starts_with(b"{\"keys\":[{\"kty\":\"EC\""));
                assert_eq!(
                    set.last_modified.as_deref(),
                    Some("Wed, 25 Nov 2026 17:34:07 GMT")
                );
                assert!(set.fetched_at > Timestamp::from_secs(1_795_628_000));
            }
            assert_eq!(
                [
                    store.active_families(Timestamp::default()).await.unwrap(),
                    store.revocations(0, 9).await.unwrap().len(),
                    store.audit(None, 99).await.unwrap().len(),
                ],
                held
            );
            // And it does what a new one does.
            assert_eq!(
                store.put_idp(&stored_idp("t", "a"), 9).await.unwrap(),
                PutIdp::Created
            );
            assert!(store.remove_idp("t", "a").await.unwrap());
        }
        assert_eq!(version(&database(directory.path())), newest);
    }
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_byte_for_byte() {
    // As a process that was killed left it: its last commits are in the log alone.
    let living = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(living.path()).unwrap();
    store.put(&snapshot("t", "a")).await.unwrap();
    tamper(living.path(), "PRAGMA user_version = 99");
    let files = ["tokenward.db", "tokenward.db-wal"];
    for name in files {
        fs::copy(living.path().join(name), directory.path().join(name)).unwrap();
    }
    let content = || files.map(|name| fs::read(directory.path().join(name)).unwrap());
    let before = content();
    assert!(before.iter().all(|bytes| !bytes.is_empty()));

    let error = Sqlite::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(error.to_string().contains("version 99"), "{error}");
    assert!(error.to_string().contains("versions up to 4"), "{error}");
    assert!(content() == before, "the files changed");

    // Nor does a backup of it pass for one, or a restore.
    let to = directory.path().join("backup");
    let error = Sqlite::backup(directory.path(), &to).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    let error = Sqlite::restore(&database(directory.path()), &directory.path().join("new")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(content() == before, "the files changed");
}
