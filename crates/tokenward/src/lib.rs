//! Fetches and guards the signing keys of many identity providers, and verifies the tokens they sign.

pub mod acquire;
pub mod carrier;
pub mod discovery;
pub mod fetch;
pub mod random;
pub mod respond;

mod clock;

pub use clock::SystemClock;
pub use tokenward_core::Denial;
