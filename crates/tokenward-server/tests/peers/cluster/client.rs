//! A client that keeps its connection, since thousands of questions are asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::{ADMIN, ISSUER};

pub(crate) struct Client {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
        }
    }

    /// The code with which a token is refused; `ok` where it is not. None: nobody answered.
    pub(crate) fn judge(&mut self, token: &str) -> Option<String> {
        let (status, body) = self.ask("GET", "/authorize", token, "")?;
        match status {
            200 => Some("ok".to_owned()),
            _ => Some(body["error_code"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// Revokes the token of this id; the status of the answer.
    pub(crate) fn revoke(&mut self, id: &str) -> Option<u16> {
        let body = format!(r#"{{"issuer":"{ISSUER}","jti":"{id}"}}"#);
        Some(self.ask("POST", "/v1/revocations", ADMIN, &body)?.0)
    }

    /// The status of the answer to a question that needs no token.
    pub(crate) fn get(&mut self, path: &str) -> Option<u16> {
        Some(self.ask("GET", path, "none", "")?.0)
    }

    fn ask(&mut self, method: &str, path: &str, bearer: &str, body: &str) -> Option<(u16, Value)> {
        let answer = self.try_ask(method, path, bearer, body);
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }

    fn try_ask(&mut self, method: &str, path: &str, bearer: &str, body: &str) -> Option<(u16, Value)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&self.address).ok()?;
                stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
                stream.set_nodelay(true).ok()?;
                none.insert(BufReader::new(stream))
            }
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).ok()?;
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}
