//! A copy of `examples/` on ports of its own, in which its commands run.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::child::{tail, terminate};
use crate::process::{must_exist, root};

/// Where the examples say 8000, 8080, 9191 and 9000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) proxy: u16,
    pub(super) tokenward: Listening,
    pub(super) service: u16,
}

/// Where an authorization service listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) http: u16,
    pub(super) grpc: u16,
}

pub(super) struct Place {
    directory: TempDir,
    ports: Ports,
}

impl Place {
    pub(super) fn new(ports: Ports) -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
            ports,
        };
        place.copy(&root().join("examples"), &place.directory.path().join("examples"));
        place
    }

    fn copy(&self, from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &to);
            } else {
                fs::write(to, self.moved(&fs::read_to_string(entry.path()).unwrap())).unwrap();
            }
        }
    }

    /// `text` with this place's ports and directory in place of those that examples name.
    pub(super) fn moved(&self, text: &str) -> String {
        let mut moved = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, number) = rest.split_at(start);
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            let (number, after) = number.split_at(end);
            moved.push_str(before);
            match number {
                "8000" => moved.push_str(&self.ports.proxy.to_string()),
                "8080" => moved.push_str(&self.ports.tokenward.http.to_string()),
                "9191" => moved.push_str(&self.ports.tokenward.grpc.to_string()),
                "9000" => moved.push_str(&self.ports.service.to_string()),
                other => moved.push_str(other),
            }
            rest = after;
        }
        moved.push_str(rest);
        let own = self.directory.path().join("nginx");
        moved.replace("/tmp/tokenward-nginx", own.to_str().unwrap())
    }

    /// Where `examples/` is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The text of a file, moved.
    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.path().join(path)).unwrap()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::write(self.directory.path().join(path), text).unwrap();
    }

    /// A shell with the peers of the tests in its path, where `examples/` is.
    pub(super) fn shell(&self, script: &str) -> Command {
        let tools = root().join(".venv/bin");
        must_exist(&tools);
        // At the end where Debian puts nginx, and a user's path need not lead.
        let path = format!("PATH={}:$PATH:/usr/sbin", tools.display());
        let mut command = Command::new("bash");
        command
            .arg("-euc")
            .arg(format!("{path}\n{script}"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts what `script`, of which the last command stays, says.
    pub(super) fn start(&self, script: &str) -> Running {
        let (setup, last) = script.trim().rsplit_once('\n').unwrap_or(("", script.trim()));
        let log = self.directory.path().join("log");
        let out = File::create(&log).unwrap();
        let child = self
            .shell(&format!("{setup}\nexec {last}"))
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Running { child, log }
    }
}

/// A program that ends when this is dropped, with what it has started itself.
pub(super) struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    /// What it has written.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Panics with the log where the program has ended.
    pub(super) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("ended with {status}:\n{}", tail(&self.log));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// A port that nobody listens on now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
