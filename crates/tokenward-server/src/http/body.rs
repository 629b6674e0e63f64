//! Request bodies: bounded, in time, and strict about their members.

use std::{borrow::Cow, fmt, future::poll_fn, pin::pin, task::Poll, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};
use tokenward_core::{Clock, Timestamp};

use super::{bad_request, body_too_large, problem, problem::problem_with};

/// The largest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Problems that are listed. More say nothing new, and an answer must not grow with a hostile request.
const MAX_PROBLEMS: usize = 32;
/// The longest part of a member's name that is repeated, in characters.
const MAX_NAME: usize = 64;

/// Why a request's body or parameters are not taken.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// The body is not the JSON that is expected, or broke off.
    NoObject,
    /// Members or parameters are not right.
    Members(Vec<Fault>),
    /// The body is too large.
    TooLarge,
    /// The body came too slowly.
    TooSlow,
}

/// What is wrong with one member of a request. It holds the member's name and none of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    member: String,
    message: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(member: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            member: member.into(),
            message: message.into(),
        }
    }
}

impl IntoResponse for Rejected {
    fn into_response(self) -> Response {
        match self {
            Self::NoObject => bad_request("The body is not the JSON object that this call takes."),
            Self::Members(faults) => {
                let errors = faults.into_iter().take(MAX_PROBLEMS).map(|fault| {
                    let member: String = fault.member.chars().take(MAX_NAME).collect();
                    json!({ "member": member, "message": fault.message })
                });
                let texts = (
                    "request_malformed",
                    "Request malformed",
                    "Members of the request are not right; errors lists them.",
                );
                problem_with(StatusCode::BAD_REQUEST, texts, ("errors", errors.collect()))
            }
            Self::TooLarge => body_too_large(),
            Self::TooSlow => problem(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Request timeout",
                "The request's body came too slowly.",
            ),
        }
    }
}

/// The whole of a body.
///
/// # Errors
///
/// Where it is too large, comes too slowly, or breaks off.
pub(crate) async fn read(body: Body, clock: &dyn Clock) -> Result<Bytes, Rejected> {
    read_at_most(body, MAX_BODY, clock).await
}

/// The same for a body that may have `most` bytes.
pub(super) async fn read_at_most(mut body: Body, most: usize, clock: &dyn Clock) -> Result<Bytes, Rejected> {
    let read = async {
        // Most have one piece, which is taken as it is.
        let (mut first, mut whole) = (Bytes::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Rejected::NoObject)?.into_data() else {
                continue;
            };
            let length = first.len().max(whole.len()) + data.len();
            if length > most {
                return Err(Rejected::TooLarge);
            }
            if first.is_empty() {
                first = data;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(if whole.is_empty() { first } else { whole.into() })
    };
    within(clock, BODY_LIMIT, read)
        .await
        .unwrap_or(Err(Rejected::TooSlow))
}

/// The members of a JSON object, of which each may be there once and none is unknown.
#[derive(Debug)]
pub(crate) struct Members {
    members: Vec<(String, Value)>,
    faults: Vec<Fault>,
}

impl Members {
    /// Reads `body`, whose members may be `known` ones only.
    ///
    /// # Errors
    ///
    /// Where it is no JSON object. What is wrong with members is said by [`Members::end`], all at once.
    pub(crate) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Rejected> {
        let List(members) = serde_json::from_slice(body).map_err(|_| Rejected::NoObject)?;
        let mut faults = Vec::new();
        for (index, (name, _)) in members.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                faults.push(Fault::new(name, "unknown member"));
            } else if members.iter().take(index).any(|(other, _)| other == name) {
                faults.push(Fault::new(name, "given twice"));
            }
        }
        Ok(Self { members, faults })
    }

    /// The text of the member `name`; nothing where it is absent.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        match self.members.swap_remove(at).1 {
            Value::String(text) => Some(text),
            _ => {
                self.faults.push(Fault::new(name, "expected a string"));
                None
            }
        }
    }

    /// Whether the member `name` is true; nothing where it is absent.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        match self.members.swap_remove(at).1 {
            Value::Bool(value) => Some(value),
            _ => {
                self.faults.push(Fault::new(name, "expected true or false"));
                None
            }
        }
    }

    /// The time of the member `name`, RFC 3339; nothing where it is absent.
    pub(crate) fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        let time: Option<jiff::Timestamp> = self.text(name)?.parse().ok();
        if time.is_none() {
            self.refuse(name, "expected a time in RFC 3339");
        }
        time.map(|time| Timestamp::from_millis(time.as_millisecond()))
    }

    /// Whether the member `name` is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Says that something about the member `name` is not right.
    pub(crate) fn refuse(&mut self, name: &'static str, message: &'static str) {
        self.faults.push(Fault::new(name, message));
    }

    /// The text of the member `name`, which must be there.
    pub(crate) fn required_text(&mut self, name: &'static str) -> String {
        let before = self.faults.len();
        let text = self.text(name);
        if text.is_none() && self.faults.len() == before {
            self.faults.push(Fault::new(name, "the member is missing"));
        }
        text.unwrap_or_default()
    }

    /// # Errors
    ///
    /// Everything that is wrong.
    pub(crate) fn end(self) -> Result<(), Rejected> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Rejected::Members(self.faults))
        }
    }
}

