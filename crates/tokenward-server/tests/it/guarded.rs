//! Every guarded call, with each credential that is not good for it.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokenward_testkit::{IdpServer, TestKey};

use crate::{
    admin::{ADMIN, NARROW, READER, TOKEN_SERVICE, WRONG, call, credentials, with},
    program::{Program, ask, config},
};
/// One guarded operation: how it is called so that it would have an effect, and the scope that it needs.
struct Row {
    method: Method,
    path: &'static str,
    /// The same as the document writes it.
    template: &'static str,
    body: &'static str,
    scope: Option<&'static str>,
}

impl Row {
    fn listener(&self, program: &Program) -> std::net::SocketAddr {
        match self.path.starts_with("/v1/") {
            true => program.admin,
            false => program.public,
        }
    }
}

/// Every guarded operation. The test fails where one is missing here.
fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |method, path, template, body, scope| {
        rows.push(Row {
            method,
            path,
            template,
            body,
            scope,
        });
    };
    row(
        Method::POST,
        "/v1/explain",
        "/v1/explain",
        r#"{"token":"x"}"#,
        Some("tokens:read"),
    );
    row(Method::GET, "/v1/events", "/v1/events", "", None);
    row(Method::GET, "/v1/config", "/v1/config", "", None);
    row(Method::GET, "/v1/audit", "/v1/audit", "", Some("admin"));
    row(Method::GET, "/v1/idps", "/v1/idps", "", None);
    row(Method::GET, "/v1/idps/one", "/v1/idps/{idp}", "", None);
    let write = Some("idps:write");
    row(
        Method::POST,
        "/v1/idps/one/refresh",
        "/v1/idps/{idp}/refresh",
        "",
        write,
    );
    row(
        Method::POST,
        "/v1/idps/one/purge",
        "/v1/idps/{idp}/purge",
        "",
        write,
    );
    let put = r#"{"url":"http://127.0.0.1:9/k"}"#;
    row(Method::PUT, "/v1/idps/new", "/v1/idps/{idp}", put, write);
    row(Method::DELETE, "/v1/idps/added", "/v1/idps/{idp}", "", write);
    let (list, one) = ("/v1/tenants/{tenant}/idps", "/v1/tenants/{tenant}/idps/{idp}");
    row(Method::GET, "/v1/tenants/default/idps", list, "", None);
    row(Method::GET, "/v1/tenants/default/idps/one", one, "", None);
    row(Method::PUT, "/v1/tenants/default/idps/new2", one, put, write);
    row(Method::DELETE, "/v1/tenants/default/idps/added2", one, "", write);
    row(
        Method::POST,
        "/v1/tenants/default/idps/one/refresh",
        "/v1/tenants/{tenant}/idps/{idp}/refresh",
        "",
        write,
    );
    row(
        Method::POST,
        "/v1/tenants/default/idps/one/purge",
        "/v1/tenants/{tenant}/idps/{idp}/purge",
        "",
        write,
    );
    let user = r#"{"user_id":"a"}"#;
    let (issue, revoke) = (Some("tokens:issue"), Some("tokens:revoke"));
    row(Method::POST, "/tokens", "/tokens", user, issue);
    row(Method::POST, "/token-pairs", "/token-pairs", user, issue);
    row(
        Method::GET,
        "/tokens/latest?parent_jti=x",
        "/tokens/latest",
        "",
        issue,
    );
    row(
        Method::GET,
        "/tokens/stream?parent_jti=x",
        "/tokens/stream",
        "",
        issue,
    );
    row(Method::DELETE, "/tokens/x", "/tokens/{jti}", "", revoke);
    row(
        Method::DELETE,
        "/users/a/tokens",
        "/users/{user_id}/tokens",
        "",
        revoke,
    );
    for (path, scope) in [
        ("/oauth/introspect", "tokens:read"),
        ("/oauth/revoke", "tokens:revoke"),
    ] {
        row(Method::POST, path, path, "token=x", Some(scope));
    }
    let refused = r#"{"jti":"x"}"#;
    row(
        Method::POST,
        "/v1/revocations",
        "/v1/revocations",
        refused,
        revoke,
    );
    let read = Some("tokens:read");
    let one = "/v1/revocations/{id}";
    row(Method::GET, "/v1/revocations", "/v1/revocations", "", read);
    row(Method::GET, "/v1/revocations/x", one, "", read);
    row(Method::DELETE, "/v1/revocations/x", one, "", revoke);
    let keys = Some("keys:write");
    row(Method::GET, "/v1/keys", "/v1/keys", "", None);
    row(Method::POST, "/v1/keys/generate", "/v1/keys/generate", "", keys);
    let force = r#"{"force":true}"#;
    row(Method::POST, "/v1/keys/rotate", "/v1/keys/rotate", force, keys);
    row(Method::POST, "/v1/keys/import", "/v1/keys/import", "{}", keys);
    row(
        Method::POST,
        "/v1/keys/x/revoke",
        "/v1/keys/{kid}/revoke",
        "",
        keys,
    );
    rows
}

