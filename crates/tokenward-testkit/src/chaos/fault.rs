//! What can be wrong with an answer, and how a script says so.

use std::time::Duration;

use http::HeaderValue;

use super::yaml::{Node, Place, ScriptError, Value};

type Result<T> = std::result::Result<T, ScriptError>;

/// What is wrong with the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Slow(Duration),
    Drip { bytes: usize, every: Duration },
    Hang,
    HangInBody,
    Close,
    Reset,
    Truncate,
    Endless,
    Huge(usize),
    Gzip,
    GzipBomb(usize),
    Html,
    NotJson,
    EmptySet,
    EmptyObject,
    Status { code: u16, retry_after: Option<String> },
    Redirect(Target),
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To the address that was asked.
    Loop,
    /// To `localhost` in place of the address.
    OtherHost,
    /// To the same document without TLS.
    Http,
    To(String),
}

impl Fault {
    /// Whether the document comes whole, so that validators mean something.
    pub(super) fn serves_the_document(&self) -> bool {
        matches!(self, Self::None | Self::Slow(_))
    }
}

/// A word, or one member that says more.
pub(super) fn fault(node: Node) -> Result<Fault> {
    let place = node.place;
    if let Value::Scalar(_) = node.value {
        return node.one_of(
            "a fault without members",
            &[
                ("normal", Fault::None),
                ("hang", Fault::Hang),
                ("hang_in_body", Fault::HangInBody),
                ("close", Fault::Close),
                ("reset", Fault::Reset),
                ("truncate", Fault::Truncate),
                ("endless", Fault::Endless),
                ("gzip", Fault::Gzip),
                ("html", Fault::Html),
                ("not_json", Fault::NotJson),
                ("empty_set", Fault::EmptySet),
                ("empty_object", Fault::EmptyObject),
            ],
        );
    }
    let mut members = node.members("a fault")?;
    let fault = if let Some(node) = members.take("slow") {
        Fault::Slow(node.duration("`slow`")?)
    } else if let Some(node) = members.take("drip") {
        let every = members.required("every")?;
        Fault::Drip {
            bytes: node.number("`drip`", &(1..=1 << 20))?,
            every: every.duration("`every`")?,
        }
    } else if let Some(node) = members.take("huge") {
        Fault::Huge(node.size("`huge`")?)
    } else if let Some(node) = members.take("gzip_bomb") {
        Fault::GzipBomb(node.size("`gzip_bomb`")?)
    } else if let Some(node) = members.take("status") {
        let retry_after = members.take("retry_after");
        Fault::Status {
            code: node.number("`status`", &(200..=599))?,
            retry_after: retry_after.map(retry_after_value).transpose()?,
        }
    } else if let Some(node) = members.take("redirect") {
        Fault::Redirect(target(node)?)
    } else {
        return Err(
            place.error("a fault with members is one of slow, drip, huge, gzip_bomb, status, redirect")
        );
    };
    members.end("for `drip` also `every`, for `status` also `retry_after`")?;
    Ok(fault)
}

fn retry_after_value(node: Node) -> Result<String> {
    let place = node.place;
    header_value(place, node.text("`retry_after`")?)
}

fn target(node: Node) -> Result<Target> {
    let place = node.place;
    Ok(match node.text("`redirect`")?.as_str() {
        "loop" => Target::Loop,
        "other_host" => Target::OtherHost,
        "http" => Target::Http,
        address => Target::To(header_value(place, address.to_owned())?),
    })
}

fn header_value(place: Place, text: String) -> Result<String> {
    match HeaderValue::try_from(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(place.error("not the value of a header")),
    }
}
