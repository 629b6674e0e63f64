//! What every engine's [`Ledger`] must do for the token service.

use tokenward_core::Timestamp;
use tokenward_store::{
    Child, Family, Ledger, Origin, PRUNED, Recorded, Revocation,
    RevocationRule::{self, IssuedBefore, Jti, Kid, Parent, Session, Subject},
};

use super::ok;

const FAR: Timestamp = Timestamp::from_secs(2_000_000_000);

/// A family with something in every field but children.
#[must_use]
pub fn family(parent_jti: &str, next_renewal: Option<Timestamp>) -> Family {
    Family {
        parent_jti: parent_jti.to_owned(),
        user_id: "alice".to_owned(),
        profile: vec![0, 1, 255],
        expires_at: FAR,
        sequence: 0,
        latest: None,
        next_renewal,
    }
}

/// A child with something in every field.
#[must_use]
pub fn child(jti: &str) -> Child {
    Child {
        jti: jti.to_owned(),
        token: vec![255, 0, 7],
        issued_at: Timestamp::from_millis(1_764_079_200_250),
        expires_at: Timestamp::from_millis(1_764_080_100_250),
    }
}

/// What the parents of these families can be revoked by.
#[must_use]
pub fn origin() -> Origin {
    Origin {
        issuer: "https://idp.test".to_owned(),
        issued_at: Timestamp::from_secs(1_764_000_000),
        kid: "key".to_owned(),
    }
}

/// A revocation by `rule` that lives until it is deleted.
#[must_use]
pub fn revocation(id: &str, rule: RevocationRule) -> Revocation {
    Revocation {
        id: id.to_owned(),
        issuer: "https://idp.test".to_owned(),
        rule,
        expires_at: None,
        created_at: Timestamp::from_millis(1_764_079_200_250),
        note: String::new(),
    }
}

/// Runs all cases against an empty store. The keyring is not empty afterwards.
///
/// # Panics
///
/// If the engine fails one.
pub async fn tokens(store: &dyn Ledger) {
    every_field_of_a_family_comes_back(store).await;
    a_family_is_opened_once(store).await;
    of_those_who_race_for_a_renewal_one_wins(store).await;
    families_are_paged_by_their_parents(store).await;
    families_that_have_not_ended_are_counted(store).await;
    due_families_come_longest_due_first(store).await;
    every_kind_of_revocation_comes_back(store).await;
    revoking_twice_is_one_record_that_only_grows(store).await;
    revoking_a_parent_takes_its_family(store).await;
    no_child_of_a_revoked_parent_is_recorded(store).await;
    revocations_are_followed_by_sequence(store).await;
    deleting_a_revocation_tells_whether_it_was_there(store).await;
    the_keyring_is_compared_and_swapped(store).await;
    pruning_takes_what_has_expired_in_bounded_steps(store).await;
    assert!(store.healthy());
    assert_eq!(ok(store.families("", 9).await), [], "the cases clean up");
    assert_eq!(ok(store.revocations(0, 9).await), [], "the cases clean up");
}

/// Runs the case of an engine that several processes share, which may lose families.
///
/// # Panics
///
/// If the engine fails it.
pub async fn reopening(store: &dyn Ledger) {
    let due = Some(Timestamp::from_secs(1_800_000_000));
    let lost = family("lost", due);
    let issuer = "https://idp.test";
    let reopen = async |issuer| ok(store.reopen_family(issuer, &lost).await);
    assert!(reopen(issuer).await);
    assert_eq!(ok(store.family("lost").await), Some(lost.clone()));
    assert_eq!(ok(store.next_due().await), due);
    // One that is there stays as it is.
    ok(store.record_child("lost", &origin(), 0, &child("c"), None).await);
    assert!(reopen(issuer).await);
    assert_eq!(
        ok(store.family("lost").await).map(|family| family.sequence),
        Some(1)
    );
    // One that was revoked does not come back, not even once that is deleted; that of another issuer does.
    let parent = revocation("lost", RevocationRule::Parent("lost".to_owned()));
    ok(store.revoke(&parent).await);
    assert!(!reopen(issuer).await);
    assert!(ok(store.delete_revocation("lost").await));
    assert!(!reopen(issuer).await);
    assert_eq!(ok(store.family("lost").await), None);
    assert_eq!(ok(store.next_due().await), None);
    assert!(reopen("https://other.test").await);
    ok(store.prune(FAR).await);
}

