//! What is traced: refreshes under their tenant and provider, verifications with their outcome.

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use tokenward::TokenLayer;
use tokenward_testkit::{TestKey, with_broken_signature};
use tower::{Layer as _, ServiceExt as _};
use tracing::{Event, Subscriber, field, span};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::world::World;

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut fields = Fields(format!("{} {}", metadata.level(), metadata.name()));
        attributes.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields("event".to_owned());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[tokio::test]
async fn a_refresh_has_a_span_with_tenant_and_provider() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let world = World::new();
    world.serve("a", &[&TestKey::es256(0)]);
    world.add("a").await;
    let seen = spans.0.lock().unwrap().clone();
    assert!(
        seen.contains(&r#"INFO refresh tenant="default" provider="a""#.to_owned()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_verification_is_told_with_reason_issuer_and_tenant_and_without_the_token() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let good = world.token("a", &key);
    let bad = with_broken_signature(&good);
    let stranger = world.token("stranger", &key);
    for (token, told) in [
        (
            &good,
            r#"tenant="default" issuer="https://a.example/" idp="a" reason="ok""#,
        ),
        // Out of the cache this time.
        (
            &good,
            r#"tenant="default" issuer="https://a.example/" idp="a" reason="ok""#,
        ),
        (
            &bad,
            r#"tenant="default" issuer="https://a.example/" idp="a" reason="signature_invalid""#,
        ),
        (&stranger, r#"tenant="default" reason="issuer_unknown""#),
    ] {
        spans.0.lock().unwrap().clear();
        let _ = world.verify(token).await;
        let seen = spans.0.lock().unwrap().clone();
        let judged = seen.iter().filter(|line| line.contains("Token judged"));
        assert_eq!(judged.clone().count(), 1, "{seen:?}");
        assert!(
            judged.clone().all(|line| line.contains(told)),
            "{told} in {seen:?}"
        );
        let parts: Vec<&str> = token.split('.').collect();
        assert!(
            !seen
                .iter()
                .any(|line| parts.iter().any(|part| line.contains(part)) || line.contains("stranger")),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn a_refused_request_is_told_by_its_reason_and_nothing_of_it() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let layer = TokenLayer::new(world.verifier.clone()).require_scopes(["read"]);
    let service = layer.layer(tower::service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let token = world.token("a", &key);
    let request = Request::get("/secret").header("authorization", format!("Bearer {token}"));
    let answer = service.oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 403);
    let seen = spans.0.lock().unwrap().clone();
    let told = r#"event message=Request refused reason="insufficient_scope""#;
    assert!(seen.iter().any(|event| event == told), "{seen:?}");
    let all = seen.concat();
    assert!(!all.contains(&token) && !all.contains("secret"), "{all}");
}
