//! The URL of a request as its client wrote it.

use http::{Uri, header::HOST, request::Parts};
use url::Url;

use super::proxies::Forwarded;
use crate::error::Error;

/// Scheme, host and port, as configured.
pub(super) fn parse(text: &str) -> Result<String, Error> {
    let invalid = || {
        Error::invalid(format!(
            "origin `{text}`: expected scheme and host, as https://api.example.com"
        ))
    };
    let url = Url::parse(text).map_err(|_| invalid())?;
    let origin = url.origin().ascii_serialization();
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare { Ok(origin) } else { Err(invalid()) }
}

/// The request's target, before a router took a prefix off.
pub(super) fn uri(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return &original.0;
    }
    &parts.uri
}

/// The URL without its query. None where no host is known.
pub(super) fn url(origin: Option<&str>, forwarded: &Forwarded, parts: &Parts) -> Option<String> {
    let uri = uri(parts);
    let path = uri.path();
    if let Some(origin) = origin {
        return Some(format!("{origin}{path}"));
    }
    let scheme = forwarded.scheme.as_deref().or(uri.scheme_str());
    let host = match (&forwarded.host, uri.authority()) {
        (Some(host), _) => host,
        (None, Some(authority)) => authority.as_str(),
        (None, None) => parts.headers.get(HOST)?.to_str().ok()?,
    };
    Some(format!("{}://{host}{path}", scheme.unwrap_or("http")))
}
