//! Proofs of possession, and the URLs that they are made for.
//!
//! An input without a line feed is a proof. One with a line feed is two URLs that are compared.

use std::time::Duration;

use tokenward_core::{
    Denial, Timestamp,
    claims::Confirmation,
    dpop::{MAX_PROOF_BYTES, Presented, Window, check as check_proof, same_target},
};
use url::Url;

/// The example of RFC 9449, section 7.1: the one proof for which there is a key, and whose owner makes no others.
const SIGNED: &str = include_str!("../corpus/proof/rfc-9449");
const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const URL: &str = "https://resource.example.org/protectedresource";
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const MADE: i64 = 1_562_262_618;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.split_once('\n') {
        None => a_proof(text),
        Some((one, other)) => two_urls(one, other),
    }
}

fn a_proof(proof: &str) {
    let presented = Presented {
        proof,
        method: "GET",
        url: URL,
        token: TOKEN,
    };
    let now = Timestamp::from_secs(MADE) + Duration::from_secs(1);
    let outcome = check_proof(&presented, Confirmation::Jkt(KEY), Window::default(), now);
    match outcome {
        Ok(accepted) => {
            // Its signature can be spelled in two ways, what was signed in one.
            let signed = |proof: &str| proof.rsplit_once('.').map(|(signed, _)| signed.to_owned());
            assert_eq!(signed(proof), signed(SIGNED), "nobody else has signed");
            assert!(proof.len() <= MAX_PROOF_BYTES);
            assert_eq!(accepted.key().to_string(), KEY);
        }
        Err(denial) => assert!(
            matches!(denial, Denial::DpopInvalid | Denial::DpopBindingMismatch),
            "{denial}"
        ),
    }
}

/// What is the same has the same origin and, without its escapes, the same path.
fn two_urls(one: &str, other: &str) {
    let same = same_target(one, other);
    assert_eq!(same, same_target(other, one));
    if same {
        assert!(same_target(one, one));
        let (Ok(one), Ok(other)) = (Url::parse(one), Url::parse(other)) else {
            return;
        };
        assert_eq!(one.origin(), other.origin());
        // The other reading takes a letter with a colon for the drive of a file, whatever the scheme, and keeps it.
        if one.path().contains(':') || other.path().contains(':') {
            return;
        }
        assert_eq!(decoded(one.path()), decoded(other.path()));
    }
}

fn decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    decoded
}
