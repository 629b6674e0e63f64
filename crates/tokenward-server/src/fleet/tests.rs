//! Identity providers come and go at run time, and with the configuration.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokenward::{
    Registry,
    fetch::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse},
};
use tokenward_core::{BoxFuture, Timestamp};
use tokenward_store::{Ledger, Memory};
use tokenward_testkit::ManualClock;
use tokio::task::JoinSet;

use super::*;
use crate::config::tests::read as configured;

/// Every provider is down: where its keys would come from matters to nobody here.
struct Down;

impl Fetch for Down {
    fn fetch<'a>(&'a self, _: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        Box::pin(async { Err(FetchError::new(FetchErrorKind::Connect, "down")) })
    }
}

struct World {
    registry: Registry,
    fleet: Fleet,
    _tasks: JoinSet<()>,
}

impl World {
    async fn start(ledger: Arc<dyn Ledger>, yaml: &str) -> Result<Self, FleetError> {
        let registry = Registry::builder()
            .clock(Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))))
            .fetcher(Arc::new(Down))
            .build()
            .unwrap();
        let mut tasks = JoinSet::new();
        let config = Arc::new(configured(yaml).unwrap());
        let fleet = Fleet::start(registry.clone(), ledger, registry.clock(), config, &mut tasks).await?;
        Ok(Self {
            registry,
            fleet,
            _tasks: tasks,
        })
    }

    async fn new(yaml: &str) -> Self {
        Self::start(Arc::new(Memory::new()), yaml).await.unwrap()
    }

    async fn put(&self, name: &str, document: &str) -> Result<Put, FleetError> {
        self.fleet.put("default", name, document.as_bytes()).await
    }

    async fn reload(&self, yaml: &str) -> Result<Changed, FleetError> {
        self.fleet.reload(Arc::new(configured(yaml).unwrap())).await
    }

    fn names(&self, tenant: &str) -> Vec<String> {
        let idps = self.registry.idps(tenant);
        idps.iter().map(|idp| idp.name().to_owned()).collect()
    }
}

