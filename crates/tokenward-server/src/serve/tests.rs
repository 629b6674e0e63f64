//! What a listener bears: slow, many, large and hostile connections, and its own end.

mod grpc;
mod http1;
mod http2;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Body,
    response::IntoResponse as _,
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokenward_core::Timestamp;
use tokenward_testkit::ManualClock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    connection::Protocol,
    listener::{Listener, Phase, Served, converse},
};

/// More than any buffer of the system takes.
const LARGE: usize = 80 << 20;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// A running listener, its clock, and a gate that `/slow` waits at.
struct Running {
    address: SocketAddr,
    clock: Arc<ManualClock>,
    phase: watch::Sender<Phase>,
    gate: Arc<Semaphore>,
    waiting: watch::Receiver<usize>,
    tasks: JoinSet<()>,
}

impl Running {
    async fn start(max_connections: usize, tls: Option<TlsAcceptor>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let (phase, phases) = watch::channel(Phase::Serving);
        let gate = Arc::new(Semaphore::new(0));
        let (arrived, waiting) = watch::channel(0);
        let (arrived, pass) = (Arc::new(arrived), Arc::clone(&gate));
        let slow = move || async move {
            arrived.send_modify(|waiting| *waiting += 1);
            pass.acquire().await.unwrap().forget();
            "done"
        };
        let times = Arc::clone(&clock);
        let read = move |body: Body| async move {
            match crate::http::read(body, &*times).await {
                Ok(body) => body.len().to_string().into_response(),
                Err(rejected) => rejected.into_response(),
            }
        };
        let routes = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/body", post(read))
            .route("/events", get(|| async { Body::new(Events(false)) }))
            .route("/large", get(|| async { Body::from(vec![b'x'; LARGE]) }));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener {
            name: "test",
            socket,
            plain: Protocol::Http1,
            served: Arc::new(ArcSwap::from_pointee(Served {
                tls,
                routes,
                log: false,
            })),
            max_connections,
            clock: Arc::clone(&clock) as _,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(phases));
        Self {
            address,
            clock,
            phase,
            gate,
            waiting,
            tasks,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Lets `seconds` pass in steps, so that whoever sleeps in a loop gets to sleep again.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            settle().await;
            self.clock.advance(Duration::from_secs(1));
        }
        settle().await;
    }

    async fn arrived(&mut self, requests: usize) {
        self.waiting
            .wait_for(|waiting| *waiting >= requests)
            .await
            .unwrap();
    }

    async fn ended(mut self) {
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

/// One event, and then nothing, without an end.
struct Events(bool);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"event"))))),
            true => Poll::Pending,
        }
    }
}

/// Lets every other task do what it can do now. Sockets need the runtime's driver to be polled in between.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// What the other end sends until it closes. A reset is an end too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

/// Whether the connection still answers.
async fn alive(stream: &mut TcpStream) -> bool {
    ask(stream, GET).await.starts_with("HTTP/1.1 200 ")
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let running = Running::start(10, None).await;
    let mut slow = running.connect().await;
    assert!(alive(&mut slow).await);
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    running.pass(8).await;
    // One more byte buys no more time.
    slow.write_all(b"y").await.unwrap();
    running.pass(5).await;
    assert_eq!(rest(&mut slow).await, "");
}

