//! One request, and what is to become of it at each door.

use super::door::{Door, is_identity};
use super::echo::Seen;
use super::raw::Reply;
use super::wire::{self, Headers};

#[derive(Clone, Debug)]
pub(super) struct Request {
    method: String,
    target: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("Host".to_owned(), "api.example.com".to_owned())],
            body: Vec::new(),
        }
    }

    pub(super) fn host(mut self, host: &str) -> Self {
        self.headers[0].1 = host.to_owned();
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(super) fn cookie(self, token: &str) -> Self {
        self.header("Cookie", &format!("session_token={token}"))
    }

    /// With `length` bytes.
    pub(super) fn body(mut self, length: usize) -> Self {
        self.body = (0..length).map(|index| b'a' + (index % 23) as u8).collect();
        self.header("Content-Length", &length.to_string())
    }

    /// As it goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = wire::bytes(&head);
        bytes.extend(&self.body);
        bytes
    }
}

pub(super) fn get(target: &str) -> Request {
    Request::new("GET", target)
}

/// The identity headers that the service gets, in lower case.
pub(super) type Identity = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It reaches the service as it was sent, in the name of this identity.
    Through(Identity),
    /// The same, but the proxy writes the target, or the host, in its own way: for the authorization and the service alike.
    Rewritten {
        identity: Identity,
        target: String,
        host: Option<&'static str>,
    },
    /// tokenward refuses it with this status, for this reason.
    Refused(u16, &'static str),
    /// The proxy answers with this status by itself, 0 meaning none; the service is not reached.
    Answered(u16),
}

pub(super) struct Row {
    what: String,
    request: Request,
    outcome: Outcome,
    exceptions: Vec<(Vec<Door>, Outcome)>,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, request: Request, outcome: Outcome) -> Self {
        Self {
            what: what.into(),
            request,
            outcome,
            exceptions: Vec::new(),
        }
    }

    /// At these doors it is another one.
    pub(super) fn but(mut self, doors: &[Door], outcome: Outcome) -> Self {
        self.exceptions.push((doors.to_vec(), outcome));
        self
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn outcome(&self, door: Door) -> &Outcome {
        let exception = self.exceptions.iter().find(|(doors, _)| doors.contains(&door));
        exception.map_or(&self.outcome, |(_, outcome)| outcome)
    }

    /// What is not as it is to be.
    pub(super) fn check(&self, door: Door, reply: Option<&Reply>, seen: &[Seen]) -> Result<(), String> {
        match self.outcome(door) {
            Outcome::Through(identity) => {
                self.passed(door, reply, seen, identity, &self.request.target, None)
            }
            Outcome::Rewritten {
                identity,
                target,
                host,
            } => self.passed(door, reply, seen, identity, target, *host),
            Outcome::Refused(status, reason) => {
                same("requests at the service", &0, &seen.len())?;
                let reply = reply.ok_or("no answer")?;
                same("status", &door.status(*status), &reply.status)?;
                if *status == 401 && reply.value("www-authenticate").is_none() {
                    return Err("no WWW-Authenticate".to_owned());
                }
                if door.passes_answers_on(*status) && self.request.method != "HEAD" {
                    let told = ["content-type", "cache-control"].map(|name| reply.value(name));
                    same(
                        "form",
                        &[Some("application/problem+json"), Some("no-store")],
                        &told,
                    )?;
                    same("reason", &Some((*reason).to_owned()), &reply.error_code())?;
                }
                Ok(())
            }
            Outcome::Answered(status) => {
                same("requests at the service", &0, &seen.len())?;
                same("status", status, &reply.map_or(0, |reply| reply.status))?;
                let reason = reply.and_then(Reply::error_code);
                same("reason", &None, &reason)
            }
        }
    }

    fn passed(
        &self,
        door: Door,
        reply: Option<&Reply>,
        seen: &[Seen],
        identity: &Identity,
        target: &str,
        host: Option<&str>,
    ) -> Result<(), String> {
        let reply = reply.ok_or("no answer")?;
        if let Some(reason) = reply.error_code() {
            return Err(format!("refused with {} {reason}", reply.status));
        }
        same("status", &200, &reply.status)?;
        same("answered by the service", &true, &reply.is_of_the_service())?;
        if let Some((name, _)) = reply.headers.iter().find(|(name, _)| is_identity(name)) {
            return Err(format!("the client is told {name}"));
        }
        let [seen] = seen else {
            return Err(format!("{} requests at the service", seen.len()));
        };
        same("method", &self.request.method, &seen.method)?;
        same("target", &target.to_owned(), &seen.target)?;
        same("body", &self.request.body.len(), &seen.body.len())?;
        if seen.body != self.request.body {
            return Err("another body".to_owned());
        }
        let mut expected = door.passes(&self.request.headers);
        expected.extend(identity.iter().cloned());
        if let Some(host) = host {
            expected.retain(|(name, _)| name != "host");
            expected.push(("host".to_owned(), host.to_owned()));
        }
        expected.sort();
        same("headers at the service", &expected, &door.arrived(&seen.headers))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    Err(format!("{what}: {got:?} instead of {expected:?}"))
}
