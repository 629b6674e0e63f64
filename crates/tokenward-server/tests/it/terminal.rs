//! What the program writes where, as far as it depends on what is at the other end.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    process::{Command, Output, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tempfile::TempDir;

const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";

/// A terminal: what is shown on it, and the end that a program writes to.
fn terminal() -> (File, OwnedFd) {
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&shown).unwrap();
    unlockpt(&shown).unwrap();
    let name = ptsname(&shown, Vec::new()).unwrap();
    let written = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (shown.into(), written)
}

/// Runs `check` on `yaml` with these outputs, and tells what came out where it was piped.
fn check(yaml: &str, variables: &[(&str, &str)], out: impl Into<Stdio>, err: impl Into<Stdio>) -> Output {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("tokenward.yaml"), yaml).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
        .arg("check")
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn();
    child.unwrap().wait_with_output().unwrap()
}

/// What is on a terminal that nobody writes to any more; the system says so by an error.
fn on(mut terminal: File) -> String {
    let mut text = Vec::new();
    let _ = terminal.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn colours_are_for_terminals_and_each_output_is_one_or_not() {
    let (good, bad) = ("idps: []", "idps: 1");
    let (shown, written) = terminal();
    check(good, &[], written, Stdio::piped());
    assert_eq!(on(shown), format!("{GREEN}ok\u{1b}[0m\r\n"));

    let (shown, written) = terminal();
    check(good, &[("NO_COLOR", "1")], written, Stdio::piped());
    assert_eq!(on(shown), "ok\r\n");

    assert_eq!(check(good, &[], Stdio::piped(), Stdio::piped()).stdout, b"ok\n");

    let (_shown, written) = terminal();
    let errors = check(bad, &[], written, Stdio::piped()).stderr;
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.starts_with("error: "), "{errors:?}");

    let (shown, written) = terminal();
    check(bad, &[], Stdio::piped(), written);
    let errors = on(shown);
    assert!(
        errors.starts_with(&format!("{RED}error:\u{1b}[0m ")),
        "{errors:?}"
    );
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let run = Command::new(env!("CARGO_BIN_EXE_tokenward"))
        .args(["completions", "bash"])
        .stdout(writer)
        .output();
    let run = run.unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(run.stderr.is_empty(), "{run:?}");
}
