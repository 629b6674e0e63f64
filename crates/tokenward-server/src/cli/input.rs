//! What commands are given to read: tokens, and files.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    path::Path,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::config::{not_private, read_limited};

/// The longest token that a command reads, in bytes. It is beyond what a verifier accepts, so that what is too large
/// can be looked at.
const MAX_TOKEN: u64 = 256 * 1_024;

/// The longest file of keys or certificates, in bytes.
const MAX_FILE: u64 = 4 * 1_024 * 1_024;

/// The token that an argument gives, or standard input where it is `-` or absent.
pub(super) fn token(argument: Option<&str>) -> Result<String, Failure> {
    let mut text = String::new();
    match argument {
        Some(token) if token != "-" => text.push_str(token),
        _ => {
            let stdin = io::stdin().lock();
            if argument.is_none() && stdin.is_terminal() {
                return Err(Failure::usage(
                    "give a token, or `-` to read one from standard input",
                ));
            }
            let read = stdin.take(MAX_TOKEN + 1).read_to_string(&mut text);
            read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
        }
    }
    bare(&text)
}

/// Each token of standard input, one a line, with the number of the line; empty lines are passed over.
pub(super) fn token_lines() -> impl Iterator<Item = Result<(usize, String), Failure>> {
    let mut stdin = io::stdin().lock();
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = String::new();
            match stdin.by_ref().take(MAX_TOKEN + 1).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(bare(&line).map(|token| (number, token))),
                Err(error) => {
                    return Some(Err(Failure::usage(format!(
                        "cannot read standard input: {error}"
                    ))));
                }
            }
        }
    })
}

/// A token as it is pasted: with white space around it, and perhaps the scheme before it.
fn bare(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let text = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token.trim_start(),
        _ => text,
    };
    match text.len() as u64 {
        0 => Err(Failure::usage("there is no token")),
        length if length > MAX_TOKEN => Err(Failure::usage(format!(
            "the token is longer than {MAX_TOKEN} bytes"
        ))),
        _ => Ok(text.to_owned()),
    }
}

/// A file that an argument names.
pub(super) fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    read_limited(path, MAX_FILE).map_err(|message| Failure::usage(format!("{}: {message}", path.display())))
}

/// The secret in text that a file holds, without the white space at its end.
pub(super) fn secret(path: &Path) -> Result<SecretString, Failure> {
    let text = String::from_utf8(file(path)?)
        .map_err(|_| Failure::usage(format!("{}: not a secret in text", path.display())))?;
    Ok(SecretString::from(text.trim_end().to_owned()))
}

/// A private key in PEM. Others than its owner may have no access to the file.
pub(super) fn private_key(path: &Path) -> Result<SecretString, Failure> {
    match not_private(path) {
        Some(message) => Err(Failure::usage(format!("{}: {message}", path.display()))),
        None => secret(path),
    }
}

/// The parent token that `path` holds; `-` or none is standard input. A token is no argument: arguments show in process
/// lists.
pub(super) fn parent_token(path: Option<&Path>) -> Result<SecretString, Failure> {
    let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
        return token(path.map(|_| "-")).map(SecretString::from);
    };
    if path
        .to_str()
        .is_some_and(|text| text.starts_with("ey") && text.matches('.').count() == 2)
    {
        return Err(Failure::usage(
            "give a file that holds the parent token, or `-` for standard input: as an argument others could see it",
        ));
    }
    let text = secret(path)?;
    bare(text.expose_secret()).map(SecretString::from)
}

/// All of standard input.
pub(super) fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::usage(format!(
            "standard input is longer than {MAX_FILE} bytes"
        )));
    }
    Ok(bytes)
}
