//! The key server: a key set of its own for each provider, from memory, as quickly as it can.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The word that makes this program the key server.
pub(crate) const SERVE: &str = "key-server";
/// RSA keys to choose pairs from: 450 × 449 ordered pairs are over 200,000.
const POOL: usize = 450;
/// Loopback addresses that it listens on. Each connection takes a port of the client for a minute, and there are
/// only so many for each address.
const ADDRESSES: u8 = 16;
/// Answers the number of requests so far.
const COUNT: &str = "/count";

/// The key server in a process of its own. It ends when this is dropped.
pub(crate) struct KeyServer {
    child: Child,
    port: u16,
}

impl KeyServer {
    /// Starts one for `n` providers.
    pub(crate) fn start(n: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([SERVE, &n.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line
                .trim()
                .parse()
                .unwrap_or_else(|_| panic!("the key server said {line:?}")),
        }
    }

    /// Where provider `n` has its keys.
    pub(crate) fn address(&self, n: usize) -> SocketAddr {
        address(n, self.port)
    }

    pub(crate) fn url(&self, n: usize) -> String {
        format!("http://{}{}", self.address(n), path(n))
    }

    /// How many key sets it was asked for so far.
    pub(crate) async fn requests(&self) -> usize {
        let mut stream = TcpStream::connect(self.address(0)).await.unwrap();
        stream
            .write_all(format!("GET {COUNT} HTTP/1.1\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.rsplit("\r\n").next().unwrap().parse().unwrap()
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn path(n: usize) -> String {
    format!("/k/{n}")
}

fn address(n: usize, port: u16) -> SocketAddr {
    let host = 1 + u8::try_from(n % usize::from(ADDRESSES)).unwrap();
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port))
}

/// Serves until standard input ends.
pub(crate) fn serve(n: usize) {
    let pool = Arc::new(pool());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let first = TcpListener::bind(address(0, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for host in 1..usize::from(ADDRESSES) {
            listeners.push(TcpListener::bind(address(host, port)).await.unwrap());
        }
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, Arc::clone(&pool), Arc::clone(&asked), n));
        }
        println!("{port}");
        std::io::stdout().flush().unwrap();
        accepting.join_all().await;
    });
}

async fn accept(listener: TcpListener, pool: Arc<Vec<String>>, asked: Arc<AtomicUsize>, n: usize) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream, Arc::clone(&pool), Arc::clone(&asked), n));
        }
    }
}

/// One request and its answer.
async fn answer(mut stream: TcpStream, pool: Arc<Vec<String>>, asked: Arc<AtomicUsize>, n: usize) {
    let mut head = Vec::with_capacity(1_024);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
            continue;
        }
        return;
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let known = head.to_ascii_lowercase().contains("\r\nif-none-match:");
    let idp = target
        .strip_prefix("/k/")
        .and_then(|idp| idp.parse().ok())
        .filter(|idp| *idp < n);
    let reply = match idp {
        _ if target == COUNT => plain(&asked.load(Ordering::Acquire).to_string()),
        Some(idp) if known => {
            format!("HTTP/1.1 304 Not Modified\r\netag: \"{idp}-1\"\r\nconnection: close\r\n\r\n")
        }
        Some(idp) => {
            let set = key_set(&pool, idp);
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"{idp}-1\"\r\n\
                 cache-control: public, max-age=86400\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{set}",
                set.len()
            )
        }
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(reply.as_bytes()).await;
    if idp.is_some() {
        asked.fetch_add(1, Ordering::AcqRel);
    }
    let _ = stream.shutdown().await;
}

fn plain(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Two keys under ids of this provider alone.
fn key_set(pool: &[String], idp: usize) -> String {
    let first = idp % pool.len();
    let second = (first + 1 + idp / pool.len() % (pool.len() - 1)) % pool.len();
    let mut set = String::from(r#"{"keys":["#);
    for (place, key) in [first, second].into_iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(
            set,
            r#"{comma}{{"kty":"RSA","use":"sig","alg":"RS256","kid":"{place}-{idp:06}-0WEaSzpUMuCPzYXsmOlRcg","n":"{}","e":"AQAB"}}"#,
            pool[key]
        );
    }
    set.push_str("]}");
    set
}

/// Moduli of real keys. Making them takes a while, so they are kept for the next time.
fn pool() -> Vec<String> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scale-moduli");
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let mut pool: Vec<String> = kept.lines().map(str::to_owned).collect();
    if pool.len() < POOL {
        eprintln!("making {POOL} RSA keys, once");
        let half =
            || std::thread::Builder::new().spawn(|| (0..POOL / 2).map(|_| modulus()).collect::<Vec<_>>());
        let halves = [half().unwrap(), half().unwrap()];
        pool = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
        std::fs::write(&file, pool.join("\n")).unwrap();
    }
    let distinct: HashMap<&str, ()> = pool.iter().map(|modulus| (modulus.as_str(), ())).collect();
    assert_eq!(distinct.len(), POOL, "{} is damaged: remove it", file.display());
    pool
}

fn modulus() -> String {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    // In an `RSAPublicKey` of this size the modulus stands behind two heads of four bytes and a zero.
    URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[9..265])
}
