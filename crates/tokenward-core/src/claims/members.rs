//! Claims as they are kept: a server remembers hundreds of thousands of them, and most are a few short texts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Claim;
use crate::jose::json::{self, Fault, Strict, Text};

/// The members of one strict JSON object, in the order of their names.
#[derive(Clone)]
pub(super) struct Members {
    /// Names and strings, one after the other.
    text: Box<str>,
    members: Box<[Member]>,
}

#[derive(Clone)]
struct Member {
    name: Span,
    value: Stored,
}

#[derive(Clone)]
enum Stored {
    Null,
    Bool(bool),
    Number(Number),
    Text(Span),
    /// An array or an object.
    Nested(Box<Value>),
}

/// A part of the text.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

impl Members {
    pub(super) fn parse(object: &[u8]) -> Result<Self, Fault> {
        // What is unescaped is shorter than what it was.
        let text = String::with_capacity(object.len());
        json::read(object, Collected { text })
    }

    pub(super) fn get(&self, name: &str) -> Option<Claim<'_>> {
        let len = u32::try_from(name.len()).ok()?;
        // Most have a length of their own, and there are few: to look at each is quicker than to search.
        let mut members = self.members.iter();
        let found = members.find(|member| {
            let Span { start, end } = member.name;
            end - start == len && member.name.of(&self.text) == name
        });
        Some(self.value(&found?.value))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Claim<'_>)> {
        let members = self.members.iter();
        members.map(|member| (member.name.of(&self.text), self.value(&member.value)))
    }

    fn value<'a>(&'a self, value: &'a Stored) -> Claim<'a> {
        match value {
            Stored::Null => Claim::Null,
            Stored::Bool(value) => Claim::Bool(*value),
            Stored::Number(number) => Claim::Number(number),
            Stored::Text(span) => Claim::String(span.of(&self.text)),
            Stored::Nested(value) => Claim::Nested(value),
        }
    }

    /// About how many bytes of memory they take, on the high side.
    pub(super) fn bytes(&self) -> usize {
        let nested = self.members.iter().map(|member| match &member.value {
            Stored::Nested(value) => bytes(value),
            _ => 0,
        });
        self.text.len() + size_of_val(&*self.members) + nested.sum::<usize>()
    }
}

/// An array or object of small values takes many times its text, and may have room for twice as many. How deep it nests is bounded
/// where it is read.
fn bytes(value: &Value) -> usize {
    const VALUE: usize = 2 * size_of::<Value>();
    const NAME: usize = 2 * size_of::<String>();
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(bytes).sum(),
            Value::Object(members) => {
                let members = members.iter();
                members
                    .map(|(name, value)| NAME + name.len() + bytes(value))
                    .sum()
            }
        }
}

/// Becomes [`Members`].
struct Collected {
    text: String,
}

impl Collected {
    fn keep<E: Error>(&mut self, text: &str) -> Result<Span, E> {
        let at = |len| u32::try_from(len).map_err(|_| E::custom("too long"));
        let start = at(self.text.len())?;
        self.text.push_str(text);
        let end = at(self.text.len())?;
        Ok(Span { start, end })
    }
}

impl<'de> Visitor<'de> for Collected {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Members, A::Error> {
        // As many as most tokens have.
        let mut members = Vec::with_capacity(16);
        while let Some(name) = object.next_key_seed(Text)? {
            let name = self.keep(&name)?;
            let value = object.next_value_seed(Slot(&mut self))?;
            members.push(Member { name, value });
        }
        let text = self.text.into_boxed_str();
        members.sort_unstable_by(|a: &Member, b| a.name.of(&text).cmp(b.name.of(&text)));
        let twice = |pair: &[Member]| matches!(pair, [a, b] if a.name.of(&text) == b.name.of(&text));
        if members.windows(2).any(twice) {
            return Err(json::duplicate());
        }
        Ok(Members {
            text,
            members: members.into_boxed_slice(),
        })
    }
}

