//! Streams of tokens and the credentials that open them, with the real program.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    admin::{ADMIN, NARROW, digest},
    crash::Client,
    program::{Program, command, config, pause},
    tokens::{call, pair, service, text},
};

/// With so few connections that the limits of streams are met.
fn yaml() -> String {
    config(&service("")).replace("port: 0,", "port: 0, max_connections: 12,")
}

async fn open(
    program: &Program,
    secret: &str,
    query: &str,
    tasks: &mut JoinSet<()>,
) -> (StatusCode, Incoming) {
    let stream = TcpStream::connect(program.public).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let request = http::Request::get(format!("/tokens/stream{query}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {secret}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    (answer.status(), answer.into_body())
}

#[tokio::test]
async fn they_leave_connections_free_and_end_with_their_credential() {
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &yaml())).await;
    let family = pair(&program, r#"{"user_id":"a","auto_renew":false}"#).await;
    let query = format!("?parent_jti={}", text(&family, "parent_jti"));
    let mut tasks = JoinSet::new();
    let mut own = Vec::new();
    for _ in 0..6 {
        let (status, body) = open(&program, NARROW, &query, &mut tasks).await;
        assert_eq!(status, StatusCode::OK);
        own.push(body);
    }
    // Half of the connections for one credential, and nine of ten for all.
    let (status, body) = open(&program, NARROW, &query, &mut tasks).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let told = body.collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["error_code"], "too_many_streams");
    let mut others = Vec::new();
    for secret in [ADMIN, text(&family, "parent_token"), ADMIN, ADMIN] {
        let (status, body) = open(&program, secret, &query, &mut tasks).await;
        assert_eq!(status, StatusCode::OK);
        others.push(body);
    }
    let (status, _) = open(&program, ADMIN, &query, &mut tasks).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = call(&program, Method::GET, "/healthz", None, "").await;
    assert_eq!(answer.status, StatusCode::OK, "there is room for others");

    // Its secret is another one from now on.
    let changed = yaml().replace(&digest(NARROW), &digest("another"));
    std::fs::write(directory.path().join("tokenward.yaml"), changed).unwrap();
    program.signal(Signal::HUP);
    for body in own {
        let told = body.collect().await.unwrap().to_bytes();
        let told = String::from_utf8(told.to_vec()).unwrap();
        assert!(told.contains("event: connected"), "{told}");
        assert!(
            told.trim_end().lines().last().unwrap().starts_with("retry: "),
            "{told}"
        );
    }
    // One that comes back before the reload is through ends at once.
    while open(&program, NARROW, &query, &mut tasks).await.0 != StatusCode::UNAUTHORIZED {
        pause().await;
    }
    // Those of others go on until their family ends.
    let path = format!("/tokens/{}", text(&family, "parent_jti"));
    call(&program, Method::DELETE, &path, Some(ADMIN), "").await;
    for body in others {
        let told = body.collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&told).contains("event: revoked"));
    }
}

/// Streams where `scripts/soak streams` does not say how many.
const STREAMS: usize = 1_000;
/// Connections for all other calls.
const CLIENTS: usize = 32;
/// The most that a stream may keep in the program, in bytes: the buffers of its connection are most of it.
const EACH: usize = 48 * 1_024;

/// What streams have heard.
#[derive(Default)]
struct Heard {
    connected: AtomicUsize,
    token: AtomicUsize,
    revoked: AtomicUsize,
    ended: AtomicUsize,
}

impl Heard {
    /// Waits until so many have heard it.
    async fn until(counter: &AtomicUsize, count: usize) {
        for _ in 0..6_000 {
            if counter.load(Ordering::Relaxed) >= count {
                break;
            }
            pause().await;
        }
        assert_eq!(counter.load(Ordering::Relaxed), count);
    }
}

/// Opens the stream of a parent, and listens until it ends.
async fn listen(public: SocketAddr, parent: String, heard: Arc<Heard>) {
    let stream = TcpStream::connect(public).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let request = http::Request::get("/tokens/stream")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {parent}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    // It takes the sender along, or the connection would be kept for more.
    let told = async move {
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let told = frame.unwrap().into_data().unwrap();
            let told = str::from_utf8(&told).unwrap();
            for (event, counter) in [
                ("event: connected\n", &heard.connected),
                ("event: token\n", &heard.token),
                ("event: revoked\n", &heard.revoked),
            ] {
                counter.fetch_add(told.matches(event).count(), Ordering::Relaxed);
            }
        }
        heard.ended.fetch_add(1, Ordering::Relaxed);
    };
    let _ = tokio::join!(told, connection);
}

