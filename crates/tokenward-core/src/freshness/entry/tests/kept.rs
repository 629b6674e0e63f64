//! What is kept over a restart, and what becomes of it.

use super::*;

#[test]
fn only_a_whole_set_is_kept_with_its_validators() {
    let broken = r#"{"kty":"OKP","crv":"Ed25519","kid":"broken","x":"AA"}"#.to_owned();
    let (a, b, enc) = (jwk("a", 1, ""), jwk("b", 2, ""), jwk("e", 3, r#","use":"enc""#));
    for (set, max_keys, whole) in [
        (&[a.clone(), b.clone()][..], 2, true),
        (&[a.clone(), enc], 2, true),
        // What was dropped is kept with the rest.
        (&[a.clone(), b], 1, true),
        (&[a, broken], 2, false),
    ] {
        let settings = Settings {
            max_keys,
            ..settings()
        };
        let mut entry = Entry::new(settings, at(0));
        entry.land(fresh(&body(set), Upstream::default()), at(0));
        let (kept, _) = entry.snapshot().unwrap();
        let expected = if whole {
            validators("v1")
        } else {
            Validators::default()
        };
        assert_eq!(kept, expected, "{set:?}");
        let plan = entry.begin_fetch(Cause::Manual, at(1)).unwrap();
        assert_eq!(plan.validators, Some(validators("v1")), "as long as it runs");
    }
}

fn restored(fetched_at: i64, now: i64) -> Entry {
    let keys = KeySet::parse(body(&[jwk("a", 1, "")]).as_bytes()).unwrap();
    let restored = Restored {
        keys,
        fetched_at: at(fetched_at),
        digest: [7; 32],
        validators: validators("old"),
        upstream: stated(86_400),
    };
    Entry::restored(settings(), restored, at(now), 0.0)
}

#[test]
fn a_snapshot_keeps_its_age() {
    let entry = restored(0, 600);
    assert!(entry.finds("a", at(600)));
    assert_eq!(entry.next_wakeup(), at(3_600), "still fresh");
    assert_eq!(entry.status(at(600)).last_updated, Some(at(0)));
    assert_eq!(entry.view().usable_until(), at(3_600 + 43_200));

    let mut entry = restored(0, 10_000);
    assert!(entry.finds("a", at(10_000)) && entry.is_due(at(10_000)));
    assert_eq!(entry.status(at(10_000)).state, State::Stale);
    let plan = entry.begin_fetch(Cause::Scheduled, at(10_000)).unwrap();
    assert_eq!(plan.validators, Some(validators("old")));

    let entry = restored(0, 3_600 + 43_200);
    assert!(!entry.finds("a", at(46_800)) && entry.is_due(at(46_800)));
}

#[test]
fn a_snapshot_from_the_future_is_stale_from_now() {
    let entry = restored(1_000_000, 0);
    assert!(entry.finds("a", at(0)) && entry.is_due(at(0)));
    assert_eq!(entry.status(at(0)).state, State::Stale);
    assert_eq!(entry.view().usable_until(), at(43_200));
}
