//! `envoy.service.auth.v3.CheckRequest`, as far as it is read.
//!
//! It is read by hand, from its bytes into the headers that are looked at: messages in between, which would be made for each
//! header and thrown away, take several times as long.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// More than any proxy lets through, and far less than a map of them can hold.
const MAX_HEADERS: usize = 1_000;

/// What Envoy says of a request. A text that is empty was not told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Question<'a> {
    /// The address from which the proxy was asked, where it is one.
    pub(super) source: Option<IpAddr>,
    pub(super) method: &'a str,
    /// With the query.
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) scheme: &'a str,
    pub(super) headers: HeaderMap,
    /// How many there were, with those that stand in fields of their own.
    count: usize,
}

/// The source; method, path, host and scheme; the headers.
#[cfg(any(test, fuzzing))]
pub(crate) type Told = (Option<IpAddr>, [String; 4], HeaderMap);

impl<'a> Question<'a> {
    /// Reads a message. None where it is none, or one of the headers is no header. Groups are refused: they were given up before
    /// this message was made.
    pub(crate) fn read(message: &'a Bytes) -> Option<Self> {
        let mut question = Self::default();
        // Those that come as bytes go on after those that were joined, wherever they stand.
        let mut raw = Vec::new();
        members(message, |tag, attributes| match tag {
            1 => members(attributes?, |tag, member| match tag {
                1 => question.peer(member?),
                4 => members(member?, |tag, http| match tag {
                    2 => question.http(message, &mut raw, http?),
                    _ => Some(()),
                }),
                _ => Some(()),
            }),
            _ => Some(()),
        })?;
        for (name, value) in raw {
            question.add(message, name, value)?;
        }
        Some(question)
    }

    /// All of it, for comparison.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn told(self) -> Told {
        let texts = [self.method, self.path, self.host, self.scheme];
        (self.source, texts.map(str::to_owned), self.headers)
    }

    /// `AttributeContext.Peer`, whose address counts if it is that of a socket.
    fn peer(&mut self, peer: &'a [u8]) -> Option<()> {
        members(peer, |tag, address| match tag {
            1 => members(address?, |tag, socket| match tag {
                1 => members(socket?, |tag, address| match tag {
                    2 => {
                        self.source = text(address)?.parse().ok();
                        Some(())
                    }
                    _ => Some(()),
                }),
                _ => Some(()),
            }),
            _ => Some(()),
        })
    }

    /// `AttributeContext.HttpRequest`.
    fn http(&mut self, message: &Bytes, raw: &mut Vec<(&'a [u8], &'a [u8])>, http: &'a [u8]) -> Option<()> {
        members(http, |tag, member| {
            match tag {
                2 => self.method = text(member)?,
                4 => self.path = text(member)?,
                5 => self.host = text(member)?,
                6 => self.scheme = text(member)?,
                // A map, which on the wire is a list of its entries. Envoy joins the values of one name by commas.
                3 => {
                    let [name, value, _] = header(member?)?;
                    self.add(message, name, value)?;
                }
                // Instead of them where the filter says `encode_raw_headers`: each by itself, as bytes.
                13 => members(member?, |tag, member| match tag {
                    1 => {
                        let [name, value, bytes] = header(member?)?;
                        raw.push((name, if bytes.is_empty() { value } else { bytes }));
                        (raw.len() <= MAX_HEADERS).then_some(())
                    }
                    _ => Some(()),
                })?,
                _ => {}
            }
            Some(())
        })
    }

    fn add(&mut self, message: &Bytes, name: &[u8], value: &[u8]) -> Option<()> {
        self.count += 1;
        if self.count > MAX_HEADERS {
            return None;
        }
        // What HTTP/2 says of the request stands among them, and in fields of its own.
        if name.starts_with(b":") {
            return Some(());
        }
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_maybe_shared(message.slice_ref(value)).ok()?;
        self.headers.try_append(name, value).ok().map(|_| ())
    }
}

/// The first three members of an entry, which are bytes. Of one that is there twice the last counts.
fn header(entry: &[u8]) -> Option<[&[u8]; 3]> {
    let [mut name, mut value, mut raw]: [&[u8]; 3] = Default::default();
    members(entry, |tag, member| {
        match tag {
            1 => name = member?,
            2 => value = member?,
            3 => raw = member?,
            _ => {}
        }
        Some(())
    })?;
    Some([name, value, raw])
}