/// What a call could have changed.
async fn state(program: &Program) -> Value {
    let idps = with(program, ADMIN, Method::GET, "/v1/idps/one", "").await.json();
    let list = with(program, ADMIN, Method::GET, "/v1/idps", "").await.json();
    let names: Vec<_> = list["idps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|idp| idp["name"].clone())
        .collect();
    let own = with(program, ADMIN, Method::GET, "/v1/keys", "").await.json();
    let revoked = with(program, ADMIN, Method::GET, "/v1/revocations", "")
        .await
        .json();
    json!({ "revoked": revoked, "own": own, "idps": names, "updates": idps["update_count"], "keys": idps["key_count"], "errors": idps["error_count"] })
}

#[tokio::test]
async fn no_call_has_an_effect_without_its_credential() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let yaml = config(&format!(
        "{}idps: [{{ name: one, url: '{}' }}]\n{TOKEN_SERVICE}",
        credentials(),
        upstream.jwks_url()
    ));
    let yaml = yaml.replacen("server: {", "server: { trusted_proxies: [127.0.0.0/8],", 1);
    let program = Program::start(&yaml).await;
    program.loaded("one").await;
    for added in ["added", "added2"] {
        let body = r#"{"url":"http://127.0.0.1:9/k"}"#;
        let answer = with(&program, ADMIN, Method::PUT, &format!("/v1/idps/{added}"), body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    // The table has every operation that the document says needs a credential, with the scope that it says.
    let document = call(&program, Method::GET, "/openapi.json", &[], "").await.json();
    let mut documented = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            match operation["security"].get(0) {
                Some(needs) => {
                    let scope = needs["credential"]
                        .get(0)
                        .map(|scope| scope.as_str().unwrap().to_owned());
                    documented.push((method.to_uppercase(), path.clone(), scope));
                }
                None => assert!(!path.starts_with("/v1/"), "{method} {path} is not guarded"),
            }
        }
    }
    let rows = table();
    let mut tabled: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.method.to_string(),
                row.template.to_owned(),
                row.scope.map(str::to_owned),
            )
        })
        .collect();
    documented.sort();
    tabled.sort();
    assert_eq!(documented, tabled);

    let before = state(&program).await;
    let wrong = format!("Bearer {WRONG}");
    for (number, row) in rows.iter().enumerate() {
        // One address has so many failures a minute, and there are more calls.
        let caller = format!("10.0.0.{number}");
        // Each with one that has another scope.
        let narrow = match row.scope {
            Some("tokens:issue") => READER,
            _ => NARROW,
        };
        let narrow = format!("Bearer {narrow}");
        let what = format!("{} {}", row.method, row.path);
        let wrong = [
            ("authorization", wrong.as_str()),
            ("x-forwarded-for", caller.as_str()),
        ];
        let mut cases = vec![(vec![], 401), (wrong.to_vec(), 401)];
        if row.scope.is_some() {
            cases.push((vec![("authorization", narrow.as_str())], 403));
        }
        for (headers, status) in cases {
            let body = Bytes::from(row.body.to_owned());
            let host = [("host", "localhost")];
            let headers: Vec<_> = host.iter().chain(&headers).copied().collect();
            let answer = ask(
                row.listener(&program),
                row.method.clone(),
                row.path,
                &headers,
                body,
            )
            .await;
            assert_eq!(answer.status.as_u16(), status, "{what} {headers:?}");
            let refusal = match row.path.starts_with("/oauth/") {
                true => "application/json",
                false => "application/problem+json",
            };
            assert_eq!(answer.header("content-type"), Some(refusal), "{what}");
        }
    }
    assert_eq!(state(&program).await, before);

    // Each refusal is in the audit log, and none of the secrets.
    let audit = with(&program, ADMIN, Method::GET, "/v1/audit?limit=1000", "").await;
    let records = audit.json()["records"].as_array().unwrap().clone();
    for row in &rows {
        let path = row.path.split('?').next().unwrap();
        for outcome in ["credential_missing", "credential_unknown", "insufficient_scope"] {
            let found = records
                .iter()
                .any(|record| record["target"] == path && record["outcome"] == outcome);
            assert!(
                found || (outcome == "insufficient_scope" && row.scope.is_none()),
                "{} {outcome}",
                row.path
            );
        }
    }
    let refused = records
        .iter()
        .find(|record| record["outcome"] == "insufficient_scope")
        .unwrap();
    assert_eq!(
        (&refused["who"], &refused["address"]),
        (&"narrow".into(), &"127.0.0.1".into())
    );
    assert!(
        ![ADMIN, NARROW, WRONG]
            .iter()
            .any(|secret| audit.text().contains(secret))
    );

    // With the right one each of them is answered, so that the table asks for what exists.
    for row in rows.iter().filter(|row| row.path != "/v1/events") {
        let bearer = format!("Bearer {ADMIN}");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let headers = [("host", "localhost"), ("authorization", bearer.as_str()), form];
        let body = Bytes::from(row.body.to_owned());
        let answer = ask(
            row.listener(&program),
            row.method.clone(),
            row.path,
            &headers,
            body,
        )
        .await;
        // Some name what is not there, which only those are told who may ask.
        let expected = match row.template {
            "/tokens/latest" | "/tokens/stream" => Some("token_revoked"),
            "/v1/keys/import" => Some("request_malformed"),
            "/v1/keys/{kid}/revoke" | "/v1/revocations/{id}" => Some("not_found"),
            _ => None,
        };
        let what = format!("{} {}: {answer:?}", row.method, row.path);
        match expected {
            Some(code) => assert_eq!(answer.json()["error_code"], code, "{what}"),
            None => assert!(answer.status.is_success(), "{what}"),
        }
    }
}
