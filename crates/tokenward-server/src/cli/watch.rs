//! `tokenward token watch`: follows a stream of server-sent events, through lost connections, to its end.

use std::{mem, time::Duration};

use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokio::runtime::Builder;

use super::{
    Ending, Failure,
    api::Client,
    output::{Output, Tone, harmless, json_line},
    runtime,
};
use crate::http::within;

/// How long nothing may come, which is three heartbeats.
const SILENCE: Duration = Duration::from_secs(45);
/// How long to wait before coming back where the server has not said.
const RETRY: Duration = Duration::from_secs(3);
/// The shortest and the longest wait that a server can ask for.
const RETRIES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));
/// The largest event, in bytes: twice the largest token, and what is around it.
const MAX_EVENT: usize = 64 << 10;

/// Prints each event until the family has ended, which is a no, or the user interrupts.
pub(super) fn run(
    client: &Client,
    query: &[(&str, &str)],
    json: bool,
    output: &Output,
) -> Result<Ending, Failure> {
    let mut watch = Watch {
        client,
        query,
        json,
        output,
        events: Events::default(),
        heard: false,
    };
    runtime::run(Builder::new_current_thread(), async {
        tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) => Ok(Ending::Ok),
                Err(error) => Err(Failure::Network(format!("cannot listen for the interrupt: {error}"))),
            },
            ending = watch.follow() => ending,
        }
    })?
}

struct Watch<'a> {
    client: &'a Client,
    query: &'a [(&'a str, &'a str)],
    json: bool,
    output: &'a Output,
    events: Events,
    /// Whether the server has let us in once: from then on a failure is taken for one that passes.
    heard: bool,
}

impl Watch<'_> {
    async fn follow(&mut self) -> Result<Ending, Failure> {
        loop {
            match self.once().await {
                Ok(Some(ending)) => return Ok(ending),
                // It was asked to come back.
                Ok(None) => {}
                Err(Failure::Network(why)) if self.heard => {
                    let wait = self.events.retry;
                    self.output
                        .error(format_args!("{why}; coming back in {} ms", wait.as_millis()));
                }
                Err(failure) => return Err(failure),
            }
            SystemClock::new().sleep(self.events.retry).await;
        }
    }

    /// One connection; None where it has ended and the family has not.
    async fn once(&mut self) -> Result<Option<Ending>, Failure> {
        let last = self.events.last_id.clone();
        let mut headers = vec![(header::ACCEPT, "text/event-stream")];
        if !last.is_empty() {
            headers.push((HeaderName::from_static("last-event-id"), &last));
        }
        let mut answer = self
            .client
            .stream(&["tokens", "stream"], self.query, &headers)
            .await?;
        if answer.status != StatusCode::OK {
            return answer.whole().await?.refusal(self.output).map(Some);
        }
        let kind = answer.headers.get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return Err(Failure::Network("the answer is no stream of events".into()));
        }
        self.heard = true;
        self.events.begin();
        loop {
            let piece = within(&SystemClock::new(), SILENCE, answer.next()).await;
            let Some(piece) =
                piece.unwrap_or_else(|| Err(Failure::Network("nothing came in time".into())))?
            else {
                return Ok(None);
            };
            for event in self.events.take(&piece)? {
                if self.print(&event).is_err() {
                    return Ok(Some(Ending::Ok));
                }
                if matches!(event.name.as_str(), "revoked" | "expired") {
                    let no = self.output.tint(Tone::Bad, "no:");
                    self.output
                        .error(format_args!("{no} the parent token is {}", event.name));
                    return Ok(Some(Ending::No));
                }
            }
        }
    }

    /// One line for each event; an error where nobody reads them any more.
    fn print(&self, event: &Event) -> std::io::Result<()> {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.as_str().into());
        if self.json {
            let id = (!event.id.is_empty()).then_some(&event.id);
            let line = json!({ "event": event.name, "id": id, "data": data });
            return self.output.tell(json_line(&line));
        }
        let mut line = harmless(&event.name);
        for (name, value) in data.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line.push_str(&format!("  {}={}", harmless(name), harmless(&value)));
        }
        self.output.tell(line)
    }
}

/// One event.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Event {
    name: String,
    /// Empty where it has none.
    id: String,
    data: String,
}

/// Server-sent events, out of pieces that may end anywhere (HTML section 9.2.6).
struct Events {
    /// What is not a whole line yet.
    rest: Vec<u8>,
    event: Event,
    /// The id of the last event that had one.
    last_id: String,
    /// How long to wait before coming back.
    retry: Duration,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            rest: Vec::new(),
            event: Event::default(),
            last_id: String::new(),
            retry: RETRY,
        }
    }
}

impl Events {
    /// A new connection: what the last one left unfinished is no event.
    fn begin(&mut self) {
        self.rest.clear();
        self.event = Event::default();
    }

    /// The events that end in `piece`.
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + self.event.data.len() + part.len() > MAX_EVENT {
                return Err(Failure::Network(format!(
                    "an event is larger than {MAX_EVENT} bytes"
                )));
            }
            self.rest.extend_from_slice(part);
            if self.rest.ends_with(b"\n") {
                let line = mem::take(&mut self.rest);
                events.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    /// The event that this line ends.
    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = mem::take(&mut self.event);
            if !event.id.is_empty() {
                self.last_id.clone_from(&event.id);
            }
            return (!event.data.is_empty()).then_some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" => value.clone_into(&mut self.event.id),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "retry" => {
                if let Ok(millis) = value.parse() {
                    let (shortest, longest) = RETRIES;
                    self.retry = Duration::from_millis(millis).clamp(shortest, longest);
                }
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "retry: 1500\nevent: connected\ndata: {}\n\n: comment\r\nid: 7\r\nevent: token\r\n\
                        data: a\r\ndata:b\r\n\r\nid: 8\n\nevent: revoked\ndata: {}\n\nevent: cut";

    proptest! {
        #[test]
        fn events_are_the_same_wherever_the_pieces_end(size in 1_usize..80) {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in TEXT.as_bytes().chunks(size) {
                found.extend(events.take(piece).ok().unwrap());
            }
            let event = |name: &str, id: &str, data: &str| Event {
                name: name.into(),
                id: id.into(),
                data: data.into(),
            };
            let expected = [event("connected", "", "{}"), event("token", "7", "a\nb"), event("revoked", "", "{}")];
            prop_assert_eq!(found, expected);
            prop_assert_eq!(&events.last_id, "8");
            prop_assert_eq!(events.retry, Duration::from_millis(1_500));
        }
    }

    #[test]
    fn what_a_server_asks_for_has_bounds() {
        let mut events = Events::default();
        for (text, millis) in [
            ("0", 100),
            ("99999999999", 300_000),
            ("-1", 300_000),
            ("2000", 2_000),
        ] {
            events.take(format!("retry: {text}\n").as_bytes()).ok().unwrap();
            assert_eq!(events.retry, Duration::from_millis(millis), "{text}");
        }
        let endless = vec![b'x'; MAX_EVENT + 1];
        assert!(events.take(&endless).is_err());
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(1_000));
        assert!(
            (0..100).any(|_| events.take(line.as_bytes()).is_err()),
            "nor lines without end"
        );
    }
}
