//! Private keys in all their forms, and the tokens they sign: judged by our verifier and by a peer.

use aws_lc_rs::digest;
use jsonwebtoken::{DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokenward_core::{
    Timestamp,
    jose::{Algorithm, Key, KeyFault, KeySet, MAX_TOKEN_BYTES, SignError, SigningKey, SkipReason},
    verify,
};

use crate::support::{AUD, ISS, NOW, b64, builder};

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("keys/", $name, ".pem"))
    };
}

fn claims(now: i64) -> String {
    json!({"iss": ISS, "aud": AUD, "sub": "a", "iat": now - 10, "exp": now + 600}).to_string()
}

fn all() -> impl Iterator<Item = SigningKey> {
    SigningKey::ALGORITHMS
        .into_iter()
        .map(|algorithm| SigningKey::generate(algorithm).unwrap())
}

#[test]
fn what_is_signed_is_accepted_by_the_verifier() {
    for key in all() {
        let token = key.sign("at+jwt", &claims(NOW)).unwrap();
        let set = KeySet::parse(format!(r#"{{"keys":[{}]}}"#, key.public_jwk()).as_bytes()).unwrap();
        let policy = builder()
            .algorithms([key.algorithm()].into_iter().collect())
            .typ("at+jwt")
            .build()
            .unwrap();
        let verified = verify(&token, &set, &policy, Timestamp::from_secs(NOW));
        assert!(verified.is_ok(), "{:?}: {:?}", key.algorithm(), verified.err());
        // With another key of the same kind the signature means nothing.
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = crate::support::unb64(signature);
        assert!(
            key.verifier()
                .verify(key.algorithm(), input.as_bytes(), &signature)
        );
        let other = SigningKey::generate(key.algorithm()).unwrap();
        assert!(
            !other
                .verifier()
                .verify(key.algorithm(), input.as_bytes(), &signature)
        );
    }
}

#[test]
fn what_is_signed_is_accepted_by_a_peer() {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap();
    for key in all() {
        let token = key.sign("at+jwt", &claims(now)).unwrap();
        let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
        let decoding = DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap();
        let mut validation = Validation::new(key.algorithm().name().parse().unwrap());
        validation.set_audience(&[AUD]);
        let decoded = jsonwebtoken::decode::<Value>(&token, &decoding, &validation).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some(key.kid()));
        assert_eq!(decoded.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(decoded.claims["sub"], "a");
    }
}

#[test]
fn the_kid_is_the_thumbprint_of_the_required_members() {
    for key in all() {
        let jwk: Value = serde_json::from_str(key.public_jwk()).unwrap();
        let required = match jwk["kty"].as_str().unwrap() {
            "RSA" => json!({"e": jwk["e"], "kty": "RSA", "n": jwk["n"]}),
            "EC" => json!({"crv": jwk["crv"], "kty": "EC", "x": jwk["x"], "y": jwk["y"]}),
            _ => json!({"crv": "Ed25519", "kty": "OKP", "x": jwk["x"]}),
        };
        // serde_json's map is ordered by name, as RFC 7638 section 3.3 wants it.
        let expected = b64(digest::digest(&digest::SHA256, required.to_string().as_bytes()).as_ref());
        assert_eq!(key.kid(), expected);
        assert_eq!(jwk["kid"], expected);
        assert_eq!(jwk["use"], "sig");
        assert_eq!(jwk["alg"], key.algorithm().name());
        let members = jwk.as_object().unwrap().len();
        assert_eq!(
            members,
            required.as_object().unwrap().len() + 3,
            "nothing private"
        );
    }
}

#[test]
fn private_keys_load_from_every_form() {
    let rsa = pem!("rsa-public").as_slice();
    for (text, algorithm, public) in [
        (pem!("rsa-pkcs1").as_slice(), Algorithm::Rs256, rsa),
        (pem!("rsa-pkcs8"), Algorithm::Rs256, rsa),
        (pem!("rsa-pkcs8"), Algorithm::Ps256, rsa),
        (pem!("p256-sec1"), Algorithm::Es256, pem!("p256-public")),
        (pem!("p256-pkcs8"), Algorithm::Es256, pem!("p256-public")),
        (pem!("ed25519-pkcs8"), Algorithm::EdDsa, pem!("ed25519-public")),
    ] {
        let key = SigningKey::from_pem(text, algorithm).unwrap();
        assert!(key.matches_public_pem(public), "{algorithm}");
        assert!(!key.matches_public_pem(pem!("rsa-other-public")), "{algorithm}");
        assert!(!key.matches_public_pem(b"no key"), "{algorithm}");
        let again = SigningKey::from_pkcs8(key.to_pkcs8().unwrap().expose_secret(), algorithm).unwrap();
        assert_eq!(again.kid(), key.kid());
    }
    assert!(SigningKey::from_pem(pem!("p384-sec1"), Algorithm::Es384).is_ok());
}

#[test]
fn a_key_that_does_not_fit_is_refused_with_what_was_expected() {
    use Algorithm::{EdDsa, Es256, Es384, Hs256, Ps256, Rs256, Rs512};
    for (text, algorithm, fault) in [
        (pem!("p256-sec1").as_slice(), Rs256, KeyFault::WrongKind(Rs256)),
        (pem!("p256-pkcs8"), Es384, KeyFault::WrongKind(Es384)),
        (pem!("p384-sec1"), Es256, KeyFault::WrongKind(Es256)),
        (pem!("rsa-pkcs1"), EdDsa, KeyFault::WrongKind(EdDsa)),
        (pem!("rsa-pkcs8"), Es256, KeyFault::WrongKind(Es256)),
        (pem!("ed25519-pkcs8"), Ps256, KeyFault::WrongKind(Ps256)),
        (pem!("rsa-pkcs1"), Rs512, KeyFault::AlgorithmUnsupported(Rs512)),
        (pem!("rsa-pkcs8"), Hs256, KeyFault::AlgorithmUnsupported(Hs256)),
        (pem!("rsa-public"), Rs256, KeyFault::NotPem),
        (b"", Rs256, KeyFault::NotPem),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", Rs256, KeyFault::NotPem),
        (pem!("rsa-encrypted-pkcs1"), Rs256, KeyFault::Encrypted),
        (pem!("rsa-encrypted-pkcs8"), Rs256, KeyFault::Encrypted),
    ] {
        let refused = SigningKey::from_pem(text, algorithm).unwrap_err();
        assert_eq!(refused, fault);
        assert!(!refused.to_string().is_empty());
    }
    assert_eq!(
        SigningKey::generate(Algorithm::Hs256).unwrap_err(),
        KeyFault::AlgorithmUnsupported(Hs256)
    );
}

#[test]
fn a_weak_key_never_signs() {
    let refused = SigningKey::from_pem(pem!("rsa-1024"), Algorithm::Rs256).unwrap_err();
    // The library may refuse it first; it must not get through either way.
    assert!(
        matches!(
            refused,
            KeyFault::Weak(SkipReason::RsaTooSmall) | KeyFault::WrongKind(_)
        ),
        "{refused:?}"
    );
}

#[test]
fn a_token_that_no_verifier_takes_is_not_signed() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let sized = |len: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(len));
    let longest = (1..MAX_TOKEN_BYTES)
        .rev()
        .step_by(1)
        .find_map(|len| key.sign("at+jwt", &sized(len)).ok())
        .unwrap();
    assert!(longest.len() <= MAX_TOKEN_BYTES && longest.len() > MAX_TOKEN_BYTES - 4);
    assert_eq!(
        key.sign("at+jwt", &sized(MAX_TOKEN_BYTES)),
        Err(SignError::TooLarge)
    );
    assert_eq!(key.sign("at+jwt", &sized(1 << 20)), Err(SignError::TooLarge));
}

#[test]
fn the_length_of_a_token_is_known_before_it_is_signed() {
    for key in all() {
        for claims in [
            "{}".to_owned(),
            claims(NOW),
            claims(NOW) + " ",
            claims(NOW) + "  ",
        ] {
            let token = key.sign("at+jwt", &claims).unwrap();
            assert_eq!(key.length("at+jwt", &claims), Ok(token.len()), "{key:?}");
        }
        let claims = "x".repeat(MAX_TOKEN_BYTES);
        assert_eq!(key.length("at+jwt", &claims), Err(SignError::TooLarge));
    }
}

#[test]
fn nothing_private_is_printed() {
    for key in all() {
        let printed = format!("{key:?}{:?}", key.verifier());
        let secret = key.to_pkcs8().unwrap();
        let bytes = secret.expose_secret();
        let part = b64(&bytes[bytes.len() - 24..]);
        assert!(!printed.contains(&part));
        assert!(printed.contains(key.kid()));
        assert!(Key::from_jwk(key.public_jwk().as_bytes()).is_ok());
    }
}
