//! Which part of a request carries its token.

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use tokenward::carrier::{self, Carrier, Found, Unread};
use tokenward_core::Denial;

/// The configured carriers, in order.
pub(super) struct Carriers(Vec<Carrier>);

impl Carriers {
    pub(super) fn new(headers: Vec<HeaderName>, cookie: Option<String>) -> Self {
        let headers = headers.into_iter().map(|name| {
            if name == AUTHORIZATION {
                Carrier::Authorization
            } else {
                Carrier::Header(name)
            }
        });
        Self(headers.chain(cookie.map(Carrier::Cookie)).collect())
    }

    /// The token of a request, as [`carrier::find`] finds it.
    ///
    /// # Errors
    ///
    /// Those of [`carrier::find`], and [`Denial::TokenMissing`] where no carrier has one.
    pub(super) fn token<'a>(&self, headers: &'a HeaderMap) -> Result<Found<'a>, Unread> {
        carrier::find(&self.0, headers, None)?.ok_or(Unread::Denied(Denial::TokenMissing))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokenward::carrier::Scheme;

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
        carriers.token(&headers).map(|found| found.token.into_owned())
    }

    #[test]
    fn authorization_follows_the_grammar() {
        let carriers = Carriers::new(vec![AUTHORIZATION], None);
        for (headers, expected) in [
            (&[][..], MISSING),
            (&[("authorization", "Bearer abc")], Ok("abc")),
            (&[("authorization", "bEaReR abc")], Ok("abc")),
            (&[("authorization", "")], MISSING),
            (&[("authorization", "DPoP abc")], Ok("abc")),
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

    #[test]
    fn the_scheme_is_that_of_the_header_that_has_one() {
        let carriers = Carriers::new(
            vec![HeaderName::from_static("x-token"), AUTHORIZATION],
            Some("session".into()),
        );
        for (headers, scheme) in [
            (&[("x-token", "abc")][..], Scheme::Bare),
            (&[("cookie", "session=abc")], Scheme::Bare),
            (&[("authorization", "bearer abc")], Scheme::Bearer),
            (&[("authorization", "dpop abc")], Scheme::Dpop),
            (
                &[
                    ("x-token", "abc"),
                    ("authorization", "DPoP abc"),
                    ("cookie", "session=abc"),
                ],
                Scheme::Dpop,
            ),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(carriers.token(&headers).unwrap().scheme, scheme, "{headers:?}");
        }
    }
}
