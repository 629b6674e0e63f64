//! Identity providers come, change and go.

use std::{sync::Arc, time::Duration};

use tokenward::{Audiences, Changes, ErrorKind, Health, IdpConfig, Policy, Settings};
use tokenward_testkit::TestKey;
use url::Url;

use crate::world::{Site, World};

/// An identity provider of `tenant` whose keys are at the site `site`.
fn idp(tenant: &str, name: &str, issuer: &str, site: &str) -> IdpConfig {
    let policy = Policy::builder(issuer, Audiences::Any).build().unwrap();
    let url = Url::parse(&format!("https://{site}.example/jwks")).unwrap();
    IdpConfig::at(name, url, Some(policy))
        .unwrap()
        .tenant_named(tenant)
        .unwrap()
}

fn names(world: &World, tenant: &str) -> Vec<String> {
    let idps = world.registry.idps(tenant);
    idps.iter().map(|idp| idp.name().to_owned()).collect()
}

fn register(idps: impl IntoIterator<Item = IdpConfig>) -> Changes {
    Changes {
        register: idps.into_iter().collect(),
        ..Changes::default()
    }
}

#[tokio::test]
async fn the_same_settings_again_change_nothing() {
    let world = World::new();
    world.serve("a", &[&TestKey::es256(0)]);
    let first = world.registry.register(idp("t", "a", "i", "a")).unwrap();
    world.clock.run_for(Duration::from_secs(1)).await;
    let generation = world.registry.generation();
    let again = world.registry.register(idp("t", "a", "i", "a")).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    world
        .registry
        .apply(register([idp("t", "a", "i", "a")]))
        .await
        .unwrap();
    world.clock.run_for(Duration::from_secs(1)).await;
    assert!(!first.is_retired());
    assert_eq!(world.registry.generation(), generation);
    assert_eq!(world.asked("a").len(), 1, "nothing is fetched for it");
    for changed in [
        idp("t", "a", "j", "a"),
        idp("t", "a", "i", "b"),
        idp("t", "a", "i", "a").required(true),
        idp("t", "a", "i", "a")
            .with_settings(Settings {
                max_keys: 3,
                ..Settings::default()
            })
            .unwrap(),
    ] {
        let before = world.registry.register(idp("t", "a", "i", "a")).unwrap();
        let after = world.registry.register(changed).unwrap();
        assert!(before.is_retired() && !Arc::ptr_eq(&before, &after));
    }
}

#[tokio::test]
async fn issuers_go_from_one_to_another_in_one_step() {
    let world = World::new();
    let start = [
        idp("t", "a", "x", "a"),
        idp("t", "b", "y", "b"),
        idp("t", "c", "z", "c"),
    ];
    world.registry.apply(register(start)).await.unwrap();
    let changes = Changes {
        register: vec![
            idp("t", "a", "y", "a"),
            idp("t", "b", "x", "b"),
            idp("t", "d", "z", "d"),
        ],
        unregister: vec![("t".into(), "c".into()), ("t".into(), "nobody".into())],
    };
    world.registry.apply(changes).await.unwrap();
    let named = |issuer| {
        world
            .registry
            .idp_by_issuer("t", issuer)
            .map(|idp| idp.name().to_owned())
    };
    assert_eq!(
        ["x", "y", "z"].map(named).map(Option::unwrap),
        ["b", "a", "d"].map(str::to_owned)
    );
    assert_eq!(names(&world, "t"), ["a", "b", "d"]);
    assert!(world.registry.idp("t", "c").is_none());
}

