//! The pages of the examples: their commands run, and what they say comes out.

use std::process::Stdio;

use super::door::{Door, blocks, istio};
use super::echo::Echo;
use super::place::{Listening, Place, Ports, Running, free_port};
use super::row::get;
use super::{raw, stage};
use crate::child::wait_for;
use crate::process::python_tool;

#[test]
fn what_the_pages_say_comes_out() {
    let tokenward = stage::tokenward(&[]);
    let ports = |proxy| Ports {
        proxy,
        tokenward: stage::listening(&tokenward),
        service: free_port(),
    };
    for (door, page) in [
        (Door::Envoy, "examples/envoy/README.md"),
        (Door::Grpc, "examples/envoy/README.md"),
        (Door::Nginx, "examples/nginx/README.md"),
        (Door::Traefik, "examples/traefik/README.md"),
        (Door::Caddy, "examples/caddy/README.md"),
    ] {
        let ports = ports(free_port());
        let place = Place::new(ports);
        let shared = place.read("examples/README.md");
        let [serve, service, token] = blocks(&shared, "sh").collect::<Vec<_>>()[..] else {
            panic!("the shared page has three commands");
        };
        assert_eq!(
            serve.trim(),
            "cargo run --release -- serve --dev --config examples/tokenward.yaml"
        );
        let _service: Running = place.start(service);
        let mut proxy = door.start(&place);
        wait_for(&format!("{door:?} and the service"), || {
            proxy.must_run();
            raw::send(ports.proxy, &get("/public/").bytes()).is_some_and(|reply| reply.status == 200)
        });
        let readme = place.read(page);
        let shown: Vec<_> = blocks(&readme, "console").flat_map(commands).collect();
        assert!(shown.len() >= 5, "{page} shows {} commands", shown.len());
        for (command, expected) in shown {
            let output = place
                .shell(&format!(
                    "CREDENTIAL={}\n{token}\n{command}",
                    tokenward.credential()
                ))
                .stderr(Stdio::inherit())
                .output()
                .unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            assert!(
                alike(&expected, &output),
                "{page}\n$ {command}\n--- says:\n{expected}\n--- prints:\n{output}"
            );
        }
    }
}

/// Each command of a block with what it prints.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => output.push_str(&format!("{line}\n")),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    commands
}

/// `…` at the end of a line stands for anything.
fn alike(expected: &str, got: &str) -> bool {
    let (expected, got): (Vec<_>, Vec<_>) = (expected.lines().collect(), got.lines().collect());
    expected.len() == got.len()
        && expected
            .iter()
            .zip(got)
            .all(|(expected, got)| match expected.strip_suffix('…') {
                Some(start) => got.starts_with(start) && got.len() > start.len(),
                None => *expected == got,
            })
}

#[test]
fn envoy_takes_what_istio_is_given() {
    let place = Place::new(Ports {
        proxy: free_port(),
        tokenward: Listening {
            http: free_port(),
            grpc: free_port(),
        },
        service: Echo::start().address.port(),
    });
    let configuration = istio(&place);
    place.write("examples/istio/envoy.json", &configuration);
    let status = python_tool("envoy")
        .args(["--mode", "validate", "-c", "examples/istio/envoy.json"])
        .current_dir(place.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{configuration}");
}
