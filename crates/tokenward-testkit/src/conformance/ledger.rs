//! What every engine's [`Ledger`] must do.

use tokenward_core::Timestamp;
use tokenward_store::{AUDIT_KEPT, AuditRecord, Ledger, PutIdp, StoredIdp};

use super::ok;

/// A provider with something in every field.
#[must_use]
pub fn stored_idp(tenant: &str, name: &str) -> StoredIdp {
    StoredIdp {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
        document: format!("{{\"url\":\"https://{name}.test/jwks\"}}"),
        changed_at: Timestamp::from_millis(1_764_079_200_250),
    }
}

/// A record with something in every field.
#[must_use]
pub fn audit_record(target: &str) -> AuditRecord {
    AuditRecord {
        at: Timestamp::from_millis(1_764_079_200_250),
        who: "ops".to_owned(),
        address: "192.0.2.7".to_owned(),
        action: "idps.put".to_owned(),
        target: target.to_owned(),
        outcome: "ok".to_owned(),
    }
}

/// Runs all cases against an empty store. The audit log is not empty afterwards.
///
/// # Panics
///
/// If the engine fails one.
pub async fn ledger(store: &dyn Ledger) {
    every_field_of_an_idp_comes_back(store).await;
    idps_keep_the_order_of_their_first_insertion(store).await;
    idp_names_are_scoped_by_tenant(store).await;
    one_idp_more_than_the_most_is_refused(store).await;
    removing_an_idp_tells_whether_it_was_there(store).await;
    audit_is_paged_from_the_newest(store).await;
    audit_keeps_the_newest_of_each_kind(store).await;
    assert_eq!(ok(store.idps().await), [], "the cases clean up");
}

async fn every_field_of_an_idp_comes_back(store: &dyn Ledger) {
    let odd = StoredIdp {
        document: "{\"ü'\\\";--\0\":\"".repeat(5000),
        changed_at: Timestamp::MAX,
        ..stored_idp("ü'", "odd\0name")
    };
    let bare = StoredIdp {
        document: String::new(),
        changed_at: Timestamp::from_millis(-1),
        ..stored_idp("", "")
    };
    for idp in [stored_idp("t", "full"), odd, bare] {
        assert_eq!(ok(store.put_idp(&idp, 1).await), PutIdp::Created);
        assert_eq!(ok(store.idps().await), std::slice::from_ref(&idp));
        assert!(ok(store.remove_idp(&idp.tenant, &idp.name).await));
    }
}

async fn idps_keep_the_order_of_their_first_insertion(store: &dyn Ledger) {
    for name in ["m", "z", "a"] {
        assert_eq!(
            ok(store.put_idp(&stored_idp("t", name), 9).await),
            PutIdp::Created
        );
    }
    let changed = StoredIdp {
        document: "{}".to_owned(),
        changed_at: Timestamp::from_secs(5),
        ..stored_idp("t", "m")
    };
    assert_eq!(ok(store.put_idp(&changed, 9).await), PutIdp::Replaced);
    let wanted = [changed, stored_idp("t", "z"), stored_idp("t", "a")];
    assert_eq!(ok(store.idps().await), wanted);
    // What was removed comes back at the end.
    assert!(ok(store.remove_idp("t", "z").await));
    assert_eq!(ok(store.put_idp(&stored_idp("t", "z"), 9).await), PutIdp::Created);
    let names: Vec<_> = ok(store.idps().await).into_iter().map(|idp| idp.name).collect();
    assert_eq!(names, ["m", "a", "z"]);
    for name in names {
        assert!(ok(store.remove_idp("t", &name).await));
    }
}

async fn idp_names_are_scoped_by_tenant(store: &dyn Ledger) {
    // Pairs that are equal when the two names are written next to each other.
    for (tenant, name) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("A", "bc")] {
        assert_eq!(
            ok(store.put_idp(&stored_idp(tenant, name), 9).await),
            PutIdp::Created
        );
    }
    assert!(!ok(store.remove_idp("a", "c").await));
    for (tenant, name) in [("a", "bc"), ("ab", "c"), ("", "abc")] {
        assert!(ok(store.remove_idp(tenant, name).await));
    }
    assert_eq!(ok(store.idps().await), [stored_idp("A", "bc")]);
    assert!(ok(store.remove_idp("A", "bc").await));
}

