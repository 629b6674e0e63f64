//! `tokenward token verify`: is this token good, and if not, why not?

use std::path::Path;

use serde_json::{Value, json};
use tokenward::{SystemClock, acquire::KeysAt};
use tokenward_core::{
    Check, Clock, Denial, Timestamp, Trace, Verified, explain,
    jose::{KeySet, MAX_TOKEN_BYTES, Token},
    policy::{Audiences, Policy},
};

use super::{
    Ending, Failure, VerifyArgs, input,
    output::{Output, Tone, harmless},
    source,
};
use crate::config::{self, Environment};

pub(super) fn run(
    arguments: &VerifyArgs,
    environment: &Environment,
    output: &Output,
) -> Result<Ending, Failure> {
    let token = input::token(arguments.token.as_deref())?;
    let now = arguments.at.unwrap_or_else(|| SystemClock::new().wall());
    let mut checks = Vec::new();
    let outcome = match (&arguments.config, &arguments.jwks) {
        (Some(file), _) => by_config(&token, file, &arguments.tenant, environment, now, &mut checks)?,
        (None, jwks) => by_keys(
            &token,
            jwks.as_deref().unwrap_or_default(),
            arguments,
            now,
            &mut checks,
        )?,
    };
    let checks = if arguments.explain { Some(checks) } else { None };
    if arguments.json {
        output.json(&report(&outcome, checks.as_deref(), now));
    } else {
        print(&outcome, checks.as_deref(), now, output);
    }
    Ok(if outcome.is_ok() { Ending::Ok } else { Ending::No })
}

type Outcome = Result<Verified, Denial>;

/// Verifies by the IdP of `tenant` that has the token's issuer.
fn by_config(
    token: &str,
    file: &Path,
    tenant: &str,
    environment: &Environment,
    now: Timestamp,
    checks: &mut Vec<Check>,
) -> Result<Outcome, Failure> {
    let config = config::load(Some(file), false, environment)
        .map_err(|problems| Failure::usage(format!("the configuration is not valid\n{problems}")))?;
    let size = || format!("{} of at most {MAX_TOKEN_BYTES} bytes", token.len());
    let parsed = match Token::parse(token, MAX_TOKEN_BYTES) {
        Ok(parsed) => parsed,
        Err(denial) => {
            checks.check("format", Err(denial), size);
            return Ok(Err(denial));
        }
    };
    // The issuer, unverified, selects an IdP and nothing else.
    let issuer = parsed.claims().issuer();
    let idp = config
        .idps
        .iter()
        .find(|idp| idp.tenant == tenant && idp.issuer.is_some() && idp.issuer.as_deref() == issuer);
    let Some((idp, policy)) = idp.and_then(|idp| Some((idp, idp.policy()?))) else {
        checks.check("format", Ok(()), size);
        checks.check("issuer", Err(Denial::IssuerUnknown), || {
            "no IdP of the configuration verifies it".to_owned()
        });
        return Ok(Err(Denial::IssuerUnknown));
    };
    let failed =
        |message: String| Failure::usage(format!("{}: IdP `{}`: {message}", file.display(), idp.name));
    let policy = policy.map_err(|error| failed(error.to_string()))?;
    let keys = match idp.secret_key(parsed.header().kid()) {
        Some(key) => KeySet::from_iter([key.map_err(|reason| failed(reason.to_string()))?]),
        None => {
            let keys_at = idp.keys_at().map_err(|error| failed(error.to_string()))?;
            let mut keys =
                source::fetch(idp.guards(&config.allowed_domains.as_slice().into()), keys_at)?.keys;
            // As the server does with the first set that it fetches.
            let unknown = |_: &str| false;
            keys.truncate(idp.settings.max_keys, idp.settings.truncation, &unknown, &unknown);
            keys
        }
    };
    Ok(explain(token, &keys, &policy, now, checks))
}

/// Verifies by the key set and the policy that the arguments give.
fn by_keys(
    token: &str,
    place: &str,
    arguments: &VerifyArgs,
    now: Timestamp,
    checks: &mut Vec<Check>,
) -> Result<Outcome, Failure> {
    let keys = match source::url(place) {
        Some(url) => source::fetch(arguments.guards.guards()?, KeysAt::Url(url))?.keys,
        None => source::key_set(place, &input::file(Path::new(place))?).map_err(Failure::Usage)?,
    };
    let issuer = arguments.issuer.clone().unwrap_or_default();
    let policy = Policy::builder(issuer, Audiences::OneOf(arguments.audience.clone())).build();
    let policy = policy.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(explain(token, &keys, &policy, now, checks))
}

fn report(outcome: &Outcome, checks: Option<&[Check]>, now: Timestamp) -> Value {
    let mut report = match outcome {
        Ok(verified) => json!({
            "valid": true,
            "alg": verified.alg().name(),
            "kid": verified.kid(),
            "key": verified.key().to_string(),
            "claims": verified.claims(),
        }),
        Err(denial) => json!({
            "valid": false,
            "reason": denial.code(),
            "detail": denial.detail(),
        }),
    };
    let checks = checks.map(|checks| {
        checks.iter().map(|check| {
        let reason = check.outcome.err().map(Denial::code);
        json!({ "check": check.name, "passed": reason.is_none(), "reason": reason, "note": check.note })
    }).collect::<Value>()
    });
    if let Some(report) = report.as_object_mut() {
        report.insert("at".into(), now.to_string().into());
        report.extend(checks.map(|checks| ("checks".to_owned(), checks)));
    }
    report
}

fn print(outcome: &Outcome, checks: Option<&[Check]>, now: Timestamp, output: &Output) {
    if let Some(checks) = checks {
        let rows = checks.iter().map(|check| {
            let outcome = check
                .outcome
                .map_or_else(|denial| denial.code().to_owned(), |()| "ok".to_owned());
            [check.name.to_owned(), outcome, harmless(&check.note)]
        });
        output.table(["check", "outcome", "note"], &rows.collect::<Vec<_>>());
    }
    match outcome {
        Ok(verified) => {
            output.line(format_args!("{} at {now}", output.tint(Tone::Good, "valid")));
            let claims = verified.claims();
            let text = |text: Option<&str>| text.map(harmless);
            let members = [
                ("issuer", text(claims.issuer())),
                ("subject", text(claims.subject())),
                ("expires", claims.expires_at().map(|time| time.to_string())),
                ("alg", Some(verified.alg().name().to_owned())),
                ("kid", text(verified.kid())),
            ];
            for (name, value) in members {
                if let Some(value) = value {
                    output.line(format_args!("{name:<8} {value}"));
                }
            }
        }
        Err(denial) => {
            output.line(format_args!(
                "{} at {now}: {}",
                output.tint(Tone::Bad, denial.code()),
                denial.detail()
            ));
        }
    }
}

/// A time as an argument gives it.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Timestamp::from_secs(seconds));
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "expected RFC 3339, or seconds since 1970".to_owned())?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}
