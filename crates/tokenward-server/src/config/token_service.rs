//! How tokens of our own are made.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretBox, SecretSlice};
use tokenward_core::{
    jose::{Algorithm, SigningKey},
    keyring::{KEY_ENCRYPTION_KEY_BYTES, Schedule, ScheduleFault},
    session::AccessTyp,
};

use super::{
    fields::{list, optional, required, scalar},
    model::{DAY, SECOND},
    record::{Check, Section, record},
    rules::{self, Kind, Rule, boolean, duration, file, text, word},
};

/// The largest file of a private key, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1_024;
/// Longest of all lifetimes: ids hold a token's end, and longer ones mean a mistake.
pub(super) const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

record! {
    /// The issuer of our own tokens.
    pub(crate) struct TokenService {
        /// The `iss` of its tokens: the URL under which verifiers reach the public listener.
        issuer: String = required(issuer());
        /// The `aud` of its tokens where a request names none, and what `/authorize` accepts of them.
        audience: Vec<String> = list("required", text());
        /// What its tokens are signed with; ES256 is the fastest that verifiers everywhere have.
        algorithm: Algorithm = scalar("RS256", word(&[
            ("RS256", Algorithm::Rs256),
            ("PS256", Algorithm::Ps256),
            ("ES256", Algorithm::Es256),
            ("ES384", Algorithm::Es384),
            ("EdDSA", Algorithm::EdDsa),
        ]));
        /// The `typ` in the header of its access tokens. With `JWT`, for verifiers that know no other, it accepts both; with `at+jwt` (RFC 9068) that alone. Parents have `parent+jwt` whatever this says.
        typ: AccessTyp = scalar("at+jwt", word(&[("at+jwt", AccessTyp::AtJwt), ("JWT", AccessTyp::Jwt)]));
        /// A private key in PEM (PKCS#8, PKCS#1, SEC 1) that is used instead of keys of the store; it is not rotated. Nobody but its owner may have access to it.
        private_key_file: Option<PathBuf> = optional("the store's keys", file());
        /// Its public half in PEM: refused at start where it is another's.
        public_key_file: Option<PathBuf> = optional("not compared", file());
        /// Whether the first key is made in the store where there is none.
        generate_key: bool = scalar("false", boolean()).in_dev("true");
        /// Keys that secrets in the store are encrypted under (AES-256-GCM): 32 bytes in base64, newest first.
        key_encryption_keys: Vec<EncryptionKey> = list("none", encryption_key());
        /// Whether secrets may be in the store in the clear.
        allow_plaintext_keys: bool = scalar("false", boolean()).in_dev("true");
        /// How long a single token lives where a request does not say.
        token_lifetime: Duration = scalar("1h", duration(SECOND, CENTURY));
        /// How long a parent lives where a request does not say.
        parent_lifetime: Duration = scalar("30d", duration(SECOND, CENTURY));
        /// How long a child lives where a request does not say.
        child_lifetime: Duration = scalar("15m", duration(SECOND, CENTURY));
        /// The longest that any token may live.
        max_lifetime: Duration = scalar("30d", duration(SECOND, CENTURY));
        /// How long before the end of a child its successor is minted; a third of its life where that is shorter.
        renew_threshold: Duration = scalar("120", duration(SECOND, DAY));
        /// The longest sleep between two looks at what has to be renewed. It wakes for what is due anyway.
        renew_worker_interval: Duration = scalar("30", duration(SECOND, DAY));
        /// For how long after a renewal the same child is given again.
        renew_reuse_window: Duration = scalar("10", duration(Duration::ZERO, DAY));
        /// How long a signing key signs.
        rotation_interval: Duration = scalar("90d", duration(SECOND, CENTURY));
        /// How long a signing key is published before it signs.
        publish_ahead: Duration = scalar("24h", duration(SECOND, CENTURY));
    }
}

/// A key of an operator's that is never shown.
pub(crate) type EncryptionKey = std::sync::Arc<SecretBox<[u8; KEY_ENCRYPTION_KEY_BYTES]>>;

