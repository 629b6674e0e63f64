//! The tools that every other test relies on.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod chaos;
mod client;
mod clock;
mod idp;
mod program;
mod script;
mod tls;
mod token;
