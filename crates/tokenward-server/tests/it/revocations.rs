//! `/v1/revocations`: tokens of any trusted issuer refused at the proxy, and taken back.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward::{SystemClock, Timestamp};
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, TestKey, TokenBuilder};

use crate::{
    admin::{ADMIN, NARROW, READER, credentials, digest},
    program::{Answer, Program, ask, command, config},
};

const ISSUER: &str = "https://idp.test";
const OWN: &str = "https://auth.example";
/// Of a credential that may revoke and nothing else.
const REVOKER: &str = "Xb7-revoker-0123456789abcdefghijklmn";

fn yaml(upstream: &IdpServer, rest: &str) -> String {
    config(&format!(
        "{}- {{ name: revoker, secret_sha256: {}, scopes: ['tokens:revoke'] }}\n\
         idps: [{{ name: one, issuer: '{ISSUER}', audiences: [my-api], url: '{}'{rest} }}]\n",
        credentials(),
        digest(REVOKER),
        upstream.jwks_url()
    ))
}

fn token_service() -> String {
    config(&format!(
        "{}token_service: {{ issuer: '{OWN}', audience: [my-api], algorithm: ES256, generate_key: true, \
         allow_plaintext_keys: true }}\n",
        credentials()
    ))
}

fn upstream() -> (IdpServer, TestKey) {
    let key = TestKey::es256(0).with_kid("k");
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key]);
    (upstream, key)
}

fn now() -> Timestamp {
    SystemClock::new().wall()
}

/// A token of the identity provider, with everything that can be named.
fn token(jti: &str) -> TokenBuilder {
    TokenBuilder::new(now())
        .issuer(ISSUER)
        .audience("my-api")
        .subject("alice")
        .claim("sid", "session")
        .token_id(jti)
        .expires_in(Duration::from_secs(600))
}

async fn call(program: &Program, secret: &str, method: Method, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {secret}");
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    ask(
        program.admin,
        method,
        path,
        &headers,
        Bytes::from(body.to_owned()),
    )
    .await
}

