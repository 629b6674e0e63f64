//! Token, key and cache rules as pure functions and state machines.
//!
//! Nothing here does I/O, reads a clock, draws a random number or waits: times and randomness are arguments,
//! and what comes back is a decision. See the `tokenward` crate for what fetches, waits and serves.
//!
//! Do not turn on `serde_json`'s `arbitrary_precision` anywhere in a program that uses this crate: the feature changes
//! how numbers are handed out for every crate at once, and tokens with times in them are then refused as malformed.

pub mod authz;
pub mod claims;
pub mod dpop;
pub mod freshness;
pub mod jose;
pub mod keyring;
pub mod limit;
pub mod policy;
pub mod revocation;
pub mod session;
pub mod written;

mod denial;
mod time;
mod verify;

pub use denial::Denial;
pub use time::{BoxFuture, Clock, Timestamp};
pub use verify::{Check, Trace, Verified, explain, verify};
