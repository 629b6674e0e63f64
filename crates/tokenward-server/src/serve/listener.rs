//! One listening socket: accepts, bounds and drains connections.
//!
//! The accept loop is our own because of what it must survive: descriptors that run out, handshakes that fail or
//! hang, connections that are slow or too many. It owns the task of each of its connections.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Router, body::Body};
use http::StatusCode;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokenward_core::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::{
    connection::{Activity, Protocol, Watched},
    message::{Answer, names_one_host},
};
use crate::{
    http::{Peer, bad_request, refused_head, within},
    telemetry,
};

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A request's head: a token of 16 KiB, and room for what proxies add. Larger: 431.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
/// HTTP/2 streams that one connection may have open.
const MAX_STREAMS: u32 = 128;
/// Streams that the peer reset before they were accepted (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that were reset for the peer's errors (CVE-2025-8671).
const MAX_ERROR_RESETS: usize = 128;
/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// First and longest pause after the system had no descriptor or memory for a connection.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What all listeners are doing. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are accepted.
    Serving,
    /// Not ready any more, but still serving, until those in front have noticed.
    Leaving,
    /// Nothing new is accepted; requests in flight finish.
    Draining,
    /// Whatever is left is cut off.
    Ended,
}

/// What a listener serves. A connection takes the TLS of when it comes, a request the routes of when it does.
pub(crate) struct Served {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) routes: Router,
    /// Whether each request gets a log line.
    pub(crate) log: bool,
}

/// A bound socket, and what is served on it.
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) socket: TcpListener,
    pub(crate) served: Arc<ArcSwap<Served>>,
    /// What is spoken without TLS.
    pub(crate) plain: Protocol,
    pub(crate) max_connections: usize,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Listener {
    /// Serves until the phase is [`Phase::Draining`], then until the last connection ended or it is
    /// [`Phase::Ended`]. No error ends it: there is nobody to hand one to, and the next connection may succeed.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let mut connections = JoinSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            telemetry::connections(self.name, connections.len());
            tokio::select! {
                () = reached(&mut phase, Phase::Draining) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        pause = FIRST_PAUSE;
                        while connections.try_join_next().is_some() {}
                        if connections.len() < self.max_connections {
                            connections.spawn(self.connection(stream, peer, phase.clone()));
                        } else {
                            telemetry::connection_refused(self.name);
                        }
                    }
                    Err(error) if of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                        self.clock.sleep(pause).await;
                        pause = LONGEST_PAUSE.min(pause * 2);
                    }
                },
            }
        }
        // Closed at once, so that whoever connects now is refused instead of left waiting.
        drop(self.socket);
        loop {
            telemetry::connections(self.name, connections.len());
            tokio::select! {
                joined = connections.join_next() => if joined.is_none() { break },
                () = reached(&mut phase, Phase::Ended) => {
                    tracing::warn!(listener = self.name, cut_off = connections.len(), "drain took too long");
                    connections.shutdown().await;
                    break;
                }
            }
        }
    }

    /// The whole life of one connection. It borrows nothing of the listener.
    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        phase: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (name, plain) = (self.name, self.plain);
        let (served, clock) = (Arc::clone(&self.served), Arc::clone(&self.clock));
        async move {
            // Small answers must not wait for acknowledgements of earlier ones.
            let _ = stream.set_nodelay(true);
            let tls = served.load().tls.clone();
            let Some(tls) = tls else {
                return converse(name, stream, plain, peer, served, clock, phase).await;
            };
            match within(&*clock, HANDSHAKE_LIMIT, tls.accept(stream)).await {
                Some(Ok(stream)) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let protocol = match (http2, plain) {
                        (false, _) => Protocol::Http1,
                        (true, Protocol::Grpc) => Protocol::Grpc,
                        (true, _) => Protocol::Http2,
                    };
                    converse(name, stream, protocol, peer, served, clock, phase).await;
                }
                Some(Err(error)) => tracing::debug!(listener = name, %peer, %error, "TLS handshake failed"),
                None => tracing::debug!(listener = name, %peer, "TLS handshake took too long"),
            }
        }
    }
}

/// Speaks HTTP with one peer until it leaves, is too slow, or the phase is draining and all is said.
pub(super) async fn converse<S>(
    name: &'static str,
    stream: S,
    protocol: Protocol,
    peer: SocketAddr,
    served: Arc<ArcSwap<Served>>,
    clock: Arc<dyn Clock>,
    mut phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(clock);
    let stream = TokioIo::new(Watched {
        stream,
        activity: Arc::clone(&activity),
        protocol,
    });
    let requests = Arc::clone(&activity);
    let of_heads = Arc::clone(&served);
    let refused = move |status| refused_head(name, peer.ip().to_canonical(), status, of_heads.load().log);
    let of_hosts = refused.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_flight = requests.begin();
        request.extensions_mut().insert(Peer(peer));
        let well_formed = names_one_host(&request);
        if !well_formed {
            of_hosts(StatusCode::BAD_REQUEST);
        }
        let answer = well_formed.then(|| {
            let mut routes = served.load().routes.clone();
            routes.call(request.map(Body::new))
        });
        async move {
            let response: Response<Body> = match answer {
                Some(answer) => answer.await?,
                None => bad_request("A request names one host, once."),
            };
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, in_flight, protocol)))
        }
    });
    // The two protocols' connections are different types with the same three methods.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            tokio::select! {
                result = connection.as_mut() => result,
                why = activity.too_slow() => return tracing::debug!(listener = name, %peer, why, "connection too slow"),
                () = reached(&mut phase, Phase::Draining) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = connection.as_mut() => result,
                        why = activity.too_slow() => {
                            return tracing::debug!(listener = name, %peer, why, "connection too slow");
                        }
                    }
                }
            }
        }};
    }
    let result = match protocol {
        Protocol::Http1 => drive!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Activity tells slow heads and idle connections apart, which this cannot.
                .header_read_timeout(None)
                .max_headers(MAX_HEADERS)
                .max_header_size(MAX_HEAD_BYTES)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(stream, service)
        ),
        Protocol::Http2 | Protocol::Grpc => drive!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .max_local_error_reset_streams(MAX_ERROR_RESETS)
                .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_LIMIT)
                .serve_connection(stream, service)
        ),
    };
    if let Err(error) = result {
        // hyper has answered so. HTTP/2 tells only the peer of what it refuses.
        if error.is_parse_too_large() {
            refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        } else if error.is_parse() {
            refused(StatusCode::BAD_REQUEST);
        }
        tracing::debug!(listener = name, %peer, %error, "connection failed");
    }
}

/// Ends when the phase is `wanted` or a later one, or when whoever moves it is gone.
pub(super) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// Whether an accept failed for what its one connection did: the next may follow at once.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
