//! The core stays free of I/O: nothing that it is built from can wait, connect or store.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

#[test]
fn nothing_in_the_tree_does_io() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    // Without `resolve.root`, since what is asked about is a member of a workspace.
    let (root, _) = name_of
        .iter()
        .find(|(_, name)| **name == "tokenward-core")
        .unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut tree = BTreeSet::new();
    let mut open = vec![*root];
    while let Some(id) = open.pop() {
        if !tree.insert(name_of[id]) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id).unwrap();
        open.extend(node["deps"].as_array().unwrap().iter().filter_map(|dependency| {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            kinds
                .iter()
                .any(|kind| kind["kind"].is_null())
                .then(|| dependency["pkg"].as_str().unwrap())
        }));
    }
    assert!(
        tree.contains("aws-lc-rs") && tree.contains("serde_json"),
        "{tree:?}"
    );
    for banned in [
        "tokio",
        "hyper",
        "rusqlite",
        "redis",
        "axum",
        "mio",
        "socket2",
        "rand",
        "getrandom",
        "http",
    ] {
        assert!(!tree.contains(banned), "{banned} in {tree:?}");
    }
}
