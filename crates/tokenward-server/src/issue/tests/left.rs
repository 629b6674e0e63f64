//! Callers who leave before the answer.

use ::http::{Request, header};
use axum::body::Body;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::*;
use crate::{
    access::{Access, Audit, Guard, Reach},
    config::{Allow, Credential, Scope, SecretDigest},
};

#[tokio::test]
async fn a_pair_and_a_renewal_whose_caller_left_are_in_the_audit_log() {
    let world = World::new().await;
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let (audit, writer) = Audit::new(Arc::clone(&world.ledger) as _, Arc::clone(&clock));
    let mut tasks = JoinSet::new();
    tasks.spawn(writer);
    let credential = Credential {
        name: "ops".into(),
        digest: SecretDigest::of(b"secret"),
        scopes: vec![Scope::TokensIssue],
        allow: Allow::default(),
    };
    let access = Access::new([credential], Arc::default(), clock);
    let guard = Guard::new(access, audit.clone(), Reach::Beyond);
    let routes = world.service.routes(&guard);
    let parent = world.pair(r#"{"user_id":"a"}"#).await.parent;
    for (path, bearer, body, who, action) in [
        (
            "/token-pairs",
            "secret",
            r#"{"user_id":"b"}"#,
            "ops",
            "tokens.pair",
        ),
        ("/renew", &*parent.token, "", &*parent.id, "tokens.renew"),
    ] {
        let request = Request::post(path)
            .header(header::HOST, "a.example")
            .header(header::AUTHORIZATION, format!("Bearer {bearer}"))
            .body(Body::from(body))
            .unwrap();
        let mut answer = Box::pin(routes.clone().oneshot(request));
        assert!(answer.as_mut().now_or_never().is_none());
        drop(answer);
        guard.finish().await;
        let newest = audit.read(None, 1).await.unwrap();
        let (_, record) = newest.first().expect("a record");
        assert_eq!(
            [&*record.who, &*record.action, &*record.outcome],
            [who, action, "ok"]
        );
    }
}
