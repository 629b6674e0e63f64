use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

use futures_util::future::{join, join_all};
use tokenward_store::{Ledger as _, PutIdp, Snapshots as _, Sqlite, StoreErrorKind};
use tokenward_testkit::conformance::{audit_record, snapshot, stored_idp};

fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("tokenward.db")
}

/// Runs SQL on the file of a store that is closed.
fn tamper(directory: &Path, sql: &str) {
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
fn a_newer_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(Sqlite::open(directory.path()).unwrap());
    tamper(directory.path(), "PRAGMA user_version = 99");
    let before = fs::read(database(directory.path())).unwrap();
    let error = Sqlite::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(fs::read(database(directory.path())).unwrap(), before);
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

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An acknowledged provider is no cache: to start without it would refuse its tokens as if it had never been.
#[tokio::test]
async fn a_damaged_idp_is_an_error_that_names_it_until_it_is_put_again() {
    for garble in [
        "document = '{}'",
        "changed_at = changed_at + 1",
        "tenant = 'u'",
        "name = 'x'",
        "digest = zeroblob(32)",
        "digest = zeroblob(31)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        for name in ["a", "b", "c"] {
            store.put_idp(&stored_idp("t", name), 9).await.unwrap();
        }
        drop(store);
        tamper(
            directory.path(),
            &format!("UPDATE idp SET {garble} WHERE name = 'b'"),
        );
        let store = Sqlite::open(directory.path()).unwrap();
        let error = store.idps().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garble}");
        let text = error.to_string();
        assert!(text.contains("1 of 3 identity providers"), "{text}");
        assert!(
            ["`b` of tenant", "`x` of tenant", "row 2 ("]
                .iter()
                .any(|name| text.contains(name)),
            "{text}"
        );
        assert!(text.contains("Put a backup in its place"), "{text}");
        // What is put again replaces the damaged row, and what was damaged can be removed.
        let (tenant, name) = match garble {
            "tenant = 'u'" => ("u", "b"),
            "name = 'x'" => ("t", "x"),
            _ => ("t", "b"),
        };
        let again = stored_idp(tenant, name);
        assert_eq!(store.put_idp(&again, 0).await.unwrap(), PutIdp::Replaced);
        assert_eq!(
            store.idps().await.unwrap(),
            [stored_idp("t", "a"), again, stored_idp("t", "c")]
        );
    }
}

#[tokio::test]
async fn a_damaged_audit_record_is_left_out_of_the_log() {
    for garble in [
        "at = at + 1",
        "who = 'x'",
        "address = ''",
        "action = target, target = action",
        "outcome = 'ok '",
        "digest = zeroblob(31)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        let records = ["a", "b", "c"].map(audit_record);
        store.append_audit(&records).await.unwrap();
        drop(store);
        tamper(
            directory.path(),
            &format!("UPDATE audit SET {garble} WHERE target = 'b'"),
        );
        let store = Sqlite::open(directory.path()).unwrap();
        let page = store.audit(None, 2).await.unwrap();
        let targets: Vec<_> = page.iter().map(|(_, record)| record.target.as_str()).collect();
        assert_eq!(targets, ["c", "a"], "{garble}");
    }
}

/// Each statement garbles one field; the digest is over all of them.
#[tokio::test]
async fn a_damaged_row_is_skipped_with_a_warning_and_the_rest_is_there() {
    // The store's thread has no subscriber of its own: this one is for the process, which is this test's.
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    for garble in [
        "body = CAST('{}' AS BLOB)",
        "url = 'https://evil.test'",
        "etag = NULL",
        "last_modified = etag, etag = last_modified",
        "fetched_at = fetched_at + 1",
        "upstream_max_age = NULL",
        "upstream_max_age = -1",
        "config_hash = zeroblob(32)",
        "config_hash = zeroblob(31)",
        "digest = zeroblob(32)",
        "tenant = 'u'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        for name in ["a", "b", "c"] {
            store.put(&snapshot("t", name)).await.unwrap();
        }
        drop(store);
        tamper(
            directory.path(),
            &format!("UPDATE snapshot SET {garble} WHERE name = 'b'"),
        );
        log.0.lock().unwrap().clear();
        let store = Sqlite::open(directory.path()).unwrap();
        let all = store.load_all().await.unwrap();
        assert_eq!(all, [snapshot("t", "a"), snapshot("t", "c")], "{garble}");
        for tenant in ["t", "u"] {
            assert_eq!(store.get(tenant, "b").await.unwrap(), None, "{garble}");
        }
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("WARN"), "{garble}: {text}");
        assert!(text.contains("Skipping a damaged snapshot"), "{garble}: {text}");
        // It can be put again.
        store.put(&snapshot("t", "b")).await.unwrap();
        assert_eq!(store.get("t", "b").await.unwrap(), Some(snapshot("t", "b")));
    }
}

#[tokio::test]
async fn a_damaged_page_takes_only_its_own_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    for n in 0..200 {
        let mut snapshot = snapshot("t", &format!("{n:03}"));
        snapshot.body = format!("marker-{n:03} ").repeat(80).into_bytes();
        store.put(&snapshot).await.unwrap();
    }
    drop(store);
    // The header of the page that holds the body of one of them.
    let bytes = fs::read(database(directory.path())).unwrap();
    let at = bytes
        .windows(10)
        .position(|window| window == b"marker-100")
        .unwrap();
    let mut file = OpenOptions::new()
        .write(true)
        .open(database(directory.path()))
        .unwrap();
    file.seek(SeekFrom::Start((at / 4096 * 4096) as u64)).unwrap();
    file.write_all(&[0xff; 64]).unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    let left = store.load_all().await.unwrap();
    assert!((150..200).contains(&left.len()), "{}", left.len());
    assert!(left.iter().all(|snapshot| snapshot.name != "100"));
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
