//! The program as its users meet it: started as a process, asked over HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admin;
mod aggregate;
mod allow;
mod authorize;
mod canary;
mod chaos;
mod cli;
mod connections;
mod crash;
mod doors;
mod faults;
mod floods;
mod grpc;
mod guarded;
mod holders;
mod idps;
mod limits;
mod metrics;
mod oauth;
mod options;
mod program;
mod proofs;
mod reload;
mod remote;
mod restart;
mod revocations;
mod serve;
mod store;
mod streams;
mod tenants;
mod terminal;
mod tokens;
