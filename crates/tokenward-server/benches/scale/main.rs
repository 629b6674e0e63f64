//! What many identity providers cost. `bench/scale` runs it; `docs/performance.md` has its figures.
//!
//! Each measurement starts the real program against a key server in a process of its own, with two RSA keys for
//! each provider. Nothing leaves the machine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

mod bare;
mod changes;
mod keys;
mod load;
mod program;
mod restart;
mod timing;

use std::process::ExitCode;

const USAGE: &str = "usage: bench/scale load [N] | changes [N] | restart [N]";

fn main() -> ExitCode {
    // Cargo adds options of its own harness.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let number = |default: usize| arguments.get(1).map_or(Some(default), |text| text.parse().ok());
    let outcome = match (arguments.first().map(String::as_str), number(10_000)) {
        (Some("load"), Some(n)) => load::run(n),
        (Some("changes"), _) => number(100_000).map_or(Err(USAGE.to_owned()), changes::run),
        (Some("restart"), Some(n)) => restart::run(n),
        (Some(keys::SERVE), Some(n)) => {
            keys::serve(n);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
