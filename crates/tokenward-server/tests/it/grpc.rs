//! Envoy's gRPC door and the health service, asked as gRPC over HTTP/2 asks.

use std::{
    convert::Infallible, net::SocketAddr, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_types::value::Kind;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, TestKey, TokenBuilder, proof};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use crate::program::{Program, command, config, wait_for};

mod messages;

use messages::{
    Address, AttributeContext, AttributeRequest, CheckRequest, CheckResponse, HeaderEntry,
    HeaderMap as RawHeaders, HeaderValue, HttpRequest, HttpResponse, Peer, SocketAddress,
};

const ISSUER: &str = "https://issuer.test";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

/// One HTTP/2 connection, and the task that drives it.
struct Client(
    http2::SendRequest<BoxBody<Bytes, Infallible>>,
    #[expect(dead_code, reason = "it ends with the client")] JoinSet<()>,
);

/// What a call came to: its messages, and its status.
struct Called {
    messages: Vec<Bytes>,
    status: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async { drop(connection.await) });
        Self(client, driving)
    }

    async fn begin(&mut self, method: &str, message: &[u8]) -> http::Response<Incoming> {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap());
        body.put_slice(message);
        let request = Request::post(format!("http://tokenward.test{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()).boxed())
            .unwrap();
        self.0.send_request(request).await.unwrap()
    }

    async fn call(&mut self, method: &str, message: &[u8]) -> Called {
        let response = self.begin(method, message).await;
        assert_eq!(response.status(), StatusCode::OK, "{method}");
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let status = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().unwrap().to_owned());
        let status = body.trailers().and_then(status).or_else(|| status(&head.headers));
        let mut rest = body.to_bytes();
        let mut messages = Vec::new();
        while let Some(message) = take(&mut rest) {
            messages.push(message);
        }
        Called {
            messages,
            status: status.expect("a status"),
        }
    }

    async fn check(&mut self, http: HttpRequest) -> CheckResponse {
        let question = CheckRequest {
            attributes: Some(AttributeContext {
                source: None,
                request: Some(AttributeRequest { http: Some(http) }),
            }),
        };
        self.ask(&question).await
    }

    async fn ask(&mut self, question: &CheckRequest) -> CheckResponse {
        let called = self.call(CHECK, &question.encode_to_vec()).await;
        assert_eq!((called.status.as_str(), called.messages.len()), ("0", 1));
        CheckResponse::decode(called.messages[0].clone()).unwrap()
    }

    async fn health(&mut self, service: &str) -> Result<i32, String> {
        let question = HealthRequest {
            service: service.to_owned(),
        };
        let called = self
            .call("/grpc.health.v1.Health/Check", &question.encode_to_vec())
            .await;
        match called.messages.first() {
            Some(message) => Ok(HealthResponse::decode(message.clone()).unwrap().status),
            None => Err(called.status),
        }
    }
}

/// The next message of a stream's bytes, where it is complete.
fn take(bytes: &mut Bytes) -> Option<Bytes> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    (bytes.len() >= 5 + length).then(|| bytes.split_to(5 + length).slice(5..))
}

