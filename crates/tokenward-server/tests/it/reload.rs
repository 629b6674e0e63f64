//! Another configuration while the server runs.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{IdpServer, JWKS_PATH, TestKey, TokenBuilder};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::program::{Program, command, config, wait_for};

const ISSUER: &str = "https://issuer.test";

/// A credential's.
const SECRET: &str = "tw-operations-3f9c1b7ae24d58";

/// A program whose configuration can be written again.
struct Reloading {
    program: Program,
    directory: TempDir,
}

impl Reloading {
    async fn start(yaml: &str) -> Self {
        let directory = TempDir::new().unwrap();
        Self::start_in(directory, yaml).await
    }

    async fn start_in(directory: TempDir, yaml: &str) -> Self {
        let program = Program::run(command(&directory, yaml)).await;
        Self { program, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, yaml: &str) {
        std::fs::write(self.path("tokenward.yaml"), yaml).unwrap();
    }

    fn reloads(&self) -> usize {
        self.program.logged("configuration reloaded").len()
    }

    fn refusals(&self) -> usize {
        self.program
            .logged("configuration not reloaded: nothing is changed")
            .len()
    }

    /// Waits for one more reload since there were so many.
    async fn reloaded_since(&self, before: usize) -> Value {
        let more = wait_for(|| self.program.logged("configuration reloaded").get(before).cloned()).await;
        more.unwrap_or_else(|| panic!("it is not reloaded: {:#?}", self.program.output()))
    }

    /// Writes the configuration and asks for it.
    async fn apply(&self, yaml: &str) -> Value {
        let before = self.reloads();
        self.write(yaml);
        self.program.signal(Signal::HUP);
        self.reloaded_since(before).await
    }

    /// The same with one that is refused. What was wrong.
    async fn refuse(&self, yaml: &str) -> Vec<String> {
        let (before, said) = (self.refusals(), self.problems().len());
        self.write(yaml);
        self.program.signal(Signal::HUP);
        wait_for(|| (self.refusals() > before).then_some(()))
            .await
            .expect("it is refused");
        self.problems().split_off(said)
    }

    fn problems(&self) -> Vec<String> {
        let lines = self
            .program
            .logged("the new configuration is not valid")
            .into_iter();
        lines
            .map(|line| line["problem"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.program.admin("/metrics").await.text();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn idp(name: &str, server: &IdpServer, more: &str) -> String {
    format!(
        "- {{ name: {name}, issuer: \"https://{name}.test\", audiences: [api], url: \"{}\"{more} }}\n",
        server.jwks_url()
    )
}

fn bearer(issuer: &str, key: &TestKey) -> String {
    let token = TokenBuilder::new(SystemClock::new().wall())
        .issuer(issuer)
        .audience("api");
    format!("Bearer {}", token.expires_in(Duration::from_secs(600)).sign(key))
}

/// Asks on one connection that is kept.
struct Kept {
    requests: SendRequest<Empty<Bytes>>,
    _connection: JoinSet<()>,
}

impl Kept {
    async fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (requests, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Self {
            requests,
            _connection: tasks,
        }
    }

    async fn get(&mut self, path: &str, bearer: &str) -> Result<(StatusCode, Bytes), hyper::Error> {
        self.requests.ready().await?;
        let request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .header("authorization", bearer)
            .body(Empty::new())
            .unwrap();
        let answer = self.requests.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_providers_come_change_and_go() {
    let (stay, change, churn) = (IdpServer::spawn(), IdpServer::spawn(), IdpServer::spawn());
    let key = TestKey::es256(0);
    for server in [&stay, &change, &churn] {
        server.set_keys(&[&key]);
    }
    // `change` has other settings each time, others come and go before, between and behind.
    let yaml = |n: usize| {
        let mut idps = String::new();
        let churns = |k: usize| (0..(n + k) % 3).map(move |i| format!("churn{k}{i}"));
        idps.extend(churns(1).map(|name| idp(&name, &churn, "")));
        idps += &idp("stay", &stay, "");
        idps.extend(churns(2).map(|name| idp(&name, &churn, "")));
        idps += &idp("change", &change, &format!(", cache_duration: {}", 100 + n));
        idps.extend(churns(3).map(|name| idp(&name, &churn, "")));
        config(&format!("idps:\n{idps}"))
    };
    let server = Reloading::start(&yaml(0)).await;
    server.program.loaded("stay").await;
    server.program.loaded("change").await;
    let before = server.program.get("/status/stay").await.json();
    let etag = |answer: &crate::program::Answer| answer.header("etag").unwrap().to_owned();
    let set_before = etag(&server.program.get("/jwks/stay").await);

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let (stop, asked, address) = (Arc::clone(&stop), Arc::clone(&asked), server.program.public);
        let bearers = ["stay", "change"].map(|name| bearer(&format!("https://{name}.test"), &key));
        clients.spawn(async move {
            let mut kept = Kept::new(TcpStream::connect(address).await.unwrap()).await;
            let mut n = client;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                let path = [
                    "/jwks.json",
                    "/jwks/stay",
                    "/jwks/change",
                    "/authorize",
                    "/status/stay",
                ][n % 5];
                let (status, body) = kept.get(path, &bearers[n % 2]).await.unwrap();
                assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
                if path == "/jwks.json" {
                    let set: Value = serde_json::from_slice(&body).unwrap();
                    assert!(set["keys"].as_array().unwrap().len() >= 2, "{set}");
                }
                asked.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    for n in 1..=33 {
        let yaml = yaml(n);
        if n % 11 == 0 {
            // By the change of the file alone.
            let before = server.reloads();
            server.write(&yaml);
            server.reloaded_since(before).await;
        } else {
            server.apply(&yaml).await;
        }
        // The last one that was written is the one that runs.
        let names = server.program.get("/status").await.json();
        let expected: usize = (1..=3).map(|k| (n + k) % 3).sum::<usize>() + 2;
        assert_eq!(names.as_object().unwrap().len(), expected, "reload {n}");
        let max_age = server.program.get("/jwks/change").await;
        let expected = format!("public, max-age={}", 100 + n);
        assert_eq!(max_age.header("cache-control"), Some(expected.as_str()));
    }
    stop.store(true, Ordering::Release);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    println!(
        "{} requests while the configuration was reloaded 33 times",
        asked.load(Ordering::Acquire)
    );
    assert!(asked.load(Ordering::Acquire) > 1_000);
    // What stayed kept its keys, its counters and its schedule, and nobody asked its provider again.
    let after = server.program.get("/status/stay").await.json();
    for member in [
        "update_count",
        "error_count",
        "last_updated",
        "next_refresh",
        "last_attempt",
    ] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert_eq!(stay.hits(JWKS_PATH), 1);
    assert_eq!(etag(&server.program.get("/jwks/stay").await), set_before);
    assert_eq!(server.refusals(), 0);

    // An invalid file changes nothing and says where it is wrong.
    let names = server.program.get("/status").await.json();
    let good = yaml(33);
    let broken = good
        .replace("cache_duration: 133", "cache_duration: never")
        .replace("name: stay", "nam: stay");
    let line = |text: &str| good.lines().position(|line| line.contains(text)).unwrap() + 1;
    let problems = server.refuse(&broken).await;
    let place = |n: usize| format!("tokenward.yaml:{n}:");
    assert!(
        problems
            .iter()
            .any(|p| p.contains(&place(line("name: change"))) && p.contains("cache_duration: expected a")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|p| p.contains(&place(line("name: stay"))) && p.contains("did you mean `name`")),
        "{problems:?}"
    );
    assert_eq!(
        server.metric("tokenward_config_last_reload_successful").await,
        0.0
    );
    assert_eq!(
        server
            .program
            .get("/status")
            .await
            .json()
            .as_object()
            .unwrap()
            .len(),
        names.as_object().unwrap().len()
    );
    assert_eq!(stay.hits(JWKS_PATH), 1);
    let success = server
        .metric("tokenward_config_last_reload_success_timestamp_seconds")
        .await;
    server.apply(&good).await;
    assert_eq!(
        server.metric("tokenward_config_last_reload_successful").await,
        1.0
    );
    assert!(
        server
            .metric("tokenward_config_last_reload_success_timestamp_seconds")
            .await
            > success
    );
}

#[tokio::test]
async fn what_only_a_restart_can_change_is_refused_with_all_the_rest() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0)]);
    let yaml = config(&format!("idps:\n{}", idp("a", &upstream, "")));
    let server = Reloading::start(&yaml).await;
    server.program.loaded("a").await;
    let other = yaml
        .replace("port: 0", "port: 1")
        .replace("host: 127.0.0.1", "host: 127.0.0.2, max_connections: 7")
        .replace("admin: \"127.0.0.1:0\"", "admin: \"127.0.0.3:0\"")
        .replace(
            "url: \"memory:\"",
            "url: \"sqlite:./elsewhere\", prefix: x, journal: ./y, redis: { connections: 3, connect_timeout: 3s, \
             command_timeout: 3s, cache_ttl: 3s, allow_eviction: true }",
        )
        .replace("name: a", "name: b");
    let problems = server.refuse(&other).await;
    let restart = "only a restart can change this member";
    for member in [
        "server.host",
        "server.port",
        "server.admin",
        "server.max_connections",
        "store.url",
        "store.prefix",
        "store.journal",
        "store.redis.connections",
        "store.redis.connect_timeout",
        "store.redis.command_timeout",
        "store.redis.cache_ttl",
        "store.redis.allow_eviction",
    ] {
        let said = problems
            .iter()
            .find(|p| p.contains(&format!(": {member}: {restart}")));
        assert!(
            said.is_some_and(|p| p.contains("tokenward.yaml:")),
            "{member}: {problems:?}"
        );
    }
    assert_eq!(problems.len(), 12);
    assert_eq!(server.program.get("/jwks/b").await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.program.get("/jwks/a").await.status, StatusCode::OK);
    assert!(!server.path("elsewhere").exists());
    // A file that is gone is no reason to stop either.
    let before = server.refusals();
    std::fs::remove_file(server.path("tokenward.yaml")).unwrap();
    wait_for(|| (server.refusals() > before).then_some(()))
        .await
        .expect("it is noticed");
    assert_eq!(server.program.get("/jwks/a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn everything_else_is_taken_over() {
    let upstream = IdpServer::spawn();
    let key = TestKey::es256(0);
    upstream.set_keys(&[&key]);
    let idps = |more: &str| format!("idps:\n{}", idp("a", &upstream, more));
    let server = Reloading::start(&config(&idps(""))).await;
    let program = &server.program;
    program.loaded("a").await;
    let bearer = bearer("https://a.test", &key);
    let ask = |name: &'static str, value: String| async move {
        program.ask(Method::GET, "/authorize", &[(name, &value)]).await
    };
    assert_eq!(ask("authorization", bearer.clone()).await.status, StatusCode::OK);
    assert_eq!(
        program.get("/jwks.json").await.header("cache-control"),
        Some("public, max-age=900")
    );
    assert_eq!(program.get("/metrics").await.status, StatusCode::NOT_FOUND);
    assert!(
        program
            .logged("request")
            .iter()
            .any(|line| line["route"] == "/authorize")
    );

    let digest = "a16d54362305e4d15e8bac260742a6d476b9731c830dcf85236595bbbd842dc1"; // of `SECRET`
    let rest = idps(", leeway: 1s")
        + "merged: { max_age: 77 }\nauthorize: { headers: [X-Token] }\n\
           logging: { level: debug, requests: false }\n\
           credentials: [{ name: ops, secret_sha256: DIGEST, scopes: [admin] }]\n";
    let yaml = config(&rest.replace("DIGEST", digest)).replace(
        "admin: \"127.0.0.1:0\"",
        "admin: \"127.0.0.1:0\", metrics_on_public: true, trusted_proxies: [127.0.0.1]",
    );
    let seen = server.apply(&yaml).await;
    assert_eq!((&seen["changed"], &seen["unchanged"]), (&json!(1), &json!(0)));
    assert_eq!(
        ask("authorization", bearer.clone()).await.json()["error_code"],
        "token_missing"
    );
    let bare = bearer.strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(ask("x-token", bare).await.status, StatusCode::OK);
    assert_eq!(
        program.get("/jwks.json").await.header("cache-control"),
        Some("public, max-age=77")
    );
    assert_eq!(program.get("/metrics").await.status, StatusCode::OK);
    let explain = |secret: &'static str| async move {
        let bearer = format!("Bearer {secret}");
        let headers = [
            ("host", "localhost"),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = Bytes::from_static(b"{\"token\": \"x\"}");
        crate::program::ask(program.admin, Method::POST, "/v1/explain", &headers, body)
            .await
            .status
    };
    assert_eq!(explain("wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(explain(SECRET).await, StatusCode::OK);
    let shown = || async {
        let bearer = format!("Bearer {SECRET}");
        let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
        crate::program::ask(program.admin, Method::GET, "/v1/config", &headers, Bytes::new())
            .await
            .json()
    };
    let after = shown().await;
    assert_eq!(after["last_reload"]["outcome"], "applied");
    assert_eq!(after["last_reload"]["idps"]["changed"], 1);
    assert_eq!(after["config"]["merged.max_age"], "77");
    let requests = program.logged("request").len();
    program.get("/livez").await;
    // Lines of `debug` are written now, and none of requests.
    assert_eq!(program.logged("request").len(), requests);

    server.refuse(&yaml.replace("max_age: 77", "max_age: 0")).await;
    let refused = shown().await;
    assert_eq!(refused["last_reload"]["outcome"], "refused");
    assert_eq!(refused["last_reload"]["problems"][0]["member"], "merged.max_age");
    assert!(refused["last_reload"]["problems"][0]["line"].is_u64());
    assert_eq!(refused["config"]["merged.max_age"], "77", "what runs");

    let text = yaml
        .replace("level: debug", "format: text, level: error")
        .replace("requests: false", "requests: true");
    let before = program.output().len();
    server.write(&text);
    program.signal(Signal::HUP);
    for _ in 0..500 {
        if shown().await["config"]["logging.format"] == "text" {
            break;
        }
        crate::program::pause().await;
    }
    server.write(&text.replace("max_age: 77", "max_age: 0"));
    program.signal(Signal::HUP);
    let said = wait_for(|| {
        program
            .output()
            .into_iter()
            .skip(before)
            .find(|line| line.contains("ERROR") && !line.starts_with('{'))
    });
    assert!(said.await.is_some(), "text, and nothing below an error");
    let requests = program
        .output()
        .iter()
        .skip(before)
        .filter(|line| line.contains("route="))
        .count();
    assert_eq!(requests, 0);
}

#[tokio::test]
async fn a_secret_is_rotated_by_writing_its_file() {
    let directory = TempDir::new().unwrap();
    let write = |key: &TestKey| {
        let path = directory.path().join("secret");
        std::fs::write(&path, key.secret().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (old, new) = (TestKey::new("HS256", 0), TestKey::new("HS256", 1));
    write(&old);
    let yaml = config(&format!(
        "idps: [{{ name: a, issuer: \"{ISSUER}\", audiences: [api], algorithms: [HS256], secret_file: secret }}]\n"
    ));
    let program = Program::run(command(&directory, &yaml)).await;
    let status = |key: &TestKey| {
        let bearer = bearer(ISSUER, &key.clone().without_kid());
        let program = &program;
        async move {
            program
                .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
                .await
                .status
        }
    };
    assert_eq!(
        (status(&old).await, status(&new).await),
        (StatusCode::OK, StatusCode::UNAUTHORIZED)
    );
    write(&new);
    let reloaded = wait_for(|| program.logged("configuration reloaded").first().cloned()).await;
    assert!(reloaded.is_some(), "{:#?}", program.output());
    assert_eq!(
        (status(&old).await, status(&new).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    let secret = new.secret().unwrap().to_vec();
    let log = program.output().concat().into_bytes();
    assert!(!log.windows(secret.len()).any(|part| part == secret));
}

/// Writes a certificate of its own making, and gives it.
fn certificate(directory: &TempDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = directory.path().join("key.pem");
    std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    made.cert.der().clone()
}

/// A connection that trusts these certificates, and the one that it met.
async fn connect(program: &Program, trusted: &[&CertificateDer<'static>]) -> (Kept, CertificateDer<'static>) {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(program.public).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
        .unwrap();
    let met = stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    (Kept::new(stream).await, met)
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_cuts_off_none() {
    let directory = TempDir::new().unwrap();
    let first = certificate(&directory);
    let yaml = config("").replace("port: 0", "port: 0, tls: { cert: cert.pem, key: key.pem }");
    let server = Reloading::start_in(directory, &yaml).await;
    let (mut old, met) = connect(&server.program, &[&first]).await;
    assert_eq!(met, first);
    let alive = |answer: Result<(StatusCode, Bytes), hyper::Error>| answer.unwrap().0 == StatusCode::OK;
    assert!(alive(old.get("/livez", "").await));

    let second = certificate(&server.directory);
    server.reloaded_since(0).await;
    let (mut new, met) = connect(&server.program, &[&first, &second]).await;
    assert_eq!(met, second);
    assert!(alive(new.get("/livez", "").await) && alive(old.get("/livez", "").await));

    // One that does not fit its key is refused, and the pair before goes on.
    let before = server.refusals();
    let key = std::fs::read(server.path("key.pem")).unwrap();
    certificate(&server.directory);
    std::fs::write(server.path("key.pem"), key).unwrap();
    wait_for(|| (server.refusals() > before).then_some(()))
        .await
        .expect("it is refused");
    assert!(
        server
            .problems()
            .last()
            .unwrap()
            .contains("server.tls: cannot use cert.pem"),
        "{:?}",
        server.problems()
    );
    let (_, met) = connect(&server.program, &[&first, &second]).await;
    assert_eq!(met, second);
    assert!(alive(old.get("/livez", "").await));
}

#[tokio::test]
async fn another_signing_key_or_token_service_is_refused_until_a_restart() {
    let key = |name: &str| {
        let text = match name {
            "one" => include_str!("../../../tokenward-core/tests/it/keys/p256-pkcs8.pem"),
            _ => include_str!("../../../tokenward-core/tests/it/keys/p256-other.pem"),
        };
        text.to_owned()
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("key.pem");
    std::fs::write(&file, key("one")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let digest = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let yaml = config(&format!(
        "credentials: [{{ name: ops, secret_sha256: {digest}, scopes: [admin] }}]\n\
         token_service: {{ issuer: '{ISSUER}', audience: [api], algorithm: ES256, private_key_file: key.pem }}\n"
    ));
    let server = Reloading::start_in(directory, &yaml).await;
    let own = server.program.get("/jwks/self").await;
    let problems = server.refuse(&yaml.replace("[api]", "[other]")).await;
    assert!(
        problems[0].contains("token_service: only a restart"),
        "{problems:?}"
    );
    server.apply(&yaml).await;
    // The path is the same, and the file another.
    let before = server.refusals();
    std::fs::write(&file, key("other")).unwrap();
    wait_for(|| (server.refusals() > before).then_some(()))
        .await
        .expect("it is noticed");
    let said = server.program.output().join("\n");
    assert!(said.contains("token_service.private_key_file"), "{said}");
    assert_eq!(server.program.get("/jwks/self").await.body, own.body);
}

#[tokio::test]
async fn other_rules_are_taken_over_and_wrong_ones_are_not() {
    let yaml = |rules: &str| config(&format!("authorize: {{ default: deny, rules: [{rules}] }}\n"));
    let server = Reloading::start(&yaml("{ path: { prefix: /a }, allow: true }")).await;
    let statuses = || async {
        let (a, b) = (
            server.program.get("/authorize/envoy/a").await,
            server.program.get("/authorize/envoy/b").await,
        );
        (a.status.as_u16(), b.status.as_u16())
    };
    assert_eq!(statuses().await, (200, 403));
    server.apply(&yaml("{ path: { prefix: /b }, allow: true }")).await;
    assert_eq!(statuses().await, (403, 200));
    let wrong = yaml("{ path: { prefix: /a }, allow: true }, { require: { idps: [none] } }");
    let problems = server.refuse(&wrong).await;
    assert!(
        problems
            .iter()
            .any(|problem| problem
                .contains("authorize.rules[1].require.idps: no IdP is configured for `none`")),
        "{problems:?}"
    );
    assert_eq!(statuses().await, (403, 200));
    server.apply(&yaml("")).await;
    assert_eq!(statuses().await, (403, 403));
}

#[tokio::test]
async fn what_is_said_of_a_remembered_token_follows_the_configuration() {
    let upstream = IdpServer::spawn();
    let key = TestKey::es256(0);
    upstream.set_keys(&[&key]);
    let yaml = |header: &str| {
        let idps = idp("a", &upstream, "");
        config(&format!(
            "idps:\n{idps}authorize: {{ claim_headers: {{ {header}: iss }} }}\n"
        ))
    };
    let server = Reloading::start(&yaml("X-One")).await;
    server.program.loaded("a").await;
    let bearer = bearer("https://a.test", &key);
    let asked = async |expected: &str, other: &str| {
        for path in ["/authorize", "/authorize/envoy/x", "/authorize"] {
            let headers = [("authorization", bearer.as_str())];
            let answer = server.program.ask(Method::GET, path, &headers).await;
            assert_eq!(answer.header(expected), Some("https://a.test"), "{path}");
            assert_eq!(answer.header(other), None, "{path}");
            if let Some(removed) = answer.header("x-envoy-auth-headers-to-remove") {
                let spelled = expected.replace('-', "_");
                assert!(removed.split(',').any(|name| name == spelled), "{removed}");
            }
        }
    };
    asked("x-one", "x-two").await;
    server.apply(&yaml("X-Two")).await;
    asked("x-two", "x-one").await;
    server.apply(&yaml("X-One")).await;
    asked("x-one", "x-two").await;
}
