//! Tests of the configuration.

mod environment;
mod members;
mod problems;
mod reference;

use super::{Config, Context, Environment, Problems};

/// Validates `text` as a file named `t.yaml`, without variables.
pub(crate) fn read(text: &str) -> Result<Config, String> {
    read_with(text, &Environment::default())
}

fn read_with(text: &str, environment: &Environment) -> Result<Config, String> {
    parse(text, false, environment).map_err(|problems| problems.to_string())
}

fn read_dev(text: &str) -> Result<Config, String> {
    parse(text, true, &Environment::default()).map_err(|problems| problems.to_string())
}

fn parse(text: &str, dev: bool, environment: &Environment) -> Result<Config, Problems> {
    let cx = Context::new(dev);
    super::parse(text, Some("t.yaml".into()), environment, None, &cx)
}