async fn every_field_of_a_family_comes_back(store: &dyn Ledger) {
    let bare = Family {
        user_id: String::new(),
        profile: Vec::new(),
        expires_at: Timestamp::MAX,
        ..family("bare", None)
    };
    let full = Family {
        user_id: "ü'\";--\0".to_owned(),
        sequence: 7,
        latest: Some(Child {
            token: (0..=u8::MAX).cycle().take(20_000).collect(),
            ..child("c")
        }),
        ..family("full", Some(Timestamp::from_millis(-1)))
    };
    for family in [bare, full] {
        ok(store.open_family(&family).await);
        assert_eq!(ok(store.family(&family.parent_jti).await), Some(family));
    }
    assert_eq!(ok(store.family("none").await), None);
    assert_eq!(ok(store.family("FULL").await), None, "ids are case-sensitive");
    remove_families(store).await;
}

async fn a_family_is_opened_once(store: &dyn Ledger) {
    let first = family("p", Some(FAR));
    ok(store.open_family(&first).await);
    let second = Family {
        user_id: "mallory".to_owned(),
        next_renewal: None,
        ..first.clone()
    };
    ok(store.open_family(&second).await);
    assert_eq!(ok(store.family("p").await), Some(first));
    assert_eq!(ok(store.next_due().await), Some(FAR));
    remove_families(store).await;
}

async fn of_those_who_race_for_a_renewal_one_wins(store: &dyn Ledger) {
    let due = Timestamp::from_secs(100);
    ok(store.open_family(&family("p", None)).await);
    let recorded = ok(store
        .record_child("p", &origin(), 0, &child("one"), Some(due))
        .await);
    assert_eq!(recorded, Recorded::Stored(1));
    let winner = Family {
        sequence: 1,
        latest: Some(child("one")),
        next_renewal: Some(due),
        ..family("p", None)
    };
    // The loser is told who won, and changes nothing.
    let loser = ok(store.record_child("p", &origin(), 0, &child("two"), None).await);
    assert_eq!(loser, Recorded::Behind(Box::new(winner.clone())));
    let ahead = ok(store.record_child("p", &origin(), 2, &child("two"), None).await);
    assert_eq!(ahead, Recorded::Behind(Box::new(winner.clone())));
    assert_eq!(ok(store.family("p").await), Some(winner));
    assert_eq!(ok(store.next_due().await), Some(due));

    let recorded = ok(store.record_child("p", &origin(), 1, &child("two"), None).await);
    assert_eq!(recorded, Recorded::Stored(2));
    assert_eq!(ok(store.next_due().await), None);
    let gone = ok(store
        .record_child("none", &origin(), 0, &child("one"), Some(due))
        .await);
    assert_eq!(gone, Recorded::Gone);
    assert_eq!(ok(store.next_due().await), None);
    remove_families(store).await;
}

async fn families_that_have_not_ended_are_counted(store: &dyn Ledger) {
    let ends = Timestamp::from_secs(3_000_000_000);
    let before = ok(store.active_families(FAR).await);
    let lasting = Family {
        expires_at: ends,
        ..family("counted", None)
    };
    ok(store.open_family(&lasting).await);
    assert_eq!(ok(store.active_families(FAR).await), before + 1);
    assert_eq!(
        ok(store.active_families(ends).await),
        before,
        "it has ended at that time"
    );
    let parent = Parent("counted".to_owned());
    ok(store.revoke(&revocation("counted", parent)).await);
    assert_eq!(ok(store.active_families(FAR).await), before);
    ok(store.delete_revocation("counted").await);
}

