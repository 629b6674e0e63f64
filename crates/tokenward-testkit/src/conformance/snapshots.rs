//! What every engine's [`Snapshots`] must do.

use std::time::Duration;

use tokenward_core::Timestamp;
use tokenward_store::{Snapshot, Snapshots};

use super::ok;

/// A snapshot with something in every field.
#[must_use]
pub fn snapshot(tenant: &str, name: &str) -> Snapshot {
    Snapshot {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
        url: format!("https://{name}.test/jwks"),
        config_hash: [7; 32],
        body: b"{\"keys\":[]}".to_vec(),
        etag: Some("W/\"a\"".to_owned()),
        last_modified: Some("Tue, 25 Nov 2025 14:00:00 GMT".to_owned()),
        fetched_at: Timestamp::from_millis(1_764_079_200_250),
        upstream_max_age: Some(Duration::from_millis(1500)),
    }
}

/// Runs all cases against an empty store.
///
/// # Panics
///
/// If the engine fails one.
pub async fn snapshots(store: &dyn Snapshots) {
    every_field_comes_back(store).await;
    the_last_put_wins(store).await;
    names_are_scoped_by_tenant(store).await;
    removal_is_idempotent_and_exact(store).await;
    load_all_gives_each_once(store).await;
    puts_and_removals_keep_their_order(store).await;
    assert_eq!(all(store).await, [], "the cases clean up");
}

async fn every_field_comes_back(store: &dyn Snapshots) {
    let full = snapshot("t", "full");
    let bare = Snapshot {
        config_hash: [0; 32],
        body: Vec::new(),
        etag: None,
        last_modified: None,
        fetched_at: Timestamp::from_millis(-1),
        upstream_max_age: None,
        ..snapshot("t", "bare")
    };
    let odd = Snapshot {
        body: (0..=u8::MAX).cycle().take(1 << 20).collect(),
        etag: Some(String::new()),
        url: "https://idp.test/ü'\";--".to_owned(),
        fetched_at: Timestamp::MAX,
        upstream_max_age: Some(Duration::ZERO),
        ..snapshot("ü'", "odd\0name")
    };
    for wanted in [full, bare, odd] {
        ok(store.put(&wanted).await);
        let found = ok(store.get(&wanted.tenant, &wanted.name).await);
        assert_eq!(found.as_ref(), Some(&wanted));
        ok(store.remove(&wanted.tenant, &wanted.name).await);
    }
}

async fn the_last_put_wins(store: &dyn Snapshots) {
    let first = snapshot("t", "idp");
    let second = Snapshot {
        body: b"{}".to_vec(),
        etag: None,
        ..first.clone()
    };
    ok(store.put(&first).await);
    ok(store.put(&second).await);
    assert_eq!(ok(store.get("t", "idp").await), Some(second.clone()));
    assert_eq!(all(store).await, [second]);
    ok(store.remove("t", "idp").await);
}

async fn names_are_scoped_by_tenant(store: &dyn Snapshots) {
    // Pairs that are equal when the two names are written next to each other.
    for (tenant, name) in [("a", "bc"), ("ab", "c"), ("", "abc")] {
        ok(store.put(&snapshot(tenant, name)).await);
    }
    assert_eq!(ok(store.get("ab", "c").await), Some(snapshot("ab", "c")));
    assert_eq!(ok(store.get("a", "c").await), None);
    assert_eq!(ok(store.get("AB", "c").await), None, "names are case-sensitive");
    ok(store.remove("a", "bc").await);
    assert_eq!(all(store).await, [snapshot("", "abc"), snapshot("ab", "c")]);
    ok(store.remove("ab", "c").await);
    ok(store.remove("", "abc").await);
}

async fn removal_is_idempotent_and_exact(store: &dyn Snapshots) {
    ok(store.remove("t", "none").await);
    ok(store.put(&snapshot("t", "one")).await);
    ok(store.put(&snapshot("t", "two")).await);
    ok(store.remove("t", "one").await);
    ok(store.remove("t", "one").await);
    assert_eq!(ok(store.get("t", "one").await), None);
    assert_eq!(all(store).await, [snapshot("t", "two")]);
    ok(store.remove("t", "two").await);
}

async fn load_all_gives_each_once(store: &dyn Snapshots) {
    let wanted: Vec<Snapshot> = (0..300).map(|n| snapshot("t", &format!("{n:03}"))).collect();
    for snapshot in wanted.iter().chain(&wanted) {
        ok(store.put(snapshot).await);
    }
    assert_eq!(all(store).await, wanted);
    for snapshot in &wanted {
        ok(store.remove(&snapshot.tenant, &snapshot.name).await);
    }
}

async fn puts_and_removals_keep_their_order(store: &dyn Snapshots) {
    let idp = snapshot("t", "idp");
    for _ in 0..20 {
        ok(store.put(&idp).await);
        ok(store.remove("t", "idp").await);
        assert_eq!(ok(store.get("t", "idp").await), None);
        ok(store.remove("t", "idp").await);
        ok(store.put(&idp).await);
        assert_eq!(ok(store.get("t", "idp").await).as_ref(), Some(&idp));
    }
    ok(store.remove("t", "idp").await);
}

/// All snapshots, in order of their names.
async fn all(store: &dyn Snapshots) -> Vec<Snapshot> {
    let mut all = ok(store.load_all().await);
    all.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
    all
}
