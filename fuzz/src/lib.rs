//! What the fuzz targets hold: not only that no input makes a parser panic or run on, but that what it accepts means what
//! an independent reading of the same bytes says, and nothing else is accepted.
//!
//! A module for each target, whose `check` takes the input and panics where a property is broken. [`json`] and
//! [`base64url`] are the independent readings; they share no code with what they judge.

pub mod admin_bodies;
pub mod base64url;
pub mod cache_headers;
pub mod configuration;
pub mod discovery;
pub mod json;
pub mod key_set;
pub mod proof;
pub mod question;
pub mod token;