#[tokio::test]
async fn a_connection_that_never_asks_is_cut_off() {
    let running = Running::start(10, None).await;
    let mut silent = running.connect().await;
    running.pass(13).await;
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while() {
    let running = Running::start(10, None).await;
    let mut idle = running.connect().await;
    assert!(alive(&mut idle).await);
    running.pass(60).await;
    assert!(
        alive(&mut idle).await,
        "proxies keep idle connections for up to a minute"
    );
    running.pass(78).await;
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn a_slow_answer_is_not_a_slow_client() {
    let mut running = Running::start(10, None).await;
    let mut client = running.connect().await;
    client
        .write_all(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    running.arrived(1).await;
    running.pass(100).await;
    running.gate.add_permits(1);
    assert!(ask(&mut client, b"").await.ends_with("done"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let running = Running::start(1, None).await;
    let mut stuck = running.connect().await;
    stuck
        .write_all(b"GET /large HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    running.pass(15).await;
    assert_eq!(rest(&mut running.connect().await).await, "", "its place is taken");
    running.pass(10).await;
    assert!(
        alive(&mut running.connect().await).await,
        "its place is free again"
    );
}

#[tokio::test]
async fn a_client_that_takes_its_time_is_not() {
    let running = Running::start(1, None).await;
    let mut slow = running.connect().await;
    slow.write_all(b"GET /large HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut piece = vec![0; 8 << 20];
    let mut taken = 0;
    // Longer than an idle connection may last.
    for _ in 0..8 {
        taken += slow.read_exact(&mut piece).await.unwrap();
        running.pass(15).await;
    }
    taken += rest(&mut slow).await.len();
    assert!(taken > LARGE, "{taken}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let running = Running::start(2, None).await;
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    assert!(alive(&mut first).await && alive(&mut second).await);
    let mut third = running.connect().await;
    assert_eq!(rest(&mut third).await, "");
    assert!(alive(&mut first).await, "those that are open are not disturbed");
    drop(second);
    settle().await;
    let mut fourth = running.connect().await;
    assert!(alive(&mut fourth).await);
}

#[tokio::test]
async fn heads_are_bounded() {
    let running = Running::start(10, None).await;
    let head = |extra: String| format!("GET / HTTP/1.1\r\nhost: test\r\n{extra}\r\n");
    let fits = head(format!("x: {}\r\n", "y".repeat(24 * 1024)));
    let too_long = head(format!("x: {}\r\n", "y".repeat(40 * 1024)));
    let too_many = head((0..101).map(|n| format!("x-{n}: y\r\n")).collect());
    let target = format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "y".repeat(40 * 1024));
    for (request, statuses) in [
        (fits, &["200"][..]),
        (too_long, &["431"]),
        (too_many, &["431"]),
        (target, &["414", "431"]),
    ] {
        let mut client = running.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        let status = String::from_utf8_lossy(&answer[9..]).into_owned();
        assert!(
            statuses.contains(&status.as_str()),
            "{status} for {} bytes",
            request.len()
        );
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let running = Running::start(100, None).await;
    for hostile in [
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = running.connect().await;
        client.write_all(hostile.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{hostile:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn draining_lets_requests_in_flight_finish() {
    let mut running = Running::start(1000, None).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = running.connect().await;
        client
            .write_all(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .unwrap();
        clients.push(client);
    }
    let mut idle = running.connect().await;
    assert!(alive(&mut idle).await);
    running.arrived(100).await;
    running.phase.send_replace(Phase::Leaving);
    settle().await;
    assert!(alive(&mut idle).await, "leaving is not draining");
    running.phase.send_replace(Phase::Draining);
    assert_eq!(rest(&mut idle).await, "", "idle connections are closed");
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "nothing new is accepted"
    );
    running.gate.add_permits(100);
    for client in &mut clients {
        let answer = rest(client).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"),
            "{answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
    }
    running.ended().await;
}

#[tokio::test]
async fn the_end_does_not_wait() {
    let mut running = Running::start(10, None).await;
    let mut client = running.connect().await;
    client
        .write_all(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    running.arrived(1).await;
    running.phase.send_replace(Phase::Ended);
    running.ended().await;
    assert_eq!(rest(&mut client).await, "");
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    (
        TlsAcceptor::from(Arc::new(server)),
        TlsConnector::from(Arc::new(client)),
    )
}

#[tokio::test]
async fn tls_speaks_http_2_and_survives_bad_handshakes() {
    let (acceptor, connector) = tls();
    let running = Running::start(10, Some(acceptor)).await;
    let mut garbage = running.connect().await;
    garbage.write_all(GET).await.unwrap();
    rest(&mut garbage).await;

    let stream = connector
        .connect(
            ServerName::try_from("localhost").unwrap(),
            running.connect().await,
        )
        .await
        .unwrap();
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = || {
        Request::get("https://localhost/")
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let answer = requests.send_request(request()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "here");

    // Draining says goodbye instead of cutting off.
    running.phase.send_replace(Phase::Draining);
    tasks.join_next().await.unwrap().unwrap().unwrap();
    running.ended().await;
}

#[tokio::test]
async fn a_handshake_that_hangs_is_given_up() {
    let (acceptor, _) = tls();
    let running = Running::start(10, Some(acceptor)).await;
    let mut silent = running.connect().await;
    running.pass(11).await;
    assert_eq!(rest(&mut silent).await, "");
}
