//! A disk that fails: `disk.c` stands between a process and its files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures_util::future::join_all;
use tokenward_store::{Ledger as _, PutIdp, Sqlite, StoreError, StoreErrorKind, StoredIdp};
use tokenward_testkit::conformance::stored_idp;

const DIRECTORY: &str = "TOKENWARD_FAULT_TEST_DIRECTORY";
const PART: &str = "TOKENWARD_FAULT_TEST_PART";

type Names = BTreeSet<String>;

/// The files of one test.
struct World(PathBuf);

impl World {
    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What is on the platters.
    fn image(&self) -> PathBuf {
        self.0.join("image")
    }

    fn fail(&self, how: &str) {
        fs::write(self.0.join("fault.new"), how).unwrap();
        fs::rename(self.0.join("fault.new"), self.0.join("fault")).unwrap();
    }

    fn work_again(&self) {
        fs::remove_file(self.0.join("fault")).unwrap();
    }

    /// The machine loses power: keeps what is on the platters, and what had been acknowledged by then.
    fn crash(&self, point: &str, acknowledged: &Names) {
        let to = self.0.join("crashes").join(point);
        fs::create_dir_all(&to).unwrap();
        for name in ["tokenward.db", "tokenward.db-wal"] {
            fs::copy(self.image().join(name), to.join(name)).unwrap();
        }
        let names: Vec<&str> = acknowledged.iter().map(String::as_str).collect();
        fs::write(to.join("acknowledged"), names.join("\n")).unwrap();
    }
}

/// Runs the test `name` again, in a process of its own whose disk can fail. `None` in that process itself.
fn with_a_disk_that_fails(name: &str, parts: &[&str]) -> Option<tempfile::TempDir> {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child")]
    if std::env::var_os(DIRECTORY).is_some() {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let world = World(directory.path().to_owned());
    fs::create_dir(world.image()).unwrap();
    let disk = directory.path().join("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk.c");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&disk, &source])
        .status();
    assert!(compiler.expect("a C compiler, as SQLite needs one").success());
    for part in parts {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env("LD_PRELOAD", &disk)
            .env("DISK_FAULT", directory.path().join("fault"))
            .env("DISK_IMAGE", world.image())
            .env(DIRECTORY, directory.path())
            .env(PART, part)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(ENDED), "{part}: {output:?}");
    }
    Some(directory)
}

/// How a child ends that came to the end of its part: by force, without closing its store.
const ENDED: i32 = 42;

#[expect(clippy::disallowed_methods, reason = "what the parent told")]
fn child() -> (World, String) {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let part = std::env::var(PART).unwrap();
    (World(directory.into()), part)
}

async fn names(store: &Sqlite) -> Names {
    let idps = store.idps().await.unwrap();
    idps.into_iter().map(|idp| idp.name).collect()
}

/// About 20 pages, so that there are checkpoints.
fn large(name: &str) -> StoredIdp {
    StoredIdp {
        document: "x".repeat(80_000),
        ..stored_idp("t", name)
    }
}

