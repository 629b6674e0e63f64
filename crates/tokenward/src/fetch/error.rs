//! Why a fetch failed, in words that are safe to log and to show.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use tokenward_core::jose::SetProblem;
use url::Url;

/// Causes and messages are cut to so many characters. They can hold what a server chose, as the names in its
/// certificate.
const LONGEST_TEXT: usize = 240;

/// A failed fetch. Cheap to clone, so that one failure can answer many waiters.
///
/// Its text and its causes hold no body, no query or user part of a URL, no secret and no control character.
#[derive(Clone)]
pub struct FetchError(Arc<Inner>);

struct Inner {
    kind: FetchErrorKind,
    message: String,
    status: Option<u16>,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

/// The closed list of reasons why a fetch fails. [`FetchError::code`] is its stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// The URL is no absolute one, or has a user part, or its host is none.
    UrlInvalid,
    /// The scheme is not `https`, nor `http` where that is allowed; or a redirect leads from `https` to `http`.
    SchemeForbidden,
    /// The host is in no entry of a list of allowed domains.
    DomainForbidden,
    /// The host's addresses may not be connected to.
    AddressForbidden,
    /// The host's name could not be resolved.
    Dns,
    /// None of the host's addresses could be connected to.
    Connect,
    /// No connection in time, the host's name resolved or not.
    ConnectTimeout,
    /// The TLS handshake failed: the certificate is not trusted, expired or another host's, for example.
    Tls,
    /// The certificate is trusted but holds none of the pinned keys.
    PinMismatch,
    /// The connection broke.
    Connection,
    /// What came over the connection is not HTTP as we accept it, too large a head included.
    Protocol,
    /// No complete answer in time.
    Timeout,
    /// More redirects than are followed.
    RedirectLimit,
    /// A redirect without a usable `Location`.
    RedirectInvalid,
    /// A status other than 200 and 304, and no redirect.
    Status,
    /// The body is larger than is read, before or after decompression.
    TooLarge,
    /// The body has an encoding that was not asked for, or is not what its encoding says.
    EncodingInvalid,
    /// 304 in answer to an unconditional request.
    NotModifiedUnexpected,
    /// The discovery document is not a JSON object with `issuer` and `jwks_uri`.
    DiscoveryInvalid,
    /// The discovery document is another issuer's.
    IssuerMismatch,
    /// The discovery document's `jwks_uri` is where keys of this issuer must not come from.
    JwksUriForbidden,
    /// What was fetched is no key set.
    KeySetInvalid(SetProblem),
}

impl FetchErrorKind {
    /// The reason's stable name, for logs, metrics and statuses. A status tells only its class here.
    fn code(self, status: Option<u16>) -> &'static str {
        match self {
            Self::UrlInvalid => "url_invalid",
            Self::SchemeForbidden => "scheme_forbidden",
            Self::DomainForbidden => "domain_forbidden",
            Self::AddressForbidden => "address_forbidden",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::PinMismatch => "pin_mismatch",
            Self::Connection => "connection",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::RedirectLimit => "redirect_limit",
            Self::RedirectInvalid => "redirect_invalid",
            Self::Status => match status.unwrap_or(0) / 100 {
                3 => "status_3xx",
                4 => "status_4xx",
                5 => "status_5xx",
                _ => "status_other",
            },
            Self::TooLarge => "too_large",
            Self::EncodingInvalid => "encoding_invalid",
            Self::NotModifiedUnexpected => "not_modified_unexpected",
            Self::DiscoveryInvalid => "discovery_invalid",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::JwksUriForbidden => "jwks_uri_forbidden",
            Self::KeySetInvalid(problem) => problem.code(),
        }
    }
}

impl FetchError {
    /// A failure for a reason, with a text that says what was attempted and what an operator can do.
    #[must_use]
    pub fn new(kind: FetchErrorKind, message: impl Into<String>) -> Self {
        let message = safe(&message.into());
        Self(Arc::new(Inner {
            kind,
            message,
            status: None,
            retry_after: None,
            cause: None,
        }))
    }

