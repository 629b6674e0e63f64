use std::path::PathBuf;

use tokenward_store::{StoreErrorKind, StoreUrl};
use tokenward_testkit::conformance;

#[test]
fn names_the_engine() {
    assert_eq!("memory:".parse::<StoreUrl>().unwrap(), StoreUrl::Memory);
    for path in ["./data", "/var/lib/tokenward", "C:x"] {
        let url: StoreUrl = format!("sqlite:{path}").parse().unwrap();
        assert_eq!(url, StoreUrl::Sqlite(PathBuf::from(path)));
    }
}

#[test]
fn refuses_the_rest_and_names_what_there_is() {
    for url in [
        "",
        "memory",
        "memory:x",
        "sqlite:",
        "redis://user:hunter2@host",
        "SQLITE:x",
        "./data",
    ] {
        let error = url.parse::<StoreUrl>().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Url, "{url}");
        let text = error.to_string();
        assert!(text.contains("`memory:` and `sqlite:DIRECTORY`"), "{text}");
        assert!(!text.contains("hunter2"), "a password got out: {text}");
    }
}

#[tokio::test]
async fn opens_what_it_names() {
    let directory = tempfile::tempdir().unwrap();
    for url in [StoreUrl::Memory, StoreUrl::Sqlite(directory.path().join("store"))] {
        conformance::snapshots(&*url.open().unwrap()).await;
    }
    assert!(directory.path().join("store/tokenward.db").exists());
}
