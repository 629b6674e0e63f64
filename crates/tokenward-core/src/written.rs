//! JSON that is written as it will be sent, with no tree of values before it.

use std::fmt::{Display, Write as _};

use serde_json::Value;

/// An object, to which one member after the other is added. No name may be added twice.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// One without members, and room for `bytes` of text.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(&mut self.0, value);
    }

    /// Adds several strings.
    pub fn texts<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        self.name(name);
        let mut before = '[';
        for value in values {
            self.0.push(before);
            quote(&mut self.0, value);
            before = ',';
        }
        self.0.push_str(if before == '[' { "[]" } else { "]" });
    }

    /// Adds a whole number.
    pub fn number(&mut self, name: &str, value: impl Into<i128>) {
        self.bare(name, value.into());
    }

    /// Adds `true` or `false`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.bare(name, value);
    }

    /// Adds any value.
    pub fn value(&mut self, name: &str, value: &Value) {
        self.bare(name, value);
    }

    /// The text of the object.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        quote(&mut self.0, name);
        self.0.push(':');
    }

    /// What is JSON as it is displayed.
    fn bare(&mut self, name: &str, value: impl Display) {
        self.name(name);
        // Writing to a string does not fail.
        let _ = write!(self.0, "{value}");
    }
}

/// Adds `text` as a JSON string.
fn quote(to: &mut String, text: &str) {
    if text
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        to.push_str(&Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_stand_in_the_order_in_which_they_were_added() {
        let mut object = Object::with_capacity(0);
        assert_eq!(Object::with_capacity(9).finish(), "{}");
        object.text("z", "a");
        object.texts("none", []);
        object.texts("one", ["b"]);
        object.texts("two", ["b", "\n"]);
        object.number("n", i64::MIN);
        object.number("m", u64::MAX);
        object.flag("f", false);
        object.value("v", &json!({"a": [null, "\""]}));
        let expected = concat!(
            r#"{"z":"a","none":[],"one":["b"],"two":["b","\n"],"n":-9223372036854775808,"#,
            r#""m":18446744073709551615,"f":false,"v":{"a":[null,"\""]}}"#
        );
        assert_eq!(object.finish(), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(name in any::<String>(), value in any::<String>()) {
            let mut object = Object::with_capacity(0);
            object.text(&name, &value);
            prop_assert_eq!(object.finish(), json!({ name: value }).to_string());
        }

        #[test]
        fn each_character_that_stands_for_itself_nowhere_is_written_otherwise(
            value in "[\u{0}-\u{7f}é\u{2028}\u{1f600}]{0,4}"
        ) {
            let mut object = Object::with_capacity(0);
            object.text("a", &value);
            prop_assert_eq!(object.finish(), json!({ "a": value }).to_string());
        }
    }
}
