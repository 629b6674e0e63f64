//! Parameters of a query: each once, and none that is unknown.

use std::collections::HashMap;

use tokenward::MAX_NAME_BYTES;
use url::form_urlencoded;

use crate::http::{Fault, Rejected};

/// The longest value of a parameter, in bytes.
const MAX_VALUE: usize = 256;

/// The parameters of `query`, which may be `known` ones only.
///
/// # Errors
///
/// Everything that is wrong.
pub(super) fn only(
    query: Option<&str>,
    known: &[&'static str],
) -> Result<HashMap<&'static str, String>, Rejected> {
    let (mut values, mut faults) = (HashMap::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(known) = known.iter().find(|known| **known == name) else {
            faults.push(Fault::new(name, "unknown parameter"));
            continue;
        };
        if value.len() > MAX_VALUE {
            faults.push(Fault::new(*known, "too long"));
        } else if values.insert(*known, value.into_owned()).is_some() {
            faults.push(Fault::new(*known, "given twice"));
        }
    }
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(Rejected::Members(faults))
    }
}

/// The name, of an identity provider or a tenant, in the parameter `name`.
///
/// # Errors
///
/// Where it is none that anything could have.
pub(super) fn name(
    values: &HashMap<&'static str, String>,
    name: &'static str,
) -> Result<Option<String>, Rejected> {
    let Some(value) = values.get(name) else {
        return Ok(None);
    };
    if is_name(value) {
        Ok(Some(value.clone()))
    } else {
        Err(Rejected::Members(vec![Fault::new(
            name,
            "must be 1 to 64 letters, digits, _ or -",
        )]))
    }
}

/// Whether an identity provider or a tenant could be called so.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The integer of the parameter `name`, from `min` to `max`, or `default` where it is absent.
///
/// # Errors
///
/// Where it is no such integer.
pub(super) fn integer<T>(
    values: &HashMap<&'static str, String>,
    name: &'static str,
    (min, max): (T, T),
    default: T,
) -> Result<T, Rejected>
where
    T: std::str::FromStr + PartialOrd,
{
    let Some(text) = values.get(name) else {
        return Ok(default);
    };
    // A sign or a blank is no digit, though some parsers take it.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text
        .parse()
        .ok()
        .filter(|value| digits && (min..=max).contains(value));
    value.ok_or_else(|| Rejected::Members(vec![Fault::new(name, "not an integer within the limits")]))
}
