//! What holds whatever happens, over random histories.

use proptest::prelude::*;

use super::{
    tests::{at, failed, fresh_set, not_modified, secs},
    *,
};
use crate::{
    freshness::{Lookup, Refresh, facts::Outcome, status::State},
    jose::{Algorithm, Thumbprint},
};

const INTERVAL: u64 = 60;
const STALE: u64 = 120;
const GRACE: u64 = 45;
const KIDS: [&str; 4] = ["a", "b", "c", "d"];

fn settings() -> Settings {
    Settings {
        refresh: Refresh::Interval,
        refresh_interval: secs(INTERVAL),
        stale_while_error: secs(STALE),
        absent_key_grace: secs(GRACE),
        ..Settings::default()
    }
}

/// What happens to an entry.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// What the driver does when it wakes up.
    WakeUp,
    Manual,
    Miss(u8, u64),
    BadSignature(u64),
    /// The fetch in the air brings the keys of this mask, the first with another material for the same id.
    Set(u8, bool),
    /// The same out of the store, so many seconds old.
    Adopt(u8, u64),
    NotModified,
    Fail(Option<u64>),
    Refuse,
    Abandon,
    Purge,
    Reconfigure,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..90_000).prop_map(Step::Wait),
        4 => Just(Step::WakeUp),
        1 => Just(Step::Manual),
        4 => (any::<u8>(), 0_u64..4).prop_map(|(kid, caller)| Step::Miss(kid, caller)),
        1 => (0_u64..3).prop_map(Step::BadSignature),
        4 => (0_u8..16, any::<bool>()).prop_map(|(mask, other)| Step::Set(mask, other)),
        2 => (0_u8..16, 0_u64..200).prop_map(|(mask, age)| Step::Adopt(mask, age)),
        2 => Just(Step::NotModified),
        3 => proptest::option::of(0_u64..1_000).prop_map(Step::Fail),
        1 => Just(Step::Refuse),
        1 => Just(Step::Abandon),
        1 => Just(Step::Purge),
        1 => Just(Step::Reconfigure),
    ]
}

/// What an onlooker knows, told independently of how the entry keeps it.
#[derive(Default)]
struct Onlooker {
    /// The fetch in the air, and whether a token caused it.
    air: Option<(FetchPlan, bool)>,
    /// The last valid answer: when, and the keys that it listed.
    listed: Option<(Timestamp, Vec<(String, Thumbprint)>)>,
    /// When a valid answer last listed a key no more.
    missing_since: Vec<((String, Thumbprint), Timestamp)>,
    /// Fetches for unknown ids: when and for whom.
    asked: Vec<(Timestamp, u64)>,
}

impl Onlooker {
    fn took_off(&mut self, plan: Option<FetchPlan>, on_demand: bool) {
        if let Some(plan) = plan {
            assert!(self.air.is_none(), "two fetches in the air");
            assert_eq!(plan.single_attempt(), on_demand);
            self.air = Some((plan, on_demand));
        }
    }

    fn saw_answer(&mut self, entry: &Entry, now: Timestamp) {
        let view = entry.view();
        let name =
            |key: &Arc<crate::jose::Key>| (key.kid().unwrap_or_default().to_owned(), *key.thumbprint());
        let keys: Vec<_> = view
            .keys(now)
            .map(|set| set.usable().iter().map(name).collect())
            .unwrap_or_default();
        let before = self.listed.take().map(|(_, keys)| keys).unwrap_or_default();
        self.missing_since.retain(|(key, _)| !keys.contains(key));
        for key in before {
            if !keys.contains(&key) && !self.missing_since.iter().any(|(known, _)| *known == key) {
                self.missing_since.push((key, now));
            }
        }
        self.listed = view.last_updated().map(|at| (at, keys));
    }

