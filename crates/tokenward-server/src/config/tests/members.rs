//! Every member reaches the configuration, from the file and from a variable.

mod rules;

use std::{collections::BTreeSet, io::Write, os::unix::fs::PermissionsExt, time::Duration};

use super::{read, read_dev, read_with};
use tokenward_core::policy::Audiences;

use crate::config::{
    Config, Environment, Scope, SecretDigest, StoreUrl,
    record::{Member, Record, Shape},
};

/// A file that the rules for files accept.
fn private_file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o600))
        .unwrap();
    file
}

/// A certificate to trust.
const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/ca.pem");

/// The members of an IdP that stand in `idp_defaults` too: one that is not the default, and how it shows.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("audiences", "[my-api]", r#"audiences: Some(OneOf(["my-api"]))"#),
    ("algorithms", "[ES256]", "algorithms: Some({Es256})"),
    ("refresh_interval", "7200", "refresh_interval: 7200s"),
    ("refresh", "http", "refresh: Http"),
    ("cache_duration", "15s", "cache_duration: 15s"),
    ("cache_policy", "max", "cache_policy: Max"),
    ("max_keys", "0", "max_keys: 0"),
    ("truncation", "first_n", "truncation: FirstN"),
    ("required", "true", "required: true"),
    ("min_ttl", "31s", "min_ttl: 31s"),
    ("max_ttl", "2d", "max_ttl: 172800s"),
    ("refresh_early", "0", "refresh_early: 0ns"),
    ("min_refresh_interval", "1s", "min_refresh_interval: 1s"),
    ("prefetch_jitter", "1500ms", "prefetch_jitter: 1.5s"),
    ("stale_while_error", "1h", "stale_while_error: 3600s"),
    ("absent_key_grace", "0", "absent_key_grace: 0ns"),
    ("negative_cache_ttl", "5", "negative_cache_ttl: 5s"),
    ("max_response_bytes", "4096", "max_response_bytes: 4096"),
    ("max_redirects", "0", "max_redirects: 0"),
    (
        "allowed_domains",
        "[Example.com]",
        r#"allowed_domains: [AllowedHost(Domain("example.com"))]"#,
    ),
    (
        "pinned_spki",
        "['AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=']",
        "pinned_spki: [SpkiPin(AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=)]",
    ),
    ("allow_http", "true", "allow_http: true"),
    ("allow_private_addresses", "true", "allow_private_addresses: true"),
    ("strict_jwks_origin", "true", "strict_jwks_origin: true"),
    ("ca_file", CA_FILE, "ca_file: Some(ExtraRoots(1 certificates))"),
    ("retry.retries", "0", "retries: 0"),
    ("retry.initial", "1ms", "initial: 1ms"),
    ("retry.max", "5s", "max: 5s"),
    ("retry.attempt", "2s", "attempt: 2s"),
    ("retry.deadline", "9s", "deadline: 9s"),
    ("unknown_kid.budget", "4", "budget: 4"),
    ("unknown_kid.refill", "1s", "refill: 1s"),
    ("unknown_kid.negative_ttl", "1m", "negative_ttl: 60s"),
    ("leeway", "0", "leeway: 0ns"),
    ("require_exp", "false", "require_exp: false"),
    ("max_token_age", "1h", "max_token_age: Some(3600s)"),
    ("max_token_lifetime", "1d", "max_token_lifetime: Some(86400s)"),
    ("required_claims", "[sub]", r#"required_claims: ["sub"]"#),
    ("typ", "at+jwt", r#"typ: Some("at+jwt")"#),
];

const OTHERS: &[(&str, &str, &str)] = &[
    ("max_dynamic_idps", "7", "max_dynamic_idps: 7"),
    ("server.host", "127.0.0.1", "host: 127.0.0.1"),
    ("server.port", "8081", "port: 8081"),
    ("server.admin", "127.0.0.1:9191", "admin: 127.0.0.1:9191"),
    ("server.grpc", "127.0.0.1:9192", "grpc: Some(127.0.0.1:9192)"),
    ("server.metrics_on_public", "true", "metrics_on_public: true"),
    (
        "server.trusted_proxies",
        "[10.0.0.0/8]",
        "trusted_proxies: [10.0.0.0/8]",
    ),
    ("server.max_connections", "7", "max_connections: 7"),
    (
        "store.url",
        "'rediss://user:canary@h:6379/1'",
        "url: Redis(rediss://user:***@h:6379/1)",
    ),
    ("store.prefix", "blue", r#"prefix: "blue""#),
    ("store.journal", "/var/j", r#"journal: "/var/j""#),
    ("store.redis.connections", "3", "connections: 3"),
    ("store.redis.connect_timeout", "3s", "connect_timeout: 3s"),
    ("store.redis.command_timeout", "250ms", "command_timeout: 250ms"),
    ("store.redis.cache_ttl", "1h", "cache_ttl: 3600s"),
    ("store.redis.allow_eviction", "true", "allow_eviction: true"),
    ("store.redis.ca_file", CA_FILE, "ca_file: Some(Pem("),
    ("revocation.max_staleness", "7", "max_staleness: 7s"),
    ("revocation.on_stale", "allow", "on_stale: Allow"),
    (
        "allowed_domains",
        "[example.com]",
        r#"], allowed_domains: [AllowedHost(Domain("example.com"))], merged"#,
    ),
    ("merged.max_age", "60", "max_age: 60s"),
    ("merged.on_collision", "first_wins", "on_collision: FirstWins"),
    ("merged.well_known", "merged", "well_known: Merged"),
    ("authorize.default", "deny", "default: Deny"),
    ("authorize.headers", "[X-Token]", r#"headers: ["x-token"]"#),
    (
        "authorize.cookie",
        "session_token",
        r#"cookie: Some("session_token")"#,
    ),
    (
        "authorize.claim_headers",
        "{ X-User-Email: email }",
        r#"claim_headers: [("x-user-email", "email")]"#,
    ),
    ("authorize.cache_max_age", "7", "cache_max_age: 7s"),
    ("authorize.enforce_rate_limit", "true", "enforce_rate_limit: true"),
    (
        "limits.token_api.per_credential",
        "7/m",
        "per_credential: Some(Rate { count: 7, period: 60 })",
    ),
    ("limits.token_api.per_address", "off", "per_address: None"),
    ("metrics.per_token", "true", "per_token: true"),
    ("logging.level", "debug", "level: Debug"),
    ("logging.format", "text", "format: Text"),
    ("logging.requests", "false", "requests: false"),
];

/// `a.b` and a value, as YAML.
fn yaml(path: &str, value: &str) -> String {
    match path.split_once('.') {
        Some((section, member)) => format!("{section}: {{ {} }}", yaml(member, value)),
        None => format!("{path}: {value}"),
    }
}

fn paths(members: &[Member], prefix: &str, into: &mut BTreeSet<String>) {
    for member in members {
        let path = format!("{prefix}{}", member.name);
        match &member.shape {
            Shape::Section(members) => paths(members, &format!("{path}."), into),
            Shape::Sections(members) => paths(members, &format!("{path}[]."), into),
            _ => {
                into.insert(path);
            }
        }
    }
}

/// A member of the token service, a value, and what shows it.
const TOKEN_SERVICE: &[(&str, &str, &str)] = &[
    (
        "issuer",
        "'https://other.example/x'",
        "issuer: \"https://other.example/x\"",
    ),
    ("audience", "[one, two]", "audience: [\"one\", \"two\"]"),
    ("algorithm", "EdDSA", "algorithm: EdDsa"),
    ("typ", "JWT", "typ: Jwt"),
    ("generate_key", "true", "generate_key: true"),
    ("allow_plaintext_keys", "true", "allow_plaintext_keys: true"),
    ("token_lifetime", "7", "token_lifetime: 7s"),
    ("parent_lifetime", "7", "parent_lifetime: 7s"),
    ("child_lifetime", "7", "child_lifetime: 7s"),
    ("max_lifetime", "31d", "max_lifetime: 2678400s"),
    ("renew_threshold", "7", "renew_threshold: 7s"),
    ("renew_worker_interval", "7", "renew_worker_interval: 7s"),
    ("renew_reuse_window", "7", "renew_reuse_window: 7s"),
    ("rotation_interval", "91d", "rotation_interval: 7862400s"),
    ("publish_ahead", "25h", "publish_ahead: 90000s"),
];

/// A token service with these members instead of those that it needs.
fn token_service(members: &str) -> String {
    let mut text = String::from(
        "credentials: [{ name: a, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]\n\
         token_service: { ",
    );
    for (member, value) in [
        ("issuer", "'https://own.example'"),
        ("audience", "[api]"),
        (
            "key_encryption_keys",
            "[b25lIG9uZSBvbmUgb25lIG9uZSBvbmUgb25lIG9uZTE=]",
        ),
    ] {
        if !members.starts_with(&format!("{member}:")) {
            text.push_str(&format!("{member}: {value}, "));
        }
    }
    text + members + " }"
}

#[test]
fn every_member_reaches_the_configuration() {
    let mut seen = BTreeSet::new();
    let mut case = |path: String, base: &str, text: &str, shows: &str| {
        let before = format!("{:?}", read(base).unwrap());
        let after = format!(
            "{:?}",
            read(text).unwrap_or_else(|error| panic!("{path}: {error}"))
        );
        assert!(!before.contains(shows), "{path}: `{shows}` shows without it");
        assert!(
            after.contains(shows),
            "{path}: `{shows}` does not show in {after}"
        );
        assert!(seen.insert(path));
    };
    for (path, value, shows) in OTHERS {
        case((*path).to_owned(), "", &yaml(path, value), shows);
    }
    const IDP: &str = "name: one, issuer: 'https://i.example.com', url: 'https://i.example.com/keys'";
    for (path, value, shows) in SETTINGS {
        case(
            format!("idp_defaults.{path}"),
            "",
            &format!("idp_defaults: {{ {} }}", yaml(path, value)),
            shows,
        );
        let audiences = if *path == "audiences" {
            ""
        } else {
            ", audiences: any"
        };
        // The value in `idp_defaults` shows as well, so what an IdP says is looked for in its own part.
        let own = read(&format!("idps: [{{ {IDP}, {}{audiences} }}]", yaml(path, value)));
        let own = format!("{:?}", own.unwrap_or_else(|error| panic!("{path}: {error}")).idps);
        assert!(own.contains(shows), "{path}: `{shows}` does not show in {own}");
        let none = format!(
            "{:?}",
            read(&format!("idps: [{{ {IDP}, audiences: any }}]"))
                .unwrap()
                .idps
        );
        assert!(!none.contains(shows), "{path}: `{shows}` shows without it");
        let inherited = format!(
            "idp_defaults: {{ {} }}\nidps: [{{ {IDP}{audiences} }}]",
            yaml(path, value)
        );
        assert!(
            format!("{:?}", read(&inherited).unwrap().idps).contains(shows),
            "{path} is inherited"
        );
    }

    let file = private_file("cert");
    let path = file.path().display();
    let pair = format!("{{ cert: /etc/hosts, key: {path} }}");
    let server = read(&format!(
        "server: {{ tls: {pair}, admin_tls: {pair}, grpc_tls: {pair}, grpc: '127.0.0.1:1' }}"
    ));
    let server = server.unwrap().server;
    for tls in [server.tls, server.admin_tls, server.grpc_tls] {
        let tls = tls.unwrap();
        assert_eq!(
            (tls.cert.to_str(), tls.key.as_path()),
            (Some("/etc/hosts"), file.path())
        );
    }
    let idp = &read("idps: [{ name: one, issuer: i, audiences: any, url: 'https://x.example/k' }]")
        .unwrap()
        .idps[0];
    assert_eq!((idp.name.as_str(), idp.issuer.as_deref()), ("one", Some("i")));
    assert_eq!(idp.tenant, "default");
    let tenant = "idps: [{ name: one, tenant: all, url: 'https://x.example/k' }]";
    assert_eq!(read(tenant).unwrap().idps[0].tenant, "all");
    assert_eq!(
        idp.url.as_ref().map(|url| url.as_str()),
        Some("https://x.example/k")
    );

    let file = private_file("Xb7-0123456789abcdefghijklmnopqrs\n");
    let by_file = format!(
        "credentials: [{{ name: ops, secret_file: {}, scopes: ['idps:write'] }}]",
        file.path().display()
    );
    // The same as the file holds, without the line feed.
    let digest = "a851aa34578c82d26a07ffa806a41e1865cf616e4d6d3c055bfd23cecff2c323";
    let by_digest =
        format!("credentials: [{{ name: ops, secret_sha256: {digest}, scopes: ['idps:write'] }}]");
    for text in [by_file, by_digest] {
        let credential = read(&text).unwrap().credentials.remove(0);
        assert_eq!(
            (credential.name.as_str(), credential.scopes.as_slice()),
            ("ops", &[Scope::IdpsWrite][..])
        );
        assert_eq!(
            credential.digest,
            SecretDigest::of(b"Xb7-0123456789abcdefghijklmnopqrs")
        );
    }

    for (member, value, shows) in TOKEN_SERVICE {
        let found = format!(
            "{:?}",
            read(&token_service(&format!("{member}: {value}"))).unwrap()
        );
        assert!(
            found.contains(shows),
            "{member}: `{shows}` does not show in {found}"
        );
        let without = format!("{:?}", read(&token_service("")).unwrap());
        assert!(!without.contains(shows), "{member}: `{shows}` shows without it");
    }
    let key = private_file(include_str!(
        "../../../../tokenward-core/tests/it/keys/p256-pkcs8.pem"
    ));
    let public = private_file(include_str!(
        "../../../../tokenward-core/tests/it/keys/p256-public.pem"
    ));
    let other = private_file(include_str!(
        "../../../../tokenward-core/tests/it/keys/rsa-public.pem"
    ));
    let files = |public: &std::path::Path| {
        let (key, public) = (key.path().display(), public.display());
        read(&token_service(&format!(
            "private_key_file: {key}, public_key_file: {public}, algorithm: ES256"
        )))
    };
    let service = files(public.path()).unwrap().token_service.unwrap();
    assert!(service.file_key(false).unwrap().is_some());
    let mismatch = files(other.path()).unwrap_err();
    assert!(
        mismatch.contains("is not the public half of `private_key_file`"),
        "{mismatch}"
    );
    let wrong = read(&token_service(&format!(
        "private_key_file: {}",
        key.path().display()
    )))
    .unwrap_err();
    assert!(
        wrong.contains("not a private key for RS256: expected an RSA key"),
        "{wrong}"
    );
    let two = "b25lIG9uZSBvbmUgb25lIG9uZSBvbmUgb25lIG9uZTE=, dHdvIHR3byB0d28gdHdvIHR3byB0d28gdHdvIHR3bzE=";
    let keys = read(&token_service(&format!("key_encryption_keys: [{two}]"))).unwrap();
    assert_eq!(keys.token_service.unwrap().key_encryption_keys.len(), 2);

    let mut of_service = BTreeSet::new();
    paths(&Config::members(), "", &mut of_service);
    of_service.retain(|path| path.starts_with("token_service."));
    let of_files = ["private_key_file", "public_key_file", "key_encryption_keys"];
    let cases = TOKEN_SERVICE.iter().map(|(member, ..)| *member).chain(of_files);
    assert_eq!(
        of_service,
        cases.map(|member| format!("token_service.{member}")).collect()
    );

    let mut all = BTreeSet::new();
    paths(&Config::members(), "", &mut all);
    all.retain(|path| {
        ![
            "idps[].",
            "credentials[].",
            "server.tls.",
            "server.admin_tls.",
            "server.grpc_tls.",
            "token_service.",
            "authorize.rules[].",
        ]
        .iter()
        .any(|section| path.starts_with(section))
    });
    assert_eq!(
        seen, all,
        "a member without a case here, or a case without a member"
    );
    let mut of_idp = BTreeSet::new();
    paths(&Config::members(), "", &mut of_idp);
    of_idp.retain(|path| path.starts_with("idps[]."));
    let settings = SETTINGS.iter().map(|(path, ..)| *path);
    let identity = ["name", "tenant", "issuer", "url", "secret", "secret_file"];
    let expected = settings.chain(identity).map(|path| format!("idps[].{path}"));
    assert_eq!(of_idp, expected.collect());
}

#[test]
fn every_scalar_can_be_overridden_by_a_variable() {
    for (path, value, shows) in OTHERS {
        let name = format!("TOKENWARD__{}", path.to_uppercase().replace('.', "__"));
        let (name, value) = match *value {
            "{ X-User-Email: email }" => (format!("{name}__X_USER_EMAIL"), "email"),
            list if list.starts_with('[') => (format!("{name}__0"), list.trim_matches(['[', ']'])),
            scalar => (name, scalar.trim_matches('\'')),
        };
        let config = read_with("", &Environment::from([(name.as_str(), value)]));
        let config = format!("{:?}", config.unwrap_or_else(|error| panic!("{name}: {error}")));
        assert!(config.contains(shows), "{name}: `{shows}` does not show");
    }
    for (path, value, shows) in SETTINGS {
        let element = value.strip_prefix('[').map(|list| list.trim_matches(['\'', ']']));
        let path = path.to_uppercase().replace('.', "__");
        let name = format!(
            "TOKENWARD__IDPS__0__{path}{}",
            if element.is_some() { "__0" } else { "" }
        );
        let text = "idps: [{ name: a, issuer: 'https://i.example.com', audiences: any }]";
        let config = read_with(
            text,
            &Environment::from([(name.as_str(), element.unwrap_or(value))]),
        );
        let config = format!(
            "{:?}",
            config.unwrap_or_else(|error| panic!("{name}: {error}")).idps
        );
        assert!(config.contains(shows), "{name}: `{shows}` does not show");
    }
}

#[test]
fn variables_alone_give_a_token_service() {
    let key = private_file(include_str!(
        "../../../../tokenward-core/tests/it/keys/rsa-pkcs8.pem"
    ));
    let public = private_file(include_str!(
        "../../../../tokenward-core/tests/it/keys/rsa-public.pem"
    ));
    let secret = private_file("Xb7-0123456789abcdefghijklmnopqrs\n");
    let [key, public, secret] = [&key, &public, &secret].map(|file| file.path().to_str().unwrap());
    let variables = [
        ("JWT_ISSUER", "https://own.example"),
        ("JWT_AUDIENCE", "api"),
        ("PRIVATE_KEY_PATH", key),
        ("PUBLIC_KEY_PATH", public),
        ("AUTO_RENEW_THRESHOLD_SECONDS", "77"),
        ("AUTO_RENEW_WORKER_INTERVAL", "9"),
        ("TOKENWARD_ADMIN_SECRET_FILE", secret),
    ];
    let environment = Environment::from(variables);
    assert!(environment.has_overrides(), "no file is asked for");
    let service = read_with("", &environment).unwrap().token_service.unwrap();
    assert_eq!(
        (service.issuer.as_str(), service.audience.as_slice()),
        ("https://own.example", &["api".to_owned()][..])
    );
    assert_eq!(service.renew_threshold, Duration::from_secs(77));
    assert_eq!(service.renew_worker_interval, Duration::from_secs(9));
    assert!(service.file_key(false).unwrap().is_some());
}

#[test]
fn a_variable_alone_gives_the_admin_credential() {
    let file = private_file("Xb7-0123456789abcdefghijklmnopqrs\n");
    let path = file.path().to_str().unwrap();
    let environment = Environment::from([("TOKENWARD_ADMIN_SECRET_FILE", path)]);
    let ops = "credentials: [{ name: ops, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]";
    for (text, names) in [
        ("", &["admin"][..]),
        ("credentials:", &["admin"]),
        (ops, &["ops", "admin"]),
    ] {
        let credentials = read_with(text, &environment).unwrap().credentials;
        let found: Vec<_> = credentials
            .iter()
            .map(|credential| credential.name.as_str())
            .collect();
        assert_eq!(found, names, "{text}");
        let admin = credentials.last().unwrap();
        assert_eq!(admin.scopes, [Scope::Admin]);
        assert_eq!(
            admin.digest,
            SecretDigest::of(b"Xb7-0123456789abcdefghijklmnopqrs")
        );
    }
    let missing = Environment::from([("TOKENWARD_ADMIN_SECRET_FILE", "/no/such")]);
    let error = read_with("", &missing).unwrap_err();
    assert!(
        error.starts_with("TOKENWARD_ADMIN_SECRET_FILE: credentials[0].secret_file: "),
        "{error}"
    );
}

#[test]
fn an_empty_file_has_the_defaults_of_the_reference() {
    let config = read("").unwrap();
    assert_eq!(config.server.host.to_string(), "0.0.0.0");
    assert_eq!(
        (config.server.port, config.server.max_connections),
        (8080, 10_000)
    );
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:9090");
    assert_eq!(config.store.url, StoreUrl::Sqlite("./tokenward-data".into()));
    assert_eq!(config.merged.max_age, Duration::from_secs(900));
    assert_eq!(config.authorize.headers, ["authorization"]);
    let defaults = &config.idp_defaults.settings;
    assert_eq!(
        (defaults.max_keys, defaults.cache_duration),
        (10, Duration::from_secs(900))
    );
    assert!(!defaults.allow_http && !defaults.allow_private_addresses && defaults.require_exp);
    assert!(config.idps.is_empty());
}

#[test]
fn the_file_of_a_plain_aggregator_works_as_it_is() {
    let config = read(
        "server:\n  port: 8080\n  host: \"0.0.0.0\"\n\
         idps:\n  - name: auth0\n    url: https://t.auth0.com/.well-known/jwks.json\n    refresh_interval: 3600\n    \
         max_keys: 10\n    cache_duration: 900\n  - name: okta\n    url: \"https://o.okta.com/oauth2/v1/keys\"\n\
         logging:\n  level: info\n  format: json\n",
    )
    .unwrap();
    assert_eq!(
        config
            .idps
            .iter()
            .map(|idp| idp.name.as_str())
            .collect::<Vec<_>>(),
        ["auth0", "okta"]
    );
    assert!(
        config
            .idps
            .iter()
            .all(|idp| idp.issuer.is_none() && idp.settings.audiences.is_none())
    );
}

#[test]
fn an_idp_says_more_than_the_defaults() {
    let text = "idp_defaults: { allow_http: true, audiences: [shared], retry: { retries: 5, max: 9s } }\n\
                idps:\n  - { name: a, url: 'https://a.example/k', allow_http: false, retry: { max: 4s } }\n  \
                - { name: b, issuer: 'https://b.example', audiences: any }\n";
    let config = read(text).unwrap();
    let [a, b] = config.idps.as_slice() else { panic!() };
    assert!(!a.settings.allow_http && b.settings.allow_http);
    assert_eq!(
        (a.settings.retry.retries, a.settings.retry.max),
        (5, Duration::from_secs(4))
    );
    assert_eq!(a.settings.retry.initial, Duration::from_millis(250));
    assert_eq!(
        a.settings.audiences,
        Some(Audiences::OneOf(vec!["shared".into()]))
    );
    assert_eq!(b.settings.audiences, Some(Audiences::Any));
}

#[test]
fn under_dev_idps_may_be_local() {
    let text = "idps: [{ name: a, url: 'http://127.0.0.1:1/k' }, { name: b, url: 'https://b.example/k', allow_private_addresses: false }]";
    let config = read_dev(text).unwrap();
    assert_eq!(config.server.host.to_string(), "127.0.0.1");
    assert!(config.idps[0].settings.allow_http && config.idps[0].settings.allow_private_addresses);
    assert!(
        !config.idps[1].settings.allow_private_addresses,
        "what is written is obeyed"
    );
}

#[test]
fn a_secret_is_never_shown() {
    use secrecy::ExposeSecret;

    let secret = "Xb7-canary-canary-0123456789abcdefghij";
    let base = "name: a, issuer: i, audiences: any, algorithms: [HS256]";
    let inline = read(&format!("idps: [{{ {base}, secret: '{secret}' }}]")).unwrap();
    let file = private_file(&format!("{secret}\n"));
    let by_file = read(&format!(
        "idps: [{{ {base}, secret_file: {} }}]",
        file.path().display()
    ))
    .unwrap();
    for config in [inline, by_file] {
        assert_eq!(
            config.idps[0].secret.as_ref().unwrap().expose_secret(),
            secret.as_bytes()
        );
        assert!(!format!("{config:?}").contains("canary"));
    }
    for broken in [
        "secret: [X-canary]",
        "secret: canary",
        "secret: 'canary ${', url: canary",
        "secrets: canary",
    ] {
        let error = read(&format!("idps: [{{ {base}, {broken} }}]")).unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn aliases_are_followed() {
    let text = "idps:\n  - { name: a, url: 'https://a.example/k', retry: &r { retries: 7 } }\n  \
                - { name: b, url: 'https://b.example/k', retry: *r }\n";
    assert_eq!(read(text).unwrap().idps[1].settings.retry.retries, 7);
}
