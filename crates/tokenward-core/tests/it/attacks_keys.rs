//! Keys and key sets that are broken, weak or not meant for us.

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenward_core::{
    Denial,
    jose::{Algorithm, AlgorithmSet, Key, KeySet, MAX_KEYS, SetProblem, SkipReason},
};

use crate::support::{EC, ED, RSA, Signer, b64, denial, merged, outcome, set, unb64};

/// Why this key, in a set with a sound one, is not used; sees that the sound one still is.
#[track_caller]
fn reason(jwk: &Value) -> Option<SkipReason> {
    reason_of_text(&jwk.to_string())
}

#[track_caller]
fn reason_of_text(jwk: &str) -> Option<SkipReason> {
    let sound = EC.jwk_with(&json!({"kid": "k"}));
    let body = format!(r#"{{"keys":[{jwk},{sound}]}}"#);
    let keys = KeySet::parse(body.as_bytes()).unwrap();
    assert!(outcome(&EC.token(&json!({})), &keys).is_ok());
    assert_eq!(keys.original_count(), 2);
    let reason = keys.skipped().first().map(|skipped| skipped.reason);
    assert_eq!(keys.usable().len(), if reason.is_some() { 1 } else { 2 });
    let served = keys.documents().count();
    assert_eq!(
        served,
        if reason.is_none_or(SkipReason::is_served) {
            2
        } else {
            1
        }
    );
    reason
}

fn rsa_with(members: &Value) -> Value {
    RSA.jwk_with(members)
}

fn modulus() -> Vec<u8> {
    unb64(RSA.jwk()["n"].as_str().unwrap())
}

#[test]
fn rsa_keys_must_be_of_sound_size() {
    for (bytes, expected) in [
        (64, Some(SkipReason::RsaTooSmall)),
        (128, Some(SkipReason::RsaTooSmall)),
        (255, Some(SkipReason::RsaTooSmall)),
        (1025, Some(SkipReason::RsaTooLarge)),
        (2048, Some(SkipReason::RsaTooLarge)),
        (8192, Some(SkipReason::RsaTooLarge)),
    ] {
        let jwk = rsa_with(&json!({ "n": b64(vec![0xff; bytes]) }));
        assert_eq!(reason(&jwk), expected, "{bytes} bytes");
    }
    let mut even = modulus();
    *even.last_mut().unwrap() &= 0xfe;
    assert_eq!(
        reason(&rsa_with(&json!({ "n": b64(even) }))),
        Some(SkipReason::RsaModulus)
    );
    assert_eq!(
        reason(&rsa_with(&json!({"n": ""}))),
        Some(SkipReason::RsaTooSmall)
    );
    assert_eq!(reason(&RSA.jwk()), None);
}

#[test]
fn rsa_exponents_must_be_odd_and_neither_one_nor_huge() {
    for e in [&[][..], &[1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[0xff; 16]] {
        assert_eq!(
            reason(&rsa_with(&json!({ "e": b64(e) }))),
            Some(SkipReason::RsaExponent),
            "{e:?}"
        );
    }
    for e in [&[3][..], &[1, 0, 1]] {
        assert_eq!(reason(&rsa_with(&json!({ "e": b64(e) }))), None, "{e:?}");
    }
}

#[test]
fn rsa_keys_of_the_faulty_generator_are_refused() {
    // A power of 65537 looks to the test as the moduli of CVE-2017-15361 do: 65537^128 by repeated multiplication.
    let mut number = vec![1_u8];
    for _ in 0..128 {
        let mut carry = 0_u64;
        for byte in number.iter_mut().rev() {
            let product = u64::from(*byte) * 65537 + carry;
            *byte = product as u8;
            carry = product >> 8;
        }
        while carry > 0 {
            number.insert(0, carry as u8);
            carry >>= 8;
        }
    }
    assert_eq!(
        reason(&rsa_with(&json!({ "n": b64(&number) }))),
        Some(SkipReason::RsaRoca)
    );
}

#[test]
fn a_leading_zero_in_a_modulus_changes_nothing() {
    let padded = rsa_with(&json!({"kid": "k", "n": b64([vec![0], modulus()].concat())}));
    let keys = set(std::slice::from_ref(&padded));
    assert!(outcome(&RSA.token(&json!({})), &keys).is_ok());
    assert_eq!(keys.usable()[0].thumbprint(), RSA.set().usable()[0].thumbprint());
    assert_eq!(keys.documents().next().unwrap().1, padded.to_string());
}

#[test]
fn points_must_have_full_length_and_lie_on_their_curve() {
    for alg in [
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::Es256K,
    ] {
        let signer = Signer::new(alg);
        let jwk = signer.jwk();
        assert_eq!(reason(&jwk), None, "{alg}");
        let x = unb64(jwk["x"].as_str().unwrap());
        for odd in [
            vec![],
            x[1..].to_vec(),
            x[..x.len() - 1].to_vec(),
            [vec![0], x.clone()].concat(),
        ] {
            let jwk = merged(jwk.clone(), &json!({ "x": b64(odd) }));
            assert_eq!(reason(&jwk), Some(SkipReason::CoordinateLength), "{alg}");
        }
        let mut off = x.clone();
        *off.last_mut().unwrap() ^= 1;
        for x in [off, vec![0; x.len()], vec![0xff; x.len()]] {
            let jwk = merged(jwk.clone(), &json!({ "x": b64(x) }));
            assert_eq!(reason(&jwk), Some(SkipReason::PointNotOnCurve), "{alg}");
        }
    }
    let p_256_as_secp256k1 = EC.jwk_with(&json!({"crv": "secp256k1"}));
    assert_eq!(reason(&p_256_as_secp256k1), Some(SkipReason::PointNotOnCurve));
    let p_256_as_p_384 = EC.jwk_with(&json!({"crv": "P-384"}));
    assert_eq!(reason(&p_256_as_p_384), Some(SkipReason::CoordinateLength));
    assert_eq!(
        reason(&ED.jwk_with(&json!({ "x": b64([1; 31]) }))),
        Some(SkipReason::CoordinateLength)
    );
}

#[test]
fn ed25519_keys_of_small_order_are_refused() {
    let mut points = Vec::new();
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut point: Vec<u8> = (0..32)
            .map(|place| u8::from_str_radix(&y[place * 2..place * 2 + 2], 16).unwrap())
            .collect();
        points.push(point.clone());
        point[31] |= 0x80;
        points.push(point);
    }
    let mut forgeable = 0;
    for point in &points {
        assert_eq!(
            reason(&ED.jwk_with(&json!({ "x": b64(point) }))),
            Some(SkipReason::SmallOrderPoint)
        );
        // Why: the neutral element with s = 0 is a signature of theirs for about one message in eight.
        let forged = [&[1][..], &[0; 63]].concat();
        if let Ok(key) = ParsedPublicKey::new(&ED25519, point) {
            forgeable += usize::from((0..200_u8).any(|message| key.verify_sig(&[message], &forged).is_ok()));
        }
    }
    assert!(forgeable >= 4, "{forgeable}");
}

#[test]
fn one_unknown_key_does_not_poison_the_set() {
    let x = b64([7; 32]);
    for (jwk, expected) in [
        (
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": b64([1; 1312])}),
            SkipReason::UnsupportedKty,
        ),
        (json!({"kty": "unheard-of"}), SkipReason::UnsupportedKty),
        (json!({"kty": "rsa"}), SkipReason::UnsupportedKty),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": x}),
            SkipReason::UnsupportedCrv,
        ),
        (
            json!({"kty": "OKP", "crv": "Ed448", "x": b64([1; 57])}),
            SkipReason::UnsupportedCrv,
        ),
        (
            json!({"kty": "EC", "crv": "BP-256", "x": x, "y": x}),
            SkipReason::UnsupportedCrv,
        ),
        (rsa_with(&json!({"alg": "RSA-OAEP"})), SkipReason::UnsupportedAlg),
        (
            EC.jwk_with(&json!({"alg": "ECDH-ES"})),
            SkipReason::UnsupportedAlg,
        ),
        (rsa_with(&json!({"alg": "none"})), SkipReason::UnsupportedAlg),
        (rsa_with(&json!({"alg": "ES256"})), SkipReason::AlgorithmMismatch),
        (rsa_with(&json!({"alg": "HS256"})), SkipReason::AlgorithmMismatch),
        (
            EC.jwk_with(&json!({"alg": "ES384"})),
            SkipReason::AlgorithmMismatch,
        ),
        (
            EC.jwk_with(&json!({"alg": "ES256K"})),
            SkipReason::AlgorithmMismatch,
        ),
        (
            ED.jwk_with(&json!({"alg": "ES256"})),
            SkipReason::AlgorithmMismatch,
        ),
        (rsa_with(&json!({"alg": 1})), SkipReason::MemberInvalid),
        (rsa_with(&json!({"n": [1]})), SkipReason::MemberInvalid),
        (json!({"kty": "RSA", "e": "AQAB"}), SkipReason::MemberMissing),
        (json!({"kty": "EC", "crv": "P-256"}), SkipReason::MemberMissing),
        (json!({"kty": "OKP", "x": x}), SkipReason::MemberMissing),
        (json!({"kid": "a"}), SkipReason::MemberMissing),
        (json!({}), SkipReason::MemberMissing),
        (json!({"kty": 1}), SkipReason::MemberInvalid),
        (EC.jwk_with(&json!({"kid": 7})), SkipReason::KidInvalid),
        (
            EC.jwk_with(&json!({"kid": "k".repeat(257)})),
            SkipReason::KidInvalid,
        ),
        (json!(1), SkipReason::NotAnObject),
        (json!(null), SkipReason::NotAnObject),
        (json!("{}"), SkipReason::NotAnObject),
        (json!([[]]), SkipReason::NotAnObject),
    ] {
        assert_eq!(reason(&jwk), Some(expected), "{jwk}");
    }
}

