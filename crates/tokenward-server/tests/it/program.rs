//! Starts the program, reads its log, and asks it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

/// The longest that anything may take to happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A running program. It is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    output: Arc<Mutex<Vec<String>>>,
    _directory: Option<TempDir>,
}

/// An answer, body included.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The program with `yaml` and ports of its own, as a command that was not started yet.
pub(crate) fn command(directory: &TempDir, yaml: &str) -> Command {
    let file = directory.path().join("tokenward.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
    command.arg("serve").arg("--config").arg(&file);
    command
        .env_clear()
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A configuration: free ports on loopback, state in memory, and what may be fetched from a test; then `rest`.
/// Sections of `rest` must be others than these.
pub(crate) fn config(rest: &str) -> String {
    format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         store: {{ url: \"memory:\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true }}\n{rest}"
    )
}

impl Program {
    /// Starts the program and waits until it listens.
    pub(crate) async fn start(yaml: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let command = command(&directory, yaml);
        let mut program = Self::run(command).await;
        program._directory = Some(directory);
        program
    }

    /// Starts `command` and waits until it listens.
    pub(crate) async fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let collected = Arc::clone(&output);
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                lines
                    .map_while(Result::ok)
                    .for_each(|line| collected.lock().unwrap().push(line));
            })
            .unwrap();
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Self {
            child,
            public: none,
            admin: none,
            output,
            _directory: None,
        };
        program.public = program.listening("public").await;
        program.admin = program.listening("admin").await;
        program
    }

    pub(crate) async fn listening(&mut self, listener: &str) -> SocketAddr {
        let found = wait_for(|| {
            let line = self
                .logged("listening")
                .into_iter()
                .find(|line| line["listener"] == listener);
            line.map(|line| line["address"].as_str().unwrap().parse().unwrap())
        });
        match found.await {
            Some(address) => address,
            None => {
                let _ = self.child.kill();
                let mut errors = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut errors)
                    .unwrap();
                panic!("not listening: {:?}\n{errors}", self.output.lock().unwrap());
            }
        }
    }

    /// All that it printed so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// The log lines with this message.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self
            .output()
            .into_iter()
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Bytes that it keeps in memory.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kilobytes = line.trim().trim_end_matches("kB").trim();
        1_024 * kilobytes.parse::<usize>().unwrap()
    }

    /// Sockets that it has open.
    pub(crate) fn sockets(&self) -> usize {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        wait_for(|| self.child.try_wait().unwrap())
            .await
            .expect("it ends in time")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        ask(self.admin, Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.public, method, path, headers, Bytes::new()).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        for _ in 0..LIMIT.as_millis() / 20 {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            pause().await;
        }
        panic!("{path} is never as wanted: {:?}", self.get(path).await);
    }

    /// Waits until the keys of this identity provider are there.
    pub(crate) async fn loaded(&self, idp: &str) {
        self.until(&format!("/jwks/{idp}"), |answer| answer.status == StatusCode::OK)
            .await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = requests
        .send_request(request.body(Full::new(body)).unwrap())
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Asks `found` until it says something.
pub(crate) async fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..LIMIT.as_millis() / 20 {
        if let Some(found) = found() {
            return Some(found);
        }
        pause().await;
    }
    None
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for: its clock is the system's"
)]
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
