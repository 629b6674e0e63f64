//! What a step makes of one request.

use http::header::{ETAG, IF_NONE_MATCH};
use serde_json::Value;

use super::{
    fault::{Fault, Target},
    script::{On, Step, Validity},
};
use crate::{Behaviour, Request, Served, Validators};

/// The `ETag` of a provider that never sees a change.
const STUCK: &str = "\"stuck\"";

/// One of a provider's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Jwks,
    Discovery,
}

/// One request for a document, and what the answer depends on besides the script.
pub(super) struct Asked<'a> {
    pub(super) which: Which,
    pub(super) request: &'a Request,
    /// How many requests for this document came before it.
    pub(super) before: usize,
    /// How many steps lie behind.
    pub(super) revision: u64,
    /// Scheme, address and port of the listener that was asked.
    pub(super) base: &'a str,
    /// The same without TLS.
    pub(super) http_base: &'a str,
}

/// What is done about `asked`, where `document` is what a good provider would serve.
pub(super) fn behaviour(step: &Step, document: &Value, asked: &Asked<'_>) -> Behaviour {
    let mut served = Served {
        body: document.to_string().into_bytes(),
        revision: asked.revision,
        validators: Validators::ETag,
    };
    let affected = match step.on {
        On::Both => true,
        On::Jwks => asked.which == Which::Jwks,
        On::Discovery => asked.which == Which::Discovery,
    };
    if !affected {
        return Behaviour::Serve(served, Box::new(Behaviour::normal()));
    }
    let does = match &step.fault {
        Fault::None => document_of(step, &mut served, asked),
        Fault::Slow(time) => Behaviour::Delay(*time, Box::new(document_of(step, &mut served, asked))),
        Fault::Drip { bytes, every } => Behaviour::Drip {
            bytes: *bytes,
            every: *every,
        },
        Fault::Hang => Behaviour::HangBeforeHeaders,
        Fault::HangInBody => Behaviour::HangMidBody,
        Fault::Close => Behaviour::Close,
        Fault::Reset => Behaviour::Reset,
        Fault::Truncate => Behaviour::Truncate,
        Fault::Endless => Behaviour::Endless,
        Fault::Huge(size) => {
            served.body.resize((*size).max(served.body.len()), b' ');
            Behaviour::normal()
        }
        Fault::Gzip => Behaviour::Gzip,
        Fault::GzipBomb(unpacked) => Behaviour::GzipBomb { unpacked: *unpacked },
        Fault::Html => Behaviour::html(),
        Fault::NotJson => Behaviour::reply(200, &[("content-type", "application/json")], "{\"keys\": ["),
        Fault::EmptySet => Behaviour::empty_set(),
        Fault::EmptyObject => Behaviour::empty_object(),
        Fault::Status { code, retry_after } => {
            let retry_after = retry_after.as_deref().map(|value| ("retry-after", value));
            Behaviour::reply(*code, retry_after.as_slice(), "")
        }
        Fault::Redirect(target) => Behaviour::redirect(&address(target, asked)),
    };
    Behaviour::Serve(served, Box::new(with_headers(does, &step.headers)))
}

/// The document, with validators as the step has them.
fn document_of(step: &Step, served: &mut Served, asked: &Asked<'_>) -> Behaviour {
    served.validators = match step.validators {
        Validity::Etag => Validators::ETag,
        Validity::LastModified => Validators::LastModified,
        Validity::None | Validity::Changing | Validity::Stuck | Validity::Always304 => Validators::None,
    };
    let etag = ETAG.as_str();
    match step.validators {
        Validity::Changing => Behaviour::with_headers(&[(etag, &format!("\"{}\"", asked.before))]),
        Validity::Stuck => {
            let known = asked.request.headers.get(IF_NONE_MATCH);
            if known.is_some_and(|known| known.as_bytes() == STUCK.as_bytes()) {
                Behaviour::reply(304, &[(etag, STUCK)], "")
            } else {
                Behaviour::with_headers(&[(etag, STUCK)])
            }
        }
        Validity::Always304 => Behaviour::status(304),
        Validity::Etag | Validity::LastModified | Validity::None => Behaviour::normal(),
    }
}

/// Adds the script's headers, in place of those of the same name.
fn with_headers(behaviour: Behaviour, add: &[(String, String)]) -> Behaviour {
    let merge = |mut headers: Vec<(String, String)>| {
        headers.retain(|(name, _)| !add.iter().any(|(other, _)| name == other));
        headers.extend_from_slice(add);
        headers
    };
    match behaviour {
        Behaviour::Normal(headers) => Behaviour::Normal(merge(headers)),
        Behaviour::Reply {
            status,
            headers,
            body,
        } => Behaviour::Reply {
            status,
            headers: merge(headers),
            body,
        },
        Behaviour::Delay(time, inner) => Behaviour::Delay(time, Box::new(with_headers(*inner, add))),
        other => other,
    }
}

fn address(target: &Target, asked: &Asked<'_>) -> String {
    let path = &asked.request.path;
    match target {
        Target::Loop => path.clone(),
        Target::OtherHost => {
            let port = asked.base.rsplit_once(':').map_or("", |(_, port)| port);
            let scheme = asked.base.split_once(':').map_or("", |(scheme, _)| scheme);
            format!("{scheme}://localhost:{port}{path}")
        }
        Target::Http => format!("{}{path}", asked.http_base),
        Target::To(address) => address.clone(),
    }
}
