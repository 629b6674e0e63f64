//! The program under test as a child, with a configuration of its own.

use std::fs::{self, DirEntry, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::child::{end, tail, wait_for};
use crate::http;

pub(crate) struct Tokenward {
    child: Child,
    directory: TempDir,
    /// Of the public listener, for example `http://127.0.0.1:40123`.
    pub(crate) url: String,
    /// Of the admin listener.
    pub(crate) admin: String,
}

impl Tokenward {
    /// Starts `tokenward serve` with these `idps` (the members of that list, as YAML) on ports of its own, and waits until
    /// every one of them was tried once. Plain HTTP and loopback are allowed for all of them.
    pub(crate) fn start(idps: &str) -> Self {
        Self::serve(
            &[],
            &[],
            &format!(
                "store: {{ url: \"memory:\" }}\n\
                 idp_defaults: {{ allow_http: true, allow_private_addresses: true, refresh_interval: 3600, leeway: 0 }}\n\
                 idps:\n{idps}"
            ),
        )
    }

    /// Starts `tokenward serve --dev` with this configuration, on ports of its own.
    pub(crate) fn development(config: &str) -> Self {
        Self::serve(&["--dev"], &[("TOKENWARD__SERVER__GRPC", "127.0.0.1:0")], config)
    }

    fn serve(arguments: &[&str], variables: &[(&str, &str)], text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("tokenward.yaml");
        fs::write(&config, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .args(["serve", "--config"])
            .arg(&config)
            .args(arguments)
            .env("TOKENWARD__SERVER__HOST", "127.0.0.1")
            .env("TOKENWARD__SERVER__PORT", "0")
            .env("TOKENWARD__SERVER__ADMIN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("tokenward starts");
        let mut tokenward = Self {
            child,
            directory,
            url: String::new(),
            admin: String::new(),
        };
        wait_for("tokenward is ready", || {
            let ended = tokenward.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "tokenward ended with {}:\n{}",
                ended.unwrap(),
                tokenward.log()
            );
            let (Some(public), Some(admin)) = (tokenward.listening("public"), tokenward.listening("admin"))
            else {
                return false;
            };
            tokenward.url = format!("http://{public}");
            tokenward.admin = format!("http://{admin}");
            let ready = format!("{}/readyz", tokenward.url);
            http::try_request("GET", &ready, &[], "").is_ok_and(|answer| answer.status == 200)
        });
        tokenward
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> http::Answer {
        http::get(&format!("{}{path}", self.url), headers)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::Answer {
        http::request(method, &format!("{}{path}", self.url), &[], "")
    }

    /// What `GET /authorize` says to a bearer token.
    pub(crate) fn authorize(&self, token: &str) -> http::Answer {
        self.get("/authorize", &[("authorization", &format!("Bearer {token}"))])
    }

    /// The address that a listener got.
    fn listening(&self, listener: &str) -> Option<SocketAddr> {
        let log = fs::read_to_string(self.directory.path().join("log")).ok()?;
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["message"] == "listening" && line["listener"] == listener)?;
        line["address"].as_str()?.parse().ok()
    }

    /// Where it answers Envoy by gRPC. Only of one that was started for development.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.listening("grpc").expect("a gRPC listener")
    }

    /// Stands still, with its connections open, until it is [resumed](Self::resume).
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let stopped = |thread: DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        // Each thread stops by itself.
        wait_for("every thread has stopped", || {
            fs::read_dir(&threads).unwrap().map(Result::unwrap).all(stopped)
        });
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The credential that `--dev` made.
    pub(crate) fn credential(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
        let mut lines = log
            .lines()
            .filter_map(|line| line.trim().strip_prefix("CREDENTIAL="));
        lines.next().expect("--dev prints a credential").to_owned()
    }

    pub(crate) fn log(&self) -> String {
        tail(&self.directory.path().join("log"))
    }
}

impl Drop for Tokenward {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A URL of the loopback at which every connection is refused: nobody serves anything at port 1.
pub(crate) const DEAD_URL: &str = "http://127.0.0.1:1/jwks";
