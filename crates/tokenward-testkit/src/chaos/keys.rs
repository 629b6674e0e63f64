//! The keys of one provider, as a script changes them.

use serde_json::Value;

use crate::{TestKey, key_set};

/// How many keys a provider may have made before its numbers meet those of the next one.
const NUMBERS: usize = 10_000;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new key joins the set; tokens are signed with the old one still.
    Add,
    /// Tokens are signed with the newest key of the set.
    Switch,
    /// The oldest key leaves the set.
    Drop,
    /// A new key joins and signs, the oldest leaves.
    Rotate,
    /// A new key is all that is left, and signs.
    Replace,
    /// Another key takes the place and the key id of the one that signs.
    ReuseKid,
}

/// What is in the set, oldest first, and what signs.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    idp: String,
    alg: &'static str,
    first: usize,
    made: usize,
    listed: Vec<TestKey>,
    signing: TestKey,
}

impl Keys {
    /// `count` keys, the newest of which signs. Each provider of a process has an index and keys of its own.
    pub(super) fn new(idp: &str, alg: &'static str, index: usize, count: usize) -> Self {
        let mut keys = Self {
            idp: idp.to_owned(),
            alg,
            first: index * NUMBERS,
            made: 0,
            listed: Vec::new(),
            signing: TestKey::new(alg, index * NUMBERS),
        };
        for _ in 0..count {
            keys.apply(Change::Add);
        }
        keys.apply(Change::Switch);
        keys
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Add => {
                let key = self.make();
                self.listed.push(key);
            }
            Change::Switch => {
                if let Some(newest) = self.listed.last() {
                    self.signing = newest.clone();
                }
            }
            Change::Drop => {
                self.listed.drain(..self.listed.len().min(1));
            }
            Change::Rotate => {
                self.apply(Change::Add);
                self.apply(Change::Switch);
                self.apply(Change::Drop);
            }
            Change::Replace => {
                self.listed.clear();
                self.apply(Change::Add);
                self.apply(Change::Switch);
            }
            Change::ReuseKid => {
                let old = self.signing.kid().unwrap_or_default().to_owned();
                self.signing = self.make().with_kid(&old);
                for key in &mut self.listed {
                    if key.kid() == Some(&old) {
                        *key = self.signing.clone();
                    }
                }
            }
        }
    }

    /// How many are in the set.
    pub(super) fn count(&self) -> usize {
        self.listed.len()
    }

    pub(super) fn signing(&self) -> &TestKey {
        &self.signing
    }

    /// The whole set.
    pub(super) fn document(&self) -> Value {
        key_set(&self.listed.iter().collect::<Vec<_>>())
    }

    /// Every second key, beginning with the first or with the second.
    pub(super) fn half(&self, second: bool) -> Value {
        let half = self.listed.iter().skip(usize::from(second)).step_by(2);
        key_set(&half.collect::<Vec<_>>())
    }

    fn make(&mut self) -> TestKey {
        let key = TestKey::new(self.alg, self.first + self.made);
        let key = key.with_kid(format!("{}-{}", self.idp, self.made));
        self.made += 1;
        key
    }
}
