//! The limits that tokens carry: `rate_limit`, in requests a minute.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::Arc,
};

use tokenward_core::{
    Clock, Denial,
    claims::{Claim, Claims},
    limit::Rate,
};

use super::{Exceeding, Table};

/// Tokens whose use is remembered; see [`Table`] for those beyond.
const MAX_TOKENS: usize = 1_000_000;

/// What tokens have used of late. It outlives a change of the configuration.
pub(crate) struct UsedByTokens {
    hasher: RandomState,
    /// By fingerprints under a random key: names in tokens may be long.
    table: Table<u64>,
}

impl Default for UsedByTokens {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            table: Table::new(MAX_TOKENS),
        }
    }
}

/// Enforces what tokens say of their rate.
pub(crate) struct Tokens {
    used: Arc<UsedByTokens>,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    pub(crate) fn new(used: Arc<UsedByTokens>, clock: Arc<dyn Clock>) -> Self {
        Self { used, clock }
    }

    /// Takes one of the requests that a verified token is good for. A token without the claim has no limit.
    ///
    /// # Errors
    ///
    /// [`Denial::ClaimRejected`] where the claim is not a whole number of at least 1; otherwise that there is none left.
    pub(crate) fn take(&self, claims: &Claims) -> Result<Result<(), Exceeding>, Denial> {
        let Some(rate) = rate(claims)? else {
            return Ok(Ok(()));
        };
        let taken = self.used.table.take(self.key(claims), rate, self.clock.steady());
        Ok(match taken {
            Ok(_) => Ok(()),
            Err(exceeded) => Err(Exceeding::new("token", rate, exceeded)),
        })
    }

    /// Children share the limit of their parent, or a renewal would buy a new one; what has no id shares that of its
    /// subject.
    fn key(&self, claims: &Claims) -> u64 {
        let parent = claims.get("parent_jti").and_then(Claim::as_str);
        let name = match parent.or(claims.token_id()) {
            Some(id) => ("id", id),
            None => ("sub", claims.subject().unwrap_or_default()),
        };
        self.used.hasher.hash_one((claims.issuer(), name))
    }
}

fn rate(claims: &Claims) -> Result<Option<Rate>, Denial> {
    let Some(claim) = claims.get("rate_limit") else {
        return Ok(None);
    };
    let count = claim.as_u64().filter(|count| *count > 0);
    let count = count.ok_or(Denial::ClaimRejected)?;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(NonZeroU32::new(count).map(Rate::per_minute))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokenward_testkit::ManualClock;

    use super::*;

    struct World {
        clock: Arc<ManualClock>,
        tokens: Tokens,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::default());
            let tokens = Tokens::new(Arc::default(), clock.clone());
            Self { clock, tokens }
        }

        /// How many of `asked` requests go through.
        fn admitted(&self, claims: &Value, asked: usize) -> usize {
            let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
            (0..asked)
                .filter(|_| self.tokens.take(&claims).unwrap().is_ok())
                .count()
        }
    }

    #[test]
    fn a_token_has_as_many_requests_a_minute_as_it_says() {
        let world = World::new();
        let token = json!({ "iss": "i", "jti": "a", "rate_limit": 3 });
        assert_eq!(world.admitted(&token, 10), 3);
        world.clock.advance(Duration::from_secs(20));
        assert_eq!(world.admitted(&token, 10), 1);
        for other in [
            json!({ "iss": "i", "jti": "b", "rate_limit": 3 }),
            json!({ "iss": "j", "jti": "a", "rate_limit": 3 }),
            json!({ "iss": "i", "sub": "a", "rate_limit": 3 }),
        ] {
            assert_eq!(world.admitted(&other, 10), 3, "{other}");
        }
        assert_eq!(world.admitted(&json!({ "iss": "i", "jti": "c" }), 1_000), 1_000);
        let most = json!({ "iss": "i", "jti": "d", "rate_limit": u64::MAX });
        assert_eq!(world.admitted(&most, 1_000), 1_000);
    }

    #[test]
    fn a_family_shares_one_limit_and_so_does_a_subject_whose_tokens_have_no_ids() {
        let world = World::new();
        let child = |jti: &str| json!({ "iss": "i", "jti": jti, "parent_jti": "p", "rate_limit": 3 });
        assert_eq!(world.admitted(&child("a"), 2), 2);
        assert_eq!(world.admitted(&child("b"), 2), 1);
        assert_eq!(
            world.admitted(&json!({ "iss": "i", "jti": "p", "rate_limit": 3 }), 1),
            0
        );
        let unnamed = |exp: u64| json!({ "iss": "i", "sub": "s", "exp": exp, "rate_limit": 1 });
        assert_eq!(world.admitted(&unnamed(1), 1), 1);
        assert_eq!(world.admitted(&unnamed(2), 1), 0);
    }

    #[test]
    fn a_claim_that_is_no_rate_is_not_an_absent_one() {
        let world = World::new();
        for claim in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("100"),
            json!(null),
            json!([1]),
        ] {
            let claims = json!({ "iss": "i", "jti": "a", "rate_limit": claim }).to_string();
            let claims = Claims::parse(claims.as_bytes()).unwrap();
            let taken = world.tokens.take(&claims).map(|taken| taken.is_ok());
            assert_eq!(taken, Err(Denial::ClaimRejected), "{claim}");
        }
    }
}
