//! Further attempts after one that failed on the way, inside one deadline.

use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};
use tokenward_core::{Clock, Timestamp};

use super::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse, error::place, within};
use crate::random::Random;

/// No server is left alone for longer because it asked so.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// [`Retry::deadline`] at most.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);

/// [`Retry::retries`] at most.
const MOST_RETRIES: u32 = 10;

/// Time limits of a fetch, and how often it is tried again.
///
/// Tried again is what fails on the way (name, connection, time) or is answered with 408, 425, 429 or 5xx.
/// Nothing else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first; 2 by default, 10 at most.
    pub retries: u32,
    /// The longest pause before the first of them; it doubles with each; 250 ms by default. The pause is drawn
    /// evenly from zero up to it, so that many who failed at once do not come back at once.
    pub initial: Duration,
    /// What the longest pause grows to; 2 s by default.
    pub max: Duration,
    /// How long one attempt may take, redirects and body included; 3 s by default.
    pub attempt: Duration,
    /// How long everything may take, discovery and pauses included; 8 s by default, 60 s at most.
    pub deadline: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 2,
            initial: Duration::from_millis(250),
            max: Duration::from_secs(2),
            attempt: Duration::from_secs(3),
            deadline: Duration::from_secs(8),
        }
    }
}

impl Retry {
    /// Every value that is out of its range: the member's name, and what is wrong with it.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.retries > MOST_RETRIES {
            problems.push(("retry.retries", format!("is from 0 to {MOST_RETRIES}")));
        }
        if self.initial > self.max {
            problems.push(("retry.initial", "is not longer than retry.max".to_owned()));
        }
        if self.attempt.is_zero() || self.attempt > self.deadline {
            problems.push((
                "retry.attempt",
                "is longer than nothing and not longer than retry.deadline".to_owned(),
            ));
        }
        if self.deadline > LONGEST_DEADLINE {
            problems.push((
                "retry.deadline",
                format!("is at most {} s", LONGEST_DEADLINE.as_secs()),
            ));
        }
        problems
    }

    /// The pause before a further attempt, with full jitter; `done` counts those already made.
    fn pause(&self, done: u32, random: &dyn Random) -> Duration {
        let longest = self
            .initial
            .saturating_mul(2u32.saturating_pow(done))
            .min(self.max);
        longest.mul_f64(random.unit().clamp(0.0, 1.0))
    }
}

/// What the attempts of one refresh share.
#[derive(Clone, Copy)]
pub(crate) struct Attempts<'a> {
    pub(crate) fetcher: &'a dyn Fetch,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a dyn Random,
    pub(crate) retry: Retry,
    /// On the steady clock.
    pub(crate) until: Timestamp,
}

impl Attempts<'_> {
    /// Fetches, again where that may help, and not beyond the deadline. Of several failures the last is told.
    pub(crate) async fn fetch(&self, request: &FetchRequest) -> Result<FetchResponse, FetchError> {
        let mut done = 0;
        loop {
            let error = match self.attempt(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // A server that takes our request for another's conditional one gets one chance to do better.
            let confused = error.kind() == FetchErrorKind::NotModifiedUnexpected && done == 0;
            if done >= self.retry.retries || !(error.retryable() || confused) {
                return Err(error);
            }
            let pause = self
                .retry
                .pause(done, self.random)
                .max(error.retry_after().unwrap_or_default());
            if pause >= self.left() {
                return Err(error);
            }
            self.clock.sleep(pause).await;
            done += 1;
        }
    }

    async fn attempt(&self, request: &FetchRequest) -> Result<FetchResponse, FetchError> {
        let response = within(self.clock, self.left(), self.fetcher.fetch(request))
            .await
            .unwrap_or_else(|| {
                let message = format!("{}: no answer before the deadline", place(&request.url));
                Err(FetchError::new(FetchErrorKind::Timeout, message))
            })?;
        if response.status == 304 && !request.is_conditional() {
            let message = format!("{} answered 304 to an unconditional request", place(&request.url));
            return Err(FetchError::new(FetchErrorKind::NotModifiedUnexpected, message));
        }
        Ok(response)
    }

    fn left(&self) -> Duration {
        self.until.since(self.clock.steady())
    }
}

/// What `Retry-After` asks for, in seconds or as a date (RFC 9110 section 10.2.3); a day at most.
pub(super) fn retry_after(headers: &HeaderMap, now_wall: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that they do not fit are a long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let since_epoch = date.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
        (Timestamp::from_millis(0) + since_epoch).since(now_wall)
    };
    Some(asked.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_secs(784_111_777 - 30);
        for (text, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999999999999999999", Some(86_400)),
            ("86401", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{text:?}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn pauses_are_drawn_from_zero_and_double_up_to_the_cap() {
        let retry = Retry::default();
        let longest: Vec<_> = (0..6)
            .map(|done| retry.pause(done, &|| 1.0).as_millis())
            .collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 2000, 2000]);
        assert_eq!(retry.pause(3, &|| 0.0), Duration::ZERO);
        assert_eq!(retry.pause(40, &|| 0.5), Duration::from_secs(1));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let retry = Retry {
            retries: 11,
            initial: Duration::from_secs(3),
            attempt: Duration::from_secs(90),
            deadline: Duration::from_secs(61),
            ..Retry::default()
        };
        let members: Vec<&str> = retry.check().iter().map(|(member, _)| *member).collect();
        assert_eq!(
            members,
            [
                "retry.retries",
                "retry.initial",
                "retry.attempt",
                "retry.deadline"
            ]
        );
        assert!(Retry::default().check().is_empty());
    }
}
