//! What the environment adds to a file: `${NAME}` in its text, and variables that override members.

use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use super::{
    problem::{Place, suggestion},
    record::{Context, Member, Shape},
    store,
    tree::{Entry, Node, Style, Value},
};

/// What every override begins with; its levels are separated by two underscores.
const PREFIX: &str = "TOKENWARD__";

/// Variables with a short name, and the members that they stand for. The long name wins over the short one.
const SHORT: [(&str, &str); 8] = [
    ("PORT", "TOKENWARD__SERVER__PORT"),
    ("LOG_LEVEL", "TOKENWARD__LOGGING__LEVEL"),
    ("JWT_ISSUER", "TOKENWARD__TOKEN_SERVICE__ISSUER"),
    ("JWT_AUDIENCE", "TOKENWARD__TOKEN_SERVICE__AUDIENCE__0"),
    ("PRIVATE_KEY_PATH", "TOKENWARD__TOKEN_SERVICE__PRIVATE_KEY_FILE"),
    ("PUBLIC_KEY_PATH", "TOKENWARD__TOKEN_SERVICE__PUBLIC_KEY_FILE"),
    (
        "AUTO_RENEW_THRESHOLD_SECONDS",
        "TOKENWARD__TOKEN_SERVICE__RENEW_THRESHOLD",
    ),
    (
        "AUTO_RENEW_WORKER_INTERVAL",
        "TOKENWARD__TOKEN_SERVICE__RENEW_WORKER_INTERVAL",
    ),
];

/// Names the file with the secret of a credential `admin` that may do everything, beside those of the configuration.
const ADMIN_SECRET_FILE: &str = "TOKENWARD_ADMIN_SECRET_FILE";

/// The address of a Redis, `HOST:PORT` or a URL, and its password.
const REDIS_ADDRESS: &str = "REDIS_ADDR";
const REDIS_PASSWORD: &str = "REDIS_PASSWORD";
/// What they stand for.
const STORE_URL: &str = "TOKENWARD__STORE__URL";

