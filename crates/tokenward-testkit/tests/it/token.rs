use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenward_core::Timestamp;
use tokenward_testkit::{TestKey, TokenBuilder, compact, key_set, with_broken_signature};

const NOW: Timestamp = Timestamp::from_secs(1_764_079_200);

/// Of key file 0, taken with OpenSSL and Python.
const THUMBPRINT_OF_RSA_0: &str = "N3TsGxPe6Jm7zGy_ercvWufgqpEj3mlO39Xv_3DLHGY";

fn bytes(jwk: &Value, member: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap()
}

fn verifies(alg: &str, jwk: &Value, input: &[u8], signature: &[u8]) -> bool {
    let rsa = |parameters: &'static RsaParameters| {
        let key = RsaPublicKeyComponents {
            n: bytes(jwk, "n"),
            e: bytes(jwk, "e"),
        };
        key.verify(parameters, input, signature).is_ok()
    };
    let other = |algorithm: &'static dyn VerificationAlgorithm| {
        let mut key = bytes(jwk, "x");
        if jwk["kty"] == "EC" {
            key.insert(0, 4);
            key.extend(bytes(jwk, "y"));
        }
        UnparsedPublicKey::new(algorithm, key)
            .verify(input, signature)
            .is_ok()
    };
    match alg {
        "RS256" => rsa(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => rsa(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => rsa(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => rsa(&RSA_PSS_2048_8192_SHA256),
        "PS384" => rsa(&RSA_PSS_2048_8192_SHA384),
        "PS512" => rsa(&RSA_PSS_2048_8192_SHA512),
        "ES256" => other(&ECDSA_P256_SHA256_FIXED),
        "ES384" => other(&ECDSA_P384_SHA384_FIXED),
        "ES512" => other(&ECDSA_P521_SHA512_FIXED),
        "ES256K" => other(&ECDSA_P256K1_SHA256_FIXED),
        _ => other(&ED25519),
    }
}

#[test]
fn the_jwk_verifies_what_the_key_signs() {
    for alg in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA",
    ] {
        let key = TestKey::new(alg, 0);
        let jwk = key.jwk();
        let signature = key.sign(b"input");
        assert!(verifies(alg, &jwk, b"input", &signature), "{alg}");
        assert!(!verifies(alg, &jwk, b"other", &signature), "{alg}");
        assert!(
            !verifies(alg, &TestKey::new(alg, 1).jwk(), b"input", &signature),
            "{alg}"
        );
        assert!(
            key.pkcs8_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"),
            "{alg}"
        );
        assert_eq!(jwk["kid"], format!("{}-0", alg.to_lowercase()));
        assert_eq!(jwk, TestKey::new(alg, 0).jwk(), "the same within a process");
        assert!(jwk.get("d").is_none());
    }
    let (hs256, hs512) = (TestKey::new("HS256", 0), TestKey::new("HS512", 0));
    assert_eq!(hs256.secret().unwrap().len(), 64);
    assert_eq!((hs256.sign(b"x").len(), hs512.sign(b"x").len()), (32, 64));
}

/// RFC 7638 section 3.1 defines the order and the members; the digest was taken elsewhere.
#[test]
fn the_thumbprint_covers_the_required_members_only() {
    let key = TestKey::rs256(0);
    assert_eq!(key.thumbprint(), THUMBPRINT_OF_RSA_0);
    assert_eq!(key.with_kid("other").thumbprint(), THUMBPRINT_OF_RSA_0);
    assert_eq!(TestKey::new("PS512", 0).thumbprint(), THUMBPRINT_OF_RSA_0);
}

#[test]
fn jwk_members_can_be_replaced_and_taken_out() {
    let jwk = TestKey::es256(0).jwk_with(&json!({"use": "enc", "alg": null, "x5t": "a"}));
    assert_eq!(jwk["use"], "enc");
    assert_eq!(jwk["x5t"], "a");
    assert!(jwk.get("alg").is_none());
    assert!(TestKey::es256(0).without_kid().jwk().get("kid").is_none());
    let set = key_set(&[&TestKey::es256(1), &TestKey::es256(0).with_kid("k")]);
    assert_eq!(set["keys"][0]["kid"], "es256-1");
    assert_eq!(set["keys"][1]["kid"], "k");
}

fn parts(token: &str) -> Vec<Vec<u8>> {
    token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect()
}

#[test]
fn a_token_says_what_the_builder_was_told() {
    let key = TestKey::ed25519(0);
    let token = TokenBuilder::new(NOW)
        .issuer("https://idp.test")
        .subject("alice")
        .audience("api")
        .token_id("1")
        .scope("a b")
        .expires_in(Duration::from_secs(90))
        .claim("groups", json!(["x"]))
        .header("typ", "at+jwt")
        .sign(&key);
    let parts = parts(&token);
    let [header, claims]: [Value; 2] = [0, 1].map(|part| serde_json::from_slice(&parts[part]).unwrap());
    assert_eq!(header, json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "eddsa-0"}));
    assert_eq!(
        claims,
        json!({"iss": "https://idp.test", "sub": "alice", "aud": "api", "jti": "1", "scope": "a b",
               "iat": 1_764_079_200, "exp": 1_764_079_290, "groups": ["x"]})
    );
    let input = token.rsplit_once('.').unwrap().0;
    assert!(verifies("EdDSA", &key.jwk(), input.as_bytes(), &parts[2]));
    let broken = with_broken_signature(&token);
    assert_eq!(broken.rsplit_once('.').unwrap().0, input);
    assert_ne!(broken, token);
}

#[test]
fn hostile_tokens_can_be_built() {
    let key = TestKey::es256(0);
    let bare = TokenBuilder::new(NOW)
        .without_claim("exp")
        .without_header("kid")
        .without_header("typ");
    let signed = parts(&bare.sign(&key));
    assert_eq!(signed[0], br#"{"alg":"ES256"}"#);
    assert_eq!(signed[1], br#"{"iat":1764079200}"#);
    let unsigned = parts(&bare.unsigned());
    assert_eq!(unsigned[0], br#"{"alg":"none"}"#);
    assert_eq!(unsigned[2], b"");
    let raw = parts(&bare.raw_header("{").raw_claims("[1,1]").sign(&key));
    assert_eq!((raw[0].as_slice(), raw[1].as_slice()), (&b"{"[..], &b"[1,1]"[..]));
    assert_eq!(compact(b"a", b"b", b""), "YQ.Yg.");
}
