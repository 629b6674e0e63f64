//! How the keys of one identity provider are refreshed and kept.

use std::time::Duration;

use super::lifetime::Upstream;
use crate::jose::{MAX_KEYS, Truncation};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The freshness that `refresh: http` takes where the upstream says nothing.
const UNSTATED_TTL: Duration = Duration::from_secs(300);

/// The longest max-age that clients are told on the upstream's word; also the most that can be configured.
const LONGEST_ADVERTISED: Duration = Duration::from_secs(30 * 86_400);

/// What decides when a key set is fetched next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// `refresh_interval`, or half of the upstream max-age where that is shorter.
    #[default]
    Adaptive,
    /// Every `refresh_interval`.
    Interval,
    /// The freshness of the answer (RFC 9111), within `min_ttl` and `max_ttl`.
    Http,
}

/// What decides on the max-age that clients of the served set are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// The smaller of `cache_duration` and the upstream max-age.
    #[default]
    Min,
    /// The larger of the two.
    Max,
    /// The upstream max-age.
    Upstream,
    /// `cache_duration`.
    Config,
}

/// The budget of fetches for tokens whose key id is not in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKid {
    /// How many such fetches may come at once; 1 to 1,000, default 2. A caller gets at most half.
    pub budget: u32,
    /// How long it takes to regain one; 1 s to 1 day, default 30 s.
    pub refill: Duration,
    /// How long a key id that was looked for in vain is known to be absent; 1 s to 1 h, default 30 s.
    pub negative_ttl: Duration,
}

impl Default for UnknownKid {
    fn default() -> Self {
        Self {
            budget: 2,
            refill: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(30),
        }
    }
}

/// How the keys of one identity provider are refreshed and kept. Three clocks that are never conflated: when to
/// fetch next, what max-age clients are told, how long keys stay usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the set is fetched at least; 1 s to 30 days, default 1 h.
    pub refresh_interval: Duration,
    /// What decides when it is fetched next.
    pub refresh: Refresh,
    /// The max-age for clients as far as it is ours to say; 1 s to 30 days, default 15 min.
    pub cache_duration: Duration,
    /// What decides on the max-age for clients.
    pub cache_policy: CachePolicy,
    /// How many keys are kept at most; up to 1,000, default 10. 0: no limit but the ceiling of 1,000.
    pub max_keys: usize,
    /// Which keys are kept where there are more.
    pub truncation: Truncation,
    /// `refresh: http`: the shortest freshness; from 1 s, default 30 s.
    pub min_ttl: Duration,
    /// `refresh: http`: the longest freshness; up to 30 days, default 24 h.
    pub max_ttl: Duration,
    /// `refresh: http`: how long before its end a set is fetched, at most a fifth of its freshness; default 30 s.
    pub refresh_early: Duration,
    /// The closest that upstream headers can bring two refreshes; 1 s to 1 day, default 30 s.
    pub min_refresh_interval: Duration,
    /// How much earlier a refresh may come, at random; at most a tenth of the cadence, default 5 s.
    pub prefetch_jitter: Duration,
    /// How long keys stay usable after they stopped being fresh; up to 30 days, default 12 h.
    pub stale_while_error: Duration,
    /// How long a key that the set no longer lists still verifies; up to 1 day, default 5 min.
    pub absent_key_grace: Duration,
    /// How long callers are told the failure of a first load at once; up to 1 day, default 0: they wait.
    pub negative_cache_ttl: Duration,
    /// Fetches for unknown key ids.
    pub unknown_kid: UnknownKid,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_interval: HOUR,
            refresh: Refresh::default(),
            cache_duration: Duration::from_secs(900),
            cache_policy: CachePolicy::default(),
            max_keys: 10,
            truncation: Truncation::default(),
            min_ttl: Duration::from_secs(30),
            max_ttl: DAY,
            refresh_early: Duration::from_secs(30),
            min_refresh_interval: Duration::from_secs(30),
            prefetch_jitter: Duration::from_secs(5),
            stale_while_error: 12 * HOUR,
            absent_key_grace: Duration::from_secs(300),
            negative_cache_ttl: Duration::ZERO,
            unknown_kid: UnknownKid::default(),
        }
    }
}

