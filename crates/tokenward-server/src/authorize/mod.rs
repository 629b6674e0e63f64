//! Decides which requests go through, and says whom they are from.
//!
//! [`Engine`] decides, whoever asks: it takes the facts of a request and gives headers or a reason. `doors.rs` holds the
//! doors at which proxies ask by HTTP, each in the words of its proxy.

mod carriers;
mod doors;
mod engine;
mod identity;

pub(crate) use doors::routes;
pub(crate) use engine::{Engine, Parents};
