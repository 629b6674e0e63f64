//! Children that live as long as a test does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// How long a program may take to start or to answer. A real one on a busy machine; nothing here waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child that speaks one line of JSON at a time. Killed when dropped.
pub(crate) struct Talker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Talker {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the peer starts");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Read on a thread of its own, so that waiting for a line can have a deadline.
        thread::Builder::new()
            .spawn(move || {
                stdout
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|line| sender.send(line))
            })
            .unwrap();
        Self { child, stdin, lines }
    }

    pub(crate) fn hear(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("the peer answers");
        serde_json::from_str(&line).expect("the peer answers in JSON")
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.stdin, "{command}").expect("the peer runs");
        self.hear()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child, and waits so that its port is free afterwards.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Asks a child to end, so that it ends its own children too, and kills it where it does not.
pub(crate) fn terminate(child: &mut Child) {
    let _ = rustix::process::kill_process(Pid::from_child(child), Signal::TERM);
    for _ in 0..250 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    end(child);
}

/// Calls `ready` until it is, for at most `PATIENCE`; says `what` was waited for otherwise.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let step = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if ready() {
            return;
        }
        thread::sleep(step);
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// The end of a log file, to explain a failure.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