/// Makes the same call of many connections with each of `bearers`, and gives what `member` of the answers is.
async fn with_each(
    program: &Program,
    path: &'static str,
    bearers: &[&str],
    body: &'static str,
    member: &'static str,
) -> Vec<String> {
    let mut clients = JoinSet::new();
    for share in bearers.chunks(bearers.len().div_ceil(CLIENTS)) {
        let share: Vec<String> = share.iter().map(|bearer| (*bearer).to_owned()).collect();
        let mut client = Client::new(program).await;
        clients.spawn(async move {
            let mut said = Vec::new();
            for bearer in share {
                let (status, answer) = client.ask(Method::POST, path, &bearer, body).await.unwrap();
                assert!(status.is_success(), "{answer}");
                said.push(text(&answer, member).to_owned());
            }
            said
        });
    }
    clients.join_all().await.concat()
}

/// How often the store was asked for a family since `before`.
async fn looks(program: &Program, before: usize) -> usize {
    let metrics = program.admin("/metrics").await.text();
    let prefix = "tokenward_store_duration_seconds_count{operation=\"family\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(prefix));
    count.map_or(0, |count| count.parse::<usize>().unwrap()) - before
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how many is for whoever runs it to say")]
async fn each_of_many_streams_is_woken_by_its_event_alone() {
    let streams = std::env::var("TOKENWARD_STREAMS").map_or(STREAMS, |text| text.parse().unwrap());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let connections = streams + streams / 8 + CLIENTS;
    let service = service("") + "limits: { token_api: { per_address: off } }\n";
    let yaml = config(&service)
        .replace("port: 0,", &format!("port: 0, max_connections: {connections},"))
        .replace("memory:", "sqlite:./data");
    let directory = TempDir::new().unwrap();
    let program = Program::run(command(&directory, &yaml)).await;
    let bounded = program
        .output()
        .iter()
        .any(|line| line.contains("admin_connections"));
    assert!(
        !bounded,
        "the limit of open files is too small for {streams} streams"
    );
    let body = r#"{"user_id":"alice","auto_renew":false}"#;
    let parents = with_each(
        &program,
        "/token-pairs",
        &vec![ADMIN; streams],
        body,
        "parent_token",
    )
    .await;

    let looked = looks(&program, 0).await;
    let before = program.resident();
    let each = || program.resident().saturating_sub(before) / streams;
    let heard = Arc::new(Heard::default());
    let mut listeners = JoinSet::new();
    for (n, parent) in parents.iter().enumerate() {
        // No more at once than the kernel lets wait.
        if n % 256 == 0 {
            Heard::until(&heard.connected, n).await;
        }
        listeners.spawn(listen(program.public, parent.clone(), Arc::clone(&heard)));
    }
    Heard::until(&heard.connected, streams).await;
    let at_rest = each();
    assert_eq!(looks(&program, looked).await, streams, "each looks once");
    for _ in 0..100 {
        pause().await;
    }
    assert_eq!(looks(&program, looked).await, streams, "nobody polls");

    let tokens: Vec<&str> = parents.iter().map(String::as_str).collect();
    with_each(&program, "/renew", &tokens[..1], "", "token").await;
    Heard::until(&heard.token, 1).await;
    assert_eq!(
        looks(&program, looked).await,
        streams + 2,
        "who renews, and the one that hears of it"
    );
    with_each(&program, "/renew", &tokens[1..], "", "token").await;
    Heard::until(&heard.token, streams).await;
    let after = each();
    assert_eq!(looks(&program, looked).await, 3 * streams);

    // Its record waits behind those of all the calls before it, and may wait too long: then it is asked for once more.
    let mut gone = StatusCode::SERVICE_UNAVAILABLE;
    while gone == StatusCode::SERVICE_UNAVAILABLE {
        let path = "/users/alice/tokens";
        gone = call(&program, Method::DELETE, path, Some(ADMIN), "").await.status;
    }
    assert!(gone.is_success(), "{gone}");
    Heard::until(&heard.revoked, streams).await;
    Heard::until(&heard.ended, streams).await;
    assert_eq!(
        looks(&program, looked).await,
        3 * streams,
        "one write ends them all"
    );
    while let Some(listened) = listeners.join_next().await {
        listened.unwrap();
    }
    println!(
        "{streams} open streams: {at_rest} bytes for each at rest, {after} after an event, sockets included"
    );
    assert!(
        at_rest < EACH && after < EACH,
        "{at_rest} and {after} bytes for each stream"
    );
}
