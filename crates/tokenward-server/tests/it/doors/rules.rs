//! Rules that are about more than a request and its token.

use super::*;

#[tokio::test]
async fn a_parent_is_let_through_where_a_rule_says_so() {
    let yaml = format!(
        "{}token_service: {{ issuer: 'https://auth.example', audience: [api], algorithm: ES256, generate_key: true, \
         allow_plaintext_keys: true }}\nauthorize:\n  rules:\n  \
         - {{ path: {{ exact: /renew }}, require: {{ token_types: [parent] }} }}\n  \
         - {{ path: {{ exact: /own }}, require: {{ idps: [self], token_types: [parent, child] }} }}\n  \
         - {{ path: {{ exact: /access }}, require: {{ token_types: [access] }} }}\n  \
         - {{ host: h, path: {{ exact: /proven }}, require: {{ token_types: [access, parent], dpop: required }} }}\n  \
         - {{ path: {{ exact: /admins }}, require: {{ token_types: [parent], scopes: {{ all: [admin] }} }} }}\n",
        credentials()
    );
    let program = Program::start(&config(&yaml)).await;
    let post = |path: &'static str, secret: &'static str, body: &'static str| {
        let (program, bearer) = (&program, format!("Bearer {secret}"));
        async move {
            let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
            ask(program.public, Method::POST, path, &headers, Bytes::from(body))
                .await
                .json()
        }
    };
    let pair = post(
        "/token-pairs",
        NARROW,
        r#"{"user_id": "u", "scope": "read", "include_child": true}"#,
    )
    .await;
    let single = post("/tokens", NARROW, r#"{"user_id": "u"}"#).await;
    let bearer = |value: &serde_json::Value| format!("Bearer {}", value.as_str().unwrap());
    let (parent, child, single) = (
        bearer(&pair["parent_token"]),
        bearer(&pair["child_token"]),
        bearer(&single["token"]),
    );
    let forged = format!("{}x", &parent[..parent.len() - 2]);
    for (target, token, code) in [
        ("/", &parent, "type_rejected"),
        ("/", &child, "allow"),
        ("/", &single, "allow"),
        ("/renew", &parent, "allow"),
        ("/renew", &child, "rule_denied"),
        ("/renew", &single, "rule_denied"),
        ("/own", &parent, "allow"),
        ("/own", &child, "allow"),
        ("/own", &single, "rule_denied"),
        ("/access", &single, "allow"),
        ("/access", &child, "rule_denied"),
        ("/access", &parent, "type_rejected"),
        ("/admins", &parent, "insufficient_scope"),
        ("/proven", &parent, "dpop_missing"),
    ] {
        let headers = auth(token);
        let client = Client {
            host: "h",
            method: "GET",
            target,
            headers: &headers,
        };
        for door in PROXIES {
            door.expect(&program, client, code).await;
        }
    }
    let headers = auth(&forged);
    let client = Client {
        host: "h",
        method: "GET",
        target: "/renew",
        headers: &headers,
    };
    let answer = Door::Nginx.ask(&program, client).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let headers = auth(&parent);
    let client = Client {
        headers: &headers,
        ..client
    };
    let answer = Door::Nginx.ask(&program, client).await;
    assert_eq!(answer.header("x-tokenward-subject"), Some("u"));
    assert_eq!(answer.header("x-tokenward-scope"), Some("read"));

    let path = format!("/tokens/{}", pair["parent_jti"].as_str().unwrap());
    let secret = format!("Bearer {ADMIN}");
    let revoked = program
        .ask(
            Method::DELETE,
            &path,
            &[("host", "localhost"), ("authorization", &secret)],
        )
        .await;
    assert_eq!(revoked.status, 204);
    Door::Nginx.expect(&program, client, "token_revoked").await;
    let headers = auth(&child);
    let client = Client {
        target: "/own",
        headers: &headers,
        ..client
    };
    Door::Nginx.expect(&program, client, "parent_revoked").await;
}

#[tokio::test]
async fn a_rule_may_wait_for_an_identity_provider() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key(0)]);
    let yaml = format!(
        "{}authorize: {{ rules: [{{ require: {{ tenant: acme, idps: [later] }} }}] }}\n",
        credentials()
    );
    let program = Program::start(&config(&yaml)).await;
    let warned = |line: &str| line.contains("authorize.rules[0] waits for an IdP of the tenant `acme`");
    assert!(
        program.output().iter().any(|line| warned(line)),
        "{:?}",
        program.output()
    );
    let token = bearer(&good());
    let headers = auth(&token);
    let client = Client {
        host: "h",
        method: "GET",
        target: "/",
        headers: &headers,
    };
    Door::Forward.expect(&program, client, "issuer_unknown").await;

    let secret = format!("Bearer {ADMIN}");
    for (name, issuer) in [("other", "https://other.test"), ("later", ISSUER)] {
        let document = json!({ "url": upstream.jwks_url(), "issuer": issuer, "audiences": ["api"] });
        let path = format!("/v1/tenants/acme/idps/{name}");
        let headers = [("host", "localhost"), ("authorization", secret.as_str())];
        let added = ask(
            program.admin,
            Method::PUT,
            &path,
            &headers,
            Bytes::from(document.to_string()),
        )
        .await;
        assert_eq!(added.status, 201, "{added:?}");
    }
    program
        .until("/tenants/acme/jwks/later", |answer| answer.status == 200)
        .await;
    Door::Forward.expect(&program, client, "allow").await;
    let other = bearer(&good().issuer("https://other.test"));
    let headers = auth(&other);
    Door::Forward
        .expect(
            &program,
            Client {
                headers: &headers,
                ..client
            },
            "rule_denied",
        )
        .await;
}
