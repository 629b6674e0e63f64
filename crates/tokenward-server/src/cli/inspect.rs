//! `tokenward token inspect`: what a token says, unverified.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tokenward::SystemClock;
use tokenward_core::{Clock, Timestamp, jose::MAX_TOKEN_BYTES};

use super::{
    Ending, Failure, input,
    output::{Output, Tone, json_text},
};

/// A lifetime beyond this is remarked on: it is the default of `max_token_lifetime`.
const LONG: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn run(argument: Option<&str>, json: bool, output: &Output) -> Result<Ending, Failure> {
    let token = input::token(argument)?;
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = match parts.as_slice() {
        [_, _, _, _, _] => {
            return Err(Failure::usage(
                "five parts: an encrypted token (JWE), not a signed one",
            ));
        }
        [header, claims, _] => (part("header", header)?, part("payload", claims)?),
        parts => {
            return Err(Failure::usage(format!(
                "not a signed token in compact form: {} parts, not three",
                parts.len()
            )));
        }
    };
    let now = SystemClock::new().wall();
    let mut warnings = Vec::new();
    if let Err(denial) = tokenward_core::jose::Token::parse(&token, MAX_TOKEN_BYTES) {
        warnings.push(format!(
            "no verifier here accepts it: {}: {}",
            denial.code(),
            denial.detail()
        ));
    }
    warn_of_header(&header, &mut warnings);
    warn_of_claims(&claims, now, &mut warnings);
    if json {
        let report = json!({ "verified": false, "header": header, "claims": claims, "warnings": warnings });
        output.json(&report);
        return Ok(Ending::Ok);
    }
    for (title, content) in [
        ("header", Value::Object(header)),
        ("claims", Value::Object(claims.clone())),
    ] {
        output.line(output.tint(Tone::Heading, title));
        output.line(json_text(&content));
    }
    let times = ["iat", "nbf", "exp"].into_iter().filter_map(|name| {
        let time = time(claims.get(name)?)?;
        Some([name.to_owned(), time.to_string(), distance(time, now)])
    });
    output.table(["time", "", ""], &times.collect::<Vec<_>>());
    output.line(output.tint(Tone::Heading, "warnings"));
    for warning in warnings {
        output.line(format_args!(
            "- {}",
            output.tint(Tone::Bad, &super::output::harmless(&warning))
        ));
    }
    output.line("- nothing of this is verified");
    Ok(Ending::Ok)
}

/// One part of a token as a JSON object.
fn part(name: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| Failure::usage(format!("the {name} is not base64url")))?;
    serde_json::from_slice(&bytes).map_err(|_| Failure::usage(format!("the {name} is not a JSON object")))
}

fn warn_of_header(header: &Map<String, Value>, warnings: &mut Vec<String>) {
    let mut warn = |text: &str| warnings.push(text.to_owned());
    match header.get("alg").and_then(Value::as_str) {
        Some(alg) if alg.eq_ignore_ascii_case("none") => {
            warn("`alg` is `none`: the token is not signed at all");
        }
        Some(alg) if alg.starts_with("HS") => {
            warn("`alg` is symmetric: whoever can verify the token can make one like it");
        }
        Some(_) => {}
        None => warn("there is no `alg`"),
    }
    if !header.contains_key("kid") {
        warn("there is no `kid`: it is verified only where its issuer has exactly one key that fits");
    }
    for name in ["jwk", "jku", "x5u", "x5c"] {
        if header.contains_key(name) {
            warn(&format!(
                "`{name}` brings a key, or says where one is: never use it"
            ));
        }
    }
    for name in ["crit", "b64", "zip"] {
        if header.contains_key(name) {
            warn(&format!("`{name}` changes how a token is processed"));
        }
    }
}

fn warn_of_claims(claims: &Map<String, Value>, now: Timestamp, warnings: &mut Vec<String>) {
    for (name, meaning) in [
        ("iss", "nothing says which keys verify it"),
        ("aud", "it is meant for everyone who accepts its issuer"),
        ("exp", "it never ends"),
    ] {
        if !claims.contains_key(name) {
            warnings.push(format!("there is no `{name}`: {meaning}"));
        }
    }
    let mut moment = |name: &str| {
        let value = claims.get(name)?;
        let time = time(value);
        if time.is_none() {
            warnings.push(format!("`{name}` is not a number of seconds"));
        }
        time
    };
    let (exp, nbf, iat) = (moment("exp"), moment("nbf"), moment("iat"));
    if exp.is_some_and(|exp| exp <= now) {
        warnings.push("it has expired".into());
    }
    if nbf.is_some_and(|nbf| nbf > now) {
        warnings.push("it is not valid yet (`nbf`)".into());
    }
    if iat.is_some_and(|iat| iat > now) {
        warnings.push("it was issued in the future (`iat`)".into());
    }
    if let (Some(exp), Some(iat)) = (exp, iat)
        && exp.since(iat) > LONG
    {
        warnings.push("it lives for more than 30 days".into());
    }
    if claims.contains_key("cnf") {
        warnings.push("it is bound to a key (`cnf`): as a plain bearer token it is refused".into());
    }
}

/// A NumericDate, if it lies within the years that can be shown.
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..253_402_300_800.0).contains(seconds))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and milliseconds are enough"
    )]
    Some(Timestamp::from_millis((seconds * 1_000.0) as i64))
}

/// How far `time` is from `now`, in the largest unit that fits.
fn distance(time: Timestamp, now: Timestamp) -> String {
    let (seconds, ahead) = match time > now {
        true => (time.since(now).as_secs(), true),
        false => (now.since(time).as_secs(), false),
    };
    let text = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    if ahead {
        format!("in {text}")
    } else {
        format!("{text} ago")
    }
}
