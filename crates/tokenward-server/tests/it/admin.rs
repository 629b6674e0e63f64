//! The admin API: who may do what, and what it answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};
use tokio::{net::TcpStream, task::JoinSet};

use crate::program::{Answer, Program, ask, command, config};

/// A secret for each scope, and for none.
pub(crate) const ADMIN: &str = "Xb7-admin-0123456789abcdefghijklmnop";
pub(crate) const NARROW: &str = "Xb7-narrow-0123456789abcdefghijklmno";
pub(crate) const READER: &str = "Xb7-reader-0123456789abcdefghijklmno";
pub(crate) const WRONG: &str = "Xb7-wrong-0123456789abcdefghijklmnopq";

pub(crate) fn digest(secret: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) const TOKEN_SERVICE: &str = "token_service: { issuer: 'https://auth.example', audience: [api], algorithm: ES256, \
                             generate_key: true, allow_plaintext_keys: true }\n";

/// Credentials: one for everything, one with a scope that no admin call needs, one that only reads.
pub(crate) fn credentials() -> String {
    format!(
        "credentials:\n- {{ name: ops, secret_sha256: {}, scopes: [admin] }}\n\
         - {{ name: narrow, secret_sha256: {}, scopes: ['tokens:issue'] }}\n\
         - {{ name: reader, secret_sha256: {}, scopes: ['tokens:read'] }}\n",
        digest(ADMIN),
        digest(NARROW),
        digest(READER)
    )
}

pub(crate) async fn start(rest: &str) -> Program {
    Program::start(&config(&format!("{}{rest}", credentials()))).await
}

/// One call with these headers beside a host that is this machine's.
pub(crate) async fn call(
    program: &Program,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let host = [("host", "localhost")];
    let headers: Vec<_> = host.iter().chain(headers).copied().collect();
    ask(
        program.admin,
        method,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

pub(crate) async fn with(program: &Program, secret: &str, method: Method, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {secret}");
    call(program, method, path, &[("authorization", &bearer)], body).await
}

pub(crate) async fn explain(program: &Program, secret: &str, body: &str) -> Answer {
    with(program, secret, Method::POST, "/v1/explain", body).await
}

#[tokio::test]
async fn a_credential_opens_what_its_scopes_say() {
    let program = start("").await;
    let body = r#"{"token":"x"}"#;
    for (secret, status, code, challenge) in [
        (ADMIN, StatusCode::OK, None, None),
        (READER, StatusCode::OK, None, None),
        (
            NARROW,
            StatusCode::FORBIDDEN,
            Some("insufficient_scope"),
            Some("Bearer realm=\"tokenward\", error=\"insufficient_scope\", scope=\"tokens:read\""),
        ),
        (
            WRONG,
            StatusCode::UNAUTHORIZED,
            Some("credential_unknown"),
            Some("Bearer realm=\"tokenward\", error=\"invalid_token\""),
        ),
    ] {
        let answer = explain(&program, secret, body).await;
        assert_eq!(answer.status, status, "{secret}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), challenge, "{secret}");
        if let Some(code) = code {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["error_code"], code);
        }
    }
    let none = call(&program, Method::POST, "/v1/explain", &[], body).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"tokenward\"")
    );
    assert_eq!(none.json()["error_code"], "credential_missing");
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    let twice = call(&program, Method::POST, "/v1/explain", &twice, body).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    let log = program.output().join("\n");
    for secret in [ADMIN, READER, NARROW, WRONG] {
        assert!(!log.contains(secret), "no secret is logged");
    }
}

