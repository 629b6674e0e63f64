//! Where a request carries its token (RFC 6750 section 2, RFC 9449 section 7.1).

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use tokenward_core::Denial;

/// A place in which a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The `Authorization` header, with the scheme `Bearer` or `DPoP`.
    Authorization,
    /// A header that holds the token and nothing else.
    Header(HeaderName),
    /// A cookie of this name. Browsers send cookies with requests that other sites make: protect such routes
    /// against cross-site request forgery.
    Cookie(String),
    /// A parameter of the query. URLs are kept in logs and histories, and the token with them: RFC 6750 section 2.3
    /// advises against it.
    Query(String),
}

/// Under which scheme a token was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: DPoP …`
    Dpop,
    /// None: in a carrier that has no scheme.
    Bare,
}

/// The token of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The token as it was sent, nothing of it checked.
    pub token: Cow<'a, str>,
    /// How it was presented.
    pub scheme: Scheme,
}

/// Why the token of a request cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// A carrier is empty or ambiguous.
    Denied(Denial),
    /// Two carriers have different tokens: whoever comes later might take the other one.
    Differ,
}

impl From<Denial> for Unread {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Unread> for Denial {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Denied(denial) => denial,
            Unread::Differ => Self::RequestMalformed,
        }
    }
}

/// Looks for the token of a request in `carriers`, in their order; `query` is that of its URL.
///
/// # Errors
///
/// The first error ends the search. [`Denial::TokenMissing`] where one of the headers is there but empty: something in
/// front meant to set it, so what stands elsewhere is not what it meant. [`Denial::RequestMalformed`] where a carrier is
/// ambiguous, [`Unread::Differ`], which is one as well, where two hold different tokens.
pub fn find<'a>(
    carriers: &[Carrier],
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Option<Found<'a>>, Unread> {
    let mut found = None;
    for carrier in carriers {
        match carrier {
            Carrier::Authorization => {
                if let Some((scheme, token)) = authorization(headers)? {
                    keep(&mut found, token.into(), scheme)?;
                }
            }
            Carrier::Header(name) => {
                if let Some(token) = bare(headers, name)? {
                    keep(&mut found, token.into(), Scheme::Bare)?;
                }
            }
            Carrier::Cookie(name) => {
                for token in cookies(headers, name)? {
                    keep(&mut found, token.into(), Scheme::Bare)?;
                }
            }
            Carrier::Query(name) => {
                let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
                for (_, token) in pairs.filter(|(key, token)| key == name && !token.is_empty()) {
                    keep(&mut found, token, Scheme::Bare)?;
                }
            }
        }
    }
    Ok(found)
}

fn keep<'a>(found: &mut Option<Found<'a>>, token: Cow<'a, str>, scheme: Scheme) -> Result<(), Unread> {
    match found {
        None => *found = Some(Found { token, scheme }),
        Some(earlier) if earlier.token != token => return Err(Unread::Differ),
        // The scheme, where there is one, says what the client meant.
        Some(earlier) if scheme != Scheme::Bare => earlier.scheme = scheme,
        Some(_) => {}
    }
    Ok(())
}

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
    match single(headers, &AUTHORIZATION)? {
        Some(value) => Ok(credentials(value, &[Scheme::Bearer])?.map(|(_, token)| token)),
        None => Ok(None),
    }
}

/// The token of the `Authorization` header under either scheme, as [`bearer`] reads it.
///
/// # Errors
///
/// [`Denial::TokenMissing`] where the header is there but empty, [`Denial::RequestMalformed`] as of [`bearer`].
fn authorization(headers: &HeaderMap) -> Result<Option<(Scheme, &str)>, Denial> {
    match single(headers, &AUTHORIZATION)? {
        None => Ok(None),
        Some("") => Err(Denial::TokenMissing),
        Some(value) => credentials(value, &[Scheme::Bearer, Scheme::Dpop]),
    }
}

