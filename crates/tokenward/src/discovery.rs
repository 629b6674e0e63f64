//! From an issuer to the address of its keys (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3).

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use url::Url;

use crate::fetch::{Attempts, FetchError, FetchErrorKind, FetchRequest, Guards, place};

/// An issuer whose keys are found by discovery, and what is asked of the document that tells where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    issuer: String,
    url: Url,
    strict_origin: bool,
}

impl Discovery {
    /// Discovery for `issuer`, an absolute URL without query and fragment (RFC 8414 section 2). What is kept,
    /// and compared, is the text as it stands.
    ///
    /// # Errors
    ///
    /// [`FetchErrorKind::UrlInvalid`] where it is no such URL.
    pub fn of(issuer: impl Into<String>) -> Result<Self, FetchError> {
        let issuer = issuer.into();
        let invalid = |why: &str| {
            FetchError::new(
                FetchErrorKind::UrlInvalid,
                format!("the issuer is not a URL {why}"),
            )
        };
        let url = Url::parse(&issuer).map_err(|error| invalid("that can be asked").caused_by(&error))?;
        if url.cannot_be_a_base() || !url.has_host() {
            return Err(invalid("with a host"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("without query and fragment"));
        }
        Ok(Self {
            issuer,
            url,
            strict_origin: false,
        })
    }

    /// Demands that the keys stand on the issuer's own scheme, host and port.
    #[must_use]
    pub fn strict_origin(mut self, strict: bool) -> Self {
        self.strict_origin = strict;
        self
    }

    /// Whether the keys must stand on the issuer's own origin.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict_origin
    }

    /// The issuer, as it was given.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Asks the issuer where its keys are: at OpenID Connect's place, then, where nothing is found there, at the
    /// place of RFC 8414.
    pub(crate) async fn resolve(
        &self,
        attempts: &Attempts<'_>,
        guards: &Arc<Guards>,
    ) -> Result<Url, FetchError> {
        let [openid, oauth] = self.places();
        let found = match attempts
            .fetch(&FetchRequest::json(openid, Arc::clone(guards)))
            .await
        {
            Err(error) if error.status() == Some(404) => {
                // Where neither is found it is the usual place that an operator looks at.
                let other = attempts
                    .fetch(&FetchRequest::json(oauth, Arc::clone(guards)))
                    .await;
                other.map_err(|second| {
                    if second.status() == Some(404) {
                        error
                    } else {
                        second
                    }
                })?
            }
            other => other?,
        };
        self.jwks_uri(&found.body)
    }

    /// The document's two places: behind the issuer's path, and in front of it.
    fn places(&self) -> [Url; 2] {
        let path = self.url.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let at = |path: &str| {
            let mut url = self.url.clone();
            url.set_path(path);
            url
        };
        [
            at(&format!("{path}/.well-known/openid-configuration")),
            at(&format!("/.well-known/oauth-authorization-server{path}")),
        ]
    }

