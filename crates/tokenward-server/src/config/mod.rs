//! The configuration: one YAML file and the environment, read once into validated data.
//!
//! The file becomes a tree that knows where each part was written ([`tree`]), the environment is put into it
//! ([`environment`]), and records read it ([`record`] and [`fields`], defined in [`model`] and [`idp`]) by rules for single values
//! ([`rules`]). Everything that is wrong is reported at once, with its place ([`problem`]).

mod authorize;
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
mod store;
mod token_service;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

pub(crate) use authorize::Authorize;
pub(crate) use credential::{Allow, Credential, Scope};
pub(crate) use document::{Form, schema as document_schema};
pub(crate) use effective::Effective;
pub(crate) use environment::Environment;
pub(crate) use idp::OWN_IDP;
pub(crate) use model::{
    Config, Level, LogFormat, Merged, OnCollision, Server, Tls, TokenApiLimits, WellKnown,
};
pub(crate) use problem::{Place, Problem, Problems};
pub(crate) use rules::{not_private, parse_duration, read_limited};
pub(crate) use secret::SecretDigest;
pub(crate) use store::{OnStale, Revocation, StoreUrl};
pub(crate) use token_service::TokenService;

use record::{Context, Record, Section};
use tree::Node;

/// The longest file that is read, in bytes: 100,000 identity providers with some members of their own.
const MAX_FILE: u64 = 64 * 1_024 * 1_024;

/// The file that is looked for in the working directory where none is named.
const DEFAULT_FILE: &str = "tokenward.yaml";

/// The token service that `--dev` has where none is configured.
pub(crate) fn token_service_of_dev(issuer: &str) -> Option<TokenService> {
    let text = format!("token_service: {{ issuer: '{issuer}', audience: [my-api], algorithm: ES256 }}");
    let parsed = parse(&text, None, &Environment::default(), None, &Context::new(true));
    parsed.ok()?.token_service
}

/// Where the configuration is read from, as often as it is.
pub(crate) struct Source {
    file: Option<PathBuf>,
    dev: bool,
    environment: Environment,
}

/// What came of reading the configuration.
pub(crate) struct Reading {
    /// The configuration, or everything that is wrong with it.
    pub(crate) config: Result<Config, Problems>,
    /// The file that was read or would be, and those that it names: a change of any of them may change the outcome.
    pub(crate) files: BTreeSet<PathBuf>,
}

impl Source {
    /// The file is `file`, else what `TOKENWARD_CONFIG` names, else what `CONFIG_PATH` names, else `tokenward.yaml` in
    /// the working directory. There need not be one under `--dev`, nor where members are set by variables.
    pub(crate) fn new(file: Option<&Path>, dev: bool, environment: &Environment) -> Self {
        Self {
            file: file.map(Path::to_owned),
            dev,
            environment: environment.clone(),
        }
    }

    /// Whether `--dev` was given.
    pub(crate) fn is_dev(&self) -> bool {
        self.dev
    }

    /// Finds, reads and validates the configuration. Where one is `running` already, what only a restart can change
    /// must be as it is there.
    pub(crate) fn read(&self, running: Option<&Config>) -> Reading {
        let cx = Context::new(self.dev);
        let named = self.file.clone().map(|path| (path, String::new()));
        let (path, named_by) = named
            .or_else(|| by_variable(&self.environment, "TOKENWARD_CONFIG"))
            .or_else(|| by_variable(&self.environment, "CONFIG_PATH"))
            .unwrap_or_else(|| (DEFAULT_FILE.into(), String::new()));
        let optional = self.file.is_none() && named_by.is_empty();
        cx.note_file(&path);
        let config = self.find(&path, optional, &named_by, running, &cx);
        Reading {
            config,
            files: cx.into_files(),
        }
    }

    fn find(
        &self,
        path: &Path,
        optional: bool,
        named_by: &str,
        running: Option<&Config>,
        cx: &Context,
    ) -> Result<Config, Problems> {
        if optional && !path.exists() {
            if self.dev || self.environment.has_overrides() {
                return parse("", None, &self.environment, running, cx);
            }
            return Err(Problems::one(
                None,
                Place::Whole,
                "no configuration: write `tokenward.yaml` in the working directory, name a file by `--config` or \
                 `TOKENWARD_CONFIG`, or try `tokenward serve --dev`",
            ));
        }
        let problem = |message| Problems::one(Some(path.to_owned()), Place::Whole, message);
        let bytes =
            read_limited(path, MAX_FILE).map_err(|message| problem(format!("{message}{named_by}")))?;
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
        parse(&text, Some(path.to_owned()), &self.environment, running, cx)
    }
}

/// Reads the configuration once, as [`Source::read`] does.
///
/// # Errors
///
/// Everything that is wrong with it, all at once.
pub(crate) fn load(file: Option<&Path>, dev: bool, environment: &Environment) -> Result<Config, Problems> {
    Source::new(file, dev, environment).read(None).config
}

fn by_variable(environment: &Environment, variable: &str) -> Option<(PathBuf, String)> {
    environment
        .get(variable)
        .map(|path| (path.into(), format!(" (named by `{variable}`)")))
}

/// Validates `text`, which stands in no file.
///
/// # Errors
///
/// Everything that is wrong with it, all at once.
#[cfg(any(test, fuzzing, feature = "bench"))]
pub(crate) fn parse_text(text: &str, dev: bool, environment: &Environment) -> Result<Config, Problems> {
    parse(text, None, environment, None, &Context::new(dev))
}

/// Validates `text`; `file` is only for the messages.
fn parse(
    text: &str,
    file: Option<PathBuf>,
    environment: &Environment,
    running: Option<&Config>,
    cx: &Context,
) -> Result<Config, Problems> {
    let mut root = match tree::parse(text, cx) {
        Ok(root) if root.is_null() => Node::empty_map(root.place),
        Ok(root) => root,
        Err(problem) => {
            cx.report(problem.place, problem.member, problem.message);
            return Err(Problems::new(file, cx.take_problems()));
        }
    };
    environment.substitute(&mut root, cx);
    environment.overlay(&mut root, &Config::members(), cx);
    let section = Section::root(cx, &root);
    let config = section.read::<Config>();
    if let (Some(running), Some(config)) = (running, &config) {
        config.check_restart(running, &section);
    }
    let problems = cx.take_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Problems::new(file, problems)),
    }
}
