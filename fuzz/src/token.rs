//! Compact JWS and the JWTs in them: taken apart, and verified against fixed keys.
//!
//! An input without a line feed is a token. One with a line feed is a header and a payload, which are signed with a secret
//! that verifies them: no mutation of bytes finds a signature, and behind it stand the rules for claims.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::hmac;
use tokenward_core::{
    Denial, Timestamp,
    claims::Claims,
    jose::{Algorithm, AlgorithmSet, Jws, Key, KeySet, MAX_KID_BYTES, MAX_TOKEN_BYTES, Token},
    policy::{Audiences, Policy},
    verify,
};

use crate::{base64url, json::Tree};

const ISSUER: &str = "joe";
const AUDIENCE: &str = "api";
/// Within the life of the tokens of RFC 7515, appendix A.
const NOW: i64 = 1_300_819_000;
const LEEWAY: i64 = 60;
const SECRET: &[u8] = b"a secret of at least 256 bits, for the fuzz targets alone";

/// Keys of RFC 7515, appendices A.2 and A.3, and of RFC 8037, appendix A. What their owners signed is in the corpus.
const KEYS: &str = include_str!("../keys.json");

/// What the owners of those keys signed: the tokens that verify.
const SIGNED: &str = include_str!("../signed.txt");

static PUBLIC: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = KeySet::parse(KEYS.as_bytes()).unwrap();
    assert_eq!(keys.usable().len(), 3);
    keys
});

static SYMMETRIC: LazyLock<KeySet> = LazyLock::new(|| {
    let algorithms = AlgorithmSet::only(Algorithm::Hs256);
    [Key::symmetric(SECRET, algorithms, None).unwrap()]
        .into_iter()
        .collect()
});

pub fn check(data: &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        None => a_token(data),
        Some(end) => header_and_payload(&data[..end], &data[end + 1..]),
    }
}

fn a_token(token: &[u8]) {
    let parsed = Jws::parse(token, MAX_TOKEN_BYTES);
    let parts: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let decoded: Option<Vec<_>> = parts.iter().map(|part| base64url::decode(part)).collect();
    let expected = match decoded.as_deref() {
        Some([header, _, _]) if token.len() <= MAX_TOKEN_BYTES => judged_header(header),
        _ if token.len() > MAX_TOKEN_BYTES => Err(Denial::TokenTooLarge),
        _ => Err(Denial::TokenMalformed),
    };
    match (&parsed, expected) {
        (Ok(jws), Ok(header)) => {
            assert_eq!(
                Some(jws.header().alg().name()),
                header.get("alg").and_then(Tree::text)
            );
            assert_eq!(jws.header().kid(), header.get("kid").and_then(Tree::text));
            assert_eq!(jws.header().typ(), header.get("typ").and_then(Tree::text));
            // One value has one spelling: what was read makes the same bytes again.
            let whole = [
                jws.signing_input(),
                b".",
                base64url::encode(jws.signature()).as_bytes(),
            ]
            .concat();
            assert_eq!(whole, token);
            assert_eq!(base64url::encode(jws.payload()).as_bytes(), parts[1]);
        }
        (Err(denial), Err(expected)) => assert_eq!(*denial, expected),
        (parsed, expected) => panic!("{parsed:?}, should be {expected:?}"),
    }
    // Whoever holds no private key gets nothing through that its holder did not sign.
    let Ok(text) = std::str::from_utf8(token) else {
        return;
    };
    let policy = Policy::builder(ISSUER, Audiences::Any).build().unwrap();
    if verify(text, &PUBLIC, &policy, Timestamp::from_secs(NOW)).is_ok() {
        assert!(was_signed(text), "forged: {text}");
    }
}

/// Whether header and payload were signed. A signature itself may have several spellings (ECDSA).
fn was_signed(token: &str) -> bool {
    let input = |token: &str| token.rsplit_once('.').map(|(input, _)| input.to_owned());
    SIGNED.lines().any(|signed| input(signed) == input(token))
}

fn header_and_payload(header: &[u8], payload: &[u8]) {
    let claims = Claims::parse(payload);
    let tree = judged_claims(payload);
    match (&claims, &tree) {
        (Ok(claims), Some(tree)) => {
            assert_eq!(
                serde_json::Value::Object(claims.to_map()),
                tree.to_value(),
                "serde_json reads something else"
            );
            // A double that is written and read again may come out as its neighbour.
            if !tree.has_doubles() {
                let again = serde_json::to_vec(claims).unwrap();
                assert!(
                    Claims::parse(&again).unwrap() == *claims,
                    "written again, it reads as something else"
                );
            }
        }
        (Err(_), None) => {}
        (claims, tree) => panic!("{claims:?}, should be {tree:?}"),
    }

    let mut token = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), token.as_bytes());
    token.push('.');
    token += &base64url::encode(tag.as_ref());
    assert_eq!(
        Token::parse(&token, usize::MAX).is_ok(),
        judged_header(header).is_ok() && tree.is_some()
    );
    let policy = Policy::builder(ISSUER, Audiences::OneOf(vec![AUDIENCE.into()]))
        .algorithms(AlgorithmSet::only(Algorithm::Hs256))
        .leeway(Duration::from_secs(LEEWAY.unsigned_abs()))
        .build()
        .unwrap();
    let verified = verify(&token, &SYMMETRIC, &policy, Timestamp::from_secs(NOW));
    let acceptable = token.len() <= MAX_TOKEN_BYTES
        && judged_header(header).is_ok_and(|header| is_for_access(&header))
        && tree.is_some_and(|claims| are_acceptable(&claims));
    assert_eq!(verified.is_ok(), acceptable, "{verified:?}");
}

