//! The OAuth endpoints where the store fails, or the client.

use std::{convert::Infallible, sync::atomic::Ordering};

use ::http::{HeaderMap, Request, StatusCode, header};
use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::{counted::Counted, *};
use crate::{
    access::{Access, Audit, Guard, Reach},
    config::{Allow, Credential, Scope, SecretDigest},
};

/// The endpoints, behind a guard that writes its records in one of the tasks.
fn routes(
    service: &TokenService,
    ledger: Arc<dyn Ledger>,
    clock: &ManualClock,
    tasks: &mut JoinSet<()>,
) -> Router {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let (audit, writer) = Audit::new(ledger, Arc::clone(&clock));
    tasks.spawn(writer);
    let credential = Credential {
        name: "ops".into(),
        digest: SecretDigest::of(b"secret"),
        scopes: vec![Scope::Admin],
        allow: Allow::default(),
    };
    let access = Access::new([credential], Arc::default(), clock);
    service.routes(&Guard::new(access, audit, Reach::Beyond))
}

/// A form that the credential sends.
fn form(path: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header(header::HOST, "a.example")
        .header(header::AUTHORIZATION, "Bearer secret")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn a_revocation_or_its_record_that_is_not_stored_is_not_acknowledged() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let (index, service) = service(Arc::clone(&ledger) as _, &clock).await;
    let mut tasks = JoinSet::new();
    let routes = routes(&service, Arc::clone(&ledger) as _, &clock, &mut tasks);
    let revoke = async |token: &str| -> (StatusCode, HeaderMap, Value) {
        let request = form("/oauth/revoke", Body::from(format!("token={token}")));
        let (parts, body) = routes.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    };
    let settings = service.settings();
    let body = br#"{"user_id":"a"}"#;
    let request = TokenRequest::parse(body, &settings.lifetimes, &settings.audience).unwrap();
    let token = service.mint("ops", &request).unwrap().token;

    for (revocations_fail, audit_fails, still_good) in [(true, false, true), (false, true, false)] {
        ledger.revocations_fail.store(revocations_fail, Ordering::Relaxed);
        ledger.audit_fails.store(audit_fails, Ordering::Relaxed);
        let (status, headers, told) = revoke(&token).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(headers.contains_key(header::RETRY_AFTER));
        assert_eq!(
            (&told["error"], &told["error_code"]),
            (&json!("temporarily_unavailable"), &json!("store_unavailable"))
        );
        assert_eq!(service.introspect(&token).unwrap().is_some(), still_good);
        assert_eq!(index.is_empty(), still_good);
    }
    ledger.audit_fails.store(false, Ordering::Relaxed);
    assert_eq!(revoke(&token).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_given_up_in_the_words_of_oauth() {
    let world = World::new().await;
    let mut tasks = JoinSet::new();
    let routes = routes(
        &world.service,
        Arc::clone(&world.ledger) as _,
        &world.clock,
        &mut tasks,
    );
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"token=x"))]);
        let request = form(path, Body::from_stream(begun.chain(stream::pending())));
        let mut answers = JoinSet::new();
        answers.spawn(routes.clone().oneshot(request));
        world.clock.run_for(Duration::from_millis(9_900)).await;
        assert!(answers.try_join_next().is_none(), "{path}: it may come yet");
        world.clock.run_for(Duration::from_millis(200)).await;
        let answer = answers.join_next().await.unwrap().unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        assert_eq!(parts.status, StatusCode::REQUEST_TIMEOUT, "{path}");
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
        let told: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(
            (&told["error"], &told["error_code"]),
            (&json!("invalid_request"), &json!("request_timeout")),
            "{told}"
        );
    }
}
