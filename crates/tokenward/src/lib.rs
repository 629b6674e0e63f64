//! Fetches and guards the signing keys of many identity providers, and verifies the tokens they sign.

pub mod carrier;
pub mod respond;

pub use tokenward_core::Denial;