/// The header, read by the words of RFC 7515 and what is refused beyond them; else why not.
fn judged_header(text: &[u8]) -> Result<Tree, Denial> {
    let malformed = Err(Denial::TokenMalformed);
    let Some(header) = Tree::read_strict(text) else {
        return malformed;
    };
    let is_text = |name: &str| header.get(name).is_none_or(|value| value.text().is_some());
    let refused = ["crit", "b64", "zip", "jwk", "jku", "x5u"];
    let nested = |cty: &Tree| cty.text().is_some_and(|cty| cty.to_lowercase() == "jwt");
    let kid_fits = |kid: &Tree| kid.text().is_some_and(|kid| kid.len() <= MAX_KID_BYTES);
    if refused.iter().any(|name| header.get(name).is_some())
        || !["alg", "kid", "typ", "cty"].into_iter().all(is_text)
        || header.get("cty").is_some_and(nested)
        || !header.get("kid").is_none_or(kid_fits)
    {
        return malformed;
    }
    match header.get("alg").and_then(Tree::text) {
        None => malformed,
        Some(alg) if SUPPORTED.contains(&alg) => Ok(header),
        Some(_) => Err(Denial::AlgNotAllowed),
    }
}

const SUPPORTED: [&str; 14] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA",
    "HS256", "HS384", "HS512",
];

/// The claims, where each registered one has the type that RFC 7519 section 4.1 gives it.
fn judged_claims(payload: &[u8]) -> Option<Tree> {
    let claims = Tree::read_strict(payload)?;
    let is_text = |name: &str| claims.get(name).is_none_or(|value| value.text().is_some());
    let is_time = |name: &str| claims.get(name).is_none_or(|value| millis(value).is_some());
    let audience = match claims.get("aud") {
        Some(Tree::List(list)) => list.iter().all(|one| one.text().is_some()),
        _ => is_text("aud"),
    };
    let typed = audience
        && ["iss", "sub", "jti"].into_iter().all(is_text)
        && ["exp", "nbf", "iat"].into_iter().all(is_time);
    typed.then_some(claims)
}

/// A time from 1970 to 9999.
fn millis(value: &Tree) -> Option<i64> {
    let Tree::Number(number) = value else { return None };
    let millis = match number.as_i64() {
        Some(secs) => secs.checked_mul(1000)?,
        None => (number.as_f64().filter(|secs| (0.0..1e12).contains(secs))? * 1000.0).trunc() as i64,
    };
    (0..253_402_300_800_000).contains(&millis).then_some(millis)
}

fn is_for_access(header: &Tree) -> bool {
    const OTHERS: [&str; 13] = [
        "client-authentication+jwt",
        "dc+sd-jwt",
        "dpop+jwt",
        "entity-statement+jwt",
        "kb+jwt",
        "logout+jwt",
        "oauth-authz-req+jwt",
        "parent+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "token-introspection+jwt",
        "trust-mark+jwt",
        "vc+sd-jwt",
    ];
    let typ = header
        .get("typ")
        .and_then(Tree::text)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let essence = typ.split(';').next().unwrap_or_default().trim();
    let essence = essence.strip_prefix("application/").unwrap_or(essence);
    // The secret has no kid, so a token that names one means another key.
    let means_the_secret =
        header.get("alg").and_then(Tree::text) == Some("HS256") && header.get("kid").is_none();
    means_the_secret && !OTHERS.contains(&essence)
}

fn are_acceptable(claims: &Tree) -> bool {
    let time = |name: &str| claims.get(name).and_then(millis);
    let (now, leeway) = (NOW * 1000, LEEWAY * 1000);
    let audience = match claims.get("aud") {
        Some(Tree::List(list)) => list.iter().any(|one| one.text() == Some(AUDIENCE)),
        other => other.and_then(Tree::text) == Some(AUDIENCE),
    };
    claims.get("iss").and_then(Tree::text) == Some(ISSUER)
        && audience
        && time("exp").is_some_and(|exp| now < exp + leeway)
        && time("nbf").is_none_or(|nbf| nbf <= now + leeway)
        && time("iat").is_none_or(|iat| iat <= now + leeway)
        && claims.get("cnf").is_none()
}
