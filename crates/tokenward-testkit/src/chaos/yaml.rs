//! YAML as a tree that knows where each part was written, and the readers of its values.

use std::{fmt, iter::Peekable, ops::RangeInclusive, str::FromStr, time::Duration};

use granit_parser::{Event, Parser, Span};

/// How deep mappings and lists may nest.
const MAX_DEPTH: usize = 16;

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    place: Place,
    message: String,
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn error(self, message: impl Into<String>) -> ScriptError {
        ScriptError {
            place: self,
            message: message.into(),
        }
    }
}

/// `line:column: message`, for a file's name to stand before.
impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.line, self.place.column, self.message)
    }
}

impl std::error::Error for ScriptError {}

type Result<T> = std::result::Result<T, ScriptError>;

/// One value and its place.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

pub(super) enum Value {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One member of a mapping.
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) node: Node,
}

/// Reads one document of YAML without anchors and tags.
pub(super) fn parse(text: &str) -> Result<Node> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut events = parser
        .map(|next| match next {
            Ok((event, span)) => Ok((place_of(&span), event)),
            Err(error) => {
                let mark = error.marker();
                let (line, column) = (mark.line(), mark.col() + 1);
                Err(Place { line, column }.error(format!("not YAML: {}", error.info())))
            }
        })
        .filter(|next| !matches!(next, Ok((_, Event::StreamStart | Event::DocumentStart(..)))))
        .peekable();
    let root = node(&mut events)?;
    match events.find(|next| !matches!(next, Ok((_, Event::DocumentEnd | Event::StreamEnd)))) {
        None => Ok(root),
        Some(Ok((place, _))) => Err(place.error("only one document is allowed in a script")),
        Some(Err(error)) => Err(error),
    }
}

fn place_of(span: &Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn node<'a>(events: &mut Peekable<impl Iterator<Item = Result<(Place, Event<'a>)>>>) -> Result<Node> {
    let Some((place, event)) = events.next().transpose()? else {
        return Err(Place::START.error("the script is empty"));
    };
    if event.tag().is_some() {
        return Err(place.error("tags are not supported here"));
    }
    let value = match event {
        Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut nodes = Vec::new();
            while !ended(events) {
                nodes.push(node(events)?);
            }
            Value::List(nodes)
        }
        Event::MappingStart(..) => {
            let mut entries: Vec<Entry> = Vec::new();
            while !ended(events) {
                let (place, name) = {
                    let key = node(events)?;
                    (key.place, key.text("a member's name")?)
                };
                if entries.iter().any(|entry| entry.name == name) {
                    return Err(place.error(format!("`{name}` is given twice")));
                }
                let node = node(events)?;
                entries.push(Entry { place, name, node });
            }
            Value::Map(entries)
        }
        Event::DocumentEnd | Event::StreamEnd => return Err(place.error("the script is empty")),
        _ => return Err(place.error("aliases are not supported here")),
    };
    Ok(Node { place, value })
}

/// Takes the end of a list or mapping, if it comes next.
fn ended<'a>(events: &mut Peekable<impl Iterator<Item = Result<(Place, Event<'a>)>>>) -> bool {
    let end =
        |next: &Result<(Place, Event<'_>)>| matches!(next, Ok((_, Event::SequenceEnd | Event::MappingEnd)));
    events.next_if(end).is_some()
}

impl Node {
    pub(super) fn text(self, what: &str) -> Result<String> {
        match self.value {
            Value::Scalar(text) => Ok(text),
            Value::List(_) | Value::Map(_) => Err(self.place.error(format!("{what} must be text"))),
        }
    }

    pub(super) fn list(self, what: &str) -> Result<Vec<Node>> {
        match self.value {
            Value::List(nodes) => Ok(nodes),
            Value::Scalar(_) | Value::Map(_) => Err(self.place.error(format!("{what} must be a list"))),
        }
    }

    pub(super) fn map(self, what: &str) -> Result<Vec<Entry>> {
        match self.value {
            Value::Map(entries) => Ok(entries),
            Value::Scalar(_) | Value::List(_) => Err(self.place.error(format!("{what} must have members"))),
        }
    }

    pub(super) fn members(self, what: &str) -> Result<Members> {
        let place = self.place;
        let entries = self.map(what)?.into_iter().map(Some).collect();
        Ok(Members { place, entries })
    }

    /// A whole number within `range`.
    pub(super) fn number<T>(self, what: &str, range: &RangeInclusive<T>) -> Result<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let place = self.place;
        let number = self
            .text(what)?
            .parse()
            .ok()
            .filter(|number| range.contains(number));
        number.ok_or_else(|| {
            place.error(format!(
                "{what} must be a number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// A number with `ms`, `s`, `m` or `h`, of a day at most.
    pub(super) fn duration(self, what: &str) -> Result<Duration> {
        let place = self.place;
        let text = self.text(what)?;
        let milliseconds = with_unit(&text, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]);
        match milliseconds {
            Some(milliseconds) if milliseconds <= 86_400_000 => Ok(Duration::from_millis(milliseconds)),
            _ => Err(place.error(format!(
                "{what} must be a time like 500ms, 30s or 5m, at most 24h"
            ))),
        }
    }

    /// A number of bytes, `KiB` or `MiB`, of 256 MiB at most.
    pub(super) fn size(self, what: &str) -> Result<usize> {
        let place = self.place;
        let text = self.text(what)?;
        let bytes = with_unit(&text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("", 1)]);
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) if bytes <= 256 << 20 => Ok(bytes),
            _ => Err(place.error(format!(
                "{what} must be a size like 4096, 64KiB or 2MiB, at most 256MiB"
            ))),
        }
    }

    pub(super) fn boolean(self, what: &str) -> Result<bool> {
        self.one_of(what, &[("true", true), ("false", false)])
    }

    /// What one of the `words` stands for.
    pub(super) fn one_of<T: Clone>(self, what: &str, words: &[(&str, T)]) -> Result<T> {
        let place = self.place;
        let text = self.text(what)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(meaning.clone()),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(place.error(format!("{what} must be one of {}", words.join(", "))))
            }
        }
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    })
}

/// The members of a mapping that were not read yet.
pub(super) struct Members {
    place: Place,
    entries: Vec<Option<Entry>>,
}

impl Members {
    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        let found = self
            .entries
            .iter_mut()
            .find(|entry| entry.as_ref().is_some_and(|entry| entry.name == name));
        found.and_then(Option::take).map(|entry| entry.node)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<Node> {
        let place = self.place;
        self.take(name)
            .ok_or_else(|| place.error(format!("`{name}` is missing")))
    }

    /// Refuses what is left over.
    pub(super) fn end(self, known: &str) -> Result<()> {
        match self.entries.into_iter().flatten().next() {
            None => Ok(()),
            Some(entry) => Err(entry
                .place
                .error(format!("`{}` is not known here; there are {known}", entry.name))),
        }
    }
}