impl Check for TokenService {
    fn check(&self, section: &Section<'_>) {
        if self.audience.is_empty() {
            section.report(
                "audience",
                "is missing; name the services that the tokens are for",
            );
        }
        for (member, lifetime) in [
            ("token_lifetime", self.token_lifetime),
            ("parent_lifetime", self.parent_lifetime),
            ("child_lifetime", self.child_lifetime),
        ] {
            if lifetime > self.max_lifetime {
                section.report(member, "is longer than `max_lifetime`");
            }
        }
        if !section.cx.dev && self.issuer.starts_with("http://") {
            section.report("issuer", "must be an https URL; http is for `--dev`");
        }
        if self.private_key_file.is_none() && self.public_key_file.is_some() {
            section.report("public_key_file", "goes with `private_key_file` only");
        }
        // With a key of the operator's no private key is in the store.
        let in_store = self.private_key_file.is_none();
        if in_store && self.key_encryption_keys.is_empty() && !self.allow_plaintext_keys {
            section.report(
                "key_encryption_keys",
                "is missing: make one with `openssl rand -base64 32`, or write `allow_plaintext_keys: true` to keep keys and \
                 tokens in the store in the clear",
            );
        }
        if let Err((member, message)) = self.file_key(section.cx.dev) {
            section.report(member, message);
        }
    }
}

impl TokenService {
    /// Whether both are configured alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let keys = |service: &Self| -> Vec<[u8; KEY_ENCRYPTION_KEY_BYTES]> {
            let keys = service.key_encryption_keys.iter();
            keys.map(|key| *key.expose_secret()).collect()
        };
        // Secrets are not in the text.
        format!("{self:?}") == format!("{other:?}") && keys(self) == keys(other)
    }

    /// The times of its keys, where verifiers keep the set for `advertised_max_age`.
    pub(crate) fn schedule(&self, advertised_max_age: Duration) -> Schedule {
        Schedule {
            rotation_interval: self.rotation_interval,
            publish_ahead: self.publish_ahead,
            advertised_max_age,
            longest_token: self.max_lifetime,
        }
    }

    /// The member that would break verifiers, and how. On a `shared` store keys are published for longer.
    pub(super) fn broken_schedule(
        &self,
        advertised_max_age: Duration,
        shared: bool,
    ) -> Option<(&'static str, String)> {
        let schedule = self.schedule(advertised_max_age);
        let longer = || schedule.shared().check().err().filter(|_| shared);
        let fault = schedule.check().err().or_else(longer)?;
        let member = match fault {
            ScheduleFault::PublishAheadTooShort { .. } => "publish_ahead",
            _ => "rotation_interval",
        };
        Some((member, fault.to_string()))
    }

    /// The operator's own key, where one is configured.
    ///
    /// # Errors
    ///
    /// The member that is wrong, and how.
    pub(crate) fn file_key(&self, dev: bool) -> Result<Option<SigningKey>, (&'static str, String)> {
        let Some(path) = &self.private_key_file else {
            return Ok(None);
        };
        let wrong = |message: String| ("private_key_file", message);
        if let Some(message) = rules::not_private(path).filter(|_| !dev) {
            return Err(wrong(message));
        }
        let pem = rules::read_limited(path, MAX_KEY_FILE).map_err(wrong)?;
        let pem = SecretSlice::from(pem);
        let key = SigningKey::from_pem(pem.expose_secret(), self.algorithm)
            .map_err(|fault| wrong(fault.to_string()))?;
        if let Some(path) = &self.public_key_file {
            let public =
                rules::read_limited(path, MAX_KEY_FILE).map_err(|message| ("public_key_file", message))?;
            if !key.matches_public_pem(&public) {
                return Err((
                    "public_key_file",
                    "is not the public half of `private_key_file`".to_owned(),
                ));
            }
        }
        Ok(Some(key))
    }
}

/// The own issuer: a URL without query and fragment (RFC 8414 section 2).
fn issuer() -> Rule<String> {
    text()
        .and(|text| {
            if rules::url().parse(&text)?.query().is_some() {
                return Err("an issuer has no query (`?…`)".to_owned());
            }
            // As it is written: verifiers compare it byte for byte.
            Ok(text)
        })
        .takes("absolute URL, https")
}

fn encryption_key() -> Rule<EncryptionKey> {
    Rule::new(Kind::Text, "32 bytes in base64", |text| {
        let wrong = || "expected 32 bytes in base64, as `openssl rand -base64 32` prints them".to_owned();
        let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
        let bytes: [u8; KEY_ENCRYPTION_KEY_BYTES] = bytes.try_into().map_err(|_| wrong())?;
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err("is the same byte 32 times; make one with `openssl rand -base64 32`".to_owned());
        }
        Ok(std::sync::Arc::new(SecretBox::new(Box::new(bytes))))
    })
    .secret()
}
