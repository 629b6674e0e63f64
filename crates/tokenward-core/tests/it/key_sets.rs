//! What a key set serves, keeps and selects.

use serde_json::{Value, json};
use tokenward_core::jose::{Algorithm, KeySet, MAX_KEYS, Selection, SkipReason, Truncation};

use crate::support::{EC, ED, RSA, Signer, merged, outcome, set};

fn named(signer: &Signer, kid: &str) -> Value {
    signer.jwk_with(&json!({ "kid": kid }))
}

fn kids(keys: &KeySet) -> Vec<&str> {
    keys.documents().map(|(kid, _)| kid.unwrap_or("-")).collect()
}

#[test]
fn members_are_served_as_they_were_sent() {
    let x = EC.jwk()["x"].as_str().unwrap().to_owned();
    let y = EC.jwk()["y"].as_str().unwrap().to_owned();
    let body = format!(
        "{{\n \"keys\" : [ {{ \"zeta\" : [ 1.50 , \"a b\\\" \\n\" ] ,\n\t\"y\":\"{y}\", \"x\":\"{x}\",\"kty\":\"EC\",\r\n\"crv\":\"P-256\" , \"\\u006bid\":\"é 🗝\" }} ] }}"
    );
    let keys = KeySet::parse(body.as_bytes()).unwrap();
    let expected = format!(
        "{{\"zeta\":[1.50,\"a b\\\" \\n\"],\"y\":\"{y}\",\"x\":\"{x}\",\"kty\":\"EC\",\"crv\":\"P-256\",\"\\u006bid\":\"é 🗝\"}}"
    );
    assert_eq!(
        keys.documents().collect::<Vec<_>>(),
        [(Some("é 🗝"), expected.as_str())]
    );
    assert_eq!(keys.kept_body(), format!(r#"{{"keys":[{expected}]}}"#));
}

#[test]
fn a_stored_body_gives_the_same_keys_again() {
    let keys = set(&[
        named(&EC, "a"),
        json!({"kty": "AKP", "kid": "pq", "pub": "AA"}),
        RSA.jwk_with(&json!({"kid": "weak", "e": "AQ"})),
        Signer::new(Algorithm::Es384).jwk_with(&json!({"kid": "leaked", "d": "AA"})),
        RSA.jwk_with(&json!({"kid": "enc", "use": "enc"})),
        named(&RSA, "b"),
        ED.jwk(),
    ]);
    assert_eq!(kids(&keys), ["a", "pq", "enc", "b", "-"]);
    assert_eq!(keys.skipped().len(), 4);
    assert_eq!(keys.skipped()[1].index, 2);
    let kept = KeySet::parse_kept(keys.kept_body().as_bytes()).unwrap();
    assert_eq!(format!("{:?}", kept.usable()), format!("{:?}", keys.usable()));
    assert_eq!(kept.kept_body(), keys.kept_body());
    assert_eq!(
        kept.digest(),
        keys.digest(),
        "the same set, with what is not served of it"
    );
    assert_eq!((kept.leaked(), kept.leaked().len()), (keys.leaked(), 1));
    let again = KeySet::parse(keys.kept_body().as_bytes()).unwrap();
    assert_eq!(kids(&again), kids(&keys));
    assert!(again.documents().eq(keys.documents()));
    let thumbprints = |keys: &KeySet| {
        keys.usable()
            .iter()
            .map(|key| *key.thumbprint())
            .collect::<Vec<_>>()
    };
    assert_eq!(thumbprints(&again), thumbprints(&keys));
    assert_eq!(again.skipped_count(), 2);
}

#[test]
fn what_is_dropped_to_keep_a_limit_is_kept_for_another() {
    let mut keys = five();
    let (digest, body) = (keys.digest(), keys.kept_body());
    keys.truncate(2, Truncation::FirstN, &never, &never);
    assert_eq!(keys.kept_body(), body);
    let mut kept = KeySet::parse_kept(body.as_bytes()).unwrap();
    assert_eq!(kept.digest(), digest);
    let gone = kept.truncate(2, Truncation::KeepActive, &|kid| kid == "d", &never);
    assert_eq!(kids(&kept), ["a", "d"]);
    assert_eq!(gone.kids, ["enc", "b", "c"]);
}

#[test]
fn the_digest_names_what_is_skipped_too() {
    let with = |other: Value| set(&[named(&EC, "a"), other]).digest();
    let skipped = [
        json!({"kty": "oct", "kid": "x"}),
        json!({"kty": "oct", "kid": "y"}),
        json!({"kty": "EC", "kid": "x"}),
        json!({"kty": "EC", "kid": "x", "d": "AA"}),
        named(&EC, "b"),
    ];
    for (n, one) in skipped.iter().enumerate() {
        for (m, other) in skipped.iter().enumerate() {
            assert_eq!(with(one.clone()) == with(other.clone()), n == m, "{one} {other}");
        }
    }
    assert_ne!(set(&[named(&EC, "a")]).digest(), with(skipped[0].clone()));
}

#[test]
fn a_shared_kid_is_told_apart_by_the_algorithm_alone() {
    let keys = set(&[named(&EC, "k"), named(&RSA, "k"), named(&ED, "k")]);
    for signer in [&*EC, &*RSA, &*ED] {
        assert!(
            outcome(&signer.token(&json!({})), &keys).is_ok(),
            "{}",
            signer.alg
        );
    }
    let second = Signer::new(Algorithm::Es256);
    let keys = set(&[named(&EC, "k"), named(&second, "k"), named(&RSA, "k")]);
    assert!(matches!(
        keys.select(Some("k"), Algorithm::Es256),
        Selection::Ambiguous
    ));
    assert!(matches!(
        keys.select(Some("k"), Algorithm::Rs256),
        Selection::Key(_)
    ));
    assert!(matches!(
        keys.select(Some("k"), Algorithm::EdDsa),
        Selection::Unknown
    ));
    for signer in [&EC, &second] {
        assert!(outcome(&signer.token(&json!({})), &keys).is_err());
    }
}

#[test]
fn one_key_listed_twice_is_one_key() {
    let keys = set(&[
        named(&EC, "k"),
        EC.jwk_with(&json!({"kid": "k", "alg": "ES256"})),
        named(&EC, "alias"),
    ]);
    assert!(matches!(
        keys.select(Some("k"), Algorithm::Es256),
        Selection::Key(_)
    ));
    assert!(matches!(keys.select(None, Algorithm::Es256), Selection::Key(_)));
}

fn never(_: &str) -> bool {
    false
}

/// Five served keys: `enc` is not usable.
fn five() -> KeySet {
    let key = |kid: &str| Signer::new(Algorithm::EdDsa).jwk_with(&json!({ "kid": kid }));
    set(&[
        merged(key("enc"), &json!({"use": "enc"})),
        key("a"),
        key("b"),
        key("c"),
        key("d"),
    ])
}

#[test]
fn truncation_keeps_the_active_keys() {
    for (recent, previous, max, left, dropped) in [
        ("", "", 5, "enc a b c d", ""),
        ("", "", 4, "a b c d", "enc"),
        ("", "", 2, "a b", "enc c d"),
        ("d", "", 2, "a d", "enc b c"),
        ("d", "c", 2, "c d", "enc a b"),
        ("", "b c d", 2, "b c", "enc a d"),
        ("enc", "enc", 1, "a", "enc b c d"),
    ] {
        let mut keys = five();
        let gone = keys.truncate(
            max,
            Truncation::KeepActive,
            &|kid| recent.split(' ').any(|one| one == kid),
            &|kid| previous.split(' ').any(|one| one == kid),
        );
        assert_eq!(kids(&keys).join(" "), left);
        assert_eq!(gone.kids.join(" "), dropped);
        assert_eq!(gone.count, gone.kids.len());
        let usable: Vec<_> = keys.usable().iter().filter_map(|key| key.kid()).collect();
        assert_eq!(usable.join(" "), left.trim_start_matches("enc "));
        assert_eq!(keys.original_count(), 5);
    }
}

#[test]
fn truncation_to_the_first_keeps_document_order() {
    let mut keys = five();
    let gone = keys.truncate(2, Truncation::FirstN, &|_| true, &|_| true);
    assert_eq!(kids(&keys), ["enc", "a"]);
    assert_eq!(keys.usable().len(), 1);
    assert_eq!(gone.kids, ["b", "c", "d"]);
}

#[test]
fn keys_without_kid_are_dropped_by_their_index() {
    let mut keys = set(&[json!(0), named(&EC, "a"), ED.jwk()]);
    assert!(!keys.is_whole());
    let gone = keys.truncate(1, Truncation::KeepActive, &never, &never);
    assert_eq!(gone.kids, ["#2"]);
    assert!(matches!(keys.select(None, Algorithm::EdDsa), Selection::Unknown));
}

#[test]
fn a_ceiling_holds_without_a_limit_too() {
    let unknown = |kid: usize| json!({"kty": "x", "kid": kid.to_string()});
    let mut keys = set(&(0..MAX_KEYS + 150).map(unknown).collect::<Vec<_>>());
    assert_eq!(keys.skipped()[0].reason, SkipReason::UnsupportedKty);
    assert!(keys.is_whole());
    let gone = keys.truncate(0, Truncation::KeepActive, &never, &never);
    // Of many, the first hundred are named.
    assert_eq!((gone.count, gone.kids.len()), (150, 100));
    assert_eq!(gone.kids[0], MAX_KEYS.to_string());
    assert_eq!(keys.documents().count(), MAX_KEYS);
    assert!(!keys.is_whole());
    let mut keys = set(&(0..MAX_KEYS + 5).map(unknown).collect::<Vec<_>>());
    assert_eq!(keys.truncate(5_000, Truncation::FirstN, &never, &never).count, 5);
}

#[test]
fn a_kept_key_that_was_damaged_verifies_nothing() {
    // The point is on no curve.
    let body = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","y":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"}]}"#;
    assert!(KeySet::parse(body).unwrap().usable().is_empty());
    let kept = KeySet::parse_kept(body).unwrap();
    assert_eq!(kept.usable().len(), 1);
    assert!(!kept.usable()[0].verify(Algorithm::Es256, b"", &[1; 64]));
}