async fn one_idp_more_than_the_most_is_refused(store: &dyn Ledger) {
    assert_eq!(ok(store.put_idp(&stored_idp("t", "none"), 0).await), PutIdp::Full);
    for name in ["a", "b"] {
        assert_eq!(
            ok(store.put_idp(&stored_idp("t", name), 2).await),
            PutIdp::Created
        );
    }
    assert_eq!(ok(store.put_idp(&stored_idp("u", "c"), 2).await), PutIdp::Full);
    assert_eq!(
        ok(store.idps().await),
        [stored_idp("t", "a"), stored_idp("t", "b")]
    );
    // One that is there may be changed, even where there are more than there may be by now.
    assert_eq!(
        ok(store.put_idp(&stored_idp("t", "b"), 1).await),
        PutIdp::Replaced
    );
    assert!(ok(store.remove_idp("t", "a").await));
    assert_eq!(ok(store.put_idp(&stored_idp("u", "c"), 2).await), PutIdp::Created);
    assert!(ok(store.remove_idp("t", "b").await));
    assert!(ok(store.remove_idp("u", "c").await));
}

async fn removing_an_idp_tells_whether_it_was_there(store: &dyn Ledger) {
    assert!(!ok(store.remove_idp("t", "a").await));
    assert_eq!(ok(store.put_idp(&stored_idp("t", "a"), 1).await), PutIdp::Created);
    assert!(ok(store.remove_idp("t", "a").await));
    assert!(!ok(store.remove_idp("t", "a").await));
}

async fn audit_is_paged_from_the_newest(store: &dyn Ledger) {
    let odd = AuditRecord {
        at: Timestamp::from_millis(-1),
        who: String::new(),
        address: String::new(),
        action: "ü'\";--".to_owned(),
        target: "t\0/x".to_owned(),
        outcome: "insufficient_scope".to_owned(),
    };
    let records = [audit_record("one"), odd, audit_record("three")];
    ok(store.append_audit(&records).await);
    ok(store.append_audit(&[]).await);
    ok(store.append_audit(&[audit_record("four")]).await);
    let newest = ok(store.audit(None, 4).await);
    let numbers: Vec<u64> = newest.iter().map(|(number, _)| *number).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");
    let found: Vec<&AuditRecord> = newest.iter().rev().map(|(_, record)| record).collect();
    let wanted: Vec<&AuditRecord> = records.iter().collect();
    assert_eq!(found.get(..3), Some(&*wanted));
    assert_eq!(found.get(3).map(|record| record.target.as_str()), Some("four"));

    let mut paged = Vec::new();
    let mut before = None;
    while paged.len() < 4 {
        let page = ok(store.audit(before, 3).await);
        before = page.last().map(|(number, _)| *number);
        paged.extend(page);
    }
    assert_eq!(paged.get(..4), Some(&*newest));
    assert_eq!(ok(store.audit(None, 0).await), []);
    assert_eq!(ok(store.audit(Some(0), 9).await), []);
    assert_eq!(ok(store.audit(Some(u64::MAX), 1).await).first(), newest.first());
}

async fn audit_keeps_the_newest_of_each_kind(store: &dyn Ledger) {
    let mint = |target| AuditRecord {
        action: "tokens.mint".to_owned(),
        ..audit_record(target)
    };
    let failure = |target| AuditRecord {
        outcome: "insufficient_scope".to_owned(),
        ..audit_record(target)
    };
    // Of one write, so that kinds are told apart within it too.
    ok(store
        .append_audit(&[audit_record("change"), mint("first"), failure("failure")])
        .await);
    let old = ok(store.audit(None, 1).await).first().map(|(number, _)| *number);
    ok(store.append_audit(&vec![mint("flood"); AUDIT_KEPT]).await);
    ok(store.append_audit(&[mint("last")]).await);
    let all = ok(store.audit(None, usize::MAX).await);
    let mints: Vec<_> = all
        .iter()
        .filter(|(_, record)| record.action == "tokens.mint")
        .collect();
    assert_eq!(mints.len(), AUDIT_KEPT);
    assert_eq!(
        mints.first().map(|(_, record)| record.target.as_str()),
        Some("last")
    );
    assert!(mints.iter().skip(1).all(|(_, record)| record.target == "flood"));
    assert!(
        mints
            .iter()
            .all(|(number, _)| old.is_some_and(|old| *number > old))
    );
    let has = |all: &[(u64, AuditRecord)], target| all.iter().any(|(_, record)| record.target == target);
    assert!(has(&all, "change") && has(&all, "failure"), "others keep theirs");

    // Nor does who fails at something push out who did it, or the other way round.
    ok(store.append_audit(&vec![failure("failures"); AUDIT_KEPT]).await);
    let all = ok(store.audit(None, usize::MAX).await);
    assert!(has(&all, "change") && !has(&all, "failure"));
    let failures = all
        .iter()
        .filter(|(_, record)| record.kind() == ("idps.put", false));
    assert_eq!(failures.count(), AUDIT_KEPT);
}
