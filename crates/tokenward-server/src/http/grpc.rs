//! Calls by gRPC: one question, bounded in size and time, and answers.

use std::{convert::Infallible, future::ready};

use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tokenward_core::Clock;
use tonic::{
    Status,
    codec::{BufferSettings, EncodeBody, SingleMessageCompressionOverride},
};
use tonic_prost::ProstCodec;

use super::body::read_at_most;

/// In front of each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// How a call ended; 0: well.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The one message of a call's request. None where it is longer than `most` bytes, comes too slowly, is compressed (which
/// nobody was told to do), or is none.
pub(crate) async fn question<M: Message + Default>(body: Body, most: usize, clock: &dyn Clock) -> Option<M> {
    M::decode(message_of(body, most, clock).await?).ok()
}

/// The bytes of it.
pub(crate) async fn message_of(body: Body, most: usize, clock: &dyn Clock) -> Option<Bytes> {
    let mut bytes = read_at_most(body, PREFIX + most, clock).await.ok()?;
    let compressed = bytes.try_get_u8().ok()? != 0;
    let length = bytes.try_get_u32().ok()?;
    (!compressed && usize::try_from(length) == Ok(bytes.len())).then_some(bytes)
}

/// A message as it is sent, which is the same each time.
pub(crate) fn message<M: Message>(message: &M) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    // Ours are far below 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// The answer to a call that went well: one message, from [`message`].
pub(crate) fn answer(message: Bytes) -> Response<Body> {
    let ended = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(message).with_trailers(ready(Some(Ok::<_, Infallible>(ended))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, TYPE);
    response
}

/// The answer to a call: its messages, and how it ended.
pub(crate) fn answers<M: Message + 'static>(
    messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
) -> Response<tonic::body::Body> {
    let body = EncodeBody::new_server(
        ProstCodec::<M, ()>::raw_encoder(BufferSettings::default()),
        messages,
        None,
        SingleMessageCompressionOverride::default(),
        None,
    );
    let mut response = Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, TYPE);
    response
}