    /// No key is found that the valid answers so far do not allow to be used at `now`.
    fn check_lookups(&self, entry: &Entry, now: Timestamp) {
        let view = entry.view();
        for kid in KIDS {
            let Lookup::Use { key, until, .. } = view.lookup(Some(kid), Algorithm::EdDsa, now) else {
                continue;
            };
            assert!(now < until);
            let (answered, keys) = self.listed.as_ref().expect("a key that no answer brought");
            let set_ends = *answered + secs(INTERVAL) + secs(STALE);
            assert!(until <= set_ends, "{kid} past the deadline of its set");
            let name = (kid.to_owned(), *key.thumbprint());
            if !keys.contains(&name) {
                let since = self
                    .missing_since
                    .iter()
                    .find(|(known, _)| *known == name)
                    .expect("from nowhere")
                    .1;
                assert!(until <= since + secs(GRACE), "{kid} past its grace");
                assert!(
                    !keys.iter().any(|(listed, _)| listed == kid),
                    "{kid} names another key by now"
                );
            }
        }
    }

    fn check_budget(&self) {
        for (index, (from, caller)) in self.asked.iter().enumerate() {
            let within = |end: u64| {
                let later = self.asked.get(index..).unwrap_or_default().iter();
                later.filter(move |(when, _)| when.since(*from) < secs(end))
            };
            assert!(within(60).count() <= 3 + 1, "the budget of all");
            assert!(
                within(60).filter(|(_, who)| who == caller).count() <= 2,
                "one caller's half"
            );
        }
    }
}

fn land(entry: &mut Entry, onlooker: &mut Onlooker, outcome: Outcome, now: Timestamp, unit: f64) {
    let Some((plan, on_demand)) = onlooker.air.take() else {
        return;
    };
    let before = entry.view();
    let due = entry.next_fetch;
    let Some(finished) = entry.finish_fetch(plan.ticket, outcome, now, unit) else {
        let after = entry.view();
        assert!(
            Arc::ptr_eq(&before, &after),
            "what counts for nothing changed something"
        );
        assert!(entry.is_due(now), "and is not made up for");
        return;
    };
    if finished.error.is_none() {
        onlooker.saw_answer(entry, now);
        return;
    }
    let after = entry.view();
    assert_eq!(
        before.keys(now).map(Arc::as_ptr),
        after.keys(now).map(Arc::as_ptr),
        "a failure changed the keys"
    );
    assert_eq!(before.usable_until(), after.usable_until());
    if on_demand {
        assert_eq!(entry.next_fetch, due, "a token moved the schedule");
    }
}

fn adopt(entry: &mut Entry, onlooker: &mut Onlooker, other: Restored, now: Timestamp, unit: f64) {
    let Some((plan, on_demand)) = onlooker.air.take() else {
        return;
    };
    let (before, fetched_at) = (entry.view(), other.fetched_at);
    let Some(adopted) = entry.adopt(plan.ticket, other, now, unit) else {
        let after = entry.view();
        assert!(Arc::ptr_eq(&before, &after));
        onlooker.air = Some((plan, on_demand));
        return;
    };
    let known = before.last_updated().filter(|_| before.keys(now).is_some());
    assert!(
        known.is_none_or(|known| known < fetched_at),
        "an older set replaced a newer one"
    );
    onlooker.air = adopted.plan.map(|plan| (plan, on_demand));
    onlooker.saw_answer(entry, now);
}

fn seeds(mask: u8, other: bool) -> Vec<(&'static str, u8)> {
    (0_u8..4)
        .zip(KIDS)
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(bit, kid)| (kid, if other && bit == 0 { 99 } else { bit + 1 }))
        .collect()
}