fn credentials<'a>(value: &'a str, schemes: &[Scheme]) -> Result<Option<(Scheme, &'a str)>, Denial> {
    let (name, rest) = value.split_once(' ').unwrap_or((value, ""));
    let scheme = schemes.iter().find(|scheme| match scheme {
        Scheme::Bearer => name.eq_ignore_ascii_case("bearer"),
        Scheme::Dpop => name.eq_ignore_ascii_case("dpop"),
        Scheme::Bare => false,
    });
    let Some(scheme) = scheme else {
        return if value.contains(',') {
            Err(Denial::RequestMalformed)
        } else {
            Ok(None)
        };
    };
    let token = rest.trim_start_matches(' ');
    if is_b64token(token) {
        Ok(Some((*scheme, token)))
    } else {
        Err(Denial::RequestMalformed)
    }
}

/// The token of a header that holds nothing else.
///
/// # Errors
///
/// [`Denial::TokenMissing`] where the header is there but empty, [`Denial::RequestMalformed`] where it is there twice, is
/// not visible ASCII, or has a comma.
fn bare<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denial> {
    match single(headers, name)? {
        None => Ok(None),
        Some("") => Err(Denial::TokenMissing),
        // What a proxy joined of two headers.
        Some(value) if value.contains(',') => Err(Denial::RequestMalformed),
        Some(value) => Ok(Some(value)),
    }
}

