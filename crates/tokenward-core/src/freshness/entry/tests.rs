//! One test for each rule. Random histories are in `histories`.

mod kept;
mod keys;
mod unknown;

use std::fmt::Write;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;
use crate::{
    freshness::{
        CachePolicy, Lookup, Refresh,
        facts::{Event, Finished, Outcome},
        status::State,
    },
    jose::{Algorithm, KeySet, Truncation},
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
    assert!(size_of::<Entry>() <= 320, "{}", size_of::<Entry>());
    assert!(loaded(settings(), &[("a", 1)]).demand.is_none());
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
