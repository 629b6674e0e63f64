use tokenward_store::{Ledger as _, Memory, PutIdp, Snapshots as _, Sqlite};
use tokenward_testkit::conformance::{self, snapshot, stored_idp};

#[tokio::test]
async fn memory_conforms() {
    conformance::snapshots(&Memory::new()).await;
    conformance::ledger(&Memory::new()).await;
    conformance::tokens(&Memory::new()).await;
    conformance::reopening(&Memory::new()).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    conformance::snapshots(&store).await;
    conformance::ledger(&store).await;
    conformance::tokens(&store).await;
    // It loses nothing: what is not there was revoked.
    let lost = conformance::family("lost", None);
    assert!(!store.reopen_family("https://idp.test", &lost).await.unwrap());
    assert_eq!(store.family("lost").await.unwrap(), None);
}

#[tokio::test]
async fn sqlite_conforms_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    for _ in 0..2 {
        let store = Sqlite::open(&path).unwrap();
        conformance::snapshots(&store).await;
        conformance::ledger(&store).await;
        conformance::tokens(&store).await;
    }
    let store = Sqlite::open(&path).unwrap();
    store.put(&snapshot("t", "kept")).await.unwrap();
    store.put_idp(&stored_idp("t", "kept"), 1).await.unwrap();
    let audit = store.audit(None, 5).await.unwrap();
    drop(store);
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.load_all().await.unwrap(), [snapshot("t", "kept")]);
    assert_eq!(store.idps().await.unwrap(), [stored_idp("t", "kept")]);
    assert_eq!(
        store.put_idp(&stored_idp("t", "b"), 1).await.unwrap(),
        PutIdp::Full
    );
    assert_eq!(store.audit(None, 5).await.unwrap(), audit);
}
