//! The one place that prints.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

use crate::config::Environment;

/// How a command writes what it has to say.
pub(super) struct Output {
    colour: bool,
}

/// What a piece of text stands for, so that a terminal can show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
}

impl Output {
    /// Colours on a terminal only, and not where `NO_COLOR` is set (<https://no-color.org>).
    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            colour: io::stdout().is_terminal() && environment.get("NO_COLOR").is_none(),
        }
    }

    /// One line to standard output. A reader that has gone away is no reason to fail.
    pub(super) fn line(&self, text: impl Display) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    pub(super) fn json(&self, value: &Value) {
        self.line(format_args!("{value:#}"));
    }

    /// One line to standard error.
    pub(super) fn error(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// `text` in the colour of its tone.
    pub(super) fn tint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
        };
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