/// Where one value goes.
struct Slot<'a>(&'a mut Collected);

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = Stored;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Stored, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = Stored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Stored, E> {
        Ok(Stored::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Stored, E> {
        Ok(Stored::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Stored, E> {
        Ok(Stored::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Stored, E> {
        json::finite(value).map(Stored::Number)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Stored, E> {
        self.0.keep(value).map(Stored::Text)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Stored, E> {
        self.0.keep(json::without_nul(value)?).map(Stored::Text)
    }

    fn visit_unit<E: Error>(self) -> Result<Stored, E> {
        Ok(Stored::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Stored, A::Error> {
        nested(Strict::MEMBER.visit_seq(elements)?)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Stored, A::Error> {
        nested(Strict::MEMBER.visit_map(members)?)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as its callers need it")]
fn nested<E>(value: Value) -> Result<Stored, E> {
    Ok(Stored::Nested(Box::new(value)))
}

impl From<&Members> for Map<String, Value> {
    fn from(members: &Members) -> Self {
        let members = members.iter();
        members
            .map(|(name, value)| (name.to_owned(), value.to_value()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> Result<Map<String, Value>, Fault> {
        Members::parse(text.as_bytes()).map(|members| (&members).into())
    }

    fn deep(levels: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
    }

    #[test]
    fn they_are_read_and_refused_as_any_other_object() {
        let many: String = (0..100).map(|n| format!("\"{n}\":{n},")).collect();
        for text in [
            "{}".to_owned(),
            r#"{"b":"x","a":[1,{"c":null}],"d":{"e":[true]},"":-1,"f":1.5,"g":null,"h":false}"#.to_owned(),
            r#"{"\u0061\n":"\u00e9\ud83d\ude00","é":"é"}"#.to_owned(),
            format!("{{{many}\"x\":\"\"}}"),
            format!("{{{many}\"7\":\"\"}}"),
            r#"{"iss":1,"\u0069ss":2}"#.to_owned(),
            r#"{"a":{"b":1,"b":1}}"#.to_owned(),
            r#"{"a":"x\u0000"}"#.to_owned(),
            r#"{"a\u0000":"x"}"#.to_owned(),
            r#"{"a":"\ud800"}"#.to_owned(),
            r#"{"a":1e400}"#.to_owned(),
            r#"{"a":1} 2"#.to_owned(),
            "[]".to_owned(),
            deep(usize::from(json::MAX_DEPTH)),
            deep(usize::from(json::MAX_DEPTH) + 1),
        ] {
            assert_eq!(map(&text), json::object(text.as_bytes()), "{text}");
        }
        assert_eq!(Members::parse(b"{\"a\":\"\xff\"}").err(), Some(Fault::Malformed));
    }

    #[test]
    fn each_is_found_by_its_whole_name() {
        let members = Members::parse(br#"{"scope":"a","sub":"b","scp":["c"],"su":"d"}"#).unwrap();
        assert_eq!(members.get("sub").and_then(Claim::as_str), Some("b"));
        assert_eq!(members.get("su").and_then(Claim::as_str), Some("d"));
        assert!(members.get("s").is_none() && members.get("").is_none() && members.get("sup").is_none());
        let names: Vec<_> = members.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["scope", "scp", "su", "sub"]);
    }

    #[test]
    fn small_values_weigh_what_they_take() {
        let numbers = format!("{{\"a\":[{}0]}}", "0,".repeat(1_000));
        let members = Members::parse(numbers.as_bytes()).unwrap();
        assert!(members.bytes() >= 1_001 * size_of::<Value>());
        let objects = format!("{{\"a\":[{}{{}}]}}", r#"{"b":{"c":"d"}},"#.repeat(1_000));
        let members = Members::parse(objects.as_bytes()).unwrap();
        assert!(members.bytes() >= 3_000 * size_of::<Value>());
    }

    proptest! {
        #[test]
        fn any_object_is_read_as_any_other(text in r#"\{("[ab]":([0-9]|"x"|\[\]|\{"a":1\}),?){0,4}\}"#) {
            // What is wrong first may be another thing.
            prop_assert_eq!(map(&text).ok(), json::object(text.as_bytes()).ok());
        }
    }
}
