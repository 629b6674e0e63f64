//! A service behind a proxy that keeps each request as it came.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{self, Headers, Reader};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

/// Answers everything with 200 and `X-Service: echo`, by which a client can tell its answer from a proxy's.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        // Both kinds of thread end with the process: a test is one.
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                let serve = move || serve(stream, &kept);
                thread::Builder::new().spawn(serve).unwrap();
            }
        };
        thread::Builder::new().spawn(accept).unwrap();
        Self { address, seen }
    }

    /// What has arrived since this was asked last.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Seen>>) {
    let mut reader = Reader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        let body = if request.method == "HEAD" { "" } else { "ok" };
        kept.lock().unwrap().push(request);
        let answer = format!("HTTP/1.1 200 OK\r\nx-service: echo\r\ncontent-length: 2\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut Reader) -> Option<Seen> {
    let (first, headers) = wire::head(reader)?;
    let (method, rest) = first.split_once(' ')?;
    let (target, _) = rest.rsplit_once(' ')?;
    Some(Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        body: wire::body(reader, &headers).unwrap_or_default(),
        headers,
    })
}
