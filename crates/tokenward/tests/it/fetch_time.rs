//! Servers that are slow, silent or in no hurry to end.

use std::{future::pending, io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokenward::{
    SystemClock,
    fetch::{Fetch, FetchRequest, Guards, HttpFetcher, Resolve, Retry},
};
use tokenward_core::{BoxFuture, Clock};

use crate::{
    fetch_tls::{root, trusting},
    site::{Hasty, Site, Step, code, fetcher, local},
};

/// Fetches under the default limits and tells what came of it and how long it took.
async fn timed(
    fetcher: HttpFetcher,
    clock: &Hasty,
    url: url::Url,
    guards: Guards,
) -> (&'static str, Duration) {
    let began = clock.steady();
    let result = fetcher.fetch(&FetchRequest::key_set(url, Arc::new(guards))).await;
    (code(&result), clock.steady().since(began))
}

fn within(took: Duration, secs: u64) -> bool {
    (Duration::from_secs(secs)..Duration::from_secs(secs + 2)).contains(&took)
}

#[tokio::test]
async fn one_attempt_ends_after_three_seconds_wherever_it_hangs() {
    let head = b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n";
    let hangs: [(&str, Vec<Step>); 5] = [
        ("before the head", vec![Step::Hang]),
        ("in the head", vec![Step::Send(head[..20].to_vec()), Step::Hang]),
        (
            "in the body",
            vec![Step::Send([head.as_slice(), b"{\"k"].concat()), Step::Hang],
        ),
        (
            "dripping the head",
            vec![
                Step::Send(head[..20].to_vec()),
                Step::Repeat(b"x".to_vec(), Duration::from_millis(20)),
            ],
        ),
        (
            "dripping the body",
            vec![
                Step::Send(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                Step::Repeat(b"1\r\nx\r\n".to_vec(), Duration::from_millis(20)),
            ],
        ),
    ];
    for (place, steps) in hangs {
        let site = Site::http(move |_| steps.clone()).await;
        let clock = Hasty::new();
        let fetcher = HttpFetcher::new(clock.clone()).unwrap();
        let (code, took) = timed(fetcher, &clock, site.url("/"), local()).await;
        assert_eq!(code, "timeout", "{place}");
        assert!(within(took, 3), "{place}: {took:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_shake_hands_is_left_after_three_seconds() {
    // It waits for a head, and the client for a ServerHello.
    let site = Site::http(|_| vec![Step::Hang]).await;
    let clock = Hasty::new();
    let fetcher = HttpFetcher::new(clock.clone()).unwrap();
    let (code, took) = timed(
        fetcher,
        &clock,
        site.secure("127.0.0.1", "/"),
        trusting(&root("root")),
    )
    .await;
    assert_eq!(code, "timeout");
    assert!(within(took, 3), "{took:?}");
}

struct DeadNameServer;

impl Resolve for DeadNameServer {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        pending().boxed()
    }
}

#[tokio::test]
async fn a_connection_has_two_seconds_and_never_more_than_an_attempt() {
    let clock = Hasty::new();
    let fetcher = || {
        HttpFetcher::new(clock.clone())
            .unwrap()
            .with_resolver(Arc::new(DeadNameServer))
    };
    let url = url::Url::parse("http://idp.example/").unwrap();
    let (code, took) = timed(fetcher(), &clock, url.clone(), local()).await;
    assert_eq!(code, "connect_timeout");
    assert!(within(took, 2), "{took:?}");

    let retry = Retry {
        attempt: Duration::from_millis(500),
        ..Retry::default()
    };
    let (_, took) = timed(fetcher(), &clock, url, Guards { retry, ..local() }).await;
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test]
async fn a_dropped_fetch_closes_its_socket() {
    let site = Site::http(|_| vec![Step::Hang]).await;
    let fetcher = fetcher();
    let request = FetchRequest::key_set(site.url("/"), Arc::new(local()));
    let mut fetch = fetcher.fetch(&request);
    let clock = SystemClock::new();
    while site.asks().is_empty() {
        assert!((&mut fetch).now_or_never().is_none());
        clock.sleep(Duration::from_millis(1)).await;
    }
    drop(fetch);
    site.abandoned().await;
}
