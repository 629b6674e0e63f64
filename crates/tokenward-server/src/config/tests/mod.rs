//! Tests of the configuration.

mod environment;
mod members;
mod problems;
mod reference;

use super::{Config, Environment, parse};

/// Validates `text` as a file named `t.yaml`, without variables.
pub(crate) fn read(text: &str) -> Result<Config, String> {
    read_with(text, &Environment::default())
}

fn read_with(text: &str, environment: &Environment) -> Result<Config, String> {
    parse(text, Some("t.yaml".into()), false, environment).map_err(|problems| problems.to_string())
}

fn read_dev(text: &str) -> Result<Config, String> {
    parse(text, Some("t.yaml".into()), true, &Environment::default()).map_err(|problems| problems.to_string())
}
