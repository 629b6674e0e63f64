use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pattern(kind: PathPatternKind, text: &str) -> PathPattern {
    PathPattern::parse(kind, text).unwrap()
}

fn path(text: &str) -> Path<'_> {
    Path::parse(text.as_bytes()).unwrap()
}

#[test]
fn hosts_are_exact_or_below() {
    for (text, matching, others) in [
        (
            "Api.Example.com",
            &["api.example.com", "API.EXAMPLE.COM"][..],
            &[
                "example.com",
                "x.api.example.com",
                "api.example.comx",
                "xapi.example.com",
            ][..],
        ),
        (
            "*.example.com",
            &["a.example.com", "a.b.EXAMPLE.com"],
            &[
                "example.com",
                "xexample.com",
                "xyexample.com",
                ".example.com",
                "a.example.org",
                "com",
                "",
            ],
        ),
        ("[2001:db8::1]", &["[2001:db8::1]"], &["2001:db8::1"]),
        ("[2001:DB8:0::1]", &["[2001:db8::1]"], &["[2001:db8::2]"]),
        ("192.0.2.1", &["192.0.2.1"], &["192.0.2.10"]),
    ] {
        let host = HostPattern::parse(text).unwrap();
        for name in matching {
            assert!(host.matches(name), "{text} {name}");
        }
        for name in others {
            assert!(!host.matches(name), "{text} {name}");
        }
    }
    for text in [
        "",
        "*",
        "*.",
        "a.*",
        "*.*.a",
        "a*.b",
        "https://a",
        "a:80",
        "a/",
        "a.",
        "a b",
        "é.example",
        "[::1",
        "[::1]:80",
        "[::1:2:3:4:5:6:7:8:9]",
        "a@b",
    ] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_host_is_read_without_port_and_final_dot() {
    for (value, expected) in [
        ("a.example", Some("a.example")),
        ("a.example:8080", Some("a.example")),
        ("a.example.", Some("a.example")),
        ("a.example.:80", Some("a.example")),
        ("a.example:", Some("a.example")),
        ("[::1]:80", Some("[::1]")),
        ("[::1]", Some("[::1]")),
        ("[0:0:0:0:0:0:0:1]:80", Some("[::1]")),
        ("[2001:DB8::01]", Some("[2001:db8::1]")),
        ("[::ffff:192.0.2.1]", Some("[::ffff:192.0.2.1]")),
        ("[::ffff:c000:201]", Some("[::ffff:192.0.2.1]")),
        ("[1:2:3]", None),
        ("[::1%25lo]", None),
        ("[::1]x", None),
        ("[]", None),
        ("::1", None),
        ("a:80:80", None),
        ("a:8x", None),
        ("a..", None),
        (".", None),
        ("", None),
        ("a,b", None),
        ("user@a", None),
    ] {
        assert_eq!(host(value.as_bytes()).as_deref(), expected, "{value}");
    }
    assert_eq!(host(&[b'a'; 254]), None);
    assert_eq!(host(b"\xff"), None);
}

#[test]
fn paths_are_compared_by_segments() {
    use PathPatternKind::{Exact, Glob, Prefix};

    for (kind, text, matching, others) in [
        (Exact, "/a", &["/a"][..], &["/a/", "/A", "/ab", "/"][..]),
        (Exact, "/caf%C3%A9", &["/café", "/caf%c3%a9"], &["/cafe"]),
        (Prefix, "/", &["/", "/a", "/a/b"], &[]),
        (
            Prefix,
            "/public/",
            &["/public/", "/public/x", "/public/x/y"],
            &["/public", "/publicx", "/"],
        ),
        (
            Prefix,
            "/public",
            &["/public", "/public/", "/public/x"],
            &["/publicx", "/public.x", "/", "/x/public"],
        ),
        (
            Glob,
            "/admin/**",
            &["/admin", "/admin/", "/admin/a", "/admin/a/b/"],
            &["/adminx", "/", "/x/admin"],
        ),
        (Glob, "/**", &["/", "/a", "/a/b/"], &[]),
        (Glob, "/*", &["/a", "/abc"], &["/", "/a/", "/a/b"]),
        (
            Glob,
            "/a/*/c",
            &["/a/b/c", "/a/xyz/c"],
            &["/a/c", "/a/b/b/c", "/a/b/c/", "/a/b"],
        ),
        (
            Glob,
            "/a/**/c",
            &["/a/c", "/a/b/c", "/a/b/b/c", "/a/c/c"],
            &["/a/c/b", "/c", "/a", "/a/xc"],
        ),
        (
            Glob,
            "/**/a/**/b",
            &["/a/b", "/x/a/y/z/b", "/a/a/b/b"],
            &["/b/a", "/a/x", "/a/bx"],
        ),
        (
            Glob,
            "/img/*.png",
            &["/img/a.png", "/img/.png", "/img/a.b.png"],
            &["/img/a/b.png", "/img/a.pngx"],
        ),
        (
            Glob,
            "/a*b*c",
            &["/abc", "/axbyc", "/abbc", "/abcbc"],
            &["/ac", "/acb", "/abcd"],
        ),
        (Glob, "/a*a", &["/aa", "/aba"], &["/a"]),
        (Glob, "/x%2Ay", &["/x*y"], &["/xy", "/xzy"]),
        (Glob, "/a", &["/a"], &["/a/", "/"]),
        (Glob, "/", &["/"], &["/a"]),
    ] {
        let pattern = pattern(kind, text);
        for text in matching {
            assert!(pattern.matches(&path(text)), "{pattern:?} {text}");
        }
        for text in others {
            assert!(!pattern.matches(&path(text)), "{pattern:?} {text}");
        }
    }
}

#[test]
fn a_pattern_that_could_match_nothing_is_refused() {
    use PathPatternKind::{Exact, Glob, Prefix};

    for kind in [Exact, Prefix, Glob] {
        for text in [
            "",
            "a",
            "/a//b",
            "/a/../b",
            "/%61",
            "/a?b",
            "/a;b",
            "/a b",
            "/a#b",
            "http://a/",
            "/a%2fb",
        ] {
            assert!(PathPattern::parse(kind, text).is_err(), "{kind:?} {text}");
        }
    }
    for text in ["/a**", "/**a/b", "/a/***"] {
        assert!(PathPattern::parse(Glob, text).is_err(), "{text}");
        assert!(
            PathPattern::parse(Exact, text).is_ok(),
            "{text}: a star is a character"
        );
    }
}

#[test]
fn many_stars_cost_no_time() {
    let many = pattern(PathPatternKind::Glob, &"/**/a".repeat(50));
    let long = "/a".repeat(2_000) + "/b";
    assert!(!many.matches(&path(&long)));
    let stars = pattern(PathPatternKind::Glob, &format!("/{}b", "*a".repeat(50)));
    let long = format!("/{}", "a".repeat(4_000));
    assert!(!stars.matches(&path(&long)));
}

fn claims(value: &Value) -> Claims {
    Claims::parse(value.to_string().as_bytes()).unwrap()
}

fn check(requirement: &Requirement, claims: &Claims) -> Result<(), Denial> {
    requirement.check(&Presented {
        claims,
        idp: "okta",
        token_type: TokenType::Access,
    })
}

fn text(text: &str) -> ClaimValue {
    ClaimValue::Text(text.to_owned())
}

#[test]
fn claims_are_compared_with_their_types() {
    use ValueTest::{AnyOf, Contains, Equals};

    let token = claims(&json!({
        "role": "admin", "groups": ["ops", 7, true], "level": 7, "on": true, "words": "ops dev", "float": 7.5,
        "https://x/roles": ["a"], "nested": { "role": "admin" }, "null": null, "seven": "7", "big": u64::MAX,
    }));
    for (name, test, holds) in [
        ("role", Equals(text("admin")), true),
        ("role", Equals(text("Admin")), false),
        ("role", Equals(text("admi")), false),
        ("role", Contains(text("admin")), false),
        ("role", AnyOf(vec![text("x"), text("admin")]), true),
        ("role", AnyOf(vec![text("x")]), false),
        ("groups", Contains(text("ops")), true),
        ("groups", Contains(text("op")), false),
        ("groups", Contains(ClaimValue::Integer(7)), true),
        ("groups", Contains(text("7")), false),
        ("groups", Contains(ClaimValue::Boolean(true)), true),
        ("groups", Equals(text("ops")), false),
        ("groups", AnyOf(vec![text("ops")]), false),
        ("words", Contains(text("ops")), false),
        ("level", Equals(ClaimValue::Integer(7)), true),
        ("level", Equals(text("7")), false),
        ("seven", Equals(ClaimValue::Integer(7)), false),
        ("seven", Equals(text("7")), true),
        ("float", Equals(ClaimValue::Integer(7)), false),
        ("big", Equals(ClaimValue::Integer(-1)), false),
        ("on", Equals(ClaimValue::Boolean(true)), true),
        ("on", Equals(ClaimValue::Boolean(false)), false),
        ("on", Equals(text("true")), false),
        ("https://x/roles", Contains(text("a")), true),
        ("nested.role", Equals(text("admin")), false),
        ("null", Equals(text("null")), false),
        ("absent", Equals(ClaimValue::Boolean(false)), false),
    ] {
        let requirement = Requirement {
            claims: vec![ClaimTest {
                name: name.to_owned(),
                test: test.clone(),
            }],
            ..Requirement::default()
        };
        let expected = if holds { Ok(()) } else { Err(Denial::RuleDenied) };
        assert_eq!(check(&requirement, &token), expected, "{name} {test:?}");
    }
}

#[test]
fn everything_that_is_required_must_hold() {
    let token = claims(&json!({ "aud": ["api", "other"], "scope": "read write", "role": "admin" }));
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let none = Requirement::default;
    for (requirement, expected) in [
        (none(), Ok(())),
        (
            Requirement {
                idps: list(&["x", "okta"]),
                ..none()
            },
            Ok(()),
        ),
        (
            Requirement {
                idps: list(&["x"]),
                ..none()
            },
            Err(Denial::RuleDenied),
        ),
        (
            Requirement {
                audiences: list(&["other"]),
                ..none()
            },
            Ok(()),
        ),
        (
            Requirement {
                audiences: list(&["oth"]),
                ..none()
            },
            Err(Denial::RuleDenied),
        ),
        (
            Requirement {
                all_scopes: list(&["write", "read"]),
                ..none()
            },
            Ok(()),
        ),
        (
            Requirement {
                all_scopes: list(&["read", "admin"]),
                ..none()
            },
            Err(Denial::InsufficientScope),
        ),
        (
            Requirement {
                all_scopes: list(&["rea"]),
                ..none()
            },
            Err(Denial::InsufficientScope),
        ),
        (
            Requirement {
                any_scope: list(&["admin", "read"]),
                ..none()
            },
            Ok(()),
        ),
        (
            Requirement {
                any_scope: list(&["admin"]),
                ..none()
            },
            Err(Denial::InsufficientScope),
        ),
        (
            Requirement {
                all_scopes: list(&["read"]),
                any_scope: list(&["admin"]),
                ..none()
            },
            Err(Denial::InsufficientScope),
        ),
        // What no scope could mend is said first.
        (
            Requirement {
                idps: list(&["x"]),
                all_scopes: list(&["admin"]),
                ..none()
            },
            Err(Denial::RuleDenied),
        ),
        (
            Requirement {
                token_types: vec![TokenType::Child],
                ..none()
            },
            Err(Denial::RuleDenied),
        ),
        (
            Requirement {
                token_types: vec![TokenType::Child, TokenType::Access],
                ..none()
            },
            Ok(()),
        ),
    ] {
        assert_eq!(check(&requirement, &token), expected, "{requirement:?}");
    }
}

#[test]
fn a_parent_is_admitted_by_name_only() {
    let token = claims(&json!({}));
    for (token_types, token_type, expected) in [
        (vec![], TokenType::Parent, Err(Denial::TypeRejected)),
        (vec![], TokenType::Child, Ok(())),
        (vec![], TokenType::Access, Ok(())),
        (
            vec![TokenType::Access],
            TokenType::Parent,
            Err(Denial::TypeRejected),
        ),
        (vec![TokenType::Parent], TokenType::Parent, Ok(())),
        (vec![TokenType::Parent], TokenType::Child, Err(Denial::RuleDenied)),
    ] {
        let requirement = Requirement {
            token_types,
            ..Requirement::default()
        };
        let presented = Presented {
            claims: &token,
            idp: "self",
            token_type,
        };
        assert_eq!(
            requirement.check(&presented),
            expected,
            "{requirement:?} {token_type:?}"
        );
    }
}

fn rule(host: &str, path: Option<(PathPatternKind, &str)>, methods: &[&str]) -> Rule {
    Rule {
        host: Some(host)
            .filter(|host| !host.is_empty())
            .map(|host| HostPattern::parse(host).unwrap()),
        path: path.map(|(kind, text)| pattern(kind, text)),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        outcome: Outcome::Allow,
    }
}

#[test]
fn rules_that_are_never_asked_are_found() {
    use PathPatternKind::{Exact, Glob, Prefix};

    for (first, later, hides) in [
        (
            rule("", None, &[]),
            rule("a", Some((Exact, "/x")), &["GET"]),
            true,
        ),
        (rule("a", None, &[]), rule("", None, &[]), false),
        (rule("a", None, &[]), rule("A", None, &[]), true),
        (rule("*.a", None, &[]), rule("b.a", None, &[]), true),
        (rule("*.a", None, &[]), rule("*.b.a", None, &[]), true),
        (rule("*.a", None, &[]), rule("a", None, &[]), false),
        (rule("b.a", None, &[]), rule("*.a", None, &[]), false),
        (
            rule("", Some((Prefix, "/x")), &[]),
            rule("", Some((Exact, "/x/y")), &[]),
            true,
        ),
        (
            rule("", Some((Prefix, "/x")), &[]),
            rule("", Some((Prefix, "/x/")), &[]),
            true,
        ),
        (
            rule("", Some((Prefix, "/x/")), &[]),
            rule("", Some((Prefix, "/x")), &[]),
            false,
        ),
        (
            rule("", Some((Prefix, "/")), &[]),
            rule("", Some((Glob, "/a/**")), &[]),
            true,
        ),
        (
            rule("", Some((Glob, "/a/**")), &[]),
            rule("", Some((Glob, "/a/**")), &["GET"]),
            true,
        ),
        (
            rule("", Some((Glob, "/a/*")), &[]),
            rule("", Some((Exact, "/a/b")), &[]),
            true,
        ),
        (
            rule("", Some((Glob, "/**")), &[]),
            rule("", Some((Prefix, "/a")), &[]),
            true,
        ),
        (
            rule("", Some((Exact, "/a")), &[]),
            rule("", Some((Prefix, "/a")), &[]),
            false,
        ),
        (rule("", Some((Exact, "/a")), &[]), rule("", None, &[]), false),
        (rule("", None, &["GET"]), rule("", None, &[]), false),
        (rule("", None, &["GET", "POST"]), rule("", None, &["POST"]), true),
        (rule("", None, &["GET"]), rule("", None, &["GET", "POST"]), false),
    ] {
        assert_eq!(first.hides(&later), hides, "{first:?} {later:?}");
    }
}

#[test]
fn globs_are_told_from_what_is_below_them() {
    use PathPatternKind::{Exact, Glob, Prefix};

    for (first, later, covers) in [
        ((Prefix, "/a"), (Glob, "/a/b/*"), true),
        ((Prefix, "/a"), (Glob, "/a/b*/c"), true),
        ((Prefix, "/a"), (Glob, "/a/**/c"), true),
        ((Prefix, "/a/"), (Glob, "/a/*"), true),
        ((Prefix, "/a/"), (Glob, "/a/**"), false),
        ((Prefix, "/a/"), (Glob, "/a/**/a"), false),
        ((Prefix, "/a/b"), (Glob, "/a/b*"), false),
        ((Prefix, "/a/b"), (Glob, "/a/*"), false),
        ((Prefix, "/a"), (Glob, "/**/a"), false),
        ((Prefix, "/"), (Glob, "/**/a"), true),
        ((Prefix, "/a"), (Glob, "/a"), true),
        ((Exact, "/a"), (Glob, "/a"), true),
        ((Exact, "/a"), (Glob, "/a/**"), false),
        ((Glob, "/a/*"), (Glob, "/a/b"), true),
        ((Glob, "/a/*"), (Glob, "/a/b/c"), false),
        ((Glob, "/a/*"), (Glob, "/a/%2A"), true),
        ((Glob, "/a/**"), (Prefix, "/a"), true),
        ((Glob, "/a/**"), (Glob, "/a/b/*"), true),
        ((Glob, "/a/**"), (Exact, "/a"), true),
        ((Glob, "/a*/**"), (Prefix, "/a"), false),
        ((Glob, "/**"), (Glob, "/*"), true),
    ] {
        let seen = pattern(first.0, first.1).covers(&pattern(later.0, later.1));
        assert_eq!(seen, covers, "{first:?} {later:?}");
    }
}

/// A pattern of few characters, so that it matches now and then.
fn globs() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "*", "**", "a*", "*b", "a*b", "ab"]);
    prop::collection::vec(segment, 1..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// The obvious reading of a glob, which may take its time.
fn naive(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| naive(rest, &path[skipped..])),
        ([segment, rest @ ..], [found, others @ ..]) => {
            let fits = if *segment == "*" {
                !found.is_empty()
            } else {
                star(segment.as_bytes(), found.as_bytes())
            };
            fits && naive(rest, others)
        }
        _ => false,
    }
}

