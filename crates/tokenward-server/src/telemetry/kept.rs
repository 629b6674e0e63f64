//! Series that every request counts in.
//!
//! To find a series by its labels takes longer than to count in it, so the handles of those that were counted in are kept. Their
//! labels are of closed sets, or they would fill the memory.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use metrics::{Counter, Histogram};

/// How long something took and what came of it, for each thing of its kind by its name.
pub(super) struct Kept<O>(RwLock<HashMap<Box<str>, Series<O>>>);

/// Those of one name.
struct Series<O> {
    took: Histogram,
    outcomes: Vec<(O, Counter)>,
}

impl<O> Default for Kept<O> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<O: Copy + PartialEq> Kept<O> {
    /// Counts one that took so long and ended so. The series are asked for by `histogram` and `counter` the first time.
    pub(super) fn count(
        &self,
        name: &str,
        outcome: O,
        took: Duration,
        histogram: impl FnOnce() -> Histogram,
        counter: impl FnOnce() -> Counter,
    ) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(name)
            && let Some(counter) = series.counter(&outcome)
        {
            return series.count(counter, took);
        }
        drop(known);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry(name.into()).or_insert_with(|| Series {
            took: histogram(),
            outcomes: Vec::new(),
        });
        // Another request may have been faster.
        if series.counter(&outcome).is_none() {
            series.outcomes.push((outcome, counter()));
        }
        if let Some(counter) = series.counter(&outcome) {
            series.count(counter, took);
        }
    }
}

impl<O: PartialEq> Series<O> {
    fn counter(&self, outcome: &O) -> Option<&Counter> {
        let mut outcomes = self.outcomes.iter();
        outcomes.find_map(|(known, counter)| (known == outcome).then_some(counter))
    }

    fn count(&self, counter: &Counter, took: Duration) {
        counter.increment(1);
        self.took.record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::super::{Decisions, Recorder, Requests};
    use super::*;

    #[test]
    fn each_is_counted_under_its_own_labels() {
        let recorder = Recorder::default();
        let (requests, decisions) = (Requests::new("public"), Decisions::default());
        with_local_recorder(&recorder, || {
            for (route, method, status) in [
                ("/a", "GET", 200),
                ("/a", "GET", 200),
                ("/a", "GET", 404),
                ("/a", "HEAD", 200),
                ("/b", "GET", 200),
                ("/a", "GET", 200),
            ] {
                requests.count(route, method, status, Duration::from_millis(200));
            }
            for reason in ["allow", "token_missing", "allow"] {
                decisions.count("direct", reason, Duration::from_millis(1));
            }
            decisions.count("nginx", "allow", Duration::ZERO);
        });
        let text = recorder.render();
        for line in [
            "requests_total{listener=\"public\",route=\"/a\",method=\"GET\",status=\"200\"} 3\n",
            "requests_total{listener=\"public\",route=\"/a\",method=\"GET\",status=\"404\"} 1\n",
            "requests_total{listener=\"public\",route=\"/a\",method=\"HEAD\",status=\"200\"} 1\n",
            "requests_total{listener=\"public\",route=\"/b\",method=\"GET\",status=\"200\"} 1\n",
            "request_duration_seconds_count{listener=\"public\",route=\"/a\"} 5\n",
            "request_duration_seconds_sum{listener=\"public\",route=\"/b\"} 0.2\n",
            "decisions_total{door=\"direct\",reason=\"allow\"} 2\n",
            "decisions_total{door=\"direct\",reason=\"token_missing\"} 1\n",
            "decisions_total{door=\"nginx\",reason=\"allow\"} 1\n",
            "decision_duration_seconds_count{door=\"direct\"} 3\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn two_that_are_first_at_once_count_in_one_series() {
        let recorder = Recorder::default();
        let kept = Kept::default();
        with_local_recorder(&recorder, || {
            // The second one comes while the first one makes its counter.
            let counter = || metrics::counter!("c", "outcome" => "same");
            let other = Series {
                took: Histogram::noop(),
                outcomes: vec![("same", counter()), ("other", Counter::noop())],
            };
            kept.0.write().unwrap().insert("x".into(), other);
            kept.count("x", "same", Duration::ZERO, Histogram::noop, Counter::noop);
        });
        assert!(recorder.render().contains("c{outcome=\"same\"} 1\n"));
    }
}
