//! Revocations as the store keeps them and as the index takes them.

use std::time::Duration;

use tokenward_core::revocation::{Index, Rule};
use tokenward_store::{Ledger, RevocationRule, StoreError};

/// Records that are read at once.
const PAGE: usize = 10_000;

/// Puts everything that the store holds into the index, and says up to which sequence that is.
pub(crate) async fn load(ledger: &dyn Ledger, index: &Index) -> Result<u64, StoreError> {
    let mut after = 0;
    loop {
        let page = ledger.revocations(after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(after);
        };
        after = *last;
        for (_, record) in &page {
            index.insert(&record.issuer, &rule(&record.rule), record.expires_at);
        }
    }
}

/// What a stored rule means to the index.
fn rule(stored: &RevocationRule) -> Rule {
    match stored {
        RevocationRule::Jti(jti) => Rule::Token(jti.clone()),
        RevocationRule::Parent(jti) => Rule::Family(jti.clone()),
        RevocationRule::Subject { sub, not_before } => Rule::Subject {
            sub: sub.clone(),
            not_before: not_before.as_secs(),
        },
        RevocationRule::Session(sid) => Rule::Session(sid.clone()),
        RevocationRule::Kid(kid) => Rule::Key(kid.clone()),
        // Stored as the latest time that is refused; the index takes the first that is not.
        RevocationRule::IssuedBefore(time) => Rule::IssuedBefore(*time + Duration::from_millis(1)),
    }
}
