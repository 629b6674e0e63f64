//! A key set (RFC 7517 section 5), read key by key: one odd key never loses the set.

use std::{fmt, sync::Arc};

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    algorithm::Algorithm,
    json::{self, Fault, Text},
    jwk::{self, Budget, SkipReason},
    key::Key,
    thumbprint::Thumbprint,
};

mod kept;

/// The most keys that a set keeps, whatever its limit is configured to.
pub const MAX_KEYS: usize = 1000;

/// The most dropped keys that are named.
const MAX_DROPPED: usize = 100;

/// Why a body is not a key set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetProblem {
    /// Not JSON in UTF-8, for example a login page.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// An object whose `keys` is absent or not an array, for example an error document.
    NoKeysArray,
    /// An object with more than one `keys`.
    DuplicateKeys,
}

impl SetProblem {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NoKeysArray => "no_keys_array",
            Self::DuplicateKeys => "duplicate_keys",
        }
    }
}

impl fmt::Display for SetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "the body is not JSON",
            Self::NotAnObject => "the body is JSON, but not an object",
            Self::NoKeysArray => "the body has no `keys` array",
            Self::DuplicateKeys => "the body has more than one `keys`",
        })
    }
}

impl std::error::Error for SetProblem {}

/// A key that is not used for verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its id, where it has a sound one.
    pub kid: Option<String>,
    /// Its place in the `keys` array, from 0.
    pub index: usize,
    /// Why.
    pub reason: SkipReason,
}

/// The keys that [`KeySet::truncate`] dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The kids of the first 100 in document order; `#` and the index of one without kid.
    pub kids: Vec<String>,
    /// How many.
    pub count: usize,
}

/// Which keys go first when there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// Unusable ones; then those that were neither used lately nor in the previous set; then the last ones.
    #[default]
    KeepActive,
    /// The last ones.
    FirstN,
}

/// The keys of one issuer: those that verify, those that are served, and why others do neither.
///
/// Private and symmetric material of a body is not retained in any form.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    /// Shared with those who only look for keys: [`select`].
    usable: Arc<[Arc<Key>]>,
    skipped: Vec<Skipped>,
    skipped_count: usize,
    served: Vec<Document>,
    /// What was truncated, as long as the two together are no more than [`MAX_KEYS`]: another reader of what is kept of the
    /// set may have another limit.
    dropped: Vec<Document>,
    original_count: usize,
    /// The public keys whose private half stands in the set.
    leaked: Vec<Thumbprint>,
}

/// One key as it is served.
#[derive(Clone, Debug)]
struct Document {
    /// Of a key that is not used, as the others know theirs.
    unused_kid: Option<Box<str>>,
    index: usize,
    json: Arc<str>,
    key: Option<Arc<Key>>,
}

impl Document {
    fn kid(&self) -> Option<&str> {
        match &self.key {
            Some(key) => key.kid(),
            None => self.unused_kid.as_deref(),
        }
    }
}

/// The outcome of looking for the key of a token.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// The one key that it can be.
    Key(&'a Arc<Key>),
    /// No key has this kid and fits this algorithm.
    Unknown,
    /// Several keys could be meant. Trying them in turn would let a kid's second owner sign for the first.
    Ambiguous,
}

impl KeySet {
    /// Reads a key set.
    ///
    /// The work is linear in the body, except for checking key material, which at most [`MAX_KEYS`] keys get; the
    /// rest are skipped as [`SkipReason::OverLimit`]. The caller bounds the body.
    ///
    /// # Errors
    /// Only if the body as a whole is not a key set. One without any usable key is not an error here.
    pub fn parse(body: &[u8]) -> Result<Self, SetProblem> {
        Ok(Self::read(body, Budget::Keys(MAX_KEYS))?.0)
    }

    /// The set, and whether its body has other members than `keys`.
    fn read(body: &[u8], budget: Budget) -> Result<(Self, bool), SetProblem> {
        let body = str::from_utf8(body).map_err(|_| SetProblem::NotJson)?;
        let Members { keys, others } =
            json::read(body.as_bytes(), MembersOf).map_err(|fault| problem(body, fault))?;
        let keys = keys
            .filter(|keys| keys.get().starts_with('['))
            .ok_or(SetProblem::NoKeysArray)?;
        let mut set = Self::default();
        let elements = Elements {
            set: &mut set,
            budget,
        };
        serde_json::Deserializer::from_str(keys.get())
            .deserialize_seq(elements)
            .map_err(|_| SetProblem::NotJson)?;
        set.usable = set.used();
        set.skip_leaked();
        // Sets are many and live long; room to grow is of no use to them.
        set.skipped.shrink_to_fit();
        set.served.shrink_to_fit();
        Ok((set, others))
    }

