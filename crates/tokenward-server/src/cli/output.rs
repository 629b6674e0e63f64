//! The one place that prints.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

use crate::config::Environment;

/// How a command writes what it has to say.
pub(super) struct Output {
    /// Whether standard output is a terminal.
    terminal: bool,
    /// Whether standard output has colours.
    colour: bool,
    /// Whether standard error has colours.
    error_colour: bool,
}

/// What a piece of text stands for, so that a terminal can show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Heading,
}

impl Output {
    /// Colours on a terminal only, and not where `NO_COLOR` is set (<https://no-color.org>). Each of the two outputs
    /// may be a terminal while the other is a file.
    pub(super) fn new(environment: &Environment) -> Self {
        let wanted = environment.get("NO_COLOR").is_none();
        let terminal = io::stdout().is_terminal();
        Self {
            terminal,
            colour: wanted && terminal,
            error_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// One line to standard output. A reader that has gone away is no reason to fail.
    pub(super) fn line(&self, text: impl Display) {
        let _ = self.tell(text);
    }

    /// One line to standard output.
    ///
    /// # Errors
    ///
    /// If nobody reads it any more.
    pub(super) fn tell(&self, text: impl Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// One line of bytes as they are; on a terminal without what could steer it.
    pub(super) fn bytes(&self, bytes: &[u8]) {
        if self.terminal {
            return self.line(harmless(&String::from_utf8_lossy(bytes)));
        }
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.write_all(b"\n"));
    }

    /// `value`, indented.
    pub(super) fn json(&self, value: &Value) {
        self.line(json_text(value));
    }

    /// One line to standard error.
    pub(super) fn error(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Why the command ends without having done what it was asked for, to standard error.
    pub(super) fn failure(&self, message: impl Display) {
        self.error(format_args!(
            "{} {message}",
            paint(self.error_colour, Tone::Bad, "error:")
        ));
    }

    /// `text` in the colour of its tone, for standard output.
    pub(super) fn tint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }

    /// Rows with their columns below one another; nothing where there are no rows.
    pub(super) fn table<const N: usize>(&self, headings: [&str; N], rows: &[[String; N]]) {
        let width = |column: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells
                .chain(headings.get(column).map(|heading| heading.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let line = |cells: &[String]| {
            let cells = cells
                .iter()
                .enumerate()
                .map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        if !rows.is_empty() {
            self.line(self.tint(Tone::Heading, &line(&headings.map(str::to_owned))));
            rows.iter().for_each(|row| self.line(line(row)));
        }
    }
}

fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Heading => "1",
    };
    if colour {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// `text` without what could steer a terminal or turn the order of what it shows: such characters are escaped.
/// Tokens and upstream documents hold what others wrote.
pub(super) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// `value` as indented JSON that holds no such character either.
pub(super) fn json_text(value: &Value) -> String {
    harmless_json(&format!("{value:#}"))
}

/// The same on one line.
pub(super) fn json_line(value: &Value) -> String {
    harmless_json(&value.to_string())
}

fn harmless_json(json: &str) -> String {
    let mut safe = String::new();
    for c in json.chars() {
        // They occur inside of strings only, where JSON has an escape for each.
        match c {
            '\n' => safe.push(c),
            c if steers(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\u{9b}c\u{202e}d\n"),
            "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\\u{a}"
        );
        let value = json!({ "a": "\u{1b}]0;x\u{7}\u{9b}\u{202e}\u{e0041}é" });
        let text = json_text(&value);
        assert!(!text.chars().any(|c| steers(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
