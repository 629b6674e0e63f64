//! How the scripts are called.

use redis::{Cmd, FromRedisValue, Value};
use tokenward_core::Timestamp;

use super::{Redis, script::Script};
use crate::{StoreError, StoreErrorKind};

/// How often a change is tried anew because somebody else came first. Each time, somebody did.
pub(super) const ATTEMPTS: usize = 100;

/// The largest number that is whole where the server orders by it: later times count as this one.
const MOST: i64 = 1 << 53;

/// Names with what is stored under them: nothing, where it was lost.
pub(super) type Values = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What is passed to a script.
#[derive(Default)]
pub(super) struct Args(pub(super) Vec<Vec<u8>>);

impl Args {
    pub(super) fn of(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.add(arg);
        self
    }

    pub(super) fn add(&mut self, arg: impl Into<Vec<u8>>) {
        self.0.push(arg.into());
    }
}

impl Redis {
    /// Runs a script, which may touch all keys.
    pub(super) async fn run<T: FromRedisValue>(&self, script: &Script, args: Args) -> Result<T, StoreError> {
        read(self.0.link.script(script, &self.0.ledger_keys, args.0).await?)
    }

    /// A command on one key.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        command: &str,
        key: &str,
        args: Args,
    ) -> Result<T, StoreError> {
        let mut call = Cmd::new();
        call.arg(command).arg(self.0.ledger.name(key)).arg(args.0);
        read(self.0.link.command(&call).await?)
    }
}

pub(super) fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    redis::from_redis_value(answer)
        .map_err(|error| damaged("what the store holds is not of the type that was stored").because(error))
}

/// A time as what the server orders by.
pub(super) fn score(time: Timestamp) -> String {
    time.as_millis().clamp(-MOST, MOST).to_string()
}

/// A time that may be none as what the server orders by.
pub(super) fn score_or_none(time: Option<Timestamp>) -> String {
    time.map(score).unwrap_or_default()
}

/// The time of a score.
pub(super) fn time_of(score: f64) -> Timestamp {
    // Saturates, and all numbers that are whole come back as they were.
    Timestamp::from_millis(score as i64)
}

/// A sequence as what the server orders by.
pub(super) fn place(sequence: u64) -> String {
    sequence.min(MOST.unsigned_abs()).to_string()
}

pub(super) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, what)
}

pub(super) fn contended(what: &str) -> StoreError {
    let message = format!("{what} changed {ATTEMPTS} times while it was to be changed; try again");
    StoreError::new(StoreErrorKind::Unavailable, message)
}
