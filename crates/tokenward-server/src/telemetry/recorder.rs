//! What `/metrics` shows: every series, and their text.
//!
//! Series of what is gone can be forgotten here, since names that come and go would fill the memory otherwise. Histograms
//! are counters in fixed buckets, so nothing piles up between two scrapes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, GaugeFn as _, Histogram, HistogramFn, Key, KeyName, Label, Metadata, SharedString, Unit,
};

/// Upper bounds of the buckets of every histogram, in seconds: from a cached decision to a fetch's deadline.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 8.0,
];

/// Records the metrics of the process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counters: Series<AtomicU64>,
    /// The bits of a floating-point number.
    gauges: Series<AtomicU64>,
    histograms: Series<Buckets>,
    described: Mutex<BTreeMap<String, (&'static str, SharedString)>>,
}

impl Recorder {
    /// All that was described or recorded, in the text format of Prometheus, in a stable order.
    pub(crate) fn render(&self) -> String {
        let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
        for (name, (kind, help)) in self
            .0
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let metric = Shown::of(kind, Some(help.clone()));
            shown.insert(name.clone(), metric);
        }
        self.0
            .counters
            .show("counter", &mut shown, |name, labels, value| {
                line(name, labels, value.load(Ordering::Relaxed))
            });
        self.0.gauges.show("gauge", &mut shown, |name, labels, value| {
            line(name, labels, f64::from_bits(value.load(Ordering::Relaxed)))
        });
        self.0
            .histograms
            .show("histogram", &mut shown, |name, labels, value| {
                value.lines(name, labels)
            });
        let mut text = String::new();
        for (name, metric) in shown {
            if let Some(help) = metric.help {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {}", metric.kind);
            text.extend(metric.series.into_values());
        }
        text
    }

    /// Forgets series that nobody holds a handle of and that are not `live`, by their labels.
    pub(crate) fn retain(&self, live: impl Fn(&Labels<'_>) -> bool) {
        self.0.counters.retain(&live);
        self.0.gauges.retain(&live);
        self.0.histograms.retain(&live);
    }

    fn describe(&self, kind: &'static str, name: &KeyName, help: SharedString) {
        let mut described = self.0.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.insert(name.as_str().to_owned(), (kind, help));
    }
}

/// The labels of a series.
pub(crate) struct Labels<'a>(&'a Key);

impl Labels<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .labels()
            .find(|label| label.key() == name)
            .map(Label::value)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe("counter", &name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe("gauge", &name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe("histogram", &name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.counters.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.0.gauges.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.0.histograms.of(key))
    }
}

/// One metric as it is shown: its series by their labels.
struct Shown {
    kind: &'static str,
    help: Option<SharedString>,
    series: BTreeMap<String, String>,
}

impl Shown {
    fn of(kind: &'static str, help: Option<SharedString>) -> Self {
        Self {
            kind,
            help,
            series: BTreeMap::new(),
        }
    }
}

struct Series<T>(RwLock<HashMap<Key, Arc<T>>>);

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Default> Series<T> {
    fn of(&self, key: &Key) -> Arc<T> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(known);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key.to_retained()).or_default())
    }

    fn retain(&self, live: impl Fn(&Labels<'_>) -> bool) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // What somebody holds will be recorded to again.
        all.retain(|key, value| Arc::strong_count(value) > 1 || live(&Labels(key)));
    }

    fn show(
        &self,
        kind: &'static str,
        shown: &mut BTreeMap<String, Shown>,
        text: impl Fn(&str, &str, &T) -> String,
    ) {
        for (key, value) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = written(key);
            let metric = shown
                .entry(key.name().to_owned())
                .or_insert_with(|| Shown::of(kind, None));
            let text = text(key.name(), &labels, value);
            metric.series.insert(labels, text);
        }
    }
}

/// A histogram.
#[derive(Default)]
struct Buckets {
    /// How many there were up to each bound and over the one before.
    counts: [AtomicU64; BUCKETS.len()],
    above: AtomicU64,
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = BUCKETS.iter().position(|bound| value <= *bound);
        let count = bucket.and_then(|bucket| self.counts.get(bucket));
        count.unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.increment(value);
    }
}