/// Puts them one by one and some at once; gives the errors and adds what was acknowledged.
async fn put(store: &Sqlite, prefix: &str, acknowledged: &mut Names) -> Vec<StoreError> {
    let idps: Vec<StoredIdp> = (0..16)
        .map(|n| format!("{prefix}-{n:02}"))
        .map(|name| {
            if name.ends_with('3') {
                large(&name)
            } else {
                stored_idp("t", &name)
            }
        })
        .collect();
    let mut results = Vec::new();
    for idp in &idps[..8] {
        results.push(store.put_idp(idp, usize::MAX).await);
    }
    results.extend(join_all(idps[8..].iter().map(|idp| store.put_idp(idp, usize::MAX))).await);
    let mut errors = Vec::new();
    for (idp, result) in idps.iter().zip(results) {
        match result {
            Ok(put) => {
                assert_eq!(put, PutIdp::Created);
                acknowledged.insert(idp.name.clone());
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Without a write of anybody.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread is waited for, by the system's clock"
)]
async fn recovers(store: &Sqlite) {
    for _ in 0..500 {
        if store.healthy() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never found well");
}

/// Faults of all kinds after a number of calls that work, each followed by a recovery and a loss of power.
async fn fail_and_recover(world: &World, kind: &str, says: &str) {
    let store = Sqlite::open(&world.store()).unwrap();
    let mut acknowledged = Names::new();
    assert!(put(&store, "first", &mut acknowledged).await.is_empty());
    for (fate, number) in ["lost", "kept"]
        .into_iter()
        .flat_map(|fate| (1..=8).map(move |n| (fate, n)))
    {
        let round = format!("{fate}-{number:02}");
        world.fail(&format!("{kind} {number} {fate}"));
        let errors = put(&store, &round, &mut acknowledged).await;
        assert!(
            !errors.is_empty(),
            "{round}: a disk that fails acknowledges everything"
        );
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::Io, "{round}");
            assert!(error.to_string().contains(says), "{round}: {error}");
        }
        // As long as it fails nothing is acknowledged, and reads go on.
        let before = acknowledged.clone();
        assert_eq!(
            put(&store, &format!("{round}-more"), &mut acknowledged)
                .await
                .len(),
            16
        );
        assert_eq!(acknowledged, before);
        assert!(!store.healthy(), "{round}");
        assert_eq!(names(&store).await, acknowledged, "{round}");
        world.crash(&format!("{round}-failing"), &acknowledged);

        world.work_again();
        recovers(&store).await;
        assert_eq!(names(&store).await, acknowledged, "{round}");
        world.crash(&format!("{round}-recovered"), &acknowledged);
        assert!(
            put(&store, &format!("{round}-after"), &mut acknowledged)
                .await
                .is_empty()
        );
        world.crash(&format!("{round}-written"), &acknowledged);
    }
    std::process::exit(ENDED);
}

/// Looks at what every loss of power left.
async fn look(world: &World) -> usize {
    let crashes = fs::read_dir(world.0.join("crashes")).unwrap();
    let mut looked_at = 0;
    for crash in crashes.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(crash.join("acknowledged")).unwrap();
        let acknowledged: Names = text.lines().map(str::to_owned).collect();
        let found = names(&Sqlite::open(&crash).unwrap()).await;
        assert!(
            found.is_superset(&acknowledged),
            "{crash:?} lost {:?}",
            acknowledged.difference(&found)
        );
        // Until the disk works again it is unknown whether the last refused commit is on it.
        if !crash.to_string_lossy().ends_with("-failing") {
            assert_eq!(found, acknowledged, "{crash:?} holds what was refused");
        }
        looked_at += 1;
    }
    looked_at
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_the_disk_works_again() {
    let name = "faults::after_a_failed_sync_nothing_is_acknowledged_until_the_disk_works_again";
    match with_a_disk_that_fails(name, &["all"]) {
        None => fail_and_recover(&child().0, "sync", "the disk failed. Nothing was stored").await,
        Some(directory) => assert_eq!(look(&World(directory.path().to_owned())).await, 48),
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_until_there_is_space_again() {
    let name = "faults::on_a_full_disk_nothing_is_acknowledged_until_there_is_space_again";
    match with_a_disk_that_fails(name, &["all"]) {
        None => fail_and_recover(&child().0, "write", "the disk is full. Nothing was stored").await,
        Some(directory) => assert_eq!(look(&World(directory.path().to_owned())).await, 48),
    }
}

/// What the dead process could not sync looks stored to the next one, which writes behind it.
#[tokio::test]
async fn a_process_that_died_on_a_failed_sync_does_not_take_later_commits_with_it() {
    let name = "faults::a_process_that_died_on_a_failed_sync_does_not_take_later_commits_with_it";
    let Some(directory) = with_a_disk_that_fails(name, &["fail", "go on"]) else {
        let (world, part) = child();
        let store = Sqlite::open(&world.store()).unwrap();
        let mut acknowledged = names(&store).await;
        if part == "fail" {
            assert!(put(&store, "first", &mut acknowledged).await.is_empty());
            world.fail("sync 1 lost");
            assert_eq!(put(&store, "refused", &mut acknowledged).await.len(), 16);
            world.work_again();
        } else {
            assert!(put(&store, "second", &mut acknowledged).await.is_empty());
            world.crash("second", &acknowledged);
        }
        std::process::exit(ENDED);
    };
    assert_eq!(look(&World(directory.path().to_owned())).await, 1);
}

/// A store whose log cannot be made durable is not opened: what it shows may be gone tomorrow.
#[tokio::test]
async fn a_store_is_not_opened_on_a_disk_that_fails() {
    let name = "faults::a_store_is_not_opened_on_a_disk_that_fails";
    let parts = &["fill", "open"];
    if with_a_disk_that_fails(name, parts).is_none() {
        let (world, part) = child();
        if part == "fill" {
            let store = Sqlite::open(&world.store()).unwrap();
            assert!(put(&store, "first", &mut Names::new()).await.is_empty());
        } else {
            world.fail("sync 1 lost");
            let error = Sqlite::open(&world.store()).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Io);
            assert!(
                error.to_string().contains("cannot sync the store's log"),
                "{error}"
            );
            world.work_again();
            assert_eq!(names(&Sqlite::open(&world.store()).unwrap()).await.len(), 16);
        }
        std::process::exit(ENDED);
    }
}
