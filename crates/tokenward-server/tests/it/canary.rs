//! No secret leaves the program: not by its logs, metrics, statuses, errors and documents, nor in the clear by its store.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{IdpServer, JWKS_PATH, TestKey, TokenBuilder, key_set, with_broken_signature};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program::{Answer, Program, ask, command, wait_for};

const ADMIN: &str = "cnry-admin-8fJ2kQ0vXw5nR7tZ1bYc3dLm";
const ISSUING: &str = "cnry-issuing-Pq4sT9uVx2yA6zB8cD0eF1g";
const UNKNOWN: &str = "cnry-unknown-Hk3lM5nO7pQ9rS1tU3vW5x";
const SHARED: &str = "cnry-shared-secret-of-an-idp-0123456789";
const IN_URL: &str = "cnry-in-the-query-of-an-address-77aa";
const USERINFO: &str = "cnry-password-in-an-address-42bb";
const IN_BODY: &str = "cnry-member-of-a-body-that-is-refused-5";
const SEALING: [u8; 32] = *b"cnry-key-encryption-key-32-bytes";

/// How much of a form is looked up first.
const START: usize = 12;

/// What must be nowhere: names and forms, by how the forms begin.
#[derive(Default)]
struct Canaries(HashMap<Vec<u8>, Vec<(String, Vec<u8>)>>);

impl Canaries {
    fn add(&mut self, name: impl Into<String>, secret: &[u8]) {
        assert!(secret.len() >= 16, "too short to be told from chance");
        let name = name.into();
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for engine in [STANDARD, URL_SAFE_NO_PAD] {
            // Wherever it begins in what is encoded.
            for shift in 0..3 {
                let mut bytes = vec![0; shift];
                bytes.extend_from_slice(secret);
                let whole = bytes.len() * 8 / 6;
                let encoded = engine.encode(&bytes).into_bytes();
                forms.push(encoded[[0, 2, 3][shift]..whole].to_vec());
            }
        }
        for form in forms {
            let alike = self.0.entry(form[..START].to_vec()).or_default();
            alike.push((name.clone(), form));
        }
    }

    /// A token: nobody can use what is left of it without its signature.
    fn token(&mut self, name: &str, token: &str) {
        let (_, signature) = token.rsplit_once('.').unwrap();
        self.add(name, signature.as_bytes());
        self.add(name, &URL_SAFE_NO_PAD.decode(signature).unwrap());
    }

    /// Every canary that is in `text`, by name.
    fn found(&self, text: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for (start, window) in text.windows(START).enumerate() {
            let alike = self.0.get(window).into_iter().flatten();
            let there = alike.filter(|(_, form)| text[start..].starts_with(form.as_slice()));
            found.extend(there.map(|(name, _)| name.as_str()));
        }
        found
    }
}

/// What was seen of the program, and where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((place.into(), text.into()));
    }

    fn answer(&mut self, place: &str, answer: &Answer) {
        self.add(
            place,
            format!("{} {:?}\n{}", answer.status, answer.headers, answer.text()),
        );
    }

    #[track_caller]
    fn is_clean(&self, canaries: &Canaries) {
        let mut leaks = Vec::new();
        for (place, text) in &self.0 {
            for name in canaries.found(text) {
                let text = String::from_utf8_lossy(text);
                leaks.push(format!(
                    "LEAK {name} in {place}:\n{}",
                    text.chars().take(2_000).collect::<String>()
                ));
            }
        }
        assert!(leaks.is_empty(), "{} leaks\n{}", leaks.len(), leaks.join("\n\n"));
    }
}

