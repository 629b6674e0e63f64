//! Tokens made to be accepted without being honest.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenward_core::{
    Denial,
    jose::{Algorithm, AlgorithmSet, MAX_KID_BYTES, MAX_TOKEN_BYTES, Token},
    verify,
};

use crate::support::{
    AUD, EC, ED, ISS, NOW, RSA, Signer, b64, builder, denial, hmac_sign, honest, merged, now, outcome,
    policy, set, unb64,
};

const MALFORMED: Denial = Denial::TokenMalformed;

/// A token of `EC` with this header text.
fn with_header(header: &str) -> String {
    EC.raw(header.as_bytes(), honest().to_string().as_bytes())
}

/// A token of `EC` with this payload.
fn with_payload(payload: &[u8]) -> String {
    EC.raw(br#"{"alg":"ES256","kid":"k"}"#, payload)
}

/// A token of `EC` with the signature replaced.
fn with_signature(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let token = EC.token(&json!({}));
    let (input, signature) = token.rsplit_once('.').unwrap();
    format!("{input}.{}", b64(change(unb64(signature))))
}

#[test]
fn an_honest_token_is_accepted() {
    for signer in [&*EC, &*ED, &*RSA] {
        let verified = outcome(&signer.token(&json!({})), &signer.set()).unwrap();
        assert_eq!(verified.claims().subject(), Some("alice"));
    }
}

#[test]
fn alg_none_in_any_case_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "noNE"] {
        let signed = with_header(&format!(r#"{{"alg":"{alg}","kid":"k"}}"#));
        assert_eq!(denial(&signed, &EC.set()), Denial::AlgNotAllowed, "{alg}");
        let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
        assert_eq!(denial(&unsigned, &EC.set()), Denial::AlgNotAllowed, "{alg}");
    }
}

#[test]
fn a_missing_signature_is_refused() {
    let token = EC.token(&json!({}));
    let (input, _) = token.rsplit_once('.').unwrap();
    assert_eq!(denial(&format!("{input}."), &EC.set()), Denial::SignatureInvalid);
    assert_eq!(denial(input, &EC.set()), MALFORMED);
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let keys = RSA.set();
    let jwk = RSA.jwk();
    let modulus = unb64(jwk["n"].as_str().unwrap());
    let header = b64(r#"{"alg":"HS256","kid":"k"}"#);
    let input = format!("{header}.{}", b64(honest().to_string()));
    let every = Algorithm::ALL
        .into_iter()
        .filter(|alg| alg.is_symmetric())
        .collect();
    for secret in [
        modulus,
        jwk.to_string().into_bytes(),
        jwk["n"].as_str().unwrap().into(),
    ] {
        let token = format!(
            "{input}.{}",
            b64(hmac_sign(Algorithm::Hs256, &secret, input.as_bytes()))
        );
        assert_eq!(denial(&token, &keys), Denial::AlgNotAllowed);
        // Even where the policy names HMAC, a public key is not one of its keys.
        let policy = builder().algorithms(every).build().unwrap();
        assert_eq!(
            verify(&token, &keys, &policy, now()).unwrap_err(),
            Denial::KeyUnknown
        );
    }
}

#[test]
fn a_key_with_an_alg_verifies_that_alg_only() {
    let keys = set(&[RSA.jwk_with(&json!({"kid": "k", "alg": "RS256"}))]);
    for alg in AlgorithmSet::RSA.iter() {
        let input = format!(
            "{}.{}",
            b64(json!({"alg": alg.name(), "kid": "k"}).to_string()),
            b64(honest().to_string())
        );
        let token = format!("{input}.{}", b64(RSA.sign_as(alg, input.as_bytes())));
        // Without `alg` the key does all of its type.
        assert!(outcome(&token, &RSA.set()).is_ok(), "{alg}");
        if alg == Algorithm::Rs256 {
            assert!(outcome(&token, &keys).is_ok());
        } else {
            assert_eq!(denial(&token, &keys), Denial::KeyUnknown, "{alg}");
        }
    }
}

#[test]
fn the_curve_must_be_the_algorithms() {
    for (alg, signer) in [
        ("ES256", Signer::new(Algorithm::Es384)),
        ("ES512", Signer::new(Algorithm::Es256)),
        ("ES256", Signer::new(Algorithm::Es256K)),
        ("ES256K", Signer::new(Algorithm::Es256)),
        ("EdDSA", Signer::new(Algorithm::Es256)),
    ] {
        let token = signer.token_with(&json!({ "alg": alg }), &honest());
        assert_eq!(denial(&token, &signer.set()), Denial::KeyUnknown, "{alg}");
    }
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut out = a.to_vec();
    let mut borrow = 0;
    for place in (0..a.len()).rev() {
        let difference = i16::from(a[place]) - i16::from(b[place]) - borrow;
        borrow = i16::from(difference < 0);
        out[place] = difference.rem_euclid(256) as u8;
    }
    out
}

#[test]
fn ecdsa_numbers_out_of_range_are_refused() {
    let max = vec![0xff; 32];
    for (r, s) in [
        (vec![0; 32], vec![0; 32]),
        (ORDER.to_vec(), ORDER.to_vec()),
        (ORDER.to_vec(), vec![0; 32]),
        (max.clone(), max),
        (minus(&ORDER, &[0; 32]), minus(&ORDER, &[0; 32])),
    ] {
        let token = with_signature(|_| [r, s].concat());
        assert_eq!(denial(&token, &EC.set()), Denial::SignatureInvalid);
    }
    let token = with_signature(|good| [&[0; 32], &good[32..]].concat());
    assert_eq!(denial(&token, &EC.set()), Denial::SignatureInvalid);
}

#[test]
fn signatures_have_one_length() {
    let der = |good: Vec<u8>| {
        let number = |bytes: &[u8]| [&[2, 33, 0][..], bytes].concat();
        let body = [number(&good[..32]), number(&good[32..])].concat();
        [vec![0x30, body.len() as u8], body].concat()
    };
    let changes: [&dyn Fn(Vec<u8>) -> Vec<u8>; 6] = [
        &der,
        &|good| [good, vec![0]].concat(),
        &|good| [vec![0], good].concat(),
        &|good| good[..63].to_vec(),
        &|good| good[..1].to_vec(),
        &|good| [&[0][..], &good[..32], &[0], &good[32..]].concat(),
    ];
    for change in changes {
        assert_eq!(
            denial(&with_signature(change), &EC.set()),
            Denial::SignatureInvalid
        );
    }
    let token = RSA.token(&json!({}));
    let (input, signature) = token.rsplit_once('.').unwrap();
    let padded = format!("{input}.{}", b64([vec![0], unb64(signature)].concat()));
    assert_eq!(denial(&padded, &RSA.set()), Denial::SignatureInvalid);
}

#[test]
fn the_other_form_of_an_ecdsa_signature_has_the_same_signing_input() {
    let other = with_signature(|good| [&good[..32], &minus(&ORDER, &good[32..])].concat());
    assert!(outcome(&other, &EC.set()).is_ok());
    let (input, _) = other.rsplit_once('.').unwrap();
    assert_eq!(
        Token::parse(&other, MAX_TOKEN_BYTES).unwrap().signing_input(),
        input.as_bytes()
    );
}

#[test]
fn ed25519_s_must_be_canonical() {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let token = ED.token(&json!({}));
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = unb64(signature);
    let mut carry = 0;
    for (byte, more) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    let token = format!("{input}.{}", b64(signature));
    assert_eq!(denial(&token, &ED.set()), Denial::SignatureInvalid);
}

#[test]
fn pss_with_another_salt_length_is_refused() {
    use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaPssSaltLength, RsaSignatureEncoding};
    const EMPTY: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0));
    const LONGEST: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    let input = format!(
        "{}.{}",
        b64(r#"{"alg":"PS256","kid":"k"}"#),
        b64(honest().to_string())
    );
    let token = |signature: &[u8]| format!("{input}.{}", b64(signature));
    assert!(
        outcome(
            &token(&RSA.sign_as(Algorithm::Ps256, input.as_bytes())),
            &RSA.set()
        )
        .is_ok()
    );
    for encoding in [&EMPTY, &LONGEST] {
        let token = token(&RSA.sign_rsa(encoding, input.as_bytes()));
        assert_eq!(denial(&token, &RSA.set()), Denial::SignatureInvalid);
    }
}

