//! Proofs of possession: the example of RFC 9449, and what attackers make of one.

use std::time::Duration;

use aws_lc_rs::digest;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenward_core::{
    Denial, Timestamp,
    claims::Confirmation,
    dpop::{MAX_ID_BYTES, MAX_PROOF_BYTES, Presented, Proof, Window, check},
    jose::{Algorithm, MAX_TOKEN_BYTES, Token},
    policy::Binding,
};

use crate::support::{EC, ED, NOW, RSA, Signer, b64, merged, now, policy, set};

const URL: &str = "https://api.example/orders/7?x=1";
const TOKEN: &str = "aaa.bbb.ccc";

fn header(signer: &Signer) -> Value {
    json!({"typ": "dpop+jwt", "alg": signer.alg.name(), "jwk": signer.jwk()})
}

fn claims() -> Value {
    let hash = digest::digest(&digest::SHA256, TOKEN.as_bytes());
    json!({"jti": "id-1", "htm": "GET", "htu": "https://api.example/orders/7", "iat": NOW, "ath": b64(hash)})
}

fn made(signer: &Signer, header_members: &Value, claim_members: &Value) -> String {
    let header = merged(header(signer), header_members);
    let claims = merged(claims(), claim_members);
    signer.raw(header.to_string().as_bytes(), claims.to_string().as_bytes())
}

fn thumbprint(signer: &Signer) -> String {
    let keys = set(&[signer.jwk()]);
    keys.usable().first().unwrap().thumbprint().to_string()
}

fn judge(proof: &str, jkt: &str) -> Result<Proof, Denial> {
    let presented = Presented {
        proof,
        method: "GET",
        url: URL,
        token: TOKEN,
    };
    check(&presented, Confirmation::Jkt(jkt), Window::default(), now())
}

/// With members of header and claims replaced.
fn outcome(header_members: &Value, claim_members: &Value) -> Result<(), Denial> {
    judge(&made(&EC, header_members, claim_members), &thumbprint(&EC)).map(|_| ())
}

/// RFC 9449 sections 6.1 and 7.1.
#[test]
fn the_example_of_the_rfc_is_accepted() {
    let proof = concat!(
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo",
        "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19",
        ".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRy",
        "ZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9",
        ".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA",
    );
    let presented = Presented {
        proof,
        method: "GET",
        url: "https://resource.example.org/protectedresource",
        token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
    };
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let made = Timestamp::from_secs(1_562_262_618);
    let judge =
        |presented: &Presented<'_>, now| check(presented, Confirmation::Jkt(jkt), Window::default(), now);
    let accepted = judge(&presented, made).unwrap();
    assert_eq!(accepted.key().to_string(), jkt);
    assert_eq!(accepted.id(), "e1j3V_bKic8-LAEB");
    assert_eq!(accepted.issued_at(), made);

    let (earliest, latest) = (made - Duration::from_secs(30), made + Duration::from_secs(300));
    for (moment, accepted) in [
        (earliest, true),
        (earliest - Duration::from_secs(1), false),
        (latest, true),
        (latest + Duration::from_secs(1), false),
    ] {
        assert_eq!(judge(&presented, moment).is_ok(), accepted, "{moment}");
    }
    for other in [
        Presented {
            method: "POST",
            ..presented
        },
        Presented {
            method: "get",
            ..presented
        },
        Presented {
            url: "https://resource.example.org/protectedresource/",
            ..presented
        },
        Presented {
            token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxu",
            ..presented
        },
    ] {
        assert_eq!(judge(&other, made), Err(Denial::DpopInvalid), "{other:?}");
    }
}

#[test]
fn every_asymmetric_algorithm_proves() {
    for alg in Algorithm::ALL.into_iter().filter(|alg| !alg.is_symmetric()) {
        let signer = Signer::new(alg);
        // An RSA signer signs with the algorithm that it was made for.
        let proof = made(&signer, &json!({}), &json!({}));
        assert!(judge(&proof, &thumbprint(&signer)).is_ok(), "{alg}");
    }
}

