//! Decides which requests go through, and says whom they are from.
//!
//! [`Engine`] decides, whoever asks: it takes the facts of a request and gives headers or a reason. `doors.rs` holds the
//! doors at which proxies ask by HTTP, each in the words of its proxy, and `grpc/` that of Envoy's gRPC service.

mod carriers;
mod doors;
mod engine;
pub(crate) mod grpc;
mod identity;

pub(crate) use doors::routes;
pub(crate) use engine::{Engine, Parents};
pub(crate) use grpc::{SERVICE as GRPC_SERVICE, routes as grpc_routes};
