//! Behaviour through the public surface. One binary, a module for each topic.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails should say where"
)]
#![expect(unreachable_pub, reason = "nothing here is for others")]

mod attacks_keys;
mod attacks_tokens;
mod claims;
mod dependencies;
mod differential;
mod dpop;
mod issuer_binding;
mod key_sets;
mod signing;
mod support;
mod vectors;
