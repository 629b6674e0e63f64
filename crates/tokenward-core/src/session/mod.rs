//! Tokens of our own: their ids, what may be asked for, what they claim, and when a child of a pair is renewed.

mod claims;
mod family;
mod id;
mod request;

pub use claims::{AccessTyp, Issued, Kin, Stamp, TokenType};
pub use family::{RENEWALS, Renewal, first_renewal, next_renewal};
pub use id::{ID_KEY_BYTES, IdKey, TokenId};
pub use request::{Lifetimes, PairRequest, Profile, RequestFault, TokenRequest, is_user_id};