async fn families_are_paged_by_their_parents(store: &dyn Ledger) {
    for parent in ["b", "d", "a", "c"] {
        ok(store.open_family(&family(parent, None)).await);
    }
    let parents = |page: Vec<Family>| {
        page.into_iter()
            .map(|family| family.parent_jti)
            .collect::<Vec<_>>()
    };
    assert_eq!(parents(ok(store.families("", 3).await)), ["a", "b", "c"]);
    assert_eq!(parents(ok(store.families("c", 3).await)), ["d"]);
    assert_eq!(parents(ok(store.families("bb", 1).await)), ["c"]);
    assert_eq!(parents(ok(store.families("a", 0).await)), [""; 0]);
    remove_families(store).await;
}

async fn due_families_come_longest_due_first(store: &dyn Ledger) {
    let at = Timestamp::from_secs;
    for (parent, due) in [("a", 30), ("b", 10), ("c", 20), ("d", 40)] {
        ok(store.open_family(&family(parent, Some(at(due)))).await);
    }
    ok(store.open_family(&family("never", None)).await);
    let parents = async |now: i64, limit: usize| {
        let due = ok(store.due_families(at(now), limit).await);
        due.into_iter()
            .map(|family| family.parent_jti)
            .collect::<Vec<_>>()
    };
    assert_eq!(parents(9, 9).await, [""; 0]);
    assert_eq!(parents(10, 9).await, ["b"]);
    assert_eq!(parents(30, 9).await, ["b", "c", "a"]);
    assert_eq!(parents(30, 2).await, ["b", "c"]);
    assert_eq!(ok(store.next_due().await), Some(at(10)));
    ok(store.postpone("b", 0, Some(at(35))).await);
    assert_eq!(ok(store.next_due().await), Some(at(20)));
    assert_eq!(parents(99, 9).await, ["c", "a", "b", "d"]);
    assert_eq!(
        ok(store.family("b").await),
        Some(family("b", Some(at(35)))),
        "nothing else changes"
    );
    ok(store.postpone("c", 0, None).await);
    ok(store.postpone("never", 0, Some(at(1))).await);
    ok(store.postpone("none", 0, Some(at(1))).await);
    assert_eq!(parents(99, 9).await, ["never", "a", "b", "d"]);
    // What was decided on before another child was recorded does not concern that one.
    let due = Some(at(50));
    let recorded = ok(store.record_child("d", &origin(), 0, &child("c"), due).await);
    assert_eq!(recorded, Recorded::Stored(1));
    for late in [None, Some(at(2))] {
        ok(store.postpone("d", 0, late).await);
        let due = ok(store.family("d").await).and_then(|family| family.next_renewal);
        assert_eq!(due, Some(at(50)));
        assert_eq!(parents(99, 9).await, ["never", "a", "b", "d"]);
    }
    remove_families(store).await;
    assert_eq!(ok(store.next_due().await), None);
    assert_eq!(parents(99, 9).await, [""; 0]);
}

async fn every_kind_of_revocation_comes_back(store: &dyn Ledger) {
    let not_before = Timestamp::from_millis(1_764_079_200_250);
    // One value under every kind: they are not each other's.
    let value = || "ü'\";--\0".to_owned();
    let rules = [
        Jti(value()),
        Parent(value()),
        Subject {
            sub: value(),
            not_before,
        },
        Session(value()),
        Kid(value()),
        IssuedBefore(not_before),
    ];
    for (number, rule) in rules.into_iter().enumerate() {
        let id = format!("id-{number}");
        let wanted = Revocation {
            expires_at: (number % 2 == 0).then_some(FAR),
            note: format!("lost a phone {number}"),
            ..revocation(&id, rule)
        };
        let revoked = ok(store.revoke(&wanted).await);
        assert_eq!(revoked.effective, wanted);
        assert_eq!(ok(store.revocation(&id).await).as_ref(), Some(&wanted));
        let last = ok(store.revocations(revoked.sequence - 1, 9).await);
        assert_eq!(last, [(revoked.sequence, wanted)]);
    }
    assert_eq!(ok(store.revocations(0, 99).await).len(), 6);
    assert_eq!(ok(store.revocation("none").await), None);
    // The same of another issuer is another.
    let other = Revocation {
        issuer: "https://other.test".to_owned(),
        ..revocation("other", Kid(value()))
    };
    assert_eq!(ok(store.revoke(&other).await).effective, other);
    assert_eq!(ok(store.revocations(0, 99).await).len(), 7);
    remove_revocations(store).await;
}

