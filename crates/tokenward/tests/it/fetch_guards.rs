//! What may be asked at all.

use tokenward::fetch::{AllowedHost, Guards};

use crate::site::{Names, Site, code, fetch, fetch_with, fetcher, local, ok};

#[tokio::test]
async fn an_address_is_judged_however_it_is_written() {
    let site = Site::http(|_| ok("{}")).await;
    let fetcher = fetcher().with_resolver(Names::new(&[
        ("localhost", &["127.0.0.1"]),
        ("localhost.", &["127.0.0.1"]),
    ]));
    let strict = Guards {
        allow_http: true,
        ..Guards::default()
    };
    let forms = [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
    ];
    for form in forms {
        assert_eq!(
            code(&fetch_with(&fetcher, strict.clone(), site.at(form, "/")).await),
            "address_forbidden",
            "{form}"
        );
    }
    assert_eq!(site.connections(), 0);
    // The same places, where they are allowed.
    for form in forms
        .into_iter()
        .filter(|form| !form.contains(":1]") && !form.contains(":0:1]"))
    {
        assert_eq!(
            code(&fetch_with(&fetcher, local(), site.at(form, "/")).await),
            "ok",
            "{form}"
        );
    }
}

#[tokio::test]
async fn link_local_and_metadata_addresses_are_out_of_reach_whatever_is_allowed() {
    for host in [
        "169.254.169.254",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0",
        "[::]",
        "224.0.0.1",
        "255.255.255.255",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        let url = format!("http://{host}/latest/meta-data/").parse().unwrap();
        assert_eq!(code(&fetch(local(), url).await), "address_forbidden", "{host}");
    }
}

#[tokio::test]
async fn the_address_that_is_judged_is_the_one_that_is_connected_to() {
    let site = Site::http(|_| ok("{}")).await;
    let names = Names::new(&[("idp.example", &["127.0.0.1", "169.254.169.254"])]);
    let fetcher = fetcher().with_resolver(names.clone());
    // The name points at an allowed address when it is first looked up, and elsewhere the next time.
    assert_eq!(
        code(&fetch_with(&fetcher, local(), site.at("idp.example", "/")).await),
        "ok"
    );
    assert_eq!(names.lookups(), 1);
    assert_eq!(
        code(&fetch_with(&fetcher, local(), site.at("idp.example", "/")).await),
        "address_forbidden"
    );
    assert_eq!((names.lookups(), site.connections()), (2, 1));
}

#[tokio::test]
async fn of_several_addresses_the_allowed_ones_are_tried_in_turn() {
    let site = Site::http(|_| ok("{}")).await;
    let names = Names::new(&[
        // Out of reach, nobody there, and the server.
        ("idp.example", &["169.254.169.254 127.0.0.2 127.0.0.1"]),
        ("mixed.example", &["127.0.0.1 10.0.0.1 ::1"]),
    ]);
    let fetcher = fetcher().with_resolver(names);
    assert_eq!(
        code(&fetch_with(&fetcher, local(), site.at("idp.example", "/")).await),
        "ok"
    );
    let strict = Guards {
        allow_http: true,
        ..Guards::default()
    };
    assert_eq!(
        code(&fetch_with(&fetcher, strict, site.at("mixed.example", "/")).await),
        "address_forbidden"
    );
    assert_eq!(site.connections(), 1);
}

#[tokio::test]
async fn what_the_guards_refuse_is_not_even_looked_up() {
    let names = Names::new(&[("idp.example", &["127.0.0.1"])]);
    let fetcher = fetcher().with_resolver(names.clone());
    let entry = |text| AllowedHost::parse(text).unwrap();
    let only_http_off = Guards {
        allow_http: false,
        ..local()
    };
    let own = Guards {
        allowed_domains: vec![entry("example.org")],
        ..local()
    };
    let global = Guards {
        global_domains: [entry("p.example")].into(),
        ..local()
    };
    for (guards, url, expected) in [
        (only_http_off, "http://idp.example/", "scheme_forbidden"),
        (local(), "file:///etc/passwd", "scheme_forbidden"),
        (local(), "gopher://idp.example/", "scheme_forbidden"),
        (local(), "http://good.example@idp.example/", "url_invalid"),
        (local(), "http://u:p@idp.example/", "url_invalid"),
        (own, "http://idp.example/", "domain_forbidden"),
        (global, "http://idp.example/", "domain_forbidden"),
    ] {
        let error = fetch_with(&fetcher, guards, url.parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.retryable()), (expected, false), "{url}");
    }
    assert_eq!(names.lookups(), 0);
}

#[tokio::test]
async fn allowed_domains_admit_their_subdomains_and_no_lookalikes() {
    let site = Site::http(|_| ok("{}")).await;
    let hosts = ["example.com", "a.example.com", "evilexample.com"];
    let names = Names::new(&hosts.map(|host| (host, &["127.0.0.1"][..])));
    let fetcher = fetcher().with_resolver(names);
    let guards = Guards {
        allowed_domains: vec![AllowedHost::parse("EXAMPLE.com.").unwrap()],
        ..local()
    };
    for (host, expected) in hosts.into_iter().zip(["ok", "ok", "domain_forbidden"]) {
        assert_eq!(
            code(&fetch_with(&fetcher, guards.clone(), site.at(host, "/")).await),
            expected,
            "{host}"
        );
    }
}
