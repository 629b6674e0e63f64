//! What every engine of a store must do. Each case panics where the engine does not.

use tokenward_store::StoreError;

mod ledger;
mod snapshots;
mod tokens;

pub use ledger::{audit_record, ledger, stored_idp};
pub use snapshots::{snapshot, snapshots};
pub use tokens::{child, family, origin, reopening, revocation, tokens};

fn ok<T>(result: Result<T, StoreError>) -> T {
    result.expect("the store works")
}
