//! The commands that need no server.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokenward::SystemClock;
use tokenward_core::{Clock, Timestamp};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, Leaf, TestKey, TestPki, TokenBuilder, key_set};

/// How a run of the program ended.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("standard output is JSON")
    }
}

/// Runs the program in an empty environment, in `directory` if that is given.
fn run_in(directory: Option<&TempDir>, variables: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenward"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    if let Some(directory) = directory {
        command.current_dir(directory.path());
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end without having read all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(arguments: &[&str]) -> Run {
    run_in(None, &[], arguments, "")
}

/// A directory with files in it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn now() -> Timestamp {
    SystemClock::new().wall()
}

fn token(issuer: &str) -> TokenBuilder {
    TokenBuilder::new(now())
        .issuer(issuer)
        .subject("alice")
        .audience("api")
}

// check

#[test]
fn check_says_ok_or_every_problem() {
    let files = Files::new();
    let good = files.add("good.yaml", "idps: [{ name: a, url: 'https://a.example/k' }]");
    let bad = files.add("bad.yaml", "server: { prot: 1 }\nmerged: { max_age: x }\n");
    assert_eq!(run(&["check", "--config", &good]).ends(0).out, "ok\n");
    assert_eq!(
        run(&["check", "--config", &good, "--json"]).ends(0).json(),
        json!({ "ok": true })
    );
    let problems = run(&["check", "--config", &bad]).ends(2);
    assert!(problems.err.contains(&format!(
        "{bad}:1:11: server.prot: unknown member (did you mean `port`?)"
    )));
    assert!(
        problems
            .err
            .contains(&format!("{bad}:2:20: merged.max_age: expected a duration"))
    );
    let report = run(&["check", "--config", &bad, "--json"]).ends(2).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"][0]["line"], 1);
    assert_eq!(report["problems"][0]["member"], "server.prot");
}

#[test]
fn check_finds_its_file_and_reads_the_environment() {
    let files = Files::new();
    let none = run_in(Some(&files.0), &[], &["check"], "").ends(2);
    assert!(
        none.err
            .contains("write `tokenward.yaml` in the working directory"),
        "{}",
        none.err
    );
    files.add("tokenward.yaml", "idps: []");
    run_in(Some(&files.0), &[], &["check"], "").ends(0);
    let other = files.add("other.yaml", "nonsense: 1");
    run_in(Some(&files.0), &[("TOKENWARD_CONFIG", &other)], &["check"], "").ends(2);
    run_in(Some(&files.0), &[("CONFIG_PATH", &other)], &["check"], "").ends(2);
    let port = run_in(Some(&files.0), &[("PORT", "http")], &["check"], "").ends(2);
    assert!(
        port.err.contains("PORT: server.port: expected an integer"),
        "{}",
        port.err
    );
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    run(&["no-such-command"]).ends(2);
    run(&["token", "verify", "x"]).ends(2);
    run(&["token", "verify", "x", "--jwks", "k.json", "--issuer", "i"]).ends(2);
    assert!(
        run(&["--help"])
            .ends(0)
            .out
            .contains("Exit codes: 0 ok, 1 the answer is no")
    );
    assert!(run(&["--version"]).ends(0).out.starts_with("tokenward "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&["completions", shell]).ends(0).out.contains("inspect"),
            "{shell}"
        );
    }
}

// jwks fetch

