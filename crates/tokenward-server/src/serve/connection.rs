//! One connection, from its first byte to its last, and the limits on how slow it may be.
//!
//! hyper has a timeout for request heads, but it runs while a kept-alive connection idles too. Proxies keep idle
//! connections, and closing one while a request is on its way costs that request; a slow head is an attack. So the
//! two are told apart here, by watching bytes and requests.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokenward_core::{Clock, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// From the first byte of a request's head to its last; and from the handshake to the first request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Between two requests. Above what common proxies keep idle connections for, so that they close first.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// How long the peer may take nothing of what is written to it.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How often the limits are looked at, so that each may be exceeded by so much.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Stands for "not now" in the clocks of [`Activity`].
const NEVER: i64 = i64::MIN;

/// What a connection is doing, and since when.
pub(super) struct Activity {
    clock: Arc<dyn Clock>,
    /// Requests whose response is not written completely.
    in_flight: AtomicUsize,
    /// When the last request ended, or the last byte of an answer was taken; before the first one, when the
    /// connection was ready for it.
    idle_since: AtomicI64,
    /// When the head that is being read began.
    head_since: AtomicI64,
    /// Since when the peer takes nothing.
    blocked_since: AtomicI64,
    /// HTTP/2: answers of which the peer has to take a piece before the next one is asked for, and when it last did.
    offered: AtomicUsize,
    taken_at: AtomicI64,
}

impl Activity {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let now = clock.steady().as_millis();
        Arc::new(Self {
            clock,
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicI64::new(now),
            // A connection that never asks anything is not one that a client keeps for later.
            head_since: AtomicI64::new(now),
            blocked_since: AtomicI64::new(NEVER),
            offered: AtomicUsize::new(0),
            taken_at: AtomicI64::new(now),
        })
    }

    /// A request's head is complete. It counts as in flight until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.head_since.store(NEVER, Ordering::Release);
        InFlight(Arc::clone(self))
    }

    /// Ends when the connection has been too slow, and says at what.
    pub(super) async fn too_slow(&self) -> &'static str {
        loop {
            self.clock.sleep(CHECK_EVERY).await;
            if let Some(why) = self.overdue(self.clock.steady()) {
                return why;
            }
        }
    }

    fn overdue(&self, now: Timestamp) -> Option<&'static str> {
        let over = |since: &AtomicI64, limit| match since.load(Ordering::Acquire) {
            NEVER => false,
            since => now.since(Timestamp::from_millis(since)) > limit,
        };
        // On HTTP/2 a peer that opens no window takes nothing either, while the connection itself is writable.
        let offered = self.offered.load(Ordering::Acquire) > 0;
        if over(&self.blocked_since, WRITE_LIMIT) || offered && over(&self.taken_at, WRITE_LIMIT) {
            return Some("write");
        }
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return None;
        }
        if over(&self.head_since, HEAD_LIMIT) {
            return Some("head");
        }
        over(&self.idle_since, IDLE_LIMIT).then_some("idle")
    }

    fn now(&self) -> i64 {
        self.clock.steady().as_millis()
    }

    fn read(&self, protocol: Protocol) {
        // On HTTP/2 bytes between requests may be pings; what is slow there meets the idle limit instead.
        if protocol == Protocol::Http1
            && self.in_flight.load(Ordering::Acquire) == 0
            && self.head_since.load(Ordering::Acquire) == NEVER
        {
            self.head_since.store(self.now(), Ordering::Release);
        }
    }

    /// Bytes of an answer were offered, and taken or not. What hyper has buffered counts as answered, so without
    /// this a large answer to a slow client looks idle. On HTTP/2 they may be pings, ours or answers to the peer's, and
    /// an answer is in flight for as long as there is more of it than a piece.
    fn wrote<T>(&self, result: &Poll<T>, protocol: Protocol) {
        self.flushed(result);
        if result.is_ready() && protocol == Protocol::Http1 {
            self.idle_since.store(self.now(), Ordering::Release);
        }
    }

    /// The stream was asked to pass on what it has.
    fn flushed<T>(&self, result: &Poll<T>) {
        if result.is_ready() {
            self.blocked_since.store(NEVER, Ordering::Release);
        } else if self.blocked_since.load(Ordering::Acquire) == NEVER {
            self.blocked_since.store(self.now(), Ordering::Release);
        }
    }
}

impl InFlight {
    /// The peer is to take a piece of an answer.
    pub(super) fn offer(&self) {
        self.0.offered.fetch_add(1, Ordering::AcqRel);
        self.taken();
    }

    /// The peer has taken a piece.
    pub(super) fn taken(&self) {
        self.0.taken_at.store(self.0.now(), Ordering::Release);
    }

    /// There is nothing that the peer could take now.
    pub(super) fn withdraw(&self) {
        self.0.offered.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request in flight.
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Release);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is spoken on a connection, known from TLS's ALPN. Without TLS it is one of them only, and HTTP/1.1 for all but
/// gRPC: where HTTP/2 in clear is spoken by surprise, it can be tunnelled past a proxy that filters requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// HTTP/2 where gRPC is spoken.
    Grpc,
}

/// A stream that tells an [`Activity`] what passes.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) activity: Arc<Activity>,
    pub(super) protocol: Protocol,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.activity.read(self.protocol);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.wrote(&result, self.protocol);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.flushed(&result);
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.activity.flushed(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(&result, self.protocol);
        result
    }

    fn is_write_vectored(&self) -> bool {
        // Without it h2 copies short pieces of a body into one buffer with the frames around them, and one write is enough.
        self.protocol != Protocol::Grpc && self.stream.is_write_vectored()
    }
}
