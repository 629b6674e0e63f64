use axum::{Router, body::Body, middleware::from_fn_with_state, routing::post};
use futures_util::FutureExt as _;
use http::{StatusCode, header};
use secrecy::ExposeSecret as _;
use tokenward_core::{Clock, Timestamp};
use tokenward_store::Memory;
use tokenward_testkit::ManualClock;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use super::*;
use crate::{
    access::{Failures, Generated},
    config::Scope,
    http::store_unavailable,
};

/// A call that waits for the bell, by a caller who goes away before it rings.
async fn abandoned(effect: Effect, by_holder: bool) -> Vec<AuditRecord> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let (audit, writer) = Audit::new(Arc::new(Memory::new()), Arc::clone(&clock));
    let mut tasks = JoinSet::new();
    tasks.spawn(writer);
    let made = Generated::new().unwrap();
    let access = Access::new([made.credential], Arc::new(Failures::default()), clock);
    let guard = Guard::new(access, audit.clone(), Reach::Beyond);
    let call = guard.call("a.call", Need::Scope(Scope::TokensIssue), effect);
    let bell = Arc::new(Notify::new());
    let rung = Arc::clone(&bell);
    let handler = post(move || async move {
        rung.notified().await;
        let mut response = StatusCode::CREATED.into_response();
        response.extensions_mut().insert(Holder("the parent".to_owned()));
        response
    });
    let router = match by_holder {
        true => Router::new().route("/x", handler.route_layer(from_fn_with_state(call, recorded))),
        false => Router::new().route("/x", handler.route_layer(from_fn_with_state(call, guarded))),
    };
    let secret = format!("Bearer {}", made.secret.expose_secret());
    let request = Request::post("/x")
        .header(header::HOST, "a")
        .header(header::AUTHORIZATION, secret);
    let mut answer = Box::pin(router.oneshot(request.body(Body::empty()).unwrap()));
    for _ in 0..10 {
        assert!(answer.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(answer);
    bell.notify_one();
    guard.finish().await;
    let records = audit.read(None, 10).await.unwrap();
    records.into_iter().map(|(_, record)| record).collect()
}

#[tokio::test]
async fn what_is_stored_is_recorded_though_its_caller_does_not_wait() {
    for effect in [Effect::Issues, Effect::Changes] {
        for (by_holder, who) in [(false, "dev"), (true, "the parent")] {
            let records = abandoned(effect, by_holder).await;
            let told: Vec<_> = records
                .iter()
                .map(|record| [&*record.who, &*record.action, &*record.target, &*record.outcome])
                .collect();
            assert_eq!(told, [[who, "a.call", "/x", "ok"]], "{effect:?}");
        }
    }
    // What only reads ends with its caller.
    assert_eq!(abandoned(Effect::Reads, false).await, []);
}

/// Its audit log is that of a store that does not answer: nobody writes it.
#[tokio::test]
async fn a_change_that_the_store_did_not_take_does_not_wait_for_it_once_more() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let changes: [(fn() -> Response, bool); 3] = [
        (store_unavailable, true),
        (
            || oauth_unavailable(STORE_UNAVAILABLE, "It is not revoked."),
            true,
        ),
        (|| StatusCode::CREATED.into_response(), false),
    ];
    for (answer, is_answered) in changes {
        let (audit, writer) = Audit::new(Arc::new(Memory::new()), Arc::clone(&clock));
        let made = Generated::new().unwrap();
        let access = Access::new(
            [made.credential],
            Arc::new(Failures::default()),
            Arc::clone(&clock),
        );
        let guard = Guard::new(access, audit.clone(), Reach::Beyond);
        let call = guard.call("a.change", Need::Scope(Scope::TokensIssue), Effect::Changes);
        let handler = post(move || async move { answer() });
        let router = Router::new().route("/x", handler.route_layer(from_fn_with_state(call, guarded)));
        let secret = format!("Bearer {}", made.secret.expose_secret());
        let request = Request::post("/x")
            .header(header::HOST, "a")
            .header(header::AUTHORIZATION, secret);
        let mut response = Box::pin(router.oneshot(request.body(Body::empty()).unwrap()));
        let mut answered = None;
        for _ in 0..20 {
            answered = answered.or(response.as_mut().now_or_never());
            if answered.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let status = answered.map(|answered| answered.unwrap().status());
        let wanted = is_answered.then_some(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status, wanted);
        // It is in the log as soon as that can be written.
        let mut tasks = JoinSet::new();
        tasks.spawn(writer);
        let records = audit.read(None, 10).await.unwrap();
        let outcomes: Vec<_> = records.iter().map(|(_, record)| &*record.outcome).collect();
        assert_eq!(outcomes, [if is_answered { STORE_UNAVAILABLE } else { "ok" }]);
    }
}
