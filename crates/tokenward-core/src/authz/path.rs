//! The path of a request, where all who read it must read the same.

use std::{borrow::Cow, str};

/// A path in normal form, its escapes resolved.
///
/// A proxy, this program and the service behind them each read the path by themselves. A rule is only as good as their
/// agreement, so whatever one of them might read in another way than as it stands is no normal form: `.` and `..`
/// segments, `//`, `\`, `;` (parameters that some cut off), `#`, NUL and other controls, blanks, the escapes `%2f`, `%5c` and
/// `%00`, escapes of unreserved characters (RFC 3986 section 2.3) as `%2e` and `%61`, escapes of escapes as `%252e`,
/// malformed escapes, and what is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a>(Cow<'a, str>);

impl<'a> Path<'a> {
    /// The path of a request target, which ends before the query. `None` where it is not in normal form, or the target
    /// is none that begins with a path: `*`, an authority, or an absolute URL.
    #[must_use]
    pub fn of_target(target: &'a [u8]) -> Option<Self> {
        let end = target.iter().position(|byte| *byte == b'?');
        Self::parse(target.get(..end.unwrap_or(target.len()))?)
    }

    /// A path without a query. `None` where it is not in normal form.
    #[must_use]
    pub fn parse(path: &'a [u8]) -> Option<Self> {
        let mut segments = path.strip_prefix(b"/")?.split(|byte| *byte == b'/').peekable();
        let mut escaped = false;
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if matches!(segment, b"." | b"..") || (segment.is_empty() && !last) {
                return None;
            }
            escaped |= check(segment)?;
        }
        if escaped {
            String::from_utf8(resolve(path))
                .ok()
                .map(|path| Self(Cow::Owned(path)))
        } else {
            str::from_utf8(path).ok().map(|path| Self(Cow::Borrowed(path)))
        }
    }

    /// The path with its escapes resolved. It begins with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a part of a pattern, its escapes resolved. `None` where it could not be part of a path in normal form.
pub(super) fn literal(text: &str) -> Option<String> {
    let text = text.as_bytes();
    check(text)?;
    String::from_utf8(resolve(text)).ok()
}

/// Whether `segment` has escapes; `None` where something in it can be read in two ways.
fn check(segment: &[u8]) -> Option<bool> {
    let mut escaped = false;
    let mut rest = segment;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            0..=b' ' | 0x7f | b'\\' | b';' | b'#' | b'?' => return None,
            b'%' => {
                escaped = true;
                check_escape(after)?
            }
            _ => after,
        };
    }
    Some(escaped)
}

/// What comes after the escape whose digits `after` begins with.
fn check_escape(after: &[u8]) -> Option<&[u8]> {
    let (value, rest) = escape(after)?;
    let unreserved = value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~');
    let splits = matches!(value, 0 | b'/' | b'\\');
    // Whoever resolves escapes twice would find another path.
    let again = value == b'%' && escape(rest).is_some();
    (!unreserved && !splits && !again).then_some(rest)
}

/// The value of two hexadecimal digits, and what follows them.
fn escape(digits: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = digits else {
        return None;
    };
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some((digit(*high)? << 4 | digit(*low)?, rest))
}