#[test]
fn a_key_set_is_fetched_and_each_key_judged() {
    let idp = IdpServer::spawn();
    let (rsa, ec) = (TestKey::rs256(0), TestKey::es256(0).with_kid("e\u{1b}[2J"));
    let encryption = rsa.jwk_with(&json!({ "kid": "enc", "use": "enc" }));
    let private = TestKey::es256(1).jwk_with(&json!({ "kid": "leaked", "d": "AAAA" }));
    let set = json!({ "keys": [rsa.jwk(), ec.jwk(), encryption, private] });
    idp.set_document(JWKS_PATH, set.to_string());
    idp.behave(
        JWKS_PATH,
        Behaviour::with_headers(&[("cache-control", "public, max-age=600")]),
    );
    let url = idp.jwks_url();
    let allowed = ["jwks", "fetch", &url, "--allow-http", "--allow-private-addresses"];

    let report = run(&[&allowed[..], &["--json"]].concat()).ends(0).json();
    assert_eq!(report["keys"], 4);
    assert_eq!(report["usable"][0]["kid"], "rs256-0");
    assert_eq!(report["usable"][0]["thumbprint"], rsa.thumbprint());
    assert_eq!(
        report["skipped"][0],
        json!({ "index": 2, "kid": "enc", "reason": "use_not_sig", "served": true })
    );
    assert_eq!(report["skipped"][1]["reason"], "private_material");
    assert_eq!(
        (&report["max_age"], &report["fresh_for"]),
        (&json!(600), &json!(600))
    );
    assert_eq!(report["cache_duration"], 600);
    let next: jiff::Timestamp = report["next_refresh"].as_str().unwrap().parse().unwrap();
    let wait = next.as_second() - now().as_secs();
    assert!(
        (290..=300).contains(&wait),
        "half of the upstream's max-age, not {wait}"
    );

    let table = run(&allowed).ends(0).out;
    assert!(table.contains("4 keys, 2 usable"), "{table}");
    assert!(table.contains("leaked") && table.contains("private_material") && table.contains("not served"));
    assert!(table.contains("cache-control: public, max-age=600"));
    assert!(
        !table.contains('\u{1b}'),
        "no colour beyond a terminal, and nothing that steers one: {table}"
    );

    idp.set_keys(&[]);
    run(&allowed).ends(1);
    idp.behave(JWKS_PATH, Behaviour::html());
    let html = run(&allowed).ends(3);
    assert!(html.err.contains("no key set"), "{}", html.err);
}

#[test]
fn a_fetch_that_is_not_allowed_names_the_flag() {
    let idp = IdpServer::spawn();
    idp.set_keys(&[&TestKey::rs256(0)]);
    let url = idp.jwks_url();
    let error = run(&["jwks", "fetch", &url, "--allow-private-addresses"])
        .ends(3)
        .err;
    assert!(
        error.contains("scheme_forbidden") && error.contains("--allow-http"),
        "{error}"
    );
    let error = run(&["jwks", "fetch", &url, "--allow-http"]).ends(3).err;
    assert!(
        error.contains("address_forbidden") && error.contains("--allow-private-addresses"),
        "{error}"
    );
    run(&["jwks", "fetch", "not-a-url"]).ends(2);
    assert_eq!(idp.hits(JWKS_PATH), 0);

    let pki = TestPki::new();
    let idp = IdpServer::spawn_tls(&pki, Leaf::Good);
    idp.set_keys(&[&TestKey::rs256(0)]);
    let url = idp.jwks_url();
    let local = ["jwks", "fetch", &url, "--allow-private-addresses"];
    let error = run(&local).ends(3).err;
    assert!(error.contains("tls") && error.contains("--ca-file"), "{error}");
    let root = pki.root_file().to_str().unwrap();
    run(&[&local[..], &["--ca-file", root]].concat()).ends(0);
    run(&[&local[..], &["--ca-file", "/no/such"]].concat()).ends(2);
}

// jws verify

#[test]
fn signatures_are_verified_with_one_key() {
    let files = Files::new();
    for alg in ["RS256", "PS384", "ES256", "EdDSA", "HS256"] {
        let key = TestKey::new(alg, 0);
        let jwk = files.add("key.json", key.with_kid("another name").jwk().to_string());
        let key = TestKey::new(alg, 0);
        let good = token("i").without_claim("exp").sign(&key);
        let payload = run(&["jws", "verify", "--jwk", &jwk, &good]).ends(0).json();
        assert_eq!(payload["sub"], "alice", "{alg}");
        let bad = tokenward_testkit::with_broken_signature(&good);
        let refused = run(&["jws", "verify", "--jwk", &jwk, &bad]).ends(1);
        assert!(
            refused.out.is_empty() && refused.err.contains("signature_invalid"),
            "{alg}: {}",
            refused.err
        );
        let other = token("i").sign(&TestKey::new(if alg == "ES256" { "RS256" } else { "ES256" }, 0));
        assert!(
            run(&["jws", "verify", "--jwk", &jwk, &other])
                .ends(1)
                .err
                .contains("alg_not_allowed")
        );
    }
}

