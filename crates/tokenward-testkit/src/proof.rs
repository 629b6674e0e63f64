//! Proofs of possession (RFC 9449), to be changed before they are signed.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokenward_core::Timestamp;

use crate::{TestKey, TokenBuilder};

/// An honest proof of `key` for one request with `token`, with a `jti` that no other has; sign it with the same key.
#[must_use]
pub fn proof(key: &TestKey, now: Timestamp, method: &str, url: &str, token: &str) -> TokenBuilder {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    TokenBuilder::new(now)
        .without_claim("exp")
        .header("typ", "dpop+jwt")
        .without_header("kid")
        .header(
            "jwk",
            key.jwk_with(&json!({ "use": null, "alg": null, "kid": null })),
        )
        .token_id(&format!("proof-{id}"))
        .claim("htm", method)
        .claim("htu", url)
        .claim("ath", URL_SAFE_NO_PAD.encode(hash))
}
