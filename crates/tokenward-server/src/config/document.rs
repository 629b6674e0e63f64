//! One identity provider as JSON, as it is added at run time.

use std::{fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::json;
use tokenward::fetch::AllowedHost;

use super::{
    idp::{Defaults, Idp},
    model::Config,
    problem::{Place, Problem},
    record::{Context, Member, Record as _, Section, Shape},
    tree::{Entry, Node, Style, Value, entry},
};

/// The longest document, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 64 * 1_024;

/// The most members of one object. An identity provider has about 50.
const MAX_MEMBERS: usize = 200;

/// Members of an identity provider that its document does not have, and why.
const ELSEWHERE: [(&str, &str); 5] = [
    ("name", "the path names the identity provider"),
    ("tenant", "the path names the tenant"),
    (
        "secret",
        "only an identity provider of the configuration has a secret",
    ),
    ("secret_file", "only the configuration names files of the server"),
    ("ca_file", "only the configuration names files of the server"),
];

/// How documents are read: what their identity providers have in common with those of the configuration.
#[derive(Clone, PartialEq)]
pub(crate) struct Form {
    defaults: Defaults,
    /// Domains that stand for all identity providers.
    pub(crate) allowed_domains: Arc<[AllowedHost]>,
}

impl Config {
    /// How documents are read under this configuration.
    pub(crate) fn form(&self) -> Form {
        Form {
            defaults: self.idp_defaults.clone(),
            allowed_domains: self.allowed_domains.as_slice().into(),
        }
    }
}

impl Form {
    /// Reads a document with the members of an identity provider of the configuration, less [`ELSEWHERE`]. Variables
    /// are not looked for in it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(crate) fn read(&self, tenant: &str, name: &str, document: &[u8]) -> Result<Idp, Vec<Problem>> {
        let cx = Context::new(self.defaults.dev);
        let idp = self.idp(tenant, name, document, &cx);
        let problems: Vec<_> = cx.take_problems().into_iter().collect();
        match idp {
            Some(idp) if problems.is_empty() => Ok(idp),
            _ => Err(problems),
        }
    }

    fn idp(&self, tenant: &str, name: &str, document: &[u8], cx: &Context) -> Option<Idp> {
        let mut node = parse(document, cx)
            .map_err(|message| cx.report(Place::Whole, "", message))
            .ok()?;
        let Value::Map(entries) = &mut node.value else {
            cx.report(Place::Whole, "", "expected a JSON object");
            return None;
        };
        for (member, why) in ELSEWHERE {
            if let Some(at) = entries.iter().position(|entry| entry.key == member) {
                entries.remove(at);
                cx.report(Place::Whole, member, why);
            }
        }
        for (member, text) in [("name", name), ("tenant", tenant)] {
            entries.push(Entry {
                key: member.to_owned(),
                key_place: Place::Whole,
                node: scalar(text, Style::Quoted),
            });
        }
        let section = Section::over(cx, &node, "idp_defaults", &self.defaults.node);
        let mut idp = section.read::<Idp>()?;
        // A file is read once, with the configuration.
        let ca_file = &self.defaults.settings.ca_file;
        if idp.settings.ca_file != *ca_file {
            Arc::make_mut(&mut idp.settings).ca_file.clone_from(ca_file);
        }
        if let Some((member, message)) = idp.outside(&self.allowed_domains) {
            section.report(member, message);
        }
        Some(idp)
    }
}

/// The JSON Schema of a document, made from the members themselves. It says their names and shapes; what a value must
/// be is in words.
pub(crate) fn schema() -> serde_json::Value {
    let mut members = Idp::members();
    members.retain(|member| ELSEWHERE.iter().all(|(name, _)| *name != member.name));
    object_schema(&members)
}

fn object_schema(members: &[Member]) -> serde_json::Value {
    let list = || json!({ "type": "array", "items": { "type": "string" } });
    let properties = members.iter().map(|member| {
        let mut schema = match &member.shape {
            Shape::Scalar => json!({ "type": ["string", "integer", "boolean"] }),
            Shape::List => list(),
            Shape::ListOrWord => json!({ "oneOf": [list(), { "type": "string" }] }),
            Shape::Map => json!({ "type": "object" }),
            Shape::Section(members) | Shape::Sections(members) => object_schema(members),
        };
        let takes = match member.takes.as_str() {
            "" => String::new(),
            takes => format!(" Takes {takes}; default {}.", member.default),
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), format!("{}{takes}", member.doc).into());
        }
        (member.name.to_owned(), schema)
    });
    let properties: serde_json::Map<_, _> = properties.collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn parse(document: &[u8], cx: &Context) -> Result<Node, String> {
    if document.len() > MAX_DOCUMENT {
        return Err(format!("the document is longer than {MAX_DOCUMENT} bytes"));
    }
    let mut json = serde_json::Deserializer::from_slice(document);
    // What the parser says of a place is enough; of the text it says nothing.
    let place = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => error.to_string(),
        _ => format!("not JSON, at line {} column {}", error.line(), error.column()),
    };
    let node = Json(cx).deserialize(&mut json).map_err(place)?;
    json.end().map_err(place)?;
    Ok(node)
}

