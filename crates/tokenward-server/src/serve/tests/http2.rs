//! HTTP/2 as an attacker speaks it, frame by frame (RFC 9113).

use tokio_rustls::client::TlsStream;

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `:method: GET`, `:scheme: https` and `:authority: localhost`; with [`path`] it is a request.
const GET_HEADERS: &[u8] = b"\x82\x87\x01\x09localhost";
const POST_HEADERS: &[u8] = b"\x83\x87\x01\x09localhost";

/// A `:path`, as a literal that is not indexed (RFC 7541 section 6.2.2).
fn path(path: &str) -> Vec<u8> {
    [&[4, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat()
}

fn get_of(target: &str) -> Vec<u8> {
    [GET_HEADERS, &path(target)].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

struct Received {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Received {
    /// The error code of a RST_STREAM or GOAWAY frame.
    fn code(&self) -> u32 {
        let place = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[place..place + 4].try_into().unwrap())
    }
}

/// One end of a connection that has said hello.
struct Peer(TlsStream<TcpStream>);

impl Peer {
    async fn connect(running: &Running, connector: &TlsConnector, settings: &[u8]) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, running.connect().await).await.unwrap();
        let mut peer = Self(stream);
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        peer.send(&frame(SETTINGS, 0, 0, settings)).await;
        peer
    }

    /// Whether it could be sent. Whoever floods is cut off while it writes.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// The next frame; nothing once the connection has ended.
    async fn next(&mut self) -> Option<Received> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Received {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The next frame that `wanted` wants; nothing once the connection has ended.
    async fn find(&mut self, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The status of an answer, where it is one of HPACK's static table; its first byte else.
    async fn status(&mut self, stream: u32) -> Option<u16> {
        let headers = self
            .find(|frame| frame.kind == HEADERS && frame.stream == stream)
            .await?;
        Some(match headers.payload[0] {
            0x88 => 200,
            0x8c => 400,
            0x8d => 404,
            _ => literal_status(&headers.payload),
        })
    }

    /// Whether a request on `stream` is answered by 200.
    async fn works(&mut self, stream: u32) -> bool {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_of("/"));
        self.send(&request).await && self.status(stream).await == Some(200)
    }

    /// The code of the GOAWAY before the connection ends; nothing where it ends without one.
    async fn goodbye(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(frame) = self.find(|frame| frame.kind == GOAWAY).await {
            last = Some(frame.code());
        }
        last
    }
}

/// A `:status` that is spelled out: name by index, three digits, with Huffman coding or without.
fn literal_status(block: &[u8]) -> u16 {
    let text = match block {
        [_, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3]).into_owned(),
        // RFC 7541 appendix B: 0, 1 and 2 have five bits, 3 to 9 six.
        [_, length, digits @ ..] if length & 0x80 != 0 => {
            let bits: Vec<_> = digits[..usize::from(length & 0x7f)]
                .iter()
                .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1))
                .collect();
            let mut rest = bits.as_slice();
            let mut text = String::new();
            while text.len() < 3 {
                let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
                let (digit, length) = match number(&rest[..5]) {
                    digit @ 0..=2 => (digit, 5),
                    _ => (number(&rest[..6]) - 0x19 + 3, 6),
                };
                text.push(char::from(b'0' + digit));
                rest = &rest[length..];
            }
            text
        }
        other => panic!("{other:x?}"),
    };
    text.parse().unwrap()
}

async fn listener(max_connections: usize) -> (Running, TlsConnector) {
    let (acceptor, connector) = tls();
    (Running::start(max_connections, Some(acceptor)).await, connector)
}

