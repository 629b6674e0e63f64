//! Comparing the URL that a proof names with the URL of a request.

/// Whether two absolute URLs name the same resource, queries and fragments aside: RFC 9449 section 4.3 compares after
/// syntax-based and scheme-based normalization (RFC 3986 sections 6.2.2 and 6.2.3).
///
/// The case of scheme and host, a default port, escapes of unreserved characters, the case of other escapes, dot
/// segments and an absent path make no difference; anything else does. Text that is no `http` or `https` URL is the same
/// as nothing, nor is a URL with user information.
#[must_use]
pub fn same_target(one: &str, other: &str) -> bool {
    match (normal(one), normal(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Scheme, host, port and path.
fn normal(url: &str) -> Option<(String, String, u16, String)> {
    let url = url.split(['?', '#']).next()?;
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match &*scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = split_port(authority)?;
    let port = match port {
        "" => default_port,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let host = host_name(host)?;
    let path = without_dot_segments(&unescaped(path, is_path)?);
    Some((scheme, host, port, path))
}

/// Host and digits of the port. The colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (bracketed, rest) = authority.split_at(end);
    match rest.find(':') {
        None => Some((authority, "")),
        Some(colon) => {
            let host = authority.get(..bracketed.len() + colon)?;
            Some((host, rest.get(colon + 1..)?))
        }
    }
}

fn host_name(host: &str) -> Option<String> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = address {
        // An address has many spellings, and the parsed one has one.
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let host = unescaped(host, |byte| is_unreserved(byte) || is_sub_delimiter(byte))?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// With escapes of unreserved characters undone and those of others in capitals; None where anything but escapes and
/// what `allowed` names stands there.
fn unescaped(text: &str, allowed: impl Fn(u8) -> bool) -> Option<String> {
    let mut normal = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = u8::try_from(digit()? * 16 + digit()?).ok()?;
            if is_unreserved(value) {
                normal.push(char::from(value));
            } else {
                normal.push_str(&format!("%{value:02X}"));
            }
        } else if allowed(byte) {
            normal.push(char::from(byte));
        } else {
            return None;
        }
    }
    Some(normal)
}

/// RFC 3986 section 5.2.4, of an absolute path. An empty one is the root.
fn without_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let is_last = rest.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => {
                segments.push(segment);
                continue;
            }
        }
        // What a dot segment at the end leaves is a directory.
        if is_last {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

const fn is_path(byte: u8) -> bool {
    is_unreserved(byte) || is_sub_delimiter(byte) || matches!(byte, b':' | b'@' | b'/')
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_sub_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_normalization_removes_makes_no_difference() {
        for (one, other) in [
            ("https://api.example/a", "https://api.example/a"),
            ("https://api.example/a", "https://api.example/a?x=1"),
            ("https://api.example/a?x=/../2", "https://api.example/a#y"),
            ("HTTPS://API.Example/a", "https://api.example:443/a"),
            ("http://api.example:80", "http://api.example/"),
            ("https://api.example:/a", "https://api.example/a"),
            ("https://api.example:0443/a", "https://api.example/a"),
            ("https://api.example?x", "https://api.example/"),
            ("https://api.example/%7Eu/%61", "https://api.example/~u/a"),
            ("https://api.example/%c3%a9", "https://api.example/%C3%A9"),
            ("https://api.example/a/./b/../c", "https://api.example/a/c"),
            ("https://api.example/a/%2E%2e/c", "https://api.example/c"),
            ("https://api.example/a/..", "https://api.example/"),
            ("https://api.example/a/b/.", "https://api.example/a/b/"),
            ("https://api.example/../../a", "https://api.example/a"),
            ("https://api.example/S:/../a", "https://api.example/a"),
            ("https://a%70i.example/a", "https://api.example/a"),
            ("https://[2001:DB8::1]:443/a", "https://[2001:db8:0::1]/a"),
        ] {
            assert!(same_target(one, other), "{one} {other}");
        }
    }

    #[test]
    fn anything_else_does() {
        for (one, other) in [
            ("https://api.example/a", "http://api.example/a"),
            ("https://api.example/a", "https://api.example:8443/a"),
            ("https://api.example/a", "https://api.example.org/a"),
            ("https://api.example/a", "https://api.example/A"),
            ("https://api.example/a", "https://api.example/a/"),
            ("https://api.example/a", "https://api.example//a"),
            ("https://api.example/a/b", "https://api.example/a%2Fb"),
            ("https://api.example/a;v=1", "https://api.example/a"),
            ("https://[::1]/", "https://[::2]/"),
        ] {
            assert!(!same_target(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_request_is_the_same_as_nothing() {
        for url in [
            "",
            "/a",
            "//api.example/a",
            "api.example/a",
            "https:/api.example/a",
            "https:///a",
            "https://:443/a",
            "https://user@api.example/a",
            "https://user:pw@api.example/a",
            "https://api.example:x/a",
            "https://api.example:65536/a",
            "https://api.example:-1/a",
            "https://[::1/a",
            "https://[::1]x/a",
            "https://[api]/a",
            "https://api.example/a b",
            "https://api.example/%zz",
            "https://api.example/%4",
            "https://api.example/%",
            "https://api.example/é",
            "https://api.example\\a",
            " https://api.example/a",
            "ftp://api.example/a",
            "javascript://api.example/a",
        ] {
            assert!(!same_target(url, url), "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_is_idempotent_and_never_panics(url in r"https?://[a-z\[\]:0-9]{0,8}[/a.%0-9A-F?#é]{0,24}") {
            if let Some((scheme, host, port, path)) = normal(&url) {
                let again = format!("{scheme}://{host}:{port}{path}");
                prop_assert_eq!(normal(&again), Some((scheme, host, port, path)));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = same_target(&text, &format!("https://{text}"));
        }
    }
}
