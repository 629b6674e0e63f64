//! The configuration in force, for people to look at: every member with its value, defaults included, and no secret.

use std::fmt;

use serde_json::{Map, Value};
use url::Url;

use super::{
    record::{Field, Member, Section},
    rules::Kind,
    store,
};

/// What stands where a secret is set.
const SET: &str = "(set)";

/// Values by the names of their members, as `server.port`. Those of single IdPs are not among them: there may be very
/// many.
#[derive(Clone, Default)]
pub(crate) struct Effective(pub(super) Map<String, Value>);

impl Effective {
    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Notes that the member `path` was read as `text`.
    pub(super) fn note(&mut self, path: &str, text: &str, kind: Kind, secret: bool) {
        let value = match kind {
            _ if secret => SET.into(),
            Kind::Integer => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
            Kind::Boolean => (text == "true").into(),
            Kind::Text | Kind::File | Kind::Duration | Kind::Rate => without_password(text).into(),
        };
        self.0.insert(path.to_owned(), value);
    }

    /// Notes that the member `path` is a list without elements.
    pub(super) fn note_empty(&mut self, path: &str) {
        self.0.insert(path.to_owned(), Value::Array(Vec::new()));
    }
}

/// It says again what stands beside it.
impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Effective(…)")
    }
}

/// Takes what all members before it were read as, and is none itself.
pub(super) struct EverythingSoFar;

impl Field for EverythingSoFar {
    type Output = Effective;

    fn members(&self, _: &'static str, _: String) -> Vec<Member> {
        Vec::new()
    }

    fn read(&self, section: &Section<'_>, _: &'static str) -> Option<Effective> {
        Some(section.cx.take_effective())
    }
}

/// An address may hold what opens it.
fn without_password(text: &str) -> String {
    if store::is_redis(text) {
        // Several hosts make it none of the URLs that others read.
        return store::without_password(text);
    }
    let Some(mut url) = Url::parse(text).ok().filter(|url| url.password().is_some()) else {
        return text.to_owned();
    };
    match url.set_password(Some("***")) {
        Ok(()) => url.into(),
        Err(()) => SET.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::read;

    #[test]
    fn it_has_values_and_defaults_and_no_secrets() {
        let secret = "Xb7-0123456789abcdefghijklmnopqrs";
        let digest = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        let config = read(&format!(
            "server: {{ port: 8081, metrics_on_public: true }}\nmerged: {{ max_age: 60 }}\n\
             authorize: {{ headers: [X-Token, Authorization] }}\n\
             credentials: [{{ name: ops, secret_sha256: {digest}, scopes: [admin] }}]\n\
             idps: [{{ name: canary, issuer: i, audiences: any, algorithms: [HS256], secret: '{secret}' }}]\n"
        ))
        .unwrap();
        let members = config.effective.members();
        for (path, value) in [
            ("server.port", serde_json::json!(8081)),
            ("server.metrics_on_public", true.into()),
            ("server.admin", "127.0.0.1:9090".into()),
            ("merged.max_age", "60".into()),
            ("merged.on_collision", "keep_all".into()),
            ("authorize.headers[1]", "Authorization".into()),
            ("idp_defaults.leeway", "60s".into()),
            ("credentials[0].name", "ops".into()),
            ("credentials[0].scopes[0]", "admin".into()),
            ("credentials[0].secret_sha256", "(set)".into()),
        ] {
            assert_eq!(members.get(path), Some(&value), "{path}");
        }
        let text = format!("{members:?}");
        assert!(
            !text.contains(digest) && !text.contains(secret) && !text.contains("canary"),
            "{text}"
        );
        assert_eq!(
            read("").unwrap().effective.members()["authorize.headers[0]"],
            "Authorization"
        );
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(
            super::without_password("redis://user:hush@host:6379/0"),
            "redis://user:***@host:6379/0"
        );
        assert_eq!(
            super::without_password("redis+cluster://user:hush@host:6379,other:6379"),
            "redis+cluster://user:***@host:6379,other:6379"
        );
        assert_eq!(super::without_password("sqlite:./data"), "sqlite:./data");
    }
}