impl Buckets {
    fn lines(&self, name: &str, labels: &str) -> String {
        let (mut text, mut count) = (String::new(), 0);
        let mut bucket = |text: &mut String, bound: &str, more: &AtomicU64| {
            count += more.load(Ordering::Relaxed);
            let separator = if labels.is_empty() { "" } else { "," };
            let labels = format!("{labels}{separator}le=\"{bound}\"");
            text.push_str(&line(&format!("{name}_bucket"), &labels, count));
        };
        for (bound, more) in BUCKETS.iter().zip(&self.counts) {
            bucket(&mut text, &bound.to_string(), more);
        }
        bucket(&mut text, "+Inf", &self.above);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        text.push_str(&line(&format!("{name}_sum"), labels, sum));
        text.push_str(&line(&format!("{name}_count"), labels, count));
        text
    }
}

fn line(name: &str, labels: &str, value: impl std::fmt::Display) -> String {
    match labels {
        "" => format!("{name} {value}\n"),
        _ => format!("{name}{{{labels}}} {value}\n"),
    }
}

/// The labels of a series as they are written.
fn written(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        let name = label.key();
        let value = label
            .value()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, describe_histogram, gauge, histogram, with_local_recorder};

    use super::*;

    fn recorded(record: impl FnOnce()) -> Recorder {
        let recorder = Recorder::default();
        with_local_recorder(&recorder, record);
        recorder
    }

    #[test]
    fn the_text_is_that_of_prometheus() {
        let recorder = recorded(|| {
            describe_counter!("b_total", "Help with a \\ and\na line.");
            describe_histogram!("c_seconds", "Never recorded.");
            counter!("b_total", "z" => "1", "a" => "q\"\\\n").increment(2);
            counter!("b_total", "z" => "0", "a" => "1").increment(1);
            gauge!("a").set(1.5);
            gauge!("a").decrement(0.25);
            histogram!("d_seconds", "x" => "y").record(0.000_1);
            histogram!("d_seconds", "x" => "y").record(0.2);
            histogram!("d_seconds", "x" => "y").record(60.0);
        });
        let text = recorder.render();
        let (counters, histogram) = text.split_once("# TYPE d_seconds histogram\n").unwrap();
        assert_eq!(
            counters,
            "# TYPE a gauge\na 1.25\n\
             # HELP b_total Help with a \\\\ and\\na line.\n# TYPE b_total counter\n\
             b_total{z=\"0\",a=\"1\"} 1\nb_total{z=\"1\",a=\"q\\\"\\\\\\n\"} 2\n\
             # HELP c_seconds Never recorded.\n# TYPE c_seconds histogram\n"
        );
        for line in [
            "d_seconds_bucket{x=\"y\",le=\"0.0001\"} 1\n",
            "d_seconds_bucket{x=\"y\",le=\"0.1\"} 1\n",
            "d_seconds_bucket{x=\"y\",le=\"0.5\"} 2\n",
            "d_seconds_bucket{x=\"y\",le=\"8\"} 2\n",
            "d_seconds_bucket{x=\"y\",le=\"+Inf\"} 3\n",
            "d_seconds_sum{x=\"y\"} 60.2001\n",
            "d_seconds_count{x=\"y\"} 3\n",
        ] {
            assert!(histogram.contains(line), "{line}{histogram}");
        }
        assert_eq!(histogram.lines().count(), BUCKETS.len() + 3);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_is_held_stays() {
        let mut held = None;
        let recorder = recorded(|| {
            for name in ["gone", "here"] {
                counter!("c", "provider" => name).increment(1);
                gauge!("g", "provider" => name).set(1.0);
                histogram!("h", "provider" => name).record(1.0);
            }
            held = Some(counter!("held", "provider" => "gone"));
        });
        let live = |labels: &Labels<'_>| labels.get("provider") != Some("gone");
        recorder.retain(live);
        held.take().unwrap().increment(1);
        let text = recorder.render();
        assert!(text.contains("held{provider=\"gone\"} 1\n"), "{text}");
        assert_eq!(text.matches("gone").count(), 1, "{text}");
        assert_eq!(text.matches("h_count{provider=\"here\"} 1").count(), 1, "{text}");
        recorder.retain(live);
        assert!(!recorder.render().contains("gone"));
    }
}
