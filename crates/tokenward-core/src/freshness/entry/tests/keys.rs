//! Keys that come, go and are replaced.

use super::*;

#[test]
fn an_absent_key_verifies_for_its_grace_and_is_not_served() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    let finished = entry.land(fresh_set(&[("b", 2)]), at(100));
    assert_eq!((finished.new_keys, finished.events), (true, vec![]));
    assert_eq!(entry.serves(at(100)), ["b"]);
    assert_eq!(entry.next_wakeup(), at(400));
    entry.land(fresh_set(&[("b", 2), ("c", 3)]), at(200));
    assert!(
        entry.finds("a", at(399)) && !entry.finds("a", at(400)),
        "nothing prolongs it"
    );
    let generation = entry.view().generation();
    assert!(entry.tick(at(400)) && !entry.tick(at(400)));
    assert!(entry.view().generation() > generation);
}

#[test]
fn a_key_that_comes_back_is_there_again() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    for round in 0..10 {
        let now = at(100 + round * 200);
        let listed: &[(&str, u8)] = if round % 2 == 0 {
            &[("b", 2)]
        } else {
            &[("a", 1), ("b", 2)]
        };
        entry.land(fresh_set(listed), now);
        entry.tick(now);
        assert!(
            entry.finds("a", now + secs(199)) && entry.finds("b", now),
            "{round}"
        );
    }
}

#[test]
fn the_same_id_with_another_key_drops_the_old_one_at_once() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    let old = *entry.view().keys(at(0)).unwrap().usable()[0].thumbprint();
    let finished = entry.land(fresh_set(&[("a", 9), ("b", 2)]), at(1));
    let view = entry.view();
    let Lookup::Use { key, .. } = view.lookup(Some("a"), Algorithm::EdDsa, at(1)) else {
        panic!()
    };
    assert_ne!(*key.thumbprint(), old);
    let replaced = Event::KeyReplaced {
        kid: "a".to_owned(),
        old,
        new: Some(*key.thumbprint()),
    };
    assert_eq!(finished.events, [replaced]);
    entry.land(fresh_set(&[("b", 2)]), at(2));
    let view = entry.view();
    let Lookup::Use { key, .. } = view.lookup(Some("a"), Algorithm::EdDsa, at(2)) else {
        panic!()
    };
    assert_ne!(
        *key.thumbprint(),
        old,
        "grace is for the one that was listed last"
    );
}

#[test]
fn all_keys_replaced_is_told() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    let finished = entry.land(fresh_set(&[("c", 3)]), at(1));
    assert_eq!(finished.events, [Event::AllKeysReplaced]);
    assert!(entry.finds("a", at(1)) && entry.finds("b", at(1)) && entry.finds("c", at(1)));
}

