//! One claim.

use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

/// The value of one claim. As [`Claims`](super::Claims), it has no `Debug`.
#[derive(Clone, Copy, PartialEq)]
pub enum Claim<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(&'a Number),
    /// A string, unescaped.
    String(&'a str),
    /// An array or an object.
    Nested(&'a Value),
}

impl<'a> Claim<'a> {
    /// Whether it is `null`.
    #[must_use]
    pub const fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    /// None unless it is a string.
    #[must_use]
    pub const fn as_str(self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// None unless it is a boolean.
    #[must_use]
    pub const fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// None unless it is a whole number from 0 to 2⁶⁴ − 1, and written as one.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// None unless it is a whole number from −2⁶³ to 2⁶³ − 1, and written as one.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// None unless it is an array.
    #[must_use]
    pub fn as_array(self) -> Option<&'a [Value]> {
        match self {
            Self::Nested(value) => value.as_array().map(Vec::as_slice),
            _ => None,
        }
    }

    /// None unless it is an object.
    #[must_use]
    pub fn as_object(self) -> Option<&'a Map<String, Value>> {
        match self {
            Self::Nested(value) => value.as_object(),
            _ => None,
        }
    }

    /// A copy.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Number(number) => number.clone().into(),
            Self::String(text) => text.into(),
            Self::Nested(value) => value.clone(),
        }
    }
}

impl<'a> From<&'a Value> for Claim<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::String(text),
            Value::Array(_) | Value::Object(_) => Self::Nested(value),
        }
    }
}

impl Serialize for Claim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Nested(value) => value.serialize(serializer),
        }
    }
}
