//! The `tokenward` program.

mod aggregate;
mod authorize;
mod cli;
mod config;
mod http;
mod serve;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