/// When the next fetch is due, and when the set stops being fresh, both counted from the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cadence {
    pub(super) fetch_in: Duration,
    pub(super) fresh_for: Duration,
}

impl Settings {
    /// Every setting that is out of its range, by its name.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let spans = [
            ("refresh_interval", self.refresh_interval, SECOND, 30 * DAY),
            ("cache_duration", self.cache_duration, SECOND, LONGEST_ADVERTISED),
            ("min_ttl", self.min_ttl, SECOND, 30 * DAY),
            ("max_ttl", self.max_ttl, SECOND, 30 * DAY),
            ("refresh_early", self.refresh_early, Duration::ZERO, DAY),
            ("min_refresh_interval", self.min_refresh_interval, SECOND, DAY),
            ("prefetch_jitter", self.prefetch_jitter, Duration::ZERO, HOUR),
            (
                "stale_while_error",
                self.stale_while_error,
                Duration::ZERO,
                30 * DAY,
            ),
            ("absent_key_grace", self.absent_key_grace, Duration::ZERO, DAY),
            ("negative_cache_ttl", self.negative_cache_ttl, Duration::ZERO, DAY),
            ("unknown_kid.refill", self.unknown_kid.refill, SECOND, DAY),
            (
                "unknown_kid.negative_ttl",
                self.unknown_kid.negative_ttl,
                SECOND,
                HOUR,
            ),
        ];
        let mut problems: Vec<_> = spans
            .into_iter()
            .filter(|(_, value, least, most)| value < least || value > most)
            .map(|(name, _, least, most)| {
                (
                    name,
                    format!("is from {} s to {} s", least.as_secs(), most.as_secs()),
                )
            })
            .collect();
        if self.min_ttl > self.max_ttl {
            problems.push(("min_ttl", "is at most max_ttl".to_owned()));
        }
        if self.max_keys > MAX_KEYS {
            problems.push((
                "max_keys",
                format!("is at most {MAX_KEYS}, or 0 for no limit of its own"),
            ));
        }
        if !(1..=1_000).contains(&self.unknown_kid.budget) {
            problems.push(("unknown_kid.budget", "is from 1 to 1000".to_owned()));
        }
        problems
    }

    /// When to fetch next after an answer with this freshness. `unit` in [0, 1) chooses the jitter.
    pub(super) fn cadence(&self, upstream: Upstream, unit: f64) -> Cadence {
        let (fresh_for, lead, least) = match self.refresh {
            Refresh::Interval => (self.refresh_interval, Duration::ZERO, Duration::ZERO),
            Refresh::Adaptive => {
                // An explicit interval below the floor is obeyed; only the upstream cannot get below it.
                let floor = self.min_refresh_interval.min(self.refresh_interval);
                match upstream.remaining.map(|remaining| (remaining / 2).max(floor)) {
                    Some(half) if half < self.refresh_interval => (half, Duration::ZERO, floor),
                    _ => (self.refresh_interval, Duration::ZERO, Duration::ZERO),
                }
            }
            Refresh::Http => {
                let ttl = upstream
                    .remaining
                    .unwrap_or(UNSTATED_TTL)
                    .max(self.min_ttl)
                    .min(self.max_ttl);
                (ttl, self.refresh_early.min(ttl / 5), self.min_refresh_interval)
            }
        };
        // Jitter comes before the due time, except at the floor, where it comes after it: replicas and providers
        // that hear the same short max-age must not fall into step.
        let due = fresh_for.saturating_sub(lead).max(least);
        let spread = self.prefetch_jitter.min(due / 10);
        let earliest = due.saturating_sub(spread).max(least);
        Cadence {
            fetch_in: earliest + spread - share(spread, unit),
            fresh_for: fresh_for.max(earliest + spread),
        }
    }

    /// The max-age that clients are told.
    pub(super) fn advertised(&self, upstream: Upstream) -> Duration {
        let ours = self.cache_duration;
        // A max-age of years would pin a withdrawn key wherever the set is cached.
        let Some(theirs) = upstream.max_age.map(|theirs| theirs.min(LONGEST_ADVERTISED)) else {
            return ours;
        };
        match self.cache_policy {
            CachePolicy::Min => ours.min(theirs),
            CachePolicy::Max => ours.max(theirs),
            CachePolicy::Upstream => theirs,
            CachePolicy::Config => ours,
        }
    }
}

