//! What the program keeps resident under floods: a bound that the number of requests does not move.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{IdpServer, TestKey, TokenBuilder, compact};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::program::{Program, config, pause, wait_for};

const ISSUER: &str = "https://issuer.test";
const MIB: usize = 1 << 20;

async fn start(server: &str) -> (Program, IdpServer) {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key()]);
    let yaml = config(&format!(
        "logging: {{ requests: false }}\n\
         idps: [{{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}]\n",
        upstream.jwks_url()
    ));
    let program = Program::start(&yaml.replacen("server: {", &format!("server: {{ {server}"), 1)).await;
    program.loaded("a").await;
    (program, upstream)
}

fn key() -> TestKey {
    TestKey::es256(0).with_kid("k")
}

fn good() -> TokenBuilder {
    TokenBuilder::new(SystemClock::new().wall())
        .issuer(ISSUER)
        .audience("api")
        .expires_in(Duration::from_secs(3_600))
}

/// Judges the tokens of these numbers over a few connections that stay open, and expects one of these answers to each.
async fn judge(
    program: &Program,
    numbers: std::ops::Range<usize>,
    token: fn(usize) -> String,
    statuses: &'static [StatusCode],
) {
    const CONNECTIONS: usize = 4;
    let mut clients = JoinSet::new();
    for client in 0..CONNECTIONS {
        let (address, numbers) = (program.public, numbers.clone());
        clients.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .unwrap();
            let asking = async {
                for n in numbers.skip(client).step_by(CONNECTIONS) {
                    let request = Request::get("/authorize")
                        .header("host", "test")
                        .header("authorization", format!("Bearer {}", token(n)))
                        .body(Empty::<Bytes>::new())
                        .unwrap();
                    let answer = requests.send_request(request).await.unwrap();
                    assert!(
                        statuses.contains(&answer.status()),
                        "token {n}: {}",
                        answer.status()
                    );
                    answer.into_body().collect().await.unwrap();
                }
                drop(requests);
            };
            let (_, ended) = tokio::join!(asking, connection);
            ended.unwrap();
        });
    }
    clients.join_all().await;
}

