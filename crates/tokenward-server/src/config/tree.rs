//! YAML as a tree that knows where each part was written.

use std::{collections::HashMap, mem};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    problem::{Place, Problem},
    record::Context,
};

/// How many values anchors and aliases may add by repetition: against "billion laughs". What is written out is bounded by
/// the length of the file.
const MAX_REPEATED: usize = 200_000;

/// How deep mappings and lists may nest. The configuration itself needs five levels.
const MAX_DEPTH: usize = 32;

/// Two are equal that say the same, wherever they were written.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.node == other.node
    }
}

/// One value and its place. It has no `Debug`, since it may hold a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Scalar {
        text: String,
        style: Style,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What is wrong with it has been said; nothing more is to be said about it.
    Invalid,
}

/// One member of a mapping.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

/// How a scalar was written, which decides what it may be read as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: `8080` is an integer, `true` a boolean.
    Plain,
    /// In quotes or as a block: always text.
    Quoted,
    /// From the environment, which knows only text: whatever the member wants.
    Environment,
}

impl Node {
    pub(super) fn empty_map(place: Place) -> Self {
        Self {
            place,
            value: Value::Map(Vec::new()),
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Takes a member away from a mapping.
    pub(super) fn forget(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != key);
        }
    }

    /// Whether this is YAML's null: an empty value, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What was found, for a message about what was expected.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "members",
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar {
                style: Style::Plain,
                text,
            } if matches!(text.as_str(), "true" | "false") => "a boolean",
            Value::Scalar {
                style: Style::Plain,
                text,
            } if is_number(text) => "a number",
            Value::Scalar { .. } | Value::Invalid => "text",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } | Value::Invalid => 0,
            Value::List(nodes) => nodes.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => entries.iter().map(|entry| 1 + entry.node.size()).sum(),
        }
    }
}

/// Whether YAML reads the plain scalar `text` as a number.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()
}

/// Reads one YAML document. Duplicate members are recorded, and the first of them is kept.
///
/// # Errors
///
/// What is not YAML, and what is too large, too deep or too much once aliases are expanded: nothing that
/// follows it could be read.
pub(super) fn parse(text: &str, cx: &Context) -> Result<Node, Problem> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        cx,
        open: Vec::new(),
        anchors: HashMap::new(),
        repeated: 0,
        root: None,
        documents: 0,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let mark = error.marker();
            let place = Place::File {
                line: mark.line(),
                column: mark.col() + 1,
            };
            problem(place, format!("not YAML: {}", error.info()))
        })?;
        builder.event(event, &span)?;
    }
    let start = Place::File { line: 1, column: 1 };
    Ok(builder.root.unwrap_or_else(|| Node::empty_map(start)))
}

fn problem(place: Place, message: impl Into<String>) -> Problem {
    Problem {
        place,
        member: String::new(),
        message: message.into(),
    }
}

struct Builder<'a> {
    cx: &'a Context,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    repeated: usize,
    root: Option<Node>,
    documents: usize,
}

/// A mapping or list whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    /// The members so far, and the key whose value comes next.
    Map(Vec<Entry>, Option<(String, Place)>),
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let place = Place::File {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        if event.tag().is_some() {
            return Err(problem(place, "tags are not supported here"));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(problem(place, "only one document is allowed in the file"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                let value = Value::Scalar {
                    text: text.into_owned(),
                    style,
                };
                self.finish(Node { place, value }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open {
                    place,
                    anchor,
                    items: Items::List(Vec::new()),
                });
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open {
                    place,
                    anchor,
                    items: Items::Map(Vec::new(), None),
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { place, anchor, items }) = self.open.pop() {
                    let value = match items {
                        Items::List(nodes) => Value::List(nodes),
                        Items::Map(entries, _) => Value::Map(entries),
                    };
                    self.finish(Node { place, value }, anchor)?;
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.repeat(&node)?;
                    self.finish(node, 0)?;
                }
                // An anchor is known only once its node has ended, so an alias inside it finds nothing.
                None => return Err(problem(place, "the alias stands inside what it names")),
            },
            _ => {}
        }
        Ok(())
    }

    /// Counts a copy of `node`.
    fn repeat(&mut self, node: &Node) -> Result<(), Problem> {
        self.repeated += node.size();
        if self.repeated > MAX_REPEATED {
            return Err(problem(
                node.place.clone(),
                format!("anchors and aliases repeat more than {MAX_REPEATED} values"),
            ));
        }
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.repeat(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(nodes)) => nodes.push(node),
            Some(Items::Map(entries, awaited)) => match awaited.take() {
                Some((key, key_place)) => entry(self.cx, entries, Entry { key, key_place, node }),
                None => match node {
                    Node {
                        place,
                        value: Value::Scalar { mut text, .. },
                    } => {
                        *awaited = Some((mem::take(&mut text), place));
                    }
                    node => return Err(problem(node.place, "a member's name must be text")),
                },
            },
        }
        Ok(())
    }
}

/// Adds a member to a mapping, unless it stands there already, which is reported.
pub(super) fn entry(cx: &Context, entries: &mut Vec<Entry>, entry: Entry) {
    let Some(first) = entries.iter().find(|other| other.key == entry.key) else {
        return entries.push(entry);
    };
    let line = match first.key_place {
        Place::File { line, .. } => format!("; the first one is in line {line}"),
        _ => String::new(),
    };
    cx.report(
        entry.key_place,
        entry.key,
        format!("the member is given twice{line}"),
    );
}
