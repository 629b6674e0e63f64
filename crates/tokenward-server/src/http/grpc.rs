//! Calls by gRPC: one question, bounded in size and time, and answers.

use axum::body::Body;
use bytes::Buf as _;
use futures_util::Stream;
use http::{HeaderValue, Response, header};
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

/// The one message of a call's request. None where it is longer than `most` bytes, comes too slowly, is compressed (which
/// nobody was told to do), or is none.
pub(crate) async fn question<M: Message + Default>(body: Body, most: usize, clock: &dyn Clock) -> Option<M> {
    let mut bytes = read_at_most(body, PREFIX + most, clock).await.ok()?;
    let compressed = bytes.try_get_u8().ok()? != 0;
    let length = bytes.try_get_u32().ok()?;
    if compressed || usize::try_from(length) != Ok(bytes.len()) {
        return None;
    }
    M::decode(bytes).ok()
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
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
