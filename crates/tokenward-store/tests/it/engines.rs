use tokenward_store::{Memory, Snapshots as _, Sqlite};
use tokenward_testkit::conformance::{self, snapshot};

#[tokio::test]
async fn memory_conforms() {
    conformance::snapshots(&Memory::new()).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::snapshots(&Sqlite::open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn sqlite_conforms_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    for _ in 0..2 {
        conformance::snapshots(&Sqlite::open(&path).unwrap()).await;
    }
    let store = Sqlite::open(&path).unwrap();
    store.put(&snapshot("t", "kept")).await.unwrap();
    drop(store);
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.load_all().await.unwrap(), [snapshot("t", "kept")]);
}