async fn revoking_twice_is_one_record_that_only_grows(store: &dyn Ledger) {
    let at = Timestamp::from_secs;
    let subject = |id: &str, not_before: i64, expires_at: Option<i64>, note: &str| Revocation {
        expires_at: expires_at.map(at),
        created_at: at(not_before),
        note: note.to_owned(),
        ..revocation(
            id,
            Subject {
                sub: "alice".to_owned(),
                not_before: at(not_before),
            },
        )
    };
    let first = ok(store.revoke(&subject("first", 50, Some(500), "one")).await);
    // A clock that was set back, a shorter life: nothing shrinks, nothing changes, nothing is announced.
    let earlier = ok(store.revoke(&subject("second", 40, Some(400), "")).await);
    assert_eq!(earlier, first);
    let later = ok(store.revoke(&subject("third", 60, Some(400), "")).await);
    assert!(later.sequence > first.sequence);
    let grown = Revocation {
        created_at: at(50),
        ..subject("first", 60, Some(500), "one")
    };
    assert_eq!(later.effective, grown);
    let longer = ok(store.revoke(&subject("fourth", 10, Some(600), "two")).await);
    let grown = Revocation {
        created_at: at(50),
        ..subject("first", 60, Some(600), "two")
    };
    assert_eq!(longer.effective, grown);
    assert_eq!(ok(store.revocations(0, 9).await), [(longer.sequence, grown)]);
    let forever = ok(store.revoke(&subject("fifth", 1, None, "")).await).effective;
    assert_eq!(forever.expires_at, None);
    let forever = ok(store.revoke(&subject("sixth", 1, Some(900), "")).await).effective;
    assert_eq!(forever.expires_at, None);
    assert_eq!(ok(store.revocation("sixth").await), None);
    assert_eq!(ok(store.revocation("first").await), Some(forever));

    for time in [70, 60, 80] {
        ok(store.revoke(&revocation("all", IssuedBefore(at(time)))).await);
    }
    let all = ok(store.revocation("all").await).map(|revocation| revocation.rule);
    assert_eq!(all, Some(IssuedBefore(at(80))));
    remove_revocations(store).await;
}

async fn revoking_a_parent_takes_its_family(store: &dyn Ledger) {
    for parent in ["p", "q"] {
        ok(store.open_family(&family(parent, Some(FAR))).await);
    }
    // Only a parent's: these are other ids of the same spelling.
    for rule in [Jti("p".to_owned()), Session("p".to_owned()), Kid("p".to_owned())] {
        let id = format!("{rule:?}");
        ok(store.revoke(&revocation(&id, rule)).await);
    }
    assert!(ok(store.family("p").await).is_some());
    for _ in 0..2 {
        ok(store.revoke(&revocation("r", Parent("p".to_owned()))).await);
        assert_eq!(ok(store.family("p").await), None);
        assert_eq!(
            ok(store
                .record_child("p", &origin(), 0, &child("c"), Some(FAR))
                .await),
            Recorded::Gone
        );
        // Revoked again it takes a family again, though nothing else changes.
        ok(store.open_family(&family("p", Some(FAR))).await);
    }
    ok(store.revoke(&revocation("r", Parent("p".to_owned()))).await);
    assert_eq!(ok(store.due_families(FAR, 9).await), [family("q", Some(FAR))]);
    remove_families(store).await;
    remove_revocations(store).await;
}

