//! `kill -9` of the program at any moment, and a disk that fails: what was acknowledged holds, and what was not
//! stored is not acknowledged.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    admin::{ADMIN, credentials},
    program::{Program, command, config, pause},
};

/// Kills where `scripts/soak crash` does not say how many.
const ROUNDS: usize = 20;
const CLIENTS: usize = 8;
/// Of earlier rounds as many are looked at after each restart, so that a long run does not take ever longer.
const LOOKED_AT: usize = 100;

/// Children live longer than the longest run, so that none is refused for its age.
fn yaml() -> String {
    let yaml = format!(
        "{}token_service: {{ issuer: 'https://auth.example', audience: [my-api], algorithm: ES256, \
         generate_key: true, allow_plaintext_keys: true, child_lifetime: 24h }}\nlimits: {{ token_api: {{ per_address: off }} }}\n",
        credentials()
    );
    config(&yaml).replace("memory:", "sqlite:./data")
}

/// A connection that is kept, to a program that may die.
pub(crate) struct Client {
    requests: SendRequest<Full<Bytes>>,
    _connection: JoinSet<hyper::Result<()>>,
}

impl Client {
    pub(crate) async fn new(program: &Program) -> Self {
        let stream = TcpStream::connect(program.public).await.unwrap();
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Self {
            requests,
            _connection: tasks,
        }
    }

    /// None: the program died first.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        bearer: &str,
        body: &'static str,
    ) -> Option<(StatusCode, Value)> {
        self.requests.ready().await.ok()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {bearer}"))
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap();
        let (parts, body) = self.requests.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some((parts.status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// What is to be seen of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its parent was acknowledged.
    Good,
    /// A revocation was sent and never answered.
    Unknown,
    /// The revocation of its parent was acknowledged.
    Revoked,
    /// The revocation of its child was acknowledged, the parent stays.
    ChildRevoked,
}

#[derive(Clone, Debug)]
struct Known {
    parent: String,
    child: String,
    fate: Fate,
}

type Heard = Arc<Mutex<Vec<Known>>>;

/// Opens families and revokes two of three, one way or the other, until the program is gone.
async fn burst(mut client: Client, heard: Heard) {
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap().to_owned();
    for n in 0.. {
        let body = r#"{"user_id":"alice","include_child":true,"auto_renew":false}"#;
        let Some((status, pair)) = client.ask(Method::POST, "/token-pairs", ADMIN, body).await else {
            return;
        };
        assert_eq!(status, StatusCode::CREATED, "{pair}");
        let (which, fate) = match n % 3 {
            0 => ("parent_jti", Fate::Revoked),
            1 => ("child_jti", Fate::ChildRevoked),
            _ => ("", Fate::Good),
        };
        let at = {
            let mut heard = heard.lock().unwrap();
            heard.push(Known {
                parent: text(&pair, "parent_token"),
                child: text(&pair, "child_token"),
                fate: if which.is_empty() {
                    Fate::Good
                } else {
                    Fate::Unknown
                },
            });
            heard.len() - 1
        };
        if which.is_empty() {
            continue;
        }
        let path = format!("/tokens/{}", text(&pair, which));
        let Some((status, _)) = client.ask(Method::DELETE, &path, ADMIN, "").await else {
            return;
        };
        assert_eq!(status, StatusCode::NO_CONTENT);
        heard.lock().unwrap()[at].fate = fate;
    }
}

/// Everything that was acknowledged holds in the program that was started again.
async fn look(program: &Program, known: Vec<Known>) {
    let known = Arc::new(Mutex::new(known.into_iter()));
    let mut lookers = JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut client, known) = (Client::new(program).await, Arc::clone(&known));
        lookers.spawn(async move {
            loop {
                let Some(family) = known.lock().unwrap().next() else {
                    return;
                };
                let authorized = client.ask(Method::GET, "/authorize", &family.child, "").await;
                let authorized = authorized.unwrap();
                let renewed = client
                    .ask(Method::POST, "/renew", &family.parent, "")
                    .await
                    .unwrap();
                let code = |answer: &(StatusCode, Value)| {
                    let code = answer.1["error_code"].as_str().unwrap_or("").to_owned();
                    (answer.0.as_u16(), code)
                };
                let seen = (code(&authorized), code(&renewed));
                let refused = |code: &str| (401, code.to_owned());
                let good = || (200, String::new());
                match family.fate {
                    Fate::Good => assert_eq!(seen, (good(), good())),
                    Fate::Revoked => {
                        assert_eq!(seen, (refused("parent_revoked"), refused("token_revoked")));
                    }
                    Fate::ChildRevoked => {
                        assert_eq!(seen, (refused("token_revoked"), good()));
                        assert_ne!(renewed.1["token"], family.child, "it is not given again");
                    }
                    // It is in force or it is not, and either way the program answers.
                    Fate::Unknown => assert!([200, 401].contains(&seen.1.0), "{seen:?}"),
                }
            }
        });
    }
    while let Some(looked) = lookers.join_next().await {
        looked.unwrap();
    }
}

