//! Very many revocations in the index: what each takes, what it costs to ask, and whether anybody waits while many end.

use std::{
    hash::RandomState,
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hashbrown::HashTable;
use serde_json::json;
use tokenward::{
    Timestamp,
    revocation::{Index, Marks, Rule},
};
use tokenward_core::claims::Claims;
use tokenward_testkit::bench::{Instant, Rows, compare, each, median, pin, quantile};

use crate::{resident, scattered};

const ROUNDS: usize = 9;
const ISSUER: &str = "https://login.example/tenants/1";
/// Those that are asked about in a round.
const ASKED: usize = 500_000;
/// Hours in which records end, as many in each.
const HOURS: usize = 10;
/// Of those, how many end here.
const ENDED: i64 = 5;

pub(crate) fn run(n: usize, rows: &mut Rows) {
    let index = Index::new(RandomState::new());
    let before = resident();
    for number in 0..n {
        let hour = i64::try_from(1 + number % HOURS).unwrap();
        index.insert(ISSUER, &Rule::Token(name(number)), Some(at(hour)));
    }
    let bytes = (resident() - before) as f64 / n as f64;
    rows.at_most(
        &format!("resident for each of {n} revocations, bytes"),
        bytes,
        24.0,
    );

    pin(1);
    let mut table = HashTable::with_capacity(0);
    for number in 0..n as u64 {
        table.insert_unique(mixed(number), mixed(number), |held| *held);
    }
    let numbers = scattered(n);
    for (what, offset) in [("a token that is not", n), ("one that is", 0)] {
        let asked: Vec<usize> = numbers.iter().take(ASKED).map(|number| number + offset).collect();
        let marks: Vec<Marks> = asked.iter().map(|number| marks(&index, *number)).collect();
        // The next one is known when the one before is answered: a request asks once, and waits for it.
        let chained = |ask: &dyn Fn(usize) -> bool| {
            let (mut at, mut revoked) = (0, 0);
            let took = each(asked.len() / 2, |_| {
                let is_revoked = usize::from(black_box(ask(at)));
                revoked += is_revoked;
                at += 1 + is_revoked;
            });
            assert_eq!(revoked, if offset > 0 { 0 } else { asked.len() / 2 });
            took
        };
        let ours = |at: usize| index.check(black_box(&marks[at])).is_err();
        let bare = |at: usize| {
            let value = mixed(asked[at] as u64);
            table.find(value, |held| *held == value).is_some()
        };
        let seen = compare(ROUNDS, || chained(&ours), || chained(&bare));
        println!(
            "{what} revoked, among {n}: {:.0} ns, a table of numbers {:.0} ns",
            seen.one, seen.other
        );
        rows.at_most(
            &format!("asking {n} revocations about {what} revoked, to a table of numbers"),
            seen.ratio,
            2.0,
        );
    }
    drop(table);
    rows.at_most(
        &format!(
            "looks of a reader, but one of 10,000, while {} revocations end, to the time that takes",
            n / HOURS
        ),
        waits(&index, n),
        0.01,
    );
}

/// While another thread forgets what ends in an hour: how long looks took a reader, all but one of ten thousand, as a share of the time
/// that the forgetting took, the median of some hours. The rest is what else the machine does.
fn waits(index: &Index, n: usize) -> f64 {
    let asked: Vec<Marks> = (0..1_000).map(|number| marks(index, n + number)).collect();
    let mut shares = Vec::new();
    for hour in 1..=ENDED {
        let (is_due, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (took, looks) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                pin(0);
                let quiet = looks(index, &asked, &is_due);
                (quiet, looks(index, &asked, &is_over))
            });
            std::thread::sleep(Duration::from_millis(100));
            is_due.store(true, Ordering::Release);
            let began = Instant::now();
            assert_eq!(index.prune(at(hour + 1)), n / HOURS);
            let took = began.elapsed();
            is_over.store(true, Ordering::Release);
            (took, reader.join().unwrap())
        });
        let [before, meanwhile] =
            [&looks.0, &looks.1].map(|looks| [0.9999, 1.0].map(|part| quantile(looks, part)));
        println!(
            "{} revocations end in {:.1} ms; looks meanwhile {:.1} µs, the longest {:.1} µs; before {:.1} and {:.1} µs",
            n / HOURS,
            took.as_secs_f64() * 1e3,
            meanwhile[0].as_secs_f64() * 1e6,
            meanwhile[1].as_secs_f64() * 1e6,
            before[0].as_secs_f64() * 1e6,
            before[1].as_secs_f64() * 1e6,
        );
        shares.push(Duration::from_secs_f64(meanwhile[0].div_duration_f64(took)));
    }
    median(&shares).as_secs_f64()
}

/// How long each look took until it is over.
fn looks(index: &Index, asked: &[Marks], is_over: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    // Once at least, however late it came to its processor.
    loop {
        for marks in asked {
            let began = Instant::now();
            black_box(index.check(black_box(marks))).unwrap();
            took.push(began.elapsed());
        }
        if is_over.load(Ordering::Acquire) {
            return took;
        }
    }
}

fn marks(index: &Index, number: usize) -> Marks {
    let claims = json!({ "iss": ISSUER, "jti": name(number) });
    index.marks(
        ISSUER,
        &Claims::parse(claims.to_string().as_bytes()).unwrap(),
        None,
    )
}

/// As long as an id of ours.
fn name(number: usize) -> String {
    format!("wZ2kVqQ0Q2eB1q2m0wzv7g{number:010}")
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_secs(hour * 3_600)
}

/// A number like a fingerprint.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