#[tokio::test]
async fn changes_that_do_not_fit_together_change_nothing() {
    let world = World::new();
    let start = [idp("t", "a", "x", "a"), idp("t", "b", "y", "b")];
    world.registry.apply(register(start)).await.unwrap();
    let generation = world.registry.generation();
    for (what, changes) in [
        (
            "an issuer that stays",
            register([idp("t", "n", "n", "n"), idp("t", "c", "y", "c")]),
        ),
        (
            "one issuer twice",
            register([idp("t", "n", "n", "n"), idp("t", "c", "n", "c")]),
        ),
        (
            "one that changes to it",
            register([idp("t", "n", "n", "n"), idp("t", "a", "y", "a")]),
        ),
        (
            "one name twice",
            register([idp("t", "n", "n", "n"), idp("t", "n", "m", "m")]),
        ),
        (
            "changed and removed",
            Changes {
                register: vec![idp("t", "a", "n", "a")],
                unregister: vec![("t".into(), "a".into())],
            },
        ),
    ] {
        let error = world.registry.apply(changes).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{what}");
        assert_eq!(world.registry.generation(), generation, "{what}");
        assert_eq!(names(&world, "t"), ["a", "b"], "{what}");
    }
    // Another tenant has issuers and names of its own.
    world.registry.register(idp("u", "a", "x", "a")).unwrap();
}

#[tokio::test]
async fn a_tenant_is_there_as_long_as_it_has_identity_providers() {
    let world = World::new();
    let registry = &world.registry;
    assert_eq!(registry.tenant_generation("t"), None);
    registry.register(idp("t", "a", "x", "a")).unwrap();
    registry.register(idp("u", "a", "x", "a")).unwrap();
    let mut tenants = registry.tenants();
    tenants.sort_unstable();
    assert_eq!(tenants, ["t", "u"].map(Arc::<str>::from));
    let (t, u) = (registry.tenant_generation("t"), registry.tenant_generation("u"));
    registry.register(idp("t", "b", "y", "b")).unwrap();
    assert!(registry.tenant_generation("t") > t);
    assert_eq!(registry.tenant_generation("u"), u, "another tenant's change");
    world.serve("b", &[&TestKey::es256(0)]);
    let before = registry.tenant_generation("t");
    world.registry.refresh("t", "b").await.ok();
    world.clock.run_for(Duration::from_secs(400)).await;
    assert!(registry.tenant_generation("t") > before, "new keys");
    registry.unregister("u", "a").await.unwrap();
    assert_eq!(registry.tenant_generation("u"), None);
    assert_eq!(registry.tenants(), ["t"].map(Arc::<str>::from));
    let last = registry.generation();
    registry.register(idp("u", "a", "x", "a")).unwrap();
    assert!(
        registry.tenant_generation("u").unwrap() > last,
        "it does not count from the start"
    );
}

#[tokio::test]
async fn arranged_ones_stand_first_and_the_others_as_they_came() {
    let world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.registry.register(idp("t", name, name, name)).unwrap();
    }
    let arrange = |names: &[&'static str]| world.registry.arrange("t", names.iter().copied());
    arrange(&["d", "b"]);
    assert_eq!(names(&world, "t"), ["d", "b", "a", "c", "e"]);
    let generation = world.registry.generation();
    arrange(&["d", "b"]);
    assert_eq!(world.registry.generation(), generation, "nothing moved");
    arrange(&["b", "nobody", "c"]);
    assert_eq!(names(&world, "t"), ["b", "c", "a", "e", "d"]);
    assert!(world.registry.generation() > generation);
    // A changed one stays where it is, and a new one comes last.
    world.registry.register(idp("t", "c", "other", "c")).unwrap();
    world.registry.register(idp("t", "f", "f", "f")).unwrap();
    assert_eq!(names(&world, "t"), ["b", "c", "a", "e", "d", "f"]);
    let page = |after, limit| {
        let idps = world.registry.idps_after("t", after, limit);
        idps.iter().map(|idp| idp.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2), ["a", "b"]);
    assert_eq!(page(Some("b"), 2), ["c", "d"]);
    assert_eq!(page(Some("bb"), 9), ["c", "d", "e", "f"]);
    assert_eq!(page(Some("f"), 2), [""; 0]);
}

