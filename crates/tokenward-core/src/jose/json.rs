//! The one way in which JSON from outside is read where its meaning matters: headers, claims and single keys.
//!
//! Beyond RFC 8259 it refuses what lets two readers of the same bytes disagree: a member that occurs twice in an
//! object (names compared after unescaping), NUL and lone surrogates in strings, invalid UTF-8, a byte order mark,
//! numbers beyond a finite double, anything after the value, and more nesting than any honest token has.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest, the outermost one included.
pub(crate) const MAX_DEPTH: u8 = 32;

const DUPLICATE: &str = "duplicate member";

/// Why text is not strict JSON of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A member occurs twice in one object.
    Duplicate,
    /// Anything else.
    Malformed,
}

/// The one object that `text` consists of.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, Fault> {
    read(text, Object { levels: MAX_DEPTH })
}

/// As [`object`], and with the name of a member that occurs twice: for bodies whose sender is told what is wrong.
pub(crate) fn object_or_duplicate(text: &[u8]) -> Result<Map<String, Value>, Option<String>> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    deserializer
        .deserialize_map(Object { levels: MAX_DEPTH })
        .and_then(|object| deserializer.end().map(|()| object))
        .map_err(|error| {
            let text = error.to_string();
            let name = text.strip_prefix(DUPLICATE)?.strip_prefix(' ')?;
            Some(name.rsplit_once(" at line ")?.0.to_owned())
        })
}

/// Reads `text` to its end with a visitor that takes an object.
pub(crate) fn read<'de, V: Visitor<'de>>(text: &'de [u8], visitor: V) -> Result<V::Value, Fault> {
    // Once as a whole is cheaper than string by string.
    let text = std::str::from_utf8(text).map_err(|_| Fault::Malformed)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = deserializer
        .deserialize_map(visitor)
        .map_err(|error| fault(&error))?;
    deserializer.end().map_err(|error| fault(&error))?;
    Ok(value)
}

/// A second occurrence of a member.
pub(crate) fn duplicate<E: Error>() -> E {
    E::custom(DUPLICATE)
}

fn fault(error: &serde_json::Error) -> Fault {
    // A custom error displays as its own text, then the position.
    if error.is_data() && error.to_string().starts_with(DUPLICATE) {
        Fault::Duplicate
    } else {
        Fault::Malformed
    }
}

/// Builds a map out of an object.
struct Object {
    /// How many levels may open, this one included.
    levels: u8,
}

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let inner = descend(self.levels)?;
        let mut map = Map::new();
        while let Some(name) = members.next_key_seed(Text)? {
            let value = members.next_value_seed(inner)?;
            if map.contains_key(&*name) {
                return Err(A::Error::custom(format_args!("{DUPLICATE} {name}")));
            }
            map.insert(name.into_owned(), value);
        }
        Ok(map)
    }
}

fn descend<E: Error>(levels: u8) -> Result<Strict, E> {
    match levels.checked_sub(1) {
        Some(levels) => Ok(Strict { levels }),
        None => Err(E::custom("nested too deeply")),
    }
}

/// Builds any value that sits inside an object or array.
#[derive(Clone, Copy)]
pub(crate) struct Strict {
    levels: u8,
}

impl Strict {
    /// For the members of the outermost object.
    pub(crate) const MEMBER: Self = Self {
        levels: MAX_DEPTH - 1,
    };
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        finite(value).map(Value::Number)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        without_nul(value).map(|value| Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = descend(self.levels)?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        Object { levels: self.levels }
            .visit_map(members)
            .map(Value::Object)
    }
}

/// A string and nothing else: member names, and members whose type is fixed.
#[derive(Clone, Copy)]
pub(crate) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    // What can be borrowed held no escape, and a raw NUL is not valid inside a JSON string.
    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        without_nul(value).map(|value| Cow::Owned(value.to_owned()))
    }
}

pub(crate) fn finite<E: Error>(value: f64) -> Result<Number, E> {
    Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))
}

pub(crate) fn without_nul<E: Error>(value: &str) -> Result<&str, E> {
    if value.contains('\0') {
        return Err(E::custom("NUL in a string"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
    }

    #[test]
    fn duplicates_are_found_at_any_depth_and_after_unescaping() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"iss":1,"\u0069ss":2}"#,
            r#"{"a":[{"b":{"c":1,"c":2}}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(Fault::Duplicate), "{text}");
        }
        assert!(object(br#"{"a":{"b":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn a_duplicate_is_named() {
        for (text, name) in [
            (r#"{"a":1,"a":1}"#, Some("a")),
            (r#"{"x":{"b at line":1,"b at line":2}}"#, Some("b at line")),
            (r#"{"a":1"#, None),
            (r#"{"a":1} 2"#, None),
        ] {
            assert_eq!(
                object_or_duplicate(text.as_bytes()),
                Err(name.map(str::to_owned)),
                "{text}"
            );
        }
        assert!(object_or_duplicate(b"{}").is_ok());
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        let cases: [&[u8]; 16] = [
            b"",
            b"[]",
            b"null",
            b"\"a\"",
            b"\xEF\xBB\xBF{}",
            b"{}{}",
            b"{} x",
            b"{\"a\":\"\xFF\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"\\udc00\":1}",
            b"{\"a\":\"x\\u0000y\"}",
            b"{\"a\\u0000\":1}",
            b"{\"a\":1e400}",
            b"{\"a\":NaN}",
            b"{\"a\":1,}",
            b"{\0\"\0a\0\"\0:\0\x31\0}\0",
        ];
        for case in cases {
            assert_eq!(object(case), Err(Fault::Malformed), "{}", case.escape_ascii());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(object(nested(usize::from(MAX_DEPTH)).as_bytes()).is_ok());
        assert!(object(nested(usize::from(MAX_DEPTH) + 1).as_bytes()).is_err());
        assert!(object(nested(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads_or_nothing(text in r#"\{("[ab]":([0-9]|"x"|\[\]|\{\}),?){0,3}\}"#) {
            if let Ok(map) = object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(map), serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = object(&bytes);
        }
    }
}
