//! What is asked, and what counts as an answer.

use std::{error::Error, sync::Arc};

use tokenward::fetch::{Fetch, FetchRequest};

use crate::site::{Names, Site, Step, answer, code, fetch, fetch_with, fetcher, local, ok};

#[tokio::test]
async fn asks_once_and_for_what_it_can_read() {
    let site =
        Site::http(|_| answer(200, &[("ETag", "\"1\""), ("Set-Cookie", "a=b")], r#"{"keys":[]}"#)).await;
    let url = site.url("/a/jwks?x=1&y=%20#part");
    let response = fetch(local(), url.clone()).await.unwrap();
    assert_eq!(
        (response.status, &response.body[..]),
        (200, &br#"{"keys":[]}"#[..])
    );
    assert_eq!(response.headers["etag"], "\"1\"");
    assert_eq!(response.final_url, url);

    let asks = site.asks();
    let [ask] = &asks[..] else { panic!("{asks:?}") };
    assert!(
        ask.head.starts_with("GET /a/jwks?x=1&y=%20 HTTP/1.1\r\n"),
        "{}",
        ask.head
    );
    assert_eq!(ask.header("host"), Some(site.address.to_string().as_str()));
    assert_eq!(ask.header("accept-encoding"), Some("gzip"));
    assert!(
        ask.header("accept")
            .unwrap()
            .starts_with("application/jwk-set+json")
    );
    assert!(ask.header("user-agent").unwrap().starts_with("tokenward/"));
    for absent in [
        "authorization",
        "cookie",
        "if-none-match",
        "if-modified-since",
        "range",
        "referer",
    ] {
        assert_eq!(ask.header(absent), None, "{absent}");
    }
    // Each fetch has a connection of its own, and brings no cookie along.
    fetch(local(), url).await.unwrap();
    assert_eq!(site.connections(), 2);
    assert_eq!(site.asks()[1].header("cookie"), None);
}

#[tokio::test]
async fn any_content_type_is_taken() {
    for content_type in [
        "application/json",
        "application/jwk-set+json",
        "text/html; charset=utf-8",
        "",
        "???",
    ] {
        let site = Site::http(move |_| answer(200, &[("Content-Type", content_type)], "{}")).await;
        assert_eq!(code(&fetch(local(), site.url("/")).await), "ok", "{content_type}");
    }
    let site = Site::http(|_| ok("{}")).await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "ok");
}

#[tokio::test]
async fn a_conditional_request_may_be_answered_with_304() {
    let site = Site::http(|_| {
        vec![Step::Send(
            b"HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\nContent-Length: 99\r\n\r\n".to_vec(),
        )]
    })
    .await;
    let mut request = FetchRequest::key_set(site.url("/"), Arc::new(local()));
    request.etag = Some("W/\"1\"".to_owned());
    request.last_modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    let response = fetcher().fetch(&request).await.unwrap();
    assert_eq!((response.status, response.body.len()), (304, 0));
    assert_eq!(response.headers["etag"], "\"2\"");
    let ask = &site.asks()[0];
    assert_eq!(ask.header("if-none-match"), Some("W/\"1\""));
    assert_eq!(
        ask.header("if-modified-since"),
        Some("Sun, 06 Nov 1994 08:49:37 GMT")
    );

    // A validator that would break out of its header is not sent at all.
    request.etag = Some("\"1\"\r\nX-Evil: 1".to_owned());
    fetcher().fetch(&request).await.unwrap();
    assert_eq!(site.asks()[1].header("if-none-match"), None);
    assert_eq!(site.asks()[1].header("x-evil"), None);
}

#[tokio::test]
async fn other_statuses_are_failures_and_their_bodies_appear_nowhere() {
    let secret = "do-not-show-this";
    for (status, expected) in [
        (201, "status_other"),
        (204, "status_other"),
        (206, "status_other"),
        (300, "status_3xx"),
        (400, "status_4xx"),
        (404, "status_4xx"),
        (500, "status_5xx"),
        (503, "status_5xx"),
    ] {
        let site = Site::http(move |_| answer(status, &[], secret)).await;
        let error = fetch(local(), site.url("/jwks?token=do-not-show-this"))
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.status()), (expected, Some(status)));
        let shown = format!("{error} {error:?} {:?}", error.source());
        assert!(!shown.contains(secret), "{shown}");
    }
    // Nor is it waited for.
    let site = Site::http(|_| {
        vec![
            Step::Send(b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n".to_vec()),
            Step::Hang,
        ]
    })
    .await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "status_5xx");
}

#[tokio::test]
async fn what_is_not_http_is_told_apart_from_a_connection_that_breaks() {
    let large = format!("HTTP/1.1 200 X\r\nX: {}\r\n\r\n", "x".repeat(80_000));
    let many = format!("HTTP/1.1 200 X\r\n{}\r\n", "X: x\r\n".repeat(200));
    for bytes in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 X\r\n\r\n".to_owned(),
        large,
        many,
    ] {
        let shown = bytes.chars().take(30).collect::<String>();
        let site = Site::http(move |_| vec![Step::Send(bytes.clone().into_bytes())]).await;
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), "protocol", "{shown}");
        assert!(!result.unwrap_err().retryable());
    }
    for bytes in ["", "HTTP/1.1 200 X\r\nContent-Le"] {
        let site = Site::http(move |_| vec![Step::Send(bytes.into())]).await;
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), "connection", "{bytes}");
        assert!(result.unwrap_err().retryable());
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_read_on() {
    let site = Site::http(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 X\r\n".to_vec()),
            Step::Repeat(b"X: y\r\n".repeat(1000), std::time::Duration::ZERO),
        ]
    })
    .await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "protocol");
}

#[tokio::test]
async fn no_server_and_no_name_are_ways_that_failed() {
    let site = Site::http(|_| ok("{}")).await;
    let gone = site.url("/");
    drop(site);
    // The port is free as soon as the runtime has dropped the listener.
    tokio::task::yield_now().await;
    let error = fetch(local(), gone.clone()).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("connect", true));

    let fetcher = fetcher().with_resolver(Names::new(&[("empty.example", &[""])]));
    for name in ["unknown.example", "empty.example"] {
        let url = format!("http://{name}:{}/", gone.port().unwrap())
            .parse()
            .unwrap();
        let error = fetch_with(&fetcher, local(), url).await.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("dns", true), "{name}");
    }
}
