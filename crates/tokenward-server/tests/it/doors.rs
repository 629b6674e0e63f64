//! The doors at which proxies ask, as each proxy asks.

mod rules;
mod table;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    admin::{ADMIN, NARROW, credentials},
    program::{Answer, Program, ask, config},
};

const ISSUER: &str = "https://issuer.test";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Door {
    Direct,
    Envoy,
    Nginx,
    Forward,
}

pub(crate) const PROXIES: [Door; 3] = [Door::Envoy, Door::Nginx, Door::Forward];

/// A request of a client, as the proxy that asks for it has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) host: &'a str,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl Door {
    /// Asks as the proxy of this door does by the documentation.
    pub(crate) async fn ask(self, program: &Program, client: Client<'_>) -> Answer {
        let Client {
            host,
            method,
            target,
            headers,
        } = client;
        let original = Method::from_bytes(method.as_bytes()).unwrap();
        let (method, path, own) = match self {
            Self::Direct => (Method::GET, "/authorize".to_owned(), vec![("host", host)]),
            Self::Envoy => (
                original,
                format!("/authorize/envoy{target}"),
                vec![("host", host)],
            ),
            Self::Nginx => (
                Method::GET,
                "/authorize/nginx".to_owned(),
                vec![
                    ("host", host),
                    ("x-original-uri", target),
                    ("x-original-method", method),
                ],
            ),
            Self::Forward => (
                Method::GET,
                "/authorize/forward".to_owned(),
                vec![
                    ("host", "tokenward.internal"),
                    ("x-forwarded-host", host),
                    ("x-forwarded-uri", target),
                    ("x-forwarded-method", method),
                    ("x-forwarded-proto", "https"),
                ],
            ),
        };
        let headers: Vec<_> = own.into_iter().chain(headers.iter().copied()).collect();
        ask(program.public, method, &path, &headers, Bytes::new()).await
    }

    /// Whether an HTTP client can be made to send this target at all.
    fn can_say(self, target: &str) -> bool {
        self != Self::Envoy || (target.starts_with('/') && !target.contains(['#', ' ']))
    }

    /// The status that says `code` at this door.
    fn status(self, code: &str) -> u16 {
        match (self, code) {
            (_, "allow") => 200,
            (_, "rule_denied" | "insufficient_scope") => 403,
            (_, "issuer_unavailable") => 503,
            (Self::Direct, "request_malformed") => 400,
            (Self::Direct, "token_too_large") => 431,
            _ => 401,
        }
    }

    pub(crate) async fn expect(self, program: &Program, client: Client<'_>, code: &str) {
        let answer = self.ask(program, client).await;
        let said = match answer.status.as_u16() {
            200 => "allow".to_owned(),
            _ => answer.json()["error_code"].as_str().unwrap().to_owned(),
        };
        assert_eq!(said, code, "{self:?} {client:?}: {answer:?}");
        assert_eq!(
            answer.status,
            self.status(code),
            "{self:?} {client:?}: {answer:?}"
        );
        if code != "allow" {
            assert_eq!(answer.json()["status"], self.status(code), "{answer:?}");
            assert_eq!(answer.header("x-tokenward-subject"), None);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-accel-expires"), None, "a refusal is not kept");
            assert_eq!(
                answer.header("www-authenticate").is_some(),
                matches!(answer.status.as_u16(), 400 | 401 | 403),
                "{answer:?}"
            );
        }
    }
}

pub(crate) fn key(number: usize) -> TestKey {
    TestKey::es256(number).with_kid("k")
}

pub(crate) fn good() -> TokenBuilder {
    TokenBuilder::new(SystemClock::new().wall())
        .issuer(ISSUER)
        .audience("api")
        .subject("user-1")
        .expires_in(Duration::from_secs(600))
}

fn auth(value: &str) -> Vec<(&str, &str)> {
    vec![("authorization", value)]
}

fn bearer(token: &TokenBuilder) -> String {
    format!("Bearer {}", token.sign(&key(0)))
}

