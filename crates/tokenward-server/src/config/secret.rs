//! Secrets of the configuration: in the file itself, in a file of their own, or as a digest.

use std::{fmt, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::SecretSlice;

use super::{
    fields::optional,
    record::{Field, Member, Section, Shape},
    rules::{self, Kind, Rule, file},
};

/// `secret` and its twin `secret_file`.
pub(super) struct Secret;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 8 * 1_024;

impl Field for Secret {
    type Output = Option<SecretSlice<u8>>;

    fn members(&self, name: &'static str, doc: String) -> Vec<Member> {
        let absent = || "none".to_owned();
        let file = "A file that holds `secret`; a line feed at its end is not part of it. \
                    Nobody but its owner may have access to it.";
        vec![
            Member {
                name,
                shape: Shape::Scalar,
                default: absent(),
                takes: "text, at least as long as the hash".into(),
                doc,
            },
            Member {
                name: "secret_file",
                shape: Shape::Scalar,
                default: absent(),
                takes: "path of a file".into(),
                doc: file.into(),
            },
        ]
    }

    fn read(&self, section: &Section<'_>, name: &'static str) -> Option<Self::Output> {
        let bytes = |text: &str| Ok(text.as_bytes().to_vec().into());
        let inline = optional("", Rule::new(Kind::Text, "", bytes).secret()).read(section, name);
        let path = optional("", file()).read(section, "secret_file");
        match (inline?, path?) {
            (Some(_), Some(_)) => {
                section.report(
                    "secret_file",
                    "`secret` and `secret_file` are both given; one is enough",
                );
                None
            }
            (None, Some(path)) => file_of(section, "secret_file", &path).map(|bytes| Some(bytes.into())),
            (inline, None) => Some(inline),
        }
    }
}

/// The SHA-256 of a credential's secret: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// The digest of what a caller presents, or of a secret that is being configured.
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A digest of a strong secret gives nothing away, but whoever chose a weak one would be betrayed by it.
impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

/// `secret_sha256` and its twin `secret_file`, of which a credential has exactly one.
pub(super) struct Presented;

/// The shortest secret of a credential, in characters: 32 random ones of base64 hold 192 bits.
const MIN_CREDENTIAL: usize = 32;

impl Field for Presented {
    type Output = SecretDigest;

    fn members(&self, _: &'static str, _: String) -> Vec<Member> {
        let member = |name, takes: &str, doc: &str| Member {
            name,
            shape: Shape::Scalar,
            default: "one of the two is required".into(),
            takes: takes.into(),
            doc: doc.into(),
        };
        vec![
            member(
                "secret_sha256",
                "64 hexadecimal digits",
                "SHA-256 of the secret, as `sha256sum` prints it; a line feed is not part of the secret.",
            ),
            member(
                "secret_file",
                "path of a file",
                "A file that holds the secret, at least 32 characters as `openssl rand -base64 48` makes them; a line feed at its end is not part of it. Nobody but its owner may have access to it.",
            ),
        ]
    }

    fn read(&self, section: &Section<'_>, _: &'static str) -> Option<SecretDigest> {
        let inline = optional("", hexadecimal().secret()).read(section, "secret_sha256");
        let path = optional("", file()).read(section, "secret_file");
        match (inline?, path?) {
            (Some(_), Some(_)) => {
                section.report(
                    "secret_file",
                    "`secret_sha256` and `secret_file` are both given; one is enough",
                );
                None
            }
            (None, None) => {
                section.report("", "needs `secret_file` or `secret_sha256`");
                None
            }
            (Some(digest), None) => Some(digest),
            (None, Some(path)) => {
                let secret = file_of(section, "secret_file", &path)?;
                match weakness(&secret) {
                    Some(message) => section.report("secret_file", message),
                    None => return Some(SecretDigest::of(&secret)),
                }
                None
            }
        }
    }
}

fn weakness(secret: &[u8]) -> Option<&'static str> {
    if !is_token(secret) {
        Some(
            "must be made of letters, digits and `-._~+/`, with `=` at its end only, since it is sent as a bearer token",
        )
    } else if secret.len() < MIN_CREDENTIAL {
        Some("must hold at least 32 characters; make one with `openssl rand -base64 48`")
    } else if is_sample(secret) {
        Some("is a sample that everyone knows; make one with `openssl rand -base64 48`")
    } else {
        None
    }
}

/// Whether it can be sent as it is (RFC 6750 section 2.1, `b64token`).
fn is_token(secret: &[u8]) -> bool {
    let padding = secret.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = secret.split_at(secret.len() - padding).0;
    body.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

fn hexadecimal() -> Rule<SecretDigest> {
    Rule::new(Kind::Text, "", |text| {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("expected a SHA-256: 64 hexadecimal digits".into());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        let digest = SecretDigest(bytes);
        // The digest hides how strong the secret is, save for those that everyone tries first.
        let known = ["", "\n"].into_iter().chain(SAMPLES);
        let mut known = known.map(|sample| SecretDigest::of(sample.as_bytes()));
        if known.any(|known| known == digest) {
            return Err(
                "is the digest of a secret that everyone knows; make one with `openssl rand -base64 48`"
                    .into(),
            );
        }
        Ok(digest)
    })
}

/// What a private file holds, without a line feed at its end. What keeps it from being used is reported.
fn file_of(section: &Section<'_>, member: &'static str, path: &Path) -> Option<Vec<u8>> {
    if let Some(message) = rules::not_private(path).filter(|_| !section.cx.dev) {
        section.report(member, message);
        return None;
    }
    let mut bytes = rules::read_limited(path, MAX_SECRET)
        .map_err(|message| section.report(member, message))
        .ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        bytes.pop_if(|last| *last == b'\r');
    }
    Some(bytes)
}

/// Secrets out of tutorials and test suites, as they are or repeated: they are the first that an attacker tries.
const SAMPLES: [&str; 15] = [
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "thisisaverysecuresecretkeyforjwt",
    "secret",
    "changeme",
    "password",
    "admin",
];

/// Whether `secret` is one of [`SAMPLES`], as it is or repeated, or made of very few characters.
pub(super) fn is_sample(secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(secret).to_lowercase();
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let sample = |sample: &str| {
        let sample: String = sample
            .to_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        // "secretsecretsecret…" is no better than "secret".
        plain == sample || plain.trim_start_matches(&sample).is_empty()
    };
    let distinct = secret.iter().collect::<std::collections::BTreeSet<_>>().len();
    distinct < 8 || SAMPLES.into_iter().any(sample)
}
