//! How many connections there may be, and what they cost others.

use std::{
    fs,
    process::{Command, Stdio},
};

use http::StatusCode;
use rustix::process::{Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokenward_testkit::{IdpServer, TestKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program::{Program, command, config, pause, wait_for};

/// The program with `yaml`, under what `ulimit` is given.
fn limited(directory: &TempDir, yaml: &str, ulimit: &str) -> Command {
    let plain = command(directory, yaml);
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit {ulimit}; exec \"$0\" \"$@\""))
        .arg(plain.get_program())
        .args(plain.get_args());
    limited
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    limited
}

/// A connection that was used once and is kept. None: it was closed.
async fn kept(program: &Program) -> Option<TcpStream> {
    let mut connection = TcpStream::connect(program.public).await.unwrap();
    let asked = connection
        .write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n")
        .await;
    let mut answer = [0; 12];
    let answered = connection.read_exact(&mut answer).await;
    (asked.is_ok() && answered.is_ok()).then_some(connection)
}

#[tokio::test]
async fn each_listener_has_so_many_connections() {
    let yaml = config("").replace("port: 0", "port: 0, max_connections: 1");
    let program = Program::start(&yaml).await;
    let first = kept(&program).await.expect("one is allowed");
    assert!(kept(&program).await.is_none(), "a second one is closed");
    let metrics = program.admin("/metrics").await.text();
    assert!(
        metrics.contains("tokenward_http_connections_refused_total{listener=\"public\"} 1"),
        "{metrics}"
    );
    drop(first);
    for _ in 0..500 {
        if kept(&program).await.is_some() {
            return;
        }
        pause().await;
    }
    panic!("the place is not free again");
}

#[tokio::test]
async fn heads_that_the_listener_refuses_by_itself_are_logged_and_counted() {
    let many: String = (0..101).map(|n| format!("x-{n}: a\r\n")).collect();
    let long = format!("x: {}\r\n", "a".repeat(33 * 1024));
    for log in [true, false] {
        let program = Program::start(&config(&format!("logging: {{ requests: {log} }}\n"))).await;
        for (headers, status) in [
            (format!("host: a\r\n{many}"), "431"),
            (format!("host: a\r\n{long}"), "431"),
            ("host: a\r\nhost: b\r\n".to_owned(), "400"),
            ("host: a\r\nx y: z\r\n".to_owned(), "400"),
        ] {
            let mut connection = TcpStream::connect(program.public).await.unwrap();
            let head = format!("GET /livez HTTP/1.1\r\n{headers}\r\n");
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            connection.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer[9..], status.as_bytes());
            drop(connection);
        }
        let counted = |status| {
            format!(
                "tokenward_http_requests_total{{listener=\"public\",route=\"unmatched\",method=\"other\",status=\"{status}\"}} 2"
            )
        };
        let mut metrics = String::new();
        for _ in 0..500 {
            metrics = program.admin("/metrics").await.text();
            if metrics.contains(&counted(400)) && metrics.contains(&counted(431)) {
                break;
            }
            pause().await;
        }
        assert!(
            metrics.contains(&counted(400)) && metrics.contains(&counted(431)),
            "{metrics}"
        );
        let lines = program.logged("request");
        let refused = lines.iter().filter(|line| line["route"] == "unmatched");
        let mut told: Vec<_> = refused
            .map(|line| {
                assert_eq!(
                    (&line["listener"], &line["caller"], &line["reason"]),
                    (&"public".into(), &"127.0.0.1".into(), &"request_malformed".into())
                );
                line["status"].as_u64().unwrap()
            })
            .collect();
        told.sort_unstable();
        let expected: &[u64] = if log { &[400, 400, 431, 431] } else { &[] };
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn connections_leave_descriptors_for_all_else() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0)]);
    let yaml = config(&format!(
        "idps: [{{ name: a, url: \"{}\", refresh_interval: 1 }}]\n",
        upstream.jwks_url()
    ));
    let directory = TempDir::new().unwrap();
    let program = Program::run(limited(&directory, &yaml, "-n 64")).await;
    program.loaded("a").await;
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.extend(kept(&program).await);
    }
    assert_eq!(
        connections.len(),
        24,
        "half of 64, less a quarter of that for the admin listener"
    );
    let updates = |status: &serde_json::Value| status["update_count"].as_u64().unwrap();
    let before = updates(&program.admin("/status/a").await.json());
    let mut status = program.admin("/status/a").await.json();
    for _ in 0..500 {
        if updates(&status) > before + 1 {
            break;
        }
        pause().await;
        status = program.admin("/status/a").await.json();
    }
    assert!(updates(&status) > before + 1, "{status}");
    assert_eq!(status["error_count"], 0, "{status}");
    let warned = program
        .output()
        .iter()
        .any(|line| line.contains("\"WARN\"") && line.contains("\"connections\":24,\"admin_connections\":8"));
    assert!(warned, "{:?}", program.output());
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let directory = TempDir::new().unwrap();
    let program = Program::run(limited(&directory, &config(""), "-Sn 64")).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid().as_raw_nonzero())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let values: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(values[0], values[1], "{line}");
    assert_ne!(values[0], "64", "{line}");
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    let program = Program::start(&config("")).await;
    let open = fs::read_dir(format!("/proc/{}/fd", program.pid().as_raw_nonzero()));
    let few = Some(open.unwrap().count() as u64 + 4);
    // After the start, so that connections were not bounded by it.
    let limit = Rlimit {
        current: few,
        maximum: few,
    };
    prlimit(Some(program.pid()), Resource::Nofile, limit).unwrap();
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(TcpStream::connect(program.public).await.unwrap());
    }
    wait_for(|| program.logged("cannot accept a connection").pop())
        .await
        .expect("they ran out");
    drop(connections);
    assert_eq!(program.get("/livez").await.status, StatusCode::OK);
}