/// A program with two identity providers of the tenant `default` and one of `acme`, and `authorize`.
pub(crate) async fn start(authorize: &str) -> (Program, [IdpServer; 2]) {
    let upstreams = [IdpServer::spawn(), IdpServer::spawn()];
    upstreams[0].set_keys(&[&key(0)]);
    upstreams[1].set_keys(&[&key(1)]);
    let yaml = format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n  \
         - {{ name: b, issuer: \"https://b.test\", url: \"{}\", audiences: [api] }}\n  \
         - {{ name: c, tenant: acme, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n{authorize}",
        upstreams[0].jwks_url(),
        upstreams[0].jwks_url(),
        upstreams[1].jwks_url(),
    );
    let program = Program::start(&config(&yaml)).await;
    program.loaded("a").await;
    program.loaded("b").await;
    program
        .until("/tenants/acme/jwks/c", |answer| answer.status == 200)
        .await;
    (program, upstreams)
}

const RULES: &str = r#"
authorize:
  cookie: session
  claim_headers: { X-User-Email: email }
  rules:
    - { host: www.example, path: { prefix: /public/ }, methods: [GET, HEAD], allow: true }
    - { path: { glob: "/closed/**" }, deny: true }
    - path: { glob: "/admin/**" }
      methods: [GET, POST]
      require: { idps: [a], audiences: [api], scopes: { all: [admin] }, claims: [ { name: groups, contains: ops } ] }
    - { path: { exact: /b }, require: { idps: [b], scopes: { any: [read, write] } } }
    - { host: "*.acme.example", require: { tenant: acme } }
    - { host: closed.example, deny: true }
"#;

#[tokio::test]
async fn each_door_believes_its_own_headers_alone() {
    let (program, _upstreams) = start(RULES).await;
    let lies = [
        ("x-original-uri", "/public/x"),
        ("x-original-url", "/public/x"),
        ("x-original-method", "GET"),
        ("x-forwarded-uri", "/public/x"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "www.example"),
        ("x-forwarded-path", "/public/x"),
        ("x-forwarded-prefix", "/public/"),
        ("x_forwarded_uri", "/public/x"),
        ("x_original_uri", "/public/x"),
        ("x-rewrite-url", "/public/x"),
        ("x-http-method-override", "GET"),
        ("x-envoy-original-path", "/public/x"),
        ("forwarded", "host=www.example"),
    ];
    for door in [Door::Direct, Door::Envoy, Door::Nginx, Door::Forward] {
        let own = |name: &str| match door {
            Door::Nginx => matches!(name, "x-original-uri" | "x-original-method"),
            Door::Forward => matches!(
                name,
                "x-forwarded-uri" | "x-forwarded-method" | "x-forwarded-host"
            ),
            _ => false,
        };
        let headers: Vec<_> = lies.into_iter().filter(|(name, _)| !own(name)).collect();
        for (host, method, target) in [
            ("www.example", "GET", "/x"),
            ("www.example", "POST", "/public/x"),
            ("x.example", "GET", "/public/x"),
        ] {
            let client = Client {
                host,
                method,
                target,
                headers: &headers,
            };
            door.expect(&program, client, "token_missing").await;
        }
    }
}

#[tokio::test]
async fn what_a_rule_needs_must_be_there_once() {
    let (program, _upstreams) = start(RULES).await;
    let (free, _others) = start("").await;
    let token = bearer(&good());
    let authorization = ("authorization", token.as_str());
    let whole = [
        ("x-original-uri", "/x"),
        ("x-original-method", "GET"),
        ("x-forwarded-uri", "/x"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "h"),
    ];
    for (path, own) in [
        ("/authorize/nginx", &whole[..2]),
        ("/authorize/forward", &whole[2..]),
    ] {
        let asked = |headers: Vec<(&'static str, &'static str)>| {
            let headers: Vec<_> = headers.into_iter().chain([authorization]).collect();
            let (program, free) = (&program, &free);
            async move {
                let ruled = program.ask(Method::GET, path, &headers).await;
                let free = free.ask(Method::GET, path, &headers).await;
                (ruled.status.as_u16(), free.status.as_u16())
            }
        };
        assert_eq!(asked(own.to_vec()).await, (200, 200), "{path}");
        for missing in own {
            let rest: Vec<_> = own.iter().copied().filter(|header| header != missing).collect();
            // Nothing needs it where there are no rules.
            assert_eq!(asked(rest).await, (403, 200), "{path} without {missing:?}");
            let twice: Vec<_> = own.iter().copied().chain([*missing]).collect();
            assert_eq!(asked(twice).await, (401, 200), "{path} with two {missing:?}");
        }
        for odd in [
            ("x-original-method", "GET POST"),
            ("x-forwarded-method", ""),
            ("x-forwarded-host", "a/b"),
        ] {
            if own.iter().any(|(name, _)| *name == odd.0) {
                let with: Vec<_> = own
                    .iter()
                    .copied()
                    .filter(|(name, _)| *name != odd.0)
                    .chain([odd])
                    .collect();
                assert_eq!(asked(with).await, (401, 200), "{path} with {odd:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_identity_is_ours_or_nobodys() {
    let (program, _upstreams) = start(RULES).await;
    let token = bearer(&good().claim("scope", "read").claim("email", "a@b"));
    let spoofed = [
        ("x-tokenward-subject", "root"),
        ("x-tokenward-token-id", "1"),
        ("x-user-email", "root@b"),
        ("x_user_email", "root@b"),
    ];
    let with_token: Vec<_> = spoofed
        .into_iter()
        .chain([("authorization", token.as_str())])
        .collect();
    let client = Client {
        host: "www.example",
        method: "GET",
        target: "/x",
        headers: &with_token,
    };
    let nobody = Client {
        target: "/public/x",
        headers: &spoofed,
        ..client
    };
    for door in PROXIES {
        let answer = door.ask(&program, client).await;
        let given = |name: &str| answer.header(name).map(str::to_owned);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(given("x-tokenward-subject").as_deref(), Some("user-1"));
        assert_eq!(given("x-tokenward-issuer").as_deref(), Some(ISSUER));
        assert_eq!(given("x-tokenward-scope").as_deref(), Some("read"));
        assert_eq!(given("x-user-email").as_deref(), Some("a@b"));
        assert_eq!(given("x-tokenward-token-id"), None, "the token has none");
        assert_eq!(given("cache-control").as_deref(), Some("no-store"));
        let anonymous = door.ask(&program, nobody).await;
        assert_eq!(anonymous.status, 200);
        for name in [
            "x-tokenward-subject",
            "x-tokenward-issuer",
            "x-tokenward-scope",
            "x-user-email",
        ] {
            assert_eq!(anonymous.header(name), None, "{door:?} {name}");
        }
        let removed = |answer: &Answer| -> BTreeSet<String> {
            let names = answer
                .header("x-envoy-auth-headers-to-remove")
                .unwrap_or_default();
            names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        if door != Door::Envoy {
            assert!(removed(&answer).is_empty() && removed(&anonymous).is_empty());
            continue;
        }
        let (some, all) = (removed(&answer), removed(&anonymous));
        for name in [
            "x-tokenward-token-id",
            "x_tokenward_token_id",
            "x-tokenward-token_id",
            "x_tokenward_subject",
            "x_tokenward-subject",
            "x_tokenward_issuer",
            "x_tokenward_scope",
            "x_user_email",
            "x-user_email",
        ] {
            assert!(
                some.contains(name) && all.contains(name),
                "{name} in {some:?} and {all:?}"
            );
        }
        // Envoy removes after it sets.
        let set: BTreeSet<_> = [
            "x-tokenward-subject",
            "x-tokenward-issuer",
            "x-tokenward-scope",
            "x-user-email",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(all.difference(&some).cloned().collect::<BTreeSet<_>>(), set);
    }
}

#[tokio::test]
async fn nginx_may_keep_what_is_allowed_until_the_token_ends() {
    let (program, _upstreams) = start(&format!("{RULES}  cache_max_age: 30\n")).await;
    let (long, short, ending) = (
        bearer(&good()),
        bearer(&good().expires_in(Duration::from_secs(20))),
        // Still good by the leeway.
        bearer(&good().claim("exp", SystemClock::new().wall().as_secs() - 5)),
    );
    let kept = |door: Door, target: &'static str, token: Option<&str>| {
        let headers: Vec<_> = token
            .into_iter()
            .map(|token| ("authorization", token.to_owned()))
            .collect();
        let program = &program;
        async move {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let client = Client {
                host: "www.example",
                method: "GET",
                target,
                headers: &headers,
            };
            let answer = door.ask(program, client).await;
            let kept = answer
                .header("x-accel-expires")
                .map(|value| value.parse::<u64>().unwrap());
            (kept, answer.header("cache-control").map(str::to_owned))
        }
    };
    assert_eq!(kept(Door::Nginx, "/x", Some(&long)).await, (Some(30), None));
    assert_eq!(kept(Door::Nginx, "/public/x", None).await, (Some(30), None));
    let (left, control) = kept(Door::Nginx, "/x", Some(&short)).await;
    assert!(
        (10..=20).contains(&left.unwrap()) && control.is_none(),
        "{left:?}"
    );
    assert_eq!(kept(Door::Nginx, "/x", Some(&ending)).await, (Some(0), None));
    let fresh = (None, Some("no-store".to_owned()));
    assert_eq!(
        kept(Door::Nginx, "/x", None).await,
        fresh,
        "a refusal is not kept"
    );
    for door in [Door::Direct, Door::Envoy, Door::Forward] {
        assert_eq!(kept(door, "/x", Some(&long)).await, fresh, "{door:?}");
    }
    let (unkept, _others) = start(RULES).await;
    let headers = [("authorization", long.as_str())];
    let client = Client {
        host: "www.example",
        method: "GET",
        target: "/x",
        headers: &headers,
    };
    let answer = Door::Nginx.ask(&unkept, client).await;
    assert_eq!(
        (answer.header("x-accel-expires"), answer.header("cache-control")),
        (None, Some("no-store"))
    );
}

#[tokio::test]
async fn an_outage_is_no_refusal_at_any_door() {
    let upstream = IdpServer::spawn();
    upstream.behave(JWKS_PATH, Behaviour::status(500));
    let yaml = format!(
        "idps:\n  - {{ name: a, issuer: \"{ISSUER}\", url: \"{}\", audiences: [api] }}\n",
        upstream.jwks_url()
    );
    let program = Program::start(&config(&yaml)).await;
    let token = bearer(&good());
    let headers = [("authorization", token.as_str())];
    let client = Client {
        host: "www.example",
        method: "GET",
        target: "/x",
        headers: &headers,
    };
    for door in PROXIES {
        door.expect(&program, client, "issuer_unavailable").await;
        let answer = door.ask(&program, client).await;
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn envoy_is_answered_for_every_method_and_body_and_nothing_else_is_mounted() {
    let (program, _upstreams) = start("authorize: { default: allow }\n").await;
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "brew",
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in [
            "/authorize/envoy",
            "/authorize/envoy/",
            "/authorize/envoy/a/b?c",
            "/authorize/envoy//../%2e;\\",
            "/authorize/envoy?x",
        ] {
            let body = Bytes::from(if method == Method::TRACE { "" } else { "{\"a\":" });
            let answer = ask(program.public, method.clone(), path, &[], body).await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
            assert!(answer.body.is_empty());
        }
        for path in ["/authorize/nginx", "/authorize/forward"] {
            assert_eq!(
                program.ask(method.clone(), path, &[]).await.status,
                200,
                "{method} {path}"
            );
        }
    }
    for (length, closes) in [(200_000, false), (2_000_000, true)] {
        let head = format!("PUT /authorize/envoy/a HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        let mut connection = TcpStream::connect(program.public).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        let most = vec![b'x'; length.min(1_100_000)];
        connection.write_all(&most).await.unwrap();
        let mut answer = vec![0; 1_024];
        let read = connection.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{length}: {answer}");
        assert_eq!(answer.contains("connection: close"), closes, "{length}: {answer}");
    }
    for path in [
        "/authorize/",
        "/authorize/x",
        "/authorize/a/b",
        "/authorize/envoyx",
        "/authorize/nginx/",
        "/authorize/forward/x",
        "/authorize/Envoy/x",
    ] {
        assert_eq!(program.get(path).await.status, 404, "{path}");
    }
    // The root is a path like others.
    let (program, _upstreams) =
        start("authorize: { rules: [{ path: { exact: / }, deny: true }], default: allow }\n").await;
    for (path, status) in [
        ("/authorize/envoy", 403),
        ("/authorize/envoy/", 403),
        ("/authorize/envoy?x", 403),
        ("/authorize/envoy/?x", 403),
        ("/authorize/envoy/x", 200),
        ("/authorize/envoy//", 403),
    ] {
        assert_eq!(program.get(path).await.status, status, "{path}");
    }
}