#[test]
fn lines_of_standard_input_are_verified_up_to_the_first_bad_one() {
    let files = Files::new();
    let (one, two) = (TestKey::es256(0), TestKey::es256(1));
    let jwks = files.add("set.json", key_set(&[&one, &two]).to_string());
    let good = |key, subject| token("i").subject(subject).sign(key);
    let lines = format!("{}\n\n  {}  \n", good(&one, "first"), good(&two, "second"));
    let all = run_in(None, &[], &["jws", "verify", "--jwk", &jwks], &lines).ends(0);
    assert_eq!(all.out.lines().count(), 2);
    let lines = format!("{}\nbad\n{}\n", good(&one, "first"), good(&one, "third"));
    let some = run_in(None, &[], &["jws", "verify", "--jwk", &jwks, "-"], &lines).ends(1);
    assert!(some.out.contains("first") && !some.out.contains("third"));
    assert!(some.err.contains("line 2: token_malformed"), "{}", some.err);
    run(&["jws", "verify", "--jwk", &jwks]).ends(2);
    let unknown = token("i").sign(&TestKey::es256(2));
    assert!(
        run(&["jws", "verify", "--jwk", &jwks, &unknown])
            .ends(1)
            .err
            .contains("key_unknown")
    );
}

#[test]
fn weak_keys_and_sets_that_are_not_clear_are_refused() {
    let files = Files::new();
    let (ec, hs) = (TestKey::es256(0), TestKey::new("HS256", 0));
    let token = token("i").sign(&ec);
    let cases = [
        (
            json!({ "kty": "oct", "alg": "HS256", "k": "c2hvcnQ" }),
            "secret_too_short",
        ),
        (
            TestKey::rs256(0).jwk_with(&json!({ "n": "-AAB", "kid": null })),
            "rsa_too_small",
        ),
        (ec.jwk_with(&json!({ "d": "AAAA" })), "give the public key"),
        (
            json!({ "keys": [ec.jwk(), hs.jwk()] }),
            "mixes secrets with public keys",
        ),
        (
            json!({ "keys": [ec.jwk(), TestKey::es256(1).with_kid("es256-0").jwk()] }),
            "has the same kid",
        ),
        (json!({ "keys": [] }), "the set has no key"),
        (json!([1]), "not a JSON object"),
    ];
    for (key, message) in cases {
        let path = files.add("key.json", key.to_string());
        let refused = run(&["jws", "verify", "--jwk", &path, &token]).ends(2);
        assert!(refused.err.contains(message), "{message}: {}", refused.err);
    }
    run(&["jws", "verify", "--jwk", "/no/such", &token]).ends(2);
}

// token inspect

#[test]
fn a_token_is_shown_unverified_with_warnings() {
    let token = token("https://i.example").sign(&TestKey::es256(0));
    for run in [
        run(&["token", "inspect", &token]),
        run_in(
            None,
            &[],
            &["token", "inspect", "-"],
            &format!("Bearer {token}\n"),
        ),
    ] {
        let out = run.ends(0).out;
        assert!(
            out.contains("\"alg\": \"ES256\"") && out.contains("\"sub\": \"alice\""),
            "{out}"
        );
        assert!(
            out.contains("- nothing of this is verified") && out.contains("exp "),
            "{out}"
        );
    }
    let report = run(&["token", "inspect", &token, "--json"]).ends(0).json();
    assert_eq!(
        (&report["verified"], &report["warnings"]),
        (&json!(false), &json!([]))
    );
    for (text, message) in [
        ("a.b", "2 parts"),
        ("a.b.c.d.e", "JWE"),
        ("!.e30.x", "base64url"),
        ("e30.W10.x", "payload is not a JSON object"),
    ] {
        assert!(
            run(&["token", "inspect", text]).ends(2).err.contains(message),
            "{text}"
        );
    }
}

#[test]
fn what_is_remarkable_about_a_token_is_said() {
    let warnings =
        |token: &str| run(&["token", "inspect", token, "--json"]).ends(0).json()["warnings"].to_string();
    let key = TestKey::es256(0);
    let old = Timestamp::from_secs(1_000_000_000);
    let bare = TokenBuilder::new(old).without_claim("exp").unsigned();
    for part in [
        "not signed at all",
        "no `iss`",
        "no `aud`",
        "no `exp`",
        "no `kid`",
        "alg_not_allowed",
    ] {
        assert!(warnings(&bare).contains(part), "{part}: {}", warnings(&bare));
    }
    let cases = [
        (TokenBuilder::new(old).sign(&key), "it has expired"),
        (
            token("i").claim("nbf", 32_503_680_000_i64).sign(&key),
            "not valid yet",
        ),
        (
            token("i").claim("iat", 32_503_680_000_i64).sign(&key),
            "issued in the future",
        ),
        (
            token("i").claim("exp", 32_503_680_000_i64).sign(&key),
            "more than 30 days",
        ),
        (
            token("i").claim("exp", "tomorrow").sign(&key),
            "`exp` is not a number of seconds",
        ),
        (
            token("i").claim("cnf", json!({ "jkt": "x" })).sign(&key),
            "bound to a key",
        ),
        (
            token("i").header("jku", "https://evil.example").sign(&key),
            "`jku` brings a key",
        ),
        (
            token("i").header("crit", json!(["x"])).sign(&key),
            "`crit` changes how",
        ),
        (token("i").sign(&TestKey::new("HS256", 0)), "is symmetric"),
    ];
    for (token, message) in cases {
        assert!(
            warnings(&token).contains(message),
            "{message}: {}",
            warnings(&token)
        );
    }
}

