//! Secrets at rest: AES-256-GCM under one of the operator's keys (NIST SP 800-38D), or in the clear where that was
//! allowed explicitly.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use secrecy::SecretSlice;

/// Marks what follows: a later form gets another number.
const CLEAR: u8 = 0;
const SEALED: u8 = 1;
const ID_LEN: usize = 8;

/// Length of a key-encryption key in bytes.
pub const KEY_ENCRYPTION_KEY_BYTES: usize = 32;

/// Seals under the first of its keys, opens what any of them sealed.
///
/// What is sealed is bound to a purpose: it opens for the same purpose only, so that nobody who can write the store can
/// put one secret in another's place. One key is good for 2^32 seals, since nonces are random.
pub struct Sealer {
    keys: Vec<EncryptionKey>,
    opens_clear: bool,
}

struct EncryptionKey {
    id: [u8; ID_LEN],
    key: LessSafeKey,
}

/// Why something that was stored does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealFault {
    /// None of the configured keys sealed it. The text is the id of the one that did.
    KeyMissing(String),
    /// It is in the clear, although there are keys: anybody who can write the store may have put it there.
    Clear,
    /// It is damaged, or was stored for another purpose.
    Damaged,
    /// The cryptographic library failed.
    Failed,
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyMissing(id) => write!(
                f,
                "it is encrypted under the key {id}, which is not among `key_encryption_keys`: add that key again, behind \
                 the newer ones"
            ),
            Self::Clear => f.write_str(
                "it is not encrypted although there are `key_encryption_keys`: if it was stored before there were, start once \
                 with `allow_plaintext_keys: true`, which encrypts it",
            ),
            Self::Damaged => f.write_str("it is damaged, or does not belong where it is stored"),
            Self::Failed => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for SealFault {}

impl Sealer {
    /// With the operator's keys, newest first. Without any it stores in the clear.
    #[must_use]
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8; KEY_ENCRYPTION_KEY_BYTES]>) -> Self {
        let keys: Vec<_> = keys.into_iter().filter_map(EncryptionKey::new).collect();
        Self {
            opens_clear: keys.is_empty(),
            keys,
        }
    }

    /// The same, and it opens what was stored in the clear before there were keys.
    #[must_use]
    pub fn opening_clear(self) -> Self {
        Self {
            opens_clear: true,
            ..self
        }
    }

    /// Whether what it seals is encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Seals a secret for a purpose. The nonce must be random, and never be used twice.
    ///
    /// # Errors
    /// [`SealFault::Failed`].
    pub fn seal(&self, purpose: &str, secret: &[u8], nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, SealFault> {
        let Some(key) = self.keys.first() else {
            return Ok([&[CLEAR], secret].concat());
        };
        let mut text = secret.to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                aad(purpose, key.id),
                &mut text,
            )
            .map_err(|_| SealFault::Failed)?;
        Ok([&[SEALED], key.id.as_slice(), &nonce, &text].concat())
    }

    /// The secret that was sealed for `purpose`.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<SecretSlice<u8>, SealFault> {
        let (form, rest) = sealed.split_first().ok_or(SealFault::Damaged)?;
        match *form {
            CLEAR if self.opens_clear => Ok(rest.to_vec().into()),
            CLEAR => Err(SealFault::Clear),
            SEALED => {
                let (id, rest) = rest.split_first_chunk::<ID_LEN>().ok_or(SealFault::Damaged)?;
                let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealFault::Damaged)?;
                let key = self
                    .keys
                    .iter()
                    .find(|key| key.id == *id)
                    .ok_or_else(|| SealFault::KeyMissing(hex(id)))?;
                let mut text = text.to_vec();
                let len = key
                    .key
                    .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(purpose, *id), &mut text)
                    .map_err(|_| SealFault::Damaged)?
                    .len();
                text.truncate(len);
                Ok(text.into())
            }
            _ => Err(SealFault::Damaged),
        }
    }

    /// Whether it was sealed as this would seal it: under the newest key, or in the clear where there is none.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        match (self.keys.first(), sealed.split_first()) {
            (None, Some((form, _))) => *form == CLEAR,
            (Some(key), Some((form, rest))) => *form == SEALED && rest.starts_with(&key.id),
            (_, None) => false,
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl EncryptionKey {
    fn new(key: &[u8; KEY_ENCRYPTION_KEY_BYTES]) -> Option<Self> {
        // Names the key without giving it away.
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"tokenward key-encryption key id");
        context.update(key);
        let (id, _) = context
            .finish()
            .as_ref()
            .split_first_chunk()
            .map(|(id, rest)| (*id, rest.len()))?;
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Self {
            id,
            key: LessSafeKey::new(key),
        })
    }
}

fn aad(purpose: &str, id: [u8; ID_LEN]) -> Aad<Vec<u8>> {
    Aad::from([&[SEALED], id.as_slice(), purpose.as_bytes()].concat())
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn opened(sealer: &Sealer, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
        sealer
            .open(purpose, sealed)
            .map(|secret| secret.expose_secret().to_vec())
    }

    #[test]
    fn it_opens_for_its_purpose_under_any_known_key() {
        let (old, both, new) = (
            Sealer::new([&OLD]),
            Sealer::new([&NEW, &OLD]),
            Sealer::new([&NEW]),
        );
        let sealed = old.seal("child a", b"secret", [7; 12]).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(opened(&old, "child a", &sealed).unwrap(), b"secret");
        assert_eq!(opened(&both, "child a", &sealed).unwrap(), b"secret");
        assert_eq!(opened(&old, "child b", &sealed), Err(SealFault::Damaged));
        let SealFault::KeyMissing(id) = opened(&new, "child a", &sealed).unwrap_err() else {
            panic!("the key is missing");
        };
        assert_eq!(id.len(), 16);
        assert!(old.is_current(&sealed) && !both.is_current(&sealed));
        let again = both.seal("child a", b"secret", [8; 12]).unwrap();
        assert!(both.is_current(&again) && new.is_current(&again));
        assert_eq!(opened(&new, "child a", &again).unwrap(), b"secret");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealer = Sealer::new([&OLD]);
        let sealed = sealer.seal("p", b"secret", [7; 12]).unwrap();
        for place in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[place] ^= 2;
            assert!(sealer.open("p", &damaged).is_err(), "{place}");
            assert!(sealer.open("p", &sealed[..place]).is_err(), "{place}");
        }
    }

    #[test]
    fn without_a_key_it_is_in_the_clear_and_a_key_that_comes_later_makes_that_old() {
        let (clear, sealer) = (Sealer::new([]), Sealer::new([&OLD]));
        let stored = clear.seal("p", b"secret", [7; 12]).unwrap();
        assert!(!clear.encrypts() && clear.is_current(&stored) && !sealer.is_current(&stored));
        assert_eq!(opened(&sealer, "p", &stored), Err(SealFault::Clear));
        let sealer = sealer.opening_clear();
        assert_eq!(opened(&sealer, "p", &stored).unwrap(), b"secret");
        let sealed = sealer.seal("p", b"secret", [7; 12]).unwrap();
        assert!(matches!(
            opened(&clear, "p", &sealed),
            Err(SealFault::KeyMissing(_))
        ));
        assert!(!clear.is_current(&sealed));
    }
}
