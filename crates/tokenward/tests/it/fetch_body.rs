//! Bodies of any length, encoding and honesty.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use tokenward::fetch::Guards;

use crate::site::{Site, Step, Steps, answer, code, fetch, local, ok};

fn limited(max_response_bytes: usize) -> Guards {
    Guards {
        max_response_bytes,
        ..local()
    }
}

fn chunked(pieces: &[&[u8]], end: &[u8]) -> Steps {
    let mut bytes = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(*piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(end);
    vec![Step::Send(bytes)]
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let body = vec![b'x'; 1 << 20];
    let more = vec![b'x'; (1 << 20) + 1];
    let (exact, over) = (ok(&body), ok(&more));
    let (exact_chunked, over_chunked) = (
        chunked(&[&body], b"0\r\n\r\n"),
        chunked(&[&body, b"x"], b"0\r\n\r\n"),
    );
    for (steps, expected) in [
        (exact, "ok"),
        (over, "too_large"),
        (exact_chunked, "ok"),
        (over_chunked, "too_large"),
    ] {
        let site = Site::http(move |_| steps.clone()).await;
        // The default is 1 MiB.
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), expected);
        if let Ok(response) = result {
            assert_eq!(response.body.len(), 1 << 20);
        }
    }
    let site = Site::http(|_| ok("12345")).await;
    assert_eq!(code(&fetch(limited(5), site.url("/")).await), "ok");
    assert_eq!(code(&fetch(limited(4), site.url("/")).await), "too_large");
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_the_body() {
    let site = Site::http(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
            Step::Hang,
        ]
    })
    .await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "too_large");
    site.abandoned().await;
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit() {
    let piece = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    let head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let site = Site::http(move |_| {
        vec![
            Step::Send(head.clone()),
            Step::Repeat(piece.clone(), Duration::ZERO),
        ]
    })
    .await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "too_large");

    // The same without any framing: the body would end with the connection.
    let site = Site::http(|_| {
        vec![
            Step::Send(b"HTTP/1.0 200 X\r\n\r\n".to_vec()),
            Step::Repeat(vec![b'x'; 0x4000], Duration::ZERO),
        ]
    })
    .await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "too_large");
}

#[tokio::test]
async fn gzip_is_asked_for_and_read_under_the_same_limit() {
    let plain = br#"{"keys":[]}"#.repeat(1000);
    let packed = gzip(&plain);
    let site = Site::http(move |_| answer(200, &[("Content-Encoding", "gzip")], &packed)).await;
    let response = fetch(limited(plain.len()), site.url("/")).await.unwrap();
    assert_eq!(response.body, plain);
    assert_eq!(site.asks()[0].header("accept-encoding"), Some("gzip"));
    assert_eq!(
        code(&fetch(limited(plain.len() - 1), site.url("/")).await),
        "too_large"
    );

    // What comes over the wire counts too, though it shrinks when it is unpacked.
    let packed = gzip(b"{}");
    let head = b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    let body = [head, packed.clone()].concat();
    let site = Site::http(move |_| vec![Step::Send(body.clone())]).await;
    assert_eq!(code(&fetch(limited(packed.len()), site.url("/")).await), "ok");
    assert_eq!(
        code(&fetch(limited(packed.len() - 1), site.url("/")).await),
        "too_large"
    );

    let bomb = gzip(&vec![0; 100 << 20]);
    let site = Site::http(move |_| answer(200, &[("Content-Encoding", "gzip")], &bomb)).await;
    assert_eq!(code(&fetch(local(), site.url("/")).await), "too_large");
}

#[tokio::test]
async fn what_is_not_as_its_encoding_says_is_refused() {
    let packed = gzip(b"{}");
    let followed = [packed.as_slice(), b"x"].concat();
    for (encoding, body) in [
        ("br", b"{}".to_vec()),
        ("zstd", b"{}".to_vec()),
        ("gzip, gzip", gzip(&packed)),
        ("gzip", b"{}".to_vec()),
        ("gzip", packed[..packed.len() - 1].to_vec()),
        ("gzip", Vec::new()),
        ("gzip", followed),
    ] {
        let site = Site::http(move |_| answer(200, &[("Content-Encoding", encoding)], &body)).await;
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), "encoding_invalid", "{encoding}");
        assert!(!result.unwrap_err().retryable());
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_a_broken_connection() {
    let short = vec![Step::Send(
        b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{\"keys\"".to_vec(),
    )];
    for steps in [short, chunked(&[b"{\"keys\""], b""), chunked(&[b"{}"], b"zz\r\n")] {
        let site = Site::http(move |_| steps.clone()).await;
        let result = fetch(local(), site.url("/")).await;
        assert_eq!(code(&result), "connection");
        assert!(result.unwrap_err().retryable());
    }
}
