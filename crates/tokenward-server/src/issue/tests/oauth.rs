//! The OAuth endpoints where the store fails.

use std::sync::atomic::Ordering;

use ::http::{HeaderMap, Request, StatusCode, header};
use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::{counted::Counted, *};
use crate::{
    access::{Access, Audit, Guard, Reach},
    config::{Allow, Credential, Scope, SecretDigest},
};

#[tokio::test]
async fn a_revocation_or_its_record_that_is_not_stored_is_not_acknowledged() {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let ledger = Counted::new(Arc::new(Memory::new()));
    let (index, service) = service(Arc::clone(&ledger) as _, &clock).await;
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let (audit, writer) = Audit::new(Arc::clone(&ledger) as _, Arc::clone(&clock));
    let mut tasks = JoinSet::new();
    tasks.spawn(writer);
    let credential = Credential {
        name: "ops".into(),
        digest: SecretDigest::of(b"secret"),
        scopes: vec![Scope::Admin],
        allow: Allow::default(),
    };
    let access = Access::new([credential], Arc::default(), clock);
    let routes = service.routes(&Guard::new(access, audit, Reach::Beyond));
    let revoke = async |token: &str| -> (StatusCode, HeaderMap, Value) {
        let request = Request::post("/oauth/revoke")
            .header(header::HOST, "a.example")
            .header(header::AUTHORIZATION, "Bearer secret")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={token}")))
            .unwrap();
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
