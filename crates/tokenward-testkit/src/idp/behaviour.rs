//! What the provider may do with a request, well-behaved or hostile.

use std::{
    fmt,
    future::{Future as _, pending},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::Value;

use super::{Request, Validators};

/// How a path answers. [`Behaviour::Normal`] is what every path does until it is told otherwise.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// The document of this path, with these headers as well; 304 where the validators match.
    Normal(Vec<(String, String)>),
    /// The document of this path, gzip-coded whether or not that was asked for.
    Gzip,
    /// Exactly this.
    Reply {
        /// Status code.
        status: u16,
        /// All headers besides `Content-Length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Never answers.
    HangBeforeHeaders,
    /// Sends headers and half of the document, then nothing more.
    HangMidBody,
    /// Waits for [`super::IdpServer::release`], then answers as normal.
    Hold,
    /// Sends the document in pieces.
    Drip {
        /// Bytes in a piece.
        bytes: usize,
        /// Time before each piece.
        every: Duration,
    },
    /// A document that never ends.
    Endless,
    /// So many bytes of blanks after the start of a document, gzip-coded to a thousandth of it.
    GzipBomb {
        /// Bytes after decompression.
        unpacked: usize,
    },
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection (TCP RST) without an answer.
    Reset,
    /// Sends headers and half of the document, then closes the connection.
    Truncate,
    /// Waits, then does what is inside.
    Delay(Duration, Box<Behaviour>),
    /// Does what is inside with this document in place of the path's.
    Serve(Served, Box<Behaviour>),
    /// Does what the request decides.
    Decide(Decider),
}

/// A document that an answer is made of.
#[derive(Clone, Debug)]
pub struct Served {
    /// The bytes before any coding.
    pub body: Vec<u8>,
    /// How often it was changed: `Last-Modified` moves by so many seconds.
    pub revision: u64,
    /// Which validators [`Behaviour::Normal`] gives it and honours.
    pub validators: Validators,
}

/// Decides what is done with a request once it has arrived.
#[derive(Clone)]
pub struct Decider(Arc<dyn Fn(&Request) -> Behaviour + Send + Sync>);

impl Decider {
    pub(super) fn decide(&self, request: &Request) -> Behaviour {
        (self.0)(request)
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decider")
    }
}

impl Behaviour {
    /// The document of the path, without further headers.
    #[must_use]
    pub fn normal() -> Self {
        Self::Normal(Vec::new())
    }

    /// The document of the path, with these headers as well.
    #[must_use]
    pub fn with_headers(headers: &[(&str, &str)]) -> Self {
        Self::Normal(owned(headers))
    }

    /// A bare status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::reply(status, &[], "")
    }

    /// A status with headers and a body.
    #[must_use]
    pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::Reply {
            status,
            headers: owned(headers),
            body: body.into(),
        }
    }

    /// 200 with a JSON body.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        Self::reply(200, &[("content-type", "application/json")], body.to_string())
    }

    /// 200 with an HTML page, as captive portals and login walls answer.
    #[must_use]
    pub fn html() -> Self {
        let page = "<!doctype html><title>Sign in</title><p>Please sign in.";
        Self::reply(200, &[("content-type", "text/html; charset=utf-8")], page)
    }

    /// 200 with a key set that holds no key.
    #[must_use]
    pub fn empty_set() -> Self {
        Self::json(&serde_json::json!({"keys": []}))
    }

    /// 200 with `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self::json(&serde_json::json!({}))
    }

    /// What `decide` says of each request.
    #[must_use]
    pub fn decided(decide: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) -> Self {
        Self::Decide(Decider(Arc::new(decide)))
    }

    /// 302 to another address, absolute or relative.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::reply(302, &[("location", to)], "")
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What comes after the last byte of a [`Paced`] body.
#[derive(Clone, Copy)]
pub(super) enum Then {
    End,
    Hang,
    Abort,
    Repeat,
}

/// A body that is sent in pieces and may end badly.
pub(super) struct Paced {
    bytes: Bytes,
    piece: usize,
    every: Duration,
    then: Then,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Paced {
    pub(super) fn new(bytes: impl Into<Bytes>, then: Then) -> Self {
        Self {
            bytes: bytes.into(),
            piece: usize::MAX,
            every: Duration::ZERO,
            then,
            wait: None,
        }
    }

    pub(super) fn dripping(bytes: impl Into<Bytes>, piece: usize, every: Duration) -> Self {
        Self {
            piece: piece.max(1),
            every,
            ..Self::new(bytes, Then::End)
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.bytes.is_empty() {
            return match self.then {
                Then::Hang => Poll::Pending,
                Then::Abort => {
                    // What was written before must have left, or the connection ends without an answer.
                    let wait = self
                        .wait
                        .get_or_insert_with(|| Box::pin(real_sleep(Duration::from_millis(50))));
                    ready!(wait.as_mut().poll(cx));
                    Poll::Ready(Some(Err(io::Error::other("the script cuts the body off"))))
                }
                Then::End | Then::Repeat => Poll::Ready(None),
            };
        }
        if !self.every.is_zero() {
            let every = self.every;
            let wait = self.wait.get_or_insert_with(|| Box::pin(real_sleep(every)));
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
        }
        let piece = match self.then {
            Then::Repeat => self.bytes.clone(),
            _ => {
                let length = self.piece.min(self.bytes.len());
                self.bytes.split_to(length)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the peer's slowness is real time: it runs on a runtime of its own"
)]
pub(super) fn real_sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

pub(super) async fn never<T>() -> T {
    pending().await
}
