//! What the ledger on Redis says of values that are not what was written.

use tokenward_core::Timestamp;
use tokenward_store::{Family, Ledger as _, Origin, PutIdp, Revocation, RevocationRule, StoreErrorKind};
use tokenward_testkit::{
    RedisServer,
    conformance::{audit_record, child, family, origin, revocation, stored_idp},
};

use crate::redis_ledger::replica;

/// What a hash holds under the only field that it has, or under this one.
fn value_of(server: &RedisServer, key: &str, field: Option<&str>) -> (String, String) {
    let key = format!("{{tokenward}}:{key}");
    let field = match field {
        Some(field) => field.to_owned(),
        None => server.text(&["HKEYS", &key]),
    };
    let value = server.text(&["HGET", &key, &field]);
    (field, value)
}

fn set(server: &RedisServer, key: &str, field: &str, value: &str) {
    server.ask(&["HSET", &format!("{{tokenward}}:{key}"), field, value]);
}

/// What may become of a value: it is of a newer version, is none, or is that of something else.
fn garbled(value: &str) -> Vec<String> {
    vec![
        value.replace("\"v\":1", "\"v\":2"),
        value.replace("\"v\":1", "\"v\":1,\"more\":1"),
        value.replacen(':', ";", 1),
        value[..value.len() - 1].to_owned(),
        String::new(),
        "null".to_owned(),
        value.replace("\"b\"", "\"a\""),
    ]
}

#[tokio::test]
async fn a_damaged_family_is_an_error_and_does_not_stop_the_renewal_of_others() {
    let server = RedisServer::start();
    let store = replica(&server);
    let full = |parent: &str| Family {
        latest: Some(child("c")),
        ..family(parent, Some(Timestamp::from_secs(5)))
    };
    store.open_family(&full("b")).await.unwrap();
    let (_, value) = value_of(&server, "families", Some("b"));
    for value in garbled(&value) {
        server.flush();
        for parent in ["a", "b", "c"] {
            store.open_family(&full(parent)).await.unwrap();
        }
        set(&server, "families", "b", &value);
        let error = store.family("b").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{value}");
        assert!(error.to_string().contains("parent token `b`"), "{error}");
        let renewed = store.record_child("b", &origin(), 0, &child("d"), None).await;
        assert_eq!(renewed.unwrap_err().kind(), StoreErrorKind::Corrupt, "{value}");
        let page = store.families("", 9).await;
        assert_eq!(page.unwrap_err().kind(), StoreErrorKind::Corrupt, "{value}");
        // Due, as all three are, it neither comes nor takes the place of another, nor is it due for ever.
        let due = store.due_families(Timestamp::from_secs(5), 2).await.unwrap();
        assert_eq!(due, [full("a"), full("c")], "{value}");
        for parent in ["a", "c"] {
            store.postpone(parent, 0, None).await.unwrap();
        }
        assert_eq!(store.next_due().await.unwrap(), None, "{value}");
        // It can still be revoked, which takes it away.
        let rule = RevocationRule::Parent("b".to_owned());
        store.revoke(&revocation("r", rule)).await.unwrap();
        assert_eq!(store.family("b").await.unwrap(), None, "{value}");
    }
}

