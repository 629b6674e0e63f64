//! Introspection and revocation as OAuth has them, with the real program.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    admin::{ADMIN, NARROW, READER, WRONG, credentials, digest},
    program::{Answer, Program, ask, command, config},
    tokens::{admin, call, judged, pair, service, start, text},
};

const FORM: &str = "application/x-www-form-urlencoded";
const INTROSPECT: &str = "/oauth/introspect";
const REVOKE: &str = "/oauth/revoke";

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

pub(crate) async fn form(program: &Program, path: &str, authorization: Option<&str>, body: &str) -> Answer {
    let headers = [("host", "localhost"), ("content-type", FORM)];
    let headers: Vec<_> = headers
        .into_iter()
        .chain(authorization.map(|value| ("authorization", value)))
        .collect();
    ask(
        program.public,
        Method::POST,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

/// The same with a body whose length is not announced.
async fn in_pieces(program: &Program, path: &str, authorization: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(program.public).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let pieces: Vec<_> = body
        .as_bytes()
        .chunks(8 * 1024)
        .map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", FORM)
        .header("authorization", authorization)
        .body(StreamBody::new(futures_util::stream::iter(pieces)))
        .unwrap();
    let (parts, body) = requests.send_request(request).await.unwrap().into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

async fn introspected(program: &Program, token: &str) -> Value {
    introspected_by(program, "reader", READER, token).await
}

/// What a credential is told of a token.
pub(crate) async fn introspected_by(program: &Program, name: &str, secret: &str, token: &str) -> Value {
    let body = format!("token={token}");
    let answer = form(program, INTROSPECT, Some(&basic(name, secret)), &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

async fn revoked(program: &Program, token: &str) {
    let answer = form(
        program,
        REVOKE,
        Some(&basic("ops", ADMIN)),
        &format!("token={token}"),
    )
    .await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::OK, 0),
        "{answer:?}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_good_token_is_told_of_and_everything_else_is_not_active() {
    let program = start().await;
    let body = r#"{"user_id":"alice","scope":"read write","audience":["a","b"],"claims":{"active":false,"token_use":"y","plan":"x"}}"#;
    let minted = call(&program, Method::POST, "/tokens", Some(NARROW), body)
        .await
        .json();
    let told = introspected(&program, text(&minted, "token")).await;
    assert_eq!(told["active"], true, "a custom claim does not say so");
    for (claim, value) in [
        ("iss", json!("https://auth.example")),
        ("sub", json!("alice")),
        ("user_id", json!("alice")),
        ("aud", json!(["a", "b"])),
        ("client_id", json!("narrow")),
        ("scope", json!("read write")),
        // As RFC 7662 means it; that of our claim is told by the other name.
        ("token_type", json!("Bearer")),
        ("token_use", json!("access")),
        ("jti", minted["token_id"].clone()),
        ("network", json!("default")),
        ("rate_limit", json!(100)),
        ("plan", json!("x")),
    ] {
        assert_eq!(told[claim], value, "{claim}");
    }
    let [issued, begins, ends] = ["iat", "nbf", "exp"].map(|claim| told[claim].as_i64().unwrap());
    assert_eq!((issued, issued + 3_600), (begins, ends));

    let family = pair(&program, r#"{"user_id":"alice","include_child":true}"#).await;
    let (parent, child) = (text(&family, "parent_token"), text(&family, "child_token"));
    let told = introspected(&program, child).await;
    assert_eq!(
        (&told["token_type"], &told["token_use"], &told["parent_jti"]),
        (&json!("Bearer"), &json!("child"), &family["parent_jti"])
    );
    // A resource server would let it in; those who issue are told of it.
    let nothing = json!({ "active": false });
    assert_eq!(introspected(&program, parent).await, nothing);
    let told = introspected_by(&program, "ops", ADMIN, parent).await;
    assert_eq!(
        (&told["active"], &told["token_use"], &told["token_type"]),
        (&json!(true), &json!("parent"), &Value::Null)
    );

    let cut = &parent[..parent.len() - 1];
    for token in [
        "x",
        "eyJhbGciOiJub25lIn0.e30.",
        text(&family, "parent_jti"),
        cut,
        "%ff",
    ] {
        assert_eq!(introspected(&program, token).await, nothing, "{token}");
    }
    call(&program, Method::DELETE, "/users/alice/tokens", Some(ADMIN), "").await;
    for token in [parent, child, text(&minted, "token")] {
        assert_eq!(introspected(&program, token).await, nothing);
    }
}

#[tokio::test]
async fn what_is_revoked_stays_refused_after_a_kill() {
    let directory = TempDir::new().unwrap();
    let yaml = config(&service("")).replace("memory:", "sqlite:./data");
    let program = Program::run(command(&directory, &yaml)).await;
    let [one, two] = [
        pair(&program, r#"{"user_id":"a","include_child":true}"#).await,
        pair(&program, r#"{"user_id":"a","include_child":true}"#).await,
    ];
    for token in ["x", "eyJhbGciOiJub25lIn0.e30.", text(&one, "parent_jti")] {
        revoked(&program, token).await;
    }
    let metrics = admin(&program, Method::GET, "/metrics", "").await.text();
    assert!(
        metrics.contains("jwt_revoked_tokens_total 0"),
        "no record of what is not ours"
    );
    revoked(&program, text(&one, "child_token")).await;
    assert_eq!(judged(&program, text(&one, "child_token")).await, "token_revoked");
    revoked(&program, text(&two, "parent_token")).await;
    revoked(&program, text(&two, "parent_token")).await;
    assert_eq!(
        judged(&program, text(&two, "child_token")).await,
        "parent_revoked"
    );
    drop(program);

    let program = Program::run(command(&directory, &yaml)).await;
    assert_eq!(judged(&program, text(&one, "child_token")).await, "token_revoked");
    assert_eq!(
        judged(&program, text(&two, "child_token")).await,
        "parent_revoked"
    );
    let renew = async |family| {
        call(
            &program,
            Method::POST,
            "/renew",
            Some(text(family, "parent_token")),
            "",
        )
        .await
    };
    assert_eq!(renew(&one).await.status, StatusCode::OK);
    assert_eq!(renew(&two).await.status, StatusCode::UNAUTHORIZED);

    // The audit log names the token as the call by its id would, and has no record of what it was not told.
    let audit = admin(&program, Method::GET, "/v1/audit?limit=100", "")
        .await
        .json();
    let records = audit["records"].as_array().unwrap().iter();
    let told: Vec<_> = records
        .filter(|record| record["action"] == "oauth.revoke")
        .map(|record| {
            (
                record["who"].as_str().unwrap(),
                record["target"].as_str().unwrap(),
            )
        })
        .collect();
    let of_child = format!("/tokens/{}", text(&one, "child_jti"));
    let of_parent = format!("/tokens/{}", text(&two, "parent_jti"));
    assert_eq!(
        told[..3],
        [("ops", &*of_parent), ("ops", &of_parent), ("ops", &of_child)]
    );
    assert_eq!(told[3..], [("ops", REVOKE); 3]);
}

#[tokio::test]
async fn a_credential_is_presented_by_either_scheme_and_refused_in_the_words_of_oauth() {
    let program = start().await;
    let bearer = |secret: &str| format!("Bearer {secret}");
    let both = "Basic realm=\"tokenward\", charset=\"UTF-8\"";
    for (path, authorization, status, error, challenge) in [
        (INTROSPECT, Some(bearer(READER)), 200, None, None),
        (INTROSPECT, Some(basic("reader", READER)), 200, None, None),
        // As RFC 6749 has it, each byte may be escaped.
        (
            INTROSPECT,
            Some(basic("re%61der", &READER.replace('-', "%2D"))),
            200,
            None,
            None,
        ),
        (INTROSPECT, None, 401, Some("invalid_client"), Some(both)),
        (
            INTROSPECT,
            Some(bearer(WRONG)),
            401,
            Some("invalid_client"),
            Some("Bearer realm=\"tokenward\", error=\"invalid_token\""),
        ),
        (
            INTROSPECT,
            Some(basic("reader", WRONG)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        // The right secret of somebody else.
        (
            INTROSPECT,
            Some(basic("ops", READER)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        (
            INTROSPECT,
            Some(basic("", READER)),
            401,
            Some("invalid_client"),
            Some(both),
        ),
        (
            INTROSPECT,
            Some("Basic !".into()),
            400,
            Some("invalid_request"),
            None,
        ),
        (
            INTROSPECT,
            Some(bearer(NARROW)),
            403,
            Some("insufficient_scope"),
            Some("Bearer realm=\"tokenward\", error=\"insufficient_scope\", scope=\"tokens:read\""),
        ),
        (
            INTROSPECT,
            Some(basic("narrow", NARROW)),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (
            REVOKE,
            Some(basic("reader", READER)),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (REVOKE, Some(bearer(ADMIN)), 200, None, None),
    ] {
        let answer = form(&program, path, authorization.as_deref(), "token=x").await;
        let what = format!("{path} {authorization:?} {answer:?}");
        assert_eq!(answer.status.as_u16(), status, "{what}");
        assert_eq!(answer.header("www-authenticate"), challenge, "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        if let Some(error) = error {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
            let told = answer.json();
            assert_eq!(told["error"], error, "{what}");
            assert!(
                told["error_description"].is_string() && told["error_code"].is_string(),
                "{what}"
            );
        }
    }
    // Many clients send it as it stands, although it has what would be escaped.
    let plain = "Xb7+plain/0123456789abcdefghijklmno=";
    let more = format!(
        "credentials:\n- {{ name: plain, secret_sha256: {}, scopes: ['tokens:read'] }}\n",
        digest(plain)
    );
    let other = Program::start(&config(&service("").replacen("credentials:\n", &more, 1))).await;
    let escaped = plain.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for secret in [plain, &escaped] {
        let answer = form(&other, INTROSPECT, Some(&basic("plain", secret)), "token=x").await;
        assert_eq!(answer.status, StatusCode::OK, "{secret}");
    }
    // Elsewhere the scheme is none.
    let headers = [("host", "localhost"), ("authorization", &basic("ops", ADMIN))];
    let tokens = ask(program.public, Method::POST, "/tokens", &headers, Bytes::new()).await;
    assert_eq!(tokens.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guesses_are_limited_by_either_scheme_and_lock_nobody_out() {
    let program = start().await;
    let (by_bearer, by_name) = (format!("Bearer {WRONG}"), basic("reader", WRONG));
    let mut limited = 0;
    for guess in [&by_bearer, &by_name].into_iter().cycle().take(40) {
        let answer = form(&program, INTROSPECT, Some(guess), "token=x").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            limited += 1;
            assert_eq!(answer.json()["error_code"], "rate_limited");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
    }
    assert!((5..=10).contains(&limited), "{limited}");
    // The same allowance as everywhere.
    let elsewhere = call(&program, Method::POST, "/tokens", Some(WRONG), "").await;
    assert_eq!(elsewhere.status, StatusCode::TOO_MANY_REQUESTS);
    introspected(&program, "x").await;
}

#[tokio::test]
async fn the_body_is_one_form_with_one_token() {
    let program = start().await;
    let minted = call(
        &program,
        Method::POST,
        "/tokens",
        Some(NARROW),
        r#"{"user_id":"a"}"#,
    )
    .await
    .json();
    let token = text(&minted, "token");
    let good = basic("ops", ADMIN);
    for body in [
        format!("token={token}&token_type_hint=refresh_token&client_id=x&foo=1&foo=2"),
        format!("token_type_hint=&token={token}"),
    ] {
        let answer = form(&program, INTROSPECT, Some(&good), &body).await;
        assert_eq!(answer.json()["active"], true, "{body}");
    }
    for path in [INTROSPECT, REVOKE] {
        for body in [
            String::new(),
            "token=".into(),
            format!("Token={token}"),
            format!("token={token}&token={token}"),
            format!("token={token}&token="),
            json!({ "token": token }).to_string(),
        ] {
            let answer = form(&program, path, Some(&good), &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(answer.json()["error"], "invalid_request", "{body}");
            assert!(!answer.text().contains(token));
        }
        for types in [
            &[][..],
            &["application/json"],
            &["multipart/form-data"],
            &[FORM, FORM],
            &["application/x-www-form-urlencodedx"],
        ] {
            let headers = [("host", "localhost"), ("authorization", &*good)];
            let headers: Vec<_> = headers
                .into_iter()
                .chain(types.iter().map(|value| ("content-type", *value)))
                .collect();
            let body = Bytes::from(format!("token={token}"));
            let answer = ask(program.public, Method::POST, path, &headers, body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{types:?}");
            assert_eq!(answer.json()["error"], "invalid_request", "{types:?}");
        }
        // Announced, and not.
        let large = format!("token={token}&x={}", "x".repeat(64 * 1024));
        let announced = form(&program, path, Some(&good), &large).await;
        for answer in [announced, in_pieces(&program, path, &good, &large).await] {
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let told = answer.json();
            assert_eq!(
                (&told["error"], &told["error_code"]),
                (&json!("invalid_request"), &json!("request_too_large"))
            );
        }
        // A token in the address would be in logs.
        let answer = form(&program, &format!("{path}?token={token}"), Some(&good), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let got = call(&program, Method::GET, path, Some(ADMIN), "").await;
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(judged(&program, token).await, "ok", "none of it revoked it");
    let headers = [
        ("host", "localhost"),
        ("authorization", &*good),
        ("content-type", "Application/X-WWW-Form-URLEncoded; charset=utf-8"),
    ];
    let body = Bytes::from(format!("token={token}"));
    let answer = ask(program.public, Method::POST, REVOKE, &headers, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(judged(&program, token).await, "token_revoked");
}

const WELL_KNOWN: [&str; 2] = [
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
];

#[tokio::test]
async fn the_issuer_tells_where_its_keys_are_and_our_own_client_finds_them() {
    let directory = TempDir::new().unwrap();
    let mut dev = command(&directory, &config(&credentials()));
    dev.arg("--dev");
    let issuer = Program::run(dev).await;
    let found = issuer.get(WELL_KNOWN[0]).await;
    assert_eq!(found.status, StatusCode::OK);
    let told = found.json();
    let address = format!("http://{}", issuer.public);
    assert_eq!(
        told,
        json!({
            "issuer": address,
            "jwks_uri": format!("{address}/jwks/self"),
            "introspection_endpoint": format!("{address}/oauth/introspect"),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
            "revocation_endpoint": format!("{address}/oauth/revoke"),
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    );
    // As cacheable, and as open to scripts, as the keys that it leads to.
    for path in WELL_KNOWN {
        let same = issuer.get(path).await;
        assert_eq!(same.body, found.body);
        assert_eq!(same.header("content-type"), Some("application/json"));
        assert_eq!(same.header("cache-control"), Some("public, max-age=900"));
        assert_eq!(same.header("access-control-allow-origin"), Some("*"));
        let etag = same.header("etag").unwrap();
        let again = issuer.ask(Method::GET, path, &[("if-none-match", etag)]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);
        let head = issuer.ask(Method::HEAD, path, &[]).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
        let preflight = issuer.ask(Method::OPTIONS, path, &[]).await;
        assert_eq!(preflight.status, StatusCode::NO_CONTENT);
        let below = issuer.get(&format!("{path}/x")).await;
        assert_eq!(below.status, StatusCode::NOT_FOUND, "it has no path");
    }
    // Another one trusts it by its name alone.
    let verifier = config(&format!(
        "idps: [{{ name: auth, issuer: '{address}', audiences: [my-api], strict_jwks_origin: true }}]\n"
    ));
    let verifier = Program::start(&verifier).await;
    verifier.loaded("auth").await;
    assert_eq!(
        verifier.get("/jwks/auth").await.json(),
        issuer.get("/jwks/self").await.json()
    );
    let minted = call(
        &issuer,
        Method::POST,
        "/tokens",
        Some(NARROW),
        r#"{"user_id":"a"}"#,
    )
    .await;
    assert_eq!(judged(&verifier, text(&minted.json(), "token")).await, "ok");
}

#[tokio::test]
async fn an_issuer_with_a_path_is_found_behind_the_well_known_name() {
    let yaml = config(&service("")).replace("https://auth.example", "https://auth.example/:team/a/");
    let program = Program::start(&yaml).await;
    let expected = program.get(WELL_KNOWN[0]).await;
    assert_eq!(expected.json()["issuer"], "https://auth.example/:team/a/");
    assert_eq!(
        expected.json()["jwks_uri"],
        "https://auth.example/:team/a/jwks/self"
    );
    for name in WELL_KNOWN {
        let found = program.get(&format!("{name}/:team/a")).await;
        assert_eq!(
            (found.status, &found.body),
            (StatusCode::OK, &expected.body),
            "{name}"
        );
        assert_eq!(found.header("access-control-allow-origin"), Some("*"));
        for path in ["/:team", "/:team/a/b", "/other", "/:team/a/"] {
            let other = program.get(&format!("{name}{path}")).await;
            assert_eq!(other.status, StatusCode::NOT_FOUND, "{name}{path}");
        }
    }
    let none = Program::start(&config("")).await;
    for name in WELL_KNOWN {
        for path in [name.to_owned(), format!("{name}/a")] {
            assert_eq!(none.get(&path).await.status, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn the_set_that_the_metadata_leads_to_follows_every_change() {
    let program = start().await;
    let set = program.get("/jwks/self").await;
    let metadata = program.get(WELL_KNOWN[0]).await;
    let generated = admin(&program, Method::POST, "/v1/keys/generate", "")
        .await
        .json();
    let changed = program.get("/jwks/self").await;
    assert_ne!(changed.header("etag"), set.header("etag"));
    let keys = changed.json()["keys"].as_array().unwrap().clone();
    assert!(
        keys.iter().any(|key| key["kid"] == generated["added"][0]),
        "{generated}"
    );
    // What it says itself is the same, so caches keep it.
    let again = program.get(WELL_KNOWN[0]).await;
    assert_eq!(again.header("etag"), metadata.header("etag"));
}
