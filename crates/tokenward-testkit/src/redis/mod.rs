//! Redis and Valkey servers of a test's own, alone and together, and a way to them that can be disturbed.

use std::{thread, time::Duration};

mod cluster;
mod proxy;
mod sentinel;
mod server;

pub use cluster::RedisCluster;
pub use proxy::{Fault, Proxy};
pub use sentinel::Sentinels;
pub use server::{Program, RedisServer};

/// Waits for something that servers agree on among themselves.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("in twenty seconds: {what}");
}
