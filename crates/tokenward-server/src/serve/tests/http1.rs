//! HTTP/1.1 as an attacker speaks it, byte by byte.

use super::*;

/// Sends `request` on a connection of its own, and gives all that comes back until the server closes it. The client
/// does not close first, so it is closed for what was sent, or by and by for being idle.
async fn exchange(running: &Running, request: &[u8]) -> String {
    let mut client = running.connect().await;
    // The server may close before it has read everything.
    let _ = client.write_all(request).await;
    let mut answers = String::new();
    for _ in 0..50 {
        let mut piece = [0; 4096];
        settle().await;
        match client.try_read(&mut piece) {
            Ok(0) => return answers,
            Ok(n) => answers.push_str(&String::from_utf8_lossy(&piece[..n])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => running.pass(2).await,
            Err(_) => return answers,
        }
    }
    panic!("still open after {answers}");
}

fn statuses(answers: &str) -> Vec<&str> {
    let places = answers.match_indices("HTTP/1.1 ");
    places.map(|(place, _)| &answers[place + 9..place + 12]).collect()
}

#[tokio::test]
async fn a_second_request_cannot_hide_in_the_first() {
    let running = Running::start(100, None).await;
    let hidden = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (framing, body) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n"),
        (
            "transfer-encoding: chunked\r\ncontent-length: 0",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let request = format!("POST /body HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}{hidden}");
        let answers = exchange(&running, request.as_bytes()).await;
        assert_eq!(statuses(&answers).len(), 1, "{framing}: {answers}");
        assert!(answers.contains("connection: close"), "{framing}: {answers}");
    }
    // One framing alone: what follows is another request, and is answered as one.
    for framing in [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let request = format!("POST /body HTTP/1.1\r\nhost: a\r\n{framing}{hidden}");
        let answers = exchange(&running, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["200", "200"], "{framing}: {answers}");
    }
}

#[tokio::test]
async fn lengths_that_two_readers_take_differently_are_refused() {
    let running = Running::start(100, None).await;
    for framing in [
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 5, 6",
        "content-length: 5 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 99999999999999999999",
        "content-length:",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding:\x0bchunked",
        "transfer-encoding : chunked",
        "transfer-encoding\0: chunked",
        "transfer-encoding:\r\n chunked",
    ] {
        let request = format!(
            "POST /body HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answers = exchange(&running, request.as_bytes()).await;
        assert!(
            matches!(statuses(&answers)[..], [] | ["400"]),
            "{framing:?}: {answers}"
        );
    }
    let old = b"POST /body HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(statuses(&exchange(&running, old).await), ["400"]);
}

#[tokio::test]
async fn chunks_are_exact_and_what_surrounds_them_is_bounded() {
    let running = Running::start(100, None).await;
    let hidden = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let flood = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(64 * 1024));
    let many = format!(
        "{}0\r\n\r\n",
        "1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nx\r\n".repeat(4_000)
    );
    let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    let trailer = format!("0\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\n\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        &flood,
        &many,
        &trailers,
        &trailer,
    ] {
        let request =
            format!("POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}{hidden}");
        let answers = exchange(&running, request.as_bytes()).await;
        let refused = matches!(statuses(&answers)[..], [] | ["400"]);
        assert!(refused, "{:?}: {answers}", &body[..body.len().min(40)]);
    }
    let extended = format!(
        "POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nx: y\r\n\r\n{hidden}"
    );
    let answers = exchange(&running, extended.as_bytes()).await;
    assert_eq!(statuses(&answers), ["200", "200"], "{answers}");
}

#[tokio::test]
async fn a_head_with_bare_line_feeds_is_one_request_or_none() {
    let running = Running::start(100, None).await;
    for head in [
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\rGET /slow HTTP/1.1\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let answers = exchange(&running, head.as_bytes()).await;
        assert!(
            matches!(statuses(&answers)[..], [] | ["200"] | ["400"]),
            "{head:?}: {answers}"
        );
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let running = Running::start(100, None).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n", "200"),
        ("GET / HTTP/1.1\r\nhost:\r\n", "200"),
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\nhost: A\r\n", "200"),
        ("GET http://a/ HTTP/1.1\r\nhost: b\r\n", "400"),
        ("GET http://b@a/ HTTP/1.1\r\nhost: a\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.0\r\n", "200"),
    ] {
        let answers = exchange(&running, format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        let answers = answers.replace("HTTP/1.0 ", "HTTP/1.1 ");
        assert_eq!(statuses(&answers), [status], "{head:?}: {answers}");
    }
}

#[tokio::test]
async fn targets_that_are_no_path_reach_nothing() {
    let running = Running::start(100, None).await;
    let long = format!("GET /{} HTTP/1.1", "y".repeat(30 * 1024));
    for line in [
        "OPTIONS * HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET //a/ HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "FROB / HTTP/1.1",
        &long,
    ] {
        let request = format!("{line}\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answers = exchange(&running, request.as_bytes()).await;
        let refused = matches!(statuses(&answers)[..], [] | ["400" | "404" | "405"]);
        assert!(refused, "{:.40}: {answers}", line);
    }
}

#[tokio::test]
async fn nobody_is_upgraded() {
    let running = Running::start(100, None).await;
    for upgrade in [
        "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings",
        "upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nconnection: upgrade",
    ] {
        let request =
            format!("GET / HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let answers = exchange(&running, request.as_bytes()).await;
        assert_eq!(statuses(&answers), ["200", "200"], "{answers}");
    }
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let running = Running::start(1, None).await;
    let mut slow = running.connect().await;
    slow.write_all(b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let mut told = [0; 25];
    slow.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    for _ in 0..4 {
        slow.write_all(b"x").await.unwrap();
        running.pass(2).await;
    }
    assert_eq!(rest(&mut running.connect().await).await, "", "its place is taken");
    running.pass(5).await;
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        alive(&mut running.connect().await).await,
        "its place is free again"
    );
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_waited_for() {
    let running = Running::start(1, None).await;
    for framing in [
        "content-length: 1000000",
        "transfer-encoding: chunked",
        "content-length: 9\r\nexpect: 100-continue",
    ] {
        let mut client = running.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{framing}: {answer}");
        settle().await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_a_flood_of_them_is_cut_off() {
    let running = Running::start(2, None).await;
    let mut client = running.connect().await;
    let burst = GET.repeat(500);
    client.write_all(&burst).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await.matches("HTTP/1.1 200 ").count(), 501);

    // One that takes no answer gets no further than the system's buffers.
    let mut flood = running.connect().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut sent = 0_usize;
        while flood.write_all(&burst).await.is_ok() {
            sent += burst.len();
        }
        sent
    });
    let mut sent = None;
    for _ in 0..60 {
        running.pass(1).await;
        sent = tasks.try_join_next();
        if sent.is_some() {
            break;
        }
    }
    let sent = sent.expect("it is still connected").unwrap();
    assert!(sent < LARGE, "{sent}");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let mut running = Running::start(1, None).await;
    let mut client = running.connect().await;
    client
        .write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    running.arrived(1).await;
    drop(client);
    settle().await;
    let mut half = running.connect().await;
    half.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    running.arrived(2).await;
    // Half-closed: nobody says whether an answer would still be read.
    half.shutdown().await.unwrap();
    assert_eq!(rest(&mut half).await, "");
    settle().await;
    assert!(alive(&mut running.connect().await).await);
}

#[tokio::test]
async fn an_answer_without_end_is_no_idle_connection() {
    let running = Running::start(1, None).await;
    let mut client = running.connect().await;
    let head = ask(&mut client, b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    running.pass(300).await;
    assert_eq!(rest(&mut running.connect().await).await, "", "its place is taken");
    drop(client);
    settle().await;
    assert!(alive(&mut running.connect().await).await);
}
