//! What changed, for those who follow.

use std::{collections::HashMap, sync::Arc};

use tokenward_core::Timestamp;

use super::{
    Redis,
    call::{Args, read},
    codec, scripts,
};
use crate::{RevocationRule, StoreError};

/// Changes that are told at once.
const CHANGES: usize = 10_000;

/// An entry of the stream: its id, and its fields with their values.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// What the store tells those who follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The server's time.
    pub time: Timestamp,
    /// Which run of which server answered.
    pub run_id: String,
    /// The store's marker; `None`: it has none, so that it is new or was emptied.
    pub generation: Option<String>,
    /// The highest sequence that was given to anything.
    pub head: u64,
    /// What to ask for next: up to here all is told.
    pub next: u64,
    /// Whether something is missing from the changes, so that everything is to be read anew.
    pub gap: bool,
    /// Each with its sequence, in its order; at most 10,000. There are more where `next` is under `head`.
    pub changes: Vec<(u64, Change)>,
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There are revocations to be read.
    Revoked,
    /// A revocation was deleted.
    Unrevoked {
        /// Whose tokens it named.
        issuer: String,
        /// Which of them.
        rule: RevocationRule,
    },
    /// Identity providers changed.
    Idps,
    /// The keyring changed.
    Keyring,
    /// A family has a new child.
    Child {
        /// Its parent's id.
        parent_jti: String,
        /// The family's sequence.
        sequence: u64,
    },
}

impl Redis {
    /// What changed after this sequence. What a change is about is read from the store, which may be ahead of it.
    ///
    /// # Errors
    ///
    /// As those of [`Ledger`](crate::Ledger).
    pub async fn changes(&self, after: u64) -> Result<Feed, StoreError> {
        let args = Args::default()
            .of(after.to_string())
            .of(after.saturating_add(1).to_string())
            .of(CHANGES.to_string());
        let link = &self.0.link;
        let (answer, run_id): (_, Arc<str>) = link
            .script_and_run(&scripts::CHANGES, &self.0.ledger_keys, args.0)
            .await?;
        let (seconds, micros, generation, head, gap, entries): (i64, i64, String, u64, bool, Vec<Entry>) =
            read(answer)?;
        let mut feed = Feed {
            time: Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(micros / 1000)),
            run_id: run_id.to_string(),
            generation: (!generation.is_empty()).then_some(generation),
            head,
            next: head,
            gap,
            changes: Vec::with_capacity(entries.len()),
        };
        let is_full = entries.len() == CHANGES;
        for (id, fields) in entries {
            match number_of(&id).and_then(|number| Some((number, Change::read(fields)?))) {
                Some(change) => feed.changes.push(change),
                // Of a newer version, or damaged.
                None => feed.gap = true,
            }
        }
        if let (true, Some((last, _))) = (is_full, feed.changes.last()) {
            feed.next = *last;
        }
        Ok(feed)
    }
}

impl Change {
    fn read(fields: Vec<(String, Vec<u8>)>) -> Option<Self> {
        let mut fields: HashMap<String, Vec<u8>> = fields.into_iter().collect();
        let mut text = |name: &str| String::from_utf8(fields.remove(name)?).ok();
        Some(match text("kind")?.as_str() {
            "revoked" => Self::Revoked,
            "unrevoked" => {
                let (issuer, rule) = codec::read_rule(text("record")?.as_bytes())?;
                Self::Unrevoked { issuer, rule }
            }
            "idps" => Self::Idps,
            "keyring" => Self::Keyring,
            "child" => Self::Child {
                parent_jti: text("parent")?,
                sequence: text("sequence")?.parse().ok()?,
            },
            _ => return None,
        })
    }
}

/// The sequence in the id of an entry.
fn number_of(id: &str) -> Option<u64> {
    id.split_once('-')?.0.parse().ok()
}