#[test]
fn a_kid_is_a_name_and_nothing_more() {
    for kid in [
        "../../dev/null",
        "/etc/passwd",
        "' OR 1=1 --",
        "k\r\nx: y",
        "\u{202e}k",
        "K",
        "ｋ",
        "k ",
        "",
    ] {
        let token = EC.token_with(&json!({ "kid": kid }), &honest());
        assert_eq!(denial(&token, &EC.set()), Denial::KeyUnknown, "{kid:?}");
        let keys = set(&[EC.jwk_with(&json!({ "kid": kid }))]);
        assert!(outcome(&token, &keys).is_ok(), "{kid:?}");
    }
}

#[test]
fn a_kid_is_a_string_of_bounded_length() {
    for kid in ["1", "null", "true", "{}", "[]", r#"["k"]"#] {
        let token = with_header(&format!(r#"{{"alg":"ES256","kid":{kid}}}"#));
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{kid}");
    }
    let longest = "k".repeat(MAX_KID_BYTES);
    let keys = set(&[EC.jwk_with(&json!({ "kid": longest }))]);
    assert!(outcome(&EC.token_with(&json!({ "kid": longest }), &honest()), &keys).is_ok());
    let token = EC.token_with(&json!({ "kid": format!("{longest}k") }), &honest());
    assert_eq!(denial(&token, &keys), MALFORMED);
}

#[test]
fn a_token_without_kid_needs_the_only_fitting_key() {
    let token = EC.token_with(&json!({ "kid": null }), &honest());
    let key = |signer: &Signer, kid: &str| signer.jwk_with(&json!({ "kid": kid }));
    assert!(outcome(&token, &EC.set()).is_ok());
    assert!(outcome(&token, &set(&[key(&EC, "a"), key(&ED, "b"), key(&RSA, "c")])).is_ok());
    let second = Signer::new(Algorithm::Es256);
    assert_eq!(
        denial(&token, &set(&[key(&EC, "a"), key(&second, "b")])),
        Denial::KeyUnknown
    );
    // A token with a kid does not fall back to a key without one.
    assert_eq!(
        denial(&EC.token(&json!({})), &set(&[EC.jwk()])),
        Denial::KeyUnknown
    );
}

#[test]
fn keys_and_addresses_in_the_header_are_refused() {
    let own = Signer::new(Algorithm::Es256);
    let token = own.token_with(&json!({ "jwk": own.jwk() }), &honest());
    assert_eq!(denial(&token, &EC.set()), MALFORMED);
    for header in [
        json!({"jku": "https://evil.example/jwks.json"}),
        json!({"x5u": "https://evil.example/cert.pem"}),
        json!({"jwk": null}),
        json!({"jku": 1}),
    ] {
        let name = header.as_object().unwrap().keys().next().unwrap();
        let token = with_header(&format!(
            r#"{{"alg":"ES256","kid":"k","{name}":{}}}"#,
            header[name]
        ));
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{header}");
    }
    // A certificate chain in the header is neither trusted nor followed.
    let token = own.token_with(
        &json!({"x5c": ["MIIB"], "x5t": "abc", "x5t#S256": "abc"}),
        &honest(),
    );
    assert_eq!(denial(&token, &EC.set()), Denial::SignatureInvalid);
    let token = EC.token_with(&json!({"x5c": ["MIIB"], "x5t": "abc"}), &honest());
    assert!(outcome(&token, &EC.set()).is_ok());
}

#[test]
fn crit_is_refused_in_any_form() {
    for crit in [
        r#"["exp"]"#,
        r#"["b64"]"#,
        "[]",
        r#""exp""#,
        "null",
        r#"["alg"]"#,
        r#"["x","x"]"#,
        r#"["absent"]"#,
    ] {
        let token = with_header(&format!(r#"{{"alg":"ES256","kid":"k","x":1,"crit":{crit}}}"#));
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{crit}");
    }
}

#[test]
fn unencoded_compressed_and_nested_payloads_are_refused() {
    for member in [
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
        r#""cty":"jwt""#,
        r#""cty":1"#,
    ] {
        let token = with_header(&format!(r#"{{"alg":"ES256","kid":"k",{member}}}"#));
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{member}");
    }
    let inner = EC.token(&json!({}));
    assert_eq!(denial(&with_payload(inner.as_bytes()), &EC.set()), MALFORMED);
}

#[test]
fn encrypted_tokens_are_refused() {
    let header = b64(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
    assert_eq!(denial(&format!("{header}.AA.AA.AA.AA"), &RSA.set()), MALFORMED);
    let header = b64(r#"{"alg":"dir","enc":"A256GCM"}"#);
    assert_eq!(denial(&format!("{header}..AA.AA.AA"), &RSA.set()), MALFORMED);
    let header = b64(r#"{"alg":"PBES2-HS256+A128KW","p2c":2000000000}"#);
    assert_eq!(
        denial(&format!("{header}.AA.AA"), &RSA.set()),
        Denial::AlgNotAllowed
    );
}

#[test]
fn the_json_serialization_is_refused() {
    let token = EC.token(&json!({}));
    let parts: Vec<_> = token.split('.').collect();
    let flat = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    assert_eq!(denial(&flat, &EC.set()), MALFORMED);
    let general =
        json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    assert_eq!(denial(&general.to_string(), &EC.set()), MALFORMED);
    // One text that is both JSON and splits at dots (CVE-2022-39227).
    let both = format!(r#"{{"  {}.{}.{}":""}}"#, parts[0], parts[1], parts[2]);
    assert_eq!(denial(&both, &EC.set()), MALFORMED);
}

#[test]
fn base64url_has_no_other_spelling() {
    let token = EC.token(&json!({}));
    let parts: Vec<_> = token.split('.').collect();
    for place in 0..3 {
        for odd in ["=", "==", "+", "/", " ", "\n", "?", "%3D", "\0", "é"] {
            for changed in [format!("{}{odd}", parts[place]), format!("{odd}{}", parts[place])] {
                let mut parts = parts.clone();
                parts[place] = &changed;
                assert_eq!(
                    denial(&parts.join("."), &EC.set()),
                    MALFORMED,
                    "{odd:?} in part {place}"
                );
            }
        }
    }
    for around in [" ", "\n", "\t", "Bearer ", "\""] {
        assert_eq!(denial(&format!("{around}{token}"), &EC.set()), MALFORMED);
        assert_eq!(denial(&format!("{token}{around}"), &EC.set()), MALFORMED);
    }
}

#[test]
fn unused_bits_of_base64url_must_be_zero() {
    // 64 bytes leave four unused bits in the last of 86 characters.
    let token = EC.token(&json!({}));
    let (head, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    assert_eq!(denial(&format!("{head}{next}"), &EC.set()), MALFORMED);
}

#[test]
fn the_payload_must_be_one_json_object() {
    for payload in [
        "",
        "[]",
        "1",
        "\"x\"",
        "null",
        "{}{}",
        "{} ",
        "{}x",
        "{",
        "{\"a\":1,}",
        "\u{feff}{}",
    ] {
        let expected = if payload == "{} " {
            Denial::IssuerUnknown
        } else {
            MALFORMED
        };
        assert_eq!(
            denial(&with_payload(payload.as_bytes()), &EC.set()),
            expected,
            "{payload:?}"
        );
    }
}

#[test]
fn duplicate_members_are_refused_at_any_depth() {
    let rest = format!(r#""iss":"{ISS}","aud":"{AUD}","exp":{}"#, NOW + 60);
    for members in [
        r#""role":"user","role":"admin""#,
        r#""sub":"a","\u0073ub":"b""#,
        r#""x":{"role":1,"role":1}"#,
        r#""x":[[{"y":{"z":1,"\u007a":2}}]]"#,
        r#""\u0069ss":"x""#,
    ] {
        let token = with_payload(format!("{{{rest},{members}}}").as_bytes());
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{members}");
    }
    for header in [
        r#"{"alg":"ES256","kid":"k","kid":"k"}"#,
        r#"{"alg":"ES256","alg":"none","kid":"k"}"#,
        r#"{"alg":"ES256","\u0061lg":"ES256","kid":"k"}"#,
        r#"{"alg":"ES256","kid":"k","x":{"y":1,"y":1}}"#,
    ] {
        assert_eq!(denial(&with_header(header), &EC.set()), MALFORMED, "{header}");
    }
}

#[test]
fn text_must_be_plain_unicode() {
    for text in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\u0000",
        b"\0",
    ] {
        let payload = [b"{\"x\":\"", text, b"\"}"].concat();
        assert_eq!(
            denial(&with_payload(&payload), &EC.set()),
            MALFORMED,
            "{}",
            text.escape_ascii()
        );
        let header = [br#"{"alg":"ES256","kid":"k"#, text, b"\"}"].concat();
        let token = EC.raw(&header, honest().to_string().as_bytes());
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{}", text.escape_ascii());
    }
    let utf_16: Vec<u8> = honest()
        .to_string()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(denial(&with_payload(&utf_16), &EC.set()), MALFORMED);
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let token = EC.token(&json!({ "x": serde_json::from_str::<Value>(&nested(31)).unwrap() }));
    assert!(outcome(&token, &EC.set()).is_ok());
    for levels in [32, 5_000] {
        let token = with_payload(format!(r#"{{"x":{}}}"#, nested(levels)).as_bytes());
        assert_eq!(denial(&token, &EC.set()), MALFORMED);
        let token = with_header(&format!(r#"{{"alg":"ES256","kid":"k","x":{}}}"#, nested(levels)));
        assert_eq!(denial(&token, &EC.set()), MALFORMED);
    }
}

#[test]
fn size_is_judged_before_anything_else() {
    let filler = |len: usize| EC.token(&json!({ "x": "y".repeat(len) }));
    let room = MAX_TOKEN_BYTES - filler(0).len();
    let largest = filler(room * 3 / 4);
    assert!(largest.len() <= MAX_TOKEN_BYTES && largest.len() > MAX_TOKEN_BYTES - 8);
    assert!(outcome(&largest, &EC.set()).is_ok());
    let more = "A".repeat(MAX_TOKEN_BYTES + 1 - largest.len());
    assert_eq!(
        denial(&format!("{largest}{more}"), &EC.set()),
        Denial::TokenTooLarge
    );
    assert_eq!(denial(&".".repeat(1_000_000), &EC.set()), Denial::TokenTooLarge);
    assert_eq!(
        Token::parse(&largest, largest.len() - 1).unwrap_err(),
        Denial::TokenTooLarge
    );
}

#[test]
fn dots_in_plenty_are_refused() {
    for dots in [0, 1, 3, 4, 5, MAX_TOKEN_BYTES] {
        assert_eq!(denial(&".".repeat(dots), &EC.set()), MALFORMED, "{dots}");
    }
    let token = EC.token(&json!({}));
    for odd in [
        format!(".{token}"),
        format!("{token}."),
        token.replacen('.', "..", 1),
    ] {
        assert_eq!(denial(&odd, &EC.set()), MALFORMED);
    }
    assert_eq!(denial("..", &EC.set()), MALFORMED);
}

#[test]
fn alg_must_be_a_known_string() {
    for alg in ["1", "null", "[]", r#"["ES256"]"#, "{}", "true"] {
        let token = with_header(&format!(r#"{{"alg":{alg},"kid":"k"}}"#));
        assert_eq!(denial(&token, &EC.set()), MALFORMED, "{alg}");
    }
    assert_eq!(denial(&with_header(r#"{"kid":"k"}"#), &EC.set()), MALFORMED);
    for alg in ["", "es256", "ES256 ", "ES-256", "RS1", "ML-DSA-65", "A128GCM"] {
        let token = EC.token_with(&json!({ "alg": alg }), &honest());
        assert_eq!(denial(&token, &EC.set()), Denial::AlgNotAllowed, "{alg:?}");
    }
}

#[test]
fn an_algorithm_outside_the_policy_is_refused_before_any_key() {
    let policy = builder()
        .algorithms(AlgorithmSet::only(Algorithm::Rs256))
        .build()
        .unwrap();
    let none = set(&[]);
    assert_eq!(
        verify(&EC.token(&json!({})), &none, &policy, now()).unwrap_err(),
        Denial::AlgNotAllowed
    );
    let other = EC.token(&json!({"iss": "https://other.example"}));
    assert_eq!(
        verify(&other, &none, &policy, now()).unwrap_err(),
        Denial::IssuerUnknown
    );
}

#[test]
fn denials_say_nothing_about_the_token() {
    for denial in Denial::ALL {
        let text = format!("{denial} {denial:?} {} {}", denial.title(), denial.detail());
        assert!(!text.contains(ISS) && !text.contains("alice"));
    }
    let token = EC.token(&json!({"secret": "hunter2"}));
    let parsed = Token::parse(&token, MAX_TOKEN_BYTES).unwrap();
    let verified = outcome(&token, &EC.set()).unwrap();
    for text in [format!("{:?}", parsed.claims()), format!("{verified:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("alice"), "{text}");
    }
}

#[test]
fn no_policy_is_satisfied_by_an_unsigned_change() {
    let token = EC.token(&json!({}));
    let parts: Vec<_> = token.split('.').collect();
    let changed = merged(honest(), &json!({"sub": "root"}));
    let forged = format!("{}.{}.{}", parts[0], b64(changed.to_string()), parts[2]);
    assert_eq!(denial(&forged, &EC.set()), Denial::SignatureInvalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Token::parse(&bytes, MAX_TOKEN_BYTES);
    }

    #[test]
    fn arbitrary_parts_never_panic(
        header in r#"\{("(alg|kid|typ|crit|x)":("ES256"|"k"|1|null|\{\}|\[\]),?){0,4}\}"#,
        payload in r#"\{("(iss|aud|exp|nbf|x)":("a"|1|1\.5|-1|1e300|null|\{\}|\["a"\]),?){0,4}\}"#,
        signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let token = format!("{}.{}.{}", b64(header), b64(payload), b64(signature));
        prop_assert!(verify(&token, &EC.set(), &policy(), now()).is_err());
    }

    #[test]
    fn any_changed_byte_is_noticed(place in any::<prop::sample::Index>(), byte in 0..128_u8) {
        let mut bytes = EC.token(&json!({})).into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(outcome(&changed, &EC.set()).is_err());
    }
}
