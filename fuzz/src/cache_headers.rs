//! Cache headers: how long an answer stays fresh, by an independent reading of RFC 9111.
//!
//! Each line of an input is a header: `A` and an age, `D` and a date, `E` and an expiry, anything else is a
//! `Cache-Control` line.

use std::time::Duration;

use tokenward_core::{
    Timestamp,
    freshness::{CacheHeaders, Upstream},
};

/// 2026-11-25T12:00:00Z.
const RECEIVED: i64 = 1_795_608_000;
const LONGEST: u64 = 1 << 31;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut headers = CacheHeaders::default();
    for line in text.split('\n') {
        match line.split_at_checked(1) {
            Some(("A", age)) => headers.age = Some(age),
            Some(("D", date)) => headers.date = Some(date),
            Some(("E", expires)) => headers.expires = Some(expires),
            _ => headers.cache_control.push(line),
        }
    }
    let read = |headers: &CacheHeaders<'_>| Upstream::read(headers, Timestamp::from_secs(RECEIVED));
    let upstream = read(&headers);
    match (upstream.max_age, upstream.remaining) {
        (Some(max_age), Some(remaining)) => assert!(remaining <= max_age && !max_age.is_zero()),
        (None, None) => {}
        other => panic!("one without the other: {other:?}"),
    }

    let stated = stated(&headers.cache_control);
    match stated {
        Stated::Nothing if headers.expires.is_none() => assert_eq!(upstream, Upstream::default()),
        Stated::Nothing => {}
        Stated::Never | Stated::Seconds(0) => assert_eq!(upstream, Upstream::default(), "{headers:?}"),
        Stated::Seconds(seconds) => {
            assert_eq!(
                upstream.max_age,
                Some(Duration::from_secs(seconds)),
                "{headers:?}"
            );
            if let Some(age) = headers.age.and_then(age) {
                let rest = Duration::from_secs(seconds.saturating_sub(age));
                assert!(
                    upstream.remaining <= Some(rest),
                    "older than its age says: {headers:?}"
                );
                if headers.date.is_none() {
                    assert_eq!(upstream.remaining, Some(rest), "{headers:?}");
                }
            }
        }
    }

    // Names do not depend on case, and directives that nobody knows change nothing.
    let lower: Vec<_> = headers
        .cache_control
        .iter()
        .map(|line| line.to_ascii_lowercase())
        .collect();
    let same = CacheHeaders {
        cache_control: ["x-unheard-of=\"a, max-age=5\", immutable"]
            .into_iter()
            .chain(lower.iter().map(String::as_str))
            .collect(),
        ..headers.clone()
    };
    assert_eq!(read(&same), upstream, "{headers:?}");
    let forbidden = CacheHeaders {
        cache_control: headers
            .cache_control
            .iter()
            .copied()
            .chain(["No-Store"])
            .collect(),
        ..headers
    };
    assert_eq!(read(&forbidden), Upstream::default());
}

enum Stated {
    Nothing,
    /// `no-store`, `no-cache`, or a `max-age` that is no number: stale at once.
    Never,
    Seconds(u64),
}

/// What `Cache-Control` says, read a character at a time: the first `max-age` counts (RFC 9111 section 4.2.1).
fn stated(lines: &[&str]) -> Stated {
    let mut stated = Stated::Nothing;
    for line in lines {
        for directive in directives(line) {
            let (name, value) = match directive.find('=') {
                Some(place) => (directive[..place].trim(), directive[place + 1..].trim()),
                None => (directive.trim(), ""),
            };
            match name.to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Stated::Never,
                "max-age" if matches!(stated, Stated::Nothing) => {
                    let bare = if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') {
                        &value[1..value.len() - 1]
                    } else {
                        value
                    };
                    stated = number(bare).map_or(Stated::Never, Stated::Seconds);
                }
                _ => {}
            }
        }
    }
    stated
}

fn directives(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut chars = line.chars();
    let mut quoted = false;
    while let Some(char) = chars.next() {
        match char {
            ',' if !quoted => all.push(String::new()),
            _ => {
                quoted ^= char == '"';
                let current = all.last_mut().unwrap();
                current.push(char);
                // A pair: what follows the backslash ends nothing (RFC 9110 section 5.6.4).
                if quoted && char == '\\' {
                    current.extend(chars.next());
                }
            }
        }
    }
    all
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.chars().all(|char| char.is_ascii_digit());
    digits.then(|| {
        text.bytes().fold(0_u64, |number, digit| {
            (number * 10 + u64::from(digit - b'0')).min(LONGEST)
        })
    })
}

/// The first of several ages; one that is no number says nothing.
fn age(text: &str) -> Option<u64> {
    number(text.split(',').next().unwrap_or_default().trim())
}
