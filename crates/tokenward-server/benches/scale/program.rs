//! The program, started, asked and looked at from outside.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokenward_testkit::bench::{Instant, pause};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::keys::KeyServer;

/// The longest that anything is waited for.
const LIMIT: Duration = Duration::from_secs(1_800);

/// A running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) started: Instant,
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident, in kB.
    pub(crate) resident: usize,
    pub(crate) threads: usize,
    pub(crate) sockets: usize,
}

/// Writes a configuration of `n` providers into `directory`.
pub(crate) fn configure(directory: &Path, server: &KeyServer, n: usize, refresh_interval: Duration) {
    configure_with(directory, server, n, refresh_interval, "", |_| None);
}

/// The same with more in it, and intervals of their own for some.
pub(crate) fn configure_with(
    directory: &Path,
    server: &KeyServer,
    n: usize,
    refresh_interval: Duration,
    more: &str,
    own_interval: impl Fn(usize) -> Option<Duration>,
) {
    let ports = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
    let [public, admin] = ports.map(|socket| socket.unwrap().local_addr().unwrap());
    let mut yaml = format!(
        "server: {{ host: 127.0.0.1, port: {}, admin: \"{admin}\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true, audiences: [\"https://api.example\"], \
         refresh_interval: {}, refresh: interval }}\n\
         {more}idps:{}\n",
        public.port(),
        refresh_interval.as_secs(),
        if n == 0 { " []" } else { "" },
    );
    for idp in 0..n {
        let url = server.url(idp);
        let interval = own_interval(idp).map_or_else(String::new, |interval| {
            format!(", refresh_interval: {}", interval.as_secs())
        });
        let _ = writeln!(
            yaml,
            "- {{ name: {}, issuer: \"https://login.example/tenants/{idp}\", url: \"{url}\"{interval} }}",
            name(idp)
        );
    }
    std::fs::write(directory.join("tokenward.yaml"), yaml).unwrap();
    std::fs::write(directory.join("port"), public.to_string()).unwrap();
}

pub(crate) fn name(idp: usize) -> String {
    format!("idp-{idp:06}")
}

impl Program {
    /// Starts it on what [`configure`] wrote.
    pub(crate) fn start(directory: &Path) -> Self {
        let public = std::fs::read_to_string(directory.join("port"))
            .unwrap()
            .parse()
            .unwrap();
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .arg("serve")
            .env_clear()
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            public,
            started,
        }
    }

    /// Waits until `path` is answered with 200.
    pub(crate) async fn until_ok(&mut self, path: &str) {
        while self.ask(path).await != Some(200) {
            pause(Duration::from_millis(2)).await;
            self.check();
        }
    }

    /// Waits until the key server was asked for `requests` sets in all.
    pub(crate) async fn until_asked(&mut self, server: &KeyServer, requests: usize) {
        while server.requests().await < requests {
            pause(Duration::from_millis(10)).await;
            self.check();
        }
    }

    /// The status of the answer; none without one.
    pub(crate) async fn ask(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.public).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
    }

    /// What it uses now.
    pub(crate) fn usage(&self) -> Usage {
        let process = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let number = |member: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(member)).unwrap();
            line.trim_matches(|char: char| !char.is_ascii_digit())
                .parse()
                .unwrap()
        };
        let descriptors = std::fs::read_dir(format!("{process}/fd")).unwrap();
        let sockets = descriptors
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count();
        Usage {
            resident: number("VmRSS:"),
            threads: number("Threads:"),
            sockets,
        }
    }

    /// What it uses while nothing happens: the least of some looks, as a fetch or one of our own requests may be
    /// under way at any of them.
    pub(crate) async fn idle(&self) -> Usage {
        let mut least = self.usage();
        for _ in 0..200 {
            pause(Duration::from_millis(20)).await;
            let now = self.usage();
            least.sockets = least.sockets.min(now.sockets);
            least.threads = least.threads.min(now.threads);
            least.resident = now.resident;
        }
        least
    }

    /// Ends it as an operator would.
    pub(crate) fn terminate(mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the program ended: {ended:?}");
        assert!(self.started.elapsed() < LIMIT, "it takes too long");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
