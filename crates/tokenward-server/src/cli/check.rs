//! `tokenward check`: is this configuration right?

use std::path::Path;

use serde_json::json;

use super::{
    Ending, Failure,
    output::{Output, Tone},
};
use crate::config::{self, Environment};

pub(super) fn run(
    file: Option<&Path>,
    json: bool,
    environment: &Environment,
    output: &Output,
) -> Result<Ending, Failure> {
    match config::load(file, false, environment) {
        Ok(_) if json => output.json(&json!({ "ok": true })),
        Ok(_) => output.line(output.tint(Tone::Good, "ok")),
        Err(problems) => {
            if json {
                output.json(&json!({ "ok": false, "problems": problems.to_json() }));
            }
            let count = problems.lines().count();
            let count = format!(
                "{count} problem{} in the configuration",
                if count == 1 { "" } else { "s" }
            );
            return Err(Failure::usage(if json {
                count
            } else {
                format!("{count}\n{problems}")
            }));
        }
    }
    Ok(Ending::Ok)
}