/// The process's environment, read once.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn of_process() -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        Self(
            std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        )
    }

    /// The value of `name`; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether any variable sets a member.
    pub(super) fn has_overrides(&self) -> bool {
        let short = SHORT.iter().any(|(name, _)| self.get(name).is_some());
        short || self.get(REDIS_ADDRESS).is_some() || self.0.keys().any(|name| name.starts_with(PREFIX))
    }

    /// Replaces `${NAME}` and `${NAME:-default}` in every text of `node`. What a variable holds is not looked
    /// into again; `$${` stands for `${`.
    pub(super) fn substitute(&self, node: &mut Node, cx: &Context) {
        match &mut node.value {
            Value::List(nodes) => nodes.iter_mut().for_each(|node| self.substitute(node, cx)),
            Value::Map(entries) => entries
                .iter_mut()
                .for_each(|entry| self.substitute(&mut entry.node, cx)),
            Value::Scalar { text, style } if text.contains("${") => match self.expand(text) {
                Ok(expanded) => (*text, *style) = (expanded, Style::Environment),
                Err(message) => {
                    cx.report(node.place.clone(), "", message);
                    node.value = Value::Invalid;
                }
            },
            Value::Scalar { .. } | Value::Invalid => {}
        }
    }

    /// `text` with the values of the variables that it names.
    ///
    /// # Errors
    ///
    /// What is wrong with it, where a variable is not set or a brace is missing.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            let (inside, after) = after
                .split_once('}')
                .ok_or("`${` without `}`; write `$${` for the text itself")?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err("a variable's name in `${…}` is made of letters, digits and `_`".into());
            }
            expanded.push_str(before);
            match (self.0.get(name), default) {
                (Some(value), Some(default)) if value.is_empty() => expanded.push_str(default),
                (Some(value), _) => expanded.push_str(value),
                (None, Some(default)) => expanded.push_str(default),
                (None, None) => {
                    return Err(format!(
                        "the environment variable `{name}` is not set; `${{{name}:-…}}` gives a default"
                    ));
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// Puts the variables that override members into the tree.
    pub(super) fn overlay(&self, root: &mut Node, members: &[Member], cx: &Context) {
        let short = SHORT.iter().filter(|(_, long)| !self.0.contains_key(*long));
        let short = short.filter_map(|(name, long)| Some((*name, *long, self.get(name)?)));
        let long = self.0.iter().filter(|(name, _)| name.starts_with(PREFIX));
        let long = long.map(|(name, value)| (name.as_str(), name.as_str(), value.as_str()));
        let mut all: Vec<_> = short
            .chain(long)
            .map(|(name, path, value)| (segments(path), name, value))
            .collect();
        // List elements in the order of their numbers, so that each can be appended to those before it.
        all.sort();
        for (path, name, value) in all {
            let place = Place::Variable(Arc::from(name));
            let scalar = Node {
                place: place.clone(),
                value: Value::Scalar {
                    text: value.to_owned(),
                    style: Style::Environment,
                },
            };
            if let Err(message) = set(root, members, &path, scalar) {
                cx.report(place, "", message);
            }
        }
        self.set_redis(root, members, cx);
        if let Some(path) = self.get(ADMIN_SECRET_FILE) {
            add_admin(root, path);
        }
    }

    /// The address of a Redis makes it the store, and the password is for one whose address has none.
    fn set_redis(&self, root: &mut Node, members: &[Member], cx: &Context) {
        let password = self.get(REDIS_PASSWORD);
        let short = self
            .get(REDIS_ADDRESS)
            .filter(|_| !self.0.contains_key(STORE_URL));
        let (variable, url) = match short {
            Some(address) => (REDIS_ADDRESS, store::with_password(address, password)),
            None => match store_url(root).filter(|url| store::is_redis(url)) {
                Some(url) if password.is_some() => (REDIS_PASSWORD, store::with_password(url, password)),
                _ => return,
            },
        };
        let place = Place::Variable(Arc::from(variable));
        let scalar = Node {
            place: place.clone(),
            value: Value::Scalar {
                text: url,
                style: Style::Environment,
            },
        };
        if let Err(message) = set(root, members, &segments(STORE_URL), scalar) {
            cx.report(place, "", message);
        }
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self::of(&pairs)
    }
}

#[cfg(any(test, fuzzing))]
impl Environment {
    /// An environment of these variables alone.
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }
}

/// The text of `store.url`.
fn store_url(root: &Node) -> Option<&str> {
    match &root.find("store")?.node.find("url")?.node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One level of an override's name. Numbers come first and sort as numbers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Index(usize),
    Name(String),
}

fn segments(variable: &str) -> Vec<Segment> {
    let path = variable.strip_prefix(PREFIX).unwrap_or(variable);
    path.split("__")
        .map(|level| match level.parse() {
            Ok(index) => Segment::Index(index),
            Err(_) => Segment::Name(level.to_lowercase()),
        })
        .collect()
}