/// The members of an object in their order, with those that are there twice.
struct List(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key()? {
                    // Beyond what can be told there is only to be seen that it is JSON.
                    if members.len() < 2 * MAX_PROBLEMS {
                        members.push((name, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(List(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Runs `future` for at most `limit`. None: it took longer, and was dropped.
pub(crate) async fn within<F: Future>(clock: &dyn Clock, limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // What is there already needs no timer.
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Some(output);
    }
    let mut limit = clock.sleep(limit);
    tokio::select! {
        biased;
        output = &mut future => Some(output),
        () = &mut limit => None,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};
    use tokenward_testkit::ManualClock;

    use super::*;

    fn faults(body: &str) -> Vec<(String, String)> {
        let mut members = Members::parse(body.as_bytes(), &["token", "tenant"]).unwrap();
        let _ = members.required_text("token");
        let _ = members.text("tenant");
        let faults = members.faults.into_iter();
        faults
            .map(|fault| (fault.member, fault.message.into_owned()))
            .collect()
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_however_it_is_cut() {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let of = |pieces: &'static [&'static str]| {
            Body::from_stream(stream::iter(pieces.iter().map(|piece| match *piece {
                "broken" => Err(std::io::Error::other("gone")),
                piece => Ok(Bytes::from_static(piece.as_bytes())),
            })))
        };
        for (pieces, expected) in [
            (&[][..], Ok("")),
            (&["abcdef"], Ok("abcdef")),
            (&["", "abc", "", "de", "f"], Ok("abcdef")),
            (&["abcdefg"], Err("too large")),
            (&["abc", "def", "g"], Err("too large")),
            (&["a", "bcdefg"], Err("too large")),
            (&["abc", "broken"], Err("broken")),
        ] {
            let read = read_at_most(of(pieces), 6, &clock).await;
            let read = read.map_err(|rejected| match rejected {
                Rejected::TooLarge => "too large",
                Rejected::NoObject => "broken",
                _ => "other",
            });
            assert_eq!(read, expected.map(Bytes::from), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn only_what_is_waited_for_has_a_timer() {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let mut waits = pin!(within(&clock, BODY_LIMIT, async {
            assert_eq!(clock.sleepers(), 0);
            tokio::task::yield_now().await;
            assert_eq!(clock.sleepers(), 1);
            std::future::pending::<()>().await;
        }));
        assert_eq!(waits.as_mut().now_or_never(), None);
        clock.advance(BODY_LIMIT);
        assert_eq!(waits.await, None);
        assert_eq!(
            within(&clock, BODY_LIMIT, async { clock.sleepers() }).await,
            Some(0)
        );
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        assert_eq!(faults(r#"{"token":"a","tenant":"b"}"#), []);
        assert_eq!(faults(r#"{"token":"a"}"#), []);
        let named = faults(r#"{"tokne":1,"tenant":2,"tenant":"b","\u0074enant":"c"}"#);
        let named: Vec<_> = named
            .iter()
            .map(|(member, message)| (member.as_str(), message.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                ("tokne", "unknown member"),
                ("tenant", "given twice"),
                ("tenant", "given twice"),
                ("token", "the member is missing"),
                ("tenant", "expected a string"),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [
            "",
            "[]",
            "1",
            "null",
            "\"token\"",
            "{",
            "{}{}",
            "{\"token\":}",
            "\u{feff}{}",
        ] {
            let rejected = Members::parse(body.as_bytes(), &["token"]).unwrap_err();
            assert!(matches!(rejected, Rejected::NoObject), "{body}");
        }
    }

    #[tokio::test]
    async fn an_answer_does_not_grow_with_the_request() {
        let body: String = (0..4_000)
            .map(|n| format!("\"{n}{}\":1,", "x".repeat(5)))
            .collect();
        let body = format!("{{{body}\"{}\":1}}", "y".repeat(20_000));
        let members = Members::parse(body.as_bytes(), &["token"]).unwrap();
        let answer = members
            .end()
            .unwrap_err()
            .into_response()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert!(answer.len() < 4_000, "{}", answer.len());
    }
}
