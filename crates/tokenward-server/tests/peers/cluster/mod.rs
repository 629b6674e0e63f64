//! Replicas of the program on one Redis, each with a journal of its own.

mod client;
mod faults;
mod fetches;
mod hanging;
mod history;
mod idps;
mod keys;
mod migrate;
mod prefix;
mod proxy;
mod renewals;
mod revocations;
mod start;
mod topologies;

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, Program, RedisServer, TestKey, TokenBuilder};

use crate::child::{end, tail, wait_for};
use crate::http::{self, Answer};
use client::Client;
pub(crate) use proxy::Proxy;

pub(crate) const ISSUER: &str = "https://upstream.example";
const ADMIN: &str = "Xb7-admin-0123456789abcdefghijklmnop";

/// A Redis that keeps all that it acknowledged through its own `kill -9`.
pub(crate) fn durable_redis() -> RedisServer {
    RedisServer::with(
        Program::Redis,
        &["--appendonly", "yes", "--appendfsync", "always"],
    )
}

/// A provider whose tokens are judged, with its key.
pub(crate) struct Upstream {
    server: IdpServer,
    key: TestKey,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let (server, key) = (IdpServer::spawn(), TestKey::es256(0));
        server.set_keys(&[&key]);
        Self { server, key }
    }

    /// A token with this id, good for an hour.
    pub(crate) fn token(&self, id: &str) -> String {
        let now = tokenward::SystemClock::new().wall();
        TokenBuilder::new(now)
            .issuer(ISSUER)
            .audience("my-api")
            .subject("u")
            .token_id(id)
            .expires_in(Duration::from_secs(3_600))
            .sign(&self.key)
    }

    /// A configuration of a replica whose store is at `url`; `rest` are sections that are not these.
    pub(crate) fn yaml(&self, url: &str, rest: &str) -> String {
        format!(
            "store: {{ url: '{url}', journal: ./journal }}\n\
             credentials: [{{ name: ops, secret_file: ./secret, scopes: [admin] }}]\n\
             logging: {{ requests: false }}\n\
             idps: [{{ name: upstream, issuer: '{ISSUER}', url: '{}', audiences: [my-api], allow_http: true, \
             allow_private_addresses: true }}]\n{rest}",
            self.server.jwks_url()
        )
    }
}

/// One replica, which may be killed and started again with the same journal.
pub(crate) struct Replica {
    child: Option<Child>,
    directory: TempDir,
    /// Of its last start.
    started: usize,
    pub(crate) public: String,
    pub(crate) admin: String,
}

impl Replica {
    /// Starts a replica and waits until it is ready.
    pub(crate) fn start(yaml: &str) -> Self {
        let replica = Self::start_unready(yaml);
        replica.wait_until_ready();
        replica
    }

    /// Starts a replica and waits until it listens.
    pub(crate) fn start_unready(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tokenward.yaml"), yaml).unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, ADMIN).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&secret, private).unwrap();
        let mut replica = Self {
            child: None,
            directory,
            started: 0,
            public: String::new(),
            admin: String::new(),
        };
        replica.start_again();
        replica
    }

    /// Starts it again after its end, and waits until it listens.
    pub(crate) fn start_again(&mut self) {
        self.started += 1;
        let log = File::create(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .arg("serve")
            .env("TOKENWARD__SERVER__HOST", "127.0.0.1")
            .env("TOKENWARD__SERVER__PORT", "0")
            .env("TOKENWARD__SERVER__ADMIN", "127.0.0.1:0")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("tokenward starts");
        self.child = Some(child);
        wait_for("the replica listens", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            let (Some(public), Some(admin)) = (self.listening("public"), self.listening("admin")) else {
                return false;
            };
            self.public = public;
            self.admin = admin;
            true
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn is_ready(&self) -> bool {
        let ready = format!("http://{}/readyz", self.public);
        http::try_request("GET", &ready, &[], "").is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_for("the replica is ready", || self.is_ready());
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        http::get(&format!("http://{}{path}", self.public), &[])
    }

    /// What `/health` says: its status, and how Redis is.
    pub(crate) fn health(&self) -> (String, String) {
        let body = self.get("/health").json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("redis"))
    }

    /// A call of the admin API.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {ADMIN}");
        let headers = [("authorization", bearer.as_str())];
        http::request(method, &format!("http://{}{path}", self.admin), &headers, body)
    }

    /// Revokes the token of this id. Says whether that was acknowledged.
    pub(crate) fn revoke(&self, id: &str) -> bool {
        Client::new(&self.admin).revoke(id) == Some(201)
    }

    /// The code with which a token is refused; `ok` where it is not.
    pub(crate) fn judge(&self, token: &str) -> String {
        Client::new(&self.public).judge(token).expect("an answer")
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let answer = http::get(&format!("http://{}/metrics", self.admin), &[]);
        let text = String::from_utf8(answer.body).unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(f64::NAN, |value| value.parse().unwrap())
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.directory.path().join(format!("log.{}", self.started))
    }

    pub(crate) fn log(&self) -> String {
        tail(&self.log_path())
    }

    fn listening(&self, listener: &str) -> Option<String> {
        let log = fs::read_to_string(self.log_path()).ok()?;
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["message"] == "listening" && line["listener"] == listener)?;
        Some(line["address"].as_str()?.to_owned())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if thread::panicking() {
            // Shown with the failed test alone.
            let _ = writeln!(std::io::stderr(), "the end of a replica's log:\n{}", self.log());
        }
        self.kill();
    }
}

/// So many replicas, started at the same time and ready.
pub(crate) fn replicas(count: usize, yaml: &str) -> Vec<Replica> {
    let replicas: Vec<_> = (0..count).map(|_| Replica::start_unready(yaml)).collect();
    replicas.iter().for_each(Replica::wait_until_ready);
    replicas
}

/// Some time of a real clock.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "the promises are about real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
