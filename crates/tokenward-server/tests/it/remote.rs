//! `tokenward token …`, `user …` and `keys …` against a running server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    admin::{ADMIN, NARROW, READER},
    program::{Program, wait_for},
    tokens,
};

/// The program on these arguments, as the one who has `secret`, with the output piped.
fn client(server: &str, secret: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
    command
        .env_clear()
        .env("TOKENWARD_SERVER", server)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(secret) = secret {
        command.env("TOKENWARD_CREDENTIAL", secret);
    }
    command
}

fn run(server: &str, secret: Option<&str>, arguments: &[&str], stdin: &str) -> Output {
    let mut child = client(server, secret, arguments).spawn().unwrap();
    // One that refuses its arguments does not wait to be told the rest.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a call that has to work prints, as JSON.
fn json_of(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}{}", out(output), err(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

fn claims(token: &str) -> Value {
    let output = run("", None, &["token", "inspect", "-", "--json"], token);
    json_of(&output)["claims"].clone()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} in {value}"))
}

fn at(program: &Program) -> String {
    format!("http://{}", program.admin)
}

#[tokio::test]
async fn tokens_are_minted_renewed_and_revoked() {
    let program = tokens::start().await;
    let server = at(&program);
    let directory = TempDir::new().unwrap();
    let ops = |arguments: &[&str], stdin: &str| run(&server, Some(ADMIN), arguments, stdin);
    let file = directory.path().join("claims.json");
    fs::write(&file, r#"{"plan":"gold","big":12345678901234567890}"#).unwrap();
    let from_file = format!("@{}", file.display());
    let minted = json_of(&ops(
        &[
            "token",
            "mint",
            "--user",
            "alice",
            "--network",
            "main",
            "--rate-limit",
            "7",
            "--expires-in",
            "15m",
            "--scope",
            "read write",
            "--audience",
            "a",
            "--audience",
            "b",
            "--claims",
            &from_file,
            "--json",
        ],
        "",
    ));
    let said = claims(text(&minted, "token"));
    assert_eq!(
        [
            &said["sub"],
            &said["network"],
            &said["rate_limit"],
            &said["scope"],
            &said["aud"],
            &said["plan"]
        ],
        [
            &json!("alice"),
            &json!("main"),
            &json!(7),
            &json!("read write"),
            &json!(["a", "b"]),
            &json!("gold")
        ]
    );
    assert_eq!(said["big"], json!(12_345_678_901_234_567_890_u64));
    assert_eq!(said["exp"].as_u64().unwrap() - said["iat"].as_u64().unwrap(), 900);
    // People read a table.
    let table = ops(
        &[
            "token",
            "mint",
            "--user",
            "alice",
            "--claims",
            r#"{"plan":"tin"}"#,
        ],
        "",
    );
    assert_eq!(code(&table), 0, "{}", err(&table));
    let rows = out(&table);
    let token = rows
        .lines()
        .find_map(|line| line.strip_prefix("token "))
        .unwrap()
        .trim();
    assert_eq!(claims(token)["plan"], "tin");

    let pair = json_of(&ops(
        &[
            "token",
            "pair",
            "--user",
            "alice",
            "--parent-expires-in",
            "1h",
            "--child-expires-in",
            "1m",
            "--include-child",
            "--no-auto-renew",
            "--json",
        ],
        "",
    ));
    assert_eq!(
        (&pair["parent_expiry"], &pair["child_expiry"]),
        (&json!(3_600), &json!(60))
    );
    let (parent, jti) = (text(&pair, "parent_token"), text(&pair, "parent_jti"));
    let bare = json_of(&ops(&["token", "pair", "--user", "alice", "--json"], ""));
    assert_eq!(bare["child_token"], Value::Null);
    // One child is minted at once, or none unless it is asked for.
    let latest = |parent: &str| run(&server, None, &["token", "latest"], parent);
    let minted = wait_for(|| Some(()).filter(|()| code(&latest(text(&bare, "parent_token"))) == 0));
    minted.await.expect("a child");
    let idle = json_of(&ops(
        &["token", "pair", "--user", "alice", "--no-auto-renew", "--json"],
        "",
    ));
    let none = latest(text(&idle, "parent_token"));
    assert_eq!(code(&none), 1);
    assert!(err(&none).contains("no child yet"), "{}", err(&none));

    // The parent token is the proof: no credential is needed, and on the public listener neither.
    let file = directory.path().join("parent");
    fs::write(&file, format!("{parent}\n")).unwrap();
    let public = format!("http://{}", program.public);
    let renewed = json_of(&run(
        &public,
        None,
        &["token", "renew", file.to_str().unwrap(), "--json"],
        "",
    ));
    assert_eq!(renewed["token_id"], pair["child_jti"]);
    for (secret, arguments, stdin) in [
        (None, &["token", "latest", "-", "--json"][..], parent),
        (None, &["token", "latest", "--json"], parent),
        (
            Some(NARROW),
            &["token", "latest", "--parent-jti", jti, "--json"],
            "",
        ),
    ] {
        let latest = json_of(&run(&server, secret, arguments, stdin));
        assert_eq!(latest["child_jti"], pair["child_jti"], "{arguments:?}");
    }
    let argument = run(&server, None, &["token", "renew", parent], "");
    assert_eq!(code(&argument), 2);
    assert!(
        !err(&argument).contains(parent) && err(&argument).contains("file"),
        "{}",
        err(&argument)
    );

    let revoked = ops(&["token", "revoke", jti], "");
    assert_eq!((code(&revoked), out(&revoked).as_str()), (0, "revoked\n"));
    for call in ["renew", "latest", "watch"] {
        let no = run(&server, None, &["token", call, "-"], parent);
        assert_eq!(code(&no), 1, "{call}: {}", err(&no));
        assert!(err(&no).contains("token_revoked"), "{call}: {}", err(&no));
    }
    // A user is any text, also what is a path elsewhere.
    for user in ["alice", "..", "a/b c+d%"] {
        let pair = json_of(&ops(&["token", "pair", "--user", user, "--json"], ""));
        let parent = text(&pair, "parent_token");
        json_of(&run(&server, None, &["token", "renew", "--json"], parent));
        assert_eq!(
            json_of(&ops(&["user", "revoke", user, "--json"], "")),
            json!({ "ok": true })
        );
        let no = run(&server, None, &["token", "renew"], parent);
        assert_eq!(code(&no), 1, "{user}: {}{}", out(&no), err(&no));
    }
}

#[test]
fn an_id_may_begin_with_a_hyphen() {
    for arguments in [
        &["token", "revoke", "-Dxy", "--json"][..],
        &["token", "revoke", "--json", "--Dxy"],
        &["token", "latest", "--parent-jti", "-Dxy"],
        &["token", "mint", "--user", "-Dxy"],
        &["user", "revoke", "-Dxy"],
        &["keys", "revoke", "-Dxy"],
    ] {
        // There is no server: it was asked for what was meant.
        let output = run("http://127.0.0.1:1", Some("secret"), arguments, "");
        assert_eq!(code(&output), 3, "{arguments:?}: {}", err(&output));
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let program = tokens::start().await;
    let server = at(&program);
    for (secret, arguments, expected, words) in [
        (
            None,
            &["token", "mint", "--user", "a"][..],
            2,
            "credential_missing",
        ),
        (
            Some("wrong"),
            &["token", "mint", "--user", "a"],
            2,
            "credential_unknown",
        ),
        (
            Some(READER),
            &["token", "mint", "--user", "a"],
            1,
            "insufficient_scope",
        ),
        (Some(NARROW), &["token", "revoke", "x"], 1, "insufficient_scope"),
        (Some(NARROW), &["keys", "generate"], 1, "insufficient_scope"),
        (Some(ADMIN), &["token", "mint"], 2, "--user"),
        (Some(ADMIN), &["token", "mint", "--user", ""], 2, "user_id"),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--rate-limit", "0"],
            2,
            "rate_limit",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--expires-in", "250ms"],
            2,
            "whole seconds",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--expires-in", "1y"],
            2,
            "duration",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--expires-in", "3000d"],
            2,
            "expires_in",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--claims", "[1]"],
            2,
            "JSON object",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--claims", "@/no/such"],
            2,
            "/no/such",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--claims", r#"{"x":1,"x":2}"#],
            2,
            "is there twice",
        ),
        (
            Some(ADMIN),
            &["token", "mint", "--user", "a", "--claims", r#"{"sub":"b"}"#],
            2,
            "claims",
        ),
        (
            Some(ADMIN),
            &["token", "latest", "x", "--parent-jti", "y"],
            2,
            "cannot be used with",
        ),
        (
            None,
            &["token", "latest", "--parent-jti", "y"],
            2,
            "credential_missing",
        ),
        (Some(ADMIN), &["token", "watch", "--parent-jti", "y"], 1, "no: "),
        (None, &["token", "renew", "/no/such"], 2, "/no/such"),
        (None, &["token", "renew"], 2, "there is no token"),
        (Some(ADMIN), &["user", "revoke", ""], 2, "value"),
        (Some(ADMIN), &["keys", "revoke", "none"], 1, "not_found"),
        (
            Some(ADMIN),
            &["keys", "list", "--server", "http://127.0.0.1:1"],
            3,
            "127.0.0.1:1",
        ),
        (
            Some(ADMIN),
            &[
                "token",
                "watch",
                "--parent-jti",
                "y",
                "--server",
                "http://127.0.0.1:1",
            ],
            3,
            "127.0.0.1:1",
        ),
    ] {
        let answer = run(&server, secret, arguments, "");
        assert_eq!(code(&answer), expected, "{arguments:?}: {}", err(&answer));
        assert!(err(&answer).contains(words), "{arguments:?}: {}", err(&answer));
        assert!(out(&answer).is_empty(), "{arguments:?}: {}", out(&answer));
    }
    let broken = run(&server, None, &["token", "renew"], "e30.e30.e30");
    assert_eq!(code(&broken), 1, "{}", err(&broken));
}

/// A follower, and the lines that it prints.
struct Follower {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Follower {
    fn start(server: &str, parent: &str) -> Self {
        let mut child = client(server, None, &["token", "watch", "--json"])
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(parent.as_bytes()).unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::Builder::new()
            .spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let _ = sender.send(serde_json::from_str(&line).unwrap());
                }
            })
            .unwrap();
        Self { child, lines }
    }

    async fn next(&self) -> Value {
        let line = wait_for(|| self.lines.try_recv().ok()).await;
        line.expect("an event in time")
    }

    async fn ended(&mut self) -> Option<i32> {
        let status = wait_for(|| self.child.try_wait().unwrap()).await;
        status.expect("it ends").code()
    }

    fn errors(&mut self) -> String {
        std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_family_is_followed_to_its_end() {
    let program = tokens::start().await;
    let server = at(&program);
    let pair = || {
        let arguments = ["token", "pair", "--user", "alice", "--include-child", "--json"];
        json_of(&run(&server, Some(ADMIN), &arguments, ""))
    };
    let family = pair();
    let mut follower = Follower::start(&server, text(&family, "parent_token"));
    assert_eq!(follower.next().await["event"], "connected");
    let token = follower.next().await;
    assert_eq!((text(&token, "event"), text(&token, "id")), ("token", "1"));
    assert_eq!(token["data"]["child_token"], family["child_token"]);
    run(
        &server,
        Some(ADMIN),
        &["token", "revoke", text(&family, "parent_jti")],
        "",
    );
    assert_eq!(follower.next().await["event"], "revoked");
    assert_eq!(follower.ended().await, Some(1));
    assert!(follower.errors().contains("the parent token is revoked"));

    // Whoever interrupts it has seen enough.
    let family = pair();
    let mut follower = Follower::start(&server, text(&family, "parent_token"));
    follower.next().await;
    let pid = Pid::from_raw(i32::try_from(follower.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(follower.ended().await, Some(0));
}

#[tokio::test]
async fn a_lost_stream_is_taken_up_where_it_was() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", socket.local_addr().unwrap());
    let mut follower = Follower::start(&server, "e30.e30.e30");
    let answer = async |status: &str, body: &str| {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap().to_lowercase()
    };
    let first = answer(
        "200 OK",
        "retry: 700\nid: 41\nevent: token\ndata: {}\n\nevent: cu",
    )
    .await;
    assert!(
        first.starts_with("get /tokens/stream http") && first.contains("authorization: bearer e30.e30.e30"),
        "{first}"
    );
    assert!(!first.contains("last-event-id"), "{first}");
    assert_eq!(follower.next().await["id"], "41");
    let clock = tokenward::SystemClock::new();
    let lost = tokenward_core::Clock::steady(&clock);
    let second = answer("503 Service Unavailable", "").await;
    let waited = tokenward_core::Clock::steady(&clock).since(lost);
    assert!(waited.as_millis() >= 600, "it came back after {waited:?}");
    assert!(second.contains("last-event-id: 41\r\n"), "{second}");
    let third = answer("200 OK", "event: expired\ndata: {}\n\n").await;
    assert!(third.contains("last-event-id: 41\r\n"), "{third}");
    assert_eq!(follower.next().await["event"], "expired");
    assert_eq!(follower.ended().await, Some(1));
    assert!(follower.errors().contains("expired"));
}

#[tokio::test]
async fn keys_are_listed_changed_and_exported() {
    let program = tokens::start().await;
    let server = at(&program);
    let ops = |arguments: &[&str]| run(&server, Some(ADMIN), arguments, "");
    let list = || {
        json_of(&ops(&["keys", "list", "--json"]))
            .as_array()
            .unwrap()
            .clone()
    };
    let before = list();
    assert_eq!(
        (text(&before[0], "stage"), text(&before[1], "stage")),
        ("active", "pending")
    );
    let table = out(&ops(&["keys", "list"]));
    let lines: Vec<_> = table.lines().collect();
    assert!(
        lines[0].starts_with("kid") && lines[0].ends_with("published until"),
        "{table}"
    );
    assert!(
        lines[1].contains("active") && lines[2].contains(text(&before[1], "kid")),
        "{table}"
    );

    let early = ops(&["keys", "rotate"]);
    assert_eq!(code(&early), 1);
    assert!(
        err(&early).contains("key_not_published") && err(&early).contains("until: 20"),
        "{}",
        err(&early)
    );
    let rotated = ops(&["keys", "rotate", "--force"]);
    assert_eq!(code(&rotated), 0, "{}", err(&rotated));
    let activated = out(&rotated);
    let activated = activated
        .lines()
        .find_map(|line| line.strip_prefix("activated "))
        .unwrap();
    assert_eq!(activated.trim(), text(&before[1], "kid"));
    let generated = json_of(&ops(&["keys", "generate", "--json"]));
    assert_eq!(generated["added"].as_array().unwrap().len(), 1);

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("key.pem");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .unwrap()
        .serialize_pem();
    let put = |text: &str, mode| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    let import = |path: &Path| ops(&["keys", "import", path.to_str().unwrap(), "--json"]);
    put(&pem, 0o644);
    let open = import(&file);
    assert_eq!(code(&open), 2);
    assert!(err(&open).contains("chmod 600"), "{}", err(&open));
    put(&pem, 0o600);
    let imported = json_of(&import(&file));
    assert_eq!(imported["added"].as_array().unwrap().len(), 1);
    let again = import(&file);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("key_known"), "{}", err(&again));
    put("no key", 0o600);
    let bad = import(&file);
    assert_eq!(code(&bad), 2, "{}", err(&bad));
    assert!(err(&bad).contains("private_key"), "{}", err(&bad));

    let exported = json_of(&ops(&["keys", "export"]));
    assert_eq!(exported, program.get("/jwks/self").await.json());
    assert!(!exported.to_string().contains("\"d\""));
    let kid = text(&before[0], "kid");
    let revoked = ops(&["keys", "revoke", kid]);
    assert_eq!(code(&revoked), 0, "{}", err(&revoked));
    assert!(
        out(&revoked).contains(&format!("gone    {kid}")),
        "{}",
        out(&revoked)
    );
    assert!(!list().iter().any(|key| key["kid"] == kid));
}
