//! The `tokenward` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tokenward_server::run()
}
