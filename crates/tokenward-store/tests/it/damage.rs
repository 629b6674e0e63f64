//! What an engine says of rows that are not what was written.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    sync::{Arc, Mutex},
};

use tokenward_core::Timestamp;
use tokenward_store::{
    Family, Ledger as _, PutIdp, Revocation, RevocationRule, Snapshots as _, Sqlite, StoreErrorKind,
};
use tokenward_testkit::conformance::{audit_record, child, family, origin, revocation, snapshot, stored_idp};

use crate::sqlite::{database, tamper};

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

fn full_family(parent_jti: &str) -> Family {
    Family {
        latest: Some(child("c")),
        ..family(parent_jti, Some(Timestamp::from_secs(5)))
    }
}

#[tokio::test]
async fn a_damaged_family_is_an_error_and_does_not_stop_the_renewal_of_others() {
    for garble in [
        "user_id = 'mallory'",
        "profile = zeroblob(3)",
        "expires_at = expires_at + 1",
        "sequence = 1",
        "sequence = -1",
        "child_jti = NULL",
        "child_jti = 'd'",
        "child_token = zeroblob(3)",
        "child_token = NULL",
        "child_issued_at = child_expires_at, child_expires_at = child_issued_at",
        "next_renewal = next_renewal - 1",
        "digest = zeroblob(32)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        for parent in ["a", "b", "c"] {
            store.open_family(&full_family(parent)).await.unwrap();
        }
        drop(store);
        tamper(
            directory.path(),
            &format!("UPDATE family SET {garble} WHERE parent_jti = 'b'"),
        );
        let store = Sqlite::open(directory.path()).unwrap();
        let error = store.family("b").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garble}");
        assert!(error.to_string().contains("parent token `b`"), "{error}");
        let renewed = store.record_child("b", &origin(), 0, &child("d"), None).await;
        assert_eq!(renewed.unwrap_err().kind(), StoreErrorKind::Corrupt, "{garble}");
        assert_eq!(
            store.families("", 9).await.unwrap_err().kind(),
            StoreErrorKind::Corrupt,
            "{garble}"
        );
        // Due, as all three are, it neither comes nor takes the place of another, nor is it due for ever.
        let due = store.due_families(Timestamp::from_secs(5), 2).await.unwrap();
        assert_eq!(due, [full_family("a"), full_family("c")], "{garble}");
        for parent in ["a", "c"] {
            store.postpone(parent, 0, None).await.unwrap();
        }
        assert_eq!(store.next_due().await.unwrap(), None, "{garble}");
        // It can still be revoked, which takes the damaged row away.
        let rule = RevocationRule::Parent("b".to_owned());
        store.revoke(&revocation("r", rule)).await.unwrap();
        assert_eq!(store.family("b").await.unwrap(), None, "{garble}");
    }
}

/// To go on without a revocation would be to accept what was revoked.
#[tokio::test]
async fn a_damaged_revocation_is_an_error_that_names_it() {
    let subject = |id: &str, sub: &str| Revocation {
        expires_at: Some(Timestamp::from_secs(90)),
        note: "note".to_owned(),
        ..revocation(
            id,
            RevocationRule::Subject {
                sub: sub.to_owned(),
                not_before: Timestamp::from_secs(5),
            },
        )
    };
    for garble in [
        "id = 'x'",
        "issuer = 'https://other.test'",
        "kind = 'jti', time = NULL",
        "kind = 'unheard'",
        "value = 'bob'",
        "time = time - 1",
        "time = NULL",
        "expires_at = NULL",
        "expires_at = 0",
        "created_at = 0",
        "note = ''",
        "digest = zeroblob(31)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        store.revoke(&subject("a", "alice")).await.unwrap();
        store.revoke(&subject("c", "carol")).await.unwrap();
        drop(store);
        tamper(
            directory.path(),
            &format!("UPDATE revocation SET {garble} WHERE id = 'c'"),
        );
        let store = Sqlite::open(directory.path()).unwrap();
        let error = store.revocations(0, 9).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garble}");
        assert!(
            error.to_string().contains("row 2 of its table `revocation`"),
            "{error}"
        );
        assert_eq!(store.revocations(0, 1).await.unwrap().len(), 1, "{garble}");
    }
}

#[tokio::test]
async fn a_damaged_keyring_is_an_error() {
    for garble in ["bytes = zeroblob(3)", "version = 2", "digest = zeroblob(31)"] {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).unwrap();
        assert!(store.put_keyring(0, b"key").await.unwrap());
        drop(store);
        tamper(directory.path(), &format!("UPDATE keyring SET {garble}"));
        let store = Sqlite::open(directory.path()).unwrap();
        let error = store.keyring().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garble}");
        assert!(error.to_string().contains("signing keys"), "{error}");
    }
}
