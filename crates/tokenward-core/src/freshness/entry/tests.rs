//! One test for each rule. Random histories are in `histories`.

use std::fmt::Write;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;
use crate::{
    freshness::{CachePolicy, Lookup, Refresh},
    jose::{Algorithm, Truncation},
};

pub(super) const START: i64 = 1_800_000_000;

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The JWK of the key that `seed` makes; no id where `kid` is empty.
pub(super) fn jwk(kid: &str, seed: u8, more: &str) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let kid = match kid {
        "" => String::new(),
        kid => format!(r#""kid":"{kid}","#),
    };
    format!(r#"{{{kid}"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#)
}

pub(super) fn body(jwks: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, jwks.join(","))
}

/// A set with one key for each pair of id and seed.
pub(super) fn fresh_set(keys: &[(&str, u8)]) -> Outcome {
    let jwks: Vec<_> = keys.iter().map(|(kid, seed)| jwk(kid, *seed, "")).collect();
    fresh(&body(&jwks), Upstream::default())
}

pub(super) fn fresh(body: &str, upstream: Upstream) -> Outcome {
    let keys = KeySet::parse(body.as_bytes()).unwrap();
    Outcome::Fresh {
        digest: keys.digest(),
        keys: Box::new(keys),
        validators: validators("v1"),
        upstream,
    }
}

pub(super) fn validators(etag: &str) -> Validators {
    Validators {
        etag: Some(etag.to_owned()),
        last_modified: None,
    }
}

pub(super) fn not_modified() -> Outcome {
    Outcome::NotModified {
        validators: Validators::default(),
        upstream: Upstream::default(),
    }
}

pub(super) fn failed() -> Outcome {
    Outcome::Failed {
        code: "connect",
        text: "connection refused".to_owned(),
        retry_after: None,
    }
}

fn stated(max_age: u64) -> Upstream {
    Upstream {
        max_age: Some(secs(max_age)),
        remaining: Some(secs(max_age)),
    }
}

fn settings() -> Settings {
    Settings {
        prefetch_jitter: Duration::ZERO,
        ..Settings::default()
    }
}

const ALICE: CallerId = CallerId::new(1);
const BOB: CallerId = CallerId::new(2);

impl Entry {
    fn land(&mut self, outcome: Outcome, now: Timestamp) -> Finished {
        let plan = self.begin_fetch(Cause::Manual, now).unwrap();
        self.finish_fetch(plan.ticket, outcome, now, 0.0).unwrap()
    }

    fn finds(&self, kid: &str, now: Timestamp) -> bool {
        let kid = (!kid.is_empty()).then_some(kid);
        matches!(self.view().lookup(kid, Algorithm::EdDsa, now), Lookup::Use { .. })
    }

    fn serves(&self, now: Timestamp) -> Vec<String> {
        let view = self.view();
        let keys = view.keys(now).map(|set| {
            set.documents()
                .map(|(kid, _)| kid.unwrap_or_default().to_owned())
                .collect()
        });
        keys.unwrap_or_default()
    }
}

fn loaded(settings: Settings, keys: &[(&str, u8)]) -> Entry {
    let mut entry = Entry::new(settings, at(0));
    assert_eq!(entry.land(fresh_set(keys), at(0)).error, None);
    entry
}

#[test]
fn due_at_once_and_then_at_its_pace() {
    let mut entry = Entry::new(settings(), at(0));
    assert!(entry.is_due(at(0)));
    let plan = entry.begin_fetch(Cause::Scheduled, at(0)).unwrap();
    assert!(!plan.single_attempt() && plan.validators.is_none());
    entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1)]), at(1), 0.0);
    assert_eq!(entry.next_wakeup(), at(3_601));
    assert!(entry.begin_fetch(Cause::Scheduled, at(3_600)).is_none());
    assert!(entry.begin_fetch(Cause::Scheduled, at(3_601)).is_some());
}