/// A header for a token.
fn auth(value: &str) -> [(&str, &str); 1] {
    [("authorization", value)]
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> HttpRequest {
    let pseudo = [
        (":method", method),
        (":path", path),
        (":authority", "api.example"),
    ];
    let headers = pseudo.iter().chain(headers);
    HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        host: "api.example".to_owned(),
        scheme: "https".to_owned(),
        headers: headers
            .map(|(key, value)| HeaderEntry {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
        header_map: None,
    }
}

/// The HTTP status of a denial, its code, and its headers; of what is allowed 200 and the headers to set.
fn outcome(answer: &CheckResponse) -> (i32, String, Vec<(String, String)>) {
    let (status, headers, body) = match answer.http_response.as_ref().unwrap() {
        HttpResponse::Ok(ok) => (200, &ok.headers, None),
        HttpResponse::Denied(denied) => (
            denied.status.as_ref().unwrap().code,
            &denied.headers,
            Some(serde_json::from_str::<Value>(&denied.body).unwrap()),
        ),
    };
    let reason = reason(answer);
    if let Some(body) = body {
        assert_eq!(
            (&body["error_code"], &body["status"]),
            (&json!(reason), &json!(status))
        );
    }
    let mut seen = Vec::new();
    for option in headers {
        let header = option.header.as_ref().unwrap();
        let again = seen.iter().any(|(key, _)| *key == header.key);
        let action = if again { 0 } else { 2 };
        assert_eq!(
            option.append_action, action,
            "what a client sent is overwritten: {seen:?}"
        );
        seen.push((header.key.clone(), header.value.clone()));
    }
    let headers = seen;
    let expected = match status {
        200 => 0,
        401 => 16,
        403 => 7,
        429 => 8,
        503 => 14,
        other => panic!("no door says {other}"),
    };
    assert_eq!(answer.status.as_ref().unwrap().code, expected);
    (status, reason, headers)
}

fn reason(answer: &CheckResponse) -> String {
    told(answer, "reason").expect("a reason")
}

fn told(answer: &CheckResponse, field: &str) -> Option<String> {
    let metadata = &answer.dynamic_metadata.as_ref().unwrap().fields;
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["tokenward"]);
    let Some(Kind::StructValue(fields)) = &metadata["tokenward"].kind else {
        panic!("{metadata:?}");
    };
    match fields.fields.get(field)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        other => panic!("{other:?}"),
    }
}

fn key() -> TestKey {
    TestKey::es256(0).with_kid("k")
}

fn token() -> TokenBuilder {
    TokenBuilder::new(SystemClock::new().wall())
        .issuer(ISSUER)
        .audience("api")
        .subject("Zo\u{eb}\r\nX-Admin: 1")
        .claim("scope", json!("read write"))
        .expires_in(Duration::from_secs(600))
}

async fn start(server: &str, authorize: &str) -> (Program, IdpServer, SocketAddr) {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key()]);
    let yaml = config(&format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n\
         \x20 - {{ name: down, issuer: \"https://down.test\", url: \"http://127.0.0.1:1/\", audiences: [api] }}\n{authorize}",
        upstream.jwks_url()
    ));
    let yaml = yaml.replace("port: 0,", &format!("port: 0, grpc: \"127.0.0.1:0\", {server}"));
    let mut program = Program::start(&yaml).await;
    program.loaded("a").await;
    let grpc = program.listening("grpc").await;
    (program, upstream, grpc)
}

#[tokio::test]
async fn every_decision_is_an_answer_of_the_call() {
    let (_program, _upstream, grpc) = start(
        "",
        "authorize:\n  claim_headers: { X_Groups: groups }\n  rules:\n\
         \x20   - { path: { prefix: /public/ }, allow: true }\n\
         \x20   - { path: { prefix: /admin/ }, methods: [POST], require: { scopes: { all: [admin] } } }\n",
    )
    .await;
    let mut client = Client::connect(grpc).await;
    let good = format!("Bearer {}", token().sign(&key()));
    let late = format!(
        "Bearer {}",
        token()
            .expires_in(Duration::ZERO)
            .claim("exp", json!(1))
            .sign(&key())
    );
    let unavailable = format!("Bearer {}", token().issuer("https://down.test").sign(&key()));
    let other = format!("Bearer {}", token().sign(&TestKey::es256(1).with_kid("k")));
    let two = format!("{good},{good}");
    for (http, status, reason) in [
        (request("GET", "/x?a=/../b", &auth(&good)), 200, "allow"),
        (request("BREW", "/x", &auth(&good)), 200, "allow"),
        (request("GET", "/public/x", &[]), 200, "allow"),
        (request("GET", "/x", &[]), 401, "token_missing"),
        (request("GET", "/x", &auth("Bearer x")), 401, "token_malformed"),
        (request("GET", "/x", &auth(&late)), 401, "token_expired"),
        (request("GET", "/x", &auth(&other)), 401, "signature_invalid"),
        (request("GET", "/x", &auth(&two)), 401, "request_malformed"),
        (
            request("GET", "/x", &auth(&unavailable)),
            503,
            "issuer_unavailable",
        ),
        (request("GET", "/admin/x", &auth(&good)), 200, "allow"),
        (
            request("POST", "/admin/x", &auth(&good)),
            403,
            "insufficient_scope",
        ),
        (request("GET", "/public/../x", &auth(&good)), 403, "rule_denied"),
        (request("GET", "/public//x", &[]), 403, "rule_denied"),
        (request("GET", "", &auth(&good)), 403, "rule_denied"),
        (
            request(
                "GET",
                "/x",
                &[("authorization", &good), ("connection", "x-tokenward-subject")],
            ),
            401,
            "request_malformed",
        ),
        (
            request("GET", "/x", &[("authorization", &good), ("no name", "x")]),
            401,
            "request_malformed",
        ),
        (HttpRequest::default(), 403, "rule_denied"),
    ] {
        let answer = client.check(http.clone()).await;
        let (found, code, headers) = outcome(&answer);
        assert_eq!((found, code.as_str()), (status, reason), "{http:?}");
        let challenged = headers.iter().any(|(name, _)| name == "www-authenticate");
        assert_eq!(challenged, matches!(status, 401 | 403), "{http:?}");
    }
    let empty = client.ask(&CheckRequest::default()).await;
    assert_eq!(outcome(&empty).0, 403);
}

