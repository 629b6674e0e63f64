//! Conditional requests and content negotiation (RFC 9110 sections 12 and 13), for bodies that are ready made.

use http::{HeaderMap, HeaderName, header};

/// Parts of a list header that are looked at; a longer one is cut. No honest client comes near it.
const MAX_PARTS: usize = 64;

/// Whether `Accept-Encoding` wants gzip at least as much as the plain body (RFC 9110 section 12.5.3).
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for part in parts(headers, &header::ACCEPT_ENCODING) {
        let (coding, q) = weighted(part);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(q);
        } else if coding == "*" {
            any = Some(q);
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = Some(q);
        }
    }
    // What only `*` names may be gzip, but a client that names identity knows what it asks for.
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Whether `Accept` names `media` itself, and wants it at least as much as `otherwise`. Ranges name neither.
pub(crate) fn prefers(headers: &HeaderMap, media: &str, otherwise: &str) -> bool {
    let (mut wanted, mut other) = (0, 0);
    for part in parts(headers, &header::ACCEPT) {
        let (name, q) = weighted(part);
        if name.eq_ignore_ascii_case(media) {
            wanted = wanted.max(q);
        } else if name.eq_ignore_ascii_case(otherwise) {
            other = other.max(q);
        }
    }
    wanted > 0 && wanted >= other
}

/// Whether `If-None-Match` names `etag`, so that the answer is 304 (RFC 9110 section 13.1.2: weak comparison).
pub(crate) fn revalidates(headers: &HeaderMap, etag: &str) -> bool {
    parts(headers, &header::IF_NONE_MATCH)
        .any(|part| part == "*" || part.strip_prefix("W/").unwrap_or(part) == etag)
}

/// The members of a comma-separated list, over all headers of that name. Our own entity tags hold no comma, so
/// that one within a foreign tag cannot make it look like ours.
fn parts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.trim_matches([' ', '\t']))
        .filter(|part| !part.is_empty())
        .take(MAX_PARTS)
}

/// A list member without its parameters, and its weight in thousandths. One that is out of the grammar has none.
fn weighted(part: &str) -> (&str, u16) {
    let mut pieces = part.split(';').map(|piece| piece.trim_matches([' ', '\t']));
    let name = pieces.next().unwrap_or("");
    let q = pieces
        .find_map(|piece| piece.strip_prefix("q=").or_else(|| piece.strip_prefix("Q=")))
        .map_or(1000, |q| thousandths(q).unwrap_or(0));
    (name, q)
}

/// `qvalue` of RFC 9110 section 12.4.2: at most 1, at most three digits after the point.
fn thousandths(q: &str) -> Option<u16> {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_asked_for() {
        for (value, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("br, gzip;q=0.5", true),
            ("*", true),
            ("br", false),
            ("", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*, gzip;q=0", false),
            ("gzip;q=0.5, identity", false),
            ("gzip;q=0.5, identity;q=0.5", true),
            ("gzip;q=2", false),
            ("gzip;q=nonsense", false),
            ("identity;q=0", false),
        ] {
            assert_eq!(
                accepts_gzip(&with(&header::ACCEPT_ENCODING, &[value])),
                expected,
                "{value:?}"
            );
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
        assert!(
            accepts_gzip(&with(&header::ACCEPT_ENCODING, &["br", "gzip"])),
            "two headers are one list"
        );
    }

    #[test]
    fn a_media_type_is_preferred_only_by_name() {
        let (set, json) = ("application/jwk-set+json", "application/json");
        for (value, expected) in [
            ("application/jwk-set+json", true),
            ("application/jwk-set+json, application/json", true),
            ("Application/JWK-Set+JSON;q=0.9, */*", true),
            ("application/json, application/jwk-set+json;q=0.5", false),
            ("application/jwk-set+json;q=0", false),
            ("application/*", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            assert_eq!(
                prefers(&with(&header::ACCEPT, &[value]), set, json),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn revalidation_compares_weakly_over_a_list() {
        for (values, expected) in [
            (&["\"abc\""][..], true),
            (&["W/\"abc\""], true),
            (&["\"x\", W/\"y\" ,\"abc\""], true),
            (&["\"x\"", "\"abc\""], true),
            (&["*"], true),
            (&["\"abc-gzip\""], false),
            (&["abc"], false),
            (&[""], false),
        ] {
            assert_eq!(
                revalidates(&with(&header::IF_NONE_MATCH, values), "\"abc\""),
                expected,
                "{values:?}"
            );
        }
        let long = vec!["\"x\""; MAX_PARTS].join(",") + ",\"abc\"";
        assert!(
            !revalidates(&with(&header::IF_NONE_MATCH, &[&long]), "\"abc\""),
            "the list is bounded"
        );
    }
}