#[test]
fn one_fetch_at_a_time() {
    let mut entry = Entry::new(settings(), at(0));
    let plan = entry.begin_fetch(Cause::Scheduled, at(0)).unwrap();
    assert!(entry.begin_fetch(Cause::Manual, at(0)).is_none());
    assert_eq!(entry.miss("x", ALICE, at(0)), Miss::Join);
    assert_eq!(entry.bad_signature(ALICE, at(0)), Miss::Join);
    assert!(!entry.is_due(at(0)));
    entry.finish_fetch(plan.ticket + 1, fresh_set(&[("a", 1)]), at(0), 0.0);
    assert!(
        !entry.finds("a", at(0)),
        "an outcome of another ticket is ignored"
    );
    entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1)]), at(0), 0.0);
    assert!(entry.finds("a", at(0)));
}

#[test]
fn an_operator_fetches_even_what_is_fresh() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    assert!(entry.begin_fetch(Cause::Manual, at(1)).is_some());
}

#[test]
fn abandoned_fetches_come_again() {
    let mut entry = Entry::new(settings(), at(0));
    let plan = entry.begin_fetch(Cause::Scheduled, at(0)).unwrap();
    entry.abandon_fetch(plan.ticket + 1, at(1));
    assert_eq!(entry.status(at(1)).state, State::Loading);
    entry.abandon_fetch(plan.ticket, at(1));
    assert_eq!(entry.next_wakeup(), at(2));
    assert!(entry.begin_fetch(Cause::Scheduled, at(2)).is_some());

    let mut entry = loaded(settings(), &[("a", 1)]);
    let Miss::Fetch(plan) = entry.miss("x", ALICE, at(5)) else {
        panic!()
    };
    entry.abandon_fetch(plan.ticket, at(6));
    assert_eq!(
        entry.next_wakeup(),
        at(3_600),
        "what a token caused leaves the schedule"
    );
}

#[test]
fn a_304_keeps_the_same_set() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let before = Arc::clone(entry.view().keys(at(0)).unwrap());
    let plan = entry.begin_fetch(Cause::Scheduled, at(3_600)).unwrap();
    assert_eq!(plan.validators, Some(validators("v1")));
    let outcome = Outcome::NotModified {
        validators: validators("v2"),
        upstream: stated(300),
    };
    let finished = entry.finish_fetch(plan.ticket, outcome, at(3_600), 0.0).unwrap();
    assert!(!finished.new_keys && finished.events.is_empty());
    assert!(Arc::ptr_eq(&before, entry.view().keys(at(3_600)).unwrap()));
    let status = entry.status(at(3_600));
    assert_eq!((status.update_count, status.last_updated), (2, Some(at(3_600))));
    assert_eq!(status.idp_suggested_cache, 300);
    let plan = entry.begin_fetch(Cause::Manual, at(3_601)).unwrap();
    assert_eq!(
        plan.validators,
        Some(validators("v2")),
        "its metadata replaces the earlier"
    );
    entry.finish_fetch(plan.ticket, not_modified(), at(3_601), 0.0);
    assert_eq!(
        entry.status(at(3_601)).idp_suggested_cache,
        300,
        "what it does not say stays"
    );
    let plan = entry.begin_fetch(Cause::Manual, at(3_602)).unwrap();
    assert_eq!(plan.validators, Some(validators("v2")));
}

#[test]
fn the_same_body_again_keeps_the_same_set() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let before = Arc::clone(entry.view().keys(at(0)).unwrap());
    assert!(!entry.land(fresh_set(&[("a", 1)]), at(9)).new_keys);
    assert!(Arc::ptr_eq(&before, entry.view().keys(at(9)).unwrap()));
    assert!(
        entry.land(fresh_set(&[("b", 2)]), at(10)).new_keys,
        "whatever the ETag says"
    );
}

