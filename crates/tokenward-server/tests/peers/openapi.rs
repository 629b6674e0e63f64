//! The admin API does what its document says: schemathesis makes requests from the document, good ones and bad ones, and
//! judges the answers by it.

use aws_lc_rs::digest::{SHA256, digest};
use tokenward_testkit::{IdpServer, TestKey};

use crate::{
    process::{python_tool, root},
    tokenward::Tokenward,
};

const SECRET: &str = "Xb7-admin-0123456789abcdefghijklmnop";

#[test]
fn the_admin_api_is_what_its_document_says() {
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&TestKey::es256(0).with_kid("k")]);
    let digest = digest(&SHA256, SECRET.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let tokenward = Tokenward::start(&format!(
        "  - {{ name: one, url: \"{}\" }}\ncredentials:\n  - {{ name: ops, secret_sha256: {digest}, scopes: [admin] }}\n",
        upstream.jwks_url()
    ));
    // It leaves notes behind in its working directory.
    let directory = tempfile::tempdir().unwrap();
    let output = python_tool("schemathesis")
        .arg("--config-file")
        .arg(root().join("peers/python/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", tokenward.admin)])
        .env("TOKENWARD_CREDENTIAL", SECRET)
        .env("NO_COLOR", "1")
        .current_dir(directory.path())
        .output()
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| -> u32 {
        let rest = said
            .split_once(label)
            .unwrap_or_else(|| panic!("no {label} in {said}"))
            .1;
        let digits: String = rest
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits
            .parse()
            .unwrap_or_else(|_| panic!("no number after {label} in {said}"))
    };
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // A run that finds nothing to test finds nothing wrong.
    assert!(number("Tested:") >= 15, "{said}");
    assert!(number("Test cases:") >= 300, "{said}");
}
