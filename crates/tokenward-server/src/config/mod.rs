//! The configuration: one YAML file and the environment, read once into validated data.
//!
//! The file becomes a tree that knows where each part was written ([`tree`]), the environment is put into it
//! ([`environment`]), and records read it ([`record`] and [`fields`], defined in [`model`] and [`idp`]) by rules for single values
//! ([`rules`]). Everything that is wrong is reported at once, with its place ([`problem`]).

mod credential;
mod document;
mod effective;
mod environment;
mod fields;
mod idp;
mod library;
mod model;
mod problem;
mod record;
mod rules;
mod secret;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

pub(crate) use credential::{Credential, Scope};
pub(crate) use document::Form;
pub(crate) use effective::Effective;
pub(crate) use environment::Environment;
pub(crate) use model::{
    Authorize, Config, DefaultDecision, Level, LogFormat, Merged, OnCollision, StoreUrl, Tls, WellKnown,
};
pub(crate) use problem::{Place, Problem, Problems};
pub(crate) use rules::read_limited;
pub(crate) use secret::SecretDigest;

use record::{Context, Record, Section};
use tree::Node;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1_024 * 1_024;

/// The file that is looked for in the working directory where none is named.
const DEFAULT_FILE: &str = "tokenward.yaml";

/// Finds, reads and validates the configuration.
///
/// The file is `file`, else what `TOKENWARD_CONFIG` names, else what `CONFIG_PATH` names, else `tokenward.yaml` in the
/// working directory. There need not be one under `--dev`, nor where members are set by variables.
///
/// # Errors
///
/// Everything that is wrong with it, all at once.
pub(crate) fn load(file: Option<&Path>, dev: bool, environment: &Environment) -> Result<Config, Problems> {
    let named = file.map(|path| (path.to_owned(), String::new()));
    let found = named
        .or_else(|| by_variable(environment, "TOKENWARD_CONFIG"))
        .or_else(|| by_variable(environment, "CONFIG_PATH"))
        .or_else(|| {
            Path::new(DEFAULT_FILE)
                .exists()
                .then(|| (DEFAULT_FILE.into(), String::new()))
        });
    let Some((path, named_by)) = found else {
        if dev || environment.has_overrides() {
            return parse("", None, dev, environment);
        }
        return Err(Problems::one(
            None,
            Place::Whole,
            "no configuration: write `tokenward.yaml` in the working directory, name a file by `--config` or \
             `TOKENWARD_CONFIG`, or try `tokenward serve --dev`",
        ));
    };
    let problem = |message| Problems::one(Some(path.clone()), Place::Whole, message);
    let bytes = read_limited(&path, MAX_FILE).map_err(|message| problem(format!("{message}{named_by}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        problem(format!("the file is not UTF-8, in line {line}"))
    })?;
    parse(&text, Some(path.clone()), dev, environment)
}

fn by_variable(environment: &Environment, variable: &str) -> Option<(PathBuf, String)> {
    environment
        .get(variable)
        .map(|path| (path.into(), format!(" (named by `{variable}`)")))
}

/// Validates `text`; `file` is only for the messages.
fn parse(
    text: &str,
    file: Option<PathBuf>,
    dev: bool,
    environment: &Environment,
) -> Result<Config, Problems> {
    let cx = Context::new(dev);
    let mut root = match tree::parse(text, &cx) {
        Ok(root) if root.is_null() => Node::empty_map(root.place),
        Ok(root) => root,
        Err(problem) => {
            cx.report(problem.place, problem.member, problem.message);
            return Err(Problems::new(file, cx.into_problems()));
        }
    };
    environment.substitute(&mut root, &cx);
    environment.overlay(&mut root, &Config::members(), &cx);
    let config = Section::root(&cx, &root).read::<Config>();
    let problems = cx.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Problems::new(file, problems)),
    }
}
