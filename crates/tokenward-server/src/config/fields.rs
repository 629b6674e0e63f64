//! The kinds of members: one value, a list, free names, records inside records.

use std::{marker::PhantomData, sync::Arc};

use super::{
    record::{Field, Member, Record, Section, Shape},
    rules::Rule,
    tree::{Entry, Node, Value},
};

/// One value with a default.
pub(super) struct Scalar<T> {
    default: &'static str,
    dev: &'static str,
    rule: Rule<T>,
}

/// A value that is `default` where it is not given.
pub(super) fn scalar<T>(default: &'static str, rule: Rule<T>) -> Scalar<T> {
    Scalar {
        default,
        dev: default,
        rule,
    }
}

impl<T> Scalar<T> {
    /// With another default under `--dev`.
    pub(super) fn in_dev(self, dev: &'static str) -> Self {
        Self { dev, ..self }
    }
}

impl<T> Field for Scalar<T> {
    type Output = T;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let default = match self.dev == self.default {
            true => format!("`{}`", self.default),
            false => format!("`{}`, under `--dev` `{}`", self.default, self.dev),
        };
        vec![Member {
            name,
            shape: Shape::Scalar,
            default,
            takes: self.rule.takes.clone(),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<T> {
        match section.find(name) {
            Some(node) => section.scalar(node, section.path_of(name), &self.rule),
            None => section.default(
                name,
                if section.cx.dev { self.dev } else { self.default },
                &self.rule,
            ),
        }
    }
}

/// One value without a default.
pub(super) struct Optional<T> {
    absent: &'static str,
    rule: Rule<T>,
}

/// A value that may be left out, and what that means.
pub(super) fn optional<T>(absent: &'static str, rule: Rule<T>) -> Optional<T> {
    Optional { absent, rule }
}

impl<T> Field for Optional<T> {
    type Output = Option<T>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let (default, takes) = (self.absent.to_owned(), self.rule.takes.clone());
        vec![Member {
            name,
            shape: Shape::Scalar,
            default,
            takes,
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Option<T>> {
        match section.find(name) {
            Some(node) => section.scalar(node, section.path_of(name), &self.rule).map(Some),
            None => Some(None),
        }
    }
}

/// One value that must be given.
pub(super) struct Required<T>(Rule<T>);

pub(super) fn required<T>(rule: Rule<T>) -> Required<T> {
    Required(rule)
}

impl<T> Field for Required<T> {
    type Output = T;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let takes = self.0.takes.clone();
        vec![Member {
            name,
            shape: Shape::Scalar,
            default: "required".into(),
            takes,
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<T> {
        match section.find(name) {
            Some(node) => section.scalar(node, section.path_of(name), &self.0),
            None => {
                section.report(name, "the member is missing");
                None
            }
        }
    }
}

/// A list of values.
pub(super) struct List<T> {
    default: &'static [&'static str],
    absent: &'static str,
    rule: Rule<T>,
}

/// A list that is empty where it is not given, which means `absent`.
pub(super) fn list<T>(absent: &'static str, rule: Rule<T>) -> List<T> {
    List {
        default: &[],
        absent,
        rule,
    }
}

impl<T> List<T> {
    /// With elements of its own where it is not given.
    pub(super) fn or(self, default: &'static [&'static str]) -> Self {
        Self { default, ..self }
    }

    fn elements(&self, section: &Section<'_>, name: &str, node: &Node) -> Option<Vec<T>> {
        let path = section.path_of(name);
        match &node.value {
            Value::List(nodes) => {
                let element = |(index, node)| section.scalar(node, format!("{path}[{index}]"), &self.rule);
                // All of them are read before one that failed ends it.
                let elements: Vec<_> = nodes.iter().enumerate().map(element).collect();
                elements.into_iter().collect()
            }
            Value::Invalid => None,
            _ => {
                let message = format!(
                    "expected a list of {}, found {}",
                    self.rule.kind.plural(),
                    node.kind()
                );
                section.cx.report(node.place.clone(), path, message);
                None
            }
        }
    }
}

impl<T> Field for List<T> {
    type Output = Vec<T>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let default = match self.default {
            [] => format!("`[]`: {}", self.absent),
            elements => format!("`[{}]`", elements.join(", ")),
        };
        vec![Member {
            name,
            shape: Shape::List,
            default,
            takes: format!("list of {}", self.rule.takes),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Vec<T>> {
        match section.find(name) {
            Some(node) => self.elements(section, name, node),
            None => self
                .default
                .iter()
                .enumerate()
                .map(|(index, text)| section.default(&format!("{name}[{index}]"), text, &self.rule))
                .collect(),
        }
    }
}

/// A list that may be left out. An empty one is something else.
pub(super) struct OptionalList<T>(List<T>);

/// A list that may be left out, and what that means.
pub(super) fn optional_list<T>(absent: &'static str, rule: Rule<T>) -> OptionalList<T> {
    OptionalList(list(absent, rule))
}

impl<T> Field for OptionalList<T> {
    type Output = Option<Vec<T>>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        vec![Member {
            name,
            shape: Shape::List,
            default: self.0.absent.to_owned(),
            takes: format!("list of {}", self.0.rule.takes),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Self::Output> {
        let Some(node) = section.find(name) else {
            return Some(None);
        };
        let elements = self.0.elements(section, name, node)?;
        if elements.is_empty() {
            section.note_empty(name);
        }
        Some(Some(elements))
    }
}

/// A list that may be left out, or replaced by one word.
pub(super) struct ListOrWord<T, U> {
    list: List<T>,
    word: Option<&'static str>,
    convert: fn(Option<Vec<T>>) -> U,
}

/// A list with at least one element, or `word`, which `convert` is given as `None`. Absent: `None` outside.
pub(super) fn list_or<T, U>(
    word: Option<&'static str>,
    absent: &'static str,
    rule: Rule<T>,
    convert: fn(Option<Vec<T>>) -> U,
) -> ListOrWord<T, U> {
    ListOrWord {
        list: list(absent, rule),
        word,
        convert,
    }
}

impl<T, U> Field for ListOrWord<T, U> {
    type Output = Option<U>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let list = format!("list of {}", self.list.rule.takes);
        let (shape, takes) = match self.word {
            Some(word) => (Shape::ListOrWord, format!("{list}, or `{word}`")),
            None => (Shape::List, list),
        };
        vec![Member {
            name,
            shape,
            default: self.list.absent.to_owned(),
            takes,
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Option<U>> {
        let Some(node) = section.find(name) else {
            return Some(None);
        };
        if let (Value::Scalar { text, .. }, Some(word)) = (&node.value, self.word) {
            if text == word {
                return Some(Some((self.convert)(None)));
            }
            section.report(name, format!("expected a list, or `{word}`"));
            return None;
        }
        let elements = self.list.elements(section, name, node)?;
        if elements.is_empty() {
            section.report(
                name,
                "the list is empty; leave the member out to have its default",
            );
            return None;
        }
        Some(Some((self.convert)(Some(elements))))
    }
}

/// Text by free names.
pub(super) struct Map<K, V> {
    key: Rule<K>,
    value: Rule<V>,
}

pub(super) fn map<K, V>(key: Rule<K>, value: Rule<V>) -> Map<K, V> {
    Map { key, value }
}

impl<K, V> Field for Map<K, V> {
    type Output = Vec<(K, V)>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let takes = format!("{} to {}", self.key.takes, self.value.takes);
        vec![Member {
            name,
            shape: Shape::Map,
            default: "`{}`".into(),
            takes,
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Vec<(K, V)>> {
        let child = section.child(name);
        let Some(Value::Map(entries)) = child.own().map(|node| &node.value) else {
            return Some(Vec::new());
        };
        let pair = |entry: &Entry| {
            let path = child.path_of(&entry.key);
            let refused = |message| section.cx.report(entry.key_place.clone(), path.clone(), message);
            let key = self.key.parse(&entry.key).map_err(refused).ok();
            let value = section.scalar(&entry.node, path.clone(), &self.value);
            Some((key?, value?))
        };
        let pairs: Vec<_> = entries.iter().map(pair).collect();
        pairs.into_iter().collect()
    }
}

/// A record inside a record.
pub(super) struct Nested<R>(PhantomData<R>);

/// A section whose members all have defaults.
pub(super) fn section<R: Record>() -> Nested<R> {
    Nested(PhantomData)
}

impl<R: Record> Field for Nested<R> {
    type Output = R;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        vec![Member {
            name,
            shape: Shape::Section(R::members()),
            default: String::new(),
            takes: String::new(),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<R> {
        section.child(name).read()
    }
}

/// A section that is there or not.
pub(super) struct NestedOption<R>(PhantomData<R>, &'static str);

/// A section that may be left out, and what that means.
pub(super) fn optional_section<R: Record>(absent: &'static str) -> NestedOption<R> {
    NestedOption(PhantomData, absent)
}

impl<R: Record> Field for NestedOption<R> {
    type Output = Option<R>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let shape = Shape::Section(R::members());
        vec![Member {
            name,
            shape,
            default: self.1.to_owned(),
            takes: String::new(),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Option<R>> {
        match section.find(name) {
            Some(_) => section.child(name).read().map(Some),
            None => Some(None),
        }
    }
}

/// Members of another record that stand in this one.
pub(super) struct Flat<R>(PhantomData<R>);

/// Members of `R` that stand in the record itself. Those that say none of them share one `R`, as the same layers lie
/// beneath all of them.
pub(super) fn flat<R: Record>() -> Flat<R> {
    Flat(PhantomData)
}

impl<R: Record> Field for Flat<R> {
    type Output = Arc<R>;

    fn members(&self, _: &'static str, _: String) -> Vec<Member> {
        R::members()
    }

    fn read(&self, section: &Section<'_>, _: &'static str) -> Option<Arc<R>> {
        let names = section.cx.names::<R>();
        if names.iter().any(|name| section.says(name)) {
            return R::read(section).map(Arc::new);
        }
        // Only what lies beneath the sections speaks, and that is the same for all of them.
        section.cx.once(|| R::read(section))
    }
}

/// A list of records, whose members may have their defaults in another section.
pub(super) struct Sections<R> {
    defaults: Option<&'static str>,
    record: PhantomData<R>,
}

/// A list of records that stand for themselves.
pub(super) fn records<R: Record>() -> Sections<R> {
    Sections {
        defaults: None,
        record: PhantomData,
    }
}

/// A list of records; what one of them does not say is looked for in the section `defaults` beside the list.
pub(super) fn sections<R: Record>(defaults: &'static str) -> Sections<R> {
    Sections {
        defaults: Some(defaults),
        record: PhantomData,
    }
}

impl<R: Record> Field for Sections<R> {
    type Output = Vec<R>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let shape = Shape::Sections(R::members());
        vec![Member {
            name,
            shape,
            default: "`[]`".into(),
            takes: String::new(),
            doc,
        }]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Vec<R>> {
        let Some(node) = section.find(name).filter(|node| !node.is_null()) else {
            return Some(Vec::new());
        };
        let Value::List(nodes) = &node.value else {
            section.report(name, format!("expected a list, found {}", node.kind()));
            return None;
        };
        let read = |index| section.element(name, index, self.defaults)?.read();
        let records: Vec<_> = (0..nodes.len()).map(read).collect();
        records.into_iter().collect()
    }
}
