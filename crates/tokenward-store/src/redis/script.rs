//! Scripts: steps that touch several keys and happen as a whole.

use std::{fmt::Write as _, sync::OnceLock};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A script in Lua, which the server keeps under the SHA-1 of its text.
pub(super) struct Script {
    pub(super) source: &'static str,
    name: OnceLock<String>,
}

impl Script {
    pub(super) const fn new(source: &'static str) -> Self {
        Self {
            source,
            name: OnceLock::new(),
        }
    }

    /// What EVALSHA calls it.
    pub(super) fn name(&self) -> &str {
        self.name.get_or_init(|| {
            let mut name = String::with_capacity(40);
            for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, self.source.as_bytes()).as_ref() {
                // Writing to a string cannot fail.
                let _ = write!(name, "{byte:02x}");
            }
            name
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_is_its_sha_1() {
        assert_eq!(
            Script::new("return 1").name(),
            "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        );
    }
}