/// Lets simulated time pass until `task` has ended, and gives what it gave; fails after `seconds`.
async fn ends_within<T: 'static>(running: &Running, tasks: &mut JoinSet<T>, seconds: u64) -> T {
    for _ in 0..seconds {
        running.pass(1).await;
        if let Some(ended) = tasks.try_join_next() {
            return ended.unwrap();
        }
    }
    panic!("still connected after {seconds} s");
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    // CVE-2023-44487.
    let (running, connector) = listener(10).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    let mut flood = Vec::new();
    for stream in (1..2000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_of("/slow")));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    peer.send(&flood).await;
    assert_eq!(peer.goodbye().await, Some(ENHANCE_YOUR_CALM));
    let started = *running.waiting.borrow();
    assert!(started <= 128, "{started} requests were begun");
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn streams_that_the_server_is_made_to_reset_end_the_connection() {
    // CVE-2025-8671: a window that grows beyond its limit is an error of its stream alone.
    let (running, connector) = listener(10).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    let mut opened = 0;
    for stream in (1..2000).step_by(2) {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_of("/slow"));
        let mistake = frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
        if !peer.send(&[request, mistake].concat()).await {
            break;
        }
        opened += 1;
        settle().await;
    }
    assert_eq!(peer.goodbye().await, Some(ENHANCE_YOUR_CALM));
    assert!(opened < 1000, "{opened} streams were opened");
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    // CVE-2024-27316, with frames that hold nothing too.
    let (running, connector) = listener(10).await;
    for piece in [&[][..], &[0x40, 1, b'x', 1, b'y'], &vec![0; 16 * 1024]] {
        let mut peer = Peer::connect(&running, &connector, &[]).await;
        peer.send(&frame(HEADERS, END_STREAM, 1, GET_HEADERS)).await;
        let more = frame(CONTINUATION, 0, 1, piece);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sent = 0;
            while sent < 1000 && peer.send(&more).await {
                sent += 1;
            }
            peer.goodbye().await
        });
        // Sooner than for being idle or slow.
        let goodbye = ends_within(&running, &mut tasks, 8).await;
        assert!(goodbye.is_none_or(|code| code != 0), "{goodbye:?}");
    }
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn headers_that_unpack_to_megabytes_are_refused() {
    let (running, connector) = listener(10).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    // One entry of the dynamic table with 4,000 bytes, and references to it.
    let value = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], vec![b'y'; 4000].as_slice()].concat();
    let bomb = |references| [&get_of("/")[..], &value, &vec![0xbe; references]].concat();
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb(10)))
        .await;
    assert_eq!(peer.status(1).await, Some(431));
    assert!(peer.works(3).await, "the connection is as good as before");
    // What is over the limit in many small ones is refused as well.
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    let many = [&get_of("/")[..], &[0, 1, b'x', 1, b'y'].repeat(1_500)].concat();
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &many))
        .await;
    assert_eq!(peer.status(1).await, Some(431));
    // 40 MB out of 14 kB: no mistake.
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &bomb(10_000)))
        .await;
    assert!(peer.goodbye().await.is_some_and(|code| code != 0));
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    let (mut running, connector) = listener(10).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    for stream in (1..=2 * 129).step_by(2) {
        peer.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &get_of("/slow"),
        ))
        .await;
    }
    let refused = peer.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (257, REFUSED_STREAM));
    running.arrived(128).await;
    running.gate.add_permits(128);
    assert_eq!(peer.status(255).await, Some(200));
}

