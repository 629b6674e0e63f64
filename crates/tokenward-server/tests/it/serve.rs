//! The life of the process: readiness, logs, metrics, limits, the way out.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::program::{Program, ask, command, config, pause, wait_for};

const ISSUER: &str = "https://issuer.test";

fn key(kid: &str) -> TestKey {
    TestKey::es256(0).with_kid(kid)
}

fn upstream() -> IdpServer {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key("k")]);
    upstream
}

fn idp(upstream: &IdpServer, more: &str) -> String {
    format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api], {more} }}\n",
        upstream.jwks_url()
    )
}

fn token(kid: &str) -> String {
    let token = TokenBuilder::new(SystemClock::new().wall())
        .issuer(ISSUER)
        .audience("api")
        .subject("user-1");
    token.expires_in(Duration::from_secs(600)).sign(&key(kid))
}

#[tokio::test]
async fn readiness_waits_for_the_first_attempt_and_for_required_keys() {
    let upstream = upstream();
    upstream.behave(JWKS_PATH, Behaviour::HangBeforeHeaders);
    let program = Program::start(&config(&idp(&upstream, "required: true"))).await;
    let waiting = program.get("/readyz?verbose").await;
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(waiting.header("retry-after").is_some());
    let checks = &waiting.json()["checks"];
    assert_eq!(checks["idps_tried"], json!({ "ok": false, "missing": ["a"] }));
    assert_eq!(
        checks["required_idps_have_keys"],
        json!({ "ok": false, "missing": ["a"] })
    );
    assert_eq!(checks["not_draining"], json!({ "ok": true }));
    assert_eq!(program.get("/livez").await.status, StatusCode::OK);
    assert_eq!(program.get("/readyz").await.json().get("checks"), None);

    upstream.behave(JWKS_PATH, Behaviour::status(500));
    let failed = program
        .until("/readyz?verbose", |answer| {
            answer.json()["checks"]["idps_tried"]["ok"] == true
        })
        .await;
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE, "it is required");
    assert_eq!(program.get("/health").await.json()["status"], "degraded");
    assert_eq!(
        program.get("/livez").await.status,
        StatusCode::OK,
        "a restart would not help"
    );

    upstream.behave(JWKS_PATH, Behaviour::normal());
    program
        .until("/readyz", |answer| answer.status == StatusCode::OK)
        .await;
    program
        .until("/healthz", |answer| answer.json()["status"] == "healthy")
        .await;
    assert_eq!(program.admin("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_identity_provider_that_is_down_does_not_keep_the_others_from_being_served() {
    let upstream = upstream();
    let yaml = idp(&upstream, "") + "  - { name: dead, url: \"http://127.0.0.1:1/jwks\" }\n";
    let program = Program::start(&config(&yaml)).await;
    program
        .until("/readyz", |answer| answer.status == StatusCode::OK)
        .await;
    assert_eq!(program.get("/jwks/a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn stored_keys_survive_a_restart_without_the_provider() {
    let upstream = upstream();
    let directory = TempDir::new().unwrap();
    let yaml = config(&idp(&upstream, "required: true")).replace("memory:", "sqlite:./data");
    let mut first = Program::run(command(&directory, &yaml)).await;
    first.loaded("a").await;
    first.signal(Signal::TERM);
    assert!(first.ended().await.success());
    upstream.behave(JWKS_PATH, Behaviour::status(500));
    let second = Program::run(command(&directory, &yaml)).await;
    assert_eq!(second.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(second.get("/jwks/a").await.json()["keys"][0]["kid"], "k");
    let bearer = format!("Bearer {}", token("k"));
    let answer = second
        .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_process_is_told_to_stop() {
    let upstream = upstream();
    let mut program = Program::start(&config(&idp(&upstream, ""))).await;
    program.loaded("a").await;
    // Each is in flight until the last byte of its body comes.
    let head = format!(
        "POST /authorize HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-length: 1\r\n\r\n",
        token("k")
    );
    let mut requests = Vec::new();
    for _ in 0..100 {
        let mut request = TcpStream::connect(program.public).await.unwrap();
        request.write_all(head.as_bytes()).await.unwrap();
        requests.push(request);
    }
    let metric = "tokenward_decisions_total{door=\"direct\",reason=\"allow\"} 100";
    assert!(waits_for_metric(&program, metric).await, "all are in flight");
    program.signal(Signal::TERM);
    let leaving = program
        .until("/readyz?verbose", |answer| {
            answer.status == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
    assert_eq!(leaving.json()["checks"]["not_draining"]["ok"], false);
    wait_for(|| program.logged("draining: requests in flight finish").pop())
        .await
        .expect("nothing new is accepted");
    for request in &mut requests {
        request.write_all(b"x").await.unwrap();
        let mut answer = String::new();
        request.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-tokenward-subject: user-1"),
            "{answer}"
        );
    }
    assert!(program.ended().await.success());
    assert_eq!(program.logged("stopped").len(), 1);
}

async fn waits_for_metric(program: &Program, line: &str) -> bool {
    for _ in 0..100 {
        if program.admin("/metrics").await.text().contains(line) {
            return true;
        }
        pause().await;
    }
    false
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_its_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (member, yaml) in [
        (
            "server.port",
            config("").replace("port: 0", &format!("port: {port}")),
        ),
        (
            "server.admin",
            config("").replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
        ),
    ] {
        let directory = TempDir::new().unwrap();
        let output = command(&directory, &yaml).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains(&format!("127.0.0.1:{port}")) && text.contains(member),
            "{text}"
        );
    }
}

#[tokio::test]
async fn metrics_are_on_the_admin_listener_unless_it_is_said_otherwise() {
    let upstream = upstream();
    let program = Program::start(&config(&idp(&upstream, ""))).await;
    program.loaded("a").await;
    assert_eq!(program.get("/metrics").await.status, StatusCode::NOT_FOUND);
    program.get("/nothing/here").await;
    let metrics = program.admin("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    let text = metrics.text();
    for line in [
        "tokenward_http_requests_total{listener=\"public\",route=\"/jwks/{idp}\",method=\"GET\",status=\"200\"}",
        "tokenward_http_requests_total{listener=\"public\",route=\"unmatched\",method=\"GET\",status=\"404\"}",
        "tokenward_http_request_duration_seconds_bucket{listener=\"public\",route=\"/jwks/{idp}\"",
        "tokenward_build_info{version=\"",
        "idp_key_count{idp=\"a\"} 1",
        "idp_cache_duration_seconds{idp=\"a\"} 900",
        "jwks_cache_refresh_total{tenant=\"default\",provider=\"a\",status=\"ok\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("/nothing/here"), "paths of clients are no labels");
    let yaml = config("").replace("port: 0", "port: 0, metrics_on_public: true");
    let program = Program::start(&yaml).await;
    assert_eq!(program.get("/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_request_is_one_line_with_its_ids() {
    let upstream = upstream();
    let yaml = config(&idp(&upstream, "")).replace("port: 0", "port: 0, trusted_proxies: [127.0.0.0/8]");
    let program = Program::start(&yaml).await;
    program.loaded("a").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [
        ("x-request-id", "request-1"),
        ("traceparent", traceparent.as_str()),
        ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
        ("authorization", "Bearer canary.canary.canary"),
    ];
    let answer = program
        .ask(Method::GET, "/authorize?canary=query", &headers)
        .await;
    assert_eq!(answer.header("x-request-id"), Some("request-1"));
    assert!(
        answer
            .header("traceparent")
            .unwrap()
            .starts_with(&format!("00-{trace}-"))
    );
    program
        .ask(Method::GET, "/canary", &[("x-request-id", "bad id")])
        .await;
    wait_for(|| {
        (program
            .logged("request")
            .iter()
            .filter(|line| line["route"] == "unmatched")
            .count()
            == 1)
            .then_some(())
    })
    .await
    .expect("both are logged");

    let lines = program.logged("request");
    let line: Vec<_> = lines
        .iter()
        .filter(|line| line["request_id"] == "request-1")
        .collect();
    assert_eq!(line.len(), 1, "one line a request");
    for (field, value) in [
        ("method", json!("GET")),
        ("route", json!("/authorize")),
        ("status", json!(401)),
        ("reason", json!("token_malformed")),
        ("caller", json!("198.51.100.7")),
        ("listener", json!("public")),
        ("trace_id", json!(trace)),
    ] {
        assert_eq!(line[0][field], value, "{field}");
    }
    assert!(line[0]["duration_ms"].is_u64());
    assert!(
        !program.output().concat().contains("canary"),
        "nothing that a client wrote is logged"
    );

    let quiet = Program::start(&config("logging: { requests: false }\n")).await;
    quiet.get("/livez").await;
    pause().await;
    assert!(quiet.logged("request").is_empty());
}

#[tokio::test]
async fn the_life_of_a_key_set_is_logged() {
    let upstream = upstream();
    let keys: Vec<_> = (0..12)
        .map(|n| TestKey::es256(n).with_kid(format!("k{n}")))
        .collect();
    upstream.set_keys(&keys.iter().collect::<Vec<_>>());
    let program = Program::start(&config(&idp(&upstream, "refresh_interval: 1, max_keys: 10"))).await;
    let updated = wait_for(|| program.logged("Successfully updated JWKS").pop())
        .await
        .expect("an update");
    for (field, value) in [
        ("idp", json!("a")),
        ("key_count", json!(10)),
        ("keys_count", json!(10)),
        ("max_keys", json!(10)),
        ("cache_duration", json!(900)),
        ("idp_suggested_cache", json!(0)),
        ("refresh_interval", json!(1)),
    ] {
        assert_eq!(updated[field], value, "{field} of {updated}");
    }
    assert!(updated["update_count"].as_u64() >= Some(1), "{updated}");
    assert!(updated["last_updated"].is_string(), "{updated}");
    let truncated = wait_for(|| program.logged("Truncating keys to max limit").pop())
        .await
        .expect("a truncation");
    assert_eq!(
        (&truncated["original_count"], &truncated["max_keys"]),
        (&json!(12), &json!(10))
    );
    assert_eq!(truncated["level"], "WARN");
    assert_eq!(truncated["dropped_kids"], "[\"k10\", \"k11\"]");
    let metrics = program.admin("/metrics").await.text();
    assert!(
        metrics.contains("idp_keys_truncated_total{idp=\"a\"}"),
        "{metrics}"
    );
    upstream.behave(JWKS_PATH, Behaviour::reply(500, &[], "canary-of-the-upstream"));
    let failed = wait_for(|| program.logged("Failed to update JWKS").pop())
        .await
        .expect("a failure");
    assert_eq!(failed["idp"], "a");
    assert!(!program.output().concat().contains("canary"));
}

#[tokio::test]
async fn logs_are_text_where_that_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let mut child = command(&directory, &config("logging: { format: text }\n"))
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("listening"))
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !line.starts_with('{') && line.contains("listener=\"public\""),
        "{line}"
    );
}

#[tokio::test]
async fn development_says_what_can_be_tried() {
    let upstream = upstream();
    let directory = TempDir::new().unwrap();
    // Plain HTTP and loopback need no permission here.
    let yaml =
        config(&idp(&upstream, "")).replace("{ allow_http: true, allow_private_addresses: true }", "{}");
    let mut dev = command(&directory, &yaml);
    dev.arg("--dev");
    let mut program = Program::run(dev).await;
    program.loaded("a").await;
    let printed = program.output().join("\n");
    for path in [
        "/jwks.json",
        "/jwks/a",
        "/status",
        "/authorize",
        "/readyz",
        "/metrics",
        "/v1/idps",
        "/v1/explain",
        "/openapi.json",
    ] {
        assert!(
            printed
                .lines()
                .any(|line| line.contains("curl ") && line.contains(path)),
            "{path} in {printed}"
        );
    }
    // The credential of this run is printed once, and works.
    let lines: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once("CREDENTIAL="))
        .collect();
    assert_eq!(lines.len(), 1, "{printed}");
    let bearer = format!("Bearer {}", lines[0].1);
    assert_eq!(printed.matches(lines[0].1).count(), 1, "{printed}");
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    let answer = ask(program.admin, Method::GET, "/v1/audit", &headers, Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    for shell in ["sh", "bash"] {
        let told = pasted(shell, &printed);
        for (what, expected) in [
            ("mint a parent token", r#""child_token":"ey"#),
            ("follow the children", "event: token"),
            ("let the child decide", "HTTP/1.1 200"),
            ("why is it accepted", r#""valid":true"#),
            ("revoke the parent", "HTTP/1.1 204"),
            ("see the child refused", "parent_revoked"),
            ("the own keys", r#""crv":"P-256""#),
            ("and how they stand", r#""stage":"active""#),
            ("all keys, merged", "HTTP/1.1 200"),
            ("the keys of one", "HTTP/1.1 200"),
            ("the same with addresses", r#""url""#),
            ("is it ready", "ready"),
            ("metrics", "# TYPE"),
            ("the identity providers", r#""name":"a""#),
            ("everything that can be asked", r#""openapi""#),
        ] {
            let Some((_, answer)) = told.iter().find(|(line, _)| line.starts_with(what)) else {
                panic!("{what} is not among {told:?}");
            };
            assert!(answer.contains(expected), "{shell}: {what}: {answer}");
        }
        assert!(
            told.iter().any(|(_, answer)| answer.contains("event: revoked")),
            "{shell}: {told:?}"
        );
    }
    let asked = SystemClock::new();
    let start = asked.steady();
    program.signal(Signal::INT);
    assert!(program.ended().await.success());
    assert!(
        asked.steady().since(start) < Duration::from_secs(3),
        "nobody is waited for"
    );
}

/// What `shell` writes when the lines that are `printed` are pasted into it: for each comment, what came after it.
fn pasted(shell: &str, printed: &str) -> Vec<(String, String)> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix("  "));
    // Tests talk to this machine only.
    let lines = lines.filter(|line| !line.contains("accounts.google.com"));
    let mut script: String = lines
        .map(|line| match line.strip_prefix("# ") {
            Some(comment) => format!("{line}\necho '@@{comment}'\n"),
            None => format!("{line}\n"),
        })
        .collect();
    // The stream ends with the parent; were it not to, this does.
    script.push_str("STREAM=$!; (sleep 15; kill $STREAM) >/dev/null 2>&1 & wait $STREAM\n");
    let mut child = std::process::Command::new(shell)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let parts = text.split("@@").filter_map(|part| part.split_once('\n'));
    parts
        .map(|(what, told)| (what.to_owned(), told.to_owned()))
        .collect()
}

/// A certificate for `localhost` and its key, in files.
fn certificate(directory: &TempDir) -> (CertificateDer<'static>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let member = format!(
        "port: 0, tls: {{ cert: {}, key: {} }}",
        cert.display(),
        key.display()
    );
    (made.cert.der().clone(), member)
}

#[tokio::test]
async fn the_public_listener_speaks_tls_where_it_has_a_certificate() {
    let directory = TempDir::new().unwrap();
    let (certificate, member) = certificate(&directory);
    let yaml = config("").replace("port: 0", &member);
    let program = Program::run(command(&directory, &yaml)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (protocol, expected) in [("h2", "h2"), ("http/1.1", "http/1.1")] {
        client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(program.public).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client.clone()))
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(expected.as_bytes()));
        if protocol == "http/1.1" {
            stream
                .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
    assert_eq!(
        program.admin("/livez").await.status,
        StatusCode::OK,
        "the admin listener is plain"
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_a_matter_of_configuration() {
    let directory = TempDir::new().unwrap();
    let (_, member) = certificate(&directory);
    std::fs::write(directory.path().join("cert.pem"), "no certificate").unwrap();
    let yaml = config("").replace("port: 0", &member);
    let output = command(&directory, &yaml).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cert.pem") && text.contains("server.tls"), "{text}");
}