#[test]
fn a_304_without_a_set_or_a_condition_is_a_failure_and_asked_again_without_one() {
    let mut entry = Entry::new(settings(), at(0));
    assert_eq!(
        entry.land(not_modified(), at(0)).error,
        Some("not_modified_unexpected")
    );

    let mut entry = loaded(settings(), &[("a", 1)]);
    let plan = entry.begin_fetch(Cause::Manual, at(1)).unwrap();
    entry.purge(at(1));
    let finished = entry
        .finish_fetch(plan.ticket, not_modified(), at(2), 0.0)
        .unwrap();
    assert_eq!(finished.error, Some("not_modified_unexpected"));
    let plan = entry.begin_fetch(Cause::Scheduled, at(4)).unwrap();
    assert_eq!(plan.validators, None);

    let mut entry = loaded(settings(), &[("a", 1)]);
    entry.reconfigure(settings(), at(1));
    assert_eq!(
        entry.land(not_modified(), at(1)).error,
        Some("not_modified_unexpected"),
        "it was not asked whether anything changed"
    );
    assert!(entry.finds("a", at(1)));
}

#[test]
fn a_set_without_usable_keys_never_replaces_one_with() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let unusable = jwk("b", 2, r#","use":"enc""#);
    for outcome in [
        fresh(r#"{"keys":[]}"#, Upstream::default()),
        fresh(&body(std::slice::from_ref(&unusable)), Upstream::default()),
        Outcome::Refused { code: "not_json" },
    ] {
        let finished = entry.land(outcome, at(5));
        let code = finished.error.unwrap();
        assert_eq!(finished.events, [Event::SetRefused { code }]);
        assert_eq!(entry.serves(at(5)), ["a"]);
        assert!(entry.finds("a", at(5)));
        let status = entry.status(at(5));
        assert_eq!((status.state, status.last_error), (State::Degraded, Some(code)));
        assert_eq!((status.last_updated, status.update_count), (Some(at(0)), 1));
    }
    entry.land(failed(), at(6));
    assert_eq!(
        entry.status(at(6)).state,
        State::Degraded,
        "until a good set comes"
    );
    entry.land(fresh_set(&[("a", 1)]), at(7));
    let status = entry.status(at(7));
    assert_eq!(
        (status.state, status.last_error, status.error_count),
        (State::Ready, None, 4)
    );

    let mut entry = Entry::new(settings(), at(0));
    entry.land(fresh(&body(&[unusable]), Upstream::default()), at(0));
    assert_eq!(entry.status(at(0)).state, State::Failed);
    assert_eq!(entry.serves(at(0)), Vec::<String>::new());
}

#[test]
fn every_state() {
    let mut entry = Entry::new(settings(), at(0));
    let state = |entry: &Entry, secs| entry.status(at(secs)).state;
    assert_eq!(state(&entry, 0), State::Empty);
    let plan = entry.begin_fetch(Cause::Scheduled, at(0)).unwrap();
    assert_eq!(state(&entry, 0), State::Loading);
    entry.finish_fetch(plan.ticket, failed(), at(1), 0.0);
    assert_eq!(state(&entry, 1), State::Failed);
    entry.land(fresh_set(&[("a", 1)]), at(2));
    assert_eq!(state(&entry, 2), State::Ready);
    let plan = entry.begin_fetch(Cause::Manual, at(3)).unwrap();
    assert_eq!(state(&entry, 3), State::Refreshing);
    entry.finish_fetch(plan.ticket, failed(), at(4), 0.0);
    assert_eq!(state(&entry, 4), State::Ready, "still fresh");
    assert_eq!(state(&entry, 3_602), State::Stale);
    entry.land(Outcome::Refused { code: "not_json" }, at(3_603));
    assert_eq!(state(&entry, 3_603), State::Degraded);
    entry.land(fresh_set(&[("a", 1)]), at(3_604));
    let gone = 3_604 + 3_600 + 12 * 3_600;
    assert_eq!(state(&entry, gone - 1), State::Stale);
    assert_eq!(
        state(&entry, gone),
        State::Failed,
        "expired, though nothing was tried"
    );
}

#[test]
fn an_outage_is_survived_for_the_stale_window_and_no_longer() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let end = 3_600 + 12 * 3_600;
    entry.land(failed(), at(3_600));
    for (secs, stale) in [(3_599, false), (3_600, true), (end - 1, true)] {
        let view = entry.view();
        let Lookup::Use { until, stale: is, .. } = view.lookup(Some("a"), Algorithm::EdDsa, at(secs)) else {
            panic!("{secs}");
        };
        assert_eq!((until, is), (at(end), stale), "{secs}");
    }
    assert!(matches!(
        entry.view().lookup(Some("a"), Algorithm::EdDsa, at(end)),
        Lookup::Unavailable
    ));
    assert!(
        entry.serves(at(end)).is_empty(),
        "though nothing has tidied it away"
    );
    assert!(!entry.tick(at(end - 1)) && entry.tick(at(end)) && !entry.tick(at(end)));
}

