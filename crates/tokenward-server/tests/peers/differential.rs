//! The same tokens before tokenward's verifier, jose and PyJWT. We may be stricter than they are, never laxer.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenward_core::{
    Timestamp,
    jose::KeySet,
    policy::{Audiences, Policy},
    verify,
};

use crate::judges::{Judge, Verdict};
use crate::process::{python_script, run_json};

/// What `peers/python/corpus.py` prints.
#[derive(Deserialize)]
struct Corpus {
    issuer: String,
    audience: String,
    algorithms: Vec<String>,
    jwks: Value,
    tokens: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    token: String,
    expect: Expect,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Accept,
    Refuse,
    Either,
}

fn corpus() -> Corpus {
    let corpus: Corpus = serde_json::from_value(run_json(python_script("corpus.py"), &Value::Null)).unwrap();
    assert!(corpus.tokens.len() >= 300, "a corpus worth the name");
    assert!(
        corpus
            .tokens
            .iter()
            .filter(|case| case.expect == Expect::Accept)
            .count()
            >= 30
    );
    corpus
}

#[test]
fn no_token_is_accepted_that_a_peer_refuses() {
    let corpus = corpus();
    let keys = KeySet::parse(corpus.jwks.to_string().as_bytes()).expect("a key set");
    let policy = policy(&corpus);
    let ours: Vec<Verdict> = corpus
        .tokens
        .iter()
        .map(|case| {
            verify(&case.token, &keys, &policy, now())
                .err()
                .map(|denial| denial.code().to_owned())
        })
        .collect();

    let mut faults = Vec::new();
    for (case, verdict) in corpus.tokens.iter().zip(&ours) {
        match (case.expect, verdict) {
            (Expect::Accept, Some(code)) => faults.push(format!("{}: we refuse it: {code}", case.name)),
            (Expect::Refuse, None) => faults.push(format!("{}: we accept it", case.name)),
            _ => {}
        }
    }
    for judge in Judge::ALL {
        for ((case, theirs), ours) in corpus.tokens.iter().zip(verdicts(judge, &corpus)).zip(&ours) {
            match (theirs, ours) {
                (Some(reason), None) => faults.push(format!(
                    "{}: we accept it, {judge:?} does not: {reason}",
                    case.name
                )),
                // What both refuse for a reason that is not in the token would prove nothing.
                (Some(reason), _) if case.expect == Expect::Accept => {
                    faults.push(format!("{}: {judge:?} refuses it: {reason}", case.name));
                }
                _ => {}
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// The program takes the same decisions as the library: every 25th token, and each that is to be accepted. Blanks around
/// a token are not part of it on a command line, where it was pasted, and NUL cannot be in an argument.
#[test]
fn the_program_judges_as_the_library_does() {
    let corpus = corpus();
    let directory = tempfile::tempdir().unwrap();
    let jwks = directory.path().join("jwks.json");
    fs::write(&jwks, corpus.jwks.to_string()).unwrap();
    let as_argument = |case: &Case| case.token.trim() == case.token && !case.token.contains('\0');
    let judged = corpus
        .tokens
        .iter()
        .filter(|case| case.expect != Expect::Either && as_argument(case));
    for (_, case) in judged
        .enumerate()
        .filter(|(at, case)| at % 25 == 0 || case.expect == Expect::Accept)
    {
        let output = Command::new(env!("CARGO_BIN_EXE_tokenward"))
            .args([
                "token",
                "verify",
                "--issuer",
                &corpus.issuer,
                "--audience",
                &corpus.audience,
                "--jwks",
            ])
            .arg(&jwks)
            .args(["--", &case.token])
            .output()
            .expect("tokenward runs");
        let expected = i32::from(case.expect == Expect::Refuse);
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}: {}",
            case.name,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn verdicts(judge: Judge, corpus: &Corpus) -> Vec<Verdict> {
    let algorithms: Vec<_> = corpus.algorithms.iter().map(String::as_str).collect();
    let tokens = corpus.tokens.iter().map(|case| case.token.as_str());
    judge.verdicts(
        &json!({"jwks": corpus.jwks}),
        &corpus.issuer,
        &corpus.audience,
        &algorithms,
        tokens,
    )
}

fn policy(corpus: &Corpus) -> Policy {
    let audiences = Audiences::OneOf(vec![corpus.audience.clone()]);
    Policy::builder(&corpus.issuer, audiences).build().unwrap()
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the peers read the real clock")]
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(elapsed.as_millis().try_into().unwrap())
}
