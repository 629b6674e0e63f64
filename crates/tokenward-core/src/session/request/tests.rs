use serde_json::json;

use super::*;

const LIFETIMES: Lifetimes = Lifetimes {
    token: Duration::from_secs(3_600),
    parent: Duration::from_secs(2_592_000),
    child: Duration::from_secs(900),
    max: Duration::from_secs(2_592_000),
};

fn audience() -> Vec<String> {
    vec!["my-api".to_owned()]
}

fn token(body: &str) -> Result<TokenRequest, RequestFault> {
    TokenRequest::parse(body.as_bytes(), &LIFETIMES, &audience())
}

fn pair(body: &str) -> Result<PairRequest, RequestFault> {
    PairRequest::parse(body.as_bytes(), &LIFETIMES, &audience())
}

/// The member that a fault of a body with these members besides `user_id` names.
fn blamed(members: &str) -> String {
    let fault = token(&format!(r#"{{"user_id":"a",{members}}}"#)).unwrap_err();
    fault.member().unwrap_or("-").to_owned()
}

#[test]
fn defaults_are_filled_in() {
    let request = token(r#"{"user_id":"alice"}"#).unwrap();
    let profile = &request.profile;
    assert_eq!(
        (profile.user_id.as_str(), profile.network.as_str()),
        ("alice", "default")
    );
    assert_eq!((profile.rate_limit, request.lifetime), (100, 3_600));
    assert_eq!((profile.scope.as_deref(), &profile.audience), (None, &audience()));
    let request = pair(r#"{"user_id":"alice"}"#).unwrap();
    assert_eq!(
        (request.parent_lifetime, request.child_lifetime),
        (2_592_000, 900)
    );
    assert_eq!((request.include_child, request.auto_renew), (false, true));
}

#[test]
fn everything_that_is_asked_for_is_taken() {
    let request = token(
        r#"{"user_id":"Ünal 7","network":"n","rate_limit":5,"expires_in":60,"scope":"read write","audience":["a","b"],
            "claims":{"email":"x@y","nested":{"iss":1}}}"#,
    )
    .unwrap();
    let profile = request.profile;
    assert_eq!(
        (profile.user_id.as_str(), profile.network.as_str()),
        ("Ünal 7", "n")
    );
    assert_eq!((profile.rate_limit, request.lifetime), (5, 60));
    assert_eq!(profile.scope.as_deref(), Some("read write"));
    assert_eq!(profile.audience, ["a", "b"]);
    assert_eq!(profile.claims["nested"], json!({"iss": 1}));
    let one = token(r#"{"user_id":"a","audience":"x"}"#).unwrap();
    assert_eq!(one.profile.audience, ["x"]);
    let request = pair(
        r#"{"user_id":"a","parent_expires_in":100,"child_expires_in":10,"include_child":true,"auto_renew":false}"#,
    )
    .unwrap();
    assert_eq!((request.parent_lifetime, request.child_lifetime), (100, 10));
    assert_eq!((request.include_child, request.auto_renew), (true, false));
}

#[test]
fn lifetimes_have_two_spellings_that_must_agree() {
    let lifetime =
        |members: &str| token(&format!(r#"{{"user_id":"a",{members}}}"#)).map(|request| request.lifetime);
    assert_eq!(lifetime(r#""expiry_days":2"#).unwrap(), 172_800);
    assert_eq!(lifetime(r#""expiry_days":1,"expires_in":86400"#).unwrap(), 86_400);
    assert_eq!(lifetime(r#""expires_in":2592000"#).unwrap(), 2_592_000);
    for members in [
        r#""expires_in":0"#,
        r#""expires_in":-1"#,
        r#""expires_in":1.5"#,
        r#""expires_in":1.0"#,
        r#""expires_in":2592001"#,
        r#""expires_in":1e99"#,
        r#""expires_in":18446744073709551615"#,
        r#""expires_in":18446744073709551616"#,
        r#""expires_in":"60""#,
        r#""expires_in":null"#,
        r#""expires_in":true"#,
    ] {
        assert_eq!(blamed(members), "expires_in", "{members}");
    }
    for members in [
        r#""expiry_days":0"#,
        r#""expiry_days":31"#,
        r#""expiry_days":213503982334602"#,
        r#""expiry_days":1,"expires_in":86399"#,
    ] {
        assert_eq!(blamed(members), "expiry_days", "{members}");
    }
    for (body, member) in [
        (
            r#"{"user_id":"a","parent_expiry_hours":0}"#,
            "parent_expiry_hours",
        ),
        (
            r#"{"user_id":"a","parent_expiry_hours":721}"#,
            "parent_expiry_hours",
        ),
        (
            r#"{"user_id":"a","parent_expires_in":5,"parent_expiry_hours":1}"#,
            "parent_expiry_hours",
        ),
        (r#"{"user_id":"a","child_expires_in":0}"#, "child_expires_in"),
        (
            r#"{"user_id":"a","child_expires_in":2592001}"#,
            "child_expires_in",
        ),
    ] {
        assert_eq!(pair(body).unwrap_err().member(), Some(member), "{body}");
    }
    assert_eq!(
        pair(r#"{"user_id":"a","parent_expiry_hours":720}"#)
            .unwrap()
            .parent_lifetime,
        2_592_000
    );
}

#[test]
fn each_fault_names_its_member() {
    let long = "x".repeat(257);
    for (members, member) in [
        (r#""network":"""#.to_owned(), "network"),
        (r#""network":7"#.to_owned(), "network"),
        (format!(r#""network":"{long}""#), "network"),
        (r#""rate_limit":0"#.to_owned(), "rate_limit"),
        (r#""rate_limit":-5"#.to_owned(), "rate_limit"),
        (r#""rate_limit":1.5"#.to_owned(), "rate_limit"),
        (r#""rate_limit":1000001"#.to_owned(), "rate_limit"),
        (r#""scope":"a  b""#.to_owned(), "scope"),
        (r#""scope":" a""#.to_owned(), "scope"),
        (r#""scope":"""#.to_owned(), "scope"),
        (r#""scope":"a\"b""#.to_owned(), "scope"),
        (r#""scope":["a"]"#.to_owned(), "scope"),
        (r#""audience":"""#.to_owned(), "audience"),
        (r#""audience":[]"#.to_owned(), "audience"),
        (r#""audience":["a","a"]"#.to_owned(), "audience"),
        (r#""audience":["a",7]"#.to_owned(), "audience"),
        (
            format!(
                r#""audience":{}"#,
                json!((0..17).map(|n| n.to_string()).collect::<Vec<_>>())
            ),
            "audience",
        ),
        (r#""claims":[]"#.to_owned(), "claims"),
        (r#""claims":{"iss":"me"}"#.to_owned(), "claims.iss"),
        (r#""claims":{"cnf":{}}"#.to_owned(), "claims.cnf"),
        (r#""claims":{"a":1,"a":2}"#.to_owned(), "a"),
        (r#""expire_in":60"#.to_owned(), "expire_in"),
        (r#""include_child":true"#.to_owned(), "include_child"),
        (r#""user_id":"b""#.to_owned(), "user_id"),
    ] {
        assert_eq!(blamed(&members), member, "{members}");
    }
    for body in [
        r#"{}"#,
        r#"{"user_id":""}"#,
        r#"{"user_id":7}"#,
        r#"{"user_id":"a\u0007"}"#,
        r#"{"user_id":"a\u202eb"}"#,
        r#"{"user_id":" a"}"#,
    ] {
        assert_eq!(token(body).unwrap_err().member(), Some("user_id"), "{body}");
    }
    assert_eq!(
        token(&format!(r#"{{"user_id":"{long}"}}"#)).unwrap_err().member(),
        Some("user_id")
    );
    for body in ["", "[]", "null", "{", r#"{"user_id":"a"} x"#] {
        let fault = token(body).unwrap_err();
        assert_eq!(fault.member(), None, "{body}");
        assert!(!fault.to_string().is_empty());
    }
    for (member, body) in [
        ("include_child", r#"{"user_id":"a","include_child":1}"#),
        ("auto_renew", r#"{"user_id":"a","auto_renew":"no"}"#),
        ("expires_in", r#"{"user_id":"a","expires_in":1}"#),
    ] {
        assert_eq!(pair(body).unwrap_err().member(), Some(member), "{body}");
    }
}

#[test]
fn every_reserved_name_is_refused() {
    for name in RESERVED {
        let expected = format!("claims.{name}");
        assert_eq!(blamed(&format!(r#""claims":{{"{name}":1}}"#)), expected);
    }
}

#[test]
fn no_claim_has_a_name_of_what_introspection_tells() {
    for name in [
        "scope",
        "client_id",
        "username",
        "token_type",
        "exp",
        "iat",
        "nbf",
        "sub",
        "aud",
        "iss",
        "jti",
    ] {
        let expected = format!("claims.{name}");
        assert_eq!(blamed(&format!(r#""claims":{{"{name}":1}}"#)), expected);
    }
}

#[test]
fn a_hostile_name_is_not_repeated_as_it_is() {
    let name = "<script>`\u{202e}".to_owned() + &"y".repeat(500);
    let fault = token(&json!({"user_id": "a", name: 1}).to_string()).unwrap_err();
    assert!(fault.to_string().len() < 140 && fault.to_string().is_ascii());
}
