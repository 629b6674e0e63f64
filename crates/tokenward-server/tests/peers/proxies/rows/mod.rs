//! The requests of the table, and what is to become of each.

mod headers;
mod paths;
mod requests;
mod tokens;

use super::cast::{Cast, Person};
use super::door::Door;
use super::row::{Outcome, Row};

const ENVOYS: &[Door] = &[Door::Envoy, Door::Grpc, Door::Istio];
/// Of these, those that ask by HTTP.
const ENVOYS_BY_HTTP: &[Door] = &[Door::Envoy, Door::Istio];
const ANONYMOUS: Outcome = Outcome::Through(Vec::new());

pub(super) fn all(cast: &Cast) -> Vec<Row> {
    let mut rows = tokens::rows(cast);
    rows.extend(headers::rows(cast));
    rows.extend(paths::rows(cast));
    rows.extend(requests::rows(cast));
    rows
}

/// It gets through in the name of `person`.
fn through(person: &Person) -> Outcome {
    Outcome::Through(person.identity.clone())
}

/// It gets through, but the proxy writes the target in its own way.
fn rewritten(person: Option<&Person>, target: &str) -> Outcome {
    Outcome::Rewritten {
        identity: person.map(|person| person.identity.clone()).unwrap_or_default(),
        target: target.to_owned(),
        host: None,
    }
}

fn refused(reason: &'static str) -> Outcome {
    let status = match reason {
        "rule_denied" | "insufficient_scope" => 403,
        _ => 401,
    };
    Outcome::Refused(status, reason)
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered(status)
}
