//! Ids that tie a request to its log lines: `x-request-id`, and W3C Trace Context's `traceparent`.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Longest request id that is taken over from a caller, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The ids of one request. What a caller sent is taken over where it is well-formed, and replaced where it is not.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    request_id: HeaderValue,
    /// `00-`, the trace's id, that of a span of our own, and flags.
    traceparent: HeaderValue,
}

impl Ids {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let random = random_hex();
        let random = std::str::from_utf8(&random).unwrap_or_default();
        let (trace, rest) = random.split_at_checked(32).unwrap_or_default();
        let (span, request) = rest.split_at_checked(16).unwrap_or_default();
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .and_then(parent);
        let (trace_id, flags) = parent.unwrap_or((trace, "00"));
        let mut traceparent = String::with_capacity(LENGTH);
        for part in ["00-", trace_id, "-", span, "-", flags] {
            traceparent.push_str(part);
        }
        Self {
            request_id: once(
                request_id(headers)
                    .map_or_else(|| HeaderValue::from_str(request).ok(), |id| Some(id.clone())),
            ),
            traceparent: once(HeaderValue::try_from(traceparent).ok()),
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &str {
        let traceparent = self.traceparent.to_str().unwrap_or_default();
        traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// Writes both ids into the response's headers.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request_id);
        headers.insert(TRACEPARENT, self.traceparent);
    }
}

/// An id, which is plain ASCII. It never comes again: HTTP/2 would remember it, and compare each later one with all that it
/// remembers.
fn once(id: Option<HeaderValue>) -> HeaderValue {
    let mut id = id.unwrap_or(HeaderValue::from_static(""));
    id.set_sensitive(true);
    id
}

/// A caller's own id, if it is short and can do no harm in a log, a header or a shell.
fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let fits = (1..=MAX_REQUEST_ID).contains(&id.len())
        && id
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte));
    fits.then_some(id)
}

/// Trace id and flags of a `traceparent` (W3C Trace Context section 3.2). A later version's extra fields are
/// ignored, as section 4.3 asks.
fn parent(value: &str) -> Option<(&str, &str)> {
    let mut fields = value.splitn(5, '-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let valid = hex(version, 2)
        && version != "ff"
        && (version != "00" || fields.next().is_none())
        && hex(trace, 32)
        && nonzero(trace)
        && hex(span, 16)
        && nonzero(span)
        && hex(flags, 2);
    valid.then_some((trace, flags))
}

/// Bytes of a `traceparent`.
const LENGTH: usize = 55;

/// Random bytes for one request: a trace id, a span id and a request id.
const RANDOM: usize = 40;

/// How many requests' random bytes are drawn at a time: the generator takes as long for few bytes as for many.
const DRAWN: usize = 50;

thread_local! {
    static STOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// [`RANDOM`] bytes as digits.
fn random_hex() -> [u8; 2 * RANDOM] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut digits = [b'0'; 2 * RANDOM];
    STOCK.with_borrow_mut(|stock| {
        if stock.is_empty() {
            stock.resize(DRAWN * RANDOM, 0);
            // Without randomness the ids are all zeros: a worse log, but no reason to refuse a request.
            let _ = aws_lc_rs::rand::fill(stock);
        }
        let left = stock.len().saturating_sub(RANDOM);
        let bytes = stock.get(left..).unwrap_or_default();
        for (digits, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *digits = [digit(byte >> 4), digit(byte & 15)];
        }
        stock.truncate(left);
    });
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(name: HeaderName, value: &str) -> Ids {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Ids::of(&headers)
    }

    #[test]
    fn a_well_formed_request_id_is_kept() {
        let uuid = "2f9c0f5e-7f0e-4b57-8a4e-2a8f5f3b1c11";
        assert_eq!(ids(REQUEST_ID, uuid).request_id(), uuid);
        for hostile in ["", "a b", "a\"b", "<script>", &"x".repeat(MAX_REQUEST_ID + 1)] {
            let ids = ids(REQUEST_ID, hostile);
            assert_ne!(ids.request_id(), hostile);
            assert_eq!(ids.request_id().len(), 32);
        }
        assert_ne!(
            Ids::of(&HeaderMap::new()).request_id(),
            Ids::of(&HeaderMap::new()).request_id()
        );
    }

    #[test]
    fn a_valid_traceparent_is_continued() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let ids = ids(TRACEPARENT, &format!("00-{trace}-00f067aa0ba902b7-01"));
        let mut headers = HeaderMap::new();
        ids.tell(&mut headers);
        let told = headers[TRACEPARENT].to_str().unwrap();
        assert!(
            told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01"),
            "{told}"
        );
        assert!(!told.contains("00f067aa0ba902b7"), "our span is a new one");
    }

    #[test]
    fn nobody_remembers_what_never_comes_again() {
        let mut headers = HeaderMap::new();
        ids(REQUEST_ID, "abc").tell(&mut headers);
        assert_eq!(headers.len(), 2);
        assert!(headers.values().all(HeaderValue::is_sensitive));
    }

    #[test]
    fn no_two_requests_have_the_same_random_ids() {
        let ids: std::collections::HashSet<_> = (0..10 * DRAWN).map(|_| random_hex()).collect();
        assert_eq!(ids.len(), 10 * DRAWN);
        assert!(ids.iter().all(|id| id.len() == 2 * RANDOM));
    }

    #[test]
    fn an_invalid_traceparent_starts_a_new_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert!(parent(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for bad in [
            "",
            "00",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("00-{trace}-00f067aa0ba902b7"),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{trace}-00f067aa0ba902b7-0g"),
        ] {
            assert_eq!(parent(bad), None, "{bad}");
        }
    }
}