async fn no_child_of_a_revoked_parent_is_recorded(store: &dyn Ledger) {
    let at = Timestamp::from_secs;
    let origin = Origin {
        issuer: "https://own.test".to_owned(),
        issued_at: at(1000),
        kid: "key".to_owned(),
    };
    let revoke = async |id: &str, issuer: &str, rule| {
        let revocation = Revocation {
            issuer: issuer.to_owned(),
            ..revocation(id, rule)
        };
        ok(store.revoke(&revocation).await).effective.id
    };
    let record = async |after| ok(store.record_child("p", &origin, after, &child("c"), None).await);
    let subject = |sub: &str, not_before: i64| Subject {
        sub: sub.to_owned(),
        not_before: at(not_before),
    };
    ok(store.open_family(&family("p", Some(FAR))).await);
    // Others, and what was issued before it.
    for (n, rule) in [
        Jti("q".to_owned()),
        Parent("q".to_owned()),
        Kid("p".to_owned()),
        Session("p".to_owned()),
        subject("bob", 2000),
        subject("alice", 999),
        IssuedBefore(Timestamp::from_millis(999_999)),
    ]
    .into_iter()
    .enumerate()
    {
        revoke(&format!("other-{n}"), "https://own.test", rule).await;
    }
    revoke("foreign", "https://idp.test", subject("alice", 2000)).await;
    assert_eq!(record(0).await, Recorded::Stored(1));

    let as_it_was = ok(store.family("p").await);
    for (n, rule) in [
        Jti("p".to_owned()),
        Kid("key".to_owned()),
        subject("alice", 1000),
        IssuedBefore(at(1000)),
    ]
    .into_iter()
    .enumerate()
    {
        let id = revoke(&format!("own-{n}"), "https://own.test", rule.clone()).await;
        assert_eq!(record(1).await, Recorded::Revoked(id.clone()), "{rule:?}");
        assert_eq!(ok(store.family("p").await), as_it_was);
        assert!(matches!(record(0).await, Recorded::Behind(_)), "{rule:?}");
        assert!(ok(store.delete_revocation(&id).await));
    }
    assert_eq!(record(1).await, Recorded::Stored(2));
    // Not even where its family is opened again.
    let id = revoke("own", "https://own.test", Parent("p".to_owned())).await;
    ok(store.open_family(&family("p", None)).await);
    assert_eq!(record(0).await, Recorded::Revoked(id));
    remove_families(store).await;
    remove_revocations(store).await;
}

async fn revocations_are_followed_by_sequence(store: &dyn Ledger) {
    let jti = |n: usize| revocation(&format!("id-{n}"), Jti(format!("jti-{n}")));
    let mut sequences = Vec::new();
    for n in 0..5 {
        sequences.push(ok(store.revoke(&jti(n)).await).sequence);
    }
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = ok(store.revocations(after, 2).await);
        let Some((last, _)) = page.last() else { break };
        after = *last;
        seen.extend(page.into_iter().map(|(_, revocation)| revocation));
    }
    assert_eq!(seen, (0..5).map(jti).collect::<Vec<_>>());
    // One that changed moves to the end; the sequence of a deleted one is never given again.
    let changed = Revocation {
        note: "again".to_owned(),
        ..jti(1)
    };
    ok(store.revoke(&changed).await);
    let tail = ok(store.revocations(after, 9).await);
    assert_eq!(tail.iter().map(|(_, one)| one).collect::<Vec<_>>(), [&changed]);
    let last = tail.first().map_or(0, |(sequence, _)| *sequence);
    assert!(ok(store.delete_revocation("id-1").await));
    assert!(ok(store.revoke(&jti(6)).await).sequence > last);
    assert_eq!(ok(store.revocations(u64::MAX, 9).await), []);
    remove_revocations(store).await;
}