/// The part `unit` of `whole`. Anything but a number in [0, 1) counts as 0.
pub(super) fn share(whole: Duration, unit: f64) -> Duration {
    match (0.0..1.0).contains(&unit) {
        true => whole.mul_f64(unit),
        false => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn upstream(max_age: u64) -> Upstream {
        let value = (max_age > 0).then(|| secs(max_age));
        Upstream {
            max_age: value,
            remaining: value,
        }
    }

    #[test]
    fn the_defaults_are_in_range_and_each_bad_value_is_named() {
        assert!(Settings::default().check().is_empty());
        let bad = Settings {
            refresh_interval: Duration::ZERO,
            cache_duration: Duration::ZERO,
            max_keys: 1_001,
            min_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            refresh_early: 2 * DAY,
            min_refresh_interval: Duration::ZERO,
            prefetch_jitter: 2 * HOUR,
            stale_while_error: 31 * DAY,
            absent_key_grace: 2 * DAY,
            negative_cache_ttl: 2 * DAY,
            unknown_kid: UnknownKid {
                budget: 0,
                refill: Duration::ZERO,
                negative_ttl: Duration::ZERO,
            },
            ..Settings::default()
        };
        let mut named: Vec<_> = bad.check().into_iter().map(|(name, _)| name).collect();
        named.sort_unstable();
        assert_eq!(
            named,
            [
                "absent_key_grace",
                "cache_duration",
                "max_keys",
                "max_ttl",
                "min_refresh_interval",
                "min_ttl",
                "negative_cache_ttl",
                "prefetch_jitter",
                "refresh_early",
                "refresh_interval",
                "stale_while_error",
                "unknown_kid.budget",
                "unknown_kid.negative_ttl",
                "unknown_kid.refill",
            ]
        );
        let crossed = Settings {
            min_ttl: secs(60),
            max_ttl: secs(30),
            ..Settings::default()
        };
        assert_eq!(crossed.check(), [("min_ttl", "is at most max_ttl".to_owned())]);
    }

    #[test]
    fn advertised_max_age() {
        use CachePolicy::{Config, Max, Min, Upstream};
        for (policy, ours, theirs, expected) in [
            (Min, 900, 86_400, 900),
            (Min, 1_800, 300, 300),
            (Min, 900, 0, 900),
            (Max, 900, 86_400, 86_400),
            (Max, 1_800, 300, 1_800),
            (Max, 900, 0, 900),
            (Upstream, 900, 86_400, 86_400),
            (Upstream, 1_800, 300, 300),
            (Upstream, 900, 0, 900),
            (Config, 900, 86_400, 900),
            (Config, 1_800, 300, 1_800),
            (Config, 900, 0, 900),
            (Max, 900, 1 << 31, 2_592_000),
            (Upstream, 900, 1 << 31, 2_592_000),
        ] {
            let settings = Settings {
                cache_policy: policy,
                cache_duration: secs(ours),
                ..Settings::default()
            };
            assert_eq!(
                settings.advertised(upstream(theirs)),
                secs(expected),
                "{policy:?} {ours} {theirs}"
            );
        }
    }

    #[test]
    fn cadence() {
        use Refresh::{Adaptive, Http, Interval};
        for (refresh, interval, theirs, fetch_in, fresh_for) in [
            (Interval, 3_600, 60, 3_600, 3_600),
            (Interval, 2, 0, 2, 2),
            (Adaptive, 3_600, 0, 3_600, 3_600),
            (Adaptive, 3_600, 86_400, 3_600, 3_600),
            (Adaptive, 3_600, 120, 60, 60),
            (Adaptive, 3_600, 60, 30, 30),
            (Adaptive, 3_600, 15, 30, 30),
            (Adaptive, 2, 15, 2, 2),
            (Adaptive, 20, 15, 20, 20),
            (Http, 3_600, 0, 270, 300),
            (Http, 3_600, 600, 570, 600),
            (Http, 3_600, 100, 80, 100),
            (Http, 3_600, 5, 30, 30),
            (Http, 3_600, 864_000, 86_370, 86_400),
        ] {
            let settings = Settings {
                refresh,
                refresh_interval: secs(interval),
                ..Settings::default()
            };
            let settings = Settings {
                prefetch_jitter: Duration::ZERO,
                ..settings
            };
            let cadence = settings.cadence(upstream(theirs), 0.0);
            let expected = Cadence {
                fetch_in: secs(fetch_in),
                fresh_for: secs(fresh_for),
            };
            assert_eq!(cadence, expected, "{refresh:?} {interval} {theirs}");
        }
    }

    #[test]
    fn jitter_is_at_most_a_tenth_and_never_breaks_the_floor() {
        let late = 0.999_999;
        let default = Settings::default();
        let hour = default.cadence(upstream(0), late).fetch_in;
        assert!(hour > secs(3_594) && hour < secs(3_596), "{hour:?}");
        let short = Settings {
            refresh_interval: secs(10),
            ..Settings::default()
        };
        let ten = short.cadence(upstream(0), late).fetch_in;
        assert!(
            ten > Duration::from_millis(8_990) && ten < Duration::from_millis(9_010),
            "{ten:?}"
        );
        let floor = default.cadence(upstream(60), 0.0);
        assert_eq!((floor.fetch_in, floor.fresh_for), (secs(33), secs(33)));
        let floor = default.cadence(upstream(60), late).fetch_in;
        assert!(
            floor >= secs(30) && floor < Duration::from_millis(30_010),
            "{floor:?}"
        );
        let http = Settings {
            refresh: Refresh::Http,
            ..Settings::default()
        };
        let least = http.cadence(upstream(30), late).fetch_in;
        assert!(
            least >= secs(30) && least < Duration::from_millis(30_010),
            "{least:?}"
        );
        assert_eq!(default.cadence(upstream(0), f64::NAN).fetch_in, secs(3_600));
        assert_eq!(default.cadence(upstream(0), -1.0).fetch_in, secs(3_600));
    }

    #[test]
    fn a_shorter_upstream_max_age_never_lengthens_anything() {
        let ages = [
            1,
            5,
            15,
            29,
            30,
            31,
            37,
            59,
            60,
            61,
            66,
            67,
            150,
            300,
            3_600,
            7_199,
            7_200,
            7_201,
            86_400,
            1 << 31,
        ];
        for refresh in [Refresh::Adaptive, Refresh::Interval, Refresh::Http] {
            for policy in [
                CachePolicy::Min,
                CachePolicy::Max,
                CachePolicy::Upstream,
                CachePolicy::Config,
            ] {
                for interval in [1, 20, 40, 3_600] {
                    let settings = Settings {
                        refresh,
                        cache_policy: policy,
                        refresh_interval: secs(interval),
                        ..Settings::default()
                    };
                    for (shorter, longer) in ages.iter().zip(&ages[1..]) {
                        for unit in [0.0, 0.3, 0.9] {
                            let (a, b) = (
                                settings.cadence(upstream(*shorter), unit),
                                settings.cadence(upstream(*longer), unit),
                            );
                            assert!(
                                a.fetch_in <= b.fetch_in && a.fresh_for <= b.fresh_for,
                                "{refresh:?} {interval} {shorter} {longer} {unit}: {a:?} {b:?}"
                            );
                        }
                        assert!(
                            settings.advertised(upstream(*shorter)) <= settings.advertised(upstream(*longer))
                        );
                    }
                }
            }
        }
    }
}
