//! Against another verifier: what it refuses for the signature, the algorithm, the time or the audience, we refuse.

use jsonwebtoken::{DecodingKey, Validation, errors::ErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenward_core::{Timestamp, jose::Algorithm, verify};

use crate::support::{AUD, EC, ED, ISS, RSA, Signer, b64, builder, merged, unb64};

/// The peer reads the system's clock, so these tests do too.
fn clock() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap()
}

fn peer(signer: &Signer, token: &str) -> Result<(), ErrorKind> {
    let mut validation = Validation::new(signer.alg.name().parse().unwrap());
    validation.set_audience(&["other", AUD]);
    validation.set_issuer(&[ISS]);
    validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    validation.validate_nbf = true;
    let key = DecodingKey::from_jwk(&serde_json::from_value(signer.jwk()).unwrap()).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map(|_| ())
        .map_err(|error| error.into_kind())
}

fn ours(signer: &Signer, token: &str) -> bool {
    let symmetric = signer.alg.is_symmetric();
    let policy = if symmetric {
        builder().algorithms([signer.alg].into_iter().collect())
    } else {
        builder()
    };
    let now = Timestamp::from_secs(clock());
    verify(token, &signer.set(), &policy.build().unwrap(), now).is_ok()
}

fn claims() -> Value {
    json!({"iss": ISS, "aud": AUD, "sub": "a", "iat": clock() - 10, "exp": clock() + 600})
}

fn is_judgement(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidSignature
            | ErrorKind::InvalidAlgorithm
            | ErrorKind::ExpiredSignature
            | ErrorKind::ImmatureSignature
            | ErrorKind::InvalidAudience
            | ErrorKind::InvalidIssuer
            | ErrorKind::InvalidToken
            | ErrorKind::Base64(_)
            | ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
    )
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-700_i64..700).prop_map(|offset| json!(clock() + offset)),
        (-70.0..70.0_f64).prop_map(|offset| json!(clock() as f64 + offset)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!("1")),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(AUD)),
        Just(json!("other")),
        Just(json!(ISS)),
        Just(json!([AUD])),
        Just(json!(["x", "other"])),
        Just(json!("x")),
        Just(Value::Null),
    ]
}

/// A signer, and its token with a change to the header, the claims or the text.
fn signer() -> impl Strategy<Value = &'static Signer> {
    static HS: std::sync::LazyLock<Signer> = std::sync::LazyLock::new(|| Signer::new(Algorithm::Hs256));
    prop_oneof![Just(&*EC), Just(&*ED), Just(&*RSA), Just(&*HS)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_claims(signer in signer(), name in "(exp|nbf|iat|aud|iss|sub)", value in value()) {
        let token = signer.token_with(&json!({}), &merged(claims(), &json!({ name: value })));
        if let Err(kind) = peer(signer, &token) {
            prop_assert!(!is_judgement(&kind) || !ours(signer, &token), "{token}: {kind:?}");
        }
    }

    #[test]
    fn changed_algorithms(signer in signer(), other in proptest::sample::select(&Algorithm::ALL[..])) {
        let token = signer.token_with(&json!({ "alg": other.name() }), &claims());
        if let Err(kind) = peer(signer, &token) {
            prop_assert!(!is_judgement(&kind) || !ours(signer, &token), "{token}: {kind:?}");
        }
    }

    #[test]
    fn changed_text(signer in signer(), place in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.=+/-]", remove in any::<bool>()) {
        let mut token = signer.token_with(&json!({}), &claims());
        let place = place.index(token.len());
        token.replace_range(place..=place, if remove { "" } else { &byte });
        if peer(signer, &token).is_err() {
            prop_assert!(!ours(signer, &token), "{token}");
        }
    }

    #[test]
    fn changed_signatures(signer in signer(), flip in any::<prop::sample::Index>(), cut in 0..3_usize) {
        let token = signer.token_with(&json!({}), &claims());
        let (input, signature) = token.rsplit_once('.').unwrap();
        let mut signature = unb64(signature);
        let flip = flip.index(signature.len() * 8);
        signature[flip / 8] ^= 1 << (flip % 8);
        signature.truncate(signature.len() - cut);
        let token = format!("{input}.{}", b64(signature));
        prop_assert!(peer(signer, &token).is_err());
        prop_assert!(!ours(signer, &token));
    }
}

#[test]
fn both_accept_honest_tokens() {
    for signer in [&*EC, &*ED, &*RSA, &Signer::new(Algorithm::Hs256)] {
        let token = signer.token_with(&json!({}), &claims());
        assert_eq!(peer(signer, &token), Ok(()));
        assert!(ours(signer, &token));
    }
}

/// Where the peer accepts what we refuse. A case that stops being one shows here.
#[test]
fn known_cases_where_the_peer_is_laxer() {
    let raw = |members: &str| {
        let rest = claims().to_string();
        EC.raw(
            br#"{"alg":"ES256","kid":"k"}"#,
            format!(r#"{{{members},{}"#, &rest[1..]).as_bytes(),
        )
    };
    let header = |members: &str| {
        let header = format!(r#"{{"alg":"ES256","kid":"k",{members}}}"#);
        EC.raw(header.as_bytes(), claims().to_string().as_bytes())
    };
    let with = |change: Value| EC.token_with(&json!({}), &merged(claims(), &change));
    for (case, token) in [
        ("crit that is not understood", header(r#""crit":["x"],"x":1"#)),
        ("a jku", header(r#""jku":"https://evil.example""#)),
        ("a duplicate claim", raw(r#""role":"a","role":"b""#)),
        ("a duplicate header member", header(r#""x":1,"x":2"#)),
        (
            "iss as an array",
            with(json!({"iss": ["https://evil.example", ISS]})),
        ),
        ("sub of the wrong type", with(json!({"sub": 1}))),
        ("iat in the future", with(json!({"iat": clock() + 3600}))),
        ("iat of the wrong type", with(json!({"iat": "x"}))),
        (
            "exp after the year 9999",
            with(json!({"exp": 999_999_999_999_i64})),
        ),
        ("a bound token", with(json!({"cnf": {"jkt": "x"}}))),
        ("a logout token", header(r#""typ":"logout+jwt""#)),
        ("a NUL in a string", raw(r#""x":"\u0000""#)),
        (
            "nesting over 32",
            raw(&format!(r#""x":{}{}"#, "[".repeat(40), "]".repeat(40))),
        ),
        ("another kid", EC.token_with(&json!({"kid": "x"}), &claims())),
    ] {
        assert_eq!(peer(&EC, &token), Ok(()), "{case}");
        assert!(!ours(&EC, &token), "{case}");
    }
}
