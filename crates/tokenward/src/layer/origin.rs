//! The URL of a request as its client wrote it.

use http::{Uri, request::Parts};
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

/// The URL without its query. None unless the service or a trusted proxy says which scheme and host it has: what the request
/// itself names is up to its sender, who may have a proof that was made for another host.
pub(super) fn url(origin: Option<&str>, forwarded: &Forwarded, parts: &Parts) -> Option<String> {
    let path = uri(parts).path();
    match (origin, &forwarded.scheme, &forwarded.host) {
        (Some(origin), ..) => Some(format!("{origin}{path}")),
        (None, Some(scheme), Some(host)) => Some(format!("{scheme}://{host}{path}")),
        (None, ..) => None,
    }
}
