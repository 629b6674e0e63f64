//! The token service: mints, renews and revokes tokens of our own.

mod allowed;
mod census;
mod failure;
mod family;
mod http;
mod hub;
mod oauth;
mod own;
mod revoke;
mod service;
mod stream;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use allowed::{may_know, narrow};
use failure::Failure;
use service::Renewed;
pub(crate) use service::{Settings, TokenService};
