//! What was acknowledged, and what was seen of it: the two must fit.

use std::collections::{HashMap, HashSet};

use super::client::Client;
use super::{Replica, Upstream};

/// A token, and what became of its revocation.
struct Known {
    token: String,
    acknowledged: bool,
}

/// All that happened in one run.
#[derive(Default)]
pub(crate) struct History {
    tokens: HashMap<String, Known>,
    /// By replica, the ids that it refused as revoked at some time.
    refused: HashMap<usize, HashSet<String>>,
    pub(crate) looks: usize,
}

impl History {
    /// Has a new token revoked at a replica, if it takes it. Not acknowledged means that nothing is known.
    pub(crate) fn revoke(&mut self, upstream: &Upstream, replica: &Replica) -> bool {
        let id = format!("t{}", self.tokens.len());
        let token = upstream.token(&id);
        let acknowledged = replica.revoke(&id);
        self.tokens.insert(id, Known { token, acknowledged });
        acknowledged
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.tokens.values().filter(|known| known.acknowledged).count()
    }

    /// Judges the newest tokens at a replica, and says how many it accepts that were acknowledged. Whatever it refused itself at
    /// any time it must refuse.
    pub(crate) fn missing(&mut self, number: usize, replica: &Replica, newest: usize) -> usize {
        let mut client = Client::new(&replica.public);
        let refused = self.refused.entry(number).or_default();
        let from = self.tokens.len().saturating_sub(newest);
        let mut missing = 0;
        for n in from..self.tokens.len() {
            let id = format!("t{n}");
            let known = &self.tokens[&id];
            let said = client.judge(&known.token).expect("a ready replica answers");
            self.looks += 1;
            match said.as_str() {
                "token_revoked" => {
                    refused.insert(id);
                }
                "ok" => {
                    assert!(
                        !refused.contains(&id),
                        "accepted after it was refused: {id} at {number}"
                    );
                    missing += usize::from(known.acknowledged);
                }
                // An outage refuses too.
                "revocation_unavailable" => {}
                other => panic!("{id} at {number}: {other}"),
            }
        }
        missing
    }
}
