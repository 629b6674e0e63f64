//! The token service: mints, renews and revokes tokens of our own.

mod http;
mod hub;
mod revocations;
mod service;
mod stream;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use revocations::load;
use service::{Failure, Renewed};
pub(crate) use service::{Settings, TokenService};
