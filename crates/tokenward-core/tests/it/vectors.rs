//! Published examples, and one token for each algorithm.

use serde_json::json;
use tokenward_core::{
    Denial, Timestamp,
    jose::{Algorithm, AlgorithmSet, Jws, Key, KeySet, MAX_TOKEN_BYTES, Token},
    policy::{Audiences, Policy},
    verify,
};

use crate::support::{Signer, builder, honest, now, set, unb64};

const A1: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const A1_KEY: &str = r#"{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const A2: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A2_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const A4: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
const A4_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const A5: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
const HOBBITON_RSA: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#;
const HOBBITON_EC: &str = r#"{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}"#;
const HOBBITON_MAC: &str = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;

const ED25519: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const ED25519_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// Verifies `compact` with `jwk`, and sees that it fails with another payload and another signature.
#[track_caller]
fn holds(compact: &str, jwk: &str) -> Vec<u8> {
    let key = Key::from_jwk(jwk.as_bytes()).unwrap();
    let jws = Jws::parse(compact, MAX_TOKEN_BYTES).unwrap();
    assert_eq!(jws.verify(&key), Ok(()));

    let parts: Vec<_> = compact.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], FRODO.replace("SX", "SY"), parts[2]);
    assert_eq!(
        Jws::parse(&forged, MAX_TOKEN_BYTES).unwrap().verify(&key),
        Err(Denial::SignatureInvalid)
    );
    let mut signature = unb64(parts[2]);
    for place in [0, signature.len() / 2, signature.len() - 1] {
        signature[place] ^= 1;
        assert!(!key.verify(jws.header().alg(), jws.signing_input(), &signature));
        signature[place] ^= 1;
    }
    jws.payload().to_vec()
}

#[test]
fn rfc_7515_appendix_a() {
    for (compact, jwk) in [(A1, A1_KEY), (A2, A2_KEY), (A3, A3_KEY)] {
        let payload = holds(compact, jwk);
        assert_eq!(
            payload,
            b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
        );
    }
    assert_eq!(holds(A4, A4_KEY), b"Payload");
    assert_eq!(
        Jws::parse(A5, MAX_TOKEN_BYTES).unwrap_err(),
        Denial::AlgNotAllowed
    );
}

#[test]
fn rfc_7515_appendix_a_2_as_a_whole() {
    let keys = KeySet::parse(format!(r#"{{"keys":[{A2_KEY}]}}"#).as_bytes()).unwrap();
    let policy = Policy::builder("joe", Audiences::Any).build().unwrap();
    let at = |secs| verify(A2, &keys, &policy, Timestamp::from_secs(secs));
    let verified = at(1_300_819_379).unwrap();
    assert_eq!(verified.claims().issuer(), Some("joe"));
    assert_eq!(verified.claims().to_map()["http://example.com/is_root"], true);
    assert_eq!(at(1_300_819_440).unwrap_err(), Denial::TokenExpired);
}

#[test]
fn rfc_7520_section_4() {
    let header_mac = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
    for (header, signature, jwk) in [
        (
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
            HOBBITON_RSA,
        ),
        (
            "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
            HOBBITON_RSA,
        ),
        (
            "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
            HOBBITON_EC,
        ),
        (
            header_mac,
            "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
            HOBBITON_MAC,
        ),
    ] {
        let payload = holds(&format!("{header}.{FRODO}.{signature}"), jwk);
        assert!(payload.starts_with("It’s a dangerous business, Frodo".as_bytes()));
    }
    // Section 4.5 detaches the payload, which leaves an empty one; sections 4.6 to 4.8 exist in JSON only.
    let detached = format!("{header_mac}..s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0");
    assert_eq!(
        Token::parse(&detached, MAX_TOKEN_BYTES).unwrap_err(),
        Denial::TokenMalformed
    );
}

#[test]
fn rfc_8037_appendix_a() {
    assert_eq!(holds(ED25519, ED25519_KEY), b"Example of Ed25519 signing");
    // Appendix A.3.
    let key = Key::from_jwk(ED25519_KEY.as_bytes()).unwrap();
    assert_eq!(
        key.thumbprint().to_string(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn rfc_7638_section_3_1() {
    let jwk = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    let key = Key::from_jwk(jwk.as_bytes()).unwrap();
    assert_eq!(
        key.thumbprint().to_string(),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
}

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let all: AlgorithmSet = Algorithm::ALL
        .into_iter()
        .filter(|alg| alg.is_symmetric())
        .collect();
    let symmetric = builder().algorithms(all).build().unwrap();
    let asymmetric = builder().build().unwrap();
    let signers: Vec<_> = Algorithm::ALL.into_iter().map(Signer::new).collect();
    for signer in &signers {
        let policy = if signer.alg.is_symmetric() {
            &symmetric
        } else {
            &asymmetric
        };
        let token = signer.token(&json!({}));
        let verified = verify(&token, &signer.set(), policy, now()).unwrap();
        assert_eq!(verified.alg(), signer.alg);
        assert_eq!(verified.kid(), Some("k"));
        assert_eq!(verified.key(), signer.set().usable()[0].thumbprint());
        assert_eq!(serde_json::Value::Object(verified.claims().to_map()), honest());

        for other in signers.iter().filter(|other| other.alg != signer.alg) {
            let denial = verify(&token, &other.set(), policy, now()).unwrap_err();
            assert!(
                matches!(denial, Denial::KeyUnknown | Denial::SignatureInvalid),
                "{} under {}: {denial}",
                signer.alg,
                other.alg
            );
        }
    }
}

#[test]
fn both_names_of_ed25519_mean_the_same_key() {
    let signer = Signer::new(Algorithm::EdDsa);
    for key_alg in [json!(null), json!("EdDSA"), json!("Ed25519")] {
        let keys = set(&[signer.jwk_with(&json!({"kid": "k", "alg": key_alg}))]);
        for alg in ["EdDSA", "Ed25519"] {
            let token = signer.token_with(&json!({"alg": alg}), &honest());
            assert!(verify(&token, &keys, &builder().build().unwrap(), now()).is_ok());
        }
    }
}