/// With every escape resolved; all of them are well-formed.
fn resolve(text: &[u8]) -> Vec<u8> {
    let mut resolved = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        let found = if *byte == b'%' { escape(after) } else { None };
        let (value, next) = found.unwrap_or((*byte, after));
        resolved.push(value);
        rest = next;
    }
    resolved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Targets in normal form, and their paths.
    const NORMAL: &[(&str, &str)] = &[
        ("/", "/"),
        ("/?", "/"),
        ("/?a=/../b;%2e#", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b.c/d..e/...", "/a/b.c/d..e/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/café"),
        ("/caf%c3%a9", "/café"),
        ("/café", "/café"),
        ("/a%3Bb", "/a;b"),
        ("/a%23b%3F", "/a#b?"),
        ("/100%25", "/100%"),
        ("/100%25/x", "/100%/x"),
        ("/a%25g0", "/a%g0"),
        ("/a:b@c!$&'()*+,=|{}^\"<>[]~_-", "/a:b@c!$&'()*+,=|{}^\"<>[]~_-"),
        ("/a%0ab", "/a\nb"),
    ];

    /// Targets that somebody might read in another way.
    const OTHERS: &[&str] = &[
        "",
        "?",
        "*",
        "a",
        "a/b",
        "http://host/a",
        "host:443",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/./a",
        "/../a",
        "/a/.",
        "/a/..",
        "/a/../b",
        "/a/./b?x",
        "/public/../admin",
        "/public/..%2fadmin",
        "/public%2f..%2fadmin",
        "/public%2F..%2Fadmin",
        "/public/%2e%2e/admin",
        "/public/%2E./admin",
        "/public/.%2e/admin",
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/a;b",
        "/a/;",
        "/a;v=1/b",
        "/a\\b",
        "/..\\admin",
        "/a%5cb",
        "/a%5Cb",
        "/admin#/public",
        "/a#",
        "/a\0",
        "/a%00",
        "/a%00.png",
        "/a b",
        " /a",
        "/a ",
        "/a\tb",
        "/a\rb",
        "/a\nb",
        "/a\x7f",
        "/%61dmin",
        "/%41dmin",
        "/%7euser",
        "/%2d",
        "/%5f",
        "/%39",
        "/%252e%252e/admin",
        "/%252fadmin",
        "/%25252f",
        "/a%2561",
        "/a%",
        "/a%2",
        "/a%2g",
        "/a%g2",
        "/a%%20",
        "/a%u002e",
        "/a%-1",
        "/a%+1",
        // Overlong forms of `.` and `/`, a surrogate, and bytes that are no UTF-8.
        "/%c0%ae%c0%ae/admin",
        "/%c0%af",
        "/%e0%80%af",
        "/%ed%a0%80",
        "/%ff",
        "/%c3",
        "/a%c3/%a9",
    ];

    #[test]
    fn normal_forms_are_read_and_their_query_is_no_part_of_them() {
        for (target, path) in NORMAL {
            let read = Path::of_target(target.as_bytes());
            assert_eq!(read.as_ref().map(Path::as_str), Some(*path), "{target:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for target in OTHERS {
            assert_eq!(Path::of_target(target.as_bytes()), None, "{target:?}");
        }
        for target in [&b"/\xff"[..], b"/\xc0\xae", b"/\xc3", b"/\xed\xa0\x80"] {
            assert_eq!(Path::of_target(target), None, "{target:?}");
        }
        assert_eq!(Path::parse(b"/a?b"), None, "there is no query in a path");
    }

    #[test]
    fn nothing_is_copied_where_nothing_is_escaped() {
        for (path, copied) in [("/a/b", false), ("/caf\u{e9}", false), ("/a%20b", true)] {
            let path = Path::parse(path.as_bytes()).unwrap();
            assert_eq!(matches!(path.0, Cow::Owned(_)), copied, "{path:?}");
        }
    }

    /// What a careless server makes of a path: parameters cut off, escapes resolved twice, `\` for `/`, empty segments
    /// dropped, dots resolved.
    fn careless(path: &str) -> String {
        let cut: Vec<_> = path
            .split('/')
            .map(|segment| segment.split(';').next().unwrap())
            .collect();
        let mut text = cut.join("/").into_bytes();
        for _ in 0..2 {
            text = resolve(&text);
        }
        let text = String::from_utf8_lossy(&text).replace('\\', "/");
        let mut segments = Vec::new();
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        format!("/{}", segments.join("/"))
    }

    /// Paths made of what matters.
    fn paths() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "a", "b", ".", "..", "/", "//", "%2e", "%2F", "%5c", "%25", "%252e", "2e", "%61", ";", "\\", "%",
            "%20", "%3b", "#", "é", "%C3%A9", "%c0%ae", "%00", "admin", "?", " ",
        ]);
        prop::collection::vec(part, 0..8).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn a_careless_reader_finds_the_same_path(path in paths()) {
            if let Some(read) = Path::parse(path.as_bytes()) {
                let read = read.as_str();
                let without_end = if read.len() > 1 { read.trim_end_matches('/') } else { read };
                prop_assert_eq!(careless(&path), without_end);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(path) = Path::of_target(&bytes) {
                prop_assert!(path.as_str().starts_with('/') && !path.as_str().contains('\\'));
                prop_assert!(path.as_str().split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        #[test]
        fn escaping_what_need_not_be_changes_nothing(text in "[a-z/]{0,20}", odd in "[ é\"<>|;#?]{0,4}") {
            let path = format!("/{text}{odd}");
            let escaped: String = path.chars().map(|c| match c {
                'a'..='z' | '/' => c.to_string(),
                other => other.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
            }).collect();
            if let Some(read) = Path::parse(escaped.as_bytes()) {
                prop_assert_eq!(read.as_str(), path);
            } else {
                prop_assert!(path.contains("//"));
            }
        }
    }
}