/// Sets what `path` names below `node`, a mapping of `members`.
fn set(node: &mut Node, members: &[Member], path: &[Segment], scalar: Node) -> Result<(), String> {
    let Some((Segment::Name(name), rest)) = path.split_first() else {
        return Err("the name of a member is expected before its number".into());
    };
    let Some(member) = members.iter().find(|member| member.name == name) else {
        let near = suggestion(name, members.iter().map(|member| member.name));
        return Err(format!("there is no member `{name}` to override{near}"));
    };
    if !matches!(node.value, Value::Map(_)) {
        *node = Node::empty_map(scalar.place.clone());
    }
    let Value::Map(entries) = &mut node.value else {
        return Ok(());
    };
    match (&member.shape, rest) {
        (Shape::Scalar | Shape::ListOrWord, []) => put(entries, name, scalar),
        (Shape::Section(members), [_, ..]) => {
            return set(slot(entries, name, &scalar.place), members, rest, scalar);
        }
        (Shape::Map, [Segment::Name(key)]) => {
            let map = slot(entries, name, &scalar.place);
            if !matches!(map.value, Value::Map(_)) {
                *map = Node::empty_map(scalar.place.clone());
            }
            let Value::Map(entries) = &mut map.value else {
                return Ok(());
            };
            // Names of variables hold no hyphens, and their case says nothing.
            let key = key.replace('_', "-");
            match entries
                .iter_mut()
                .find(|entry| entry.key.to_lowercase().replace('_', "-") == key)
            {
                Some(entry) => entry.node = scalar,
                None => put(entries, &key, scalar),
            }
        }
        (Shape::List | Shape::ListOrWord, [Segment::Index(index)]) => {
            let place = scalar.place.clone();
            *element(slot(entries, name, &place), *index, &place)? = scalar;
        }
        (Shape::Sections(members), [Segment::Index(index), rest @ ..]) if !rest.is_empty() => {
            let element = element(slot(entries, name, &scalar.place), *index, &scalar.place)?;
            return set(element, members, rest, scalar);
        }
        (Shape::Scalar, _) => return Err(format!("`{name}` is one value: nothing can follow its name")),
        (Shape::Section(_) | Shape::Map, _) => return Err(format!("one member of `{name}` must be named")),
        (Shape::List | Shape::ListOrWord | Shape::Sections(_), _) => {
            return Err(format!(
                "`{name}` is a list: the number of an element, from 0, must follow its name"
            ));
        }
    }
    Ok(())
}

/// Adds the credential `admin`, whose secret is in the file `path`, to those that are configured.
fn add_admin(root: &mut Node, path: &str) {
    let place = Place::Variable(Arc::from(ADMIN_SECRET_FILE));
    let node = |value| Node {
        place: place.clone(),
        value,
    };
    let text = |text: &str| {
        node(Value::Scalar {
            text: text.to_owned(),
            style: Style::Environment,
        })
    };
    let mut credential = Vec::new();
    put(&mut credential, "name", text("admin"));
    put(&mut credential, "secret_file", text(path));
    put(&mut credential, "scopes", node(Value::List(vec![text("admin")])));
    let Value::Map(members) = &mut root.value else {
        return;
    };
    let list = slot(members, "credentials", &place);
    let empty = match &list.value {
        Value::Map(members) => members.is_empty(),
        _ => list.is_null(),
    };
    if empty {
        *list = node(Value::List(Vec::new()));
    }
    // What is no list is told where it is read.
    if let Value::List(credentials) = &mut list.value {
        credentials.push(node(Value::Map(credential)));
    }
}

fn put(entries: &mut Vec<Entry>, name: &str, node: Node) {
    match entries.iter_mut().find(|entry| entry.key == name) {
        Some(entry) => entry.node = node,
        None => entries.push(Entry {
            key: name.to_owned(),
            key_place: node.place.clone(),
            node,
        }),
    }
}

/// The node of the member `name`, made where there is none.
fn slot<'a>(entries: &'a mut Vec<Entry>, name: &str, place: &Place) -> &'a mut Node {
    let index = entries
        .iter()
        .position(|entry| entry.key == name)
        .unwrap_or_else(|| {
            entries.push(Entry {
                key: name.to_owned(),
                key_place: place.clone(),
                node: Node::empty_map(place.clone()),
            });
            entries.len() - 1
        });
    #[expect(
        clippy::indexing_slicing,
        reason = "the index was found, or the entry was pushed, just above"
    )]
    &mut entries[index].node
}

/// The element `index` of a list, which may be the one after its last.
fn element<'a>(list: &'a mut Node, index: usize, place: &Place) -> Result<&'a mut Node, String> {
    if !matches!(list.value, Value::List(_)) {
        *list = Node {
            place: place.clone(),
            value: Value::List(Vec::new()),
        };
    }
    let Value::List(nodes) = &mut list.value else {
        return Err("not a list".into());
    };
    let count = nodes.len();
    if index == count {
        nodes.push(Node::empty_map(place.clone()));
    }
    nodes
        .get_mut(index)
        .ok_or_else(|| format!("the list has {count} elements, so the next one is number {count}"))
}
