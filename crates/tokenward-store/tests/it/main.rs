//! Every engine through the public surface.
#![expect(clippy::unwrap_used, reason = "tests")]

mod copy;
mod crash;
mod damage;
mod engines;
mod faults;
mod sqlite;
mod upgrade;