fn document(issuer: &str) -> String {
    format!(r#"{{"issuer": "https://{issuer}.example", "audiences": ["api"]}}"#)
}

/// A member of `idps` with the issuer of its name.
fn member(name: &str) -> String {
    format!("- {{ name: {name}, issuer: 'https://{name}.example', audiences: [api] }}\n")
}

fn yaml(names: &[&str]) -> String {
    let members: String = names.iter().map(|name| member(name)).collect();
    format!("idps:\n{members}")
}

#[tokio::test]
async fn what_is_added_runs_and_is_there_after_a_restart() {
    let store = Arc::new(Memory::new());
    let first = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    assert_eq!(first.put("z", &document("z")).await.unwrap(), Put::Created);
    assert_eq!(first.put("m", &document("m")).await.unwrap(), Put::Created);
    assert_eq!(first.names("default"), ["a", "z", "m"]);
    assert_eq!(first.put("z", &document("zz")).await.unwrap(), Put::Replaced);
    assert_eq!(
        first
            .fleet
            .put("blue", "a", document("a").as_bytes())
            .await
            .unwrap(),
        Put::Created
    );
    assert_eq!(first.names("blue"), ["a"]);
    assert!(first.fleet.is_dynamic("default", "z") && first.fleet.is_dynamic("blue", "a"));
    assert!(!first.fleet.is_dynamic("default", "a"));
    assert_eq!(
        first.fleet.document("default", "z").as_deref(),
        Some(&*document("zz"))
    );
    assert_eq!(first.fleet.document("default", "a"), None);

    let second = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    assert_eq!(
        second.names("default"),
        ["a", "z", "m"],
        "in the order in which they came"
    );
    assert_eq!(second.names("blue"), ["a"]);
    assert_eq!(
        second.registry.idp("default", "z").unwrap().config().issuer(),
        Some("https://zz.example")
    );
    assert!(second.fleet.remove("default", "z").await.unwrap());
    assert!(!second.fleet.remove("default", "z").await.unwrap());
    assert_eq!(second.names("default"), ["a", "m"]);
    let third = World::start(store, &yaml(&["a"])).await.unwrap();
    assert_eq!(third.names("default"), ["a", "m"]);
}

#[tokio::test]
async fn what_cannot_be_added_changes_nothing() {
    let yaml = format!(
        "max_dynamic_idps: 2\nallowed_domains: [example]\n{}",
        yaml(&["a"])
    );
    let world = World::new(&yaml).await;
    world.put("b", &document("b")).await.unwrap();
    let generation = world.registry.generation();
    assert!(matches!(
        world.put("a", &document("x")).await,
        Err(FleetError::Configured)
    ));
    assert!(matches!(
        world.fleet.remove("default", "a").await,
        Err(FleetError::Configured)
    ));
    assert!(matches!(
        world.put("c", &document("a")).await,
        Err(FleetError::IssuerTaken)
    ));
    assert!(matches!(
        world.put("c", &document("b")).await,
        Err(FleetError::IssuerTaken)
    ));
    let Err(FleetError::Invalid(problems)) = world
        .put("c", r#"{"issuer": "https://c.test", "leeway": 1e9}"#)
        .await
    else {
        panic!("it is taken");
    };
    let members: Vec<_> = problems.iter().map(|problem| problem.member.as_str()).collect();
    assert_eq!(members, ["leeway"]);
    let Err(FleetError::Invalid(problems)) = world.put("c", r#"{"issuer": "https://c.test"}"#).await else {
        panic!("it is taken");
    };
    assert!(problems[0].message.contains("allowed_domains"), "{problems:?}");
    assert_eq!(world.registry.generation(), generation);
    world.put("c", &document("c")).await.unwrap();
    assert!(matches!(
        world.put("d", &document("d")).await,
        Err(FleetError::Full { max: 2 })
    ));
    assert_eq!(world.names("default"), ["a", "b", "c"], "none is evicted");
    assert_eq!(
        world.put("b", &document("bb")).await.unwrap(),
        Put::Replaced,
        "a change is not one more"
    );
}

#[tokio::test]
async fn the_configuration_comes_before_what_was_added() {
    let store = Arc::new(Memory::new());
    let world = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    world.put("b", &document("other")).await.unwrap();
    world.put("c", &document("d")).await.unwrap();
    // Its name and another one's issuer stand in the configuration now.
    let with_both = yaml(&["d", "a", "b"]);
    world.reload(&with_both).await.unwrap();
    for world in [&world, &World::start(store, &with_both).await.unwrap()] {
        assert_eq!(world.names("default"), ["d", "a", "b"]);
        assert!(!world.fleet.is_dynamic("default", "b") && !world.fleet.is_dynamic("default", "c"));
        assert!(matches!(
            world.put("b", &document("x")).await,
            Err(FleetError::Configured)
        ));
    }
    // They were not forgotten, and come back when the configuration lets them.
    world.reload(&yaml(&["a"])).await.unwrap();
    let mut names = world.names("default");
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    let issuer = |name| {
        world
            .registry
            .idp("default", name)
            .unwrap()
            .config()
            .issuer()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (issuer("b"), issuer("c")),
        ("https://other.example".into(), "https://d.example".into())
    );
    assert!(world.fleet.is_dynamic("default", "b") && world.fleet.is_dynamic("default", "c"));
}

#[tokio::test]
async fn a_reload_touches_what_changed_alone() {
    let world = World::new(&yaml(&["a", "b", "c"])).await;
    world.put("z", &document("z")).await.unwrap();
    let idp = |name| world.registry.idp("default", name);
    let (a, c, z) = (idp("a").unwrap(), idp("c").unwrap(), idp("z").unwrap());
    let changed = world
        .reload(&format!(
            "{}  required: true\n",
            yaml(&["d", "c", "a"]).replace(
                "- { name: a, issuer: 'https://a.example', audiences: [api] }",
                "- name: a\n  issuer: https://a.example\n  audiences: [api]"
            )
        ))
        .await;
    assert_eq!(
        changed.unwrap(),
        Changed {
            added: 1,
            changed: 1,
            removed: 1,
            unchanged: 1
        }
    );
    assert_eq!(
        world.names("default"),
        ["d", "c", "a", "z"],
        "in the order of the configuration"
    );
    assert!(Arc::ptr_eq(&c, &idp("c").unwrap()) && Arc::ptr_eq(&z, &idp("z").unwrap()));
    assert!(a.is_retired() && idp("a").unwrap().config().is_required());
    // Other defaults reach those that were added, too.
    world
        .reload(&format!("idp_defaults: {{ leeway: 7s }}\n{}", yaml(&["c"])))
        .await
        .unwrap();
    assert_eq!(world.names("default"), ["c", "z"]);
    let leeway = |name| idp(name).unwrap().config().policy().unwrap().leeway();
    assert_eq!(
        (leeway("c"), leeway("z")),
        (Duration::from_secs(7), Duration::from_secs(7))
    );
    assert!(world.fleet.is_dynamic("default", "z"));
    // One that has gone from the configuration can be added.
    assert_eq!(world.put("a", &document("a")).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn defaults_that_break_what_runs_are_refused() {
    let store = Arc::new(Memory::new());
    let world = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    world
        .fleet
        .put("blue", "b", br#"{"url": "https://b.example/k", "min_ttl": "1h"}"#)
        .await
        .unwrap();
    let generation = world.registry.generation();
    let broken = format!("idp_defaults: {{ max_ttl: 50s }}\n{}", yaml(&["a", "c"]));
    let Err(FleetError::Invalid(problems)) = world.reload(&broken).await else {
        panic!("it is taken over");
    };
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].member, "blue/b: min_ttl");
    assert_eq!(
        (world.registry.generation(), world.names("default")),
        (generation, vec!["a".to_owned()])
    );
    // Where nothing runs that it could break, the rest goes on.
    let restarted = World::start(store, &broken).await.unwrap();
    assert_eq!(restarted.names("default"), ["a", "c"]);
    assert!(!restarted.fleet.is_dynamic("blue", "b"));
    restarted.reload(&yaml(&["a"])).await.unwrap();
    assert!(restarted.fleet.is_dynamic("blue", "b"), "it was kept");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let store = Arc::new(Memory::new());
    let world = World::start(Arc::clone(&store) as _, "").await.unwrap();
    {
        let text = document("a");
        let put = std::pin::pin!(world.put("a", &text));
        assert!(put.now_or_never().is_none());
    }
    assert_eq!(world.names("default"), [""; 0]);
    // Changes follow one another, so the first has happened when the second has.
    world.put("b", &document("b")).await.unwrap();
    assert_eq!(world.names("default"), ["a", "b"]);
    assert_eq!(store.idps().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_another_process_stores_is_taken_over_and_nothing_else_is_touched() {
    let store = Arc::new(Memory::new());
    let one = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    let two = World::start(Arc::clone(&store) as _, &yaml(&["a"]))
        .await
        .unwrap();
    for name in ["x", "y", "z"] {
        one.put(name, &document(name)).await.unwrap();
    }
    assert_eq!(two.names("default"), ["a"]);
    two.fleet.reload_stored().await.unwrap();
    assert_eq!(two.names("default"), ["a", "x", "y", "z"]);
    assert!(two.fleet.is_dynamic("default", "x"));
    let idp = |name| two.registry.idp("default", name);
    let (a, x, y, z) = (
        idp("a").unwrap(),
        idp("x").unwrap(),
        idp("y").unwrap(),
        idp("z").unwrap(),
    );
    // What one's own calls change is there already.
    let generation = two.registry.generation();
    two.fleet.reload_stored().await.unwrap();
    assert_eq!(two.registry.generation(), generation);

    one.put("y", &document("yy")).await.unwrap();
    assert!(one.fleet.remove("default", "z").await.unwrap());
    one.put("b", &document("b")).await.unwrap();
    two.fleet.reload_stored().await.unwrap();
    assert_eq!(two.names("default"), ["a", "x", "y", "b"]);
    assert!(Arc::ptr_eq(&a, &idp("a").unwrap()) && Arc::ptr_eq(&x, &idp("x").unwrap()));
    assert!(y.is_retired() && z.is_retired());
    assert_eq!(idp("y").unwrap().config().issuer(), Some("https://yy.example"));
    assert_eq!(
        two.fleet.document("default", "y").as_deref(),
        Some(&*document("yy"))
    );
    assert_eq!(two.fleet.document("default", "z"), None);
    // One that was added there and is not known here yet can be removed here.
    one.put("late", &document("late")).await.unwrap();
    assert!(two.fleet.remove("default", "late").await.unwrap());
    one.fleet.reload_stored().await.unwrap();
    assert_eq!(one.names("default"), ["a", "x", "y", "b"]);
    assert!(!two.fleet.remove("default", "late").await.unwrap());
}

#[tokio::test]
async fn of_two_with_one_issuer_the_first_one_runs_on_every_process() {
    let store = Arc::new(Memory::new());
    let start = async |names: &[&str]| World::start(Arc::clone(&store) as _, &yaml(names)).await.unwrap();
    let (one, two, other) = (start(&["a"]).await, start(&["a"]).await, start(&["c", "q"]).await);
    // Neither has heard of the other's.
    one.put("x", &document("same")).await.unwrap();
    two.put("y", &document("same")).await.unwrap();
    for world in [&one, &two, &other] {
        world.fleet.reload_stored().await.unwrap();
        assert!(world.fleet.is_dynamic("default", "x") && !world.fleet.is_dynamic("default", "y"));
        let running = world
            .registry
            .idp_by_issuer("default", "https://same.example")
            .unwrap();
        assert_eq!(running.name(), "x");
    }
    // Issuers may change places, and one that is free again is taken by the one that waits for it.
    one.put("z", &document("z")).await.unwrap();
    two.fleet.reload_stored().await.unwrap();
    one.put("x", &document("tmp")).await.unwrap();
    one.put("z", &document("same")).await.unwrap();
    one.put("x", &document("z")).await.unwrap();
    for world in [&one, &two] {
        world.fleet.reload_stored().await.unwrap();
        let issuer = |name| {
            world
                .registry
                .idp("default", name)
                .unwrap()
                .config()
                .issuer()
                .map(str::to_owned)
        };
        assert_eq!(issuer("x").as_deref(), Some("https://z.example"));
        assert_eq!(issuer("y").as_deref(), Some("https://same.example"));
        assert!(!world.fleet.is_dynamic("default", "z"));
    }
    // A configuration of its own comes first, on that process.
    one.put("q", &document("qq")).await.unwrap();
    one.put("w", &document("c")).await.unwrap();
    other.fleet.reload_stored().await.unwrap();
    assert_eq!(other.names("default")[..2], ["c", "q"]);
    assert!(!other.fleet.is_dynamic("default", "q") && !other.fleet.is_dynamic("default", "w"));
    assert!(one.fleet.is_dynamic("default", "q") && one.fleet.is_dynamic("default", "w"));
}

#[tokio::test]
async fn what_this_process_cannot_read_does_not_run_here() {
    let store = Arc::new(Memory::new());
    let one = World::start(Arc::clone(&store) as _, "").await.unwrap();
    let narrow = World::start(Arc::clone(&store) as _, "allowed_domains: [good.example]\n")
        .await
        .unwrap();
    one.put("x", &document("good")).await.unwrap();
    one.put("y", &document("bad")).await.unwrap();
    narrow.fleet.reload_stored().await.unwrap();
    assert_eq!(narrow.names("default"), ["x"]);
    // The former one is not what anybody wants any more.
    one.put("x", &document("worse")).await.unwrap();
    narrow.fleet.reload_stored().await.unwrap();
    assert_eq!(narrow.names("default"), [""; 0]);
    one.put("x", &document("good")).await.unwrap();
    narrow.fleet.reload_stored().await.unwrap();
    assert_eq!(narrow.names("default"), ["x"]);
}
