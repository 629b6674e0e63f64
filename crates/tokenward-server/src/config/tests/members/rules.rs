//! Every member of a rule reaches what is judged, from the file and from a variable.

use std::collections::BTreeSet;

use super::paths;
use crate::config::{
    Config, Environment,
    record::Record as _,
    tests::{read, read_with},
};

/// A member of a rule, the rule that has it, and what of what is judged shows it.
const RULES: &[(&str, &str, &str)] = &[
    (
        "host",
        "host: '*.Example.com', deny: true",
        r#"host: Some(Below("example.com"))"#,
    ),
    (
        "path.exact",
        "path: { exact: /caf%C3%A9 }, deny: true",
        r#"path: Some(PathPattern(Exact("/café")))"#,
    ),
    (
        "path.prefix",
        "path: { prefix: /a/ }, deny: true",
        r#"path: Some(PathPattern(Prefix("/a/")))"#,
    ),
    (
        "path.glob",
        "path: { glob: '/a/*' }, deny: true",
        r#"path: Some(PathPattern(Glob([Literals(["a"]), Literals(["", ""])])))"#,
    ),
    (
        "methods",
        "methods: [GET, PURGE], deny: true",
        r#"methods: ["GET", "PURGE"]"#,
    ),
    ("allow", "allow: true", "outcome: Allow"),
    ("deny", "deny: true", "outcome: Deny"),
    (
        "require.tenant",
        "require: { tenant: other }",
        r#"tenant: Some("other")"#,
    ),
    ("require.idps", "require: { idps: [one] }", r#"idps: ["one"]"#),
    (
        "require.audiences",
        "require: { audiences: [x, y] }",
        r#"audiences: ["x", "y"]"#,
    ),
    (
        "require.scopes.all",
        "require: { scopes: { all: [x] } }",
        r#"all_scopes: ["x"]"#,
    ),
    (
        "require.scopes.any",
        "require: { scopes: { any: [x] } }",
        r#"any_scope: ["x"]"#,
    ),
    (
        "require.token_types",
        "require: { token_types: [access, child] }",
        "token_types: [Access, Child]",
    ),
    (
        "require.dpop",
        "host: a, require: { dpop: required }",
        "dpop: true",
    ),
    (
        "require.claims[].name",
        "require: { claims: [{ name: 'a.b', equals: 'true' }] }",
        r#"ClaimTest { name: "a.b", test: Equals(Text("true")) }"#,
    ),
    (
        "require.claims[].equals",
        "require: { claims: [{ name: a, equals: true }, { name: b, equals: -7 }] }",
        r#"ClaimTest { name: "a", test: Equals(Boolean(true)) }, ClaimTest { name: "b", test: Equals(Integer(-7)) }"#,
    ),
    (
        "require.claims[].contains",
        "require: { claims: [{ name: a, contains: '7' }] }",
        r#"test: Contains(Text("7"))"#,
    ),
    (
        "require.claims[].any_of",
        "require: { claims: [{ name: a, any_of: [x, 7, false] }] }",
        r#"test: AnyOf([Text("x"), Integer(7), Boolean(false)])"#,
    ),
];

#[test]
fn every_member_of_a_rule_reaches_what_is_judged() {
    let judged = |rule: &str| {
        let idps = "idps: [{ name: one, issuer: 'https://i.example', audiences: any }, { name: two, tenant: other, issuer: 'https://i.example', audiences: any }]";
        let config = read(&format!("{idps}\nauthorize: {{ rules: [{{ {rule} }}] }}"));
        format!(
            "{:?}",
            config
                .unwrap_or_else(|error| panic!("{rule}: {error}"))
                .authorize
                .rules()
        )
    };
    for (member, rule, shows) in RULES {
        let (judged, none) = (judged(rule), judged("path: { exact: /none }, require: {}"));
        assert!(
            judged.contains(shows),
            "{member}: `{shows}` does not show in {judged}"
        );
        assert!(!none.contains(shows), "{member}: `{shows}` shows without it");
    }
    let mut members = BTreeSet::new();
    paths(&Config::members(), "", &mut members);
    members.retain(|path| path.starts_with("authorize.rules[]."));
    let cases = RULES
        .iter()
        .map(|(member, ..)| format!("authorize.rules[].{member}"));
    assert_eq!(members, cases.collect());
}

#[test]
fn rules_are_set_by_variables_too() {
    let variables = [
        ("TOKENWARD__AUTHORIZE__RULES__0__HOST", "a.example"),
        ("TOKENWARD__AUTHORIZE__RULES__0__PATH__PREFIX", "/a"),
        ("TOKENWARD__AUTHORIZE__RULES__0__METHODS__0", "GET"),
        ("TOKENWARD__AUTHORIZE__RULES__0__DENY", "true"),
        ("TOKENWARD__AUTHORIZE__RULES__1__REQUIRE__SCOPES__ALL__0", "x"),
        ("TOKENWARD__AUTHORIZE__RULES__1__REQUIRE__CLAIMS__0__NAME", "role"),
        ("TOKENWARD__AUTHORIZE__RULES__1__REQUIRE__CLAIMS__0__EQUALS", "7"),
    ];
    let judged = format!(
        "{:?}",
        read_with("", &Environment::from(variables))
            .unwrap()
            .authorize
            .rules()
    );
    for shows in [
        r#"host: Some(Exact("a.example")), path: Some(PathPattern(Prefix("/a"))), methods: ["GET"], outcome: Deny"#,
        r#"all_scopes: ["x"]"#,
        r#"ClaimTest { name: "role", test: Equals(Text("7")) }"#,
    ] {
        assert!(judged.contains(shows), "{judged}");
    }
}
