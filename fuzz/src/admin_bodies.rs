//! What is sent to the admin API: the document of an identity provider, and members of a fixed list.

use serde_json::Value;
use tokenward_server::fuzzing;
use url::Url;

use crate::json::Tree;

pub fn check(data: &[u8]) {
    document(data);
    token(data);
}

fn document(data: &[u8]) {
    let outcome = fuzzing::document(data);
    assert_eq!(outcome, fuzzing::document(data), "read differently again");
    let document = match outcome {
        Ok(document) => document,
        Err(problems) => return assert!(!problems.is_empty(), "refused without a word"),
    };
    assert_eq!(document.unusable, None, "accepted, and refused by the library");
    let tree = Tree::read(data).expect("serde_json reads what is accepted");
    assert!(tree.has_unique_names(), "a member is given twice");
    for elsewhere in ["name", "tenant", "secret", "secret_file", "ca_file"] {
        assert!(tree.get(elsewhere).is_none(), "{elsewhere} is not for documents");
    }
    // What was understood is what serde_json reads, and the default where it reads nothing.
    assert_eq!(
        document.issuer.as_deref(),
        tree.get("issuer").and_then(Tree::text)
    );
    let url = tree
        .get("url")
        .and_then(Tree::text)
        .map(|url| Url::parse(url).expect("a URL").to_string());
    assert_eq!(document.url, url);
    let value = |name: &str| tree.get(name).map(Tree::to_value);
    assert_eq!(
        Value::from(document.max_keys),
        value("max_keys").unwrap_or_else(|| 10.into())
    );
    assert_eq!(
        Value::from(document.required),
        value("required").unwrap_or_else(|| false.into())
    );
}

/// A body is taken if and only if it is an object of these members, each once and a text.
fn token(data: &[u8]) {
    let tree = Tree::read(data).filter(Tree::has_unique_names);
    let expected = tree.and_then(|tree| {
        let known = |(name, value): &(String, Tree)| {
            ["token", "tenant"].contains(&name.as_str()) && value.text().is_some()
        };
        tree.members()
            .iter()
            .all(known)
            .then(|| tree.get("token")?.text().map(str::to_owned))
            .flatten()
    });
    assert_eq!(fuzzing::explained_token(data), expected);
}
