//! `tokenward jws verify`: signatures, and nothing else, checked with a key at hand.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokenward_core::{
    Denial,
    jose::{Jws, Key, KeySet, MAX_TOKEN_BYTES, Selection, SkipReason},
};

use super::{Ending, Failure, input, output::Output};

/// Checks one token, or each line of standard input up to the first bad one.
pub(super) fn run(jwk: &Path, token: Option<&str>, output: &Output) -> Result<Ending, Failure> {
    let keys = keys(&input::file(jwk)?).map_err(|why| Failure::usage(format!("{}: {why}", jwk.display())))?;
    let check = |token: &str, line: Option<usize>| match payload(token, &keys) {
        Ok(payload) => {
            output.bytes(&payload);
            true
        }
        Err(denial) => {
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            output.error(format_args!("{line}{}: {}", denial.code(), denial.detail()));
            false
        }
    };
    if let Some(token) = token.filter(|token| *token != "-") {
        return Ok(if check(&input::token(Some(token))?, None) {
            Ending::Ok
        } else {
            Ending::No
        });
    }
    let mut checked = false;
    for line in input::token_lines() {
        let (number, token) = line?;
        if !check(&token, Some(number)) {
            return Ok(Ending::No);
        }
        checked = true;
    }
    if checked {
        Ok(Ending::Ok)
    } else {
        Err(Failure::usage("there is no token on standard input"))
    }
}

/// What the file of the operator holds.
enum Keys {
    /// Whatever kid a token names: others may know the key under another one.
    One(Key),
    Set(KeySet),
}

fn payload(token: &str, keys: &Keys) -> Result<Vec<u8>, Denial> {
    let jws = Jws::parse(token, MAX_TOKEN_BYTES)?;
    let alg = jws.header().alg();
    let key = match keys {
        Keys::One(key) if key.fits(alg) => key,
        Keys::One(_) => return Err(Denial::AlgNotAllowed),
        Keys::Set(keys) => match keys.select(jws.header().kid(), alg) {
            Selection::Key(key) => key,
            Selection::Unknown | Selection::Ambiguous => return Err(Denial::KeyUnknown),
        },
    };
    jws.verify(key).map(|()| jws.payload().to_vec())
}

/// One key, or the keys of a set, every one of which must be good: a file at hand is not what others published.
fn keys(text: &[u8]) -> Result<Keys, String> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let is_set = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text)
        .map_err(|error| format!("not a JSON object: {error}"))?
        .contains_key("keys");
    if !is_set {
        return Key::from_jwk(text).map(Keys::One).map_err(refused);
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|error| format!("not a key set: {error}"))?;
    let mut keys = Vec::new();
    let mut kids = HashSet::new();
    for (index, text) in set.keys.iter().enumerate() {
        let key = Key::from_jwk(text.get().as_bytes())
            .map_err(|reason| format!("key {index}: {}", refused(reason)))?;
        if let Some(kid) = key.kid()
            && !kids.insert(kid.to_owned())
        {
            return Err(format!("key {index}: another key of the set has the same kid"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("the set has no key".into());
    }
    let symmetric = |key: &Key| key.algorithms().iter().any(|algorithm| algorithm.is_symmetric());
    // Else a public key could be taken for a secret (RFC 8725 section 2.1).
    if keys.iter().any(symmetric) && !keys.iter().all(symmetric) {
        return Err("the set mixes secrets with public keys".into());
    }
    Ok(Keys::Set(keys.into_iter().collect()))
}

/// Why a key of the operator's own cannot be used, in words.
fn refused(reason: SkipReason) -> String {
    let advice = match reason {
        SkipReason::PrivateMaterial => ": it holds private members; give the public key",
        SkipReason::SecretTooShort => ": the secret is shorter than its hash (RFC 7518 section 3.2)",
        SkipReason::RsaTooSmall => ": RSA keys have at least 2048 bits (RFC 7518 section 3.3)",
        _ => "",
    };
    format!("the key is refused: {}{advice}", reason.code())
}
