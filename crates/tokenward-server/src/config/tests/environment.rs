//! Variables in the file's text, and variables that override members.

use super::{read, read_with};
use crate::config::{Config, Environment, Level, StoreUrl, load};

fn with<const N: usize>(text: &str, variables: [(&str, &str); N]) -> Result<Config, String> {
    read_with(text, &Environment::from(variables))
}

const IDP: &str = "idps: [{ name: one, issuer: 'https://i.example', audiences: [a, b] }]";

#[test]
fn a_variable_in_a_text_is_replaced() {
    let text = "idps: [{ name: 'x-${NAME}', url: 'https://${HOST:-h.example}/$${NAME}' }]\nserver:\n  port: ${PORT_}";
    let config = with(text, [("NAME", "${HOST}1"), ("PORT_", "81")]);
    assert!(
        config.unwrap_err().contains("idps[0].name: must be 1 to 64"),
        "what a variable holds is not looked into"
    );
    let config = with(text, [("NAME", "n"), ("PORT_", "81"), ("HOST", "")]).unwrap();
    assert_eq!(config.idps[0].name, "x-n");
    assert_eq!(
        config.idps[0].url.as_ref().unwrap().as_str(),
        "https://h.example/$%7BNAME%7D"
    );
    assert_eq!(config.server.port, 81);
}

#[test]
fn an_unset_variable_is_an_error_with_its_place() {
    assert_eq!(
        read("server:\n  port: ${NO_SUCH}\n  host: '${'\n  admin: '${a-b}'").unwrap_err(),
        "t.yaml:2:9: the environment variable `NO_SUCH` is not set; `${NO_SUCH:-…}` gives a default\n\
         t.yaml:3:9: `${` without `}`; write `$${` for the text itself\n\
         t.yaml:4:10: a variable's name in `${…}` is made of letters, digits and `_`"
    );
}

#[test]
fn a_variable_wins_over_the_file_and_the_long_name_over_the_short_one() {
    let text = "server: { port: 1 }\nlogging: { level: error }";
    assert_eq!(with(text, [("PORT", "2")]).unwrap().server.port, 2);
    assert_eq!(
        with(text, [("PORT", "2"), ("TOKENWARD__SERVER__PORT", "3")])
            .unwrap()
            .server
            .port,
        3
    );
    for level in ["debug", "DEBUG", "Debug"] {
        let config = with(text, [("LOG_LEVEL", level)]).unwrap();
        assert_eq!(config.logging.level, Level::Debug);
    }
    assert_eq!(
        with(text, [("LOG_LEVEL", "")]).unwrap().logging.level,
        Level::Error
    );
}

#[test]
fn problems_of_a_variable_name_it() {
    let error = with(IDP, [("PORT", "x"), ("TOKENWARD__IDPS__0__MAX_KEYS", "1001")]).unwrap_err();
    assert_eq!(
        error,
        "PORT: server.port: expected an integer\nTOKENWARD__IDPS__0__MAX_KEYS: idps[0].max_keys: must be from 0 to 1000"
    );
}

#[test]
fn an_unknown_override_is_an_error() {
    let lines = [
        (
            "TOKENWARD__SERVER__PROT",
            "there is no member `prot` to override (did you mean `port`?)",
        ),
        ("TOKENWARD__SERVER", "one member of `server` must be named"),
        (
            "TOKENWARD__SERVER__PORT__X",
            "`port` is one value: nothing can follow its name",
        ),
        (
            "TOKENWARD__IDPS__ONE__URL",
            "`idps` is a list: the number of an element, from 0, must follow its name",
        ),
        (
            "TOKENWARD__IDPS__3__URL",
            "the list has 1 elements, so the next one is number 1",
        ),
        (
            "TOKENWARD__IDPS__0__PINNED_SPKI",
            "`pinned_spki` is a list: the number of an element, from 0, must follow its name",
        ),
        (
            "TOKENWARD__AUTHORIZE__CLAIM_HEADERS",
            "one member of `claim_headers` must be named",
        ),
        (
            "TOKENWARD__0",
            "the name of a member is expected before its number",
        ),
    ];
    for (name, message) in lines {
        assert_eq!(
            with(IDP, [(name, "x")]).unwrap_err(),
            format!("{name}: {message}")
        );
    }
}

