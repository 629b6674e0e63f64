//! Backup, restore and migration.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use tokenward_core::Timestamp;
use tokenward_store::{
    Ledger, Memory, Migrated, Origin, RevocationRule, Snapshots, Sqlite, StoreErrorKind, migrate,
};
use tokenward_testkit::{
    RedisServer,
    conformance::{audit_record, child, family, origin, revocation, snapshot, stored_idp},
};

use crate::{
    redis_ledger::replica,
    sqlite::{database, tamper},
    upgrade,
};

/// Something of everything.
pub(crate) async fn fill(store: &(impl Snapshots + Ledger)) {
    for name in ["b", "a"] {
        store.put(&snapshot("t", name)).await.unwrap();
        store.put_idp(&stored_idp("t", name), 9).await.unwrap();
        store.append_audit(&[audit_record(name)]).await.unwrap();
        store
            .open_family(&family(name, Some(Timestamp::from_secs(5))))
            .await
            .unwrap();
        let rule = RevocationRule::Jti(name.to_owned());
        store.revoke(&revocation(name, rule)).await.unwrap();
    }
    let origin = Origin {
        issuer: "https://own.test".to_owned(),
        ..origin()
    };
    store
        .record_child("a", &origin, 0, &child("c"), None)
        .await
        .unwrap();
    store
        .revoke(&revocation("p", RevocationRule::Parent("gone".to_owned())))
        .await
        .unwrap();
    assert!(store.put_keyring(0, b"keys").await.unwrap());
}

/// Whether two stores hold the same.
pub(crate) async fn same(one: &(impl Snapshots + Ledger), other: &(impl Snapshots + Ledger)) {
    let sets = async |store: &dyn Snapshots| {
        let mut sets = store.load_all().await.unwrap();
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        sets
    };
    assert_eq!(sets(one).await, sets(other).await);
    assert_eq!(one.idps().await.unwrap(), other.idps().await.unwrap());
    let families = one.families("", 9).await.unwrap();
    assert!(!families.is_empty());
    assert_eq!(families, other.families("", 9).await.unwrap());
    assert_eq!(
        one.due_families(Timestamp::MAX, 9).await.unwrap(),
        other.due_families(Timestamp::MAX, 9).await.unwrap()
    );
    let revocations = async |store: &dyn Ledger| {
        let mut page = store.revocations(0, 9).await.unwrap();
        // Those that are copied together get their places as they come.
        page.sort_by(|a, b| a.1.id.cmp(&b.1.id));
        page.into_iter().map(|(_, one)| one).collect::<Vec<_>>()
    };
    assert_eq!(revocations(one).await, revocations(other).await);
    assert_eq!(one.keyring().await.unwrap(), other.keyring().await.unwrap());
    let audit = async |store: &dyn Ledger| {
        let page = store.audit(None, 9).await.unwrap();
        page.into_iter().map(|(_, one)| one).collect::<Vec<_>>()
    };
    assert_eq!(audit(one).await, audit(other).await);
}

