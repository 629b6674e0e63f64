//! What Envoy asks by gRPC, which the program reads by hand, beside what `prost` reads.

use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tokenward_server::fuzzing::{self, Told};

/// More headers than these are refused.
const MAX_HEADERS: usize = 1_000;

pub fn check(data: &[u8]) {
    let told = fuzzing::question(data);
    // Groups, which nobody sends, are read by `prost` alone.
    if told.is_some() || !data.iter().any(|byte| byte & 7 == 3) {
        assert_eq!(told, read(data));
    }
}

fn read(data: &[u8]) -> Option<Told> {
    let attributes = CheckRequest::decode(data).ok()?.attributes.unwrap_or_default();
    let source = attributes.source.and_then(|peer| peer.address?.socket_address);
    let request = attributes
        .request
        .and_then(|request| request.http)
        .unwrap_or_default();
    let joined = request
        .headers
        .into_iter()
        .map(|header| (header.key, header.value));
    let raw = request.header_map.unwrap_or_default().headers.into_iter();
    let raw = raw.map(|header| match header.raw_value.is_empty() {
        true => (header.key, header.value),
        false => (header.key, header.raw_value),
    });
    let all: Vec<_> = joined.chain(raw).collect();
    if all.len() > MAX_HEADERS {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in all.into_iter().filter(|(name, _)| !name.starts_with(b":")) {
        headers.append(
            HeaderName::from_bytes(&name).ok()?,
            HeaderValue::from_bytes(&value).ok()?,
        );
    }
    let headers = headers.iter();
    Some(Told {
        source: source.and_then(|socket| socket.address.parse().ok()),
        texts: [request.method, request.path, request.host, request.scheme],
        headers: headers
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
    })
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<Request>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(string, tag = "5")]
    host: String,
    #[prost(string, tag = "6")]
    scheme: String,
    #[prost(message, optional, tag = "13")]
    header_map: Option<Headers>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Headers {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
    #[prost(bytes, tag = "2")]
    value: Vec<u8>,
    #[prost(bytes, tag = "3")]
    raw_value: Vec<u8>,
}