/// The values of all cookies of that name (RFC 6265 section 5.4). An empty one is how sites delete a cookie, and
/// no token.
///
/// # Errors
///
/// [`Denial::RequestMalformed`] where one of them is not UTF-8.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<&'a str>, Denial> {
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
    // Without a way out in the middle, so that many bytes are looked at together.
    let visible = value.as_bytes().iter().fold(true, |all, byte| {
        all & (matches!(byte, b' '..=b'~') | (*byte == b'\t'))
    });
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| visible);
    text.map(Some).ok_or(Denial::RequestMalformed)
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, RFC 6750 section 2.1.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    // Without a way out in the middle, so that many bytes are looked at together.
    let all = body.bytes().fold(true, |all, byte| {
        // Between `-` and `9` stand `.`, `/` and the digits, and nothing else.
        all & ((byte | 0x20).is_ascii_lowercase() | matches!(byte, b'-'..=b'9' | b'_' | b'~' | b'+'))
    });
    all && !body.is_empty()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
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
            ("Basic ~ !", Ok(None)),
            ("Basic \u{e9}", Err(Denial::RequestMalformed)),
            ("Bearer a=b", Err(Denial::RequestMalformed)),
            ("Bearer a;q=1", Err(Denial::RequestMalformed)),
        ] {
            assert_eq!(bearer(&headers(&[value])), expected, "{value:?}");
        }
        assert_eq!(bearer(&headers(&[])), Ok(None));
    }

    #[test]
    fn a_token_is_of_the_bytes_of_its_grammar() {
        const OTHERS: &str = "-._~+/";
        for byte in 0..=u8::MAX {
            let character = char::from(byte);
            let allowed = byte.is_ascii_alphanumeric() || OTHERS.contains(character);
            // As the last character it may be one that pads.
            let token = format!("{}{character}a", "x".repeat(40));
            assert_eq!(is_b64token(&token), allowed, "{byte}");
        }
    }

    #[test]
    fn two_headers_are_never_one() {
        assert_eq!(
            bearer(&headers(&["Bearer a", "Bearer a"])),
            Err(Denial::RequestMalformed)
        );
    }

    /// The token and its scheme, of headers and a query.
    fn found(
        carriers: &[Carrier],
        headers: &[(&str, &str)],
        query: &str,
    ) -> Result<Option<(String, Scheme)>, Denial> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::try_from(*name).unwrap(), value)
            })
            .collect();
        let found = find(carriers, &headers, Some(query))?;
        Ok(found.map(|found| (found.token.into_owned(), found.scheme)))
    }

    #[test]
    fn each_carrier_is_read_by_its_own_rules() {
        let header = || Carrier::Header(HeaderName::from_static("x-token"));
        let cookie = || Carrier::Cookie("session".into());
        let query = || Carrier::Query("access_token".into());
        let bare = |token: &str| Ok(Some((token.to_owned(), Scheme::Bare)));
        let missing = Err(Denial::TokenMissing);
        let malformed = Err(Denial::RequestMalformed);
        for (carrier, headers, parameters, expected) in [
            (Carrier::Authorization, &[][..], "access_token=a", Ok(None)),
            (
                Carrier::Authorization,
                &[("authorization", "bEaReR a.b")],
                "",
                Ok(Some(("a.b".into(), Scheme::Bearer))),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "dpop  a.b")],
                "",
                Ok(Some(("a.b".into(), Scheme::Dpop))),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "Basic eA==")],
                "",
                Ok(None),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "")],
                "",
                missing.clone(),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "DPoP a,b")],
                "",
                malformed.clone(),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "DPoP")],
                "",
                malformed.clone(),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
                "",
                malformed.clone(),
            ),
            (
                Carrier::Authorization,
                &[("authorization", "Basic eA=="), ("authorization", "Bearer a")],
                "",
                malformed.clone(),
            ),
            (header(), &[("x-token", "a.b")], "", bare("a.b")),
            (header(), &[("x-token", "")], "", missing),
            (header(), &[("x-token", "a,b")], "", malformed.clone()),
            (
                header(),
                &[("x-token", "a"), ("x-token", "a")],
                "",
                malformed.clone(),
            ),
            (header(), &[("authorization", "Bearer a")], "x-token=a", Ok(None)),
            (
                cookie(),
                &[("cookie", "a=b; session=\"a.b\"; c=d")],
                "",
                bare("a.b"),
            ),
            (
                cookie(),
                &[("cookie", "a=b"), ("cookie", "session=a")],
                "",
                bare("a"),
            ),
            (cookie(), &[("cookie", "session=")], "", Ok(None)),
            (cookie(), &[("cookie", "xsession=a; session2=a")], "", Ok(None)),
            (
                cookie(),
                &[("cookie", "session=a; session=b")],
                "",
                malformed.clone(),
            ),
            (
                query(),
                &[("authorization", "Bearer a")],
                "x=1&access_token=a%2Eb&y",
                bare("a.b"),
            ),
            (query(), &[], "access_token=", Ok(None)),
            (query(), &[], "Access_Token=a", Ok(None)),
            (query(), &[], "access_token=a&access_token=b", malformed),
        ] {
            assert_eq!(
                found(std::slice::from_ref(&carrier), headers, parameters),
                expected,
                "{carrier:?} {headers:?}"
            );
        }
    }

    #[test]
    fn carriers_must_agree_and_the_first_error_ends_the_search() {
        let all = [
            Carrier::Header(HeaderName::from_static("x-token")),
            Carrier::Authorization,
            Carrier::Cookie("session".into()),
        ];
        for (headers, expected) in [
            (&[("cookie", "session=a")][..], Ok(Some(Scheme::Bare))),
            (
                &[("x-token", "a"), ("authorization", "DPoP a")],
                Ok(Some(Scheme::Dpop)),
            ),
            (
                &[("authorization", "Bearer a"), ("cookie", "session=a")],
                Ok(Some(Scheme::Bearer)),
            ),
            (
                &[("x-token", "a"), ("authorization", "Bearer b")],
                Err(Denial::RequestMalformed),
            ),
            (
                &[("authorization", "Bearer a"), ("cookie", "session=b")],
                Err(Denial::RequestMalformed),
            ),
            (
                &[("x-token", ""), ("authorization", "Bearer a")],
                Err(Denial::TokenMissing),
            ),
            (
                &[("x-token", "a,b"), ("authorization", "")],
                Err(Denial::RequestMalformed),
            ),
            (&[], Ok(None)),
        ] {
            let scheme = found(&all, headers, "").map(|found| found.map(|(_, scheme)| scheme));
            assert_eq!(scheme, expected, "{headers:?}");
        }
    }
}