    /// The keys that verify, in document order.
    #[must_use]
    pub fn usable(&self) -> &[Arc<Key>] {
        &self.usable
    }

    /// The same, to keep.
    pub(crate) fn shared_usable(&self) -> Arc<[Arc<Key>]> {
        Arc::clone(&self.usable)
    }

    /// Those of what is served that verify.
    fn used(&self) -> Arc<[Arc<Key>]> {
        self.served
            .iter()
            .filter_map(|document| document.key.clone())
            .collect()
    }

    /// The keys that do not verify, in document order: the first [`MAX_KEYS`] of them.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How many keys do not verify.
    #[must_use]
    pub const fn skipped_count(&self) -> usize {
        self.skipped_count
    }

    /// How many elements the `keys` array had.
    #[must_use]
    pub const fn original_count(&self) -> usize {
        self.original_count
    }

    /// Whether everything is still known that the body had: nothing was skipped and not served, nothing dropped for good.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.served.len() + self.dropped.len() == self.original_count
    }

    /// The keys to serve to others, in document order: kid and JSON text. Members are as they were sent, blanks
    /// between them removed. Unsupported keys and keys for encryption are among them; broken, weak and
    /// compromised ones are not.
    pub fn documents(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.served
            .iter()
            .map(|document| (document.kid(), &*document.json))
    }

    /// Names everything that was read: what is served, and what is skipped for which reason. Two sets with the same
    /// name are the same to everybody.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        // Lengths first, so that no two lists of parts read the same.
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(&(self.served.len() as u64).to_be_bytes());
        for document in &self.served {
            part(document.json.as_bytes());
        }
        part(&(self.skipped_count as u64).to_be_bytes());
        // In an order of their own: of those that are not kept, the places are not either.
        let name = |skipped: &Skipped| (skipped.kid.clone().unwrap_or_default(), skipped.reason.code());
        let mut names: Vec<_> = self.skipped.iter().map(name).collect();
        names.sort_unstable();
        for (kid, reason) in &names {
            part(kid.as_bytes());
            part(reason.as_bytes());
        }
        for thumbprint in &self.leaked {
            part(thumbprint.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// The public keys whose private half stands in the set, in no order.
    #[must_use]
    pub fn leaked(&self) -> &[Thumbprint] {
        &self.leaked
    }

    /// Takes the keys with these names out, as if they had never been listed.
    pub fn remove(&mut self, names: &[Thumbprint]) {
        let stays = |document: &Document| {
            let key = document.key.as_ref();
            key.is_none_or(|key| !names.contains(key.thumbprint()))
        };
        self.served.retain(stays);
        self.usable = self.used();
        self.dropped.retain(stays);
    }

    /// Drops keys until at most `max` are left, and never more than [`MAX_KEYS`]; 0 means no other limit than
    /// that. `recent` tells whether a token with this kid was verified lately, `previous` whether the set before
    /// this one had it. What is not served counts for nothing, since it is not kept in the first place.
    pub fn truncate(
        &mut self,
        max: usize,
        truncation: Truncation,
        recent: &dyn Fn(&str) -> bool,
        previous: &dyn Fn(&str) -> bool,
    ) -> Dropped {
        let max = if max == 0 { MAX_KEYS } else { max.min(MAX_KEYS) };
        if self.served.len() <= max {
            return Dropped::default();
        }
        if truncation == Truncation::KeepActive {
            let known = |document: &Document, test: &dyn Fn(&str) -> bool| document.kid().is_some_and(test);
            // A stable sort: document order decides among equals.
            self.served.sort_by_cached_key(|document| match &document.key {
                Some(_) if known(document, recent) => 0,
                Some(_) if known(document, previous) => 1,
                Some(_) => 2,
                None => 3,
            });
        }
        let mut dropped = self.served.split_off(max);
        self.served.sort_by_key(|document| document.index);
        self.usable = self.used();
        dropped.sort_by_key(|document| document.index);
        let named = dropped.iter().take(MAX_DROPPED).map(|document| {
            document
                .kid()
                .map_or_else(|| format!("#{}", document.index), str::to_owned)
        });
        let names = Dropped {
            kids: named.collect(),
            count: dropped.len(),
        };
        dropped.truncate(MAX_KEYS - self.served.len());
        self.dropped = dropped;
        names
    }

    /// The key for a token with this `kid` and algorithm. A token without kid gets one only if no other key fits
    /// the algorithm; several keys with one kid are told apart by the algorithm alone. The same key listed twice
    /// is one key.
    #[must_use]
    pub fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Selection<'_> {
        select(&self.usable, kid, algorithm)
    }

    fn push(&mut self, text: &str, budget: &mut Budget) {
        let index = self.original_count;
        self.original_count += 1;
        let json: Arc<str> = match text.bytes().any(is_blank) {
            true => compact(text).into(),
            // As it is kept, and as most issuers send it.
            false => text.into(),
        };
        let jwk::Element { kid, outcome, leaked } = jwk::read(&json, budget);
        self.leaked.extend(leaked);
        let key = match outcome {
            Ok(key) => Some(Arc::new(key)),
            Err(reason) => {
                self.skip(kid.clone(), index, reason);
                if !reason.is_served() {
                    return;
                }
                None
            }
        };
        self.served.push(Document {
            unused_kid: kid.filter(|_| key.is_none()).map(Into::into),
            index,
            json,
            key,
        });
    }

    fn skip(&mut self, kid: Option<String>, index: usize, reason: SkipReason) {
        self.skipped_count += 1;
        if self.skipped.len() < MAX_KEYS {
            self.skipped.push(Skipped { kid, index, reason });
        }
    }

    /// Skips what is listed once with its private half and once without.
    fn skip_leaked(&mut self) {
        if self.leaked.is_empty() {
            return;
        }
        let leaked = std::mem::take(&mut self.leaked);
        let found: Vec<_> = self
            .served
            .iter()
            .filter(|document| {
                document
                    .key
                    .as_ref()
                    .is_some_and(|key| leaked.contains(key.thumbprint()))
            })
            .map(|document| (document.kid().map(str::to_owned), document.index))
            .collect();
        for (kid, index) in found {
            self.skip(kid, index, SkipReason::PrivateMaterial);
        }
        self.skipped.sort_by_key(|skipped| skipped.index);
        self.remove(&leaked);
        self.leaked = leaked;
    }
}

