//! What a handler leaves of a request's body.
//!
//! On HTTP/1 the next request stands behind the body of this one, so a body that nobody reads costs its connection:
//! the client loses the next request that it sends, and may lose the answer to this one by the reset.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokenward_core::Clock;
use tokio::sync::oneshot;

use super::within;

/// How long the rest of a body may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The way back of a body that was lent to a handler.
pub(super) struct Rest(oneshot::Receiver<Body>);

/// Makes `body` one that is lent: it comes back where it is dropped. None where there is nothing to come back.
pub(super) fn lend(body: &mut Body) -> Option<Rest> {
    if body.is_end_stream() {
        return None;
    }
    let (back, rest) = oneshot::channel();
    let lent = Lent {
        body: std::mem::take(body),
        back: Some(back),
    };
    *body = Body::new(lent);
    Some(Rest(rest))
}

impl Rest {
    /// Reads up to `most` bytes of what was left, and throws them away. Returns whether that was all, so that the
    /// connection can go on.
    pub(super) async fn drain(mut self, most: usize, clock: &dyn Clock) -> bool {
        // A handler that has not dropped it is still reading it.
        let Ok(mut body) = self.0.try_recv() else {
            return true;
        };
        let drained = async {
            let mut left = most;
            while let Some(frame) = body.frame().await {
                let length = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len));
                match length.ok().and_then(|length| left.checked_sub(length)) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        };
        within(clock, LIMIT, drained).await.unwrap_or(false)
    }
}

/// A body that goes back when it is dropped.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{StreamExt as _, stream};
    use tokenward_core::Timestamp;
    use tokenward_testkit::ManualClock;
    use tokio::task::JoinSet;

    use super::*;

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
    }

    fn pieces(count: usize) -> Body {
        let piece = || Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"));
        Body::from_stream(stream::iter((0..count).map(move |_| piece())))
    }

    #[tokio::test]
    async fn what_is_left_is_read_up_to_a_limit() {
        for (count, read, all) in [(3, 0, true), (3, 1, true), (5, 1, true), (5, 0, false)] {
            let mut lent = pieces(count);
            let rest = lend(&mut lent);
            for _ in 0..read {
                lent.frame().await.unwrap().unwrap();
            }
            drop(lent);
            assert_eq!(rest.unwrap().drain(40, &*clock()).await, all, "{read} of {count}");
        }
        assert!(lend(&mut Body::empty()).is_none());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_all() {
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        let mut lent = Body::from_stream(broken);
        let rest = lend(&mut lent);
        drop(lent);
        assert!(!rest.unwrap().drain(40, &*clock()).await);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let endless =
            stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"0"))]).chain(stream::pending());
        let mut lent = Body::from_stream(endless);
        let rest = lend(&mut lent);
        drop(lent);
        let clock = clock();
        let mut tasks = JoinSet::new();
        let waiting = Arc::clone(&clock);
        tasks.spawn(async move { rest.unwrap().drain(40, &*waiting).await });
        tokio::task::yield_now().await;
        clock.advance(LIMIT - Duration::from_millis(1));
        tokio::task::yield_now().await;
        assert!(tasks.try_join_next().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(!tasks.join_next().await.unwrap().unwrap());
    }
}