#[test]
fn a_header_that_is_no_proofs_is_refused() {
    let jwk = |members: &Value| json!({"jwk": merged(EC.jwk(), members)});
    assert_eq!(outcome(&json!({}), &json!({})), Ok(()));
    for members in [
        json!({"typ": "DPOP+JWT"}),
        json!({"typ": "application/dpop+jwt"}),
        json!({"x": 1}),
    ] {
        assert_eq!(outcome(&members, &json!({})), Ok(()), "{members}");
    }
    for members in [
        json!({"typ": null}),
        json!({"typ": "JWT"}),
        json!({"typ": "at+jwt"}),
        json!({"alg": null}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"jwk": null}),
        json!({"jwk": "key"}),
        json!({"jwk": [EC.jwk()]}),
        json!({"jwk": {}}),
        json!({"jwk": ED.jwk()}),
        jwk(&json!({"d": "AAAA"})),
        jwk(&json!({"k": "AAAA"})),
        jwk(&json!({"alg": "ES384"})),
        jwk(&json!({"use": "enc"})),
        jwk(&json!({"key_ops": ["sign"]})),
        jwk(&json!({"x": "AAAA"})),
        jwk(&json!({"crv": "P-384"})),
        json!({"crit": ["exp"]}),
        json!({"b64": false}),
        json!({"zip": "DEF"}),
        json!({"jku": "https://evil.example/jwks"}),
        json!({"x5u": "https://evil.example/cert"}),
    ] {
        assert_eq!(
            outcome(&members, &json!({})),
            Err(Denial::DpopInvalid),
            "{members}"
        );
    }
}

#[test]
fn a_secret_that_the_proof_brings_along_proves_nothing() {
    let signer = Signer::new(Algorithm::Hs256);
    let proof = made(&signer, &json!({}), &json!({}));
    assert_eq!(judge(&proof, &thumbprint(&EC)), Err(Denial::DpopInvalid));
}

#[test]
fn a_weak_key_proves_nothing() {
    let weak = json!({"kty": "RSA", "e": "AQAB", "n": b64([0xC7; 128])});
    let proof = made(&RSA, &json!({"jwk": weak}), &json!({}));
    assert_eq!(judge(&proof, &thumbprint(&RSA)), Err(Denial::DpopInvalid));
}

#[test]
fn claims_that_are_not_of_this_request_are_refused() {
    for members in [
        json!({"htu": "https://API.example:443/orders/%37#top"}),
        json!({"htu": "https://api.example/orders/7?other=query"}),
        json!({"iat": NOW - 300}),
        json!({"iat": NOW + 30}),
        json!({"jti": "x".repeat(MAX_ID_BYTES)}),
        json!({"exp": 1, "nonce": "n", "more": [1]}),
    ] {
        assert_eq!(outcome(&json!({}), &members), Ok(()), "{members}");
    }
    for members in [
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 1}),
        json!({"jti": "x".repeat(MAX_ID_BYTES + 1)}),
        json!({"htm": null}),
        json!({"htm": "POST"}),
        json!({"htm": "get"}),
        json!({"htm": ["GET"]}),
        json!({"htu": null}),
        json!({"htu": "http://api.example/orders/7"}),
        json!({"htu": "https://api.example/orders/8"}),
        json!({"htu": "https://evil.example/orders/7"}),
        json!({"htu": "https://api.example@evil.example/orders/7"}),
        json!({"htu": "/orders/7"}),
        json!({"iat": null}),
        json!({"iat": "1800000000"}),
        json!({"iat": NOW - 301}),
        json!({"iat": NOW + 31}),
        json!({"ath": null}),
        json!({"ath": ""}),
        json!({"ath": format!("{}=", claims()["ath"].as_str().unwrap())}),
        json!({"ath": b64([0; 32])}),
        json!({"ath": TOKEN}),
    ] {
        assert_eq!(
            outcome(&json!({}), &members),
            Err(Denial::DpopInvalid),
            "{members}"
        );
    }
}

