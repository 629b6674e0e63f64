//! Signed tokens and the keys that verify them: JWS, JWK, JWA and JWK thumbprints
//! (RFC 7515, RFC 7517, RFC 7518, RFC 7638, RFC 8037, RFC 8812), strict; and keys of our own that sign.
//!
//! Three rules hold everywhere. What a token says about itself selects nothing but a key that was configured or
//! fetched beforehand. The algorithm comes from the key and the policy; a header can only agree with it. Text that
//! two parsers could read in two ways is refused.

pub(crate) mod json;

mod algorithm;
mod base64url;
mod compact;
mod header;
mod jwk;
mod jwks;
mod key;
mod rsa;
mod sign;
mod thumbprint;

pub use algorithm::{Algorithm, AlgorithmSet};
pub use compact::{Jws, MAX_TOKEN_BYTES, Token};
pub use header::{Header, MAX_KID_BYTES};
pub use jwk::SkipReason;
pub(crate) use jwks::select;
pub use jwks::{Dropped, KeySet, MAX_KEYS, Selection, SetProblem, Skipped, Truncation};
pub use key::Key;
pub use sign::{KeyFault, SignError, SigningKey};
pub use thumbprint::Thumbprint;