#[test]
fn a_kept_set_is_judged_by_all_that_costs_little() {
    let short = "A".repeat(169);
    let bad = [
        (
            RSA.jwk_with(&json!({"n": format!("_{short}E")})),
            SkipReason::RsaTooSmall,
        ),
        (RSA.jwk_with(&json!({"e": "AQ"})), SkipReason::RsaExponent),
        (
            RSA.jwk_with(&json!({"alg": "ES256"})),
            SkipReason::AlgorithmMismatch,
        ),
        (RSA.jwk_with(&json!({"d": "AA"})), SkipReason::PrivateMaterial),
        (EC.jwk_with(&json!({"x": "AQ"})), SkipReason::CoordinateLength),
        (
            ED.jwk_with(&json!({"x": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
            SkipReason::SmallOrderPoint,
        ),
        (json!({"kty": "oct", "k": "AA"}), SkipReason::SymmetricMaterial),
    ];
    for (key, reason) in bad {
        let body = json!({ "keys": [key] }).to_string();
        let kept = KeySet::parse_kept(body.as_bytes()).unwrap();
        assert!(kept.usable().is_empty(), "{reason}");
        assert_eq!(kept.skipped()[0].reason, reason);
    }
}

#[test]
fn what_is_no_key_set_is_told_apart() {
    for (body, code) in [
        (&b"<html>"[..], "not_json"),
        (b"", "not_json"),
        (b"{\"keys\":[]", "not_json"),
        (b"{\"keys\":[]}}", "not_json"),
        (b"{\"keys\":[],\"x\":\"\xff\"}", "not_json"),
        (b"\xef\xbb\xbf{\"keys\":[]}", "not_json"),
        // Both faults: that it is no JSON comes first.
        (b"{\"keys\":[],\"keys\":[]", "not_json"),
        (b"{\"keys\":[],\"\\u006beys\":[]}", "duplicate_keys"),
        (b" [{\"keys\":[]}]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "no_keys_array"),
        (b"{\"keys\":{}}", "no_keys_array"),
    ] {
        let problem = KeySet::parse(body).unwrap_err();
        assert_eq!(problem.code(), code, "{}", body.escape_ascii());
        assert_eq!(KeySet::parse_kept(body).unwrap_err(), problem);
    }
    for body in [" {\"keys\" : [ ] }\n", "{\"x\":{\"keys\":1},\"keys\":[]}"] {
        assert!(KeySet::parse(body.as_bytes()).unwrap().usable().is_empty());
    }
}
