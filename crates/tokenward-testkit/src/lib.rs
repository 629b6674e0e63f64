//! What tests share: clocks, fixed keys, a token builder, a scriptable identity provider, providers that misbehave by a
//! script, Redis servers of their own, the cases that every store must pass, and how benchmarks measure.
//!
//! Never published and never part of a program. Everything here listens on loopback only, and panics where
//! a test could not go on anyway.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test tool reports that the test cannot go on"
)]

pub mod bench;
pub mod conformance;

mod chaos;
mod clock;
mod idp;
mod keys;
mod pki;
mod proof;
mod redis;
mod token;
mod verdicts;

pub use self::redis::{Fault, Program, Proxy, RedisCluster, RedisServer, Sentinels};
pub use chaos::{Chaos, Script, ScriptError};
pub use clock::{ManualClock, RealClock};
pub use idp::{Behaviour, DISCOVERY_PATH, Decider, IdpServer, JWKS_PATH, Request, Served, Validators};
pub use keys::{TestKey, key_set};
pub use pki::{Leaf, TestPki};
pub use proof::proof;
pub use token::{TokenBuilder, compact, with_broken_signature};
pub use verdicts::{Verdict, verdicts};

/// The example of the documentation runs.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/chaos-idp.md")]
struct Page;
