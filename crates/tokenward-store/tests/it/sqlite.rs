use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use futures_util::future::{join, join_all};
use tokenward_store::{Snapshots as _, Sqlite, StoreErrorKind};
use tokenward_testkit::conformance::snapshot;

pub(crate) fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("tokenward.db")
}

/// Runs SQL on the file of a store that is closed.
pub(crate) fn tamper(directory: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(database(directory)).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("store");
    let store = Sqlite::open(&directory).unwrap();
    store.put(&snapshot("t", "a")).await.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        assert_eq!(mode(&name), 0o600, "{name:?}");
    }
}

#[test]
fn one_holder_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    let error = Sqlite::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked);
    let text = error.to_string();
    assert!(text.contains("another process holds"), "{text}");
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
    drop(store);
    Sqlite::open(directory.path()).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        database(directory.path()),
        "not a database, and rather long: ".repeat(100),
    )
    .unwrap();
    let error = Sqlite::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(
        error.to_string().contains("away to start with an empty store"),
        "{error}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Sqlite::open(&file.join("store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Io);
    assert!(error.to_string().contains("file/store"), "{error}");
}

#[tokio::test]
async fn a_torn_last_write_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    for n in 0..20 {
        store.put(&snapshot("t", &format!("{n:02}"))).await.unwrap();
    }
    // As a crash in the middle of the next commit leaves it: half of a page behind the good ones.
    for name in ["tokenward.db", "tokenward.db-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let mut log = OpenOptions::new()
        .append(true)
        .open(copy.path().join("tokenward.db-wal"))
        .unwrap();
    log.write_all(&[0x5a; 2000]).unwrap();
    let recovered = Sqlite::open(copy.path()).unwrap();
    assert_eq!(recovered.load_all().await.unwrap().len(), 20);
}

#[tokio::test]
async fn calls_that_were_made_at_once_take_effect_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    let idp = snapshot("t", "idp");
    for _ in 0..20 {
        let (put, removed) = join(store.put(&idp), store.remove("t", "idp")).await;
        put.unwrap();
        removed.unwrap();
        assert_eq!(store.get("t", "idp").await.unwrap(), None);
        let (removed, put) = join(store.remove("t", "idp"), store.put(&idp)).await;
        put.unwrap();
        removed.unwrap();
        assert!(store.get("t", "idp").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn more_calls_than_the_queue_holds_are_all_served() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    let snapshots: Vec<_> = (0..3000).map(|n| snapshot("t", &format!("{n:04}"))).collect();
    let results = join_all(snapshots.iter().map(|snapshot| store.put(snapshot))).await;
    assert!(results.into_iter().all(|result| result.is_ok()));
    drop(store);
    let store = Sqlite::open(directory.path()).unwrap();
    assert_eq!(store.load_all().await.unwrap(), snapshots);
}

#[tokio::test]
async fn dropping_it_finishes_what_was_queued() {
    use futures_util::FutureExt as _;
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    // Queued by the first poll, and nobody waits for the answer.
    for n in 0..50 {
        let _ = store.put(&snapshot("t", &format!("{n:02}"))).now_or_never();
    }
    drop(store);
    let store = Sqlite::open(directory.path()).unwrap();
    assert_eq!(store.load_all().await.unwrap().len(), 50);
}

#[tokio::test]
async fn a_database_that_refuses_writes_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    store.put(&snapshot("t", "a")).await.unwrap();
    drop(store);
    tamper(
        directory.path(),
        "CREATE TRIGGER refuse BEFORE INSERT ON snapshot BEGIN SELECT RAISE(ABORT, 'refused'); END",
    );
    let store = Sqlite::open(directory.path()).unwrap();
    let error = store.put(&snapshot("t", "b")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Io);
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("refused")
    );
    assert_eq!(store.load_all().await.unwrap(), [snapshot("t", "a")]);
}

/// How many commits the log holds: a frame with the size of the database ends each.
fn commits(directory: &Path) -> usize {
    let log = fs::read(directory.join("tokenward.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks_exact(24 + page);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn many_snapshots_that_are_stored_together_are_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    let before = commits(directory.path());
    let many: Vec<_> = (0..256).map(|n| snapshot("t", &n.to_string())).collect();
    store.put_all(many).await.unwrap();
    assert_eq!(commits(directory.path()), before + 1);
    assert_eq!(store.load_all().await.unwrap().len(), 256);
}
