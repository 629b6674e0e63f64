//! The headers that tell an upstream whom an allowed request is from.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONNECTION};
use tokenward_core::{
    Denial,
    claims::{Claim, Claims},
};

const SUBJECT: HeaderName = HeaderName::from_static("x-tokenward-subject");
const ISSUER: HeaderName = HeaderName::from_static("x-tokenward-issuer");
const TOKEN_ID: HeaderName = HeaderName::from_static("x-tokenward-token-id");
const SCOPE: HeaderName = HeaderName::from_static("x-tokenward-scope");

/// The longest encoded value, in bytes: below what proxies give one header of an answer.
const MAX_VALUE: usize = 4 * 1024;

/// Headers that say whom a request is from, each name once.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

/// Which headers say whom a request is from.
pub(super) struct Identity {
    mapped: Vec<(HeaderName, String)>,
    /// Their names.
    names: Vec<Name>,
    /// Every other spelling that an upstream may take for one of them.
    spellings: Vec<Name>,
}

/// A name that answers are made of.
pub(crate) struct Name {
    header: HeaderName,
    text: Bytes,
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        self.header.as_str()
    }

    /// Shared with everybody who asks.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.text.clone()
    }
}

impl From<HeaderName> for Name {
    fn from(header: HeaderName) -> Self {
        Self {
            text: Bytes::copy_from_slice(header.as_str().as_bytes()),
            header,
        }
    }
}

impl Identity {
    /// Our own headers, and those that hold a claim.
    pub(super) fn new(mapped: Vec<(HeaderName, String)>) -> Self {
        let own = [SUBJECT, ISSUER, TOKEN_ID, SCOPE];
        let names: Vec<HeaderName> = own
            .into_iter()
            .chain(mapped.iter().map(|(name, _)| name.clone()))
            .collect();
        let others = names.iter().flat_map(spellings);
        let others = others
            .filter(|spelling| !names.contains(spelling))
            .map(Name::from);
        Self {
            spellings: others.collect(),
            names: names.into_iter().map(Name::from).collect(),
            mapped,
        }
    }

    /// Every name that must not come from a client, and that `identity` does not set.
    pub(super) fn beside<'a>(
        &'a self,
        identity: &'a [(HeaderName, HeaderValue)],
    ) -> impl Iterator<Item = &'a Name> {
        let set = |name: &Name| identity.iter().any(|(set, _)| *set == name.header);
        let unset = self.names.iter().filter(move |name| !set(name));
        unset.chain(&self.spellings)
    }

    /// Whether both make the same of any claims.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.mapped == other.mapped
    }

    /// Whether `Connection` names one of them.
    pub(super) fn is_dropped_by(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
        let mut options = values.flat_map(|value| value.split(|byte| *byte == b','));
        options.any(|option| {
            let option = option.trim_ascii();
            let mut names = self.names.iter().chain(&self.spellings);
            names.any(|name| name.text.eq_ignore_ascii_case(option))
        })
    }

    /// The identity of a token's holder: who, from where, which token and which scope, and the claims that are configured.
    /// A claim that the token does not have sets no header.
    ///
    /// # Errors
    ///
    /// [`Denial::ClaimRejected`] where a value is too long for a header. Leaving it out would make somebody else, or
    /// somebody without a name, of the one it is from.
    pub(super) fn of(&self, claims: &Claims) -> Result<Headers, Denial> {
        let scope = claims.scope();
        let own = [
            (SUBJECT, claims.subject()),
            (ISSUER, claims.issuer()),
            (TOKEN_ID, claims.token_id()),
            (SCOPE, scope.as_deref()),
        ];
        let mut headers = Headers::with_capacity(own.len() + self.mapped.len());
        for (name, value) in own {
            if let Some(value) = value {
                headers.push((name, encode(value)?));
            }
        }
        for (name, claim) in &self.mapped {
            if let Some(text) = claims.get(claim).and_then(text) {
                headers.push((name.clone(), encode(&text)?));
            }
        }
        Ok(headers)
    }
}

/// `name` with a hyphen or an underscore at each place where it has one of them: upstreams that hand headers on as
/// variables (CGI, WSGI) make one and the same of all of these.
fn spellings(name: &HeaderName) -> Vec<HeaderName> {
    let mut spelled = vec![Vec::new()];
    for byte in name.as_str().bytes() {
        if matches!(byte, b'-' | b'_') {
            let mut other = spelled.clone();
            spelled.iter_mut().for_each(|spelling| spelling.push(b'-'));
            other.iter_mut().for_each(|spelling| spelling.push(b'_'));
            spelled.append(&mut other);
        } else {
            spelled.iter_mut().for_each(|spelling| spelling.push(byte));
        }
    }
    spelled
        .iter()
        .filter_map(|spelling| HeaderName::from_bytes(spelling).ok())
        .collect()
}

