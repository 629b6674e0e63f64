//! A key set as it is kept in a store, and made again of that.

use serde::{Deserialize, Serialize};

use super::{Budget, Document, KeySet, SetProblem, SkipReason, Skipped};
use crate::jose::{base64url, thumbprint::Thumbprint};

/// Why keys are not served: what does not show in the keys that are kept.
const UNSERVED: [SkipReason; 20] = [
    SkipReason::NotAnObject,
    SkipReason::Malformed,
    SkipReason::DuplicateMember,
    SkipReason::MemberMissing,
    SkipReason::MemberInvalid,
    SkipReason::KidInvalid,
    SkipReason::PrivateMaterial,
    SkipReason::SymmetricMaterial,
    SkipReason::AlgorithmMismatch,
    SkipReason::Base64urlInvalid,
    SkipReason::RsaTooSmall,
    SkipReason::RsaTooLarge,
    SkipReason::RsaModulus,
    SkipReason::RsaExponent,
    SkipReason::RsaRoca,
    SkipReason::CoordinateLength,
    SkipReason::PointNotOnCurve,
    SkipReason::SmallOrderPoint,
    SkipReason::SecretTooShort,
    SkipReason::OverLimit,
];

/// What is kept beside the keys. A set that was stored without it has none.
#[derive(Default, Deserialize, Serialize)]
struct Beside {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Unserved>,
    /// Thumbprints of keys whose private half is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leaked: Vec<String>,
}

/// A key of which nothing else is kept.
#[derive(Deserialize, Serialize)]
struct Unserved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    reason: String,
}

impl KeySet {
    /// The set as a key set again, safe to store: [`KeySet::parse_kept`] makes an equal one of it. What was dropped to
    /// keep a limit is in it as if it had not been, for a reader with another limit. Of keys that are not served it has
    /// names and reasons: one that was withdrawn because it leaked is still known to have.
    #[must_use]
    pub fn kept_body(&self) -> String {
        let mut documents: Vec<&Document> = self.served.iter().chain(&self.dropped).collect();
        documents.sort_by_key(|document| document.index);
        let unserved = self.skipped.iter().filter(|skipped| !skipped.reason.is_served());
        let beside = Beside {
            skipped: unserved
                .map(|skipped| Unserved {
                    kid: skipped.kid.clone(),
                    reason: skipped.reason.code().to_owned(),
                })
                .collect(),
            leaked: self.leaked.iter().map(ToString::to_string).collect(),
        };
        let size: usize = documents.iter().map(|document| document.json.len() + 1).sum();
        let mut body = String::with_capacity(size + 16);
        body.push_str(r#"{"keys":["#);
        for (place, document) in documents.iter().enumerate() {
            if place > 0 {
                body.push(',');
            }
            body.push_str(&document.json);
        }
        body.push(']');
        // Text and lists of text cannot fail to be written.
        let beside = serde_json::to_string(&beside).unwrap_or_default();
        match beside.strip_prefix('{') {
            Some(members) if members.len() > 1 => {
                body.push(',');
                body.push_str(members);
            }
            _ => body.push('}'),
        }
        body
    }

    /// Reads a [`KeySet::kept_body`]. The arithmetic of the keys' material was checked when they came, which is most of
    /// the work, and is not again. A key that was damaged since verifies nothing.
    ///
    /// # Errors
    /// As [`KeySet::parse`].
    pub fn parse_kept(body: &[u8]) -> Result<Self, SetProblem> {
        let (mut set, more) = Self::read(body, Budget::Examined)?;
        if !more {
            return Ok(set);
        }
        let beside: Beside = serde_json::from_slice(body).map_err(|_| SetProblem::NotJson)?;
        for unserved in beside.skipped {
            let reason = UNSERVED
                .into_iter()
                .find(|reason| reason.code() == unserved.reason);
            set.skipped.push(Skipped {
                kid: unserved.kid,
                index: set.original_count,
                reason: reason.unwrap_or(SkipReason::Malformed),
            });
            set.skipped_count += 1;
            set.original_count += 1;
        }
        let leaked = beside
            .leaked
            .iter()
            .filter_map(|name| base64url::decode(name.as_bytes()));
        set.leaked
            .extend(leaked.map(|bytes| Thumbprint::from_slice(&bytes)));
        Ok(set)
    }
}
