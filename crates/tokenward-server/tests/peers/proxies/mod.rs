//! Real proxies, started from `examples/`, between clients that try everything and a service that writes down what reaches it.

mod cast;
mod door;
mod echo;
mod envoy;
mod examples;
mod limits;
mod nginx;
mod outage;
mod place;
mod proofs;
mod raw;
mod row;
mod rows;
mod stage;
mod table;
mod wire;
