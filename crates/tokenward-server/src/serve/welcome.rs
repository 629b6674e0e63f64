//! What `--dev` prints: lines to paste.

use std::{io::Write as _, net::SocketAddr};

use secrecy::ExposeSecret as _;

use crate::{access::Generated, config::Config};

/// Writes to standard output what can be tried on the two listeners. A reader that has gone is no reason to fail.
pub(super) fn print(config: &Config, public: SocketAddr, admin: SocketAddr, generated: Option<&Generated>) {
    let scheme = if config.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let public = format!("{scheme}://{public}");
    let admin = format!("http://{admin}");
    let mut lines = vec![
        ("all keys, merged", format!("curl -i {public}/jwks.json")),
        ("all keys by identity provider", format!("curl -i {public}/jwks")),
    ];
    if let Some(idp) = config.idps.first() {
        lines.push(("the keys of one", format!("curl -i {public}/jwks/{}", idp.name)));
    }
    lines.extend([
        ("how the identity providers are", format!("curl {public}/status")),
        (
            "the same with addresses and errors",
            format!("curl {admin}/status"),
        ),
        (
            "let a token decide",
            format!("curl -i -H \"Authorization: Bearer $TOKEN\" {public}/authorize"),
        ),
        (
            "is it ready, and why not",
            format!("curl \"{public}/readyz?verbose\""),
        ),
        ("metrics", format!("curl {admin}/metrics")),
        (
            "the identity providers",
            format!("curl -H \"Authorization: Bearer $CREDENTIAL\" {admin}/v1/idps"),
        ),
        (
            "add one",
            format!(
                "curl -X PUT -H \"Authorization: Bearer $CREDENTIAL\" -d '{{\"issuer\":\"https://accounts.google.com\",\"audiences\":\"any\"}}' {admin}/v1/idps/google"
            ),
        ),
        (
            "why is a token accepted, or not",
            format!(
                "curl -H \"Authorization: Bearer $CREDENTIAL\" -d '{{\"token\":\"'$TOKEN'\"}}' {admin}/v1/explain"
            ),
        ),
        ("everything that can be asked", format!("curl {admin}/openapi.json")),
    ]);
    let mut text = String::from("\ntokenward is up, for development only.");
    if let Some(generated) = generated {
        let secret = generated.secret.expose_secret();
        text.push_str(&format!(
            "\n\n  # the admin credential of this run; it is shown this once\n  CREDENTIAL={secret}"
        ));
    }
    text.push_str("\n\nTry:\n\n");
    for (what, line) in lines {
        text.push_str(&format!("  # {what}\n  {line}\n"));
    }
    text.push('\n');
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
