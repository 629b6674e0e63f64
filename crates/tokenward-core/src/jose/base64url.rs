//! base64url without padding (RFC 7515 section 2), in its one canonical spelling.
//!
//! Padding, other alphabets, blanks and non-zero unused bits are refused: two texts must never stand for one value.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_decodes() {
        assert_eq!(decode(b"AQI").as_deref(), Some(&[1, 2][..]));
        for odd in ["AQI=", "AQ I", "AQI\n", "+/8", "A", "AQJ", "AR", "AQ?", "AQ.I"] {
            assert_eq!(decode(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