    /// Reads the document and judges what it says.
    ///
    /// Its issuer must equal ours byte for byte, or one tenant of a shared host could speak for another
    /// (RFC 8414 section 3.3). Keys of an https issuer must come over https.
    ///
    /// # Errors
    ///
    /// [`FetchErrorKind::DiscoveryInvalid`] for what is no JSON object with `issuer` and `jwks_uri`, each once and a text;
    /// [`FetchErrorKind::IssuerMismatch`]; [`FetchErrorKind::JwksUriForbidden`].
    pub fn jwks_uri(&self, body: &[u8]) -> Result<Url, FetchError> {
        let fault = |kind, what: &str| {
            FetchError::new(
                kind,
                format!("discovery document of {}: {what}", place(&self.url)),
            )
        };
        let invalid = |what: &str| fault(FetchErrorKind::DiscoveryInvalid, what);
        let text = std::str::from_utf8(body).map_err(|_| invalid("it is not UTF-8"))?;
        // A derived reader takes arrays for objects too.
        if !text.trim_start().starts_with('{') {
            return Err(invalid("it is not a JSON object"));
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(|_| {
            invalid("it is not a JSON object with the strings issuer and jwks_uri, each once")
        })?;
        if document.issuer != self.issuer {
            return Err(fault(
                FetchErrorKind::IssuerMismatch,
                "its issuer is not exactly the configured one",
            ));
        }
        let forbidden = |what: &str| fault(FetchErrorKind::JwksUriForbidden, what);
        let jwks_uri =
            Url::parse(&document.jwks_uri).map_err(|_| forbidden("its jwks_uri is no absolute URL"))?;
        if self.url.scheme() == "https" && jwks_uri.scheme() != "https" {
            return Err(forbidden("its jwks_uri is not https, as the issuer is"));
        }
        self.admit_origin(&jwks_uri)?;
        Ok(jwks_uri)
    }

    /// Whether keys may come from `url`.
    pub(crate) fn admit_origin(&self, url: &Url) -> Result<(), FetchError> {
        if !self.strict_origin || url.origin() == self.url.origin() {
            return Ok(());
        }
        Err(FetchError::new(
            FetchErrorKind::JwksUriForbidden,
            format!(
                "{}: on another origin than the issuer {} (strict_jwks_origin)",
                place(url),
                place(&self.url)
            ),
        ))
    }
}

/// A member that stands twice is refused by the derived reader, names compared after unescaping.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    jwks_uri: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(issuer: &str) -> [String; 2] {
        Discovery::of(issuer).unwrap().places().map(String::from)
    }

    fn read(discovery: &Discovery, body: &str) -> Result<String, &'static str> {
        discovery
            .jwks_uri(body.as_bytes())
            .map(String::from)
            .map_err(|error| error.code())
    }

    #[test]
    fn the_document_stands_behind_the_path_or_before_it() {
        for issuer in ["https://idp.example", "https://idp.example/"] {
            assert_eq!(
                places(issuer),
                [
                    "https://idp.example/.well-known/openid-configuration",
                    "https://idp.example/.well-known/oauth-authorization-server",
                ]
            );
        }
        for issuer in [
            "https://idp.example:8443/realms/a%2Fb",
            "https://idp.example:8443/realms/a%2Fb/",
        ] {
            assert_eq!(
                places(issuer),
                [
                    "https://idp.example:8443/realms/a%2Fb/.well-known/openid-configuration",
                    "https://idp.example:8443/.well-known/oauth-authorization-server/realms/a%2Fb",
                ]
            );
        }
        for bad in [
            "",
            "idp.example",
            "/path",
            "https://",
            "mailto:a@b",
            "https://idp.example/?a",
            "https://idp.example/#a",
        ] {
            assert_eq!(
                Discovery::of(bad).map_err(|error| error.code()),
                Err("url_invalid"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_issuer_equals_byte_for_byte() {
        let issuer = "https://idp.example/a";
        let discovery = Discovery::of(issuer).unwrap();
        let document =
            |issuer: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://idp.example/jwks"}}"#);
        assert_eq!(
            read(&discovery, &document(issuer)),
            Ok("https://idp.example/jwks".to_owned())
        );
        for other in [
            "https://idp.example/a/",
            "https://IDP.example/a",
            "https://idp.example:443/a",
            "https://idp.example/b",
            "",
        ] {
            assert_eq!(
                read(&discovery, &document(other)),
                Err("issuer_mismatch"),
                "{other}"
            );
        }
    }

    #[test]
    fn the_document_is_one_object_with_each_member_once() {
        let discovery = Discovery::of("https://i").unwrap();
        let good = r#"{"x":[{}],"issuer":"https://i","jwks_uri":"https:\/\/i/k"}"#;
        assert_eq!(read(&discovery, good), Ok("https://i/k".to_owned()));
        for bad in [
            "",
            "null",
            "[]",
            r#"["https://i","https://i/k"]"#,
            "<html>",
            r#"{"issuer":"https://i"}"#,
            r#"{"jwks_uri":"https://i/k"}"#,
            r#"{"issuer":"https://i","jwks_uri":null}"#,
            r#"{"issuer":"https://i","jwks_uri":["https://i/k"]}"#,
            r#"{"issuer":"https://i","issuer":"https://i","jwks_uri":"https://i/k"}"#,
            r#"{"issuer":"https://i","jwks_uri":"https://e/k","jwks\u005furi":"https://i/k"}"#,
            r#"{"issuer":"https://i","jwks_uri":"https://i/k"} x"#,
            r#"{"issuer":"https://i","jwks_uri":"https://i/k""#,
        ] {
            assert_eq!(read(&discovery, bad), Err("discovery_invalid"), "{bad}");
        }
        let not_utf8 = [
            br#"{"issuer":"https://i","jwks_uri":"https://i/k","x":""#.as_slice(),
            &[0xff],
            b"\"}",
        ]
        .concat();
        assert_eq!(
            discovery.jwks_uri(&not_utf8).unwrap_err().code(),
            "discovery_invalid"
        );
    }

    #[test]
    fn keys_of_an_https_issuer_come_over_https_and_strictly_from_its_origin() {
        let document = |issuer: &str, keys: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#);
        let secure = Discovery::of("https://i.example").unwrap();
        let plain = Discovery::of("http://i.example").unwrap();
        let judge =
            |discovery: &Discovery, keys: &str| read(discovery, &document(discovery.issuer(), keys)).err();
        assert_eq!(judge(&secure, "https://keys.example/k"), None);
        assert_eq!(judge(&secure, "http://i.example/k"), Some("jwks_uri_forbidden"));
        assert_eq!(judge(&secure, "file:///k"), Some("jwks_uri_forbidden"));
        assert_eq!(judge(&secure, "/k"), Some("jwks_uri_forbidden"));
        assert_eq!(judge(&plain, "http://i.example/k"), None);
        assert_eq!(judge(&plain, "https://i.example/k"), None);

        let strict = secure.strict_origin(true);
        assert_eq!(judge(&strict, "https://i.example:443/k"), None);
        for other in [
            "https://keys.example/k",
            "https://i.example:8443/k",
            "https://a.i.example/k",
        ] {
            assert_eq!(judge(&strict, other), Some("jwks_uri_forbidden"), "{other}");
        }
        assert_eq!(
            judge(&plain.strict_origin(true), "https://i.example/k"),
            Some("jwks_uri_forbidden")
        );
    }
}
