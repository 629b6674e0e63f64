//! What a server answered, shown to people or to scripts.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Ending, Failure,
    api::Answer,
    output::{Output, Tone, harmless},
};

/// The end of a call that answers with one record.
pub(super) fn record(
    answer: &Answer,
    expected: StatusCode,
    json: bool,
    output: &Output,
) -> Result<Ending, Failure> {
    if answer.status != expected {
        return answer.refusal(output);
    }
    let record = answer.json()?;
    if json {
        output.json(&record);
    } else {
        members(&record, output);
    }
    Ok(Ending::Ok)
}

/// Each member of a record on a line.
pub(super) fn members(record: &Value, output: &Output) {
    let members = record.as_object().into_iter().flatten();
    let rows = members.map(|(name, _)| [harmless(name), text(record, name)]);
    output.table(["member", "value"], &rows.collect::<Vec<_>>());
}

/// The end of a call that answers with nothing.
pub(super) fn done(answer: &Answer, what: &str, json: bool, output: &Output) -> Result<Ending, Failure> {
    if answer.status != StatusCode::NO_CONTENT {
        return answer.refusal(output);
    }
    if json {
        output.json(&json!({ "ok": true }));
    } else {
        output.line(output.tint(Tone::Good, what));
    }
    Ok(Ending::Ok)
}

/// A member as people read it.
pub(super) fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => harmless(text),
        Some(other) => harmless(&other.to_string()),
    }
}
