//! Those who trust an issuer whose tokens are revoked.

use std::time::Duration;

use tokenward::{Idp, Registry};
use tokenward_core::revocation::LONGEST_LEEWAY;

use crate::config::OWN_IDP;

/// What the policies of all identity providers with one issuer allow, whatever their tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The longest that a token may live; none where there is no limit.
    pub(crate) longest: Option<Duration>,
    /// How far the issuer's clock may be ahead.
    pub(crate) leeway: Duration,
}

/// The bounds of an issuer. None: no tenant trusts it. Where its tokens are our own, what we sign is not looked at here: others may
/// have an issuer of the same name, with other keys.
pub(super) fn bounds(registry: &Registry, issuer: &str) -> Option<Bounds> {
    let tenants = registry.tenants();
    let idps = tenants
        .iter()
        .filter_map(|tenant| registry.idp_by_issuer(tenant, issuer))
        .filter(|idp| idp.name() != OWN_IDP);
    idps.map(|idp| of(&idp)).reduce(|one, other| Bounds {
        longest: longest(one.longest, other.longest),
        leeway: one.leeway.max(other.leeway),
    })
}

/// The longer of two lifetimes, of which none is the longest.
pub(super) fn longest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.zip(other).map(|(one, other)| one.max(other))
}

fn of(idp: &Idp) -> Bounds {
    let policy = idp.config().policy();
    let leeway = policy.map_or(Duration::ZERO, |policy| policy.leeway());
    // A clock that is ahead dates a token so much later, and it is accepted for so much longer. A record has room for five
    // minutes of both.
    let apart = (leeway * 2).saturating_sub(LONGEST_LEEWAY);
    let lifetime = policy.and_then(|policy| policy.max_token_lifetime());
    Bounds {
        longest: lifetime.map(|lifetime| lifetime + apart),
        leeway,
    }
}