#[test]
fn malformed_keys_do_not_poison_the_set() {
    let EcText { x, y } = ec_text();
    let with = |extra: &str| format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"{extra}}}"#);
    assert_eq!(reason_of_text(&with("")), None);
    for (extra, expected) in [
        (r#","kid":"a","kid":"b""#, SkipReason::DuplicateMember),
        (r#","use":"enc","\u0075se":"sig""#, SkipReason::DuplicateMember),
        (r#","a":{"b":1,"b":1}"#, SkipReason::DuplicateMember),
        (r#","a":"\ud800""#, SkipReason::Malformed),
        (r#","a":"\u0000""#, SkipReason::Malformed),
        (r#","a":1e400"#, SkipReason::Malformed),
        (
            &format!(r#","a":{}1{}"#, "[".repeat(40), "]".repeat(40)),
            SkipReason::Malformed,
        ),
        (
            &format!(r#","a":{}1{}"#, "[".repeat(50_000), "]".repeat(50_000)),
            SkipReason::Malformed,
        ),
    ] {
        let extra: &str = extra;
        assert_eq!(reason_of_text(&with(extra)), Some(expected), "{:.80}", extra);
    }
}

struct EcText {
    x: String,
    y: String,
}

fn ec_text() -> EcText {
    let jwk = EC.jwk();
    EcText {
        x: jwk["x"].as_str().unwrap().into(),
        y: jwk["y"].as_str().unwrap().into(),
    }
}

#[test]
fn coordinates_must_be_canonical_base64url() {
    let EcText { x, .. } = ec_text();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth(alphabet.find(&x[42..]).unwrap() + 1)
        .unwrap();
    for odd in [
        format!("{x}="),
        format!(" {x}"),
        format!("{x}\n"),
        format!("{}{next}", &x[..42]),
        format!("+{}", &x[1..]),
        "/".repeat(43),
    ] {
        let jwk = EC.jwk_with(&json!({ "x": odd }));
        assert_eq!(reason(&jwk), Some(SkipReason::Base64urlInvalid), "{odd:?}");
    }
}

#[test]
fn private_material_is_neither_used_nor_kept() {
    let marker = b64([0x5a; 33]);
    let other = Signer::new(Algorithm::Es256);
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        for signer in [&other, &*RSA, &*ED] {
            let jwk = signer.jwk_with(&json!({"kid": "leaked", name: marker}));
            assert_eq!(reason(&jwk), Some(SkipReason::PrivateMaterial), "{name}");
            let keys = set(&[jwk, EC.jwk()]);
            assert!(keys.skipped()[0].reason.is_compromise());
            assert_eq!(keys.skipped()[0].kid.as_deref(), Some("leaked"));
            assert!(!format!("{keys:?}").contains(&marker));
            assert!(!keys.kept_body().contains(&marker));
        }
    }
    // The same key once more, without it.
    let leaked = EC.jwk_with(&json!({"kid": "leaked", "d": marker}));
    let keys = set(&[EC.jwk(), leaked, RSA.jwk()]);
    assert_eq!(keys.usable().len(), 1);
    assert_eq!(keys.documents().count(), 1);
    let skipped: Vec<_> = keys.skipped().iter().map(|key| (key.index, key.reason)).collect();
    assert_eq!(
        skipped,
        [(0, SkipReason::PrivateMaterial), (1, SkipReason::PrivateMaterial)]
    );
    // Twice.
    let twice = format!(r#"{{"kty":"EC","d":"{marker}","d":"{marker}"}}"#);
    let keys = KeySet::parse(format!(r#"{{"keys":[{twice}]}}"#).as_bytes()).unwrap();
    assert_eq!(keys.skipped()[0].reason, SkipReason::PrivateMaterial);
    // Of any type and purpose, whatever else is wrong with it.
    for jwk in [
        json!({"kty": "AKP", "alg": "ML-DSA-44", "priv": marker}),
        json!({"kty": "OKP", "crv": "X25519", "x": b64([1; 32]), "d": marker}),
        rsa_with(&json!({"use": "enc", "d": marker, "kid": 1})),
        json!({"d": null}),
    ] {
        assert_eq!(reason(&jwk), Some(SkipReason::PrivateMaterial), "{jwk}");
    }
}

#[test]
fn symmetric_keys_in_a_set_are_neither_used_nor_kept() {
    let hmac = Signer::new(Algorithm::Hs256);
    let jwk = hmac.jwk_with(&json!({"kid": "k"}));
    let keys = set(&[jwk.clone(), EC.jwk()]);
    assert_eq!(denial(&hmac.token(&json!({})), &keys), Denial::AlgNotAllowed);
    assert_eq!(keys.skipped()[0].reason, SkipReason::SymmetricMaterial);
    assert!(!keys.kept_body().contains(jwk["k"].as_str().unwrap()));
    let empty = json!({"kty": "oct", "kid": "k", "alg": "HS256"});
    assert_eq!(reason(&empty), Some(SkipReason::SymmetricMaterial));
    assert!(SkipReason::SymmetricMaterial.is_compromise());
}

#[test]
fn keys_for_other_purposes_are_served_but_not_used() {
    for (members, expected) in [
        (json!({"use": "enc"}), Some(SkipReason::UseNotSig)),
        (json!({"use": "SIG"}), Some(SkipReason::UseNotSig)),
        (json!({"use": ""}), Some(SkipReason::UseNotSig)),
        (json!({"use": 1}), Some(SkipReason::MemberInvalid)),
        (json!({"key_ops": []}), Some(SkipReason::KeyOpsWithoutVerify)),
        (
            json!({"key_ops": ["encrypt"]}),
            Some(SkipReason::KeyOpsWithoutVerify),
        ),
        (
            json!({"key_ops": ["sign"]}),
            Some(SkipReason::KeyOpsWithoutVerify),
        ),
        (
            json!({"use": "sig", "key_ops": ["wrapKey"]}),
            Some(SkipReason::KeyOpsWithoutVerify),
        ),
        (
            json!({"use": "enc", "key_ops": ["verify"]}),
            Some(SkipReason::UseNotSig),
        ),
        (json!({"key_ops": "verify"}), Some(SkipReason::MemberInvalid)),
        (json!({"key_ops": [1]}), Some(SkipReason::MemberInvalid)),
        (json!({"use": "sig", "key_ops": ["verify"]}), None),
        (json!({"key_ops": ["sign", "verify"]}), None),
    ] {
        assert_eq!(reason(&rsa_with(&members)), expected, "{members}");
        let keys = set(&[rsa_with(&merged(members, &json!({"kid": "k"})))]);
        assert_eq!(outcome(&RSA.token(&json!({})), &keys).is_ok(), expected.is_none());
    }
    // A weak one is not served even so.
    let weak = rsa_with(&json!({"use": "enc", "n": b64([0xff; 128])}));
    assert_eq!(reason(&weak), Some(SkipReason::RsaTooSmall));
}

#[test]
fn what_is_no_key_set_is_told_apart() {
    for (body, problem) in [
        (&b""[..], SetProblem::NotJson),
        (b"<html>login</html>", SetProblem::NotJson),
        (b"{\"keys\":[]", SetProblem::NotJson),
        (b"{\"keys\":[]} trailing", SetProblem::NotJson),
        (b"\xef\xbb\xbf{\"keys\":[]}", SetProblem::NotJson),
        (b"{\"keys\":[{\"kid\":\"\xff\"}]}", SetProblem::NotJson),
        (b"{\"keys\":[1,]}", SetProblem::NotJson),
        (b"{\"keys\":[],\"\\u0000\":1}", SetProblem::NotJson),
        (b"[]", SetProblem::NotAnObject),
        (b"null", SetProblem::NotAnObject),
        (b"\"keys\"", SetProblem::NotAnObject),
        (b"{}", SetProblem::NoKeysArray),
        (b"{\"error\":\"unavailable\"}", SetProblem::NoKeysArray),
        (b"{\"keys\":null}", SetProblem::NoKeysArray),
        (b"{\"keys\":{}}", SetProblem::NoKeysArray),
        (b"{\"Keys\":[]}", SetProblem::NoKeysArray),
        (b"{\"keys\":[],\"keys\":[]}", SetProblem::DuplicateKeys),
        (b"{\"keys\":[],\"\\u006beys\":[]}", SetProblem::DuplicateKeys),
    ] {
        assert_eq!(
            KeySet::parse(body).err(),
            Some(problem),
            "{}",
            body.escape_ascii()
        );
    }
    let empty = KeySet::parse(b" {\"x\":[{}], \"keys\" : [ ] } ").unwrap();
    assert_eq!((empty.usable().len(), empty.original_count()), (0, 0));
}

#[test]
fn deep_nesting_in_a_set_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(KeySet::parse(format!(r#"{{"keys":[{deep}],"x":{deep}}}"#).as_bytes()).is_ok());
    assert!(KeySet::parse(deep.as_bytes()).is_err());
    assert!(KeySet::parse("{\"keys\":[".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn junk_in_thousands_is_bounded() {
    let junk = KeySet::parse(format!(r#"{{"keys":[{}0]}}"#, "0,".repeat(400_000)).as_bytes()).unwrap();
    assert_eq!(junk.original_count(), 400_001);
    assert_eq!(junk.skipped_count(), 400_001);
    assert_eq!(junk.skipped().len(), MAX_KEYS);

    let keys: Vec<_> = (0..3_000)
        .map(|kid| ED.jwk_with(&json!({ "kid": kid.to_string() })))
        .collect();
    let keys = set(&keys);
    assert_eq!(keys.usable().len(), MAX_KEYS);
    assert_eq!(keys.skipped()[0].reason, SkipReason::OverLimit);
    assert_eq!(keys.documents().count(), MAX_KEYS);
}

#[test]
fn junk_before_the_real_key_does_not_hide_it() {
    let mut keys: Vec<_> = (0..5_000)
        .map(|kid| json!({"kty": "junk", "kid": kid.to_string()}))
        .collect();
    keys.push(EC.jwk_with(&json!({"kid": "k"})));
    assert!(outcome(&EC.token(&json!({})), &set(&keys)).is_ok());
}

#[test]
fn secrets_must_be_as_long_as_the_hash() {
    for (alg, len) in [
        (Algorithm::Hs256, 32),
        (Algorithm::Hs384, 48),
        (Algorithm::Hs512, 64),
    ] {
        let only = AlgorithmSet::only(alg);
        assert!(Key::symmetric(&vec![7; len], only, None).is_ok());
        for short in [0, 1, len - 1] {
            let error = Key::symmetric(&vec![7; short], only, None).unwrap_err();
            assert_eq!(error, SkipReason::SecretTooShort);
        }
    }
    let all = [Algorithm::Hs256, Algorithm::Hs512].into_iter().collect();
    assert_eq!(
        Key::symmetric(&[7; 32], all, None).unwrap_err(),
        SkipReason::SecretTooShort
    );
    for wrong in [AlgorithmSet::EMPTY, AlgorithmSet::only(Algorithm::Rs256)] {
        assert_eq!(
            Key::symmetric(&[7; 64], wrong, None).unwrap_err(),
            SkipReason::AlgorithmMismatch
        );
    }
    let kid = "k".repeat(257);
    let error = Key::symmetric(&[7; 64], all, Some(&kid)).unwrap_err();
    assert_eq!(error, SkipReason::KidInvalid);
}

#[test]
fn a_secret_never_shows() {
    let secret = b"correct horse battery staple, twice over and over";
    let key = Key::symmetric(secret, AlgorithmSet::only(Algorithm::Hs256), Some("k")).unwrap();
    let plain =
        Key::from_jwk(format!(r#"{{"kty":"oct","alg":"HS256","k":"{}"}}"#, b64(secret)).as_bytes()).unwrap();
    assert_eq!(key.thumbprint(), plain.thumbprint());
    let text = format!("{key:?} {}", key.thumbprint());
    assert!(!text.contains("horse") && !text.contains(&b64(secret)), "{text}");
    // Nor is it the hash of it that anyone could look up.
    let canonical = format!(r#"{{"k":"{}","kty":"oct"}}"#, b64(secret));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    assert_ne!(key.thumbprint().as_bytes(), hash.as_ref());
    let keys: KeySet = [key].into_iter().collect();
    assert_eq!(keys.kept_body(), r#"{"keys":[]}"#);
}

#[test]
fn a_single_jwk_is_judged_like_one_of_a_set() {
    let text = |jwk: &Value| jwk.to_string().into_bytes();
    assert!(Key::from_jwk(&text(&EC.jwk())).is_ok());
    for (jwk, expected) in [
        (EC.jwk_with(&json!({"d": "AA"})), SkipReason::PrivateMaterial),
        (rsa_with(&json!({"n": b64([0xff; 128])})), SkipReason::RsaTooSmall),
        (rsa_with(&json!({"use": "enc"})), SkipReason::UseNotSig),
        (
            json!({"kty": "oct", "k": b64([1; 32])}),
            SkipReason::MemberMissing,
        ),
        (
            json!({"kty": "oct", "alg": "HS256", "k": b64([1; 31])}),
            SkipReason::SecretTooShort,
        ),
        (
            json!({"kty": "oct", "alg": "RS256", "k": b64([1; 32])}),
            SkipReason::AlgorithmMismatch,
        ),
        (
            json!({"kty": "oct", "alg": "HS256", "k": b64([1; 32]), "use": "enc"}),
            SkipReason::UseNotSig,
        ),
    ] {
        assert_eq!(Key::from_jwk(&text(&jwk)).unwrap_err(), expected, "{jwk}");
    }
}

#[test]
fn reasons_have_codes_of_their_own() {
    let reasons = [
        SkipReason::NotAnObject,
        SkipReason::PrivateMaterial,
        SkipReason::UnsupportedKty,
        SkipReason::RsaRoca,
        SkipReason::OverLimit,
    ];
    let codes: std::collections::BTreeSet<_> = reasons.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), reasons.len());
    assert!(
        reasons
            .iter()
            .all(|reason| !(reason.is_served() && reason.is_compromise()))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&bytes);
    }

    #[test]
    fn arbitrary_keys_never_panic_and_are_all_counted(
        keys in proptest::collection::vec(
            r#"\{("(kty|crv|n|e|x|y|use|alg|kid|d)":("RSA"|"EC"|"OKP"|"P-256"|"AQAB"|1|null|\[\]|"sig"),?){0,6}\}"#,
            0..6,
        ),
    ) {
        let body = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        if let Ok(set) = KeySet::parse(body.as_bytes()) {
            prop_assert_eq!(set.usable().len() + set.skipped_count(), set.original_count());
            prop_assert_eq!(set.original_count(), keys.len());
        }
    }
}
