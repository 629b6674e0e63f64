//! Why a call is refused, as an answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::{
    config::Scope,
    http::{oauth_error, problem},
};

/// Why a guarded call is not answered. RFC 6750 section 3 says how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credential was presented.
    Missing,
    /// The one that was presented is not configured.
    Unknown,
    /// It is not configured, and there were too many such from this address.
    TooMany {
        /// How long to wait.
        wait: Duration,
    },
    /// It is a good one that may not do this.
    Narrow {
        /// What it lacks.
        scope: Scope,
        /// Its name.
        name: String,
    },
    /// `Authorization` cannot be read.
    Malformed,
    /// A page of another site asks, by a browser of somebody who is trusted here.
    CrossSite,
    /// The name that was asked for is none of this machine's (DNS rebinding).
    Host,
}

impl Refusal {
    /// The stable code, for the answer, the log and the audit log.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Unknown => "credential_unknown",
            Self::TooMany { .. } => "rate_limited",
            Self::Narrow { .. } => "insufficient_scope",
            Self::Malformed => "request_malformed",
            Self::CrossSite => "cross_site",
            Self::Host => "host_unknown",
        }
    }

    /// The name of the credential, where one was recognised.
    pub(super) fn who(&self) -> &str {
        match self {
            Self::Narrow { name, .. } => name,
            _ => "",
        }
    }

    /// As the OAuth endpoints answer it; `basic`: the caller tried to authenticate by that scheme.
    pub(super) fn into_oauth(self, basic: bool) -> Response {
        let code = self.code();
        let (status, _, detail) = self.texts();
        let (error, description) = match &self {
            Self::Missing => (
                "invalid_client",
                "This call needs a credential, as a bearer token or by the scheme Basic.",
            ),
            Self::Unknown => ("invalid_client", detail),
            Self::Malformed => (
                "invalid_request",
                "There must be one Authorization header, with one bearer token or with a name and a secret.",
            ),
            _ => (code, detail),
        };
        let mut response = oauth_error(status, error, code, description);
        let headers = response.headers_mut();
        // RFC 6749 section 5.2: challenged by the scheme that was tried, by both where none was.
        let by_basic = HeaderValue::from_static("Basic realm=\"tokenward\", charset=\"UTF-8\"");
        if status == StatusCode::UNAUTHORIZED && (basic || self == Self::Missing) {
            headers.append(header::WWW_AUTHENTICATE, by_basic);
        }
        if let Some((name, value)) = self
            .challenge()
            .filter(|(name, _)| !basic || name == header::RETRY_AFTER)
        {
            headers.append(name, value);
        }
        response
    }

    const fn texts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                "Credential missing",
                "This call needs a credential, as a bearer token.",
            ),
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "Credential unknown",
                "The credential is not one of those that are configured.",
            ),
            Self::TooMany { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many failures",
                "Too many unknown credentials came from this address.",
            ),
            Self::Narrow { .. } => (
                StatusCode::FORBIDDEN,
                "Insufficient scope",
                "The credential does not have the scope that this call needs.",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "Request malformed",
                "There must be one Authorization header with one bearer token.",
            ),
            Self::CrossSite => (
                StatusCode::FORBIDDEN,
                "Cross-site request",
                "Pages of other origins may not use this interface.",
            ),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "Host unknown",
                "On loopback this interface answers to localhost and loopback addresses only.",
            ),
        }
    }

    fn challenge(&self) -> Option<(HeaderName, HeaderValue)> {
        let text = match self {
            // RFC 6750 section 3.1: no error where nothing was presented.
            Self::Missing => "Bearer realm=\"tokenward\"".to_owned(),
            Self::Unknown => "Bearer realm=\"tokenward\", error=\"invalid_token\"".to_owned(),
            Self::Narrow { scope, .. } => format!(
                "Bearer realm=\"tokenward\", error=\"insufficient_scope\", scope=\"{}\"",
                scope.name()
            ),
            Self::Malformed => "Bearer realm=\"tokenward\", error=\"invalid_request\"".to_owned(),
            Self::TooMany { wait } => {
                let seconds = wait.as_millis().div_ceil(1000).max(1);
                return Some((
                    header::RETRY_AFTER,
                    HeaderValue::try_from(seconds.to_string()).ok()?,
                ));
            }
            Self::CrossSite | Self::Host => return None,
        };
        Some((header::WWW_AUTHENTICATE, HeaderValue::try_from(text).ok()?))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, detail) = self.texts();
        let mut response = problem(status, self.code(), title, detail);
        response.headers_mut().extend(self.challenge());
        response
    }
}
