//! Behaviour through the public surface. Traffic stays on the loopback interface.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod acquire;
mod compromised;
mod crowd;
mod dpop;
mod examples;
mod fetch_body;
mod fetch_client;
mod fetch_guards;
mod fetch_redirects;
mod fetch_time;
mod fetch_tls;
mod layer;
mod layer_options;
mod lifecycle;
mod promises;
mod redis;
mod registering;
mod replicas;
mod resolving;
mod revoking;
mod shared;
mod site;
mod snapshots;
mod sources;
mod spans;
mod verifying;
mod web;
mod world;
