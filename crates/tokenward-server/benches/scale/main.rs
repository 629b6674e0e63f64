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

mod background;
mod bare;
mod cadence;
mod changes;
mod keys;
mod load;
mod program;
mod restart;

use std::process::ExitCode;

use tokenward_testkit::bench::Rows;

const USAGE: &str = "usage: bench/scale load [N] | changes [N] | restart [N] | cadence [N] | background [N]";

type Part = (&'static str, fn(usize, &mut Rows), usize);

/// Each with the number of providers where none is given.
const PARTS: [Part; 5] = [
    ("load", load::run, 10_000),
    ("changes", changes::run, 100_000),
    ("restart", restart::run, 10_000),
    ("cadence", cadence::run, 100_000),
    ("background", background::run, 10_000),
];

fn main() -> ExitCode {
    // Cargo adds options of its own harness.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let given: Option<Result<usize, _>> = arguments.get(1).map(|text| text.parse());
    let part = PARTS
        .iter()
        .find(|(name, ..)| arguments.first().is_some_and(|given| given == name));
    let mut rows = Rows::default();
    match (part, arguments.first().map(String::as_str), given.transpose()) {
        (Some((_, run, usual)), _, Ok(n)) => run(n.unwrap_or(*usual), &mut rows),
        (None, Some(keys::SERVE), Ok(Some(n))) => keys::serve(n),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    if rows.are_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
