//! The `tokenward` program, as a library that only the program itself, the fuzz targets and the benchmarks use: it has no interface
//! to rely on, and its one promise is [`run`].

mod access;
mod admin;
mod aggregate;
mod authorize;
#[cfg(feature = "bench")]
pub mod bench;
mod cli;
mod cluster;
mod config;
mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod issue;
mod limits;
mod openapi;
mod revocation;
mod serve;
mod signer;
mod telemetry;

use std::process::ExitCode;

/// Runs the command that the process's arguments name, to its end.
pub fn run() -> ExitCode {
    cli::run()
}