#[test]
fn lists_are_overridden_and_extended_by_number() {
    let config = with(
        IDP,
        [
            ("TOKENWARD__IDPS__0__AUDIENCES__1", "c"),
            ("TOKENWARD__IDPS__0__AUDIENCES__2", "d"),
        ],
    );
    assert!(format!("{:?}", config.unwrap().idps).contains(r#"OneOf(["a", "c", "d"])"#));
    let config = with(IDP, [("TOKENWARD__IDPS__0__AUDIENCES", "any")]);
    assert!(format!("{:?}", config.unwrap().idps).contains("audiences: Some(Any)"));
    let second = [
        ("TOKENWARD__IDPS__1__NAME", "two"),
        ("TOKENWARD__IDPS__1__URL", "https://two.example/k"),
    ];
    assert_eq!(with(IDP, second).unwrap().idps[1].name, "two");
    let many: Vec<_> = (0..12)
        .map(|n| {
            (
                format!("TOKENWARD__ALLOWED_DOMAINS__{n}"),
                format!("d{n}.example"),
            )
        })
        .collect();
    let many: [_; 12] = std::array::from_fn(|n| (many[n].0.as_str(), many[n].1.as_str()));
    let eleventh = tokenward::fetch::AllowedHost::parse("d11.example");
    assert_eq!(with("", many).unwrap().allowed_domains.last(), eleventh.as_ref());
}

#[test]
fn a_free_name_is_overridden_whatever_its_case_and_hyphens() {
    let text = "authorize: { claim_headers: { X-User_Email: email } }";
    let config = with(
        text,
        [("TOKENWARD__AUTHORIZE__CLAIM_HEADERS__X_USER_EMAIL", "mail")],
    )
    .unwrap();
    assert_eq!(config.authorize.claim_headers.len(), 1);
    assert_eq!(config.authorize.claim_headers[0].1, "mail");
}

#[test]
fn variables_alone_are_enough() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no.yaml");
    let alone = Environment::from([
        ("TOKENWARD__IDPS__0__NAME", "a"),
        ("TOKENWARD__IDPS__0__URL", "https://a.example/k"),
    ]);
    assert_eq!(load(None, false, &alone).unwrap().idps[0].name, "a");
    let port = load(None, false, &Environment::from([("PORT", "8081")])).unwrap();
    assert_eq!(port.server.port, 8081);
    let level = load(None, false, &Environment::from([("LOG_LEVEL", "error")])).unwrap();
    assert_eq!(level.logging.level, Level::Error);
    assert!(load(None, false, &Environment::from([("PORT", "")])).is_err());
    assert!(load(None, true, &Environment::default()).unwrap().idps.is_empty());
    assert!(
        load(Some(&missing), true, &alone).is_err(),
        "a file that is named must be there"
    );
}

#[test]
fn an_address_and_a_password_of_redis_work_alone() {
    let url = |text: &str, variables: &[(&str, &str)]| match read_with(text, &Environment::of(variables))
        .unwrap()
        .store
        .url
    {
        StoreUrl::Redis(url) => url.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    let address = ("REDIS_ADDR", "h:6379");
    let password = ("REDIS_PASSWORD", "p@ss/1");
    assert_eq!(url("", &[address]), "redis://h:6379");
    assert_eq!(url("", &[address, password]), "redis://:p%40ss%2F1@h:6379");
    assert_eq!(
        url("", &[("REDIS_ADDR", "rediss://u@h"), password]),
        "rediss://u:p%40ss%2F1@h"
    );
    // The address of the file, or of the long name, keeps a password of its own.
    let file = "store: { url: 'redis+cluster://h:1,i:2' }";
    assert_eq!(url(file, &[password]), "redis+cluster://:p%40ss%2F1@h:1,i:2");
    assert_eq!(
        url(file, &[address]),
        "redis://h:6379",
        "a variable wins over the file"
    );
    let long = ("TOKENWARD__STORE__URL", "redis://:own@long:1");
    assert_eq!(url(file, &[address, password, long]), "redis://:own@long:1");
    assert!(
        Environment::of(&[address]).has_overrides(),
        "no file is asked for"
    );
    let other = read_with("", &Environment::of(&[password])).unwrap();
    assert!(matches!(other.store.url, StoreUrl::Sqlite(_)));
    let shown = read_with("", &Environment::of(&[address, password])).unwrap();
    let shown = format!("{shown:?} {:?}", shown.effective.members());
    assert!(
        shown.contains("redis://:***@h:6379") && !shown.contains("ss%2F1"),
        "{shown}"
    );
    let error = with(
        "",
        [("REDIS_ADDR", "no-scheme://h"), ("REDIS_PASSWORD", "canary")],
    )
    .unwrap_err();
    assert!(
        error.starts_with("REDIS_ADDR: store.url: must be") && !error.contains("canary"),
        "{error}"
    );
}

#[test]
fn the_file_is_looked_for_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, port: u16| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("server: {{ port: {port} }}")).unwrap();
        path
    };
    let (named, first, second) = (file("n.yaml", 1), file("f.yaml", 2), file("s.yaml", 3));
    let both = [
        ("TOKENWARD_CONFIG", first.to_str().unwrap()),
        ("CONFIG_PATH", second.to_str().unwrap()),
    ];
    let port = |file, environment| load(file, false, &environment).unwrap().server.port;
    assert_eq!(port(Some(named.as_path()), Environment::from(both)), 1);
    assert_eq!(port(None, Environment::from(both)), 2);
    assert_eq!(port(None, Environment::from([both[1]])), 3);
    let gone = load(
        None,
        false,
        &Environment::from([("CONFIG_PATH", "/no/such.yaml")]),
    )
    .unwrap_err()
    .to_string();
    assert!(
        gone.starts_with("/no/such.yaml: cannot read the file: ")
            && gone.ends_with("(named by `CONFIG_PATH`)")
    );
}