#[tokio::test]
async fn a_backup_that_is_restored_holds_all_there_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(&path("store")).unwrap();
    fill(&store).await;
    Sqlite::backup(&path("store"), &path("backup")).unwrap();
    let mode = path("backup").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Nothing lies beside it: it is one file.
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["backup", "store"]);

    // It can be read where nothing can be written beside it, and is not touched.
    let before = fs::read(path("backup")).unwrap();
    Sqlite::restore(&path("backup"), &path("a/new")).unwrap();
    assert!(fs::read(path("backup")).unwrap() == before);
    let restored = Sqlite::open(&path("a/new")).unwrap();
    same(&store, &restored).await;
    assert_eq!(
        path("a/new").metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    let file = database(&path("a/new")).metadata().unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(!path("a/new/unfinished").exists());
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(&path("store")).unwrap();
    fill(&store).await;
    fs::write(path("precious"), "precious").unwrap();
    let error = Sqlite::backup(&path("store"), &path("precious")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert!(error.to_string().contains("precious exists"), "{error}");
    assert_eq!(fs::read(path("precious")).unwrap(), b"precious");
    // Not even through a link that leads nowhere yet.
    std::os::unix::fs::symlink(path("elsewhere"), path("link")).unwrap();
    let error = Sqlite::backup(&path("store"), &path("link")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert!(!path("elsewhere").exists());

    Sqlite::backup(&path("store"), &path("backup")).unwrap();
    let error = Sqlite::restore(&path("backup"), &path("store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked);
    drop(store);
    let before = fs::read(database(&path("store"))).unwrap();
    let error = Sqlite::restore(&path("backup"), &path("store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert!(error.to_string().contains("choose another directory"), "{error}");
    let error = Sqlite::draft(&path("store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert!(fs::read(database(&path("store"))).unwrap() == before);
}

#[test]
fn what_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let error = Sqlite::backup(&path("store"), &path("backup")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Absent);
    assert!(error.to_string().contains("there is no store in"), "{error}");
    let error = Sqlite::restore(&path("backup"), &path("store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Absent);
    assert!(error.to_string().contains("there is no backup"), "{error}");
    drop(Sqlite::open(&path("store")).unwrap());
    let error = Sqlite::backup(&path("store"), &path("no/such/place")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Io);
    assert!(error.to_string().contains("no/such/place"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_backup_that_is_none_or_damaged_is_refused_and_leaves_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(&path("store")).unwrap();
    fill(&store).await;
    for n in 0..200 {
        let set = snapshot("t", &format!("{n}"));
        store.put(&set).await.unwrap();
    }
    Sqlite::backup(&path("store"), &path("good")).unwrap();

    fs::write(path("text"), "not a database, and rather long: ".repeat(99)).unwrap();
    fs::write(path("empty"), "").unwrap();
    let other = rusqlite::Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    let mut page = fs::read(path("good")).unwrap();
    let at = page.len() - 2 * 4096;
    page[at..at + 64].fill(0xff);
    fs::write(path("page"), page).unwrap();
    fs::copy(path("good"), path("row")).unwrap();
    let row = rusqlite::Connection::open(path("row")).unwrap();
    row.execute_batch("UPDATE idp SET document = '{}' WHERE name = 'a'")
        .unwrap();
    drop(row);
    for name in ["text", "empty", "other", "page", "row"] {
        let error = Sqlite::restore(&path(name), &path("new")).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}: {error}");
        assert!(
            error.to_string().contains(path(name).to_str().unwrap()),
            "{error}"
        );
        assert!(!database(&path("new")).exists(), "{name}");
    }
    Sqlite::restore(&path("good"), &path("new")).unwrap();
}

#[tokio::test]
async fn a_damaged_store_gives_no_backup() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(&path("store")).unwrap();
    fill(&store).await;
    drop(store);
    tamper(
        &path("store"),
        "UPDATE revocation SET expires_at = 0 WHERE id = 'a'",
    );
    let error = Sqlite::backup(&path("store"), &path("backup")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("table `revocation`"), "{error}");
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left over"
    );
}

/// After a crash the newest commits are in the log alone: they are in the backup, and the log stays as it is.
#[tokio::test]
async fn a_backup_of_a_store_that_nobody_runs_changes_nothing_in_it() {
    let living = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(living.path()).unwrap();
    fill(&store).await;
    fs::create_dir(path("dead")).unwrap();
    let files = ["tokenward.db", "tokenward.db-wal"];
    for name in files {
        fs::copy(living.path().join(name), path("dead").join(name)).unwrap();
    }
    let content = || files.map(|name| fs::read(path("dead").join(name)).unwrap());
    let before = content();
    Sqlite::backup(&path("dead"), &path("backup")).unwrap();
    assert!(content() == before, "the files changed");
    Sqlite::restore(&path("backup"), &path("new")).unwrap();
    same(&store, &Sqlite::open(&path("new")).unwrap()).await;
}

#[tokio::test]
async fn an_older_backup_is_upgraded_when_it_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("store")).unwrap();
    upgrade::make(&path("store"), include_str!("../fixtures/version-1.sql"));
    Sqlite::backup(&path("store"), &path("backup")).unwrap();
    assert_eq!(upgrade::version(&path("backup")), 1);
    assert_eq!(
        upgrade::version(&database(&path("store"))),
        1,
        "a backup changes nothing"
    );
    Sqlite::restore(&path("backup"), &path("new")).unwrap();
    assert_eq!(upgrade::version(&database(&path("new"))), 4);
    let store = Sqlite::open(&path("new")).unwrap();
    assert_eq!(store.load_all().await.unwrap().len(), 2);
}

const DIRECTORY: &str = "TOKENWARD_BACKUP_TEST_DIRECTORY";

/// The server is this very test in a process of its own, told so by its environment.
#[tokio::test]
async fn a_backup_is_consistent_while_another_process_writes() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child")]
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_without_end(directory.as_ref()).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut server = Server::start(&path("store"));
    for round in 0..5 {
        let acknowledged = server.wait_for(round * 20);
        let backup = path(&format!("backup-{round}"));
        Sqlite::backup(&path("store"), &backup).unwrap();
        let error = Sqlite::open(&path("store")).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Locked, "the server still runs");

        let new = path(&format!("new-{round}"));
        Sqlite::restore(&backup, &new).unwrap();
        let store = Sqlite::open(&new).unwrap();
        let idps = store.idps().await.unwrap();
        assert!(idps.len() > acknowledged, "{} of {acknowledged}", idps.len());
        // As they are at one moment: of the two that are written by turns neither is ahead by more than one.
        let families = store.families("", usize::MAX).await.unwrap();
        assert!(families.len() <= idps.len() && idps.len() <= families.len() + 1);
        for (n, idp) in idps.iter().enumerate() {
            assert_eq!(*idp, stored_idp("t", &n.to_string()));
        }
    }
}

struct Server {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "copy::a_backup_is_consistent_while_another_process_writes",
                "--exact",
                "--nocapture",
            ])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Until number `least` was acknowledged: gives what is.
    fn wait_for(&mut self, least: usize) -> usize {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("ack:")?.1.parse::<usize>().ok())
            .find(|n| *n >= least)
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[expect(clippy::print_stdout, reason = "how the child acknowledges")]
async fn write_without_end(directory: &Path) {
    let store = Sqlite::open(directory).unwrap();
    for n in 0..1_000_000 {
        let name = n.to_string();
        store.put_idp(&stored_idp("t", &name), usize::MAX).await.unwrap();
        store.open_family(&family(&name, None)).await.unwrap();
        println!("\nack:{n}");
    }
}

#[tokio::test]
async fn a_migration_copies_everything() {
    let directory = tempfile::tempdir().unwrap();
    let memory = Memory::new();
    fill(&memory).await;
    assert_eq!(memory.pruned_at().await.unwrap(), None);
    let time = Timestamp::from_secs(5);
    assert_eq!(memory.prune(time).await.unwrap(), 0);
    let draft = Sqlite::draft(&directory.path().join("new")).unwrap();
    let copied = migrate(&memory, draft.store()).await.unwrap();
    let everything = Migrated {
        snapshots: 2,
        idps: 2,
        keyring: true,
        families: 2,
        revocations: 3,
        audit_records: 2,
    };
    assert_eq!(copied, everything);
    draft.finish().unwrap();
    let store = Sqlite::open(&directory.path().join("new")).unwrap();
    same(&memory, &store).await;
    assert_eq!(store.pruned_at().await.unwrap(), Some(time));

    // And back, and more than goes at once.
    for n in 0..1200 {
        let name = format!("more-{n:04}");
        store.open_family(&family(&name, None)).await.unwrap();
        let rule = RevocationRule::Kid(name.clone());
        store.revoke(&revocation(&name, rule)).await.unwrap();
    }
    let back = Memory::new();
    let copied = migrate(&store, &back).await.unwrap();
    assert_eq!((copied.families, copied.revocations), (1202, 1203));
    assert_eq!(back.families("", usize::MAX).await.unwrap().len(), 1202);
    assert_eq!(back.revocations(0, usize::MAX).await.unwrap().len(), 1203);
}

#[tokio::test]
async fn a_migration_to_redis_and_back_copies_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = Sqlite::open(&path("old")).unwrap();
    fill(&store).await;
    let time = Timestamp::from_secs(5);
    store.prune(time).await.unwrap();
    let server = RedisServer::start();
    let copied = migrate(&store, &replica(&server)).await.unwrap();
    let everything = Migrated {
        snapshots: 2,
        idps: 2,
        keyring: true,
        families: 2,
        revocations: 3,
        audit_records: 2,
    };
    assert_eq!(copied, everything);
    same(&store, &replica(&server)).await;
    assert_eq!(replica(&server).pruned_at().await.unwrap(), Some(time));

    // And back, and more than goes at once.
    let shared = replica(&server);
    for n in 0..1200 {
        let name = format!("more-{n:04}");
        shared.open_family(&family(&name, None)).await.unwrap();
        let rule = RevocationRule::Kid(name.clone());
        shared.revoke(&revocation(&name, rule)).await.unwrap();
    }
    let back = Sqlite::open(&path("new")).unwrap();
    let copied = migrate(&shared, &back).await.unwrap();
    assert_eq!((copied.families, copied.revocations), (1202, 1203));
    assert_eq!(
        back.families("", usize::MAX).await.unwrap(),
        shared.families("", usize::MAX).await.unwrap()
    );
    assert_eq!(back.revocations(0, usize::MAX).await.unwrap().len(), 1203);
    assert_eq!(back.pruned_at().await.unwrap(), Some(time));
}

#[tokio::test]
async fn a_draft_that_is_not_finished_is_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let draft = Sqlite::draft(directory.path()).unwrap();
    fill(draft.store()).await;
    let error = Sqlite::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked);
    drop(draft);
    let to = directory.path().join("backup");
    let error = Sqlite::backup(directory.path(), &to).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Absent);
    // The next attempt begins anew.
    let draft = Sqlite::draft(directory.path()).unwrap();
    assert_eq!(draft.store().idps().await.unwrap(), []);
    fill(draft.store()).await;
    draft.finish().unwrap();
    let store = Sqlite::open(directory.path()).unwrap();
    assert_eq!(store.idps().await.unwrap().len(), 2);
}
