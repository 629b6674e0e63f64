//! `tokenward check`: is this configuration right?

use std::path::Path;

use serde_json::json;

use super::{
    Ending,
    output::{Output, Tone},
};
use crate::config::{self, Environment};

pub(super) fn run(file: Option<&Path>, json: bool, environment: &Environment, output: &Output) -> Ending {
    match config::load(file, false, environment) {
        Ok(_) if json => output.json(&json!({ "ok": true })),
        Ok(_) => output.line(output.tint(Tone::Good, "ok")),
        Err(problems) => {
            if json {
                output.json(&json!({ "ok": false, "problems": problems.to_json() }));
            } else {
                problems.lines().for_each(|line| output.error(line));
            }
            return Ending::Usage;
        }
    }
    Ending::Ok
}
