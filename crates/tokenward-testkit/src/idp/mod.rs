//! A scriptable identity provider on loopback.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

mod behaviour;
mod serve;
mod wire;

use crate::{Leaf, TestKey, TestPki, key_set};
pub use behaviour::{Behaviour, Decider, Served};

/// Where the key set is.
pub const JWKS_PATH: &str = "/jwks";
/// Where the discovery document is (OpenID Connect Discovery 1.0 section 4).
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Where RFC 8414 puts it.
pub(crate) const OAUTH_DISCOVERY_PATH: &str = "/.well-known/oauth-authorization-server";

/// How many of the newest requests are remembered, and how many different paths are counted: a server that runs
/// for days is to stay as small as it was.
const REMEMBERED: usize = 100_000;

/// Gives the TLS configuration that the next connection is accepted with.
pub(crate) type TlsNow = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// Which validators normal answers carry and honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validators {
    /// Neither; never 304.
    None,
    /// `ETag`.
    ETag,
    /// `Last-Modified`, which moves with every change of the document.
    LastModified,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: http::Method,
    /// Path without query.
    pub path: String,
    /// Query without the question mark.
    pub query: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, of which 64 KiB are read at most.
    pub body: Bytes,
}

/// An identity provider on a free port of 127.0.0.1.
///
/// It runs on a thread and runtime of its own, so it works within any runtime and without one, and in real
/// time whatever a test does to tokio's. It begins with an empty key set at [`JWKS_PATH`] and a discovery
/// document at [`DISCOVERY_PATH`]; other paths answer 404 until they are given a document or a behaviour.
/// Dropping it closes every connection and joins the thread.
#[derive(Debug)]
pub struct IdpServer {
    shared: Arc<Shared>,
    base: String,
    address: SocketAddr,
    leaf_spki: Option<[u8; 32]>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Number of requests that have arrived; moves after the request was recorded.
    arrived: watch::Sender<usize>,
    /// Moves with every release of what is held.
    released: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    documents: BTreeMap<String, Document>,
    discovery: Value,
    standing: BTreeMap<String, Behaviour>,
    next: BTreeMap<String, VecDeque<Behaviour>>,
    validators: Validators,
    requests: VecDeque<Request>,
    hits: HashMap<String, usize>,
    connections: usize,
}