/// A token that is well-formed and cannot be verified.
fn forged(issuer: &str, kid: &str) -> String {
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let exp = SystemClock::new().wall().as_secs() + 3_600;
    let claims = format!(r#"{{"iss":"{issuer}","aud":"api","exp":{exp}}}"#);
    compact(header.as_bytes(), claims.as_bytes(), &[7; 64])
}

/// That `flood` for further numbers adds less than `most` bytes to what the first ones have brought about.
async fn grows_less(
    program: &Program,
    most: usize,
    token: fn(usize) -> String,
    statuses: &'static [StatusCode],
) {
    judge(program, 0..2_000, token, statuses).await;
    let before = program.resident();
    judge(program, 2_000..12_000, token, statuses).await;
    let after = program.resident();
    assert!(after < before + most, "{before} bytes, then {after}");
}

#[tokio::test]
async fn random_key_ids_leave_nothing_behind() {
    // The few that the budget allows to look for are known to be absent, the others could not be looked for.
    const UNKNOWN: &[StatusCode] = &[StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE];
    let (program, _upstream) = start("").await;
    let token = |n| forged(ISSUER, &format!("key-{n}-{}", "x".repeat(200)));
    grows_less(&program, 2 * MIB, token, UNKNOWN).await;
}

#[tokio::test]
async fn random_issuers_leave_nothing_behind() {
    let (program, _upstream) = start("").await;
    let token = |n| forged(&format!("https://issuer-{n}.test/{}", "x".repeat(200)), "k");
    grows_less(&program, 2 * MIB, token, &[StatusCode::UNAUTHORIZED]).await;
}

#[tokio::test]
async fn good_tokens_fill_their_cache_and_no_more() {
    let (program, _upstream) = start("").await;
    // As large as tokens may be, so that few of them fill the 64 MiB.
    let token = |n: usize| {
        good()
            .token_id(&n.to_string())
            .claim("note", "x".repeat(10_000))
            .sign(&key())
    };
    let empty = program.resident();
    judge(&program, 0..4_000, token, &[StatusCode::OK]).await;
    let full = program.resident();
    judge(&program, 4_000..8_000, token, &[StatusCode::OK]).await;
    let later = program.resident();
    println!("{empty} bytes without tokens, {full} after 4,000, {later} after 8,000");
    assert!(full > empty + 16 * MIB, "nothing is cached: {empty}, then {full}");
    assert!(later < full + 8 * MIB, "{full}, then {later}");
    assert!(later < empty + 96 * MIB, "{empty}, then {later}");
}

#[tokio::test]
async fn too_many_connections_cost_what_the_allowed_ones_do() {
    let (program, _upstream) = start("max_connections: 300, ").await;
    let before = program.resident();
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(TcpStream::connect(program.public).await.unwrap());
    }
    let sockets = wait_for(|| Some(program.sockets()).filter(|sockets| *sockets >= 300)).await;
    assert!(sockets.is_some(), "{} sockets are open", program.sockets());
    let allowed = program.resident();
    for _ in 0..2_700 {
        open.push(TcpStream::connect(program.public).await.unwrap());
    }
    let sockets = wait_for(|| Some(program.sockets()).filter(|sockets| *sockets < 320)).await;
    let after = program.resident();
    println!(
        "{before} bytes before, {allowed} with the 300 connections that are allowed, {after} with 3,000"
    );
    assert!(sockets.is_some(), "{} sockets are open", program.sockets());
    // Where they are refused they leave nothing, but for what the allocator keeps.
    assert!(after < allowed + 3 * MIB, "{allowed}, then {after}");
    assert!(allowed < before + 12 * MIB, "{before}, then {allowed}");
    drop(open);
}

#[tokio::test]
async fn slow_clients_hold_their_buffers_and_no_more() {
    const CLIENTS: usize = 300;
    let (program, _upstream) = start("").await;
    let before = program.resident();
    let (mut heads, mut bodies, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        // A head that never ends, all but as large as one may be.
        let mut head = TcpStream::connect(program.public).await.unwrap();
        let start = format!(
            "GET /authorize HTTP/1.1\r\nhost: test\r\nx-slow: {}",
            "x".repeat(30_000)
        );
        head.write_all(start.as_bytes()).await.unwrap();
        heads.push(head);
        // A body that was announced to be large, and is sent until nobody takes it.
        let mut body = TcpStream::connect(program.public).await.unwrap();
        let start = "POST /authorize HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n";
        body.write_all(start.as_bytes()).await.unwrap();
        for _ in 0..64 {
            if !body.try_write(&[b'x'; 16_384]).is_ok_and(|written| written > 0) {
                break;
            }
        }
        bodies.push(body);
        // Requests one after another, whose answers are never read.
        let mut reader = TcpStream::connect(program.public).await.unwrap();
        let request = "GET /jwks.json HTTP/1.1\r\nhost: test\r\n\r\n".repeat(500);
        reader.write_all(request.as_bytes()).await.unwrap();
        readers.push(reader);
    }
    let mut most = 0;
    for _ in 0..25 {
        most = most.max(program.resident());
        pause().await;
    }
    println!("{before} bytes before, {most} with {} slow clients", 3 * CLIENTS);
    // For each of them a head of 32 KiB, as much for answers, and what belongs to a connection.
    assert!(most < before + 3 * CLIENTS * 80 * 1_024, "{before}, then {most}");
    // They do not keep the others waiting either.
    assert_eq!(program.get("/livez").await.status, StatusCode::OK);
    let mut rest = Vec::new();
    let _ = readers[0].read_buf(&mut rest).await;
    assert!(
        rest.starts_with(b"HTTP/1.1 200"),
        "an answer was there to be read"
    );
}