/// Revokes, and gives the path of the record.
async fn revoke(program: &Program, body: &Value) -> String {
    let answer = call(program, ADMIN, Method::POST, "/v1/revocations", &body.to_string()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{body}: {answer:?}");
    let answer = answer.json();
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    format!("/v1/revocations/{}", answer["id"].as_str().unwrap())
}

async fn get(program: &Program, path: &str) -> Value {
    let answer = call(program, ADMIN, Method::GET, path, "").await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer.json()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

/// What `/authorize` says of a token: `ok`, or why not.
async fn judged(program: &Program, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let answer = program
        .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
        .await;
    match answer.status {
        StatusCode::OK => "ok".to_owned(),
        StatusCode::UNAUTHORIZED => answer.json()["error_code"].as_str().unwrap().to_owned(),
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn tokens_of_an_identity_provider_are_refused_where_none_are_issued() {
    let (upstream, key) = upstream();
    let directory = TempDir::new().unwrap();
    let yaml = yaml(&upstream, "").replace("\"memory:\"", "\"sqlite:./data\"");
    let mut program = Program::run(command(&directory, &yaml)).await;
    program.loaded("one").await;
    let (one, other) = (token("one"), token("two").subject("bob").claim("sid", "else"));
    let (one, other) = (one.sign(&key), other.sign(&key));
    let in_a_minute = Timestamp::from_secs(now().as_secs() + 60);
    for (member, value, code, is_for_all) in [
        ("jti", json!("one"), "token_revoked", false),
        ("sub", json!("alice"), "subject_revoked", false),
        ("sid", json!("session"), "subject_revoked", false),
        ("kid", json!("k"), "key_revoked", true),
        ("issued_before", json!(in_a_minute), "issuer_revoked", true),
    ] {
        // Remembered verifications are asked again, too.
        for _ in 0..2 {
            assert_eq!(judged(&program, &one).await, "ok", "{member}");
            assert_eq!(judged(&program, &other).await, "ok", "{member}");
        }
        let path = revoke(
            &program,
            &json!({"issuer": ISSUER, member: value, "note": "lost"}),
        )
        .await;
        for _ in 0..2 {
            assert_eq!(judged(&program, &one).await, code, "{member}");
            let others = if is_for_all { code } else { "ok" };
            assert_eq!(judged(&program, &other).await, others, "{member}");
        }
        if member == "sub" {
            // By a clock that is ahead, as far as the policy forgives.
            let ahead = token("ahead").claim("iat", now().as_secs() + 50).sign(&key);
            assert_eq!(judged(&program, &ahead).await, code);
        }
        let body = json!({ "token": one }).to_string();
        let told = call(&program, READER, Method::POST, "/v1/explain", &body)
            .await
            .json();
        assert_eq!(told["reason"], code, "{member}");
        let checks = told["checks"].as_array().unwrap();
        let last = checks.last().unwrap();
        assert_eq!(
            (&last["check"], &last["reason"]),
            (&json!("revocation"), &json!(code))
        );

        let record = get(&program, &path).await;
        assert_eq!(
            (&record["issuer"], &record["note"]),
            (&json!(ISSUER), &json!("lost"))
        );
        assert_eq!(record[member], value, "{record}");
        assert_eq!(
            path,
            format!("/v1/revocations/{}", record["id"].as_str().unwrap())
        );
        for absent in ["jti", "sub", "sid", "kid", "issued_before"] {
            assert_eq!(record.get(absent).is_some(), absent == member, "{record}");
        }
        let list = get(&program, "/v1/revocations").await;
        assert_eq!(list, json!({"revocations": [record], "next": null}));

        // Durable by now.
        program.signal(rustix::process::Signal::KILL);
        program.ended().await;
        program = Program::run(command(&directory, &yaml)).await;
        program.loaded("one").await;
        assert_eq!(judged(&program, &one).await, code, "{member}");
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
            let deleted = call(&program, ADMIN, Method::DELETE, &path, "").await;
            assert_eq!(deleted.status, status, "{member}");
        }
        let gone = call(&program, ADMIN, Method::GET, &path, "").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(judged(&program, &one).await, "ok");
    let metrics = program.admin("/metrics").await.text();
    assert!(metrics.contains("jwt_revoked_tokens_total 0"));
    // Reads are written a little later, and the process was killed. Making and deleting one names it.
    let audit = get(&program, "/v1/audit?limit=1000").await;
    let mut named: Vec<_> = Vec::new();
    for record in audit["records"].as_array().unwrap() {
        let action = record["action"].as_str().unwrap();
        if record["outcome"] == "ok" && matches!(action, "revocations.create" | "revocations.delete") {
            named.push((record["target"].as_str().unwrap(), action));
        }
    }
    named.sort_unstable();
    assert_eq!(named.len(), 10, "{named:?}");
    for pair in named.chunks(2) {
        assert_eq!((pair[0].0, pair[0].1), (pair[1].0, "revocations.create"));
        assert!(pair[0].0.len() > "/v1/revocations/".len(), "{pair:?}");
    }
}

#[tokio::test]
async fn a_record_lives_as_long_as_tokens_of_its_issuer_may() {
    let day = 86_400;
    let (upstream, _key) = upstream();
    for (rest, limit) in [
        ("", Some(30 * day)),
        (", max_token_lifetime: 2h", Some(7_200)),
        // Its tokens may never end.
        (", require_exp: false", None),
        // A clock that is five minutes ahead dates a token so much later.
        (", max_token_lifetime: 2h, leeway: 5m", Some(7_500)),
    ] {
        let program = Program::start(&yaml(&upstream, rest)).await;
        let lives = async |body: Value| {
            let record = get(&program, &revoke(&program, &body).await).await;
            let time = |member: &str| -> Option<jiff::Timestamp> {
                record[member].as_str().map(|text| text.parse().unwrap())
            };
            let created_at = time("created_at").unwrap();
            time("expires_at").map(|end| end.as_second() - created_at.as_second())
        };
        assert_eq!(
            lives(json!({"issuer": ISSUER, "jti": "a"})).await,
            limit,
            "{rest}"
        );
        assert_eq!(
            lives(json!({"issuer": ISSUER, "sid": "a"})).await,
            limit,
            "{rest}"
        );
        assert_eq!(lives(json!({"issuer": ISSUER, "kid": "a"})).await, None, "{rest}");
        let end = Timestamp::from_secs(now().as_secs() + 600);
        let known = lives(json!({"issuer": ISSUER, "jti": "b", "expires_at": end})).await;
        assert!((590..=600).contains(&known.unwrap()), "{rest}: {known:?}");
    }
}

#[tokio::test]
async fn our_own_issuer_is_the_default_and_a_parent_takes_its_children_with_it() {
    let program = Program::start(&token_service()).await;
    let issue = async |path: &str, body: &str| -> Value {
        let answer = call(&program, NARROW, Method::POST, path, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.json()
    };
    let pair = issue("/token-pairs", r#"{"user_id":"alice","include_child":true}"#).await;
    let child = text(&pair, "child_token");
    assert_eq!(judged(&program, &child).await, "ok");
    // Whatever its end is thought to be, its own counts.
    let soon = Timestamp::from_secs(now().as_secs() + 60);
    let path = revoke(&program, &json!({"jti": pair["parent_jti"], "expires_at": soon})).await;
    assert_eq!(judged(&program, &child).await, "parent_revoked");
    let bearer = format!("Bearer {}", text(&pair, "parent_token"));
    let renewed = program
        .ask(Method::POST, "/renew", &[("authorization", &bearer)])
        .await;
    assert_eq!(renewed.json()["error_code"], "token_revoked");
    let record = get(&program, &path).await;
    assert_eq!(
        (&record["issuer"], &record["parent"]),
        (&json!(OWN), &json!(true))
    );
    assert_eq!(record["expires_at"], pair["parent_expires_at"]);

    let child = issue("/token-pairs", r#"{"user_id":"bob","include_child":true}"#).await;
    let path = revoke(&program, &json!({"jti": child["child_jti"]})).await;
    assert_eq!(
        judged(&program, &text(&child, "child_token")).await,
        "token_revoked"
    );
    assert_eq!(get(&program, &path).await["parent"], false);

    // What is minted after it, in the same second too, is good.
    let before = text(&issue("/tokens", r#"{"user_id":"carol"}"#).await, "token");
    revoke(&program, &json!({"issuer": OWN, "sub": "carol"})).await;
    let after = text(&issue("/tokens", r#"{"user_id":"carol"}"#).await, "token");
    assert_eq!(judged(&program, &before).await, "subject_revoked");
    assert_eq!(judged(&program, &after).await, "ok");

    // The key that signs is taken out, so that what is minted from now on is good.
    let keys = get(&program, "/v1/keys").await;
    let kid = text(&keys["keys"][0], "kid");
    let path = revoke(&program, &json!({"kid": kid, "note": "leaked"})).await;
    assert_eq!(judged(&program, &after).await, "key_unknown");
    let record = get(&program, &path).await;
    assert_eq!((&record["kid"], &record["note"]), (&json!(kid), &json!("leaked")));
    let new = text(&issue("/tokens", r#"{"user_id":"carol"}"#).await, "token");
    assert_eq!(judged(&program, &new).await, "ok");
    let keys = get(&program, "/v1/keys").await.to_string();
    assert!(!keys.contains(&kid), "{keys}");

    // An id that says nothing here may be one of a store that is lost.
    revoke(&program, &json!({"jti": "x"})).await;
}

#[tokio::test]
async fn a_published_key_of_ours_is_refused_by_those_alone_who_may_change_keys() {
    let keeper = "Xb7-keeper-0123456789abcdefghijklmno";
    let more = format!(
        "- {{ name: revoker, secret_sha256: {}, scopes: ['tokens:revoke'] }}\n\
         - {{ name: keeper, secret_sha256: {}, scopes: ['tokens:revoke', 'keys:write'] }}\ntoken_service:",
        digest(REVOKER),
        digest(keeper)
    );
    let program = Program::start(&token_service().replace("token_service:", &more)).await;
    let keys = get(&program, "/v1/keys").await;
    let kids = [0, 1].map(|place| text(&keys["keys"][place], "kid"));
    let order = async |secret: &str, kid: &str| {
        let body = json!({ "kid": kid }).to_string();
        call(&program, secret, Method::POST, "/v1/revocations", &body).await
    };
    for kid in &kids {
        let answer = order(REVOKER, kid).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert_eq!(answer.json()["error_code"], "insufficient_scope");
    }
    assert_eq!(get(&program, "/v1/keys").await, keys);
    let page = get(&program, "/v1/revocations").await;
    assert_eq!(page["revocations"], json!([]));
    // One that is published no more, or never was, is an ordinary name.
    assert_eq!(order(REVOKER, "x").await.status, StatusCode::CREATED);
    assert_eq!(order(keeper, &kids[0]).await.status, StatusCode::CREATED);
    assert_eq!(get(&program, "/v1/keys").await["keys"][0]["kid"], kids[1]);
    assert_eq!(order(REVOKER, &kids[0]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_key_that_cannot_be_taken_out_is_not_refused_either() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(
        &path,
        include_str!("../../../tokenward-core/tests/it/keys/p256-pkcs8.pem"),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let yaml = token_service()
        .replace("generate_key: true", "private_key_file: key.pem")
        .replace("\"memory:\"", "\"sqlite:./data\"");
    let program = Program::run(command(&directory, &yaml)).await;
    let kid = text(&get(&program, "/v1/keys").await["keys"][0], "kid");
    let body = json!({ "kid": kid }).to_string();
    for path in ["/v1/revocations".to_owned(), format!("/v1/keys/{kid}/revoke")] {
        let refused = call(&program, ADMIN, Method::POST, &path, &body).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
        assert_eq!(refused.json()["error_code"], "key_in_file");
    }
    let page = get(&program, "/v1/revocations").await;
    assert_eq!(page["revocations"], json!([]));
    drop(program);
    let program = Program::run(command(&directory, &yaml)).await;
    let minted = call(&program, ADMIN, Method::POST, "/tokens", r#"{"user_id":"a"}"#).await;
    assert_eq!(judged(&program, &text(&minted.json(), "token")).await, "ok");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_revoked() {
    let (upstream, _key) = upstream();
    let program = Program::start(&yaml(&upstream, "")).await;
    let past = Timestamp::from_secs(now().as_secs() - 301);
    for (body, member) in [
        (json!({"issuer": ISSUER}), "jti"),
        (json!({"issuer": ISSUER, "jti": "a", "sub": "b"}), "sub"),
        (
            json!({"issuer": ISSUER, "sid": "a", "issued_before": past}),
            "issued_before",
        ),
        (json!({"issuer": ISSUER, "jti": ""}), "jti"),
        (json!({"issuer": ISSUER, "kid": 5}), "kid"),
        (json!({"issuer": ISSUER, "sub": null}), "sub"),
        (json!({"issuer": ISSUER, "sub": "x".repeat(16_385)}), "sub"),
        (
            json!({"issuer": ISSUER, "issued_before": "yesterday"}),
            "issued_before",
        ),
        (
            json!({"issuer": ISSUER, "issued_before": 1_800_000_000}),
            "issued_before",
        ),
        (
            json!({"issuer": ISSUER, "jti": "a", "expires_at": past}),
            "expires_at",
        ),
        (
            json!({"issuer": ISSUER, "jti": "a", "expires_at": "2030"}),
            "expires_at",
        ),
        (
            json!({"issuer": ISSUER, "jti": "a", "note": "x".repeat(1_025)}),
            "note",
        ),
        (json!({"issuer": ISSUER, "jti": "a", "until": "b"}), "until"),
        (json!({"issuer": "https://else.test", "jti": "a"}), "issuer"),
        (json!({"issuer": format!("{ISSUER}/"), "jti": "a"}), "issuer"),
        // None is issued here, so there is no default.
        (json!({"jti": "a"}), "issuer"),
    ] {
        let answer = call(
            &program,
            ADMIN,
            Method::POST,
            "/v1/revocations",
            &body.to_string(),
        )
        .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let errors = answer.json()["errors"].clone();
        let members: Vec<_> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| &error["member"])
            .collect();
        assert_eq!(members, [member], "{body}: {errors}");
    }
    for query in ["after=x", "limit=0", "limit=1001", "before=1", "after=1&after=2"] {
        let answer = call(
            &program,
            ADMIN,
            Method::GET,
            &format!("/v1/revocations?{query}"),
            "",
        )
        .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(
        get(&program, "/v1/revocations").await,
        json!({"revocations": [], "next": null})
    );
}

#[tokio::test]
async fn issuers_of_every_tenant_can_be_named_and_the_longest_life_counts() {
    let (upstream, _key) = upstream();
    let idps = format!(
        "idps:\n- {{ name: a, tenant: red, issuer: '{ISSUER}', audiences: any, url: '{url}', max_token_lifetime: 1h }}\n\
         - {{ name: b, tenant: blue, issuer: '{ISSUER}', audiences: any, url: '{url}', max_token_lifetime: 9h }}\n",
        url = upstream.jwks_url()
    );
    let program = Program::start(&config(&format!("{}{idps}", credentials()))).await;
    let path = revoke(&program, &json!({"issuer": ISSUER, "jti": "a"})).await;
    let record = get(&program, &path).await;
    let time = |member: &str| -> jiff::Timestamp { record[member].as_str().unwrap().parse().unwrap() };
    let lives = time("expires_at").as_second() - time("created_at").as_second();
    assert_eq!(lives, 9 * 3_600);
}

#[tokio::test]
async fn who_may_revoke_may_look_and_who_may_look_may_not_revoke() {
    let (upstream, _key) = upstream();
    let program = Program::start(&yaml(&upstream, "")).await;
    let body = json!({"issuer": ISSUER, "jti": "a"}).to_string();
    let made = call(&program, REVOKER, Method::POST, "/v1/revocations", &body).await;
    let path = format!("/v1/revocations/{}", made.json()["id"].as_str().unwrap());
    for (secret, reads, changes) in [
        (READER, StatusCode::OK, StatusCode::FORBIDDEN),
        (NARROW, StatusCode::FORBIDDEN, StatusCode::FORBIDDEN),
        (REVOKER, StatusCode::OK, StatusCode::CREATED),
    ] {
        for path in ["/v1/revocations", &path] {
            let read = call(&program, secret, Method::GET, path, "").await;
            assert_eq!(read.status, reads, "{secret} {path}");
        }
        let changed = call(&program, secret, Method::POST, "/v1/revocations", &body).await;
        assert_eq!(changed.status, changes, "{secret}");
        if changes == StatusCode::FORBIDDEN {
            let deleted = call(&program, secret, Method::DELETE, &path, "").await;
            assert_eq!(deleted.status, changes, "{secret}");
        } else {
            assert_eq!(changed.json(), made.json(), "the record of the same");
            let deleted = call(&program, secret, Method::DELETE, &path, "").await;
            assert_eq!(deleted.status, StatusCode::NO_CONTENT);
        }
    }
    let document = call(&program, READER, Method::GET, "/openapi.json", "")
        .await
        .json();
    let security = &document["paths"]["/v1/revocations"]["get"]["security"];
    let either = json!([{"credential": ["tokens:read"]}, {"credential": ["tokens:revoke"]}]);
    assert_eq!(*security, either);
}

#[tokio::test]
async fn they_are_listed_page_by_page() {
    let (upstream, _key) = upstream();
    let program = Program::start(&yaml(&upstream, "")).await;
    for n in 0..5 {
        revoke(&program, &json!({"issuer": ISSUER, "jti": n.to_string()})).await;
    }
    // One that grows is the newest.
    revoke(&program, &json!({"issuer": ISSUER, "jti": "1", "note": "again"})).await;
    let (mut seen, mut after) = (Vec::new(), json!(0));
    for size in [2, 2, 1] {
        let page = get(&program, &format!("/v1/revocations?limit=2&after={after}")).await;
        let records = page["revocations"].as_array().unwrap();
        assert_eq!(records.len(), size, "{page}");
        seen.extend(
            records
                .iter()
                .map(|record| record["jti"].as_str().unwrap().to_owned()),
        );
        after = page["next"].clone();
    }
    assert_eq!((seen.join(" "), after), ("0 2 3 4 1".to_owned(), Value::Null));
}

#[tokio::test]
async fn a_user_of_ours_is_refused_for_as_long_as_another_tenant_lets_tokens_of_our_name_live() {
    let (upstream, _) = upstream();
    let revoked = async |elsewhere: &str| -> Value {
        let yaml = token_service().replace(
            "audience: [my-api],",
            "audience: [my-api], token_lifetime: 1h, \
             parent_lifetime: 1h, max_lifetime: 1h,",
        );
        let idps = format!(
            "idps: [{{ name: theirs, tenant: b, issuer: '{OWN}', audiences: [x], url: '{}'{elsewhere} }}]\n",
            upstream.jwks_url()
        );
        let idps = if elsewhere.is_empty() { String::new() } else { idps };
        let program = Program::start(&format!("{yaml}{idps}")).await;
        let bearer = format!("Bearer {ADMIN}");
        let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
        let answer = ask(
            program.public,
            Method::DELETE,
            "/users/alice/tokens",
            &headers,
            Bytes::new(),
        )
        .await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        let body = Bytes::from_static(br#"{"jti":"theirs"}"#);
        let answer = ask(program.admin, Method::POST, "/v1/revocations", &headers, body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        let page = ask(
            program.admin,
            Method::GET,
            "/v1/revocations",
            &headers,
            Bytes::new(),
        )
        .await;
        page.json()["revocations"].clone()
    };
    let ends = |record: &Value| {
        let end: jiff::Timestamp = record["expires_at"].as_str().unwrap().parse().unwrap();
        end.as_second() - now().as_secs()
    };
    for (elsewhere, longest) in [
        ("", 3_600),
        (", max_token_lifetime: 60s", 3_600),
        (", max_token_lifetime: 60d", 60 * 86_400),
    ] {
        let records = revoked(elsewhere).await;
        for record in [&records[0], &records[1]] {
            let left = ends(record);
            assert!(
                (longest - 60..=longest + 1).contains(&left),
                "{elsewhere} {left} {record}"
            );
        }
    }
}
