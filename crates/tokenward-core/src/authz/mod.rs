//! Which requests go through: rules over host, path and method, and what they require of a token.
//!
//! A [`Rules`] is asked with the [`Facts`] of a request and says what applies to it, an [`Outcome`]; where that is a
//! [`Requirement`], it judges the verified token. Nothing here verifies a token.

mod decision;
mod path;
mod rule;

pub use decision::{Facts, Outcome, Rules, Told};
pub use path::Path;
pub use rule::{
    ClaimTest, ClaimValue, HostPattern, PathPattern, PathPatternKind, Presented, Requirement, Rule, ValueTest,
};
