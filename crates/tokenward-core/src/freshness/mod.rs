//! When a key set is fetched, what its clients are told, and how long its keys are used.
//!
//! [`Entry`] is the state machine of one identity provider: facts and times in, decisions out. It does no
//! fetching. Readers use the [`View`]s that it makes.

mod backoff;
mod budget;
mod entry;
mod facts;
mod lifetime;
mod settings;
mod status;
mod succession;
mod view;

pub use budget::CallerId;
pub use entry::Entry;
pub use facts::{
    Adopted, Cause, Errand, Event, FetchPlan, Finished, Miss, Outcome, Restored, Share, Truncated, Validators,
};
pub use lifetime::{CacheHeaders, Upstream};
pub use settings::{CachePolicy, Refresh, Settings, UnknownKid};
pub use status::{SkippedKey, State, Status};
pub use view::{Lookup, View};
