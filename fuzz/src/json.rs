//! JSON as a tree that keeps what maps forget: every member, in order, as often as it stands there.

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// How deep honest tokens and keys may nest, the outermost object included.
const MAX_DEPTH: usize = 32;

/// One value.
#[derive(Debug)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The one value that `text` consists of, as serde_json reads it.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The same where two readers cannot disagree about it: no member twice in an object, no NUL in a text, not nested
    /// too deeply. None otherwise, and for anything but an object.
    pub fn read_strict(text: &[u8]) -> Option<Self> {
        Self::read(text).filter(|tree| matches!(tree, Self::Object(_)) && tree.is_strict(MAX_DEPTH))
    }

    fn is_strict(&self, levels: usize) -> bool {
        let fits = |text: &str| !text.contains('\0');
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => true,
            Self::Text(text) => fits(text),
            Self::List(elements) => {
                levels > 0 && elements.iter().all(|element| element.is_strict(levels - 1))
            }
            Self::Object(members) => {
                let mut names = HashSet::new();
                levels > 0
                    && members
                        .iter()
                        .all(|(name, value)| fits(name) && names.insert(name) && value.is_strict(levels - 1))
            }
        }
    }

    /// Whether no object in it has a member twice.
    pub fn has_unique_names(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => true,
            Self::List(elements) => elements.iter().all(Self::has_unique_names),
            Self::Object(members) => {
                let mut names = HashSet::new();
                members
                    .iter()
                    .all(|(name, value)| names.insert(name) && value.has_unique_names())
            }
        }
    }

    /// Whether a number in it is no whole one of 64 bits.
    pub fn has_doubles(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Text(_) => false,
            Self::Number(number) => number.is_f64(),
            Self::List(elements) => elements.iter().any(Self::has_doubles),
            Self::Object(members) => members.iter().any(|(_, value)| value.has_doubles()),
        }
    }

    /// The members of an object; nothing of anything else.
    pub fn members(&self) -> &[(String, Tree)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// The first member `name`.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        let (_, value) = self.members().iter().find(|(member, _)| member == name)?;
        Some(value)
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As serde_json's own type, where the last of several members wins.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(elements) => elements.iter().map(Self::to_value).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), value.to_value()))
                .collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}

/// The members of an object, in order, as often as they stand there.
pub struct Members<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}