async fn deleting_a_revocation_tells_whether_it_was_there(store: &dyn Ledger) {
    assert!(!ok(store.delete_revocation("a").await));
    ok(store.revoke(&revocation("a", Kid("k".to_owned()))).await);
    assert!(ok(store.delete_revocation("a").await));
    assert!(!ok(store.delete_revocation("a").await));
    // Made again, it is a new one.
    let again = Revocation {
        created_at: FAR,
        ..revocation("b", Kid("k".to_owned()))
    };
    assert_eq!(ok(store.revoke(&again).await).effective, again);
    remove_revocations(store).await;
}

async fn the_keyring_is_compared_and_swapped(store: &dyn Ledger) {
    // The cases may run again on a store that is kept.
    let (start, former) = match ok(store.keyring().await) {
        Some((version, bytes)) => (version, Some(bytes)),
        None => (0, None),
    };
    assert!(!ok(store.put_keyring(start + 1, b"ahead").await));
    assert_eq!(
        ok(store.keyring().await),
        former.map(|bytes| (start, bytes)),
        "nothing changed"
    );
    assert!(ok(store.put_keyring(start, b"one").await));
    assert!(!ok(store.put_keyring(start, b"late").await));
    assert!(!ok(store.put_keyring(0, b"anew").await));
    assert_eq!(ok(store.keyring().await), Some((start + 1, b"one".to_vec())));
    assert!(ok(store.put_keyring(start + 1, &[0; 70_000]).await));
    assert!(ok(store.put_keyring(start + 2, b"").await));
    assert_eq!(ok(store.keyring().await), Some((start + 3, Vec::new())));
}

async fn pruning_takes_what_has_expired_in_bounded_steps(store: &dyn Ledger) {
    let at = Timestamp::from_secs;
    for n in 0..PRUNED + 1 {
        let expired = Family {
            expires_at: at(100),
            ..family(&format!("old-{n}"), Some(at(5)))
        };
        ok(store.open_family(&expired).await);
    }
    let kept = Family {
        expires_at: at(101),
        ..family("kept", None)
    };
    ok(store.open_family(&kept).await);
    for (id, expires_at) in [("old", Some(at(100))), ("kept", Some(at(101))), ("forever", None)] {
        let revocation = Revocation {
            expires_at,
            ..revocation(id, Jti(id.to_owned()))
        };
        ok(store.revoke(&revocation).await);
    }
    assert_eq!(ok(store.active_families(at(99)).await), PRUNED + 2);
    assert_eq!(ok(store.active_families(at(100)).await), 1);
    assert_eq!(ok(store.prune(at(99)).await), 0);
    assert_eq!(ok(store.prune(at(100)).await), PRUNED + 1);
    assert_eq!(ok(store.prune(at(100)).await), 1);
    assert_eq!(ok(store.prune(at(100)).await), 0);
    assert_eq!(ok(store.pruned_at().await), Some(at(100)));
    assert_eq!(ok(store.prune(at(90)).await), 0);
    assert_eq!(ok(store.pruned_at().await), Some(at(90)), "it may go back");
    assert_eq!(ok(store.families("", 9).await), [kept]);
    assert_eq!(ok(store.active_families(at(100)).await), 1);
    assert_eq!(ok(store.due_families(at(100), 9).await), []);
    let left = ok(store.revocations(0, 9).await);
    let ids: Vec<_> = left.iter().map(|(_, one)| one.id.as_str()).collect();
    assert_eq!(ids, ["kept", "forever"]);
    // What was pruned can be revoked again.
    let again = revocation("again", Jti("old".to_owned()));
    assert_eq!(ok(store.revoke(&again).await).effective, again);
    remove_families(store).await;
    remove_revocations(store).await;
}

async fn remove_families(store: &dyn Ledger) {
    while ok(store.prune(Timestamp::MAX).await) > 0 {}
}

async fn remove_revocations(store: &dyn Ledger) {
    for (_, revocation) in ok(store.revocations(0, usize::MAX).await) {
        assert!(ok(store.delete_revocation(&revocation.id).await));
    }
}
