//! What an answer's headers say about how long it stays fresh (RFC 9111, as a private cache).

use std::time::{Duration, UNIX_EPOCH};

use crate::Timestamp;

/// What an overflowing number of seconds is taken for (RFC 9111 section 1.2.2).
const OVERFLOW: u64 = 1 << 31;

/// The header fields that freshness is read from, as they came.
#[derive(Clone, Debug, Default)]
pub struct CacheHeaders<'a> {
    /// Every `Cache-Control` line, in order.
    pub cache_control: Vec<&'a str>,
    /// `Age`.
    pub age: Option<&'a str>,
    /// `Date`.
    pub date: Option<&'a str>,
    /// `Expires`.
    pub expires: Option<&'a str>,
}

/// How long the upstream said that its key set stays fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// As it was stated. None: nothing was, or it was `no-cache`, `no-store`, 0 or unreadable.
    pub max_age: Option<Duration>,
    /// The same, less the age that the answer had on arrival.
    pub remaining: Option<Duration>,
}

impl Upstream {
    /// Reads the headers of an answer that arrived at `received`, civil time.
    ///
    /// `max-age` outranks `Expires`; `s-maxage` is for shared caches and ignored; there is no heuristic.
    /// Directive names are case-insensitive, values may be quoted, the first of several counts, and one that
    /// is no number of seconds makes the answer stale, which says nothing (RFC 9111 sections 4.2.1 and 5.2).
    #[must_use]
    pub fn read(headers: &CacheHeaders<'_>, received: Timestamp) -> Self {
        let mut stated = None;
        for (name, value) in headers.cache_control.iter().flat_map(|line| directives(line)) {
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Self::default();
            }
            if name.eq_ignore_ascii_case("max-age") && stated.is_none() {
                stated = Some(seconds(value));
            }
        }
        let date = headers.date.and_then(http_date);
        let max_age = match stated {
            Some(max_age) => max_age,
            None => headers.expires.and_then(|text| {
                let lifetime = http_date(text)?.since(date.unwrap_or(received));
                Some(lifetime)
            }),
        };
        let Some(max_age) = max_age.filter(|max_age| !max_age.is_zero()) else {
            return Self::default();
        };
        // Section 4.2.3: the larger of what caches on the way counted and what the clocks say.
        let counted = headers
            .age
            .and_then(|age| seconds(age.split(',').next().unwrap_or_default().trim()));
        let apparent = date.map_or(Duration::ZERO, |date| received.since(date));
        let age = counted.unwrap_or_default().max(apparent);
        Self {
            max_age: Some(max_age),
            remaining: Some(max_age.saturating_sub(age)),
        }
    }
}

/// The directives of one `Cache-Control` line. Commas inside quotes separate nothing, and a quote after a backslash
/// ends nothing (RFC 9110 section 5.6.4).
fn directives(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        c == ',' && !quoted
    })
    .map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        (name.trim(), unquoted.unwrap_or(value))
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse::<u64>().unwrap_or(OVERFLOW).min(OVERFLOW)))
}

fn http_date(text: &str) -> Option<Timestamp> {
    let since_epoch = httpdate::parse_http_date(text.trim())
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    Some(Timestamp::from_millis(0) + since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Wed, 25 Nov 2026 12:00:00 GMT";

    fn read(
        cache_control: &[&str],
        age: Option<&str>,
        date: Option<&str>,
        expires: Option<&str>,
    ) -> (u64, u64) {
        let headers = CacheHeaders {
            cache_control: cache_control.to_vec(),
            age,
            date,
            expires,
        };
        let upstream = Upstream::read(&headers, http_date(NOW).unwrap());
        assert_eq!(upstream.max_age.is_some(), upstream.remaining.is_some());
        let secs = |value: Option<Duration>| value.map_or(0, |value| value.as_secs());
        (secs(upstream.max_age), secs(upstream.remaining))
    }

    #[test]
    fn cache_control() {
        for (line, expected) in [
            ("max-age=300", 300),
            ("public, max-age=300, must-revalidate", 300),
            ("MAX-AGE=300", 300),
            ("max-age=\"300\"", 300),
            (" max-age = 300 ", 300),
            ("max-age=300, max-age=600", 300),
            ("s-maxage=10, max-age=300", 300),
            ("s-maxage=10", 0),
            ("max-age=99999999999999999999999", OVERFLOW),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age=x", 0),
            ("max-age", 0),
            ("max-age=0", 0),
            ("no-store, max-age=300", 0),
            ("max-age=300, No-Cache", 0),
            ("no-cache=\"set-cookie, x\", max-age=300", 0),
            ("x=\"a, max-age=5\", max-age=300", 300),
            ("x=\"a\\\", max-age=5\", max-age=300", 300),
            ("x=\"a\\\\\", max-age=300", 300),
            ("max-age=\"300", 0),
            ("private, max-age=300", 300),
            ("immutable", 0),
            ("", 0),
        ] {
            assert_eq!(read(&[line], None, None, None).0, expected, "{line:?}");
        }
        assert_eq!(read(&["public", "max-age=60"], None, None, None).0, 60);
    }

    #[test]
    fn age_is_the_larger_of_what_was_counted_and_what_the_clocks_say() {
        let max_age = &["max-age=300"][..];
        for (age, date, remaining) in [
            (None, None, 300),
            (Some("100"), None, 200),
            (Some("400"), None, 0),
            (Some("100, 200"), None, 200),
            (Some("-5"), None, 300),
            (Some("soon"), None, 300),
            (Some("99999999999999999999"), None, 0),
            (None, Some("Wed, 25 Nov 2026 11:58:00 GMT"), 180),
            (Some("10"), Some("Wed, 25 Nov 2026 11:58:00 GMT"), 180),
            (None, Some("Wed, 25 Nov 2026 12:30:00 GMT"), 300),
            (None, Some("yesterday"), 300),
        ] {
            assert_eq!(
                read(max_age, age, date, None),
                (300, remaining),
                "{age:?} {date:?}"
            );
        }
    }

    #[test]
    fn expires_counts_from_the_answers_own_date() {
        let date = Some("Wed, 25 Nov 2026 11:59:00 GMT");
        let expires = Some("Wed, 25 Nov 2026 12:09:00 GMT");
        assert_eq!(read(&[], None, date, expires), (600, 540));
        assert_eq!(read(&[], None, None, expires), (540, 540));
        assert_eq!(read(&["max-age=60"], None, None, expires), (60, 60));
        assert_eq!(
            read(&["max-age=x"], None, None, expires),
            (0, 0),
            "an unreadable max-age is stale"
        );
        assert_eq!(read(&[], None, None, Some("0")), (0, 0));
        assert_eq!(
            read(&[], None, None, Some("Wed, 25 Nov 2020 12:00:00 GMT")),
            (0, 0)
        );
    }
}