#[test]
fn a_compromised_key_has_no_grace() {
    for kid in ["a", ""] {
        let mut entry = loaded(settings(), &[(kid, 1), ("b", 2)]);
        assert!(entry.finds(if kid.is_empty() { "b" } else { "a" }, at(0)));
        let leaked = jwk(kid, 1, r#","d":"AAAA""#);
        let finished = entry.land(
            fresh(&body(&[leaked, jwk("b", 2, "")]), Upstream::default()),
            at(1),
        );
        assert!(
            finished.events.contains(&Event::KeysCompromised { count: 1 }),
            "{finished:?}"
        );
        assert!(entry.view.absent.is_empty(), "{kid:?}");
        assert_eq!(entry.serves(at(1)), ["b"]);
    }
}

#[test]
fn a_key_whose_private_half_is_out_is_gone_whatever_it_is_called() {
    let leaked = jwk("other", 1, r#","d":"AAAA""#);
    let beside = [leaked.clone(), jwk("b", 2, "")];
    for (after, found) in [(&beside[..], ["b"]), (&[leaked][..], ["b"])] {
        let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
        let body = body(after);
        let finished = entry.land(fresh(&body, Upstream::default()), at(1));
        assert!(finished.new_keys && finished.events.contains(&Event::KeysCompromised { count: 1 }));
        assert!(!entry.finds("a", at(1)) && entry.finds("b", at(1)), "{body}");
        assert!(entry.view.absent.is_empty());
        assert_eq!(entry.serves(at(1)), found);
        let status = entry.status(at(1));
        assert_eq!(status.skipped_keys.len(), 1);
        assert_eq!(status.skipped_keys[0].reason, "private_material");
    }
}

#[test]
fn what_a_refused_set_leaves_is_not_taken_for_the_whole_one() {
    let leaked = body(&[jwk("a", 1, r#","d":"AAAA""#)]);
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    entry.land(fresh(&leaked, Upstream::default()), at(1));
    assert_eq!(entry.status(at(1)).state, State::Degraded);
    let plan = entry.begin_fetch(Cause::Manual, at(2)).unwrap();
    assert_eq!(plan.validators, None, "a 304 would confirm the half of it");
    entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1), ("b", 2)]), at(2), 0.0);
    assert_eq!(entry.serves(at(2)), ["a", "b"], "the same body as before");

    // One that was waiting for its end, and the last one that was left.
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    entry.land(fresh_set(&[("b", 2)]), at(1));
    assert!(entry.finds("a", at(1)));
    let finished = entry.land(fresh(&leaked, Upstream::default()), at(2));
    assert!(finished.new_keys && !entry.finds("a", at(2)) && entry.finds("b", at(2)));
    let finished = entry.land(fresh(&leaked, Upstream::default()), at(3));
    assert!(!finished.new_keys, "nothing is left to remove");
    let last = body(&[jwk("b", 2, r#","d":"AAAA""#)]);
    assert!(entry.land(fresh(&last, Upstream::default()), at(4)).new_keys);
    assert_eq!(
        (entry.status(at(4)).state, entry.snapshot()),
        (State::Failed, None)
    );
}

#[test]
fn keys_without_id_are_told_apart() {
    let mut entry = loaded(settings(), &[("", 1), ("", 2), ("c", 3)]);
    assert!(matches!(
        entry.view().lookup(None, Algorithm::EdDsa, at(0)),
        Lookup::Ambiguous
    ));
    entry.land(fresh_set(&[("c", 3)]), at(1));
    assert_eq!(entry.view.absent.len(), 2);
    assert!(entry.finds("", at(1)), "the set's only key, whatever is absent");

    // RFC 7515 appendix A.3.
    let other = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    for (before, found) in [(&[("", 1)][..], true), (&[("", 1), ("", 2)][..], false)] {
        let mut entry = loaded(settings(), before);
        entry.land(fresh(&body(&[other.to_owned()]), Upstream::default()), at(1));
        assert_eq!(
            entry.finds("", at(1)),
            found,
            "an absent key is found if it is the only one that fits"
        );
    }
}

#[test]
fn truncation_keeps_what_is_in_use() {
    let settings = Settings {
        max_keys: 2,
        ..settings()
    };
    let keys = [("p", 1), ("q", 2)];
    let more = [("n1", 3), ("n2", 4), ("q", 2), ("used", 5), ("p", 1)];
    let mut entry = loaded(settings.clone(), &keys);
    entry.note_use("used", at(1));
    let finished = entry.land(fresh_set(&more), at(2));
    assert_eq!(entry.serves(at(2)), ["q", "used"]);
    let truncated = finished.truncated.unwrap();
    assert_eq!(truncated.original_count, 5);
    assert_eq!(truncated.dropped.kids, ["n1", "n2", "p"]);
    let status = entry.status(at(2));
    assert_eq!(
        (status.dropped_kids, status.dropped_count),
        (truncated.dropped.kids, 3)
    );
    assert!(entry.finds("p", at(2)), "what was there has its grace");

    let mut entry = loaded(
        Settings {
            truncation: Truncation::FirstN,
            ..settings
        },
        &keys,
    );
    entry.land(fresh_set(&more), at(2));
    assert_eq!(entry.serves(at(2)), ["n1", "n2"]);
}

#[test]
fn uses_are_remembered_for_a_day_and_a_bounded_number_of_ids() {
    let mut entry = Entry::new(settings(), at(0));
    for n in 0..1_000 {
        entry.note_use(&format!("k{n}"), at(n));
    }
    assert_eq!(entry.demand().recent_kids.len(), MAX_RECENT_KIDS);
    assert!(entry.demand().recent_kids.iter().any(|(kid, _)| **kid == *"k999"));
    let settings = Settings {
        max_keys: 1,
        ..settings()
    };
    let mut entry = Entry::new(settings, at(0));
    entry.note_use("b", at(0));
    entry.land(fresh_set(&[("a", 1), ("b", 2)]), at(86_400));
    assert_eq!(entry.serves(at(86_400)), ["a"]);
}
