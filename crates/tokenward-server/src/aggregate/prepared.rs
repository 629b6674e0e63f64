//! A body that is ready to be sent, plain and compressed, and how a request gets the one that it wants.

use std::io::Write as _;

use aws_lc_rs::digest;
use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::http::{accepts_gzip, prefers, revalidates};

pub(super) const TOTAL_KEYS: HeaderName = HeaderName::from_static("x-total-keys");
pub(super) const IDP_COUNT: HeaderName = HeaderName::from_static("x-idp-count");
pub(super) const KEY_COLLISIONS: HeaderName = HeaderName::from_static("x-key-collisions");
pub(super) const KEY_COUNT: HeaderName = HeaderName::from_static("x-key-count");
pub(super) const MAX_KEYS: HeaderName = HeaderName::from_static("x-max-keys");
pub(super) const LAST_UPDATED: HeaderName = HeaderName::from_static("x-last-updated");

/// Room for all headers of an answer, those that are added around it too.
const HEADERS: usize = 14;

const KEY_SET: &str = "application/jwk-set+json";
const JSON: &str = "application/json";

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// A JWK Set, which has a media type of its own (RFC 7517 section 8.5) for those who ask for it.
    KeySet,
    /// Other JSON.
    Object,
}

/// One body in both codings, with an entity tag for each and for each type (RFC 9110 section 8.8.3.3).
pub(super) struct Prepared {
    plain: Coded,
    /// None where compressing does not make it smaller.
    gzip: Option<Coded>,
}

struct Coded {
    bytes: Bytes,
    /// Its tag as JSON, and as a JWK Set: what differs in its type is another representation.
    json_tag: HeaderValue,
    key_set_tag: HeaderValue,
}

impl Prepared {
    pub(super) fn new(body: String) -> Self {
        let digest = digest::digest(&digest::SHA256, body.as_bytes());
        // 128 bits tell any two bodies apart that are not made to collide, and nobody gains by making them.
        let tag: String = digest
            .as_ref()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let coded = |bytes: Bytes, coding: &str| Coded {
            bytes,
            json_tag: etag(&tag, coding),
            key_set_tag: etag(&tag, &format!("-jwk-set{coding}")),
        };
        let gzip = compress(body.as_bytes())
            .filter(|bytes| bytes.len() < body.len())
            .map(|bytes| coded(bytes.into(), "-gzip"));
        Self {
            plain: coded(body.into(), ""),
            gzip,
        }
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> u64 {
        let gzip = self.gzip.as_ref().map_or(0, |gzip| gzip.bytes.len());
        u64::try_from(self.plain.bytes.len() + gzip).unwrap_or(u64::MAX)
    }

    /// 200 with the body in the coding and under the type that `request` wants, or 304 where it has that already.
    pub(super) fn answer(
        &self,
        request: &HeaderMap,
        media: Media,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(request));
        let coded = gzip.unwrap_or(&self.plain);
        let (kind, etag) = if media == Media::KeySet && prefers(request, KEY_SET, JSON) {
            (KEY_SET, &coded.key_set_tag)
        } else {
            (JSON, &coded.json_tag)
        };
        let varies = match media {
            Media::KeySet => "Accept, Accept-Encoding",
            Media::Object => "Accept-Encoding",
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.reserve(HEADERS);
        headers.insert(header::ETAG, etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static(varies));
        headers.extend(extra.iter().cloned());
        if etag.to_str().is_ok_and(|etag| revalidates(request, etag)) {
            // That of the body which is not sent, else it would be taken for empty (RFC 9110 section 8.6).
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(coded.bytes.len()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if gzip.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *response.body_mut() = Body::from(coded.bytes.clone());
        response
    }
}

/// `Cache-Control` of keys that anyone may keep for so many seconds.
pub(super) fn cache_control(max_age: u64) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={max_age}")).unwrap_or(HeaderValue::from_static("public"))
}

fn etag(tag: &str, coding: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{tag}{coding}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The same bytes for the same body: no time and no file name are in the header.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