#[test]
fn no_stale_window_keeps_what_is_fresh() {
    let http = Settings {
        refresh: Refresh::Http,
        stale_while_error: Duration::ZERO,
        ..settings()
    };
    let mut entry = Entry::new(http, at(0));
    entry.land(fresh(&body(&[jwk("a", 1, "")]), stated(600)), at(0));
    assert_eq!(entry.next_wakeup(), at(570), "ahead of the end");
    entry.land(failed(), at(570));
    assert!(entry.finds("a", at(599)) && !entry.finds("a", at(600)));
}

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
fn purge_drops_everything_at_once() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2)]);
    entry.land(fresh_set(&[("b", 2)]), at(1));
    entry.purge(at(2));
    assert!(!entry.finds("a", at(2)) && !entry.finds("b", at(2)));
    assert!(entry.is_due(at(2)) && entry.snapshot().is_none());
    assert_eq!(entry.status(at(2)).state, State::Empty);
    assert_eq!(
        entry.begin_fetch(Cause::Scheduled, at(2)).unwrap().validators,
        None
    );
}

#[test]
fn failures_back_off_and_a_success_ends_it() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let mut now = at(3_600);
    let mut pauses = Vec::new();
    for _ in 0..11 {
        let plan = entry.begin_fetch(Cause::Scheduled, now).unwrap();
        entry.finish_fetch(plan.ticket, failed(), now, 0.999_999_9);
        pauses.push((entry.next_wakeup().since(now).as_millis() + 500) / 1_000);
        now = entry.next_wakeup();
    }
    assert!(entry.is_failing());
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let plan = entry.begin_fetch(Cause::Scheduled, now).unwrap();
    entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1)]), now, 0.0);
    assert!(!entry.is_failing());
    assert_eq!(entry.next_wakeup(), now + secs(3_600));
}

#[test]
fn a_provider_that_is_up_after_five_seconds_is_loaded_within_fifteen() {
    for seed in 0..200_u32 {
        let mut entry = Entry::new(settings(), at(0));
        let mut now = at(0);
        let mut draw = seed;
        while !entry.finds("a", now) {
            now = entry.next_wakeup();
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let plan = entry.begin_fetch(Cause::Scheduled, now).unwrap();
            let outcome = if now < at(5) {
                failed()
            } else {
                fresh_set(&[("a", 1)])
            };
            entry.finish_fetch(
                plan.ticket,
                outcome,
                now,
                f64::from(draw >> 1) / f64::from(u32::MAX >> 1),
            );
        }
        assert!(now <= at(15), "{seed}: {now}");
    }
}