/// [`KeySet::select`] among the usable keys of a set.
pub(crate) fn select<'k>(usable: &'k [Arc<Key>], kid: Option<&str>, algorithm: Algorithm) -> Selection<'k> {
    let mut fitting = usable
        .iter()
        .filter(|key| key.fits(algorithm) && key.is_meant_by(kid));
    let Some(key) = fitting.next() else {
        return Selection::Unknown;
    };
    if fitting.any(|other| other.thumbprint() != key.thumbprint()) {
        return Selection::Ambiguous;
    }
    Selection::Key(key)
}

/// A set of keys that were not fetched, such as an issuer's shared secret. Nothing of it is served.
impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let usable: Arc<[_]> = keys.into_iter().map(Arc::new).collect();
        Self {
            original_count: usable.len(),
            usable,
            ..Self::default()
        }
    }
}

/// Why `body` is no key set, which reading its members stumbled over: whether it is JSON at all comes first.
fn problem(body: &str, fault: Fault) -> SetProblem {
    match (serde_json::from_str::<&RawValue>(body), fault) {
        (Ok(json), _) if !json.get().starts_with('{') => SetProblem::NotAnObject,
        (Ok(_), Fault::Duplicate) => SetProblem::DuplicateKeys,
        (Ok(_), Fault::Malformed) | (Err(_), _) => SetProblem::NotJson,
    }
}

/// The members of a set. Others than `keys` mean nothing here (RFC 7517 section 5).
struct Members<'a> {
    keys: Option<&'a RawValue>,
    others: bool,
}

struct MembersOf;

impl<'de> Visitor<'de> for MembersOf {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key set")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut keys, mut others) = (None, false);
        while let Some(name) = members.next_key_seed(Text)? {
            if name != "keys" {
                members.next_value::<IgnoredAny>()?;
                others = true;
            } else if keys.replace(members.next_value()?).is_some() {
                return Err(json::duplicate());
            }
        }
        Ok(Members { keys, others })
    }
}

/// Takes in the elements of `keys` one at a time, so that their number costs no memory by itself.
struct Elements<'s> {
    set: &'s mut KeySet,
    budget: Budget,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            self.set.push(element.get(), &mut self.budget);
        }
        Ok(())
    }
}

/// Whether it is a blank of JSON, wherever it stands.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// JSON text without the blanks between its tokens. Order and spelling stay, so that the bytes that are served
/// change only when the issuer's document does.
fn compact(text: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    let mut out = String::with_capacity(text.len());
    out.extend(text.chars().filter(|char| {
        if in_string {
            match (escaped, char) {
                (true, _) => escaped = false,
                (false, '\\') => escaped = true,
                (false, '"') => in_string = false,
                _ => {}
            }
            return true;
        }
        in_string = *char == '"';
        !matches!(char, ' ' | '\t' | '\n' | '\r')
    }));
    out
}