#[tokio::test]
async fn health_counts_what_is_not_as_it_should_be() {
    let world = World::new();
    world.serve("good", &[&TestKey::es256(0)]);
    world.set("down", Site::Down);
    world.set("hangs", Site::Hangs);
    let health = || world.registry.health();
    for (name, required) in [("good", false), ("down", true), ("hangs", true)] {
        let config = idp("t", name, name, name).required(required);
        world.registry.register(config).unwrap();
    }
    assert_eq!(
        health(),
        Health {
            untried: 3,
            keyless_required: 2,
            failing: 0
        }
    );
    world.clock.run_for(Duration::from_secs(20)).await;
    assert_eq!(
        health(),
        Health {
            untried: 0,
            keyless_required: 2,
            failing: 2
        }
    );
    world.serve("down", &[&TestKey::es256(1)]);
    world.clock.run_for(Duration::from_secs(400)).await;
    assert_eq!(
        health(),
        Health {
            untried: 0,
            keyless_required: 1,
            failing: 1
        }
    );
    // Not required any more, and gone.
    world
        .registry
        .register(idp("t", "hangs", "hangs", "hangs"))
        .unwrap();
    assert_eq!(health().keyless_required, 0);
    world.registry.unregister("t", "hangs").await.unwrap();
    assert_eq!(health(), Health::default());
    world.clock.run_for(Duration::from_secs(400)).await;
    assert_eq!(health(), Health::default(), "what is in the air lands nowhere");
    world.registry.purge("t", "good").await.unwrap();
    assert_eq!(health().untried, 0, "it was tried once");
}

#[tokio::test]
async fn many_at_once_are_one_change_each_is_found_and_what_was_there_stays() {
    let world = World::new();
    let named = |n: usize, issuer: &str| idp("t", &format!("i{n}"), issuer, "a");
    let issuer = |n: usize| format!("issuer-{n}");
    world
        .registry
        .apply(register((0..2_000).map(|n| named(n, &issuer(n)))))
        .await
        .unwrap();
    let kept = world.registry.idp("t", "i1000").unwrap();
    let replaced = world.registry.idp("t", "i1").unwrap();
    let removed = world.registry.idp("t", "i1999").unwrap();
    let generation = world.registry.generation();
    // Some with another issuer, some with the issuer that another one had, some new.
    let changes = Changes {
        register: (0..500)
            .map(|n| {
                named(
                    n,
                    &if n % 2 == 0 {
                        issuer(n + 1)
                    } else {
                        format!("other-{n}")
                    },
                )
            })
            .chain((2_000..2_500).map(|n| named(n, &issuer(n))))
            .chain([named(1_000, &issuer(1_000))])
            .collect(),
        unregister: (1_500..2_000)
            .map(|n| ("t".to_owned(), format!("i{n}")))
            .collect(),
    };
    world.registry.apply(changes).await.unwrap();
    let moved = world.registry.generation() - generation;
    assert_eq!(moved, 2, "once for what came, and once for what went");
    let by_issuer = |issuer: &str| {
        let found = world.registry.idp_by_issuer("t", issuer)?;
        assert!(!found.is_retired(), "{issuer}");
        Some(found.name().to_owned())
    };
    for n in 0..2_500 {
        let name = format!("i{n}");
        assert_eq!(
            world.registry.idp("t", &name).is_some(),
            !(1_500..2_000).contains(&n)
        );
        let expected = match n {
            0..500 if n % 2 == 0 => None,
            0..500 => Some(format!("i{}", n - 1)),
            1_500..2_000 => None,
            _ => Some(name),
        };
        assert_eq!(by_issuer(&issuer(n)), expected, "{n}");
    }
    assert_eq!(by_issuer("other-499").as_deref(), Some("i499"));
    assert_eq!(world.registry.count("t"), 2_000);
    assert!(replaced.is_retired() && removed.is_retired() && !kept.is_retired());
}
