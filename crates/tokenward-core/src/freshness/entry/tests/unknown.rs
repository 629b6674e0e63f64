//! Unknown key ids, and bad signatures under known ones.

use super::*;

#[test]
fn an_unknown_kid_is_fetched_for_once_and_then_known_to_be_absent() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let Miss::Fetch(plan) = entry.miss("x", ALICE, at(10)) else {
        panic!()
    };
    assert!(plan.single_attempt() && plan.validators.is_some());
    assert_eq!(entry.miss("x", BOB, at(10)), Miss::Join);
    assert_eq!(entry.miss("y", BOB, at(10)), Miss::Join);
    entry.finish_fetch(plan.ticket, not_modified(), at(11), 0.0);
    assert_eq!(entry.miss("x", BOB, at(11)), Miss::KnownAbsent);
    assert_eq!(entry.miss("x", BOB, at(40)), Miss::KnownAbsent);
    assert_eq!(
        entry.miss("y", ALICE, at(11)),
        Miss::OverBudget,
        "its half is out"
    );
    assert!(
        matches!(entry.miss("y", BOB, at(11)), Miss::Fetch(_)),
        "it only joined"
    );
    assert!(matches!(entry.miss("z", CallerId::new(3), at(11)), Miss::Join));
}

#[test]
fn an_id_whose_key_does_not_fit_is_absent_too() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    assert!(matches!(
        entry.view().lookup(Some("a"), Algorithm::Rs256, at(10)),
        Lookup::Unknown
    ));
    let Miss::Fetch(plan) = entry.miss("a", ALICE, at(10)) else {
        panic!()
    };
    entry.finish_fetch(plan.ticket, not_modified(), at(10), 0.0);
    assert_eq!(entry.miss("a", ALICE, at(11)), Miss::KnownAbsent);
    assert!(entry.finds("a", at(11)), "which takes nothing from those it fits");
}

#[test]
fn the_negative_cache_ends_with_its_time_and_with_the_set() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let Miss::Fetch(plan) = entry.miss("x", ALICE, at(10)) else {
        panic!()
    };
    entry.finish_fetch(plan.ticket, not_modified(), at(10), 0.0);
    assert!(entry.is_known_absent("x", at(39)) && !entry.is_known_absent("x", at(40)));
    entry.land(fresh_set(&[("b", 2)]), at(12));
    assert!(!entry.is_known_absent("x", at(12)));
}

#[test]
fn what_a_failed_fetch_did_not_find_is_not_absent_and_counts_all_the_same() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let due = entry.next_wakeup();
    let outcomes = [failed(), Outcome::Refused { code: "not_json" }];
    for (caller, outcome) in [ALICE, BOB].into_iter().zip(outcomes) {
        let Miss::Fetch(plan) = entry.miss("x", caller, at(10)) else {
            panic!()
        };
        entry.finish_fetch(plan.ticket, outcome, at(10), 0.0);
        assert!(!entry.is_known_absent("x", at(10)));
    }
    assert_eq!(entry.miss("x", CallerId::new(3), at(10)), Miss::OverBudget);
    assert_eq!(entry.next_wakeup(), due, "the schedule does not hear of it");
    assert!(!entry.is_failing());
    assert_eq!(entry.status(at(10)).error_count, 2);
}

#[test]
fn a_flood_of_one_caller_leaves_room_for_a_real_rotation() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let mut fetches = Vec::new();
    for n in 0..100_000_u32 {
        let now = at(10) + Duration::from_millis(u64::from(n));
        if n == 50_000 {
            let Miss::Fetch(plan) = entry.miss("new", BOB, now) else {
                panic!("starved")
            };
            entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1), ("new", 2)]), now, 0.0);
            assert!(entry.finds("new", now));
        }
        let mut kid = String::new();
        write!(kid, "random-{n}").unwrap();
        if let Miss::Fetch(plan) = entry.miss(&kid, ALICE, now) {
            fetches.push(now);
            entry.finish_fetch(plan.ticket, failed(), now, 0.0);
        }
    }
    assert!(
        fetches.windows(4).all(|four| four[3].since(four[0]) > secs(60)),
        "{fetches:?}"
    );
    assert!((2..=4).contains(&fetches.len()), "{fetches:?}");
    assert!(
        entry.demand().absent_kids.len() <= 4 && entry.demand().budget.take(1_000, secs(1), BOB, at(200))
    );
}

#[test]
fn budget_and_negative_ttl_are_settings() {
    let generous = Settings {
        unknown_kid: crate::freshness::UnknownKid {
            budget: 6,
            refill: secs(1),
            negative_ttl: secs(2),
        },
        ..settings()
    };
    let mut entry = loaded(generous, &[("a", 1)]);
    for kid in ["x", "y", "z"] {
        let Miss::Fetch(plan) = entry.miss(kid, ALICE, at(10)) else {
            panic!()
        };
        entry.finish_fetch(plan.ticket, not_modified(), at(10), 0.0);
    }
    assert_eq!(entry.miss("w", ALICE, at(10)), Miss::OverBudget);
    assert!(!entry.is_known_absent("x", at(12)));
    assert!(matches!(entry.miss("w", ALICE, at(11)), Miss::Fetch(_)));
}

#[test]
fn bad_signatures_have_a_budget_of_their_own() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let Miss::Fetch(plan) = entry.bad_signature(ALICE, at(10)) else {
        panic!()
    };
    assert!(plan.single_attempt());
    entry.finish_fetch(plan.ticket, failed(), at(10), 0.0);
    assert_eq!(entry.next_wakeup(), at(3_600));
    assert_eq!(entry.bad_signature(ALICE, at(69)), Miss::OverBudget);
    assert!(
        matches!(entry.miss("x", ALICE, at(69)), Miss::Fetch(_)),
        "the other budget is whole"
    );
}

#[test]
fn nothing_is_known_to_be_absent_from_a_set_that_is_gone() {
    for purged in [true, false] {
        let mut entry = loaded(settings(), &[("a", 1)]);
        let (before, now) = (at(10), at(12));
        let Miss::Fetch(plan) = entry.miss("x", ALICE, before) else {
            panic!()
        };
        entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1)]), before, 0.0);
        assert_eq!(entry.miss("x", ALICE, before), Miss::KnownAbsent);
        if purged {
            entry.purge(now);
        } else {
            // Nothing has tidied up yet.
            Arc::make_mut(&mut entry.view).usable_until = now;
        }
        assert!(matches!(entry.miss("x", BOB, now), Miss::Fetch(_)), "{purged}");
        entry.tick(now);
        assert!(entry.demand().absent_kids.is_empty(), "{purged}");
    }
}

#[test]
fn what_is_known_to_be_absent_is_bounded_and_forgotten_in_time() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    for n in 0..2 * MAX_ABSENT_KIDS {
        entry.note_absent(n.to_string().into(), at(1));
    }
    assert_eq!(entry.demand().absent_kids.len(), MAX_ABSENT_KIDS);
    entry.tick(at(30));
    assert_eq!(entry.demand().absent_kids.len(), MAX_ABSENT_KIDS);
    entry.tick(at(31));
    assert!(entry.demand().absent_kids.is_empty());
}
