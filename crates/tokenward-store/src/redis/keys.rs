//! What the keys are called.

use std::fmt::{self, Write as _};

use crate::{StoreError, StoreErrorKind, digest::digest};

/// Gives names to keys. All begin with the prefix in braces, so that a cluster keeps all of them on one node and a
/// script may touch any of them.
#[derive(Clone)]
pub(super) struct Keys {
    tag: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Result<Self, StoreError> {
        let fits = |sign: char| sign.is_ascii_alphanumeric() || "_-.:".contains(sign);
        match (1..=64).contains(&prefix.len()) && prefix.chars().all(fits) {
            true => Ok(Self {
                tag: format!("{{{prefix}}}"),
            }),
            false => Err(StoreError::new(
                StoreErrorKind::Invalid,
                "the prefix of the store's keys is not 1 to 64 of A-Z a-z 0-9 _ - . :",
            )),
        }
    }

    /// Those of something else with the same prefix.
    pub(super) fn beside(&self, name: &str) -> Self {
        Self { tag: self.name(name) }
    }

    /// The key of something that there is once.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    /// The key of one of many, which others named: hashed, so that nothing in a name can reach another key.
    pub(super) fn item(&self, name: &str, of: &[&str]) -> String {
        format!("{}:{name}:{}", self.tag, hashed(of))
    }
}

/// All of them, for people.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:*", self.tag)
    }
}

/// 64 signs that stand for these names and for no others.
pub(super) fn hashed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| Some(name.as_bytes())).collect();
    let mut text = String::with_capacity(64);
    for byte in digest(&names) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_reaches_another_key() {
        let keys = Keys::new("a.b:c_d-1").unwrap();
        assert_eq!(keys.name("meta"), "{a.b:c_d-1}:meta");
        let pairs = [["a", "bc"], ["ab", "c"], ["a:b", "c"], ["a", "b:c"], ["}", "{"]];
        let mut names: Vec<_> = pairs.iter().map(|pair| keys.item("x", pair)).collect();
        for name in &names {
            let hash = name.strip_prefix("{a.b:c_d-1}:x:").unwrap();
            assert!(
                hash.len() == 64 && hash.bytes().all(|sign| sign.is_ascii_hexdigit()),
                "{hash}"
            );
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), pairs.len());
    }

    #[test]
    fn a_prefix_cannot_change_what_is_a_tag() {
        for prefix in ["", "a}b", "{a", "a b", "ä", "a*", &"a".repeat(65)] {
            let error = Keys::new(prefix).err().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "{prefix}");
        }
        assert!(Keys::new(&"a".repeat(64)).is_ok());
    }
}
