//! `tokenward store` beside a server that runs, and after it.

use std::{
    path::Path,
    process::{Command, Output},
};

use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey};

use crate::program::{Program, command};

fn yaml(server: &IdpServer, store: &str) -> String {
    format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         store: {{ url: \"{store}\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true }}\n\
         idps: [{{ name: a, url: \"{}\" }}]\n",
        server.jwks_url()
    )
}

/// Runs `tokenward store …` with the store of this URL.
#[track_caller]
fn store(directory: &TempDir, url: &str, arguments: &[&str], code: i32) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_tokenward"))
        .arg("store")
        .args(arguments)
        .env_clear()
        .env("TOKENWARD__STORE__URL", url)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    output
}

#[track_caller]
fn says(output: &Output, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(text), "{said}");
}

#[tokio::test]
async fn a_backup_of_a_running_server_starts_another_with_its_keys() {
    let server = IdpServer::spawn();
    server.set_keys(&[&TestKey::es256(0)]);
    let directory = TempDir::new().unwrap();
    let mut first = Program::run(command(&directory, &yaml(&server, "sqlite:one"))).await;
    first.loaded("a").await;
    // The set is served before it is stored: a backup is made until it holds it.
    let mut stored = false;
    for n in 0..200 {
        let name = format!("backup-{n}");
        let made = store(&directory, "sqlite:one", &["backup", &name], 0);
        assert_eq!(
            String::from_utf8_lossy(&made.stdout),
            format!("backed up one to {name}\n")
        );
        stored = holds(&directory.path().join(&name), TestKey::es256(0).kid().unwrap());
        std::fs::rename(directory.path().join(&name), directory.path().join("backup")).unwrap();
        if stored {
            break;
        }
        crate::program::pause().await;
    }
    assert!(stored, "it is never stored");

    let refused = store(&directory, "sqlite:one", &["backup", "backup"], 2);
    says(
        &refused,
        "backup exists and is not overwritten: choose another name",
    );
    let refused = store(&directory, "sqlite:one", &["restore", "backup"], 3);
    says(&refused, "another process holds the store one");
    let refused = store(&directory, "sqlite:one", &["migrate", "--to", "sqlite:two"], 3);
    says(&refused, "another process holds the store one");
    assert_eq!(first.get("/livez").await.status, StatusCode::OK);
    first.signal(Signal::TERM);
    first.ended().await;
    let refused = store(&directory, "sqlite:one", &["restore", "backup"], 2);
    says(
        &refused,
        "exists and is not overwritten: choose another directory",
    );

    let restored = store(&directory, "sqlite:new", &["restore", "backup", "--json"], 0);
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["store"], "new");
    let migrated = store(
        &directory,
        "sqlite:new",
        &["migrate", "--to", "sqlite:next", "--json"],
        0,
    );
    let said: Value = serde_json::from_slice(&migrated.stdout).unwrap();
    assert_eq!(said["key_sets"], 1, "{said}");

    server.behave(JWKS_PATH, Behaviour::status(500));
    for url in ["sqlite:new", "sqlite:next"] {
        let again = Program::run(command(&directory, &yaml(&server, url))).await;
        let keys = again.get("/jwks/a").await.json();
        assert_eq!(keys["keys"][0]["kid"], TestKey::es256(0).jwk()["kid"], "{url}");
    }
}

fn holds(file: &Path, text: &str) -> bool {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn what_cannot_be_done_is_said_with_its_exit_code() {
    let directory = TempDir::new().unwrap();
    let missing = store(&directory, "sqlite:none", &["backup", "file"], 2);
    says(&missing, "there is no store in none: name its directory");
    let missing = store(&directory, "sqlite:none", &["restore", "file"], 2);
    says(&missing, "there is no backup file: name the file");
    let missing = store(&directory, "sqlite:none", &["migrate", "--to", "sqlite:new"], 2);
    says(&missing, "there is no store in none");
    std::fs::write(directory.path().join("text"), "no database ".repeat(99)).unwrap();
    let wrong = store(&directory, "sqlite:none", &["restore", "text"], 2);
    says(&wrong, "text: the file is damaged");
    for arguments in [
        &["backup", "file"][..],
        &["restore", "text"],
        &["migrate", "--to", "sqlite:new"],
    ] {
        let nothing = store(&directory, "memory:", arguments, 2);
        says(&nothing, "the configured store is `memory:`");
    }
    std::fs::create_dir(directory.path().join("here")).unwrap();
    let nowhere = store(&directory, "sqlite:here", &["migrate", "--to", "memory:"], 2);
    says(&nowhere, "nothing outlives the process in `memory:`");
    let unheard = store(&directory, "sqlite:here", &["migrate", "--to", "postgres://x"], 2);
    says(
        &unheard,
        "must be `sqlite:DIRECTORY`, `memory:`, `redis://HOST:PORT`",
    );
    let invalid = store(&directory, "postgres://x", &["backup", "file"], 2);
    says(&invalid, "the configuration is not valid");
    assert!(!directory.path().join("new").exists());
}
