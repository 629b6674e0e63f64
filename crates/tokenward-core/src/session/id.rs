//! Token ids (`jti`, RFC 7519 section 4.1.7) that say themselves what they name.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::TokenType;
use crate::Timestamp;

/// Length of the key that ids are authenticated with, in bytes.
pub const ID_KEY_BYTES: usize = 32;

const RANDOM: usize = 16;
const EXPIRY: usize = 5;
const TAG: usize = 16;
const BODY: usize = RANDOM + 1 + EXPIRY;

/// Makes ids and recognises them. All replicas of one store share the key.
///
/// An id is 128 random bits, the kind of its token, the token's expiry in seconds, and a MAC over these. So any replica
/// tells whether an id is one of ours and for how long its revocation must be kept, without a record for each token. An
/// id is no secret and grants nothing.
pub struct IdKey(hmac::Key);

/// An id of ours, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenId {
    text: String,
    token_type: TokenType,
    expires_at: Timestamp,
}

impl IdKey {
    /// With the store's key.
    #[must_use]
    pub fn new(key: &[u8; ID_KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// An id for a token that ends at `expires_at`, to the second. `random` must be random.
    #[must_use]
    pub fn issue(&self, token_type: TokenType, expires_at: Timestamp, random: [u8; RANDOM]) -> TokenId {
        let secs = u64::try_from(expires_at.as_secs()).unwrap_or(0);
        let [_, _, _, expiry @ ..] = secs.to_be_bytes();
        let mut bytes = Vec::with_capacity(BODY + TAG);
        bytes.extend_from_slice(&random);
        bytes.push(token_type.byte());
        bytes.extend_from_slice(&expiry);
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend(tag.as_ref().iter().take(TAG));
        TokenId {
            text: URL_SAFE_NO_PAD.encode(&bytes),
            token_type,
            expires_at: Timestamp::from_secs(expires_at.as_secs()),
        }
    }

    /// What an id says, if it is one of ours. Everything else is None: text of any other form, and ids of another store.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<TokenId> {
        // Decoding refuses other spellings of the same bytes, so one token has one id.
        if text.len() != (BODY + TAG).div_ceil(3) * 4 - 1 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, tag) = bytes.split_at_checked(BODY)?;
        let expected = hmac::sign(&self.0, body);
        constant_time::verify_slices_are_equal(tag, expected.as_ref().get(..TAG)?).ok()?;
        let (kind, expiry) = body.get(RANDOM..)?.split_first()?;
        let secs = expiry
            .iter()
            .fold(0_i64, |secs, byte| secs << 8 | i64::from(*byte));
        Some(TokenId {
            text: text.to_owned(),
            token_type: TokenType::from_byte(*kind)?,
            expires_at: Timestamp::from_secs(secs),
        })
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey")
    }
}

impl TokenId {
    /// The id as it is in the token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the token is.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// When the token ends.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_secs(1_900_000_000);

    #[test]
    fn an_id_says_what_it_names_to_those_who_have_the_key() {
        let (ours, theirs) = (IdKey::new(&[1; 32]), IdKey::new(&[2; 32]));
        for token_type in [TokenType::Access, TokenType::Parent, TokenType::Child] {
            let id = ours.issue(token_type, END, [7; 16]);
            assert_eq!(ours.read(id.as_str()), Some(id.clone()));
            assert_eq!((id.token_type(), id.expires_at()), (token_type, END));
            assert_eq!(theirs.read(id.as_str()), None);
        }
    }

    #[test]
    fn a_changed_id_is_none_of_ours() {
        let key = IdKey::new(&[1; 32]);
        let id = key.issue(TokenType::Child, END, [7; 16]).to_string();
        assert_eq!(id.len(), 51);
        for place in 0..id.len() {
            for replacement in ["A", "z", "-"] {
                let mut other = id.clone();
                other.replace_range(place..=place, replacement);
                assert_eq!(key.read(&other).is_some(), other == id, "{place} {replacement}");
            }
        }
        for odd in [
            "",
            "abc",
            &id[1..],
            &format!("{id}A"),
            &format!("{id}="),
            &"é".repeat(26),
        ] {
            assert_eq!(key.read(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn ends_out_of_range_are_kept_in_it() {
        let key = IdKey::new(&[1; 32]);
        for (end, read) in [(-5, 0), ((1 << 40) - 1, (1 << 40) - 1)] {
            let id = key.issue(TokenType::Access, Timestamp::from_secs(end), [0; 16]);
            assert_eq!(
                key.read(id.as_str()).unwrap().expires_at(),
                Timestamp::from_secs(read)
            );
        }
    }
}