#[test]
fn nothing_in_a_token_steers_the_terminal() {
    let hostile = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}";
    let token = token(hostile)
        .subject(hostile)
        .header("x", hostile)
        .sign(&TestKey::es256(0));
    for arguments in [
        ["token", "inspect", &token].as_slice(),
        &["token", "inspect", &token, "--json"],
    ] {
        let out = run(arguments).ends(0).out;
        assert!(
            !out.chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{out:?}"
        );
        assert!(out.contains("\\u001b") || out.contains("\\u{1b}"));
    }
}

// token verify

#[test]
fn a_token_is_verified_with_a_key_set() {
    let files = Files::new();
    let key = TestKey::es256(0);
    let jwks = files.add("set.json", key_set(&[&key]).to_string());
    let verify = |token: &str, more: &[&str]| {
        let policy = [
            "token",
            "verify",
            token,
            "--jwks",
            &jwks,
            "--issuer",
            "i",
            "--audience",
            "other",
            "--audience",
            "api",
        ];
        run(&[&policy[..], more].concat())
    };
    let good = token("i").sign(&key);
    let shown = verify(&good, &[]).ends(0).out;
    assert!(
        shown.starts_with("valid at ") && shown.contains("subject  alice"),
        "{shown}"
    );
    let report = verify(&good, &["--json"]).ends(0).json();
    assert_eq!(
        (&report["valid"], &report["claims"]["sub"]),
        (&json!(true), &json!("alice"))
    );
    assert_eq!(report["key"], key.thumbprint());
    assert!(report.get("checks").is_none());

    for (token, reason) in [
        (token("j").sign(&key), "issuer_unknown"),
        (token("i").audience("none").sign(&key), "audience_mismatch"),
        (token("i").sign(&TestKey::es256(1)), "key_unknown"),
        (
            tokenward_testkit::with_broken_signature(&good),
            "signature_invalid",
        ),
        ("x.y.z".to_owned(), "token_malformed"),
    ] {
        assert!(verify(&token, &[]).ends(1).out.starts_with(reason), "{reason}");
        let report = verify(&token, &["--json"]).ends(1).json();
        assert_eq!(
            (&report["valid"], &report["reason"]),
            (&json!(false), &json!(reason))
        );
    }

    let later = (now().as_secs() + 3_600).to_string();
    assert!(
        verify(&good, &["--at", &later])
            .ends(1)
            .out
            .starts_with("token_expired at ")
    );
    verify(&good, &["--at", "2020-01-01T00:00:00Z"]).ends(1);
    verify(&good, &["--at", "yesterday"]).ends(2);
    let explained = verify(&good, &["--at", &later, "--explain", "--json"])
        .ends(1)
        .json();
    let checks = explained["checks"].as_array().unwrap();
    let outcome = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap()["passed"].clone();
    assert_eq!(
        (outcome("signature"), outcome("exp"), outcome("aud")),
        (json!(true), json!(false), json!(true))
    );
    let table = verify(&good, &["--explain"]).ends(0).out;
    assert!(
        table.starts_with("check") && table.contains("signature"),
        "{table}"
    );
    assert!(!table.contains(&good), "the token is not echoed");
}

#[test]
fn a_token_is_verified_with_a_key_set_that_is_fetched() {
    let idp = IdpServer::spawn();
    let key = TestKey::rs256(0);
    idp.set_keys(&[&key]);
    let (url, good) = (idp.jwks_url(), token("i").sign(&key));
    let base = [
        "token",
        "verify",
        "-",
        "--jwks",
        &url,
        "--issuer",
        "i",
        "--audience",
        "api",
    ];
    assert!(
        run_in(None, &[], &base, &good)
            .ends(3)
            .err
            .contains("--allow-http")
    );
    let allowed = [&base[..], &["--allow-http", "--allow-private-addresses"]].concat();
    run_in(None, &[], &allowed, &good).ends(0);
    idp.behave(JWKS_PATH, Behaviour::status(404));
    assert!(
        run_in(None, &[], &allowed, &good)
            .ends(3)
            .err
            .contains("status_4xx")
    );
}