#[test]
fn retry_after_is_honoured() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let outcome = Outcome::Failed {
        code: "status_429",
        text: String::new(),
        retry_after: Some(secs(120)),
    };
    entry.land(outcome, at(10));
    assert_eq!(entry.next_wakeup(), at(130));
}

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
    assert!(entry.absent_kids.len() <= 4 && entry.budget.take(1_000, secs(1), BOB, at(200)));
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
fn the_failure_of_a_first_load_is_told_at_once_where_that_is_configured() {
    let negative = Settings {
        negative_cache_ttl: secs(20),
        ..settings()
    };
    for (settings, during) in [(settings(), Miss::Join), (negative, Miss::OverBudget)] {
        let mut entry = Entry::new(settings, at(0));
        entry.land(failed(), at(0));
        entry.begin_fetch(Cause::Scheduled, at(5)).unwrap();
        assert_eq!(entry.miss("x", ALICE, at(5)), during);
        assert_eq!(entry.miss("x", ALICE, at(20)), Miss::Join);
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
    assert_eq!(entry.recent_kids.len(), MAX_RECENT_KIDS);
    assert!(entry.recent_kids.iter().any(|(kid, _)| **kid == *"k999"));
    let settings = Settings {
        max_keys: 1,
        ..settings()
    };
    let mut entry = Entry::new(settings, at(0));
    entry.note_use("b", at(0));
    entry.land(fresh_set(&[("a", 1), ("b", 2)]), at(86_400));
    assert_eq!(entry.serves(at(86_400)), ["a"]);
}

#[test]
fn other_settings_hold_at_once_and_the_set_is_read_anew() {
    let mut entry = loaded(settings(), &[("a", 1), ("b", 2), ("c", 3)]);
    entry.land(fresh_set(&[("a", 1), ("b", 2)]), at(1));
    let generation = entry.view().generation();
    let plan = entry.begin_fetch(Cause::Manual, at(9)).unwrap();
    let other = Settings {
        max_keys: 1,
        stale_while_error: secs(60),
        cache_duration: secs(100),
        absent_key_grace: secs(10),
        ..settings()
    };
    entry.reconfigure(other, at(10));
    let view = entry.view();
    assert_eq!(view.usable_until(), at(1 + 3_600 + 60));
    assert_eq!(view.advertised_max_age(), secs(100));
    assert!(view.generation() > generation);
    assert!(entry.finds("c", at(19)) && !entry.finds("c", at(20)));
    // What was asked under the earlier settings says nothing about these.
    assert!(!entry.is_due(at(11)), "two fetches in the air");
    let late = fresh_set(&[("a", 1), ("z", 9)]);
    assert!(entry.finish_fetch(plan.ticket, late, at(11), 0.0).is_none());
    assert!(!entry.finds("z", at(11)) && entry.is_due(at(11)));
    let plan = entry.begin_fetch(Cause::Scheduled, at(11)).unwrap();
    assert_eq!(plan.validators, None);
    entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1), ("b", 2)]), at(11), 0.0);
    assert_eq!(entry.serves(at(11)), ["a"]);
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
        assert!(entry.absent_kids.is_empty(), "{purged}");
    }
}

#[test]
fn what_is_known_to_be_absent_is_bounded_and_forgotten_in_time() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    for n in 0..2 * MAX_ABSENT_KIDS {
        entry.note_absent(n.to_string().into(), at(1));
    }
    assert_eq!(entry.absent_kids.len(), MAX_ABSENT_KIDS);
    entry.tick(at(30));
    assert_eq!(entry.absent_kids.len(), MAX_ABSENT_KIDS);
    entry.tick(at(31));
    assert!(entry.absent_kids.is_empty());
}

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

