//! The program, and those who call it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::cpu_seconds;

const SECRET: &str = "bench-credential-of-more-than-32-characters";
const BODY: &str = r#"{"user_id":"alice","scope":"read write"}"#;

/// A running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    public: SocketAddr,
}

impl Program {
    pub(crate) fn start(directory: &Path, algorithm: &str) -> Self {
        let ports = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
        let [public, admin] = ports.map(|socket| socket.unwrap().local_addr().unwrap());
        let secret = directory.join("secret");
        std::fs::write(&secret, SECRET).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, permissions).unwrap();
        let yaml = format!(
            "server: {{ host: 127.0.0.1, port: {}, admin: \"{admin}\" }}\n\
             store: {{ url: \"sqlite:./data\" }}\n\
             credentials: [{{ name: bench, secret_file: {}, scopes: [admin] }}]\n\
             limits: {{ token_api: {{ per_credential: off, per_address: off }} }}\n\
             token_service: {{ issuer: \"https://auth.example\", audience: [my-api], algorithm: {algorithm}, \
             generate_key: true, allow_plaintext_keys: true }}\n",
            public.port(),
            secret.display(),
        );
        std::fs::write(directory.join("tokenward.yaml"), yaml).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .arg("serve")
            .env_clear()
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self { child, public };
        let began = Instant::now();
        while TcpStream::connect(public).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }

    /// Calls with 201 in a second, and for each second of the program's processor time.
    pub(crate) fn rate(&self, path: &str, connections: usize, time: Duration) -> (f64, f64) {
        let stat = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let (before, began) = (cpu_seconds(&stat), Instant::now());
        let calls: usize = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..connections)
                .map(|_| scope.spawn(|| call(self.public, path, began + time)))
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum()
        });
        let seconds = began.elapsed().as_secs_f64();
        (
            calls as f64 / seconds,
            calls as f64 / (cpu_seconds(&stat) - before),
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One call after the other on one connection, until then.
fn call(address: SocketAddr, path: &str, until: Instant) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {SECRET}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let (mut calls, mut line, mut body) = (0, String::new(), Vec::new());
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        for number in 0.. {
            line.clear();
            answers.read_line(&mut line).unwrap();
            assert!(number > 0 || line.starts_with("HTTP/1.1 201"), "{line}");
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                None if number > 0 => break,
                _ => {}
            }
        }
        body.resize(length, 0);
        answers.read_exact(&mut body).unwrap();
        calls += 1;
    }
    calls
}
