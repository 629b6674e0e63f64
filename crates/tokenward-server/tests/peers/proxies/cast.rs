//! Those whom the table's requests are from: their tokens, and what the service is to hear about them.

use std::thread;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::row::Identity;
use crate::http;
use crate::provider::Provider;
use crate::tokenward::Tokenward;

pub(super) struct Person {
    pub(super) token: String,
    pub(super) identity: Identity,
}

pub(super) struct Cast {
    /// May read, and has an email address.
    pub(super) alice: Person,
    /// Has neither scope nor email address.
    pub(super) bare: Person,
    pub(super) writer: Person,
    pub(super) admin: Person,
    /// Of another issuer, a real OpenID Connect provider.
    pub(super) foreign: Person,
    /// Whose claims a header cannot hold as they are.
    pub(super) odd: Vec<Person>,
    /// A claim that is longer than a header may be.
    pub(super) too_long: String,
    pub(super) expired: String,
    pub(super) other_audience: String,
    pub(super) revoked: String,
    /// Of a user whose tokens were all revoked.
    pub(super) ended: String,
    pub(super) parent: String,
    /// Whose parent was revoked.
    pub(super) orphan: String,
}

impl Cast {
    pub(super) fn new(tokenward: &Tokenward, provider: &Provider) -> Self {
        let office = Office(tokenward);
        let email = |email: &Value| json!({ "email": email });
        let alice = json!("alice@example.com");
        let expired = provider.token("ES256", 1, "my-api");
        let revoked = office.mint(&json!({"user_id": "revoked"}));
        office.revoke(&format!("/tokens/{}", text(&revoked, "token_id")));
        let ended = office.mint(&json!({"user_id": "ended"}));
        office.revoke("/users/ended/tokens");
        let pair = json!({"user_id": "family", "include_child": true, "auto_renew": false});
        let family = office.post("/token-pairs", &pair);
        let orphan = office.post("/token-pairs", &pair);
        office.revoke(&format!("/tokens/{}", text(&orphan, "parent_jti")));
        let cast = Self {
            alice: office.person("alice", "read", &alice, "alice@example.com"),
            bare: office.person("bare", "", &Value::Null, ""),
            writer: office.person("writer", "read write", &Value::Null, ""),
            admin: office.person("root", "admin", &Value::Null, ""),
            foreign: foreign(provider.token("ES256", 300, "my-api"), &provider.issuer),
            odd: [
                (json!("Zoë Müller"), "Zo%C3%AB M%C3%BCller"),
                (json!("a\r\nX-Admin: 1"), "a%0D%0AX-Admin: 1"),
                (json!("\t a\u{1}\u{7f} "), "%09 a%01%7F%20"),
                (json!("100%"), "100%25"),
                (json!("a,b;c=\"d\""), "a,b;c=\"d\""),
                (json!("\u{202e}x"), "%E2%80%AEx"),
                (json!(7), "7"),
                (json!(true), "true"),
                (json!(["a", "ä"]), "[\"a\",\"%C3%A4\"]"),
                (json!({"a": {"b": 1}}), "{\"a\":{\"b\":1}}"),
                (json!("e".repeat(4096)), "E"),
            ]
            .iter()
            .map(|(claim, header)| match *header {
                "E" => office.person("odd", "read", claim, &"e".repeat(4096)),
                header => office.person("odd", "read", claim, header),
            })
            .collect(),
            too_long: text(
                &office.mint(&json!({"user_id": "long", "claims": email(&json!("e".repeat(4097)))})),
                "token",
            ),
            expired,
            other_audience: text(
                &office.mint(&json!({"user_id": "elsewhere", "audience": "other-api"})),
                "token",
            ),
            revoked: text(&revoked, "token"),
            ended: text(&ended, "token"),
            parent: text(&family, "parent_token"),
            orphan: text(&orphan, "child_token"),
        };
        // The provider is a program of its own: its `exp` can only be waited for. Its leeway is none.
        thread::sleep(Duration::from_millis(2100));
        cast
    }
}

/// Where tokens come from, and end.
pub(super) struct Office<'a>(pub(super) &'a Tokenward);

impl Office<'_> {
    fn call(&self, method: &str, path: &str, body: &str) -> http::Answer {
        let bearer = format!("Bearer {}", self.0.credential());
        let url = format!("{}{path}", self.0.url);
        http::request(method, &url, &[("authorization", &bearer)], body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, &body.to_string());
        assert_eq!(answer.status, 201, "{path} {body}: {answer:?}");
        answer.json()
    }

    pub(super) fn mint(&self, body: &Value) -> Value {
        self.post("/tokens", body)
    }

    pub(super) fn revoke(&self, path: &str) {
        let answer = self.call("DELETE", path, "");
        assert_eq!(answer.status, 204, "{path}: {answer:?}");
    }

    /// `email` is the claim, and `header` what it is in a header.
    fn person(&self, user: &str, scope: &str, email: &Value, header: &str) -> Person {
        let mut body = json!({"user_id": user});
        if !scope.is_empty() {
            body["scope"] = scope.into();
        }
        if !email.is_null() {
            body["claims"] = json!({ "email": email });
        }
        let minted = self.mint(&body);
        let id = text(&minted, "token_id");
        Person {
            token: text(&minted, "token"),
            identity: identity(user, "https://auth.example.com", &id, scope, header),
        }
    }
}

fn foreign(token: String, issuer: &str) -> Person {
    let payload = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let identity = identity("svc", issuer, &text(&claims, "jti"), "read write", "");
    Person { token, identity }
}

/// The headers of a person; those that are empty are not set.
fn identity(subject: &str, issuer: &str, id: &str, scope: &str, email: &str) -> Identity {
    [
        ("x-tokenward-subject", subject),
        ("x-tokenward-issuer", issuer),
        ("x-tokenward-token-id", id),
        ("x-tokenward-scope", scope),
        ("x-user-email", email),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}
