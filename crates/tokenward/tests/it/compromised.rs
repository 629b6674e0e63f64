//! Keys that arrive with their private half.

use std::time::Duration;

use serde_json::Value;
use tokenward::{Denial, EventKind, Snapshots, State, freshness};
use tokenward_testkit::{TestKey, key_set};
use tokio::sync::broadcast::Receiver;

use crate::world::{Site, World};

const AFTER_THE_NEXT_REFRESH: Duration = Duration::from_secs(4_000);

fn serve(world: &World, set: &Value) {
    world.set("a", Site::Keys(set.to_string().into_bytes()));
}

fn alarms(events: &mut Receiver<tokenward::Event>) -> Vec<usize> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|event| match event.kind {
            EventKind::Notable(freshness::Event::KeysCompromised { count }) => Some(count),
            _ => None,
        })
        .collect()
}

fn skipped(world: &World) -> Vec<(Option<String>, &'static str)> {
    let status = world.registry.idp("default", "a").unwrap().status().keys;
    status
        .skipped_keys
        .into_iter()
        .map(|key| (key.kid, key.reason))
        .collect()
}

#[tokio::test]
async fn one_that_appears_beside_unchanged_ones_is_noticed_and_noticed_once() {
    let world = World::new();
    let (key, leaked) = (TestKey::es256(0), TestKey::es256(1));
    serve(&world, &key_set(&[&key]));
    world.add("a").await;
    let mut events = world.registry.subscribe();
    let mut set = key_set(&[&key, &leaked]);
    set["keys"][1]["d"] = "AAAA".into();
    serve(&world, &set);
    world.clock.run_for(2 * AFTER_THE_NEXT_REFRESH).await;
    assert_eq!(alarms(&mut events), [1]);
    assert_eq!(
        skipped(&world),
        [(leaked.kid().map(str::to_owned), "private_material")]
    );
    world.verify(&world.token("a", &key)).await.unwrap();
}

#[tokio::test]
async fn the_only_one_is_not_used_any_more_though_its_set_is_refused() {
    let world = World::new();
    let key = TestKey::es256(0);
    let mut set = key_set(&[&key]);
    serve(&world, &set);
    world.add("a").await;
    let token = world.token("a", &key);
    world.verify(&token).await.unwrap();
    assert!(world.store.get("default", "a").await.unwrap().is_some());

    let mut events = world.registry.subscribe();
    set["keys"][0]["d"] = "AAAA".into();
    serve(&world, &set);
    world.clock.run_for(AFTER_THE_NEXT_REFRESH).await;
    assert!(!alarms(&mut events).is_empty());
    assert_eq!(
        skipped(&world),
        [(key.kid().map(str::to_owned), "private_material")]
    );
    for token in [token, world.token("a", &key)] {
        assert_eq!(world.verify(&token).await.unwrap_err(), Denial::IssuerUnavailable);
    }
    let status = world.registry.idp("default", "a").unwrap().status().keys;
    assert_eq!((status.state, status.key_count), (State::Failed, 0));
    assert!(
        world.store.get("default", "a").await.unwrap().is_none(),
        "a restart would bring it back"
    );

    let new = TestKey::es256(1);
    serve(&world, &key_set(&[&new]));
    world.clock.run_for(AFTER_THE_NEXT_REFRESH).await;
    world.verify(&world.token("a", &new)).await.unwrap();
}