#[tokio::test]
async fn pings_and_settings_whose_answers_nobody_takes_are_not_answered_for_ever() {
    let (running, connector) = listener(10).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut peer = Peer::connect(&running, &connector, &[]).await;
        let burst = flood.repeat(1_000);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sent = 0_usize;
            while peer.send(&burst).await {
                sent += burst.len();
            }
            sent
        });
        let sent = ends_within(&running, &mut tasks, 80).await;
        assert!(sent < LARGE, "{sent}");
    }
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn pings_do_not_keep_an_idle_connection_open() {
    let (running, connector) = listener(1).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    assert!(peer.works(1).await);
    let mut answered = 0;
    for _ in 0..9 {
        if !peer.send(&frame(PING, 0, 0, &[7; 8])).await {
            break;
        }
        if peer
            .find(|frame| frame.kind == PING && frame.flags == ACK)
            .await
            .is_none()
        {
            break;
        }
        answered += 1;
        running.pass(10).await;
    }
    assert!((7..9).contains(&answered), "{answered} pings were answered");
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn headers_that_stop_half_way_are_given_up() {
    let (running, connector) = listener(1).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    assert!(peer.works(1).await);
    peer.send(&frame(HEADERS, END_STREAM, 3, GET_HEADERS)).await;
    running.pass(80).await;
    peer.goodbye().await;
    // At the start there is less patience.
    let mut silent = Peer::connect(&running, &connector, &[]).await;
    running.pass(13).await;
    silent.goodbye().await;
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

/// A window of nothing for every stream.
const CLOSED_WINDOWS: &[u8] = &[0, 4, 0, 0, 0, 0];

#[tokio::test]
async fn a_peer_that_opens_no_window_is_cut_off() {
    let (running, connector) = listener(1).await;
    let mut peer = Peer::connect(&running, &connector, CLOSED_WINDOWS).await;
    for stream in [1, 3, 5] {
        peer.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &get_of("/large"),
        ))
        .await;
    }
    assert_eq!(peer.status(5).await, Some(200));
    running.pass(15).await;
    assert_eq!(rest(&mut running.connect().await).await, "", "its place is taken");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { peer.find(|frame| frame.kind == DATA).await.is_none() });
    assert!(ends_within(&running, &mut tasks, 10).await);
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn a_peer_that_opens_its_window_slowly_is_not() {
    let (running, connector) = listener(1).await;
    let mut peer = Peer::connect(&running, &connector, CLOSED_WINDOWS).await;
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get_of("/large")))
        .await;
    assert_eq!(peer.status(1).await, Some(200));
    // Longer than an idle connection may last.
    for _ in 0..8 {
        running.pass(15).await;
        let grows = frame(WINDOW_UPDATE, 0, 1, &(16 * 1024_u32).to_be_bytes());
        let all = frame(WINDOW_UPDATE, 0, 0, &(16 * 1024_u32).to_be_bytes());
        assert!(peer.send(&[grows, all].concat()).await);
        let mut taken = 0;
        while taken < 16 * 1024 {
            taken += peer
                .find(|frame| frame.kind == DATA)
                .await
                .expect("more of it")
                .payload
                .len();
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_no_idle_connection() {
    let (running, connector) = listener(1).await;
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get_of("/events")))
        .await;
    let event = peer.find(|frame| frame.kind == DATA).await.unwrap();
    assert_eq!(event.payload, b"event");
    running.pass(300).await;
    assert!(peer.works(3).await);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let (running, connector) = listener(1).await;
    let request = [POST_HEADERS, &path("/body")].concat();
    // A byte now and then; and frames that hold nothing, as many as there can be.
    for (piece, times) in [(&b"x"[..], 1), (b"", 2_000)] {
        let mut peer = Peer::connect(&running, &connector, &[]).await;
        peer.send(&frame(HEADERS, END_HEADERS, 1, &request)).await;
        let burst = frame(DATA, 0, 1, piece).repeat(times);
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            peer.send(&burst).await;
            running.pass(2).await;
        }
        tasks.spawn(async move {
            let ended = |frame: &Received| {
                matches!(frame.kind, RST_STREAM | HEADERS) && frame.stream == 1 || frame.kind == GOAWAY
            };
            peer.find(ended).await.map(|frame| frame.kind)
        });
        ends_within(&running, &mut tasks, 10).await;
    }
    assert!(Peer::connect(&running, &connector, &[]).await.works(1).await);
}

#[tokio::test]
async fn requests_that_http_1_would_read_in_another_way_are_refused() {
    let (running, connector) = listener(10).await;
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [
            &[0, length(name)],
            name.as_bytes(),
            &[length(value)],
            value.as_bytes(),
        ]
        .concat()
    };
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("Upper", "case"),
        ("x\r\ny", "z"),
        ("x", "y\r\nz: a"),
        ("host", "elsewhere"),
        (":path", "/"),
        ("content-length", "5"),
    ] {
        let mut peer = Peer::connect(&running, &connector, &[]).await;
        let block = [get_of("/"), literal(name, value)].concat();
        peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
            .await;
        let refused = peer
            .find(|frame| matches!(frame.kind, RST_STREAM | HEADERS | GOAWAY))
            .await;
        let accepted = refused.is_some_and(|frame| frame.kind == HEADERS && frame.payload[0] == 0x88);
        assert!(!accepted, "{name}: {value}");
    }
    let mut peer = Peer::connect(&running, &connector, &[]).await;
    let block = [get_of("/"), literal("host", "LOCALHOST")].concat();
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
        .await;
    assert_eq!(peer.status(1).await, Some(200));
}

#[tokio::test]
async fn a_handshake_that_drips_is_given_up() {
    let (running, _) = listener(1).await;
    let mut slow = running.connect().await;
    // The start of a client's hello, a byte at a time.
    for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] {
        let _ = slow.write_all(&[byte]).await;
        running.pass(1).await;
    }
    assert_eq!(rest(&mut slow).await, "");
}