#[test]
fn a_changed_or_oversized_proof_is_refused() {
    let jkt = thumbprint(&EC);
    let proof = made(&EC, &json!({}), &json!({}));
    let parts: Vec<_> = proof.split('.').collect();
    let changed = b64(merged(claims(), &json!({"jti": "id-2"})).to_string());
    // A key of the thief's under the honest claims, and the honest key under his signature.
    let thiefs = Signer::new(Algorithm::Es256);
    let borrowed = thiefs.raw(
        header(&EC).to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    let twice = format!("{{\"jwk\":{},{}", EC.jwk(), &header(&EC).to_string()[1..]);
    for bad in [
        format!("{}.{changed}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{proof}.x"),
        format!("{proof}, {proof}"),
        format!("{proof} "),
        String::new(),
        borrowed,
        EC.raw(twice.as_bytes(), claims().to_string().as_bytes()),
        made(&EC, &json!({"pad": "x".repeat(MAX_PROOF_BYTES)}), &json!({})),
    ] {
        assert_eq!(judge(&bad, &jkt), Err(Denial::DpopInvalid), "{bad}");
    }
    let thiefs = made(&thiefs, &json!({}), &json!({}));
    assert_eq!(judge(&thiefs, &jkt), Err(Denial::DpopBindingMismatch));
}

#[test]
fn a_token_is_bound_to_exactly_the_key_of_the_proof() {
    let proof = made(&EC, &json!({}), &json!({}));
    let presented = Presented {
        proof: &proof,
        method: "GET",
        url: URL,
        token: TOKEN,
    };
    let bound = |confirmation| check(&presented, confirmation, Window::default(), now()).map(|_| ());
    let jkt = thumbprint(&EC);
    assert_eq!(bound(Confirmation::Jkt(&jkt)), Ok(()));
    let (padded, lower) = (format!("{jkt}="), jkt.to_lowercase());
    let others = [&*padded, &jkt[1..], "", &*lower].map(Confirmation::Jkt);
    for other in others
        .into_iter()
        .chain([Confirmation::None, Confirmation::Other])
    {
        assert_eq!(bound(other), Err(Denial::DpopBindingMismatch), "{other:?}");
    }
}

#[test]
fn the_window_is_the_callers() {
    let proof = made(&EC, &json!({}), &json!({}));
    let presented = Presented {
        proof: &proof,
        method: "GET",
        url: URL,
        token: TOKEN,
    };
    let window = Window {
        max_age: Duration::from_secs(60),
        leeway: Duration::from_secs(5),
    };
    let jkt = thumbprint(&EC);
    for (secs, accepted) in [(-6, false), (-5, true), (60, true), (61, false)] {
        let now = Timestamp::from_secs(NOW + secs);
        let outcome = check(&presented, Confirmation::Jkt(&jkt), window, now);
        assert_eq!(outcome.is_ok(), accepted, "{secs}");
    }
    assert_eq!(window.memory(), Duration::from_secs(65));
}

#[test]
fn only_a_caller_that_checks_proofs_gets_a_bound_token() {
    for (cnf, expected) in [
        (json!({"jkt": "abc"}), Ok(())),
        (json!({"x5t#S256": "abc"}), Err(Denial::ClaimRejected)),
        (
            json!({"jkt": "abc", "x5t#S256": "abc"}),
            Err(Denial::ClaimRejected),
        ),
        (json!({"jkt": 1}), Err(Denial::ClaimRejected)),
    ] {
        let token = EC.token(&json!({ "cnf": cnf }));
        let token = Token::parse(&token, MAX_TOKEN_BYTES).unwrap();
        let judged = policy().validate(
            token.claims(),
            token.header(),
            now(),
            Binding::LeftToCaller,
            &mut (),
        );
        assert_eq!(judged, expected, "{cnf}");
    }
}

proptest! {
    #[test]
    fn arbitrary_proofs_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = judge(&text, "x");
        let spelled = format!("{}.{}.{}", b64(&bytes), b64(&text), b64(&bytes));
        prop_assert!(judge(&spelled, "x").is_err());
    }
}
