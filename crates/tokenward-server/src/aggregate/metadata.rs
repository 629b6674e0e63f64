//! The metadata of our own issuer (RFC 8414, OpenID Connect Discovery 1.0): where its keys and endpoints are.

use serde_json::{Value, json};
use tokenward_core::jose::Algorithm;
use url::Url;

/// One document for both specifications; each has the other's members too. It says what there is and nothing more: there
/// is no authorization endpoint and no token endpoint, since tokens are minted by calls of their own.
pub(super) fn document(issuer: &str, algorithms: impl Iterator<Item = Algorithm>) -> Value {
    // "Any terminating / MUST be removed" before something follows (OpenID Connect Discovery 1.0 section 4.1).
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let mut names: Vec<&str> = algorithms.map(Algorithm::name).collect();
    names.sort_unstable();
    names.dedup();
    json!({
        // As it is in tokens, byte for byte: clients compare it (RFC 8414 section 3.3).
        "issuer": issuer,
        "jwks_uri": format!("{base}/jwks/self"),
        "introspection_endpoint": format!("{base}/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
        "revocation_endpoint": format!("{base}/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
        // Required, and must not be empty; this one says that nothing is issued by a redirect.
        "response_types_supported": ["none"],
        // `sub` is the same for every client.
        "subject_types_supported": ["public"],
        // What verifiers have to accept; many take it from here for every token of the issuer.
        "id_token_signing_alg_values_supported": names,
    })
}

/// The issuer's path, behind which the well-known name stands (RFC 8414 section 3.1); none where it has no path.
pub(super) fn path_of(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok()?;
    let path = url.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    (!path.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use tokenward::discovery::Discovery;

    use super::*;

    #[test]
    fn the_document_follows_the_issuer_and_our_own_client_takes_it() {
        for (issuer, base, path) in [
            ("https://auth.example", "https://auth.example", None),
            ("https://auth.example/", "https://auth.example", None),
            (
                "https://auth.example/a/b",
                "https://auth.example/a/b",
                Some("/a/b"),
            ),
            ("https://auth.example/a/", "https://auth.example/a", Some("/a")),
            (
                "https://auth.example:8443/:a",
                "https://auth.example:8443/:a",
                Some("/:a"),
            ),
            (
                "https://auth.example/{a}",
                "https://auth.example/{a}",
                Some("/%7Ba%7D"),
            ),
        ] {
            let document = document(
                issuer,
                [Algorithm::Rs256, Algorithm::Es256, Algorithm::Rs256].into_iter(),
            );
            assert_eq!(document["issuer"], issuer);
            for (member, path) in [
                ("jwks_uri", "/jwks/self"),
                ("introspection_endpoint", "/oauth/introspect"),
                ("revocation_endpoint", "/oauth/revoke"),
            ] {
                assert_eq!(document[member], format!("{base}{path}"));
            }
            assert_eq!(
                document["id_token_signing_alg_values_supported"],
                json!(["ES256", "RS256"])
            );
            for (name, value) in document.as_object().unwrap() {
                assert_ne!(value, &json!([]), "{name}: empty lists are left out");
            }
            let found = Discovery::of(issuer)
                .unwrap()
                .jwks_uri(document.to_string().as_bytes());
            assert_eq!(found.unwrap(), Url::parse(&format!("{base}/jwks/self")).unwrap());
            assert_eq!(path_of(issuer).as_deref(), path, "{issuer}");
        }
    }
}
