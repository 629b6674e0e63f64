//! One request and its answer: what the listener demands of a head, and how an answer is handed over.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http::{Request, Version, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::connection::{InFlight, Protocol};

/// How much of an answer is handed to HTTP/2 at a time, which asks for the next piece once the peer has room for it.
const PIECE: usize = 16 * 1024;

/// The same for gRPC, whose answers are short: what is shorter than 1,024 bytes h2 writes together with what comes before and after
/// it, and so a whole answer at once.
const SHORT_PIECE: usize = 1_000;

/// Whether a request names its host exactly once, so that no two readers of it find two different ones. An absent `Host`
/// and a repeated one are refused as RFC 9112 section 3.2 demands, one that contradicts the target as RFC 9113
/// section 8.3.1 does.
pub(super) fn names_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        (_, Some(_), _) => false,
        (Some(host), None, Some(authority)) => host
            .as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes()),
        (None, None, _) => request.version() != Version::HTTP_11,
        (Some(_), None, None) => true,
    }
}

/// An answer's body, which keeps its request in flight until it is written or dropped.
pub(super) struct Answer {
    body: Body,
    /// What of the body's last frame was not handed over yet.
    rest: Bytes,
    in_flight: InFlight,
    protocol: Protocol,
    /// Whether a piece is on offer. HTTP/1.1 tells by the connection itself whether the peer takes anything.
    offered: bool,
}

impl Answer {
    pub(super) fn new(body: Body, in_flight: InFlight, protocol: Protocol) -> Self {
        let mut answer = Self {
            body,
            rest: Bytes::new(),
            in_flight,
            protocol,
            offered: false,
        };
        if !answer.body.is_end_stream() {
            answer.offer();
        }
        answer
    }

    fn offer(&mut self) {
        if self.protocol != Protocol::Http1 && !mem::replace(&mut self.offered, true) {
            self.in_flight.offer();
        }
    }

    fn withdraw(&mut self) {
        if mem::take(&mut self.offered) {
            self.in_flight.withdraw();
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.protocol == Protocol::Http1 {
            return Pin::new(&mut this.body).poll_frame(cx);
        }
        // Whoever asks has room: what was handed over before has been taken.
        this.in_flight.taken();
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            let data = match polled {
                Poll::Ready(Some(Ok(frame))) => frame.into_data(),
                other => {
                    this.withdraw();
                    return other;
                }
            };
            match data {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        this.offer();
        let most = match this.protocol {
            Protocol::Grpc => SHORT_PIECE,
            Protocol::Http1 | Protocol::Http2 => PIECE,
        };
        let piece = this.rest.split_to(this.rest.len().min(most));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.withdraw();
    }
}
