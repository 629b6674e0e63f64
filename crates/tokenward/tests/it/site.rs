//! A server whose every byte a test decides on, and what fetching from it needs.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokenward::{
    SystemClock,
    fetch::{Fetch, FetchError, FetchRequest, FetchResponse, Guards, HttpFetcher, Resolve},
};
use tokenward_core::{BoxFuture, Clock, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// The same again and again, with a pause between.
    Repeat(Vec<u8>, Duration),
    Hang,
}

pub(crate) type Steps = Vec<Step>;

/// A whole answer with a `Content-Length`.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Steps {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    vec![Step::Send([head.as_bytes(), body].concat())]
}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Steps {
    answer(200, &[], body)
}

pub(crate) fn redirect(to: &str) -> Steps {
    answer(302, &[("Location", to)], "")
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// How many came before it.
    pub(crate) before: usize,
    pub(crate) head: String,
}

impl Ask {
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A server on 127.0.0.1. It ends when it is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    asks: Mutex<Vec<Ask>>,
    connections: AtomicUsize,
    /// Connections that the other side closed while the server hung.
    abandoned: AtomicUsize,
    resumed: AtomicUsize,
}

impl Site {
    pub(crate) async fn http(script: impl Fn(&Ask) -> Steps + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(script)).await
    }

    pub(crate) async fn https(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&Ask) -> Steps + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(TlsAcceptor::from(tls)), Arc::new(script)).await
    }

    async fn start(tls: Option<TlsAcceptor>, script: Arc<dyn Fn(&Ask) -> Steps + Send + Sync>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, script, Arc::clone(&log)));
        Self {
            address,
            log,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.at("127.0.0.1", path)
    }

    pub(crate) fn at(&self, host: &str, path: &str) -> Url {
        Url::parse(&format!("http://{host}:{}{path}", self.address.port())).unwrap()
    }

    pub(crate) fn secure(&self, host: &str, path: &str) -> Url {
        Url::parse(&format!("https://{host}:{}{path}", self.address.port())).unwrap()
    }

    pub(crate) fn asks(&self) -> Vec<Ask> {
        self.log.asks.lock().unwrap().clone()
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.asks().iter().map(|ask| ask.target().to_owned()).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn resumed(&self) -> usize {
        self.log.resumed.load(Ordering::SeqCst)
    }

    /// Waits until a connection on which the server hangs was closed by the other side.
    pub(crate) async fn abandoned(&self) {
        let clock = SystemClock::new();
        for _ in 0..400 {
            if self.log.abandoned.load(Ordering::SeqCst) > 0 {
                return;
            }
            clock.sleep(Duration::from_millis(5)).await;
        }
        panic!("the connection was not closed");
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    script: Arc<dyn Fn(&Ask) -> Steps + Send + Sync>,
    log: Arc<Log>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        log.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, script, log) = (tls.clone(), Arc::clone(&script), Arc::clone(&log));
        connections.spawn(async move {
            // A client that refuses the certificate breaks the handshake off: that is its test's matter.
            let _ = serve(stream, tls, &*script, &log).await;
        });
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    script: &(dyn Fn(&Ask) -> Steps + Send + Sync),
    log: &Log,
) -> io::Result<()> {
    match tls {
        None => perform(stream, script, log).await,
        Some(tls) => {
            let stream = tls.accept(stream).await?;
            if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                log.resumed.fetch_add(1, Ordering::SeqCst);
            }
            perform(stream, script, log).await
        }
    }
}

async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: &(dyn Fn(&Ask) -> Steps + Send + Sync),
    log: &Log,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let ask = {
        let mut asks = log.asks.lock().unwrap();
        let ask = Ask {
            before: asks.len(),
            head: String::from_utf8(head).unwrap(),
        };
        asks.push(ask.clone());
        ask
    };
    for step in script(&ask) {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await?,
            Step::Repeat(bytes, pause) => loop {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                SystemClock::new().sleep(pause).await;
            },
            Step::Hang => {
                stream.flush().await?;
                // Nothing more comes from the client but its end.
                let _ = stream.read_u8().await;
                log.abandoned.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    stream.shutdown().await
}

/// A resolver whose answers a test chooses: for each name a list, of which the last stays.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    lookups: AtomicUsize,
}

impl Names {
    pub(crate) fn new(entries: &[(&str, &[&str])]) -> Arc<Self> {
        let parse = |answer: &&str| {
            answer
                .split(' ')
                .filter(|a| !a.is_empty())
                .map(|a| a.parse().unwrap())
                .collect()
        };
        let answers = entries
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().rev().map(parse).collect()))
            .collect();
        Arc::new(Self {
            answers: Mutex::new(answers),
            lookups: AtomicUsize::new(0),
        })
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            self.lookups.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.answers.lock().unwrap();
            let answers = answers
                .get_mut(host)
                .ok_or_else(|| io::Error::other("no such host"))?;
            Ok(if answers.len() > 1 {
                answers.pop().unwrap()
            } else {
                answers[0].clone()
            })
        })
    }
}

/// The system's clock with time running ten times as fast, so that the product's own limits can be waited for.
#[derive(Clone, Debug)]
pub(crate) struct Hasty(SystemClock, Timestamp);

const HASTE: u32 = 10;

impl Hasty {
    pub(crate) fn new() -> Arc<Self> {
        let clock = SystemClock::new();
        Arc::new(Self(clock, clock.steady()))
    }

    fn hasten(&self, time: Timestamp) -> Timestamp {
        self.1 + time.since(self.1) * HASTE
    }
}

impl Clock for Hasty {
    fn wall(&self) -> Timestamp {
        self.hasten(self.0.wall())
    }

    fn steady(&self) -> Timestamp {
        self.hasten(self.0.steady())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / HASTE)
    }
}

/// Guards that let a fetch reach a plain server on this host.
pub(crate) fn local() -> Guards {
    Guards {
        allow_http: true,
        allow_private_addresses: true,
        ..Guards::default()
    }
}

pub(crate) fn fetcher() -> HttpFetcher {
    HttpFetcher::new(Arc::new(SystemClock::new())).unwrap()
}

pub(crate) async fn fetch(guards: Guards, url: Url) -> Result<FetchResponse, FetchError> {
    fetch_with(&fetcher(), guards, url).await
}

pub(crate) async fn fetch_with(
    fetcher: &HttpFetcher,
    guards: Guards,
    url: Url,
) -> Result<FetchResponse, FetchError> {
    fetcher.fetch(&FetchRequest::key_set(url, Arc::new(guards))).await
}

/// The code of a failure, or `ok`.
pub(crate) fn code(result: &Result<FetchResponse, FetchError>) -> &'static str {
    result.as_ref().map_or_else(FetchError::code, |_| "ok")
}
