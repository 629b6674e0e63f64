//! Reading a body whose length, encoding and speed the other side chooses.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use url::Url;

use super::error::{FetchError, FetchErrorKind, place};

/// Reads and decompresses a body, both up to `limit` bytes: it stops at the first byte that is too much.
pub(super) async fn read(
    url: &Url,
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, FetchError> {
    let mut decoder = Decoder::for_encoding(headers, limit).ok_or_else(|| {
        FetchError::new(
            FetchErrorKind::EncodingInvalid,
            format!("{}: an unknown content encoding", place(url)),
        )
    })?;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(too_large(url, limit));
    }
    let mut received = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("{}: the connection broke in the middle of the body", place(url));
            FetchError::new(FetchErrorKind::Connection, message).caused_by(&error)
        })?;
        // Trailers tell nothing that we want to know.
        let Ok(data) = frame.into_data() else { continue };
        received = received.saturating_add(data.len());
        if received > limit {
            return Err(too_large(url, limit));
        }
        decoder.write(&data).map_err(|fault| fault.tell(url, limit))?;
    }
    decoder.finish().map_err(|fault| fault.tell(url, limit))
}

fn too_large(url: &Url, limit: usize) -> FetchError {
    FetchError::new(
        FetchErrorKind::TooLarge,
        format!("{}: the body is larger than {limit} bytes", place(url)),
    )
}

/// Why a body could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooLarge,
    /// Not what its encoding says: broken, cut off, or followed by something else.
    Corrupt,
}

impl Fault {
    fn tell(self, url: &Url, limit: usize) -> FetchError {
        match self {
            Self::TooLarge => too_large(url, limit),
            Self::Corrupt => {
                let message = format!("{}: the body is not what its content encoding says", place(url));
                FetchError::new(FetchErrorKind::EncodingInvalid, message)
            }
        }
    }
}

enum Decoder {
    Identity(Capped),
    Gzip(Box<GzDecoder<Capped>>),
}

impl Decoder {
    /// Nothing where the encoding is none that we asked for.
    fn for_encoding(headers: &HeaderMap, limit: usize) -> Option<Self> {
        let plain = Capped {
            bytes: Vec::new(),
            limit,
            overflowed: false,
        };
        let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
        let encoding = match encodings.next() {
            Some(value) => value.to_str().ok()?.trim(),
            None => "identity",
        };
        if encodings.next().is_some() {
            return None;
        }
        match encoding.to_ascii_lowercase().as_str() {
            "identity" | "" => Some(Self::Identity(plain)),
            // `x-gzip` is the same (RFC 9110 section 8.4.1.3).
            "gzip" | "x-gzip" => Some(Self::Gzip(Box::new(GzDecoder::new(plain)))),
            _ => None,
        }
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Identity(plain) => plain.write_all(data).map_err(|_| Fault::TooLarge),
            // After the end of the compressed stream nothing more is taken, which is an error here.
            Self::Gzip(gzip) => gzip.write_all(data).map_err(|_| gzip.get_ref().fault()),
        }
    }

    fn finish(self) -> Result<Bytes, Fault> {
        match self {
            Self::Identity(plain) => Ok(plain.bytes.into()),
            Self::Gzip(mut gzip) => match gzip.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut gzip.get_mut().bytes).into()),
                Err(_) => Err(gzip.get_ref().fault()),
            },
        }
    }
}

/// Decoded bytes, so many and no more.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    overflowed: bool,
}

impl Capped {
    fn fault(&self) -> Fault {
        if self.overflowed {
            Fault::TooLarge
        } else {
            Fault::Corrupt
        }
    }
}

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.overflowed = true;
            return Err(io::Error::other("larger than the limit"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes in pieces of `step` bytes, as they may come.
    fn decode(encoding: &'static str, body: &[u8], limit: usize, step: usize) -> Result<Bytes, Fault> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
        let mut decoder = Decoder::for_encoding(&headers, limit).unwrap();
        for piece in body.chunks(step) {
            decoder.write(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn gzip_in_pieces_up_to_exactly_the_limit() {
        let plain = b"{\"keys\":[]}".repeat(100);
        let packed = gzip(&plain);
        for step in [1, 3, packed.len()] {
            assert_eq!(
                decode("gzip", &packed, plain.len(), step).as_deref(),
                Ok(&plain[..])
            );
            assert_eq!(
                decode("X-GZIP", &packed, plain.len(), step).as_deref(),
                Ok(&plain[..])
            );
            assert_eq!(
                decode("gzip", &packed, plain.len() - 1, step),
                Err(Fault::TooLarge)
            );
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 70_000);
        assert_eq!(decode("gzip", &bomb, 1 << 20, 4096), Err(Fault::TooLarge));
    }

    #[test]
    fn what_is_cut_off_broken_or_goes_on_is_corrupt() {
        let packed = gzip(b"{\"keys\":[]}");
        for end in 0..packed.len() {
            assert_eq!(
                decode("gzip", &packed[..end], 100, 1),
                Err(Fault::Corrupt),
                "cut at {end}"
            );
        }
        let mut followed = packed.clone();
        followed.push(b'x');
        assert_eq!(decode("gzip", &followed, 100, 1), Err(Fault::Corrupt));
        assert_eq!(decode("gzip", &followed, 100, 1000), Err(Fault::Corrupt));
        let mut broken = packed;
        let last = broken.len() - 6;
        broken[last] ^= 1;
        assert_eq!(decode("gzip", &broken, 100, 1000), Err(Fault::Corrupt));
        assert_eq!(decode("gzip", b"{\"keys\":[]}", 100, 1000), Err(Fault::Corrupt));
    }

    #[test]
    fn other_encodings_and_several_are_refused() {
        for encoding in ["br", "deflate", "zstd", "gzip, gzip", "identity, gzip"] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
            assert!(Decoder::for_encoding(&headers, 10).is_none(), "{encoding}");
        }
        let mut twice = HeaderMap::new();
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(Decoder::for_encoding(&twice, 10).is_none());
        assert!(Decoder::for_encoding(&HeaderMap::new(), 10).is_some());
    }
}
