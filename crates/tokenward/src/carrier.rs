//! Where a request carries its token (RFC 6750 section 2.1).

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use tokenward_core::Denial;

/// The bearer token of the `Authorization` header, if the request has one.
///
/// The scheme is case-insensitive, one or more spaces follow it, and what comes then is exactly one
/// `b64token`. A header with another scheme is no bearer token.
///
/// # Errors
///
/// [`Denial::RequestMalformed`] where the header is there more than once, is not visible ASCII, or is a
/// `Bearer` credential out of the grammar: a comma may be two headers that a proxy joined, and picking one of
/// them would be a guess.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let Some(value) = single(headers, &AUTHORIZATION)? else {
        return Ok(None);
    };
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return if value.contains(',') {
            Err(Denial::RequestMalformed)
        } else {
            Ok(None)
        };
    }
    let token = rest.trim_start_matches(' ');
    if is_b64token(token) {
        Ok(Some(token))
    } else {
        Err(Denial::RequestMalformed)
    }
}

/// The bare value of a header that carries nothing but the token.
///
/// An empty value is `Some("")`: the carrier was used, so nothing else may be fallen back to.
///
/// # Errors
///
/// [`Denial::RequestMalformed`] where the header is there more than once or is not visible ASCII.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denial> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Denial::RequestMalformed);
    }
    value.to_str().map(Some).map_err(|_| Denial::RequestMalformed)
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, RFC 6750 section 2.1.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn reads_the_grammar_of_rfc_6750() {
        for (value, expected) in [
            ("Bearer abc", Ok(Some("abc"))),
            ("bearer abc.def-_~+/=", Ok(Some("abc.def-_~+/="))),
            ("BEARER  abc", Ok(Some("abc"))),
            ("Basic dXNlcg==", Ok(None)),
            ("Bearerabc", Ok(None)),
            ("Bearer", Err(Denial::RequestMalformed)),
            ("Bearer ", Err(Denial::RequestMalformed)),
            ("Bearer a b", Err(Denial::RequestMalformed)),
            ("Bearer a,Bearer b", Err(Denial::RequestMalformed)),
            ("Basic x, Bearer b", Err(Denial::RequestMalformed)),
            ("Bearer\tabc", Ok(None)),
            ("Bearer a=b", Err(Denial::RequestMalformed)),
            ("Bearer a;q=1", Err(Denial::RequestMalformed)),
        ] {
            assert_eq!(bearer(&headers(&[value])), expected, "{value:?}");
        }
        assert_eq!(bearer(&headers(&[])), Ok(None));
    }

    #[test]
    fn two_headers_are_never_one() {
        assert_eq!(
            bearer(&headers(&["Bearer a", "Bearer a"])),
            Err(Denial::RequestMalformed)
        );
    }
}