fn star(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skipped| star(rest, &text[skipped..])),
        [byte, rest @ ..] => text.first() == Some(byte) && star(rest, &text[1..]),
    }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["/[ab]{0,2}(/[ab]{1,2}){0,2}/?", globs()]
}

proptest! {
    #[test]
    fn globs_mean_what_the_obvious_reading_says(
        glob in globs(),
        segments in prop::collection::vec("[ab]{1,3}", 1..6),
        slash in any::<bool>(),
    ) {
        let mut segments = segments;
        if slash {
            segments.push(String::new());
        }
        let text = format!("/{}", segments.join("/"));
        let expected = naive(
            &glob.split('/').skip(1).collect::<Vec<_>>(),
            &text.split('/').skip(1).collect::<Vec<_>>(),
        );
        prop_assert_eq!(pattern(PathPatternKind::Glob, &glob).matches(&path(&text)), expected, "{} {}", glob, text);
    }

    #[test]
    fn what_a_rule_hides_is_matched_by_it(
        kinds in (0..3_usize, 0..3_usize),
        texts in (texts(), texts()),
        asked in "/[ab]{1,2}(/[ab]{1,2}){0,3}/?",
    ) {
        let kind = |index| [PathPatternKind::Exact, PathPatternKind::Prefix, PathPatternKind::Glob][index];
        let (Ok(one), Ok(two)) = (PathPattern::parse(kind(kinds.0), &texts.0), PathPattern::parse(kind(kinds.1), &texts.1)) else {
            return Ok(());
        };
        if one.covers(&two) && two.matches(&path(&asked)) {
            prop_assert!(one.matches(&path(&asked)));
        }
    }
}
