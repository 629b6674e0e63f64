//! `tokenward jwks fetch`: what a key set is worth, fetched and judged as the server does it.

use serde_json::{Value, json};
use tokenward::{SystemClock, acquire::KeysAt};
use tokenward_core::{
    Clock,
    freshness::{CacheHeaders, Cause, Entry, Outcome, Settings, Status, Upstream, Validators},
    jose::KeySet,
};

use super::{
    Ending, Failure, FetchArgs,
    output::{Output, Tone, harmless},
    source::{self, Fetched},
};

pub(super) fn run(url: &str, guards: &FetchArgs, json: bool, output: &Output) -> Result<Ending, Failure> {
    let url = source::url(url).ok_or_else(|| Failure::usage("expected an absolute http or https URL"))?;
    let answer = source::fetch(guards.guards()?, KeysAt::Url(url))?;
    let keys = &answer.keys;
    let usable = !keys.usable().is_empty();
    let upstream = Upstream::read(&cache_headers(&answer), SystemClock::new().wall());
    let status = status(keys, upstream);
    if json {
        output.json(&report(&answer, keys, upstream, &status));
    } else {
        print(&answer, keys, upstream, &status, output);
    }
    Ok(if usable { Ending::Ok } else { Ending::No })
}

/// What the server would make of this answer, with the settings of an IdP that has none of its own.
fn status(keys: &KeySet, upstream: Upstream) -> Status {
    let now = SystemClock::new().wall();
    let mut entry = Entry::new(Settings::default(), now);
    if let Some(plan) = entry.begin_fetch(Cause::Scheduled, now) {
        let (keys, validators) = (Box::new(keys.clone()), Validators::default());
        let outcome = Outcome::Fresh {
            keys,
            digest: [0; 32],
            validators,
            upstream,
        };
        entry.finish_fetch(plan.ticket, outcome, now, 0.0);
    }
    entry.status(now)
}

fn header<'a>(answer: &'a Fetched, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

fn cache_headers(answer: &Fetched) -> CacheHeaders<'_> {
    let lines = answer.headers.get_all("cache-control").iter();
    CacheHeaders {
        cache_control: lines.filter_map(|value| value.to_str().ok()).collect(),
        age: header(answer, "age"),
        date: header(answer, "date"),
        expires: header(answer, "expires"),
    }
}

/// The headers that say how fresh the set is, and how it can be asked for again.
const SHOWN: [&str; 6] = ["cache-control", "age", "date", "expires", "etag", "last-modified"];

fn report(answer: &Fetched, keys: &KeySet, upstream: Upstream, status: &Status) -> Value {
    let usable = keys.usable().iter().map(|key| {
        let algorithms = key
            .algorithms()
            .iter()
            .map(|algorithm| algorithm.name())
            .collect::<Vec<_>>();
        json!({ "kid": key.kid(), "algorithms": algorithms, "thumbprint": key.thumbprint().to_string() })
    });
    let skipped = keys.skipped().iter().map(|key| {
        let (reason, served) = (key.reason.code(), key.reason.is_served());
        json!({ "index": key.index, "kid": key.kid, "reason": reason, "served": served })
    });
    let headers = SHOWN
        .into_iter()
        .filter_map(|name| Some((name, header(answer, name)?)));
    json!({
        "url": answer.url.as_str(),
        "keys": keys.original_count(),
        "usable": usable.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
        "dropped_kids": status.dropped_kids,
        "headers": headers.collect::<std::collections::BTreeMap<_, _>>(),
        "max_age": upstream.max_age.map(|age| age.as_secs()),
        "fresh_for": upstream.remaining.map(|age| age.as_secs()),
        "cache_duration": status.cache_duration,
        "next_refresh": status.next_refresh,
    })
}

fn print(answer: &Fetched, keys: &KeySet, upstream: Upstream, status: &Status, output: &Output) {
    let count = (keys.original_count(), keys.usable().len());
    let place = harmless(answer.url.as_str());
    output.line(format_args!("{place}: {} keys, {} usable\n", count.0, count.1));
    let kid = |kid: Option<&str>| kid.map_or_else(|| "-".to_owned(), harmless);
    let usable = keys.usable().iter().map(|key| {
        let algorithms = key.algorithms().iter().map(|algorithm| algorithm.name());
        [
            kid(key.kid()),
            algorithms.collect::<Vec<_>>().join(" "),
            key.thumbprint().to_string(),
        ]
    });
    output.table(
        ["usable kid", "algorithms", "thumbprint"],
        &usable.collect::<Vec<_>>(),
    );
    let skipped = keys.skipped().iter().map(|key| {
        let served = if key.reason.is_served() {
            "served, not used"
        } else {
            "not served"
        };
        [
            kid(key.kid.as_deref()),
            key.reason.code().to_owned(),
            served.to_owned(),
        ]
    });
    output.table(["skipped kid", "reason", ""], &skipped.collect::<Vec<_>>());
    if !status.dropped_kids.is_empty() {
        let dropped = status
            .dropped_kids
            .iter()
            .map(|kid| harmless(kid))
            .collect::<Vec<_>>()
            .join(" ");
        output.line(output.tint(
            Tone::Bad,
            &format!("over max_keys {}, dropped: {dropped}", status.max_keys),
        ));
    }
    output.line("");
    for name in SHOWN {
        if let Some(value) = header(answer, name) {
            output.line(format_args!("{name}: {}", harmless(value)));
        }
    }
    let seconds = |age: Option<std::time::Duration>| {
        age.map_or("not stated".to_owned(), |age| format!("{} s", age.as_secs()))
    };
    output.line(format_args!(
        "max-age: {}, of which {} are left",
        seconds(upstream.max_age),
        seconds(upstream.remaining)
    ));
    output.line(format_args!(
        "with default settings clients are told max-age {} s",
        status.cache_duration
    ));
    if let Some(next) = status.next_refresh {
        output.line(format_args!(
            "with default settings the next refresh is at {next}"
        ));
    }
}