fn private(directory: &TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// The private number of a key on P-256, which stands alone in its PKCS#8 form (RFC 5915 section 3).
fn private_number(key: &TestKey) -> Vec<u8> {
    let der = key.pkcs8_der();
    let start = der
        .windows(5)
        .position(|window| window == [2, 1, 1, 4, 32])
        .unwrap()
        + 5;
    der[start..start + 32].to_vec()
}

struct World {
    directory: TempDir,
    upstream: IdpServer,
    yaml: String,
    canaries: Canaries,
    seen: Seen,
    /// Of the identity provider whose keys are good.
    signing: TestKey,
    /// A signing key of ours.
    own: TestKey,
}

impl World {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let upstream = IdpServer::spawn();
        let signing = TestKey::es256(0);
        let leaked = TestKey::es256(1);
        upstream.set_keys(&[&signing]);
        let d = URL_SAFE_NO_PAD.encode(private_number(&leaked));
        let set = json!({ "keys": [signing.jwk(), leaked.jwk_with(&json!({ "d": d }))] });
        upstream.set_document("/leaking", set.to_string());
        upstream.set_document(
            "/symmetric",
            json!({ "keys": [signing.jwk(),
            { "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SHARED) }] })
            .to_string(),
        );
        let mut canaries = Canaries::default();
        for secret in [ADMIN, ISSUING, UNKNOWN, SHARED, IN_URL, USERINFO, IN_BODY] {
            canaries.add(secret, secret.as_bytes());
        }
        canaries.add("key encryption key", &SEALING);
        canaries.add("private key of a provider", &private_number(&leaked));
        let own = TestKey::es256(2);
        canaries.add("signing key that is imported", &private_number(&own));
        let issuing = private(&directory, "issuing", ISSUING);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ADMIN.as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let base = upstream.url("");
        let yaml = format!(
            "server: {{ host: 127.0.0.1, port: 0, admin: '127.0.0.1:0' }}\n\
             store: {{ url: 'sqlite:./data' }}\n\
             idp_defaults: {{ allow_http: true, allow_private_addresses: true, retry: {{ retries: 0 }} }}\n\
             logging: {{ level: debug }}\n\
             metrics: {{ per_token: true }}\n\
             limits: {{ token_api: {{ per_address: off }} }}\n\
             authorize: {{ headers: [Authorization, X-Token], cookie: session, enforce_rate_limit: true }}\n\
             credentials:\n\
             - {{ name: ops, secret_sha256: {digest}, scopes: [admin] }}\n\
             - {{ name: issuing, secret_file: '{issuing}', scopes: ['tokens:issue'] }}\n\
             token_service: {{ issuer: 'https://own.example', audience: [api], algorithm: ES256, generate_key: true, \
             key_encryption_keys: [{}], publish_ahead: 900 }}\n\
             idps:\n\
             - {{ name: good, issuer: 'https://good.example', audiences: [api], url: '{base}{JWKS_PATH}?api_key={IN_URL}' }}\n\
             - {{ name: leaking, url: '{base}/leaking' }}\n\
             - {{ name: symmetric, url: '{base}/symmetric' }}\n\
             - {{ name: down, url: 'http://127.0.0.1:1/keys?api_key={IN_URL}' }}\n\
             - {{ name: gone, url: '{base}/nothing?api_key={IN_URL}' }}\n\
             - {{ name: shared, issuer: 'https://shared.example', audiences: [api], algorithms: [HS256], secret: '{SHARED}' }}\n",
            STANDARD.encode(SEALING),
        );
        Self {
            directory,
            upstream,
            yaml,
            canaries,
            seen: Seen::default(),
            signing,
            own,
        }
    }

    /// A token of the good provider, and the same with a signature that is not its own.
    fn foreign(&mut self, name: &str) -> (String, String) {
        let now = SystemClock::new().wall();
        let token = TokenBuilder::new(now)
            .issuer("https://good.example")
            .audience("api")
            .token_id(name)
            .sign(&self.signing);
        let broken = with_broken_signature(&token);
        self.canaries.token(name, &token);
        self.canaries.token(&format!("{name}, broken"), &broken);
        (token, broken)
    }

    /// A call whose answer must be clean.
    async fn call(
        &mut self,
        address: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) {
        let host = [("host", "localhost")];
        let headers: Vec<_> = host.iter().chain(headers).copied().collect();
        let answer = ask(
            address,
            method.clone(),
            path,
            &headers,
            Bytes::from(body.to_owned()),
        )
        .await;
        self.seen
            .answer(&format!("the answer to {method} {path}"), &answer);
    }

    /// A call whose answer holds tokens. They are canaries from now on, and its headers must be clean.
    async fn issued(
        &mut self,
        address: SocketAddr,
        method: Method,
        path: &str,
        bearer: &str,
        body: &str,
    ) -> Value {
        let bearer = format!("Bearer {bearer}");
        let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
        let answer = ask(address, method, path, &headers, Bytes::from(body.to_owned())).await;
        assert!(answer.status.is_success(), "{answer:?}");
        self.seen.add(path, format!("{:?}", answer.headers));
        let answer = answer.json();
        for member in ["token", "parent_token", "child_token"] {
            if let Some(token) = answer[member].as_str() {
                self.canaries.token(&format!("{member} of {path}"), token);
            }
        }
        answer
    }

    async fn drive(&mut self, program: &Program) {
        let (public, admin) = (program.public, program.admin);
        program.loaded("good").await;
        let (good, broken) = self.foreign("foreign");
        let pair = json!({ "user_id": "alice", "include_child": true }).to_string();
        let pair = self
            .issued(public, Method::POST, "/token-pairs", ISSUING, &pair)
            .await;
        let parent = pair["parent_token"].as_str().unwrap().to_owned();
        let single = self
            .issued(public, Method::POST, "/tokens", ISSUING, r#"{"user_id":"bob"}"#)
            .await;
        let single = single["token"].as_str().unwrap().to_owned();
        self.issued(admin, Method::POST, "/renew", &parent, "").await;
        self.issued(admin, Method::GET, "/tokens/latest", &parent, "")
            .await;
        let bearer = format!("Bearer {parent}");
        let stream = follow(public, "/tokens/stream", &bearer).await;
        assert!(stream.contains("event: token"), "{stream}");

        let import = json!({ "private_key": self.own.pkcs8_pem() }).to_string();
        let as_admin = format!("Bearer {ADMIN}");
        let as_admin = [("authorization", as_admin.as_str())];
        self.call(admin, Method::POST, "/v1/keys/import", &as_admin, &import)
            .await;

        for token in [&good, &broken, &single, &parent] {
            self.present(public, token).await;
            let explain = json!({ "token": token }).to_string();
            self.call(admin, Method::POST, "/v1/explain", &as_admin, &explain)
                .await;
            for path in ["/oauth/introspect", "/oauth/revoke"] {
                let form = [("content-type", "application/x-www-form-urlencoded"), as_admin[0]];
                self.call(
                    public,
                    Method::POST,
                    path,
                    &form,
                    &format!("token={token}&token_type_hint=x"),
                )
                .await;
                let query = format!("{path}?token={token}");
                self.call(public, Method::POST, &query, &form, "").await;
            }
            // What people put there by mistake.
            self.call(public, Method::DELETE, &format!("/tokens/{token}"), &as_admin, "")
                .await;
            self.call(public, Method::GET, &format!("/jwks/{token}"), &[], "")
                .await;
        }
        self.misuse(program, &broken).await;

        let events = follow(admin, "/v1/events", as_admin[0].1).await;
        self.seen.add("events", events);
        for idp in ["good", "leaking", "symmetric", "down", "gone", "shared", "nobody"] {
            for address in [public, admin] {
                self.call(address, Method::GET, &format!("/status/{idp}"), &[], "")
                    .await;
                self.call(address, Method::GET, &format!("/jwks/{idp}"), &[], "")
                    .await;
            }
            self.call(admin, Method::GET, &format!("/v1/idps/{idp}"), &as_admin, "")
                .await;
            let refresh = format!("/v1/idps/{idp}/refresh");
            self.call(admin, Method::POST, &refresh, &as_admin, "").await;
        }
        for path in [
            "/metrics",
            "/status",
            "/readyz?verbose",
            "/jwks",
            "/jwks.json",
            "/jwks/self",
            "/openapi.json",
            "/v1/config",
            "/v1/keys",
            "/v1/idps",
            "/v1/audit?limit=1000",
        ] {
            for address in [public, admin] {
                self.call(address, Method::GET, path, &as_admin, "").await;
            }
        }
    }

    /// A token in every place where one is looked for, and in some where none is.
    async fn present(&mut self, public: SocketAddr, token: &str) {
        let bearer = format!("Bearer {token}");
        let cookie = format!("session={token}");
        let basic = format!("Basic {}", STANDARD.encode(format!("ops:{token}")));
        for path in [
            "/authorize",
            "/authorize/envoy/x",
            "/authorize/nginx",
            "/authorize/forward",
        ] {
            for headers in [
                &[("authorization", bearer.as_str())][..],
                &[("x-token", token)],
                &[("x-token", token), ("authorization", "Bearer a.b.c")],
                &[("cookie", &cookie)],
                &[("authorization", token)],
                &[("authorization", &basic)],
                &[
                    ("authorization", &bearer),
                    ("x-original-uri", &format!("/a?access_token={token}")),
                ],
                &[
                    ("authorization", &bearer),
                    ("x-forwarded-uri", &format!("/a?access_token={token}")),
                ],
            ] {
                self.call(public, Method::GET, path, headers, "").await;
            }
            self.call(
                public,
                Method::GET,
                &format!("{path}?access_token={token}"),
                &[],
                "",
            )
            .await;
        }
    }

    /// Every operation there is, by those who may and those who may not, with a body that none of them takes.
    async fn misuse(&mut self, program: &Program, token: &str) {
        let local = [("host", "localhost")];
        let document = ask(program.admin, Method::GET, "/openapi.json", &local, Bytes::new());
        let document = document.await.json();
        let body = json!({ "extra": IN_BODY, "token": token, "parent_token": token, "private_key": IN_BODY,
            "secret": IN_BODY, "user_id": [IN_BODY], "url": format!("http://u:{USERINFO}@127.0.0.1/k") });
        let body = body.to_string();
        let unknown = format!("Bearer {UNKNOWN}");
        let basic = format!("Basic {}", STANDARD.encode(format!("ops:{UNKNOWN}")));
        let (issuing, admin) = (format!("Bearer {ISSUING}"), format!("Bearer {ADMIN}"));
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            if path.ends_with("/events") || path.ends_with("/stream") {
                continue;
            }
            let path = path
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            for method in methods.as_object().unwrap().keys() {
                let method: Method = method.to_uppercase().parse().unwrap();
                operations += 1;
                for headers in [
                    &[][..],
                    &[("authorization", unknown.as_str())],
                    &[("authorization", &basic)],
                    &[("authorization", &issuing)],
                    &[("authorization", &admin)],
                    &[
                        ("authorization", &admin),
                        ("content-type", "application/x-www-form-urlencoded"),
                    ],
                    &[("authorization", &admin), ("authorization", &unknown)],
                ] {
                    for address in [program.public, program.admin] {
                        self.call(address, method.clone(), &path, headers, &body).await;
                    }
                }
                let query = format!("{path}?extra={IN_BODY}&parent_jti={token}");
                self.call(
                    program.admin,
                    method,
                    &query,
                    &[("authorization", &admin)],
                    &body[..40],
                )
                .await;
            }
        }
        assert!(operations > 30, "{operations}");
    }

    /// A configuration with faults at its secrets, while the server runs.
    async fn reload(&mut self, program: &Program) {
        let file = self.directory.path().join("tokenward.yaml");
        fs::write(&file, self.broken()).unwrap();
        program.signal(Signal::HUP);
        let refused = wait_for(|| {
            let lines = program.logged("configuration not reloaded: nothing is changed");
            lines.first().cloned()
        });
        assert!(refused.await.is_some());
        let admin = format!("Bearer {ADMIN}");
        self.call(
            program.admin,
            Method::GET,
            "/v1/config",
            &[("authorization", &admin)],
            "",
        )
        .await;
        fs::write(&file, &self.yaml).unwrap();
    }

    /// The configuration with something wrong with every secret.
    fn broken(&self) -> String {
        self.yaml
            .replace(
                "secret_file: '",
                &format!("secret_sha256: '{IN_BODY}', secret_file: '"),
            )
            .replace(
                "name: shared,",
                &format!("name: shared, url: 'https://u:{USERINFO}@x.example/k',"),
            )
            .replace("algorithms: [HS256]", "algorithms: [RS256]")
            .replace("[Y25y", &format!("[{IN_BODY}, Y25y"))
            .replace("sqlite:./data", &format!("redis://u:{USERINFO}@127.0.0.1:1/0"))
    }

    /// The command line, most of it with something that is wrong.
    fn command_line(&mut self, program: &Program) {
        let (good, broken) = self.foreign("of the command line");
        let file = |name: &str, content: &str| private(&self.directory, name, content);
        let set = file("set.json", &key_set(&[&TestKey::es256(3)]).to_string());
        let oct = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SHARED) });
        let oct = file("oct.json", &oct.to_string());
        let (pem, token) = (file("bad.pem", IN_BODY), file("token", &broken));
        let unknown = file("unknown", UNKNOWN);
        let broken_yaml = file("broken.yaml", &self.broken());
        let server = format!("http://{}", program.admin);
        let runs: &[(&[&str], &str)] = &[
            (&["check", "--config", &broken_yaml], ""),
            (&["check", "--config", &broken_yaml, "--json"], ""),
            (&["check"], ""),
            (&["serve", "--config", &broken_yaml], ""),
            (&["serve"], ""),
            (&["store", "backup", "backup"], ""),
            (&["token", "inspect", "-"], &good),
            (&["token", "inspect", "--json", "-"], &good),
            (&["token", "inspect", "-"], &good[..good.len() - 90]),
            (
                &["token", "verify", "--config", "tokenward.yaml", "--explain", "-"],
                &good,
            ),
            (
                &["token", "verify", "--config", "tokenward.yaml", "--json", "-"],
                &broken,
            ),
            (
                &[
                    "token",
                    "verify",
                    "--jwks",
                    &set,
                    "--issuer",
                    "x",
                    "--audience",
                    "y",
                    "-",
                ],
                &good,
            ),
            (
                &[
                    "token",
                    "verify",
                    "--jwks",
                    &oct,
                    "--issuer",
                    "x",
                    "--audience",
                    "y",
                    "-",
                ],
                &good,
            ),
            (&["jws", "verify", "--jwk", &oct], &broken),
            (&["jws", "verify", "--jwk", &pem], &broken),
            (&["token", "mint", "--user", "a"], ""),
            (
                &["token", "mint", "--user", "a", "--credential-file", &unknown],
                "",
            ),
            (
                &["token", "mint", "--user", "a", "--server", "http://127.0.0.1:1"],
                "",
            ),
            (&["token", "renew", &token], ""),
            (&["token", "latest", "-"], &broken),
            (&["token", "watch", "-"], &broken),
            (&["token", "revoke", &broken], ""),
            (&["keys", "list"], ""),
            (&["keys", "import", &pem], ""),
            (&["idps", "list"], ""),
        ];
        for (arguments, stdin) in runs {
            for credential in [UNKNOWN, ISSUING, ADMIN] {
                if arguments.contains(&"mint") && credential == ISSUING {
                    continue;
                }
                let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
                command
                    .args(*arguments)
                    .env_clear()
                    .env("TOKENWARD_SERVER", &server)
                    .env("TOKENWARD_CREDENTIAL", credential)
                    .current_dir(self.directory.path())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                let mut child = command.spawn().unwrap();
                let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
                let output = child.wait_with_output().unwrap();
                let place = format!("`{}` as {credential}", arguments.join(" "));
                // What the operator asked for is what it prints.
                if !(arguments.contains(&"mint") && output.status.success()) {
                    self.seen.add(format!("output of {place}"), output.stdout);
                }
                self.seen.add(format!("errors of {place}"), output.stderr);
            }
        }
    }
}

/// What a stream says first.
async fn follow(address: SocketAddr, path: &str, authorization: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let clock = SystemClock::new();
    let reading = async {
        loop {
            let mut part = [0; 4_096];
            match stream.read(&mut part).await {
                Ok(read) if read > 0 => text.extend_from_slice(&part[..read]),
                _ => break,
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = clock.sleep(Duration::from_millis(700)) => {}
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn no_secret_leaves_the_program() {
    let mut world = World::new();
    for run in 0..2 {
        let mut command = command(&world.directory, &world.yaml);
        let errors = world.directory.path().join(format!("errors-{run}"));
        command.stderr(fs::File::create(&errors).unwrap());
        let mut program = Program::run(command).await;
        world.drive(&program).await;
        world.reload(&program).await;
        world.command_line(&program);
        program.signal(Signal::TERM);
        assert!(program.ended().await.success());
        world.seen.add("standard output", program.output().join("\n"));
        world.seen.add("standard error", fs::read(errors).unwrap());
    }
    let data = fs::read_dir(world.directory.path().join("data")).unwrap();
    let files = data.map(|entry| entry.unwrap().path());
    for path in files.chain([world.directory.path().join("backup")]) {
        // Where keys come from is known to the store, and is no key.
        let found = world.canaries.found(&fs::read(&path).unwrap());
        let found: Vec<_> = found.into_iter().filter(|name| *name != IN_URL).collect();
        assert!(found.is_empty(), "{found:?} in {}", path.display());
    }
    assert!(world.upstream.hits("/leaking") > 0 && world.upstream.hits("/symmetric") > 0);
    world.seen.is_clean(&world.canaries);
}

#[test]
fn a_canary_is_found_in_every_form() {
    let mut canaries = Canaries::default();
    canaries.add("secret", ADMIN.as_bytes());
    let hex: String = ADMIN.bytes().map(|byte| format!("{byte:02X}")).collect();
    for text in [ADMIN.to_owned(), hex.clone(), hex.to_lowercase()] {
        assert_eq!(
            canaries.found(format!("before {text} after").as_bytes()),
            BTreeSet::from(["secret"]),
            "{text}"
        );
    }
    for shift in 0..6 {
        let text = format!("{}{ADMIN} and more", "x".repeat(shift));
        for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            assert_eq!(
                canaries.found(encoded.as_bytes()),
                BTreeSet::from(["secret"]),
                "{encoded}"
            );
        }
    }
    assert!(canaries.found(&ADMIN.as_bytes()[1..]).is_empty());
}
