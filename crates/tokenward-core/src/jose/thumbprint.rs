//! JWK thumbprints (RFC 7638): the name of a key's material, whatever its `kid`.

use std::fmt;

use aws_lc_rs::digest;

use super::base64url;

/// The SHA-256 thumbprint of a key (RFC 7638). Displays as base64url, the form used as a `kid`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of the JSON text that RFC 7638 section 3.2 prescribes: required members only, sorted, no blanks.
    pub(super) fn of(canonical: &str) -> Self {
        Self::from_slice(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    /// Of 32 bytes; what is missing is zero.
    pub(super) fn from_slice(bytes: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        for (to, from) in thumbprint.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(thumbprint)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
