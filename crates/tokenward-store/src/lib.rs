//! Where state lives: small traits named by intent, and the engines behind them.

mod snapshots;

pub use snapshots::{Memory, Snapshot, Snapshots, StoreError, StoreErrorKind};