/// To go on without a revocation would be to accept what was revoked.
#[tokio::test]
async fn a_damaged_revocation_is_an_error_that_names_it() {
    let server = RedisServer::start();
    let store = replica(&server);
    let subject = |id: &str, sub: &str| Revocation {
        expires_at: Some(Timestamp::from_secs(90)),
        ..revocation(
            id,
            RevocationRule::Subject {
                sub: sub.to_owned(),
                not_before: Timestamp::from_secs(5),
            },
        )
    };
    let parent = Family {
        user_id: "b".to_owned(),
        ..family("p", None)
    };
    let origin = Origin {
        issued_at: Timestamp::from_secs(5),
        ..origin()
    };
    store.revoke(&subject("b", "b")).await.unwrap();
    let (rule, value) = value_of(&server, "revocations", None);
    let mut garbles = garbled(&value);
    garbles.push(value.replace("\"time\":5000", "\"time\":null"));
    garbles.push(value.replace("\"sub\"", "\"unheard\""));
    garbles.push(value.replace("https://idp.test", "https://other.test"));
    for garbled in garbles {
        server.flush();
        for id in ["a", "b"] {
            store.revoke(&subject(id, id)).await.unwrap();
        }
        set(&server, "revocations", &rule, &garbled);
        let named = format!("field `{rule}`");
        for error in [
            store.revocations(0, 9).await.unwrap_err(),
            store.revocation("b").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garbled}");
            assert!(error.to_string().contains(&named), "{error}");
        }
        assert_eq!(store.revocations(0, 1).await.unwrap().len(), 1, "{garbled}");
        // Nobody knows whom it refused.
        store.open_family(&parent).await.unwrap();
        let renewed = store.record_child("p", &origin, 0, &child("c"), None).await;
        assert_eq!(renewed.unwrap_err().kind(), StoreErrorKind::Corrupt, "{garbled}");
        if garbled.is_empty() {
            continue;
        }
        let again = store.revoke(&subject("c", "b")).await.unwrap_err();
        assert_eq!(again.kind(), StoreErrorKind::Corrupt, "{garbled}");
        assert_eq!(
            value_of(&server, "revocations", Some(&rule)).1,
            garbled,
            "nothing changed"
        );
        // What is damaged can be deleted, and revoked again; what ends is pruned.
        assert!(store.delete_revocation("b").await.unwrap());
        let later = Revocation {
            created_at: Timestamp::from_secs(2_000_000_000),
            ..subject("d", "b")
        };
        assert_eq!(store.revoke(&later).await.unwrap().effective, later);
        set(&server, "revocations", &rule, &garbled);
        assert_eq!(store.prune(Timestamp::from_secs(90)).await.unwrap(), 2);
        assert_eq!(store.revocations(0, 9).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_damaged_idp_is_an_error_that_names_it_until_it_is_put_again() {
    let server = RedisServer::start();
    let store = replica(&server);
    store.put_idp(&stored_idp("t", "b"), 9).await.unwrap();
    let (_, value) = value_of(&server, "idps", None);
    for garbled in garbled(&value) {
        server.flush();
        for name in ["a", "b", "c"] {
            store.put_idp(&stored_idp("t", name), 9).await.unwrap();
        }
        set(&server, "idps", "1:tb", &garbled);
        let error = store.idps().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garbled}");
        let text = error.to_string();
        assert!(text.contains("1 of 3 identity providers"), "{text}");
        assert!(text.contains("`b` of tenant `t`"), "{text}");
        // What is put again takes its place, and what was damaged can be removed.
        assert_eq!(
            store.put_idp(&stored_idp("t", "b"), 0).await.unwrap(),
            PutIdp::Replaced
        );
        assert_eq!(store.idps().await.unwrap().len(), 3);
        set(&server, "idps", "1:tb", &garbled);
        assert!(store.remove_idp("t", "b").await.unwrap());
        assert_eq!(store.idps().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_damaged_keyring_is_an_error_and_a_damaged_audit_record_is_left_out() {
    let server = RedisServer::start();
    let store = replica(&server);
    assert!(store.put_keyring(0, b"key").await.unwrap());
    let (_, value) = value_of(&server, "keyring", Some("value"));
    let mut garbles = garbled(&value);
    garbles.truncate(6);
    garbles.push(value.replace("\"version\":1", "\"version\":2"));
    for garbled in garbles {
        set(&server, "keyring", "value", &garbled);
        let error = store.keyring().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{garbled}");
        assert!(error.to_string().contains("signing keys"), "{error}");
    }
    server.ask(&["HDEL", "{tokenward}:keyring", "value"]);
    assert_eq!(store.keyring().await.unwrap_err().kind(), StoreErrorKind::Corrupt);

    store.append_audit(&["a"].map(audit_record)).await.unwrap();
    server.ask(&["ZADD", "{tokenward}:audit", "2", "2 {\"v\":2}"]);
    store.append_audit(&["c"].map(audit_record)).await.unwrap();
    let page = store.audit(None, 9).await.unwrap();
    let found: Vec<_> = page
        .iter()
        .map(|(number, record)| (*number, record.target.as_str()))
        .collect();
    assert_eq!(found, [(3, "c"), (1, "a")]);
    // It is not one of those that were asked for.
    let page = store.audit(None, 2).await.unwrap();
    assert_eq!(page.len(), 2);
}

#[tokio::test]
async fn what_is_of_the_wrong_type_is_damaged() {
    let server = RedisServer::start();
    let store = replica(&server);
    server.ask(&["HSET", "{tokenward}:meta", "pruned_at", "yesterday"]);
    assert_eq!(
        store.pruned_at().await.unwrap_err().kind(),
        StoreErrorKind::Corrupt
    );
    server.ask(&["HSET", "{tokenward}:keyring", "version", "one", "value", "{}"]);
    assert_eq!(store.keyring().await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}
