//! The program under test as a child, with a configuration of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::child::{end, tail, wait_for};
use crate::http;

pub(crate) struct Tokenward {
    child: Child,
    directory: TempDir,
    /// Of the public listener, for example `http://127.0.0.1:40123`.
    pub(crate) url: String,
}

impl Tokenward {
    /// Starts `tokenward serve` with these `idps` (the members of that list, as YAML) on ports of its own, and waits until
    /// every one of them was tried once. Plain HTTP and loopback are allowed for all of them.
    pub(crate) fn start(idps: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [port, admin] = free_ports();
        let config = directory.path().join("tokenward.yaml");
        let text = format!(
            "server: {{ host: 127.0.0.1, port: {port}, admin: \"127.0.0.1:{admin}\" }}\n\
             store: {{ url: \"memory:\" }}\n\
             idp_defaults: {{ allow_http: true, allow_private_addresses: true, refresh_interval: 3600, leeway: 0 }}\n\
             idps:\n{idps}"
        );
        fs::write(&config, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .args(["serve", "--config"])
            .arg(&config)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("tokenward starts");
        let mut tokenward = Self {
            child,
            directory,
            url: format!("http://127.0.0.1:{port}"),
        };
        let ready = format!("{}/readyz", tokenward.url);
        wait_for("tokenward is ready", || {
            let ended = tokenward.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "tokenward ended with {}:\n{}",
                ended.unwrap(),
                tokenward.log()
            );
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

    fn log(&self) -> String {
        tail(&self.directory.path().join("log"))
    }
}

impl Drop for Tokenward {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ports that nobody listens on at the moment, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A URL of the loopback at which every connection is refused.
pub(crate) fn dead_url() -> String {
    let [port] = free_ports();
    format!("http://127.0.0.1:{port}/jwks")
}
