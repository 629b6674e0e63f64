//! Each hop is held to what the first is held to.

use std::sync::Arc;

use tokenward::fetch::{AllowedHost, Fetch, FetchRequest, Guards};

use crate::site::{Names, Site, Step, answer, code, fetch, fetch_with, fetcher, local, ok, redirect};

#[tokio::test]
async fn the_five_redirects_are_followed_to_relative_and_absolute_places() {
    for status in [301, 302, 303, 307, 308] {
        for location in ["/keys/jwks?v=2#top", "../keys/jwks?v=2", "?v=2"] {
            let site = Site::http(move |ask| {
                if ask.target().contains("v=2") {
                    ok("{}")
                } else {
                    answer(status, &[("Location", location)], "moved")
                }
            })
            .await;
            let response = fetch(local(), site.url("/a/jwks")).await.unwrap();
            assert!(
                response.final_url.as_str().ends_with("jwks?v=2"),
                "{}",
                response.final_url
            );
            assert_eq!(site.asks().len(), 2, "{status} {location}");
        }
    }
}

#[tokio::test]
async fn no_more_hops_than_allowed() {
    let site = Site::http(|ask| {
        let left: u32 = ask.target().trim_start_matches('/').parse().unwrap();
        if left == 0 {
            ok("{}")
        } else {
            redirect(&format!("/{}", left - 1))
        }
    })
    .await;
    for (allowed, hops, expected, asked) in [
        (3, 3, "ok", 4),
        (3, 4, "redirect_limit", 4),
        (0, 0, "ok", 1),
        (0, 1, "redirect_limit", 1),
        (10, 10, "ok", 11),
    ] {
        let before = site.asks().len();
        let guards = Guards {
            max_redirects: allowed,
            ..local()
        };
        assert_eq!(
            code(&fetch(guards, site.url(&format!("/{hops}"))).await),
            expected,
            "{hops} of {allowed}"
        );
        assert_eq!(site.asks().len() - before, asked, "{hops} of {allowed}");
    }
    let circle = Site::http(|_| redirect("/")).await;
    assert_eq!(code(&fetch(local(), circle.url("/")).await), "redirect_limit");
    assert_eq!(circle.asks().len(), 4);
}

#[tokio::test]
async fn a_hop_to_a_forbidden_place_is_not_made() {
    let inner = Site::http(|_| ok("{}")).await;
    let port = inner.address.port();
    let names = Names::new(&[
        ("idp.example", &["127.0.0.1"]),
        ("evil.example", &["127.0.0.1"]),
        ("inner.example", &["169.254.169.254"]),
    ]);
    let fetcher = fetcher().with_resolver(names);
    let guards = Guards {
        allowed_domains: ["idp.example", "inner.example", "169.254.169.254"]
            .map(|host| AllowedHost::parse(host).unwrap())
            .into(),
        ..local()
    };
    for (location, expected) in [
        (format!("http://evil.example:{port}/"), "domain_forbidden"),
        (format!("//evil.example:{port}/"), "domain_forbidden"),
        (format!("http://inner.example:{port}/"), "address_forbidden"),
        ("http://169.254.169.254/latest".to_owned(), "address_forbidden"),
        ("http://2852039166/latest".to_owned(), "address_forbidden"),
        (format!("http://u:p@idp.example:{port}/"), "url_invalid"),
        ("file:///etc/passwd".to_owned(), "scheme_forbidden"),
        ("data:application/json,{}".to_owned(), "scheme_forbidden"),
    ] {
        let shown = location.clone();
        let site = Site::http(move |_| redirect(&location)).await;
        assert_eq!(
            code(&fetch_with(&fetcher, guards.clone(), site.at("idp.example", "/")).await),
            expected,
            "{shown}"
        );
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn a_redirect_needs_exactly_one_usable_location() {
    let none = "HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n";
    let two = "HTTP/1.1 302 X\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n";
    let bad = "HTTP/1.1 302 X\r\nLocation: http://[/\r\nContent-Length: 0\r\n\r\n";
    let bytes = "HTTP/1.1 302 X\r\nLocation: /\u{fc}\r\nContent-Length: 0\r\n\r\n";
    for head in [none, two, bad, bytes] {
        let site = Site::http(move |_| vec![Step::Send(head.into())]).await;
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), "redirect_invalid", "{head}");
        assert_eq!(site.asks().len(), 1);
    }
}

#[tokio::test]
async fn cookies_are_not_carried_to_the_next_hop_and_validators_are() {
    let site = Site::http(|ask| {
        if ask.before == 0 {
            answer(302, &[("Location", "/b"), ("Set-Cookie", "session=1")], "")
        } else {
            answer(304, &[], "")
        }
    })
    .await;
    let mut request = FetchRequest::key_set(site.url("/a"), Arc::new(local()));
    request.etag = Some("\"1\"".to_owned());
    assert_eq!(fetcher().fetch(&request).await.unwrap().status, 304);
    let hop = &site.asks()[1];
    assert_eq!(
        (
            hop.header("cookie"),
            hop.header("referer"),
            hop.header("if-none-match")
        ),
        (None, None, Some("\"1\""))
    );
}
