//! Every engine through the public surface.
#![expect(clippy::unwrap_used, reason = "tests")]

mod crash;
mod engines;
mod sqlite;