#[test]
fn the_record() {
    let settings = Settings {
        cache_policy: CachePolicy::Min,
        ..settings()
    };
    let mut entry = Entry::new(settings, at(0));
    let set = body(&[jwk("a", 1, ""), jwk("e", 2, r#","use":"enc""#)]);
    entry.land(fresh(&set, stated(300)), at(5));
    let record = serde_json::to_value(entry.status(at(6))).unwrap();
    let expected = serde_json::json!({
        "state": "ready",
        "last_updated": at(5).to_string(),
        "last_attempt": at(5).to_string(),
        "last_error": null,
        "error_count": 0,
        "update_count": 1,
        "key_count": 2,
        "max_keys": 10,
        "skipped_keys": [{"kid": "e", "reason": "use_not_sig"}],
        "dropped_kids": [],
        "dropped_count": 0,
        "cache_duration": 300,
        "idp_suggested_cache": 300,
        "cache_until": at(305).to_string(),
        "refresh_interval": 3_600,
        "next_refresh": at(155).to_string(),
        "expires_at": at(155).to_string(),
        "stale_until": at(155 + 43_200).to_string(),
    });
    assert_eq!(record, expected);
}

#[test]
fn an_idle_entry_is_small() {
    assert!(size_of::<Entry>() <= 640, "{}", size_of::<Entry>());
    let entry = Entry::new(settings(), at(0));
    assert_eq!(entry.recent_kids.capacity() + entry.absent_kids.len(), 0);
}

fn theirs(keys: &[(&str, u8)], fetched_at: Timestamp) -> Restored {
    let jwks: Vec<_> = keys.iter().map(|(kid, seed)| jwk(kid, *seed, "")).collect();
    let keys = KeySet::parse(body(&jwks).as_bytes()).unwrap();
    Restored {
        digest: keys.digest(),
        keys,
        fetched_at,
        validators: validators("theirs"),
        upstream: Upstream::default(),
    }
}

#[test]
fn what_another_fetched_is_adopted_with_its_age_where_it_is_newer() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let plan = entry.begin_fetch(Cause::Scheduled, at(3_600)).unwrap();
    assert_eq!(plan.errand, Errand::Due);
    let now = at(3_600);
    for other in [
        theirs(&[("b", 2)], at(0)),
        theirs(&[("b", 2)], at(-1)),
        theirs(&[("b", 2)], at(3_611)),
        theirs(&[], at(3_500)),
    ] {
        assert!(entry.adopt(plan.ticket, other, now, 0.0).is_none());
    }
    assert!(
        entry
            .adopt(plan.ticket + 1, theirs(&[("b", 2)], at(3_500)), now, 0.0)
            .is_none()
    );
    let adopted = entry
        .adopt(plan.ticket, theirs(&[("b", 2)], at(3_500)), now, 0.0)
        .unwrap();
    assert!(adopted.plan.is_none() && adopted.finished.new_keys);
    assert_eq!(adopted.finished.events, [Event::AllKeysReplaced]);
    assert!(entry.finds("b", now) && entry.finds("a", now), "with its grace");
    assert_eq!(entry.view().last_updated(), Some(at(3_500)));
    assert_eq!(entry.next_wakeup(), now + entry.settings.absent_key_grace);
    assert_eq!(entry.next_fetch, at(7_100));
    assert!(entry.flight.is_none());

    // The same set again: the very same object stays. One that is due already leaves the fetch to be made.
    let plan = entry.begin_fetch(Cause::Scheduled, at(9_000)).unwrap();
    let before = Arc::clone(entry.view().keys(at(9_000)).unwrap());
    let adopted = entry
        .adopt(plan.ticket, theirs(&[("b", 2)], at(4_000)), at(9_000), 0.0)
        .unwrap();
    assert!(!adopted.finished.new_keys);
    assert!(Arc::ptr_eq(&before, entry.view().keys(at(9_000)).unwrap()));
    let left = adopted.plan.unwrap();
    assert_eq!(
        (left.ticket, left.validators),
        (plan.ticket, Some(validators("theirs")))
    );
    assert!(
        entry
            .finish_fetch(plan.ticket, not_modified(), at(9_001), 0.0)
            .unwrap()
            .error
            .is_none()
    );

    // What was asked without conditions cannot be confirmed.
    let plan = entry.begin_fetch(Cause::Scheduled, at(13_000)).unwrap();
    let other = Restored {
        validators: Validators::default(),
        ..theirs(&[("b", 2)], at(9_100))
    };
    let left = entry.adopt(plan.ticket, other, at(13_000), 0.0).unwrap().plan;
    assert_eq!(left.unwrap().validators, None);
    let finished = entry.finish_fetch(plan.ticket, not_modified(), at(13_001), 0.0);
    assert_eq!(finished.unwrap().error, Some("not_modified_unexpected"));

    // A little ahead of our clock is now.
    let plan = entry.begin_fetch(Cause::Scheduled, at(20_000)).unwrap();
    assert!(
        entry
            .adopt(plan.ticket, theirs(&[("b", 2)], at(20_009)), at(20_000), 0.0)
            .is_some()
    );
    assert_eq!(entry.view().last_updated(), Some(at(20_000)));

    // Past its deadline it is nobody's.
    let mut entry = Entry::new(settings(), at(0));
    let plan = entry.begin_fetch(Cause::Scheduled, at(0)).unwrap();
    assert!(
        entry
            .adopt(plan.ticket, theirs(&[("b", 2)], at(-13 * 3_600)), at(0), 0.0)
            .is_none()
    );
    assert!(
        entry
            .adopt(plan.ticket, theirs(&[("b", 2)], at(1 - 13 * 3_600)), at(0), 0.0)
            .is_some()
    );
}

#[test]
fn what_was_purged_or_read_under_other_settings_is_not_adopted() {
    for purge in [true, false] {
        let mut entry = loaded(settings(), &[("a", 1)]);
        match purge {
            true => entry.purge(at(100)),
            false => entry.reconfigure(settings(), at(100)),
        }
        let plan = entry.begin_fetch(Cause::Scheduled, at(101)).unwrap();
        assert!(
            entry
                .adopt(plan.ticket, theirs(&[("b", 2)], at(100)), at(101), 0.0)
                .is_none()
        );
        assert!(
            entry
                .adopt(plan.ticket, theirs(&[("b", 2)], at(101)), at(101), 0.0)
                .is_some()
        );
    }
    // A fetch that counts for nothing is no reason to look anywhere.
    let mut entry = loaded(settings(), &[("a", 1)]);
    let plan = entry.begin_fetch(Cause::Manual, at(100)).unwrap();
    entry.reconfigure(settings(), at(101));
    assert!(
        entry
            .adopt(plan.ticket, theirs(&[("b", 2)], at(102)), at(102), 0.0)
            .is_none()
    );
}

#[test]
fn a_key_id_that_the_adopted_set_lacks_is_still_looked_for() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    let Miss::Fetch(plan) = entry.miss("c", ALICE, at(10)) else {
        panic!()
    };
    let Errand::Kid { kid, share } = &plan.errand else {
        panic!()
    };
    assert_eq!(
        (&**kid, share.caller, share.size, share.refill),
        ("c", ALICE, 2, secs(30))
    );
    let adopted = entry.adopt(plan.ticket, theirs(&[("a", 1), ("b", 2)], at(9)), at(10), 0.0);
    assert_eq!(adopted.unwrap().plan.unwrap().errand, plan.errand);
    let adopted = entry.adopt(plan.ticket, theirs(&[("a", 1), ("c", 3)], at(10)), at(10), 0.0);
    assert!(adopted.unwrap().plan.is_none());
    // It was there: nothing is known to be absent.
    assert!(!entry.is_known_absent("c", at(10)));
}

#[test]
fn a_failure_of_another_counts_and_he_says_when_it_is_time_again() {
    let mut entry = loaded(settings(), &[("a", 1)]);
    for (retry_in, pause) in [(7, 7_000), (1_000, 300_000), (0, 250)] {
        let now = entry.next_fetch;
        let plan = entry.begin_fetch(Cause::Scheduled, now).unwrap();
        let outcome = Outcome::FailedElsewhere {
            retry_in: secs(retry_in),
        };
        let finished = entry.finish_fetch(plan.ticket, outcome, now, 0.5).unwrap();
        assert_eq!(finished.error, Some("failed_elsewhere"));
        assert_eq!(entry.next_fetch, now + Duration::from_millis(pause));
    }
    assert_eq!(entry.failures, 3);
    // What it does itself says how long it pauses, where the schedule wanted it.
    let now = entry.next_fetch;
    let plan = entry.begin_fetch(Cause::Scheduled, now).unwrap();
    let finished = entry.finish_fetch(plan.ticket, failed(), now, 0.999).unwrap();
    assert_eq!(now + finished.pause.unwrap(), entry.next_fetch);
    let Miss::Fetch(plan) = entry.miss("c", ALICE, now) else {
        panic!()
    };
    assert_eq!(
        entry.finish_fetch(plan.ticket, failed(), now, 0.5).unwrap().pause,
        None
    );
}
