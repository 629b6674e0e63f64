//! `kill -9` at any moment loses nothing that was acknowledged.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokenward_store::{Ledger as _, Recorded, RevocationRule, Snapshots as _, Sqlite};
use tokenward_testkit::conformance::{audit_record, child, family, origin, revocation, snapshot, stored_idp};
use tokio::task::JoinSet;

const DIRECTORY: &str = "TOKENWARD_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 10;

/// The process that is killed is this very test, told so by its environment.
#[test]
fn what_was_acknowledged_survives_sigkill() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child")]
    match std::env::var_os(DIRECTORY) {
        Some(directory) => runtime.block_on(write_without_end(directory.as_ref())),
        None => runtime.block_on(kill_and_look()),
    }
}

#[expect(clippy::print_stdout, reason = "the figure belongs to the result")]
async fn kill_and_look() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    let mut keyring = 0;
    for round in 0..ROUNDS {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "crash::what_was_acknowledged_survives_sigkill",
                "--exact",
                "--nocapture",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut heard = Vec::new();
        while heard.is_empty() {
            heard.extend(number(&lines.next().unwrap().unwrap()));
        }
        // Its first acknowledgement has come; which of its commits is under way now is left to chance.
        std::thread::sleep(Duration::from_millis(5 + round * 7));
        process.kill().unwrap();
        process.wait().unwrap();
        heard.extend(lines.map_while(Result::ok).filter_map(|line| number(&line)));
        acknowledged.extend(heard.into_iter().map(|n| format!("{round}-{n}")));

        let store = Sqlite::open(directory.path()).unwrap();
        let idps: HashSet<String> = names(&store.idps().await.unwrap(), |idp| &idp.name);
        let audit = store.audit(None, usize::MAX).await.unwrap();
        let audit: HashSet<String> = names(&audit, |(_, record)| &record.target);
        let revoked = store.revocations(0, usize::MAX).await.unwrap();
        let revoked: HashSet<String> = names(&revoked, |(_, revocation)| &revocation.id);
        for name in &acknowledged {
            let found = store.get("t", name).await.unwrap();
            assert_eq!(found, Some(snapshot("t", name)), "round {round}");
            assert!(idps.contains(name), "round {round}: {name}");
            assert!(audit.contains(name), "round {round}: {name}");
            assert!(revoked.contains(name), "round {round}: {name}");
            let family = store.family(name).await.unwrap();
            let latest = family.and_then(|family| family.latest);
            let expected = (!is_revoked(name)).then(|| child(name));
            assert_eq!(latest, expected, "round {round}: {name}");
        }
        let (version, _) = store.keyring().await.unwrap().unwrap();
        assert!(version > keyring, "round {round}");
        keyring = version;
        // The child names its snapshots by how many rounds there were before it.
        store.put(&snapshot("rounds", &round.to_string())).await.unwrap();
    }
    assert!(acknowledged.len() as u64 > ROUNDS, "{}", acknowledged.len());
    println!("{} acknowledged", acknowledged.len());
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &String) -> HashSet<String> {
    all.iter().map(|one| name(one).clone()).collect()
}

/// Every other parent is revoked, which takes its family away again.
fn is_revoked(name: &str) -> bool {
    name.ends_with(['1', '3', '5', '7', '9'])
}

/// The number in `ack:<number>;`. A line that was cut off has no semicolon.
fn number(line: &str) -> Option<u64> {
    line.split_once("ack:")?.1.strip_suffix(';')?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "how the child acknowledges")]
async fn write_without_end(directory: &Path) {
    let store = Arc::new(Sqlite::open(directory).unwrap());
    let all = store.load_all().await.unwrap();
    let round = all.iter().filter(|snapshot| snapshot.tenant == "rounds").count();
    let mut writers = JoinSet::new();
    // Several at once, so that commits are shared.
    for writer in 0..8_u64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for n in 0..1_000_000 {
                let n = writer * 1_000_000 + n;
                let name = format!("{round}-{n}");
                store.put(&snapshot("t", &name)).await.unwrap();
                store.put_idp(&stored_idp("t", &name), usize::MAX).await.unwrap();
                store.append_audit(&[audit_record(&name)]).await.unwrap();
                store.open_family(&family(&name, None)).await.unwrap();
                let recorded = store.record_child(&name, &origin(), 0, &child(&name), None).await;
                assert_eq!(recorded.unwrap(), Recorded::Stored(1));
                let rule = match is_revoked(&name) {
                    true => RevocationRule::Parent(name.clone()),
                    false => RevocationRule::Jti(name.clone()),
                };
                store.revoke(&revocation(&name, rule)).await.unwrap();
                // One of those who read the same version writes the next.
                let (version, _) = store.keyring().await.unwrap().unwrap_or_default();
                store.put_keyring(version, name.as_bytes()).await.unwrap();
                println!("\nack:{n};");
            }
        });
    }
    writers.join_all().await;
}