fn apply(step: &Step, entry: &mut Entry, onlooker: &mut Onlooker, now: &mut Timestamp, unit: f64) {
    match step {
        Step::Wait(millis) => *now = *now + Duration::from_millis(*millis),
        Step::WakeUp => {
            let wakeup = entry.next_wakeup();
            if wakeup < Timestamp::MAX {
                *now = (*now).max(wakeup);
            }
            entry.tick(*now);
            onlooker.took_off(entry.begin_fetch(Cause::Scheduled, *now), false);
            assert!(entry.next_wakeup() > *now, "nothing was gained by waking up");
        }
        Step::Manual => onlooker.took_off(entry.begin_fetch(Cause::Manual, *now), false),
        Step::Miss(kid, caller) => {
            let due = entry.is_due(*now);
            if let Miss::Fetch(plan) = entry.miss(&format!("unknown-{kid}"), CallerId::new(*caller), *now) {
                // What is due anyway is the schedule's.
                if !due {
                    onlooker.asked.push((*now, *caller));
                }
                onlooker.took_off(Some(plan), !due);
            }
        }
        Step::BadSignature(caller) => {
            if let Miss::Fetch(plan) = entry.bad_signature(CallerId::new(*caller), *now) {
                onlooker.took_off(Some(plan), true);
            }
        }
        Step::Set(mask, other) => land(entry, onlooker, fresh_set(&seeds(*mask, *other)), *now, unit),
        Step::Adopt(mask, age) => {
            let Outcome::Fresh {
                keys,
                digest,
                validators,
                upstream,
            } = fresh_set(&seeds(*mask, false))
            else {
                return;
            };
            let other = Restored {
                keys: *keys,
                fetched_at: *now - secs(*age),
                digest,
                validators,
                upstream,
            };
            adopt(entry, onlooker, other, *now, unit);
        }
        Step::NotModified => land(entry, onlooker, not_modified(), *now, unit),
        Step::Fail(None) => land(entry, onlooker, failed(), *now, unit),
        Step::Fail(Some(after)) => {
            let outcome = Outcome::Failed {
                code: "status_503",
                text: String::new(),
                retry_after: Some(secs(*after)),
            };
            land(entry, onlooker, outcome, *now, unit);
        }
        Step::Refuse => land(entry, onlooker, Outcome::Refused { code: "not_json" }, *now, unit),
        Step::Abandon => {
            if let Some((plan, _)) = onlooker.air.take() {
                entry.abandon_fetch(plan.ticket, *now);
            }
        }
        Step::Purge => {
            entry.purge(*now);
            assert!(entry.view().keys(*now).is_none());
            *onlooker = Onlooker {
                air: onlooker.air.take(),
                asked: std::mem::take(&mut onlooker.asked),
                ..Onlooker::default()
            };
        }
        Step::Reconfigure => entry.reconfigure(settings(), *now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_gets_out_of_hand(steps in proptest::collection::vec((step(), 0.0..1.0_f64), 1..120)) {
        let mut now = at(0);
        let mut entry = Entry::new(settings(), now);
        let mut onlooker = Onlooker::default();
        for (step, unit) in &steps {
            apply(step, &mut entry, &mut onlooker, &mut now, *unit);
            onlooker.check_lookups(&entry, now);
            // Views that nobody has tidied up yet hold to their deadlines as well.
            onlooker.check_lookups(&entry, now + secs(GRACE));
            onlooker.check_lookups(&entry, now + secs(INTERVAL + STALE));
            prop_assert_eq!(entry.flight.is_some(), onlooker.air.is_some());
        }
        onlooker.check_budget();
        // Whatever happened, a provider that answers is loaded again, and soon.
        if let Some((plan, _)) = onlooker.air.take() {
            entry.abandon_fetch(plan.ticket, now);
        }
        let longest = now + secs(300);
        for _ in 0..20 {
            now = now.max(entry.next_wakeup());
            entry.tick(now);
            if let Some(plan) = entry.begin_fetch(Cause::Scheduled, now) {
                entry.finish_fetch(plan.ticket, fresh_set(&[("a", 1)]), now, 0.5);
                break;
            }
        }
        prop_assert!(now <= longest, "stuck");
        prop_assert_eq!(entry.status(now).state, State::Ready);
    }

    #[test]
    fn following_the_wake_ups_takes_time(outcomes in proptest::collection::vec((0_u8..5, 0.0..1.0_f64), 1..60)) {
        let mut now = at(0);
        let mut entry = Entry::new(settings(), now);
        for (outcome, unit) in outcomes {
            now = now.max(entry.next_wakeup());
            entry.tick(now);
            if let Some(plan) = entry.begin_fetch(Cause::Scheduled, now) {
                let outcome = match outcome {
                    0 => fresh_set(&[("a", 1), ("b", 2)]),
                    1 => fresh_set(&[("b", 2)]),
                    2 => not_modified(),
                    3 => failed(),
                    _ => {
                        entry.abandon_fetch(plan.ticket, now);
                        failed()
                    }
                };
                entry.finish_fetch(plan.ticket, outcome, now, unit);
            }
            prop_assert!(entry.next_wakeup() > now);
        }
    }
}
