//! A refresh is traced under its tenant and provider.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tokenward_testkit::TestKey;
use tracing::{Subscriber, field, span};
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
        let mut fields = Fields(attributes.metadata().name().to_owned());
        attributes.record(&mut fields);
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
        seen.contains(&r#"refresh tenant="default" provider="a""#.to_owned()),
        "{seen:?}"
    );
}
