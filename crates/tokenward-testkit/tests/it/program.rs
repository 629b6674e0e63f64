//! The program `chaos-idp`, with the example that the documentation shows.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use http::Request;
use serde_json::Value;
use tokenward_testkit::Script;

use crate::client::{ask, body};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/chaos-idp.yaml");

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos-idp"));
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Killed when it is dropped, should a test fail on the way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_example_runs_and_ends_when_it_is_told_to() {
    let mut running = Running(command(&["--script", EXAMPLE, "--json"]).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let names: Vec<&str> = told["idps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|idp| idp["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["login", "flaky", "secure"]);
    assert!(
        told["idps"][2]["issuer"]
            .as_str()
            .unwrap()
            .starts_with("https://127.0.0.1:")
    );
    let ca_file = told["ca_file"].as_str().unwrap();
    assert!(
        std::fs::read_to_string(ca_file)
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );

    let url = told["idps"][0]["jwks_uri"].as_str().unwrap();
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let answer = ask(address.parse().unwrap(), Request::get(format!("/{path}")), "")
        .await
        .unwrap();
    let set: Value = serde_json::from_slice(&body(answer).await.unwrap()).unwrap();
    assert_eq!(set["keys"][0]["kid"], "login-0");

    let killed = Command::new("kill")
        .arg(running.0.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(running.0.wait().unwrap().success());
    assert!(!Path::new(ca_file).exists(), "the certificate is left behind");
}

#[test]
fn wrong_arguments_and_scripts_are_refused_with_their_place() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "idps:\n- name: a\n  fault: hang\n").unwrap();
    let file = script.path().to_str().unwrap();
    let place = format!("chaos-idp: {file}:3:3: `fault` is not known here");
    for (arguments, code, said) in [
        (&["--script", file][..], 1, &*place),
        (&["--script", "/none.yaml"], 1, "/none.yaml: No such file"),
        (
            &["--script", EXAMPLE, "--listen", "0.0.0.0:0"],
            2,
            "not a loopback address",
        ),
        (
            &["--script", EXAMPLE, "--listen", "here"],
            2,
            "not an address with a port",
        ),
        (&["--script"], 2, "--script needs a value"),
        (&["--faults"], 2, "--faults is not known"),
        (&[], 2, "--script is missing"),
    ] {
        let mut child = command(arguments).spawn().unwrap();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(
            child.wait().unwrap().code(),
            Some(code),
            "{arguments:?}: {errors}"
        );
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    let help = command(&["--help"]).output().unwrap();
    assert!(help.status.success() && help.stdout.starts_with(b"Identity providers"));
}

#[test]
fn the_documented_scripts_are_read() {
    Script::parse(&std::fs::read_to_string(EXAMPLE).unwrap()).unwrap();
    let page = include_str!("../../../../docs/chaos-idp.md");
    let scripts: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        Script::parse(script).unwrap_or_else(|error| panic!("{error} in\n{script}"));
    }
}