#[tokio::test]
async fn each_door_has_its_own_words_for_one_token() {
    // What is longer than what is kept with a token is said as well.
    for subject in ["alice", &"a".repeat(2_000)] {
        let (program, _upstream, grpc) = start("", "").await;
        let mut client = Client::connect(grpc).await;
        let bearer = format!("Bearer {}", token().subject(subject).sign(&key()));
        for door in [
            CHECK,
            "/authorize",
            CHECK,
            "/authorize/envoy/x",
            CHECK,
            "/authorize",
        ] {
            if door == CHECK {
                let answer = client.check(request("GET", "/x", &auth(&bearer))).await;
                let set = outcome(&answer).2;
                let expected = ("x-tokenward-subject".to_owned(), subject.to_owned());
                assert!(set.contains(&expected), "{set:?}");
                assert_eq!(told(&answer, "subject").as_deref(), Some(subject));
            } else {
                let headers = auth(&bearer);
                let answer = program.ask(http::Method::GET, door, &headers).await;
                assert_eq!(answer.header("x-tokenward-subject"), Some(subject), "{door}");
                let removed = answer.header("x-envoy-auth-headers-to-remove");
                assert_eq!(removed.is_some(), door.starts_with("/authorize/envoy"), "{door}");
                if let Some(removed) = removed {
                    let mut names = removed.split(',');
                    assert!(names.any(|name| name == "x_tokenward_subject"), "{removed}");
                    assert!(names.all(|name| name != "x-tokenward-subject"), "{removed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_identity_is_set_and_everything_like_it_removed() {
    let (_program, _upstream, grpc) = start(
        "",
        "authorize: { claim_headers: { X_Groups: groups }, rules: [{ path: { exact: /open }, allow: true }] }\n",
    )
    .await;
    let mut client = Client::connect(grpc).await;
    let good = token().claim("jti", json!("t-1")).sign(&key());
    let bearer = format!("Bearer {good}");
    let removed = |answer: &CheckResponse| match answer.http_response.as_ref().unwrap() {
        HttpResponse::Ok(ok) => ok.headers_to_remove.clone(),
        HttpResponse::Denied(denied) => panic!("{denied:?}"),
    };
    let answer = client
        .check(request("GET", "/x", &[("authorization", &bearer)]))
        .await;
    let (_, _, headers) = outcome(&answer);
    let expected = [
        ("x-tokenward-subject", "Zo%C3%AB%0D%0AX-Admin: 1"),
        ("x-tokenward-issuer", ISSUER),
        ("x-tokenward-token-id", "t-1"),
        ("x-tokenward-scope", "read write"),
    ];
    for (name, value) in expected {
        assert!(
            headers.contains(&(name.to_owned(), value.to_owned())),
            "{name}: {headers:?}"
        );
        assert!(
            !removed(&answer).contains(&name.to_owned()),
            "what is set is not removed"
        );
    }
    for name in [
        "x_tokenward_subject",
        "x-tokenward_token_id",
        "x_groups",
        "x-groups",
    ] {
        assert!(
            removed(&answer).contains(&name.to_owned()),
            "{name}: {:?}",
            removed(&answer)
        );
    }
    for (field, value) in [
        ("idp", "a"),
        ("issuer", ISSUER),
        ("subject", "Zo\u{eb}\r\nX-Admin: 1"),
        ("token_id", "t-1"),
        ("scope", "read write"),
        ("tenant", "default"),
    ] {
        assert_eq!(told(&answer, field).as_deref(), Some(value));
    }

    let anonymous = client
        .check(request("GET", "/open", &[("x-tokenward-subject", "root")]))
        .await;
    assert!(outcome(&anonymous).2.is_empty());
    for name in [
        "x-tokenward-subject",
        "x_tokenward_subject",
        "x-tokenward-scope",
        "x_groups",
    ] {
        assert!(removed(&anonymous).contains(&name.to_owned()), "{name}");
    }
    assert_eq!(told(&anonymous, "subject"), None);

    // As the filter sends them with `encode_raw_headers`: each by itself.
    let raw = |values: &[&str]| HttpRequest {
        headers: Vec::new(),
        header_map: Some(RawHeaders {
            headers: values
                .iter()
                .map(|value| HeaderValue {
                    key: "authorization".to_owned(),
                    value: String::new(),
                    raw_value: Bytes::copy_from_slice(value.as_bytes()),
                })
                .collect(),
        }),
        ..request("GET", "/x", &[])
    };
    assert_eq!(outcome(&client.check(raw(&[&bearer])).await).0, 200);
    assert_eq!(
        outcome(&client.check(raw(&[&bearer, &bearer])).await).1,
        "request_malformed"
    );
}

#[tokio::test]
async fn a_bound_token_needs_a_proof_for_the_url_that_envoy_tells() {
    let (_program, _upstream, grpc) = start("", "").await;
    let mut client = Client::connect(grpc).await;
    let holder = TestKey::es256(2);
    let bound = token()
        .claim("cnf", json!({ "jkt": holder.thumbprint() }))
        .sign(&key());
    let made = |url: &str| proof(&holder, SystemClock::new().wall(), "GET", url, &bound).sign(&holder);
    let (authorization, good) = (format!("DPoP {bound}"), made("https://api.example/x"));
    let other = made("http://api.example/x");
    let mut codes = Vec::new();
    for proof in [&good, &good, &other] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("dpop", proof.as_str()),
        ];
        let (_, reason, headers) = outcome(&client.check(request("GET", "/x?y", &headers)).await);
        let challenges = headers.iter().filter(|(name, _)| name == "www-authenticate");
        codes.push((reason, challenges.count()));
    }
    let expected = [("allow", 0), ("dpop_replayed", 2), ("dpop_invalid", 2)];
    assert_eq!(
        codes,
        expected.map(|(reason, challenges)| (reason.to_owned(), challenges))
    );
}

#[tokio::test]
async fn a_token_that_is_used_up_is_a_429_with_all_that_a_client_needs() {
    let (_program, _upstream, grpc) = start("", "authorize: { enforce_rate_limit: true }\n").await;
    let mut client = Client::connect(grpc).await;
    let once = token()
        .claim("rate_limit", json!(1))
        .claim("jti", json!("t"))
        .sign(&key());
    let bearer = format!("Bearer {once}");
    let http = request("GET", "/x", &auth(&bearer));
    assert_eq!(outcome(&client.check(http.clone()).await).0, 200);
    let (status, reason, headers) = outcome(&client.check(http).await);
    assert_eq!((status, reason.as_str()), (429, "rate_limited"));
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(
            headers.iter().any(|(header, _)| header == name),
            "{name}: {headers:?}"
        );
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_caller_whose_share_of_unknown_keys_is_used() {
    let strange = |kid: &str| format!("Bearer {}", token().sign(&TestKey::es256(1).with_kid(kid)));
    let question = |source: &str, kid: &str| CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: Some(Address {
                    socket_address: Some(SocketAddress {
                        address: source.to_owned(),
                    }),
                }),
            }),
            request: Some(AttributeRequest {
                http: Some(request("GET", "/x", &[("authorization", &strange(kid))])),
            }),
        }),
    };
    // Of two fetches, one caller can cause one.
    for (server, fetches, callers) in [
        ("", 1, ["127.0.0.1", "127.0.0.1"]),
        ("trusted_proxies: [127.0.0.0/8],", 2, ["192.0.2.1", "192.0.2.2"]),
    ] {
        let (program, upstream, grpc) = start(server, "").await;
        let mut client = Client::connect(grpc).await;
        let before = upstream.requests().len();
        client.ask(&question("192.0.2.1", "one")).await;
        client.ask(&question("192.0.2.2", "two")).await;
        assert_eq!(upstream.requests().len(), before + fetches, "{server}");
        let logged = wait_for(|| {
            let lines = program.logged("request").into_iter();
            let lines: Vec<_> = lines.filter(|line| line["listener"] == "grpc").collect();
            (lines.len() == 2).then_some(lines)
        });
        let logged = logged.await.unwrap();
        assert_eq!(callers, [0, 1].map(|n| logged[n]["caller"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn health_is_readiness_and_ends_with_the_server() {
    let (program, _upstream, grpc) = start("", "").await;
    let mut client = Client::connect(grpc).await;
    let service = "envoy.service.auth.v3.Authorization";
    wait_for_serving(&mut client).await;
    assert_eq!(client.health(service).await, Ok(SERVING));
    assert_eq!(client.health("other").await, Err("5".to_owned()));
    for method in [
        "/envoy.service.auth.v3.Authorization/Other",
        "/other.Service/Check",
    ] {
        assert_eq!(client.call(method, b"").await.status, "12", "{method}");
    }

    let watch = |service: &str| {
        HealthRequest {
            service: service.to_owned(),
        }
        .encode_to_vec()
    };
    let method = "/grpc.health.v1.Health/Watch";
    let mut unknown = client.begin(method, &watch("other")).await.into_body();
    let mut watched = client.begin(method, &watch("")).await.into_body();
    assert_eq!(next(&mut unknown).await, Some(SERVICE_UNKNOWN));
    assert_eq!(next(&mut watched).await, Some(SERVING));
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(next(&mut watched).await, Some(NOT_SERVING));
    assert_eq!(next(&mut watched).await, None);
    assert_eq!(next(&mut unknown).await, None);
}

#[tokio::test]
async fn so_many_may_watch_and_no_more() {
    let (_program, _upstream, grpc) = start("", "").await;
    let method = "/grpc.health.v1.Health/Watch";
    let (mut clients, mut watching) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let mut client = Client::connect(grpc).await;
        for _ in 0..100 {
            let mut body = client.begin(method, b"").await.into_body();
            assert!(next(&mut body).await.is_some());
            watching.push(body);
        }
        clients.push(client);
    }
    let mut client = Client::connect(grpc).await;
    // A refusal is all in the head; a stream would not end.
    let refused = client.begin(method, b"").await;
    assert_eq!(refused.headers().get("grpc-status").unwrap(), "8");
    // Whoever leaves makes room.
    drop(watching.pop());
    for _ in 0..200 {
        let response = client.begin(method, b"").await;
        if !response.headers().contains_key("grpc-status") {
            return;
        }
        crate::program::pause().await;
    }
    panic!("there is no room");
}

async fn wait_for_serving(client: &mut Client) {
    for _ in 0..200 {
        if client.health("").await == Ok(SERVING) {
            return;
        }
        crate::program::pause().await;
    }
    panic!("it does not become ready");
}

async fn next(body: &mut Incoming) -> Option<i32> {
    while let Some(frame) = body.frame().await {
        if let Ok(mut data) = frame.unwrap().into_data() {
            let message = take(&mut data).expect("a message at a time");
            return Some(HealthResponse::decode(message).unwrap().status);
        }
    }
    None
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_denied_like_any_other() {
    let (_program, _upstream, grpc) = start("", "authorize: { default: allow }\n").await;
    let mut client = Client::connect(grpc).await;
    let asked = |http: HttpRequest| CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(AttributeRequest { http: Some(http) }),
        }),
    };
    let large = asked(request("GET", "/x", &[("x", &"x".repeat(1_100_000))])).encode_to_vec();
    let many: Vec<_> = (0..30_000).map(|n| (format!("x-{n}"), "x")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let many = asked(request("GET", "/x", &many)).encode_to_vec();
    for question in [large.as_slice(), &many, b"\xff\xff\xff", b"\x0a\x7f"] {
        let called = client.call(CHECK, question).await;
        assert_eq!((called.status.as_str(), called.messages.len()), ("0", 1));
        let answer = CheckResponse::decode(called.messages[0].clone()).unwrap();
        let (status, reason, _) = outcome(&answer);
        assert_eq!((status, reason.as_str()), (401, "request_malformed"));
    }
    // And the connection goes on.
    assert_eq!(outcome(&client.check(request("GET", "/x", &[])).await).0, 200);
}

#[tokio::test]
async fn what_is_no_call_is_not_implemented() {
    let (_program, _upstream, grpc) = start("", "authorize: { default: allow }\n").await;
    let mut client = Client::connect(grpc).await;
    for (method, path) in [
        ("GET", CHECK),
        ("PUT", CHECK),
        ("GET", "/grpc.health.v1.Health/Check"),
        ("POST", "/nothing"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://tokenward.test{path}"))
            .body(Full::default().boxed());
        let response = client.0.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{method} {path}");
        assert!(response.headers().contains_key("x-request-id"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_question_that_does_not_come_to_its_end_is_given_up_and_a_long_one_of_health_refused() {
    let (_program, _upstream, grpc) = start("", "").await;
    let mut client = Client::connect(grpc).await;
    let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = Request::post(format!("http://tokenward.test{CHECK}"))
        .header("content-type", "application/grpc")
        .body(BodyExt::boxed(body));
    let answer = async {
        let response = client.0.send_request(request.unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let body = tokio::time::timeout(Duration::from_secs(30), answer)
        .await
        .unwrap();
    let answer = CheckResponse::decode(body.slice(5..)).unwrap();
    assert_eq!(outcome(&answer).1, "request_malformed");

    for method in ["Check", "Watch"] {
        let called = client
            .call(&format!("/grpc.health.v1.Health/{method}"), &[0; 2_000])
            .await;
        assert_eq!(called.status, "3", "{method}");
    }
}

#[tokio::test]
async fn the_grpc_and_admin_listeners_speak_tls_where_they_have_a_certificate() {
    let directory = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let pair = "{ cert: cert.pem, key: key.pem }";
    let yaml = config("").replace(
        "port: 0,",
        &format!("port: 0, grpc: \"127.0.0.1:0\", grpc_tls: {pair}, admin_tls: {pair},"),
    );
    let mut program = Program::run(command(&directory, &yaml)).await;
    let grpc = program.listening("grpc").await;
    let encrypted = program.logged("listening");
    let encrypted = encrypted
        .iter()
        .map(|line| (line["listener"].as_str().unwrap(), line["tls"] == true));
    assert_eq!(
        encrypted.collect::<Vec<_>>(),
        [("public", false), ("admin", true), ("grpc", true)]
    );

    let mut client = Client::over(tls(grpc, made.cert.der(), &[b"h2"]).await).await;
    assert_eq!(outcome(&client.check(request("GET", "/x", &[])).await).0, 401);
    let mut client = Client::over(tls(program.admin, made.cert.der(), &[b"h2"]).await).await;
    let livez = Request::get("http://localhost/livez")
        .body(Full::default().boxed())
        .unwrap();
    assert_eq!(
        client.0.send_request(livez).await.unwrap().status(),
        StatusCode::OK
    );
}

async fn tls(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocols[0]));
    stream
}
