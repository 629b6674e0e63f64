//! What every request takes, each beside the least that it could cost. `bench/hot` runs it; `docs/performance.md` says what
//! is measured.
//!
//! What is compared takes turns, and works in one thread on one processor; each round gives a ratio, and their median counts.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

mod keys;
mod known;
mod revocations;
mod stored;
mod verify;

use std::process::ExitCode;

use tokenward_testkit::bench::Rows;

type Part = (&'static str, fn(usize, &mut Rows), usize);

/// Each with the number that it takes where none is given.
const PARTS: [Part; 5] = [
    ("verify", verify::run, 15),
    ("known", known::run, 100_000),
    ("keys", keys::run, 100_000),
    ("revocations", revocations::run, 10_000_000),
    ("stored", stored::run, 1_000_000),
];

fn main() -> ExitCode {
    // Cargo adds options of its own harness.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let part = PARTS
        .iter()
        .find(|(name, ..)| arguments.first().is_some_and(|given| given == name));
    let (Some((_, run, usual)), Ok(number)) = (part, arguments.get(1).map(|text| text.parse()).transpose())
    else {
        eprintln!(
            "usage: bench/hot verify [ROUNDS] | known [TOKENS] | keys [IDPS] | revocations [N] | stored [N]"
        );
        return ExitCode::FAILURE;
    };
    let mut rows = Rows::default();
    run(number.unwrap_or(*usual), &mut rows);
    if rows.are_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Numbers below `n`, each once, in an order that no processor foresees.
fn scattered(n: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..n).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for place in (1..n).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(place, usize::try_from(state % (place as u64 + 1)).unwrap());
    }
    numbers
}

/// Bytes of this process that are resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1_024
}