fn random(below: usize) -> usize {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    usize::from_le_bytes(bytes) % below.max(1)
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a moment of another process's time is chosen"
)]
async fn what_was_acknowledged_survives_kill_9_of_the_program() {
    let rounds = std::env::var("TOKENWARD_CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let directory = TempDir::new().unwrap();
    let yaml = yaml();
    let mut all: Vec<Known> = Vec::new();
    let mut last: Vec<Known> = Vec::new();
    for round in 0..=rounds {
        let mut program = Program::run(command(&directory, &yaml)).await;
        let before = (0..LOOKED_AT.min(all.len())).map(|_| all[random(all.len())].clone());
        look(&program, last.iter().cloned().chain(before).collect()).await;
        all.append(&mut last);
        if round == rounds {
            look(&program, all.clone()).await;
            break;
        }
        let heard = Heard::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(burst(Client::new(&program).await, Arc::clone(&heard)));
        }
        tokio::time::sleep(Duration::from_micros(random(200_000) as u64)).await;
        program.signal(Signal::KILL);
        program.ended().await;
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        last = std::mem::take(&mut *heard.lock().unwrap());
    }
    let count = |fate| all.iter().filter(|family| family.fate == fate).count();
    println!(
        "{rounds} kills; {} pairs acknowledged, {} parents and {} children revoked, {} revocations under way; nothing lost",
        all.len(),
        count(Fate::Revoked),
        count(Fate::ChildRevoked),
        count(Fate::Unknown),
    );
    assert!(count(Fate::Revoked) > rounds && count(Fate::Good) > 0 && count(Fate::ChildRevoked) > 0);
}

/// The program with a disk that does what the file `fault` says.
fn on_a_disk_that_fails(directory: &TempDir, yaml: &str) -> Command {
    let disk = directory.path().join("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenward-store/tests/it/disk.c");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&disk, &source])
        .status();
    assert!(compiler.expect("a C compiler, as SQLite needs one").success());
    let mut command = command(directory, yaml);
    command
        .env("LD_PRELOAD", &disk)
        .env("DISK_FAULT", directory.path().join("fault"));
    command
}

#[tokio::test]
async fn a_disk_that_fails_acknowledges_nothing_and_stops_no_read() {
    for fault in ["sync 1 lost", "write 1 lost"] {
        let directory = TempDir::new().unwrap();
        let yaml = yaml();
        let program = Program::run(on_a_disk_that_fails(&directory, &yaml)).await;
        let mut client = Client::new(&program).await;
        let body = r#"{"user_id":"alice","include_child":true,"auto_renew":false}"#;
        let mut families = Vec::new();
        for _ in 0..3 {
            let (status, pair) = client
                .ask(Method::POST, "/token-pairs", ADMIN, body)
                .await
                .unwrap();
            assert_eq!(status, StatusCode::CREATED);
            families.push(["parent_token", "child_token", "parent_jti"].map(|name| {
                let text = pair[name].as_str().unwrap();
                text.to_owned()
            }));
        }
        let [kept, revoked, later] = &families[..] else {
            panic!()
        };
        let path = format!("/tokens/{}", revoked[2]);
        client.ask(Method::DELETE, &path, ADMIN, "").await.unwrap();

        std::fs::write(directory.path().join("fault.new"), fault).unwrap();
        std::fs::rename(directory.path().join("fault.new"), directory.path().join("fault")).unwrap();
        let path = format!("/tokens/{}", later[2]);
        for _ in 0..5 {
            for (method, path, body) in [
                (Method::POST, "/token-pairs", body),
                (Method::DELETE, path.as_str(), ""),
                (Method::DELETE, "/users/bob/tokens", ""),
            ] {
                let (status, answer) = client.ask(method.clone(), path, ADMIN, body).await.unwrap();
                assert_eq!(
                    status,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "{fault}: {method} {path}: {answer}"
                );
            }
            // What is read, judged or signed without a write goes on.
            let good = client.ask(Method::GET, "/authorize", &kept[1], "").await.unwrap();
            let bad = client
                .ask(Method::GET, "/authorize", &revoked[1], "")
                .await
                .unwrap();
            let keys = client.ask(Method::GET, "/jwks/self", "", "").await.unwrap();
            let latest = client
                .ask(Method::GET, "/tokens/latest", &kept[0], "")
                .await
                .unwrap();
            let minted = client
                .ask(Method::POST, "/tokens", ADMIN, r#"{"user_id":"alice"}"#)
                .await
                .unwrap();
            let statuses = [&good, &bad, &keys, &latest, &minted].map(|answer| answer.0.as_u16());
            assert_eq!(statuses, [200, 401, 200, 200, 201], "{fault}");
        }

        std::fs::remove_file(directory.path().join("fault")).unwrap();
        let mut recovered = false;
        for _ in 0..200 {
            let (status, _) = client.ask(Method::DELETE, &path, ADMIN, "").await.unwrap();
            recovered = status == StatusCode::NO_CONTENT;
            if recovered {
                break;
            }
            pause().await;
        }
        assert!(recovered, "{fault}: it never recovers");
        drop(program);
        let program = Program::run(command(&directory, &yaml)).await;
        let known = [
            (kept, Fate::Good),
            (revoked, Fate::Revoked),
            (later, Fate::Revoked),
        ];
        let known = known.map(|([parent, child, _], fate)| Known {
            parent: parent.clone(),
            child: child.clone(),
            fate,
        });
        look(&program, known.to_vec()).await;
    }
}
