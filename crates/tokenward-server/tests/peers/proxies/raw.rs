//! A client that sends what it is told, whether or not it is HTTP, and reads one answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::wire::{self, Headers, Reader};

/// Longer than any proxy waits for an authorization: Traefik gives it 30 seconds.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Headers,
    body: Vec<u8>,
}

impl Reply {
    /// The first line of a header.
    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        wire::values(&self.headers, name).next()
    }

    /// The reason that tokenward gave, where its answer was passed on as it is.
    pub(super) fn error_code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        problem["error_code"].as_str().map(str::to_owned)
    }

    /// Whether the service behind the proxy answered.
    pub(super) fn is_of_the_service(&self) -> bool {
        self.value("x-service").is_some()
    }
}

/// The answer to `request`. None where the connection ends without one.
pub(super) fn send(port: u16, request: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A proxy may answer before it has read everything, and close.
    let _ = stream.write_all(request);
    let mut reader = Reader::new(stream);
    loop {
        let (first, headers) = wire::head(&mut reader)?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let empty = request.starts_with(b"HEAD ") || matches!(status, 100..200 | 204 | 304);
        let mut body = Vec::new();
        if !empty {
            match wire::body(&mut reader, &headers) {
                Some(announced) => body = announced,
                None => drop(reader.read_to_end(&mut body)),
            }
        }
        if status >= 200 {
            return Some(Reply {
                status,
                headers,
                body,
            });
        }
    }
}
