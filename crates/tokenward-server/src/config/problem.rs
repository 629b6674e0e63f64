//! What is wrong with a configuration, and where.

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc};

use serde_json::{Map, Value};

/// Where a value was written. Places sort as a reader meets them: the file from its top, then the variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A line and a column of the file, both counted from 1.
    File { line: usize, column: usize },
    /// An environment variable.
    Variable(Arc<str>),
    /// Nowhere: the value is a default, or the file as a whole is meant.
    Whole,
}

/// One thing that is wrong. It never holds a value, since a value may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// The member, for example `idps[0].url`; empty where the file as a whole is meant.
    pub(crate) member: String,
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
}

impl Problem {
    /// What is wrong with `member`, wherever that was written.
    pub(crate) fn of_whole(member: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: Place::Whole,
            member: member.into(),
            message: message.into(),
        }
    }

    /// The same of a part of `whole`.
    pub(crate) fn within(mut self, whole: &str) -> Self {
        self.member = format!("{whole}: {}", self.member);
        self
    }
}

/// Everything that is wrong with a configuration, in the order of its places.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    file: Option<PathBuf>,
    list: BTreeSet<Problem>,
}

impl Problems {
    pub(crate) fn new(file: Option<PathBuf>, list: BTreeSet<Problem>) -> Self {
        Self { file, list }
    }

    pub(super) fn one(file: Option<PathBuf>, place: Place, message: impl Into<String>) -> Self {
        let problem = Problem {
            place,
            member: String::new(),
            message: message.into(),
        };
        Self {
            file,
            list: BTreeSet::from([problem]),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// One line a problem, as editors understand it: `file:line:column: member: message`.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|problem| {
            let mut line = match (&problem.place, &self.file) {
                (Place::File { line, column }, Some(file)) => format!("{}:{line}:{column}: ", file.display()),
                (Place::File { line, column }, None) => format!("{line}:{column}: "),
                (Place::Variable(name), _) => format!("{name}: "),
                (Place::Whole, Some(file)) => format!("{}: ", file.display()),
                (Place::Whole, None) => String::new(),
            };
            if !problem.member.is_empty() {
                line.push_str(&problem.member);
                line.push_str(": ");
            }
            line.push_str(&problem.message);
            line
        })
    }

    /// The same for scripts: a list of `{file, line, column, variable, member, message}`, without what is absent.
    pub(crate) fn to_json(&self) -> Value {
        let list = self.list.iter().map(|problem| {
            let mut object = Map::new();
            match &problem.place {
                Place::File { line, column } => {
                    object.insert("line".into(), (*line).into());
                    object.insert("column".into(), (*column).into());
                }
                Place::Variable(name) => {
                    object.insert("variable".into(), name.as_ref().into());
                }
                Place::Whole => {}
            }
            if let (Some(file), false) = (&self.file, matches!(problem.place, Place::Variable(_))) {
                object.insert("file".into(), file.display().to_string().into());
            }
            if !problem.member.is_empty() {
                object.insert("member".into(), problem.member.as_str().into());
            }
            object.insert("message".into(), problem.message.as_str().into());
            Value::Object(object)
        });
        list.collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// ` (did you mean …?)` where one of `known` is close to `found`, else nothing.
pub(super) fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (found.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&found.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}
