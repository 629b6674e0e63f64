//! Rules about claims: each reason, each member of a policy, and both sides of each limit.

use std::time::Duration;

use serde_json::{Value, json};
use tokenward_core::{
    Check, Denial, Timestamp,
    claims::{Claims, Confirmation},
    explain,
    jose::{Algorithm, AlgorithmSet},
    policy::{Audiences, Policy, PolicyBuilder},
    verify,
};

use crate::support::{AUD, EC, ISS, NOW, builder, denial, honest, merged, now, outcome};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The outcome of an honest token with other claims, under a policy.
#[track_caller]
fn under(policy: PolicyBuilder, claims: &Value) -> Result<(), Denial> {
    let policy = policy.build().unwrap();
    verify(&EC.token(claims), &EC.set(), &policy, now()).map(|_| ())
}

#[track_caller]
fn with_header(policy: PolicyBuilder, header: &Value) -> Result<(), Denial> {
    let token = EC.token_with(header, &honest());
    verify(&token, &EC.set(), &policy.build().unwrap(), now()).map(|_| ())
}

fn without(name: &str) -> Value {
    json!({ name: null })
}

/// An honest payload with one member spelled as given, null included.
fn raw(name: &str, value: &str) -> String {
    let rest = merged(honest(), &without(name)).to_string();
    EC.raw(
        br#"{"alg":"ES256","kid":"k"}"#,
        format!(r#"{{"{name}":{value},{}"#, &rest[1..]).as_bytes(),
    )
}

#[test]
fn the_issuer_is_compared_byte_for_byte() {
    for iss in [
        "https://issuer.example/",
        "https://issuer.example:443",
        "https://ISSUER.example",
        "HTTPS://issuer.example",
        "https://issuer.example.evil.example",
        "https://issuer.exampl",
        "https://issuer%2eexample",
        " https://issuer.example",
        "ttps://issuer.example",
        "https://issuer.example\n",
        "",
    ] {
        assert_eq!(
            under(builder(), &json!({ "iss": iss })),
            Err(Denial::IssuerUnknown),
            "{iss:?}"
        );
    }
    assert_eq!(under(builder(), &without("iss")), Err(Denial::IssuerUnknown));
    let decomposed = Policy::builder("https://e\u{301}.example", Audiences::Any);
    assert_eq!(
        under(decomposed, &json!({"iss": "https://é.example"})),
        Err(Denial::IssuerUnknown)
    );
}

#[test]
fn a_claim_of_the_wrong_type_is_never_an_absent_one() {
    for (name, values) in [
        ("iss", vec!["1", "null", "{}", r#"["https://issuer.example"]"#]),
        ("sub", vec!["1", "null", "true", "[]"]),
        ("jti", vec!["1", "null", "{}"]),
        (
            "aud",
            vec![
                "1",
                "null",
                "{}",
                "true",
                r#"["api",1]"#,
                r#"["api",null]"#,
                r#"[["api"]]"#,
            ],
        ),
    ] {
        for value in values {
            assert_eq!(
                denial(&raw(name, value), &EC.set()),
                Denial::TokenMalformed,
                "{name}: {value}"
            );
        }
    }
    for name in ["exp", "nbf", "iat"] {
        for value in [
            "1e400",
            "-1",
            "-0.001",
            "\"1800000000\"",
            "true",
            "null",
            "[]",
            "{}",
            "253402300800",
            "253402300799.9999",
            "9223372036854775808",
            "18446744073709551616",
            "1e300",
            "NaN",
            "Infinity",
            "0x10",
            "01",
        ] {
            let expected = if value == "253402300799.9999" && name == "exp" {
                // Within the year 9999, and kept to the millisecond.
                assert!(outcome(&raw(name, value), &EC.set()).is_ok());
                continue;
            } else if value == "253402300799.9999" {
                Denial::TokenNotYetValid
            } else {
                Denial::TokenMalformed
            };
            assert_eq!(denial(&raw(name, value), &EC.set()), expected, "{name}: {value}");
        }
    }
    // They are malformed whether the policy asks for them or not.
    let lax = Policy::builder(ISS, Audiences::Any)
        .allow_missing_exp()
        .build()
        .unwrap();
    for (name, value) in [("exp", "null"), ("aud", "5")] {
        let denial = verify(&raw(name, value), &EC.set(), &lax, now()).unwrap_err();
        assert_eq!(denial, Denial::TokenMalformed);
    }
}

#[test]
fn a_token_expires() {
    for (exp, leeway, expected) in [
        (NOW + 1, 0, Ok(())),
        (NOW, 0, Err(Denial::TokenExpired)),
        (NOW - 1, 0, Err(Denial::TokenExpired)),
        (NOW - 59, 60, Ok(())),
        (NOW - 60, 60, Err(Denial::TokenExpired)),
        (NOW - 61, 60, Err(Denial::TokenExpired)),
        (NOW - 299, 300, Ok(())),
        (0, 300, Err(Denial::TokenExpired)),
        (253_402_300_799, 300, Ok(())),
    ] {
        assert_eq!(
            under(builder().leeway(secs(leeway)), &json!({ "exp": exp })),
            expected,
            "{exp}"
        );
    }
    assert_eq!(under(builder(), &json!({ "exp": NOW - 59 })), Ok(()));
    assert_eq!(
        under(builder(), &json!({ "exp": NOW - 61 })),
        Err(Denial::TokenExpired)
    );
}

#[test]
fn fractions_of_seconds_are_kept() {
    let tight = || builder().leeway(secs(0));
    assert_eq!(under(tight(), &json!({ "exp": NOW as f64 + 0.002 })), Ok(()));
    assert_eq!(
        under(tight(), &json!({ "exp": NOW as f64 - 0.5 })),
        Err(Denial::TokenExpired)
    );
    assert_eq!(
        under(tight(), &json!({ "nbf": NOW as f64 + 0.5 })),
        Err(Denial::TokenNotYetValid)
    );
    let claims = Claims::parse(br#"{"exp":1.75,"nbf":1e3,"iat":0.0019}"#).unwrap();
    assert_eq!(claims.expires_at(), Some(Timestamp::from_millis(1750)));
    assert_eq!(claims.not_before(), Some(Timestamp::from_secs(1000)));
    assert_eq!(claims.issued_at(), Some(Timestamp::from_millis(1)));
}

#[test]
fn exp_is_required_unless_waived() {
    assert_eq!(under(builder(), &without("exp")), Err(Denial::ClaimMissing));
    assert_eq!(under(builder().allow_missing_exp(), &without("exp")), Ok(()));
    assert_eq!(
        under(builder().allow_missing_exp(), &json!({ "exp": NOW - 61 })),
        Err(Denial::TokenExpired)
    );
}

#[test]
fn a_token_is_not_valid_before_its_time() {
    for name in ["nbf", "iat"] {
        assert_eq!(under(builder(), &json!({ name: NOW + 60 })), Ok(()), "{name}");
        assert_eq!(
            under(builder(), &json!({ name: NOW + 61 })),
            Err(Denial::TokenNotYetValid),
            "{name}"
        );
        assert_eq!(under(builder(), &without(name)), Ok(()), "{name}");
        let none = builder().leeway(secs(0));
        assert_eq!(
            under(none, &json!({ name: NOW + 1 })),
            Err(Denial::TokenNotYetValid),
            "{name}"
        );
    }
}

#[test]
fn arithmetic_at_the_ends_of_time_does_not_wrap() {
    let policy = builder()
        .leeway(secs(300))
        .max_token_age(Duration::MAX)
        .max_token_lifetime(Duration::MAX)
        .build()
        .unwrap();
    let token = EC.token(&json!({"iat": 0, "exp": 253_402_300_799_i64}));
    let at = |millis| verify(&token, &EC.set(), &policy, Timestamp::from_millis(millis)).map(|_| ());
    assert_eq!(at(i64::MAX), Err(Denial::TokenExpired));
    assert_eq!(at(i64::MIN), Err(Denial::TokenNotYetValid));
    assert_eq!(at(0), Ok(()));
}

#[test]
fn the_age_can_be_limited() {
    let limit = || builder().max_token_age(secs(100));
    assert_eq!(under(limit(), &json!({ "iat": NOW - 160 })), Ok(()));
    assert_eq!(
        under(limit(), &json!({ "iat": NOW - 161 })),
        Err(Denial::TokenTooOld)
    );
    assert_eq!(under(limit(), &without("iat")), Err(Denial::ClaimMissing));
    assert_eq!(under(builder(), &json!({ "iat": 0 })), Ok(()));
}

#[test]
fn the_lifetime_can_be_limited() {
    let limit = || builder().max_token_lifetime(secs(610));
    assert_eq!(under(limit(), &json!({})), Ok(()));
    assert_eq!(
        under(limit(), &json!({ "exp": NOW + 601 })),
        Err(Denial::ClaimRejected)
    );
    // Without `iat` it counts from now.
    let (at, beyond) = (
        json!({ "iat": null, "exp": NOW + 610 }),
        json!({ "iat": null, "exp": NOW + 611 }),
    );
    assert_eq!(under(limit(), &at), Ok(()));
    assert_eq!(under(limit(), &beyond), Err(Denial::ClaimRejected));
    assert_eq!(
        under(limit().allow_missing_exp(), &without("exp")),
        Err(Denial::ClaimMissing)
    );
    assert_eq!(
        under(builder(), &json!({ "exp": NOW + 3_155_760_000_i64 })),
        Ok(())
    );
}

#[test]
fn one_audience_must_match_exactly() {
    for aud in [json!(AUD), json!(["x", AUD]), json!([AUD]), json!(["other"])] {
        assert_eq!(under(builder(), &json!({ "aud": aud })), Ok(()), "{aud}");
    }
    for aud in [
        json!("x"),
        json!([]),
        json!(["x", "y"]),
        json!(""),
        json!("API"),
        json!("api "),
        json!("api,other"),
    ] {
        assert_eq!(
            under(builder(), &json!({ "aud": aud })),
            Err(Denial::AudienceMismatch),
            "{aud}"
        );
    }
    assert_eq!(under(builder(), &without("aud")), Err(Denial::ClaimMissing));
    for aud in [json!(null), json!("x"), json!([])] {
        let any = Policy::builder(ISS, Audiences::Any);
        assert_eq!(under(any, &json!({ "aud": aud })), Ok(()), "{aud}");
    }
}

#[test]
fn tokens_of_other_uses_are_refused_by_their_type() {
    for typ in [
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "parent+jwt",
        "statuslist+jwt",
        "client-authentication+jwt",
        "oauth-authz-req+jwt",
        "DPoP+JWT",
        "application/logout+jwt",
        "Application/Secevent+JWT",
        "logout+jwt;v=1",
        " parent+jwt ",
    ] {
        assert_eq!(
            with_header(builder(), &json!({ "typ": typ })),
            Err(Denial::TypeRejected),
            "{typ}"
        );
    }
    for typ in [
        json!(null),
        json!("JWT"),
        json!("at+jwt"),
        json!("application/at+jwt"),
        json!("custom"),
    ] {
        assert_eq!(with_header(builder(), &json!({ "typ": typ })), Ok(()), "{typ}");
    }
    for typ in ["1", "null", "[]", "{}"] {
        let header = format!(r#"{{"alg":"ES256","kid":"k","typ":{typ}}}"#);
        let token = EC.raw(header.as_bytes(), honest().to_string().as_bytes());
        assert_eq!(denial(&token, &EC.set()), Denial::TokenMalformed, "{typ}");
    }
}

#[test]
fn one_type_can_be_demanded() {
    for wanted in ["at+jwt", "application/AT+JWT"] {
        for typ in [
            "at+jwt",
            "AT+jwt",
            "application/at+jwt",
            "APPLICATION/at+jwt",
            "at+jwt; a=b",
        ] {
            assert_eq!(
                with_header(builder().typ(wanted), &json!({ "typ": typ })),
                Ok(()),
                "{typ}"
            );
        }
        for typ in [
            json!(null),
            json!("JWT"),
            json!("xat+jwt"),
            json!("text/at+jwt"),
            json!("at+jwtx"),
            json!(""),
        ] {
            assert_eq!(
                with_header(builder().typ(wanted), &json!({ "typ": typ })),
                Err(Denial::TypeRejected),
                "{typ}"
            );
        }
    }
    // A type that is refused by default can be asked for by name.
    assert_eq!(
        with_header(builder().typ("parent+jwt"), &json!({"typ": "parent+jwt"})),
        Ok(())
    );
}

#[test]
fn claims_can_be_required() {
    let policy = || builder().required_claims(["tenant", "sub"]);
    assert_eq!(under(policy(), &json!({"tenant": 1})), Ok(()));
    assert_eq!(under(policy(), &json!({"tenant": ""})), Ok(()));
    assert_eq!(under(policy(), &json!({})), Err(Denial::ClaimMissing));
    assert_eq!(
        under(policy(), &json!({"tenant": 1, "sub": null})),
        Err(Denial::ClaimMissing)
    );
    let token = EC.token_with(&json!({}), &merged(json!({"tenant": Value::Null}), &honest()));
    let policy = policy().build().unwrap();
    assert_eq!(
        verify(&token, &EC.set(), &policy, now()).unwrap_err(),
        Denial::ClaimMissing
    );
}

#[test]
fn the_authorized_party_can_be_demanded() {
    let policy = || builder().azp(["web", "app"]);
    assert_eq!(under(policy(), &json!({"azp": "app"})), Ok(()));
    assert_eq!(under(policy(), &json!({"azp": "ap"})), Err(Denial::ClaimRejected));
    assert_eq!(
        under(policy(), &json!({"azp": ["app"]})),
        Err(Denial::ClaimRejected)
    );
    assert_eq!(under(policy(), &json!({})), Err(Denial::ClaimMissing));
    assert_eq!(under(builder(), &json!({"azp": 1})), Ok(()));
}

#[test]
fn a_bound_token_is_no_bearer_token() {
    for (cnf, expected) in [
        (r#"{"jkt":"abc"}"#, Denial::DpopMissing),
        (r#"{"x5t#S256":"abc"}"#, Denial::ClaimRejected),
        (r#"{"jkt":"abc","x5t#S256":"abc"}"#, Denial::ClaimRejected),
        (r#"{"jkt":1}"#, Denial::ClaimRejected),
        (r#"{"jwk":{}}"#, Denial::ClaimRejected),
        ("{}", Denial::ClaimRejected),
        ("null", Denial::ClaimRejected),
        (r#""jkt""#, Denial::ClaimRejected),
    ] {
        assert_eq!(denial(&raw("cnf", cnf), &EC.set()), expected, "{cnf}");
    }
    let claims = Claims::parse(br#"{"cnf":{"jkt":"abc"}}"#).unwrap();
    assert_eq!(claims.confirmation(), Confirmation::Jkt("abc"));
    assert_eq!(Claims::parse(b"{}").unwrap().confirmation(), Confirmation::None);
}

#[test]
fn scopes_are_whole_words_of_the_right_type() {
    for (payload, expected) in [
        (r#"{"scope":"admin read"}"#, "admin,read"),
        (r#"{"scope":"  read  admin "}"#, "read,admin"),
        (r#"{"scope":"nonadmin"}"#, "nonadmin"),
        (r#"{"scope":""}"#, ""),
        (r#"{"scope":["admin"]}"#, ""),
        (r#"{"scope":{"admin":true}}"#, ""),
        (r#"{"scope":null,"scp":["admin"]}"#, ""),
        (r#"{"scope":"a","scp":["b"]}"#, "a"),
        (r#"{"scp":["a b","c"]}"#, "a b,c"),
        (r#"{"scp":"a b"}"#, "a,b"),
        (r#"{"scp":["a",1]}"#, ""),
        (r#"{"scp":5}"#, ""),
        (r#"{"scope":"a\tb"}"#, "a\tb"),
        ("{}", ""),
    ] {
        let claims = Claims::parse(payload.as_bytes()).unwrap();
        assert_eq!(
            claims.scopes().collect::<Vec<_>>().join(","),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn scopes_are_one_text_only_where_it_grants_the_same() {
    for (payload, expected) in [
        (r#"{"scope":"  read  admin "}"#, Some("read admin")),
        (r#"{"scp":["a","b"]}"#, Some("a b")),
        (r#"{"scp":["read admin"]}"#, None),
        (r#"{"scp":["a",""]}"#, None),
        (r#"{"scope":""}"#, None),
        ("{}", None),
    ] {
        let claims = Claims::parse(payload.as_bytes()).unwrap();
        assert_eq!(claims.scope().as_deref(), expected, "{payload}");
    }
}

#[test]
fn an_explanation_lists_every_check_in_order() {
    let policy = builder()
        .max_token_age(secs(100))
        .max_token_lifetime(secs(100))
        .required_claims(["tenant"])
        .azp(["web"])
        .build()
        .unwrap();
    let token = EC.token(&json!({"exp": NOW - 100, "aud": "hidden-audience", "azp": "hidden-party"}));
    let mut trace: Vec<Check> = Vec::new();
    let denial = explain(&token, &EC.set(), &policy, now(), &mut trace).unwrap_err();
    assert_eq!(denial, Denial::TokenExpired);
    let lines: Vec<_> = trace
        .iter()
        .map(|check| (check.name, check.outcome.err().map_or("ok", Denial::code)))
        .collect();
    assert_eq!(
        lines,
        [
            ("format", "ok"),
            ("issuer", "ok"),
            ("algorithm", "ok"),
            ("key", "ok"),
            ("signature", "ok"),
            ("typ", "ok"),
            ("exp", "token_expired"),
            ("nbf", "ok"),
            ("iat", "ok"),
            ("max_token_age", "ok"),
            ("max_token_lifetime", "ok"),
            ("aud", "audience_mismatch"),
            ("azp", "claim_rejected"),
            ("required_claims", "claim_missing"),
            ("cnf", "ok"),
        ]
    );
    assert!(trace[6].note.contains("2027-01-15T07:58:20Z") && trace[6].note.contains("2027-01-15T08:00:00Z"));
    let notes: String = trace.iter().map(|check| check.note.as_str()).collect();
    assert!(!notes.contains("hidden") && !notes.contains("alice"), "{notes}");
}

#[test]
fn an_explanation_stops_where_there_is_nothing_left_to_check() {
    let names = |token: &str, keys: &_| {
        let mut trace: Vec<Check> = Vec::new();
        let _ = explain(token, keys, &builder().build().unwrap(), now(), &mut trace);
        trace.iter().map(|check| check.name).collect::<Vec<_>>()
    };
    assert_eq!(names("x", &EC.set()), ["format"]);
    assert_eq!(
        names(&EC.token(&json!({"iss": "x"})), &EC.set()),
        ["format", "issuer"]
    );
    assert_eq!(
        names(&EC.token(&json!({})), &crate::support::set(&[])).last(),
        Some(&"key")
    );
    let honest = EC.token(&json!({}));
    let forged = format!("{}.", honest.rsplit_once('.').unwrap().0);
    assert_eq!(names(&forged, &EC.set()).last(), Some(&"signature"));
}

#[test]
fn a_policy_names_what_is_wrong_with_it() {
    let hs: AlgorithmSet = [Algorithm::Hs256, Algorithm::Rs256].into_iter().collect();
    let error = Policy::builder("", Audiences::OneOf(vec![]))
        .algorithms(hs)
        .leeway(secs(301))
        .max_token_age(secs(0))
        .max_token_lifetime(secs(0))
        .required_claims([""])
        .typ("application/")
        .azp([""])
        .build()
        .unwrap_err();
    let members: Vec<_> = error.problems().iter().map(|problem| problem.member).collect();
    assert_eq!(
        members,
        [
            "issuer",
            "audiences",
            "algorithms",
            "leeway",
            "max_token_age",
            "max_token_lifetime",
            "required_claims",
            "typ",
            "azp"
        ]
    );
    assert!(error.to_string().contains("`leeway` is over 300 s"), "{error}");
    let error = Policy::builder(ISS, Audiences::OneOf(vec![String::new()]))
        .algorithms(AlgorithmSet::EMPTY)
        .build()
        .unwrap_err();
    assert_eq!(error.problems().len(), 2);
    assert!(builder().leeway(secs(300)).build().is_ok());
}

#[test]
fn the_time_that_claims_hold_for_is_that_in_which_they_pass() {
    let policies = || {
        [
            builder(),
            builder().max_token_age(secs(100)),
            builder().leeway(secs(7)).max_token_age(secs(300)),
        ]
    };
    for claims in [
        json!({}),
        json!({"exp": NOW + 50}),
        json!({"exp": NOW + 50, "iat": NOW - 40}),
        json!({"exp": NOW + 5_000, "iat": NOW + 10}),
        json!({"exp": NOW + 5_000, "iat": NOW - 200, "nbf": NOW + 30}),
        json!({"exp": NOW + 5_000, "iat": NOW - 90, "nbf": NOW - 30}),
    ] {
        let payload = merged(honest(), &claims).to_string();
        let parsed = Claims::parse(payload.as_bytes()).unwrap();
        for policy in policies() {
            let policy = policy.build().unwrap();
            let (from, until) = policy.validity(&parsed);
            let token = EC.token(&claims);
            for second in NOW - 400..NOW + 600 {
                let at = Timestamp::from_secs(second);
                let passes = verify(&token, &EC.set(), &policy, at).is_ok();
                let holds = from <= at && at < until;
                // In the last instant it may pass and not hold; never the other way about.
                assert!(
                    passes == holds || passes && at == until,
                    "{claims} at {}",
                    second - NOW
                );
            }
        }
    }
}
