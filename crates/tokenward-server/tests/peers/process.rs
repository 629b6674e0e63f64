//! Peers as child processes that get one question on stdin and give one answer on stdout.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `peers/<path>`, which must be there: a peer that was not installed is a failure and not a test less.
pub(crate) fn node_script(name: &str) -> Command {
    let directory = root().join("peers/node");
    must_exist(&directory.join("node_modules/jose"));
    must_exist(&directory.join("node_modules/oidc-provider"));
    let mut command = Command::new("node");
    command.arg("--no-warnings").arg(directory.join(name));
    command
}

pub(crate) fn python_script(name: &str) -> Command {
    let python = root().join(".venv/bin/python");
    must_exist(&python);
    let mut command = Command::new(python);
    command.arg(root().join("peers/python").join(name));
    command
}

/// A program that a package of `peers/python` brings.
pub(crate) fn python_tool(name: &str) -> Command {
    let tool = root().join(".venv/bin").join(name);
    must_exist(&tool);
    Command::new(tool)
}

pub(crate) fn must_exist(path: &Path) {
    assert!(
        path.exists(),
        "the peers of this test are not installed ({} is missing): run scripts/test",
        path.display()
    );
}

/// Runs a program to its end with `input` on stdin, and reads its stdout as JSON.
pub(crate) fn run_json(mut command: Command, input: &Value) -> Value {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    let writer = thread::Builder::new()
        .spawn(move || stdin.write_all(input.as_bytes()))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    // A program that needs no input may end before it has read all of it.
    let _ = writer.join().unwrap();
    serde_json::from_slice(&output.stdout).expect("the peer prints JSON")
}