#[test]
fn a_token_is_verified_by_the_configuration() {
    let files = Files::new();
    let idp = IdpServer::spawn();
    let (key, hs) = (TestKey::rs256(0), TestKey::new("HS256", 0));
    idp.set_keys(&[&key]);
    let secret = files.add("secret", hs.secret().unwrap());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let config = files.add(
        "c.yaml",
        format!(
            "idp_defaults: {{ audiences: [api] }}\nidps:\n\
             - {{ name: discovered, issuer: '{base}', allow_http: true, allow_private_addresses: true }}\n\
             - {{ name: at, issuer: at, url: '{url}', allow_http: true, allow_private_addresses: true, algorithms: [RS256] }}\n\
             - {{ name: closed, issuer: closed, url: '{url}', allow_http: true }}\n\
             - {{ name: shared, issuer: shared, algorithms: [HS256], secret_file: '{secret}' }}\n\
             - {{ name: shared, tenant: blue, issuer: blue, algorithms: [HS256], secret_file: '{secret}' }}\n",
            base = idp.base(),
            url = idp.jwks_url(),
        ),
    );
    let verify = |token: &str| run(&["token", "verify", token, "--config", &config]);
    verify(&token(idp.base()).sign(&key)).ends(0);
    assert_eq!(idp.hits(tokenward_testkit::DISCOVERY_PATH), 1);
    verify(&token("at").sign(&key)).ends(0);
    assert!(
        verify(&token("at").sign(&TestKey::new("PS256", 0)))
            .ends(1)
            .out
            .starts_with("alg_not_allowed")
    );
    assert!(
        verify(&token("nobody").sign(&key))
            .ends(1)
            .out
            .starts_with("issuer_unknown")
    );
    assert!(
        verify(&token("closed").sign(&key))
            .ends(3)
            .err
            .contains("address_forbidden")
    );
    verify(&token("shared").sign(&hs)).ends(0);
    let forged = verify(&token("shared").sign(&TestKey::new("HS256", 1))).ends(1);
    assert!(forged.out.starts_with("signature_invalid"));
    let of_blue = token("blue").sign(&hs);
    assert!(verify(&of_blue).ends(1).out.starts_with("issuer_unknown"));
    run(&[
        "token", "verify", &of_blue, "--config", &config, "--tenant", "blue",
    ])
    .ends(0);
    let checks = |token: &str| {
        let report = run(&[
            "token",
            "verify",
            token,
            "--config",
            &config,
            "--explain",
            "--json",
        ])
        .json();
        let checks = report["checks"].as_array().expect("every check").clone();
        checks
            .into_iter()
            .map(|check| format!("{}: {}", check["check"].as_str().unwrap(), check["reason"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(checks("x.y.z"), [r#"format: "token_malformed""#]);
    assert_eq!(
        checks(&token("nobody").sign(&key)),
        ["format: null", r#"issuer: "issuer_unknown""#]
    );
    assert_eq!(
        checks(&token("shared").sign(&hs))[..3],
        ["format: null", "issuer: null", "algorithm: null"]
    );
    let broken = files.add("broken.yaml", "idps: 1");
    assert!(
        run(&["token", "verify", "x", "--config", &broken])
            .ends(2)
            .err
            .contains("broken.yaml:1:7")
    );
}

#[test]
fn a_key_that_the_server_drops_verifies_nothing() {
    let files = Files::new();
    let idp = IdpServer::spawn();
    let keys = [0, 1].map(TestKey::es256);
    idp.set_keys(&[&keys[0], &keys[1]]);
    let verify = |truncation: &str, key: &TestKey| {
        let config = files.add(
            "c.yaml",
            format!(
                "idps: [{{ name: a, issuer: i, url: '{}', audiences: any, allow_http: true, \
                 allow_private_addresses: true, {truncation} }}]",
                idp.jwks_url()
            ),
        );
        run(&["token", "verify", &token("i").sign(key), "--config", &config])
    };
    verify("max_keys: 2", &keys[1]).ends(0);
    verify("max_keys: 1", &keys[0]).ends(0);
    let dropped = verify("max_keys: 1", &keys[1]).ends(1);
    assert!(dropped.out.starts_with("key_unknown"), "{}", dropped.out);
}
