//! The tools that every other test relies on.
#![expect(clippy::unwrap_used, reason = "tests")]

mod client;
mod clock;
mod idp;
mod tls;
mod token;
