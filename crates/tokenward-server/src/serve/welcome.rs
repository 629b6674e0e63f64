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
    let credential = "-H \"Authorization: Bearer $CREDENTIAL\"";
    let mut lines = vec![
        (
            "mint a parent token and a child",
            format!(
                "PAIR=$(curl -s {credential} -d '{{\"user_id\":\"alice\",\"include_child\":true}}' {public}/token-pairs); echo \"$PAIR\""
            ),
        ),
        (
            "take the answer apart",
            format!(
                "{}; {}; {}",
                taken("PARENT", "parent_token"),
                taken("JTI", "parent_jti"),
                taken("CHILD", "child_token")
            ),
        ),
        (
            "follow the children as they are minted; it tells when the parent ends",
            format!("curl -sN -H \"Authorization: Bearer $PARENT\" {public}/tokens/stream & sleep 1"),
        ),
        (
            "let the child decide",
            format!("curl -i -H \"Authorization: Bearer $CHILD\" {public}/authorize"),
        ),
        (
            "why is it accepted, or not",
            format!("curl {credential} -d '{{\"token\":\"'$CHILD'\"}}' {admin}/v1/explain"),
        ),
        (
            "revoke the parent, and with it the child",
            format!("curl -i -X DELETE {credential} {public}/tokens/$JTI"),
        ),
        (
            "see the child refused",
            format!("curl -i -H \"Authorization: Bearer $CHILD\" {public}/authorize"),
        ),
        (
            "the own keys, as verifiers fetch them",
            format!("curl {public}/jwks/self"),
        ),
        ("and how they stand", format!("curl {credential} {admin}/v1/keys")),
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
            "is it ready, and why not",
            format!("curl \"{public}/readyz?verbose\""),
        ),
        ("metrics", format!("curl {admin}/metrics")),
        (
            "the identity providers",
            format!("curl {credential} {admin}/v1/idps"),
        ),
        (
            "add one",
            format!(
                "curl -X PUT {credential} -d '{{\"issuer\":\"https://accounts.google.com\",\"audiences\":\"any\"}}' {admin}/v1/idps/google"
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
    } else {
        text.push_str("\n\n  # put the secret of one of your credentials here\n  CREDENTIAL=");
    }
    text.push_str("\n\nTry:\n\n");
    for (what, line) in lines {
        text.push_str(&format!("  # {what}\n  {line}\n"));
    }
    text.push('\n');
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// A line that sets `variable` to a member of the pair, with what every shell has.
fn taken(variable: &str, member: &str) -> String {
    format!(r#"{variable}=$(echo "$PAIR" | sed 's/.*"{member}":"\([^"]*\)".*/\1/')"#)
}
