//! Which part of a request carries its token.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use tokenward::carrier;
use tokenward_core::Denial;

/// Why a request's token cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Denied(Denial),
    /// Two carriers have different tokens: whoever comes later might take the other one.
    Differ,
}

impl From<Denial> for Unread {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// The configured carriers, in order.
pub(super) struct Carriers {
    headers: Vec<HeaderName>,
    cookie: Option<String>,
}

impl Carriers {
    pub(super) fn new(headers: Vec<HeaderName>, cookie: Option<String>) -> Self {
        Self { headers, cookie }
    }

    /// The token of a request.
    ///
    /// # Errors
    ///
    /// [`Denial::TokenMissing`] where no carrier has one, and where a configured header is there but empty:
    /// something in front meant to set it, so what stands elsewhere is not what it meant.
    /// [`Denial::RequestMalformed`] where a carrier is ambiguous, [`Unread::Differ`] where two do not agree.
    pub(super) fn token<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Unread> {
        let mut found = None;
        for name in &self.headers {
            if let Some(token) = in_header(headers, name)? {
                keep(&mut found, token)?;
            }
        }
        if let Some(name) = &self.cookie {
            for token in in_cookies(headers, name)? {
                keep(&mut found, token)?;
            }
        }
        found.ok_or(Unread::Denied(Denial::TokenMissing))
    }
}

fn keep<'a>(found: &mut Option<&'a str>, token: &'a str) -> Result<(), Unread> {
    match found.replace(token) {
        Some(other) if other != token => Err(Unread::Differ),
        _ => Ok(()),
    }
}

fn in_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denial> {
    let value = carrier::single(headers, name)?;
    match value {
        None => Ok(None),
        Some("") => Err(Denial::TokenMissing),
        Some(_) if name == AUTHORIZATION => carrier::bearer(headers),
        // What a proxy joined of two headers.
        Some(value) if value.contains(',') => Err(Denial::RequestMalformed),
        Some(value) => Ok(Some(value)),
    }
}

/// The values of all cookies of that name (RFC 6265 section 5.4). An empty one is how sites delete a cookie, and
/// no token.
fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<&'a str>, Denial> {
    let mut values = Vec::new();
    for header in headers.get_all(COOKIE) {
        // Another cookie may hold any bytes; ours is looked for among those that are text.
        for pair in header.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(value) = pair
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
            else {
                continue;
            };
            let value = std::str::from_utf8(value).map_err(|_| Denial::RequestMalformed)?;
            let value = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(value);
            if !value.is_empty() {
                values.push(value);
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MISSING: Result<&str, Unread> = Err(Unread::Denied(Denial::TokenMissing));
    const MALFORMED: Result<&str, Unread> = Err(Unread::Denied(Denial::RequestMalformed));
    const DIFFER: Result<&str, Unread> = Err(Unread::Differ);

    fn token(carriers: &Carriers, headers: &[(&str, &str)]) -> Result<String, Unread> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
            })
            .collect();
        carriers.token(&headers).map(str::to_owned)
    }

    #[test]
    fn authorization_follows_the_grammar() {
        let carriers = Carriers::new(vec![AUTHORIZATION], None);
        for (headers, expected) in [
            (&[][..], MISSING),
            (&[("authorization", "Bearer abc")], Ok("abc")),
            (&[("authorization", "bEaReR abc")], Ok("abc")),
            (&[("authorization", "")], MISSING),
            (&[("authorization", "Basic dXNlcjpwdw==")], MISSING),
            (&[("authorization", "abc")], MISSING),
            (&[("authorization", "Bearer")], MALFORMED),
            (&[("authorization", "Bearer a b")], MALFORMED),
            (&[("authorization", "Bearer a,Bearer b")], MALFORMED),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
                MALFORMED,
            ),
            (&[("x-token", "abc")], MISSING),
            (&[("cookie", "session_token=abc")], MISSING),
        ] {
            assert_eq!(
                token(&carriers, headers).as_deref(),
                expected.as_ref().map(|t| *t),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn carriers_are_looked_at_in_order_and_must_agree() {
        let x_token = HeaderName::from_static("x-token");
        let carriers = Carriers::new(vec![x_token, AUTHORIZATION], Some("session".into()));
        for (headers, expected) in [
            (&[("x-token", "abc")][..], Ok("abc")),
            (&[("authorization", "Bearer abc")], Ok("abc")),
            (&[("cookie", "session=abc")], Ok("abc")),
            (&[("cookie", "a=b; session=\"abc\"; c=d")], Ok("abc")),
            (&[("cookie", "a=b"), ("cookie", "session=abc")], Ok("abc")),
            (&[("cookie", "session=")], MISSING),
            (&[("cookie", "xsession=abc; session2=abc")], MISSING),
            (
                &[
                    ("x-token", "abc"),
                    ("authorization", "Bearer abc"),
                    ("cookie", "session=abc"),
                ],
                Ok("abc"),
            ),
            (&[("x-token", "abc"), ("authorization", "Bearer abd")], DIFFER),
            (
                &[("authorization", "Bearer abc"), ("cookie", "session=abd")],
                DIFFER,
            ),
            (&[("cookie", "session=abc; session=abd")], DIFFER),
            (&[("cookie", "session=\u{fc}")], Ok("\u{fc}")),
            (&[("x-token", ""), ("authorization", "Bearer abc")], MISSING),
            (&[("x-token", "abc"), ("authorization", "")], MISSING),
            (&[("x-token", "abc,abc")], MALFORMED),
            (&[("x-token", "abc"), ("x-token", "abc")], MALFORMED),
            (&[("x-token", "Bearer abc")], Ok("Bearer abc")),
        ] {
            assert_eq!(
                token(&carriers, headers).as_deref(),
                expected.as_ref().map(|t| *t),
                "{headers:?}"
            );
        }
    }
}
