//! Streams of tokens and the credentials that open them, with the real program.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    admin::{ADMIN, NARROW, digest},
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