    /// The same with `cause` and its causes as its source. Their text is kept, not they themselves.
    #[must_use]
    pub fn caused_by(self, cause: &(dyn StdError + 'static)) -> Self {
        self.change(|inner| inner.cause = Some(Cause::of(cause)))
    }

    /// A failure because of an answer's status, with the time its `Retry-After` asks for.
    #[must_use]
    pub fn status_of(url: &Url, status: u16, retry_after: Option<Duration>) -> Self {
        Self::new(
            FetchErrorKind::Status,
            format!("{} answered {status}", place(url)),
        )
        .change(|inner| {
            inner.status = Some(status);
            inner.retry_after = retry_after;
        })
    }

    pub(crate) fn key_set_invalid(url: &Url, problem: SetProblem) -> Self {
        let message = format!("{}: the answer is no key set", place(url));
        Self::new(FetchErrorKind::KeySetInvalid(problem), message).caused_by(&problem)
    }

    /// Whether an answer came that is no key set.
    pub(crate) fn is_key_set_invalid(&self) -> bool {
        matches!(self.kind(), FetchErrorKind::KeySetInvalid(_))
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> FetchErrorKind {
        self.0.kind
    }

    /// The reason's stable name, from a closed list; a status is told by its class, as `status_5xx`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code(self.0.status)
    }

    /// The status that was answered, where that is the reason.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long the server asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether another attempt may go better: the way to the server failed, or it answered 408, 425, 429 or 5xx.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self.0.kind {
            FetchErrorKind::Dns
            | FetchErrorKind::Connect
            | FetchErrorKind::ConnectTimeout
            | FetchErrorKind::Connection
            | FetchErrorKind::Timeout => true,
            FetchErrorKind::Status => matches!(self.0.status, Some(408 | 425 | 429 | 500..=599)),
            _ => false,
        }
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self {
            message: self.message.clone(),
            cause: self.cause.clone(),
            ..*self
        }
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("FetchError");
        debug
            .field("code", &self.code())
            .field("message", &self.0.message);
        if let Some(cause) = &self.0.cause {
            debug.field("cause", &cause.0);
        }
        debug.finish()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for FetchError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .cause
            .as_ref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// The text of an error and of its causes.
#[derive(Clone, Debug)]
struct Cause(String);

impl Cause {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Wrappers often repeat what they wrap.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        Self(safe(&text))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

/// A URL without the parts that can hold secrets: user, query and fragment.
pub(crate) fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    safe(&format!(
        "{}://{}{port}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    ))
}

/// `text` without control characters, bidirectional ones included, and not longer than is good for a log line.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_TEXT));
    for (count, char) in text.chars().enumerate() {
        if count == LONGEST_TEXT {
            out.push('…');
            break;
        }
        let reorders =
            matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || reorders {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hold_no_secret_and_no_control_character() {
        let url = Url::parse("https://user:hunter2@idp.example:8443/jwks?token=hunter3#hunter4").unwrap();
        assert_eq!(place(&url), "https://idp.example:8443/jwks");

        let cause = std::io::Error::other("bad name \u{1b}[31m\r\nSet-Cookie: x \u{202e}txt");
        let error = FetchError::new(FetchErrorKind::Tls, "a\nb").caused_by(&cause);
        let shown = format!("{error} {} {error:?}", error.source().unwrap());
        assert!(
            !shown.chars().any(|char| char.is_control() || char == '\u{202e}'),
            "{shown:?}"
        );

        let long = FetchError::new(FetchErrorKind::Tls, "x".repeat(10_000));
        assert!(long.to_string().chars().count() <= LONGEST_TEXT + 1);
    }

    #[test]
    fn only_the_way_and_passing_statuses_are_worth_another_attempt() {
        let url = Url::parse("https://idp.example/").unwrap();
        for (status, again) in [
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (410, false),
            (425, true),
            (429, true),
            (500, true),
            (503, true),
            (599, true),
            (204, false),
            (206, false),
        ] {
            assert_eq!(
                FetchError::status_of(&url, status, None).retryable(),
                again,
                "{status}"
            );
        }
        for (kind, again) in [
            (FetchErrorKind::Dns, true),
            (FetchErrorKind::Connect, true),
            (FetchErrorKind::Timeout, true),
            (FetchErrorKind::Tls, false),
            (FetchErrorKind::PinMismatch, false),
            (FetchErrorKind::TooLarge, false),
            (FetchErrorKind::AddressForbidden, false),
        ] {
            assert_eq!(FetchError::new(kind, "").retryable(), again, "{kind:?}");
        }
    }

    #[test]
    fn a_status_is_told_by_its_class() {
        let url = Url::parse("https://idp.example/").unwrap();
        let code = |status| FetchError::status_of(&url, status, None).code();
        assert_eq!(
            [code(204), code(300), code(404), code(503), code(999)],
            [
                "status_other",
                "status_3xx",
                "status_4xx",
                "status_5xx",
                "status_other"
            ]
        );
    }
}
