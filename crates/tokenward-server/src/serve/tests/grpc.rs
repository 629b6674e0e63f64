//! How answers by gRPC are written.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::http::grpc;

/// A stream that counts how often it is written to.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::AcqRel);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::AcqRel);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Answers with as many bytes as the path says.
async fn sized(axum::extract::Path(size): axum::extract::Path<usize>) -> axum::response::Response {
    grpc::answer(vec![b'x'; size].into())
}

#[tokio::test]
async fn an_answer_is_written_at_once() {
    let served = Served {
        tls: None,
        routes: Router::new().route("/{size}", get(sized)),
        log: false,
    };
    let (client, stream) = duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let stream = Counted {
        stream,
        writes: Arc::clone(&writes),
    };
    let (_phase, phases) = watch::channel(Phase::Serving);
    let mut tasks = JoinSet::new();
    tasks.spawn(converse(
        "test",
        stream,
        Protocol::Grpc,
        ([127, 0, 0, 1], 1).into(),
        Arc::new(ArcSwap::from_pointee(served)),
        Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))),
        phases,
    ));
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tasks.spawn(async { connection.await.unwrap() });
    let mut ask = async |size: usize| {
        let request = Request::get(format!("http://test/{size}"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let body = requests.send_request(request).await.unwrap().into_body();
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes().len(), size);
        settle().await;
    };
    // With the first one settings are exchanged.
    ask(1).await;
    for size in [0, 10, 255, 256, 1_023, 1_024, 3_000, 12_000] {
        let before = writes.load(Ordering::Acquire);
        ask(size).await;
        assert_eq!(writes.load(Ordering::Acquire) - before, 1, "{size}");
    }
}