fn scalar(text: impl Into<String>, style: Style) -> Node {
    Node {
        place: Place::Whole,
        value: Value::Scalar {
            text: text.into(),
            style,
        },
    }
}

fn node(value: Value) -> Node {
    Node {
        place: Place::Whole,
        value,
    }
}

/// Builds the tree that the configuration's file becomes, too. Members that stand twice are reported.
#[derive(Clone, Copy)]
struct Json<'a>(&'a Context);

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(scalar("null", Style::Plain))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(scalar(value.to_string(), Style::Plain))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(scalar(value.to_string(), Style::Plain))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(scalar(value.to_string(), Style::Plain))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // With a point, so that it is never taken for an integer.
        Ok(scalar(format!("{value:?}"), Style::Plain))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(scalar(value, Style::Quoted))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(node(Value::List(nodes)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.len() == MAX_MEMBERS {
                return Err(A::Error::custom(format!(
                    "an object has more than {MAX_MEMBERS} members"
                )));
            }
            let member = Entry {
                key,
                key_place: Place::Whole,
                node: map.next_value_seed(self)?,
            };
            entry(self.0, &mut entries, member);
        }
        Ok(node(Value::Map(entries)))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::read;

    use super::*;

    fn form(text: &str) -> Form {
        read(text).unwrap().form()
    }

    fn problems(form: &Form, document: &str) -> Vec<String> {
        let problems = form.read("t", "n", document.as_bytes()).map(|_| ()).unwrap_err();
        problems
            .iter()
            .map(|problem| format!("{}: {}", problem.member, problem.message))
            .collect()
    }

    #[test]
    fn a_document_has_the_members_of_an_idp_and_the_defaults_beneath_them() {
        let form = form("idp_defaults: { leeway: 7s, max_keys: 3, retry: { retries: 5 } }");
        let document = r#"{"url": "https://a.example/\u006b", "max_keys": 4, "audiences": ["x"], "issuer": "i",
            "retry": {"initial": "20ms"}, "required": true}"#;
        let idp = form.read("t", "n", document.as_bytes()).unwrap();
        assert_eq!((idp.tenant.as_str(), idp.name.as_str()), ("t", "n"));
        assert_eq!(idp.url.unwrap().as_str(), "https://a.example/k");
        let settings = &idp.settings;
        assert_eq!(
            (settings.max_keys, settings.retry.retries, settings.required),
            (4, 5, true)
        );
        assert_eq!(settings.leeway.as_secs(), 7);
        assert_eq!(settings.retry.initial.as_millis(), 20);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let form = form("allowed_domains: [good.example]");
        let document = r#"{"url": "https://bad.example/k", "url": "x", "urls": 1, "max_keys": "4", "leeway": 1.5,
            "retry": {"retries": null, "x": {}}, "name": "m", "tenant": "u", "secret": "s", "secret_file": "/f",
            "ca_file": "/f", "issuer": ["i"]}"#;
        assert_eq!(
            problems(&form, document),
            [
                "ca_file: only the configuration names files of the server",
                "issuer: expected text, found a list",
                "leeway: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
                "max_keys: expected an integer, found text",
                "name: the path names the identity provider",
                "retry.retries: expected an integer, found nothing; leave the member out to have its default",
                "retry.x: unknown member",
                "secret: only an identity provider of the configuration has a secret",
                "secret_file: only the configuration names files of the server",
                "tenant: the path names the tenant",
                "url: the member is given twice",
                "urls: unknown member (did you mean `url`?)",
            ]
        );
        let whole = problems(&form, r#"{"url": "https://bad.example/k"}"#);
        assert_eq!(
            whole,
            ["url: the host is not within the global `allowed_domains`"]
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let form = form("");
        for document in [
            "",
            "{",
            "{}x",
            "[]",
            "null",
            "7",
            "\"x\"",
            "{\"a\": 01}",
            "{'a': 1}",
            "\u{feff}{}",
        ] {
            assert_eq!(problems(&form, document).len(), 1, "{document}");
        }
        assert_eq!(
            problems(&form, &" ".repeat(MAX_DOCUMENT + 1)),
            [": the document is longer than 65536 bytes"]
        );
        let many: String = (0..=MAX_MEMBERS).map(|n| format!("\"{n}\": 1,")).collect();
        let said = problems(&form, &format!("{{{many} \"last\": 1}}"));
        assert!(said[0].contains("more than 200 members"), "{said:?}");
        assert!(
            form.read("t", "n", "[".repeat(9_999).as_bytes()).is_err(),
            "depth is bounded"
        );
    }

    #[test]
    fn variables_and_files_stay_where_they_are() {
        let form = form("");
        let idp = form.read(
            "t",
            "n",
            br#"{"url": "https://a.example/k", "issuer": "${HOME}", "audiences": "any"}"#,
        );
        assert_eq!(idp.unwrap().issuer.as_deref(), Some("${HOME}"));
        for name in ["self", "all", "a/b", ""] {
            assert!(
                form.read("t", name, br#"{"url": "https://a.example/k"}"#)
                    .is_err(),
                "{name}"
            );
        }
        assert!(
            form.read("a/b", "n", br#"{"url": "https://a.example/k"}"#)
                .is_err()
        );
    }
}
