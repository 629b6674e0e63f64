//! `tokenward idps …` against a running server.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, Leaf, TestKey, TestPki};

use crate::{admin, program::Program};

/// Runs the program on these arguments as the one who has `secret`.
fn run(program: &Program, secret: Option<&str>, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
    command
        .env_clear()
        .env("TOKENWARD_SERVER", format!("http://{}", program.admin))
        .arg("idps")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(secret) = secret {
        command.env("TOKENWARD_CREDENTIAL", secret);
    }
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments does not wait to be told the rest.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_identity_provider() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let url = upstream.jwks_url();
    let program = admin::start(&format!("idps: [{{ name: fixed, url: '{url}' }}]\n")).await;
    program.loaded("fixed").await;
    let ops = |arguments: &[&str]| run(&program, Some(admin::ADMIN), arguments, "");

    let added = ops(&["add", "new", "--url", &url]);
    assert_eq!((code(&added), text(&added).as_str()), (0, "added\n"));
    program.loaded("new").await;
    let document = format!(r#"{{"url":"{url}","max_keys":4}}"#);
    let changed = run(
        &program,
        Some(admin::ADMIN),
        &["add", "new", "--document", "-"],
        &document,
    );
    assert_eq!((code(&changed), text(&changed).as_str()), (0, "changed\n"));
    let listed = ops(&["list"]);
    let lines: Vec<_> = text(&listed)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("name state keys") && lines[1].starts_with("fixed ready 1 "),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("new ") && lines[2].ends_with(" api -"),
        "{lines:?}"
    );
    let json: Value = serde_json::from_slice(&ops(&["list", "--json"]).stdout).unwrap();
    assert_eq!(json[1]["name"], "new");
    let shown: Value = serde_json::from_slice(&ops(&["show", "new", "--json"]).stdout).unwrap();
    assert_eq!(shown["document"]["max_keys"], 4);
    assert!(text(&ops(&["show", "new"])).contains("max_keys"));

    let refreshed = ops(&["refresh", "new"]);
    assert_eq!(
        (code(&refreshed), text(&refreshed).as_str()),
        (0, "refreshed, 1 keys\n")
    );
    upstream.behave(JWKS_PATH, Behaviour::status(404));
    let failed = ops(&["refresh", "new"]);
    assert_eq!(code(&failed), 1);
    assert!(text(&failed).starts_with("not refreshed: "), "{}", text(&failed));
    assert_eq!(code(&ops(&["purge", "new"])), 0);
    assert_eq!(code(&ops(&["remove", "new"])), 0);

    // Whatever is not there, or may not be, is a no.
    for arguments in [
        &["show", "new"][..],
        &["remove", "new"],
        &["refresh", "new"],
        &["remove", "fixed"],
    ] {
        let answer = ops(arguments);
        assert_eq!(code(&answer), 1, "{arguments:?}: {}", text(&answer));
        assert!(text(&answer).starts_with("no: "), "{}", text(&answer));
    }
    let elsewhere = ops(&["add", "new", "--url", &url, "--tenant", "acme"]);
    assert_eq!(code(&elsewhere), 0, "{}", text(&elsewhere));
    assert!(text(&ops(&["list", "--tenant", "acme"])).contains("new"));
    assert!(!text(&ops(&["list"])).contains("new "));
    let narrow = run(&program, Some(admin::READER), &["remove", "fixed"], "");
    assert_eq!(code(&narrow), 1);
    assert!(text(&narrow).contains("insufficient_scope"), "{}", text(&narrow));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_apart() {
    let program = admin::start("").await;
    for (secret, arguments, expected, words) in [
        (None, &["list"][..], 2, "credential_missing"),
        (Some("wrong"), &["list"], 2, "credential_unknown"),
        (
            Some(admin::ADMIN),
            &["add", "x", "--document", "-"],
            2,
            "max_kyes: unknown member",
        ),
        (Some(admin::ADMIN), &["add", "x"], 2, "--document"),
        (
            Some(admin::ADMIN),
            &["list", "--server", "ftp://x"],
            2,
            "http or https",
        ),
        (
            Some(admin::ADMIN),
            &["list", "--server", "http://u:p@127.0.0.1"],
            2,
            "without a user",
        ),
        (
            Some(admin::ADMIN),
            &["list", "--server", "http://127.0.0.1:1"],
            3,
            "127.0.0.1:1",
        ),
        (Some("a\nb"), &["list"], 2, "cannot be sent"),
    ] {
        let answer = run(
            &program,
            secret,
            arguments,
            r#"{"url":"http://127.0.0.1:9/k","max_kyes":1}"#,
        );
        assert_eq!(code(&answer), expected, "{arguments:?}: {}", text(&answer));
        assert!(text(&answer).contains(words), "{arguments:?}: {}", text(&answer));
        if let Some(secret) = secret {
            assert!(!text(&answer).contains(secret), "{}", text(&answer));
        }
    }
    // Something else answers there.
    let other = run(
        &program,
        Some(admin::ADMIN),
        &["list", "--server", &format!("http://{}", program.public)],
        "",
    );
    assert_eq!(code(&other), 1, "{}", text(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_certificate_is_checked() {
    let pki = TestPki::new();
    let (tls, _) = pki.server(Leaf::Good);
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let answer =
                hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.headers()["authorization"], "Bearer s3cret");
                    let body = r#"{"idps":[{"name":"over-tls"}],"next":null}"#;
                    Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(
                        bytes::Bytes::from(body),
                    )))
                });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), answer)
                .await;
        }
    });
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let list = |ca: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .env_clear()
            .args([
                "idps",
                "list",
                "--server",
                &format!("https://localhost:{}", address.port()),
                "--credential-file",
            ])
            .arg(&file)
            .args(ca)
            .output()
            .unwrap()
    };
    let trusted = list(&["--ca-file", pki.root_file().to_str().unwrap()]);
    assert_eq!(code(&trusted), 0, "{}", text(&trusted));
    assert!(text(&trusted).contains("over-tls"));
    let untrusted = list(&[]);
    assert_eq!(code(&untrusted), 3, "{}", text(&untrusted));
    assert!(text(&untrusted).contains("--ca-file"), "{}", text(&untrusted));
}