#[derive(Clone, Debug)]
struct Document {
    body: Vec<u8>,
    /// How often it was changed.
    revision: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdpServer {
    /// Starts one that speaks cleartext HTTP/1.1 and HTTP/2.
    ///
    /// # Panics
    ///
    /// If there is no free port or no thread to be had.
    #[must_use]
    pub fn spawn() -> Self {
        Self::listen(loopback(), None).expect("loopback has a free port")
    }

    /// Starts one that speaks TLS, with a leaf certificate of this kind.
    ///
    /// # Panics
    ///
    /// As [`IdpServer::spawn`].
    #[must_use]
    pub fn spawn_tls(pki: &TestPki, leaf: Leaf) -> Self {
        let (config, spki) = pki.server(leaf);
        let tls: TlsNow = Arc::new(move || Arc::clone(&config));
        let mut server = Self::listen(loopback(), Some(tls)).expect("loopback has a free port");
        server.leaf_spki = Some(spki);
        server
    }

    /// Starts one at `address`, over TLS where `tls` gives the configuration of each connection.
    pub(crate) fn listen(address: SocketAddr, tls: Option<TlsNow>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                documents: BTreeMap::new(),
                discovery: json!({"issuer": base, "jwks_uri": format!("{base}{JWKS_PATH}")}),
                standing: BTreeMap::new(),
                next: BTreeMap::new(),
                validators: Validators::ETag,
                requests: VecDeque::new(),
                hits: HashMap::new(),
                connections: 0,
            }),
            arrived: watch::Sender::new(0),
            released: watch::Sender::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let script = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("test-idp".to_owned())
            .spawn(move || serve::run(listener, tls, &script, stopped))?;
        let server = Self {
            shared,
            base,
            address,
            leaf_spki: None,
            stop: Some(stop),
            thread: Some(thread),
        };
        server.set_keys(&[]);
        Ok(server)
    }

    /// Scheme, address and port, without a slash at the end; the issuer unless it was set.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The listening address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The absolute URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The absolute URL of the key set.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        self.url(JWKS_PATH)
    }

    /// The `issuer` of the discovery document.
    #[must_use]
    pub fn issuer(&self) -> String {
        let state = self.shared.state();
        state
            .discovery
            .get("issuer")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// SHA-256 of the leaf's SubjectPublicKeyInfo; `None` without TLS.
    #[must_use]
    pub fn leaf_spki(&self) -> Option<[u8; 32]> {
        self.leaf_spki
    }

    /// Replaces the key set at [`JWKS_PATH`] with the public keys of these.
    pub fn set_keys(&self, keys: &[&TestKey]) {
        self.set_keys_at(JWKS_PATH, keys);
    }

    /// Replaces or adds a key set at another path, for one server that stands for many providers.
    pub fn set_keys_at(&self, path: &str, keys: &[&TestKey]) {
        self.set_document(path, key_set(keys).to_string());
    }

    /// Replaces or adds the document at a path, byte for byte.
    pub fn set_document(&self, path: &str, body: impl Into<Vec<u8>>) {
        let mut state = self.shared.state();
        let revision = state.documents.get(path).map_or(0, |old| old.revision + 1);
        let body = body.into();
        state
            .documents
            .insert(path.to_owned(), Document { body, revision });
    }

    /// Sets a member of the discovery document, `issuer` and `jwks_uri` too; `null` takes it out.
    pub fn set_discovery(&self, name: &str, value: impl Into<Value>) {
        let mut state = self.shared.state();
        if let Some(document) = state.discovery.as_object_mut() {
            match value.into() {
                Value::Null => document.remove(name),
                value => document.insert(name.to_owned(), value),
            };
        }
    }

    /// Which validators normal answers carry; [`Validators::ETag`] at first.
    pub fn set_validators(&self, validators: Validators) {
        self.shared.state().validators = validators;
    }

    /// What this path does from now on.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.shared.state().standing.insert(path.to_owned(), behaviour);
    }

    /// What this path does for one request, after those already queued and before its standing behaviour.
    pub fn behave_once(&self, path: &str, behaviour: Behaviour) {
        let mut state = self.shared.state();
        state
            .next
            .entry(path.to_owned())
            .or_default()
            .push_back(behaviour);
    }

    /// Lets every request go on that [`Behaviour::Hold`] holds now; later ones are held again.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// How many requests for this path have arrived.
    #[must_use]
    pub fn hits(&self, path: &str) -> usize {
        self.shared.state().hits.get(path).copied().unwrap_or(0)
    }

    /// The newest 100,000 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.iter().cloned().collect()
    }

    /// The last request for this path.
    #[must_use]
    pub fn last_request(&self, path: &str) -> Option<Request> {
        let state = self.shared.state();
        state
            .requests
            .iter()
            .rfind(|request| request.path == path)
            .cloned()
    }

    /// How many connections were accepted, before any TLS handshake.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Waits until `count` requests for this path have arrived, for ever if they do not.
    pub async fn wait_for_hits(&self, path: &str, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = arrived.wait_for(|_| self.hits(path) >= count).await;
    }
}

impl State {
    fn record(&mut self, request: Request) {
        if self.hits.len() < REMEMBERED || self.hits.contains_key(&request.path) {
            *self.hits.entry(request.path.clone()).or_default() += 1;
        }
        if self.requests.len() == REMEMBERED {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Drop for IdpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has already been printed; a second one here would abort the test run.
            let _ = thread.join();
        }
    }
}