#[tokio::test]
async fn without_credentials_every_guarded_call_is_refused() {
    let program = Program::start(&config("")).await;
    let answer = explain(&program, ADMIN, r#"{"token":"x"}"#).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn failures_are_limited_and_lock_nobody_out() {
    let program = start("").await;
    let body = r#"{"token":"x"}"#;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(explain(&program, WRONG, body).await);
    }
    let refused = statuses
        .iter()
        .filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
        .collect::<Vec<_>>();
    assert!((5..=10).contains(&refused.len()), "{}", refused.len());
    let wait: u64 = refused[0].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(refused[0].json()["error_code"], "rate_limited");
    assert_eq!(explain(&program, ADMIN, body).await.status, StatusCode::OK);
    assert_eq!(
        explain(&program, NARROW, body).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn pages_of_other_sites_and_foreign_names_are_refused() {
    let program = start("").await;
    let bearer = format!("Bearer {ADMIN}");
    let body = r#"{"token":"x"}"#;
    let port = program.admin.port();
    let (own_host, own_origin) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    for (headers, status) in [
        (vec![("host", own_host.as_str())], StatusCode::OK),
        (
            vec![("host", own_host.as_str()), ("origin", own_origin.as_str())],
            StatusCode::OK,
        ),
        (vec![("host", "evil.example")], StatusCode::MISDIRECTED_REQUEST),
        (
            vec![("host", "localhost"), ("origin", "http://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (
            vec![("host", "localhost"), ("origin", "null")],
            StatusCode::FORBIDDEN,
        ),
        (
            vec![("host", "localhost"), ("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
    ] {
        for (method, path) in [
            (Method::POST, "/v1/explain"),
            (Method::GET, "/openapi.json"),
            (Method::GET, "/metrics"),
            (Method::GET, "/status"),
            (Method::GET, "/tenants/default/status"),
        ] {
            let mut all = headers.clone();
            all.push(("authorization", &bearer));
            let answer = ask(program.admin, method, path, &all, Bytes::from(body)).await;
            assert_eq!(answer.status, status, "{path} {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    // A preflight of a browser gets no permission.
    let preflight = call(
        &program,
        Method::OPTIONS,
        "/v1/explain",
        &[("origin", "http://evil.example")],
        "",
    )
    .await;
    assert_eq!(preflight.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn bodies_are_strict_and_bounded() {
    let program = start("").await;
    let wrong = explain(
        &program,
        ADMIN,
        r#"{"tokne":"x","tenant":1,"token":"a","token":"b"}"#,
    )
    .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let wrong = wrong.json();
    assert_eq!(wrong["error_code"], "request_malformed");
    assert_eq!(
        wrong["errors"],
        json!([
            { "member": "tokne", "message": "unknown member" },
            { "member": "token", "message": "given twice" },
            { "member": "tenant", "message": "expected a string" },
        ])
    );
    for body in ["", "[]", "{", "null"] {
        assert_eq!(
            explain(&program, ADMIN, body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    let large = format!(r#"{{"token":"{}"}}"#, "x".repeat(64 * 1024));
    assert_eq!(
        explain(&program, ADMIN, &large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn explain_tells_every_check_and_never_the_token() {
    let upstream = IdpServer::spawn();
    let key = TestKey::es256(0).with_kid("k");
    upstream.set_keys(&[&key]);
    let idp = "name: one, issuer: 'https://issuer.test', audiences: [my-api]";
    let program = start(&format!("idps: [{{ {idp}, url: '{}' }}]\n", upstream.jwks_url())).await;
    program.loaded("one").await;
    let token = TokenBuilder::new(SystemClock::new().wall())
        .issuer("https://issuer.test")
        .audience("my-api")
        .expires_in(Duration::from_secs(600));
    let expired = token.clone().claim("exp", 1_000_000_000);
    let (token, expired) = (token.sign(&key), expired.sign(&key));
    let answer = explain(&program, READER, &json!({ "token": token }).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = answer.json();
    assert_eq!(
        (&told["valid"], &told["reason"]),
        (&Value::Bool(true), &Value::Null),
        "{told}"
    );
    assert_eq!(told["idp"]["name"], "one");
    assert_eq!(told["idp"]["state"], "ready");
    let checks: Vec<_> = told["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(&checks[..2], ["format", "issuer_known"]);
    assert!(
        checks.contains(&"signature") && checks.contains(&"exp"),
        "{checks:?}"
    );
    assert!(!answer.text().contains(&token));

    let told = explain(&program, READER, &json!({ "token": expired }).to_string())
        .await
        .json();
    assert_eq!(
        (&told["valid"], &told["reason"]),
        (&Value::Bool(false), &"token_expired".into())
    );
    assert_eq!(told["idp"]["name"], "one", "the one that the issuer selects");
    let elsewhere = json!({ "token": token, "tenant": "other" }).to_string();
    let told = explain(&program, READER, &elsewhere).await.json();
    assert_eq!(
        (&told["reason"], &told["idp"]),
        (&"issuer_unknown".into(), &Value::Null)
    );
}

#[tokio::test]
async fn the_audit_log_has_every_call_and_outlives_a_kill() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let directory = tempfile::TempDir::new().unwrap();
    let yaml = config(&format!(
        "{}idps: [{{ name: one, url: '{}' }}]\n",
        credentials(),
        upstream.jwks_url()
    ));
    let yaml = yaml.replace("\"memory:\"", "\"sqlite:./data\"");
    let mut program = Program::run(command(&directory, &yaml)).await;
    program.loaded("one").await;
    with(&program, READER, Method::GET, "/v1/config", "").await;
    let refreshed = with(&program, ADMIN, Method::POST, "/v1/idps/one/refresh", "").await;
    assert_eq!(refreshed.json()["refreshed"], true, "{refreshed:?}");
    // The answer was the acknowledgement: nothing of it may be lost now.
    program.signal(rustix::process::Signal::KILL);
    program.ended().await;
    let program = Program::run(command(&directory, &yaml)).await;
    let audit = with(&program, ADMIN, Method::GET, "/v1/audit", "").await.json();
    let told: Vec<_> = audit["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            json!([
                record["who"],
                record["action"],
                record["target"],
                record["outcome"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["ops", "idps.refresh", "/v1/idps/one/refresh", "ok"]),
            json!(["reader", "config", "/v1/config", "ok"]),
        ]
    );
    // Page by page.
    let first = with(&program, ADMIN, Method::GET, "/v1/audit?limit=1", "")
        .await
        .json();
    assert_eq!(first["records"][0]["action"], "audit", "reading it is a call too");
    let second = format!("/v1/audit?limit=1&before={}", first["next"]);
    let second = with(&program, ADMIN, Method::GET, &second, "").await.json();
    assert_eq!(second["records"][0]["action"], "idps.refresh");
    for wrong in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "after=1",
        "before=-1",
    ] {
        let answer = with(&program, ADMIN, Method::GET, &format!("/v1/audit?{wrong}"), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn idps_are_listed_refreshed_and_purged() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let idps: Vec<_> = ["b", "a", "c"]
        .iter()
        .map(|name| format!("{{ name: {name}, url: '{}' }}", upstream.jwks_url()))
        .collect();
    let program = start(&format!("idps: [{}]\n", idps.join(", "))).await;
    program.loaded("a").await;
    let page = with(&program, READER, Method::GET, "/v1/idps?limit=2", "")
        .await
        .json();
    let names = |page: &Value| -> Vec<String> {
        let idps = page["idps"].as_array().unwrap();
        idps.iter()
            .map(|idp| idp["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (names(&page), &page["next"]),
        (vec!["a".into(), "b".into()], &"b".into())
    );
    let rest = with(&program, READER, Method::GET, "/v1/idps?limit=2&after=b", "")
        .await
        .json();
    assert_eq!((names(&rest), &rest["next"]), (vec!["c".into()], &Value::Null));
    let none = with(&program, READER, Method::GET, "/v1/tenants/other/idps", "")
        .await
        .json();
    assert_eq!(none, json!({ "idps": [], "next": null }));

    let one = with(&program, READER, Method::GET, "/v1/idps/a", "").await.json();
    assert_eq!(
        (&one["name"], &one["url"]),
        (&"a".into(), &upstream.jwks_url().into())
    );
    for wrong in ["after=", "after=a/b", "limit=0", "page=1", "after=a&after=b"] {
        let answer = with(&program, READER, Method::GET, &format!("/v1/idps?{wrong}"), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for (method, path) in [
        (Method::GET, "/v1/idps/none"),
        (Method::POST, "/v1/idps/none/refresh"),
        (Method::POST, "/v1/idps/none/purge"),
        (Method::GET, "/v1/tenants/other/idps/a"),
    ] {
        let answer = with(&program, ADMIN, method, path, "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k"), &TestKey::es256(1).with_kid("l")]);
    let refreshed = with(&program, ADMIN, Method::POST, "/v1/idps/a/refresh", "")
        .await
        .json();
    assert_eq!(
        (&refreshed["refreshed"], &refreshed["idp"]["key_count"]),
        (&true.into(), &2.into())
    );
    upstream.behave(JWKS_PATH, Behaviour::status(500));
    let failed = with(&program, ADMIN, Method::POST, "/v1/idps/a/refresh", "").await;
    assert_eq!(failed.status, StatusCode::OK, "an upstream's failure is not ours");
    let failed = failed.json();
    assert_eq!(
        (&failed["refreshed"], &failed["idp"]["key_count"]),
        (&false.into(), &2.into())
    );
    assert!(failed["error"].is_string(), "{failed}");
    let purged = with(&program, ADMIN, Method::POST, "/v1/idps/a/purge", "").await;
    assert_eq!(purged.status, StatusCode::NO_CONTENT);
    assert_eq!(
        program.get("/jwks/a").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn idps_are_added_changed_and_removed_and_outlive_a_kill() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let url = upstream.jwks_url().to_string();
    let directory = tempfile::TempDir::new().unwrap();
    let yaml = config(&format!(
        "{}max_dynamic_idps: 2\nidps: [{{ name: fixed, url: '{url}', issuer: 'https://taken.test', audiences: any }}]\n",
        credentials()
    ));
    let yaml = yaml.replace("\"memory:\"", "\"sqlite:./data\"");
    let mut program = Program::run(command(&directory, &yaml)).await;
    let put = async |program: &Program, path: &str, body: &Value| {
        let answer = with(program, ADMIN, Method::PUT, path, &body.to_string()).await;
        (answer.status.as_u16(), answer.json())
    };
    let document = json!({ "url": url, "max_keys": 3 });
    let (status, made) = put(&program, "/v1/idps/new", &document).await;
    assert_eq!(
        (status, &made["dynamic"], &made["document"]),
        (201, &true.into(), &document)
    );
    program.loaded("new").await;
    let served = async |program: &Program| {
        program
            .get("/jwks/new")
            .await
            .header("x-max-keys")
            .map(str::to_owned)
    };
    assert_eq!(served(&program).await.as_deref(), Some("3"));
    let changed = json!({ "url": url, "max_keys": 4 });
    let (status, made) = put(&program, "/v1/idps/new", &changed).await;
    assert_eq!(
        (status, &made["max_keys"], &made["document"]),
        (200, &4.into(), &changed)
    );
    program.loaded("new").await;
    assert_eq!(served(&program).await.as_deref(), Some("4"));

    // What cannot be is refused in words, and changes nothing.
    let wrong = json!({ "url": url, "nmae": 1, "secret": "x", "max_keys": -1 });
    let (status, refused) = put(&program, "/v1/idps/wrong", &wrong).await;
    assert_eq!(
        (status, &refused["error_code"]),
        (400, &"request_malformed".into())
    );
    let members: Vec<_> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["member"].as_str().unwrap())
        .collect();
    assert_eq!(members, ["max_keys", "nmae", "secret"]);
    for (path, body, code) in [
        ("/v1/idps/fixed", &document, "idp_configured"),
        (
            "/v1/idps/other",
            &json!({ "url": url, "issuer": "https://taken.test", "audiences": "any" }),
            "issuer_taken",
        ),
    ] {
        let (status, refused) = put(&program, path, body).await;
        assert_eq!((status, &refused["error_code"]), (409, &code.into()), "{path}");
    }
    assert_eq!(put(&program, "/v1/idps/all", &document).await.0, 400);
    assert_eq!(
        put(&program, "/v1/tenants/acme/idps/second", &document).await.0,
        201
    );
    let (status, full) = put(&program, "/v1/idps/third", &document).await;
    assert_eq!((status, &full["error_code"]), (409, &"too_many_idps".into()));
    let gone = with(&program, ADMIN, Method::DELETE, "/v1/idps/fixed", "").await;
    assert_eq!(gone.json()["error_code"], "idp_configured");
    assert_eq!(
        with(&program, ADMIN, Method::DELETE, "/v1/idps/none", "")
            .await
            .status,
        StatusCode::NOT_FOUND
    );

    program.signal(rustix::process::Signal::KILL);
    program.ended().await;
    let program = Program::run(command(&directory, &yaml)).await;
    let shown = with(&program, READER, Method::GET, "/v1/idps/new", "")
        .await
        .json();
    assert_eq!((&shown["dynamic"], &shown["document"]), (&true.into(), &changed));
    let second = with(&program, READER, Method::GET, "/v1/tenants/acme/idps", "")
        .await
        .json();
    assert_eq!(second["idps"][0]["name"], "second");
    let gone = with(&program, ADMIN, Method::DELETE, "/v1/idps/new", "").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(program.get("/jwks/new").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let program = start("idps: [{ name: one, issuer: i, audiences: any, algorithms: [HS256], secret: 'Xb7-idp-0123456789abcdefghijklmnop' }]\n").await;
    let shown = with(&program, READER, Method::GET, "/v1/config", "").await;
    let config = shown.json();
    assert_eq!(config["configured_idps"], 1);
    assert_eq!(config["config"]["store.url"], "memory:");
    assert_eq!(config["config"]["merged.max_age"], "900");
    assert_eq!(config["config"]["credentials[0].name"], "ops");
    for secret in [digest(ADMIN), "Xb7-idp".to_owned()] {
        assert!(!shown.text().contains(&secret), "{}", shown.text());
    }
}

/// An open stream of events.
struct Events {
    body: Incoming,
    _tasks: JoinSet<Result<(), hyper::Error>>,
}

impl Events {
    async fn open(program: &Program, path: &str) -> (StatusCode, Self) {
        let stream = TcpStream::connect(program.admin).await.unwrap();
        let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let request = Request::get(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {READER}"))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = requests.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body();
        (status, Self { body, _tasks: tasks })
    }

    /// The next piece of it; None at its end.
    async fn next(&mut self) -> Option<String> {
        let frame = self.body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// Reads on until an event of this name comes.
    async fn until(&mut self, name: &str) -> String {
        loop {
            let text = self.next().await.expect("the stream goes on");
            if text.contains(&format!("event: {name}\n")) {
                return text;
            }
        }
    }
}

#[tokio::test]
async fn events_are_told_as_they_happen_until_the_server_leaves() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let mut program = start(&format!(
        "idps: [{{ name: one, url: '{}' }}]\n",
        upstream.jwks_url()
    ))
    .await;
    program.loaded("one").await;
    let (status, mut events) = Events::open(&program, "/v1/events").await;
    assert_eq!(status, StatusCode::OK);
    let (_, mut elsewhere) = Events::open(&program, "/v1/events?tenant=other").await;
    let greeting = events.next().await.unwrap();
    assert!(
        greeting.starts_with("retry: ") && greeting.contains("event: connected\n"),
        "{greeting}"
    );
    elsewhere.next().await.unwrap();
    upstream.set_keys(&[&TestKey::es256(1).with_kid("l")]);
    with(&program, ADMIN, Method::POST, "/v1/idps/one/refresh", "").await;
    let told = events.until("all_keys_replaced").await;
    assert!(
        told.contains("\"idp\":\"one\"") && told.contains("\"tenant\":\"default\""),
        "{told}"
    );
    // Places are bounded, and a stream that is gone gives its place back.
    let mut open = Vec::new();
    loop {
        let (status, more) = Events::open(&program, "/v1/events").await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        open.push(more);
        assert!(open.len() < 100);
    }
    assert_eq!(open.len(), 62);
    drop(open);
    let mut status = StatusCode::SERVICE_UNAVAILABLE;
    while status != StatusCode::OK {
        status = Events::open(&program, "/v1/events").await.0;
    }
    program.signal(rustix::process::Signal::TERM);
    while events.next().await.is_some() {}
    assert_eq!(elsewhere.next().await, None, "nothing of another tenant was told");
    assert!(program.ended().await.success());
}