fn text(member: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(member?).ok()
}

/// Hands the members of a message to `each`, by their numbers; those that are no bytes, text or message without a value. None
/// where the message is none, or `each` says so.
fn members<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u64, Option<&'a [u8]>) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        // Numbers of members begin at 1, and have 29 bits.
        let tag = key >> 3;
        if !(1..1 << 29).contains(&tag) {
            return None;
        }
        let (length, is_bytes) = match key & 7 {
            0 => {
                varint(&mut message)?;
                (0, false)
            }
            1 => (8, false),
            2 => (usize::try_from(varint(&mut message)?).ok()?, true),
            5 => (4, false),
            _ => return None,
        };
        let (member, rest) = message.split_at_checked(length)?;
        message = rest;
        each(tag, is_bytes.then_some(member))?;
    }
    Some(())
}

/// A number of up to 64 bits, seven to a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        // Of the tenth byte one bit is left.
        if shift == 63 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// The messages as `prost` reads them, for comparison.
    mod theirs {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct CheckRequest {
            #[prost(message, optional, tag = "1")]
            pub(super) attributes: Option<AttributeContext>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct AttributeContext {
            #[prost(message, optional, tag = "1")]
            pub(super) source: Option<Peer>,
            #[prost(message, optional, tag = "4")]
            pub(super) request: Option<AttributeRequest>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Peer {
            #[prost(message, optional, tag = "1")]
            pub(super) address: Option<Address>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Address {
            #[prost(message, optional, tag = "1")]
            pub(super) socket_address: Option<SocketAddress>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct SocketAddress {
            #[prost(string, tag = "2")]
            pub(super) address: String,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct AttributeRequest {
            #[prost(message, optional, tag = "2")]
            pub(super) http: Option<HttpRequest>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct HttpRequest {
            #[prost(string, tag = "2")]
            pub(super) method: String,
            #[prost(message, repeated, tag = "3")]
            pub(super) headers: Vec<Header>,
            #[prost(string, tag = "4")]
            pub(super) path: String,
            #[prost(string, tag = "5")]
            pub(super) host: String,
            #[prost(string, tag = "6")]
            pub(super) scheme: String,
            #[prost(message, optional, tag = "13")]
            pub(super) header_map: Option<HeaderMap>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct HeaderMap {
            #[prost(message, repeated, tag = "1")]
            pub(super) headers: Vec<Header>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Header {
            #[prost(bytes, tag = "1")]
            pub(super) key: Vec<u8>,
            #[prost(bytes, tag = "2")]
            pub(super) value: Vec<u8>,
            #[prost(bytes, tag = "3")]
            pub(super) raw_value: Vec<u8>,
        }
    }

    /// What `prost` reads, in our words; none where it reads nothing, or what it reads is no question.
    fn theirs(message: &Bytes) -> Option<Told> {
        let attributes = theirs::CheckRequest::decode(message.clone()).ok()?.attributes;
        let attributes = attributes.unwrap_or_default();
        let source = attributes.source.and_then(|peer| peer.address?.socket_address);
        let source = source.and_then(|socket| socket.address.parse().ok());
        let http = attributes.request.and_then(|request| request.http);
        let http = http.unwrap_or_default();
        let joined = http.headers.into_iter().map(|header| (header.key, header.value));
        let raw = http.header_map.unwrap_or_default().headers.into_iter();
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
            let name = HeaderName::from_bytes(&name).ok()?;
            headers.append(name, HeaderValue::from_bytes(&value).ok()?);
        }
        let texts = [http.method, http.path, http.host, http.scheme];
        Some((source, texts, headers))
    }

    fn ours(message: &Bytes) -> Option<Told> {
        Question::read(message).map(Question::told)
    }

    fn example(headers: usize, raw: usize) -> theirs::CheckRequest {
        let header = |n: usize, raw: &[u8]| theirs::Header {
            key: format!("x-{n}").into_bytes(),
            value: b"value".to_vec(),
            raw_value: raw.to_vec(),
        };
        let socket_address = Some(theirs::SocketAddress {
            address: "192.0.2.1".to_owned(),
        });
        let address = Some(theirs::Address { socket_address });
        let mut all: Vec<_> = (0..headers).map(|n| header(n, b"")).collect();
        for (key, value) in [(":path", "/"), ("x-0", "again")].into_iter().take(headers) {
            let value = value.into();
            let key = key.into();
            all.push(theirs::Header {
                key,
                value,
                raw_value: Vec::new(),
            });
        }
        let http = theirs::HttpRequest {
            method: "GET".to_owned(),
            headers: all,
            path: "/a?b".to_owned(),
            host: "a.example".to_owned(),
            scheme: "https".to_owned(),
            header_map: Some(theirs::HeaderMap {
                headers: (0..raw).map(|n| header(n, b"\xff raw")).collect(),
            }),
        };
        let request = Some(theirs::AttributeRequest { http: Some(http) });
        let source = Some(theirs::Peer { address });
        let attributes = Some(theirs::AttributeContext { source, request });
        theirs::CheckRequest { attributes }
    }

    #[test]
    fn everything_is_read() {
        let message = Bytes::from(example(3, 2).encode_to_vec());
        let (source, texts, headers) = ours(&message).unwrap();
        assert_eq!(source, Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(texts, ["GET", "/a?b", "a.example", "https"]);
        let all: Vec<_> = headers.get_all("x-0").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(all, [&b"value"[..], b"again", b"\xff raw"]);
        assert_eq!((headers.len(), headers.contains_key("x-2")), (6, true));
        assert_eq!(ours(&Bytes::new()).unwrap(), Default::default());
    }

    #[test]
    fn there_are_only_so_many_headers() {
        for (headers, raw, read) in [
            (MAX_HEADERS - 2, 0, true),
            (MAX_HEADERS - 1, 0, false),
            (0, MAX_HEADERS, true),
            (0, MAX_HEADERS + 1, false),
            (MAX_HEADERS / 2, MAX_HEADERS / 2 - 2, true),
            (MAX_HEADERS / 2, MAX_HEADERS / 2 - 1, false),
        ] {
            let message = Bytes::from(example(headers, raw).encode_to_vec());
            assert_eq!(ours(&message).is_some(), read, "{headers} {raw}");
            assert_eq!(ours(&message), theirs(&message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let over = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
        for (bytes, read) in [
            // A member that is not known, of each kind.
            (&[0x78, 0x01][..], true),
            (&[0x79, 0, 0, 0, 0, 0, 0, 0, 0], true),
            (&[0x7a, 0x01, 0x00], true),
            (&[0x7d, 0, 0, 0, 0], true),
            // Cut off.
            (&[0x78], false),
            (&[0x78, 0x80], false),
            (&[0x79, 0, 0, 0, 0, 0, 0, 0], false),
            (&[0x7a, 0x01], false),
            (&[0x7d, 0, 0, 0], false),
            // No number, none that is so large, no kind, a number of more than 64 bits.
            (&[0x02, 0x00], false),
            (&[0x82, 0x80, 0x80, 0x80, 0x10, 0x00], false),
            (&[0x7e], false),
            (&[&[0x78][..], &over].concat(), false),
            // One that is known, of another kind.
            (&[0x08, 0x01], false),
            (&[0x0d, 0, 0, 0, 0], false),
        ] {
            let message = Bytes::copy_from_slice(bytes);
            assert_eq!(ours(&message).is_some(), read, "{bytes:x?}");
            assert_eq!(theirs(&message).is_some(), read, "{bytes:x?}");
        }
        // A group, which nobody sends.
        let group = Bytes::from_static(&[0x7b, 0x7c]);
        assert_eq!(ours(&group), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn another_reader_reads_the_same(
            (headers, raw) in (0_usize..4, 0_usize..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..4),
            more in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = example(headers, raw).encode_to_vec();
            // Of a member that is there twice.
            if raw == 3 {
                bytes.extend(example(raw, headers).encode_to_vec());
            }
            for (at, byte, kind) in changes {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes[at] = bytes[at].wrapping_add(1),
                    2 => bytes.insert(at, byte),
                    _ => { bytes.remove(at); }
                }
            }
            bytes.extend(more);
            let message = Bytes::from(bytes);
            let (ours, theirs) = (ours(&message), theirs(&message));
            // Only groups are read by them alone.
            if ours.is_some() || !message.iter().any(|byte| byte & 7 == 3) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
