//! A store on Redis that takes its place only when it is complete.

use std::sync::Arc;

use tokenward_store::{Ledger as _, Memory, Redis, RedisOptions, Snapshots as _, StoreErrorKind, migrate};
use tokenward_testkit::{
    Program, RealClock, RedisCluster, RedisServer,
    conformance::{snapshot, stored_idp},
};

use crate::{
    copy::{fill, same},
    redis_ledger::{jti, replica},
    redis_topology::documented_rights,
};

async fn filled() -> Memory {
    let memory = Memory::new();
    fill(&memory).await;
    memory
}

#[tokio::test]
async fn what_is_not_finished_is_no_store_and_what_is_finished_is() {
    let server = RedisServer::start();
    let (store, source) = (replica(&server), filled().await);
    assert!(store.is_empty().await.unwrap());
    let draft = store.draft().await.unwrap();
    migrate(&source, draft.store()).await.unwrap();
    same(&source, draft.store()).await;
    // Whoever looks meanwhile finds nothing, but for key sets.
    let other = replica(&server);
    assert!(other.is_empty().await.unwrap());
    assert_eq!(other.idps().await.unwrap(), []);
    assert_eq!(other.keyring().await.unwrap(), None);
    assert_eq!(other.revocations(0, 9).await.unwrap(), []);
    assert_eq!(other.changes(0).await.unwrap().head, 0);
    drop(draft);
    // The next one begins anew.
    let draft = store.draft().await.unwrap();
    assert_eq!(draft.store().idps().await.unwrap(), []);
    assert_eq!(draft.store().changes(0).await.unwrap().head, 0);
    migrate(&source, draft.store()).await.unwrap();
    draft.finish().await.unwrap();
    same(&source, &other).await;
    assert!(!other.is_empty().await.unwrap());
    let keys = server.text(&["KEYS", "*draft*"]);
    assert_eq!(keys, "", "nothing is left behind");
    // What comes later has later numbers, and is told of.
    let feed = other.changes(0).await.unwrap();
    let later = other.revoke(&jti("later")).await.unwrap();
    assert_eq!(later.sequence, feed.head + 1);
    let told = other.changes(feed.head).await.unwrap();
    assert!(!told.gap && told.changes.len() == 1, "{told:?}");
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let server = RedisServer::start();
    let (store, source) = (replica(&server), filled().await);
    let draft = store.draft().await.unwrap();
    migrate(&source, draft.store()).await.unwrap();
    // Another one was faster.
    store.put_idp(&stored_idp("t", "mine"), 9).await.unwrap();
    let error = draft.finish().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert_eq!(store.idps().await.unwrap(), [stored_idp("t", "mine")]);
    let error = store.draft().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exists);
    assert!(error.to_string().contains("{tokenward}:*"), "{error}");
    // A replica that marked it has it, though nothing was acknowledged yet; others are no concern of it.
    let marked = RedisServer::start();
    let store = replica(&marked);
    assert!(store.set_generation(None, "a").await.unwrap());
    assert!(!store.is_empty().await.unwrap());
    assert!(store.draft().await.is_err());
    let other = RedisOptions {
        prefix: "other".to_owned(),
        ..RedisOptions::new(marked.url())
    };
    let other = Redis::new(other, Arc::new(RealClock)).unwrap();
    other.draft().await.unwrap().finish().await.unwrap();
    // Nor are key sets, which are fetched again.
    let cache = RedisServer::start();
    let store = replica(&cache);
    store.put(&snapshot("t", "a")).await.unwrap();
    store.claim("t", "a", &[7; 32]).await.unwrap();
    let draft = store.draft().await.unwrap();
    migrate(&source, draft.store()).await.unwrap();
    draft.finish().await.unwrap();
    same(&source, &store).await;
}

#[tokio::test]
async fn a_draft_is_on_one_node_and_needs_no_other_rights() {
    let cluster = RedisCluster::start(Program::Valkey, "{tokenward}:meta");
    let server = RedisServer::start();
    let mut words = vec!["ACL", "SETUSER", "ward", "on", ">word"];
    words.extend(documented_rights());
    server.ask(&words);
    let limited = format!("redis://ward:word@127.0.0.1:{}", server.port());
    for url in [cluster.url(), limited] {
        let store = Redis::new(RedisOptions::new(url), Arc::new(RealClock)).unwrap();
        let source = filled().await;
        for _ in 0..2 {
            let draft = store.draft().await.unwrap();
            migrate(&source, draft.store()).await.unwrap();
        }
        let draft = store.draft().await.unwrap();
        migrate(&source, draft.store()).await.unwrap();
        draft.finish().await.unwrap();
        same(&source, &store).await;
    }
}