/// A string as it is, anything else as JSON. Null is no value.
fn text(value: Claim<'_>) -> Option<String> {
    match value {
        Claim::Null => None,
        Claim::String(text) => Some(text.to_owned()),
        other => Some(other.to_value().to_string()),
    }
}

/// Percent-encodes what a header cannot hold or would not keep: controls (line breaks among them), everything
/// beyond ASCII, blanks at the edges, and `%` itself, so that two different values never look the same.
fn encode(value: &str) -> Result<HeaderValue, Denial> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let last = value.len().saturating_sub(1);
    let mut encoded = Vec::with_capacity(value.len());
    for (index, byte) in value.bytes().enumerate() {
        let at_edge = index == 0 || index == last;
        if matches!(byte, b'!'..=b'~' if byte != b'%') || (byte == b' ' && !at_edge) {
            encoded.push(byte);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
        if encoded.len() > MAX_VALUE {
            return Err(Denial::ClaimRejected);
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).map_err(|_| Denial::ClaimRejected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_known() {
        let identity = Identity::new(vec![(HeaderName::from_static("x_user"), "sub".to_owned())]);
        let names: Vec<_> = identity.beside(&[]).map(Name::as_str).collect();
        for name in [
            "x-tokenward-subject",
            "x_tokenward_subject",
            "x-tokenward_subject",
            "x_tokenward-subject",
            "x_tokenward_token_id",
            "x-tokenward-token_id",
            "x_user",
            "x-user",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(names.len(), 4 + 4 + 8 + 4 + 2);
    }

    #[test]
    fn a_header_that_the_next_hop_would_drop_is_noticed() {
        let identity = Identity::new(Vec::new());
        for (connection, dropped) in [
            (&[][..], false),
            (&["keep-alive"], false),
            (&["close, upgrade"], false),
            (&["X-Tokenward-Subject"], true),
            (&["close", "upgrade , x_tokenward_scope"], true),
            (&["upgrade, \u{e9}, x-tokenward-subject"], true),
        ] {
            let headers = connection
                .iter()
                .map(|value| (CONNECTION, HeaderValue::from_bytes(value.as_bytes()).unwrap()));
            assert_eq!(
                identity.is_dropped_by(&headers.collect()),
                dropped,
                "{connection:?}"
            );
        }
    }

    #[test]
    fn only_what_a_header_keeps_is_left_as_it_is() {
        for (value, expected) in [
            ("user-1", "user-1"),
            ("a b", "a b"),
            (" a ", "%20a%20"),
            (" ", "%20"),
            ("", ""),
            ("100%", "100%25"),
            ("%25", "%2525"),
            ("a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1"),
            ("a\tb\0c\x7f", "a%09b%00c%7F"),
            ("Zoë", "Zo%C3%AB"),
            ("a,b;c=\"d\"", "a,b;c=\"d\""),
        ] {
            assert_eq!(encode(value).unwrap(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_and_never_cut() {
        assert!(encode(&"x".repeat(MAX_VALUE)).is_ok());
        assert_eq!(encode(&"x".repeat(MAX_VALUE + 1)), Err(Denial::ClaimRejected));
        assert_eq!(encode(&"%".repeat(MAX_VALUE / 2)), Err(Denial::ClaimRejected));
    }

    #[test]
    fn values_that_are_no_strings_are_json() {
        for (value, expected) in [
            (serde_json::json!("x"), Some("x")),
            (serde_json::json!(7), Some("7")),
            (serde_json::json!(true), Some("true")),
            (serde_json::json!(["a", "b"]), Some("[\"a\",\"b\"]")),
            (serde_json::json!({"a": 1}), Some("{\"a\":1}")),
            (serde_json::json!(null), None),
        ] {
            assert_eq!(text((&value).into()).as_deref(), expected);
        }
    }

    proptest! {
        #[test]
        fn the_encoding_is_one_to_one(value in any::<String>().prop_filter("fits", |v| v.len() < MAX_VALUE / 3)) {
            let encoded = encode(&value).unwrap();
            let encoded = encoded.to_str().unwrap();
            prop_assert_eq!(encoded, encoded.trim());
            let mut bytes = Vec::new();
            let mut rest = encoded;
            while let Some(next) = rest.chars().next() {
                if next == '%' {
                    bytes.push(u8::from_str_radix(&rest[1..3], 16).unwrap());
                    rest = &rest[3..];
                } else {
                    bytes.push(next as u8);
                    rest = &rest[1..];
                }
            }
            prop_assert_eq!(bytes, value.as_bytes());
        }
    }
}
