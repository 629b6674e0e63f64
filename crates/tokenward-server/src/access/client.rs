//! Callers of the OAuth endpoints: they present their credential as a bearer token, or as the password of its name (RFC 6749
//! section 2.3.1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use tokenward::carrier;

use super::Refusal;

/// A credential as it was presented.
#[derive(PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// Its secret.
    Bearer(&'a str),
    /// Its name and its secret. The RFC has both form-urlencoded first, which curl and others leave out: that reading is
    /// tried too.
    Basic {
        encoded: (String, String),
        plain: (String, String),
    },
}

/// The credential that `headers` carry, by either scheme.
///
/// # Errors
///
/// Where there is not exactly one header that can be read.
pub(super) fn presented(headers: &HeaderMap) -> Result<Option<Presented<'_>>, Refusal> {
    if let Some(secret) = carrier::bearer(headers).map_err(|_| Refusal::Malformed)? {
        return Ok(Some(Presented::Bearer(secret)));
    }
    let Some(credentials) = basic(headers) else {
        return Ok(None);
    };
    let decoded = STANDARD.decode(credentials).map_err(|_| Refusal::Malformed)?;
    let text = String::from_utf8(decoded).map_err(|_| Refusal::Malformed)?;
    let (name, secret) = text.split_once(':').ok_or(Refusal::Malformed)?;
    Ok(Some(Presented::Basic {
        encoded: (form_decoded(name), form_decoded(secret)),
        plain: (name.to_owned(), secret.to_owned()),
    }))
}

/// What follows the scheme `Basic` (RFC 7617), where that is the scheme.
pub(super) fn basic(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| rest.trim_start_matches(' '))
}

fn form_decoded(text: &str) -> String {
    // Encoded text has no `&`, and everything behind one would be cut off.
    if text.contains('&') {
        return text.to_owned();
    }
    let pair = format!("x={text}");
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
    decoded.map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter();
        values
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn readings(text: &str) -> [(String, String); 2] {
        let headers = headers(&[&format!("Basic {}", STANDARD.encode(text))]);
        match presented(&headers) {
            Ok(Some(Presented::Basic { encoded, plain })) => [encoded, plain],
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn name_and_secret_are_read_as_encoded_and_as_they_stand() {
        let pair = |name: &str, secret: &str| (name.to_owned(), secret.to_owned());
        for (text, encoded, plain) in [
            ("ops:abc", pair("ops", "abc"), pair("ops", "abc")),
            ("o%2Ep:a%2Bb%3D", pair("o.p", "a+b="), pair("o%2Ep", "a%2Bb%3D")),
            ("ops:a+b==", pair("ops", "a b=="), pair("ops", "a+b==")),
            ("ops:a:b", pair("ops", "a:b"), pair("ops", "a:b")),
            ("ops:abc&x", pair("ops", "abc&x"), pair("ops", "abc&x")),
            (":", pair("", ""), pair("", "")),
        ] {
            assert_eq!(readings(text), [encoded, plain], "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_other_schemes_present_nothing() {
        let of = |values: &[&str]| presented(&headers(values)).map(|found| found.is_some());
        let good = format!("basic  {}", STANDARD.encode("ops:abc"));
        for (values, expected) in [
            (&[][..], Ok(false)),
            (&["Digest x=y"], Ok(false)),
            (&["Basicx"], Ok(false)),
            (&["bearer abc"], Ok(true)),
            (&[good.as_str()], Ok(true)),
            (&["Basic"], Err(Refusal::Malformed)),
            (&["Basic b3BzOmFiYw"], Err(Refusal::Malformed)),
            (&["Basic b3Bz"], Err(Refusal::Malformed)),
            (&["Basic b3BzOv8="], Err(Refusal::Malformed)),
            (&["Basic b3BzOmFiYw==, Bearer x"], Err(Refusal::Malformed)),
            (&[good.as_str(), good.as_str()], Err(Refusal::Malformed)),
            (&[good.as_str(), "Bearer x"], Err(Refusal::Malformed)),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }
}
