//! Where keys come from, and what is kept of them over a change of the configuration and a restart.

use std::time::Duration;

use serde_json::{Value, json};
use tokenward::{
    Audiences, IdpConfig, Policy, Settings,
    fetch::{AllowedHost, Guards, Retry, SpkiPin},
};
use tokenward_testkit::{TestKey, key_set};

use crate::web::{Web, url};

const OPENID: &str = "https://a.example/.well-known/openid-configuration";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn discovered() -> IdpConfig {
    let policy = Policy::builder("https://a.example", Audiences::Any)
        .build()
        .unwrap();
    IdpConfig::discovered("a", policy).unwrap()
}

fn guarded(guards: Guards) -> IdpConfig {
    IdpConfig::at("a", url("https://a.example/keys"), None)
        .unwrap()
        .with_guards(guards)
        .unwrap()
}

fn names(web: &Web, keys: &str) {
    let document = format!(r#"{{"issuer":"https://a.example","jwks_uri":"{keys}"}}"#);
    web.page(OPENID, document, &[]);
}

#[tokio::test]
async fn a_known_address_has_its_time_though_one_attempt_may_take_all_of_it() {
    let web = Web::new();
    web.delay(Duration::from_millis(50));
    names(&web, "https://a.example/keys");
    web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
    let retry = Retry {
        attempt: 5 * SECOND,
        deadline: 5 * SECOND,
        ..Retry::default()
    };
    let guards = Guards {
        retry,
        ..Guards::default()
    };
    let settings = Settings {
        refresh_interval: 60 * SECOND,
        ..Settings::default()
    };
    web.register(
        discovered()
            .with_guards(guards)
            .unwrap()
            .with_settings(settings)
            .unwrap(),
    );
    web.run(600 * SECOND).await;
    let status = web.status("a");
    assert_eq!((status.last_error, status.error_count), (None, 0));
    assert!(status.update_count >= 9, "{}", status.update_count);
}

#[tokio::test]
async fn a_strict_origin_ends_what_was_taken_from_elsewhere_at_a_reload_and_over_a_restart() {
    let web = Web::new();
    names(&web, "https://elsewhere.example/keys");
    web.keys("https://elsewhere.example/keys", &[&TestKey::es256(0)]);
    web.register(discovered());
    web.run(SECOND).await;
    assert_eq!(web.status("a").key_count, 1);

    let web = web.restart().await;
    web.register(discovered().strict_jwks_origin(true));
    assert_eq!(web.status("a").key_count, 0, "a restart");
    web.run(SECOND).await;
    assert_eq!(web.status("a").last_error, Some("jwks_uri_forbidden"));

    web.register(discovered());
    web.run(SECOND).await;
    assert_eq!(web.status("a").key_count, 1);
    web.register(discovered().strict_jwks_origin(true));
    assert_eq!(web.status("a").key_count, 0, "a reload");
    web.run(3 * HOUR).await;
    let status = web.status("a");
    assert_eq!(
        (status.last_error, status.update_count),
        (Some("jwks_uri_forbidden"), 0)
    );
}

#[tokio::test]
async fn keys_that_were_taken_under_other_pins_or_domains_are_not_kept() {
    let host = |name| AllowedHost::parse(name).unwrap();
    let lax = Guards::default();
    let pinned = Guards {
        pinned_spki: vec![SpkiPin::of(b"key")],
        ..Guards::default()
    };
    let bound = Guards {
        allowed_domains: vec![host("b.example"), host("a.example")],
        ..Guards::default()
    };
    let turned = Guards {
        allowed_domains: vec![host("a.example"), host("b.example")],
        ..Guards::default()
    };
    let globally = Guards {
        global_domains: [host("a.example")].into(),
        ..Guards::default()
    };
    for (before, after, kept) in [
        (&lax, &lax, true),
        (&bound, &turned, true),
        (&lax, &pinned, false),
        (&lax, &bound, false),
        (&lax, &globally, false),
        (&bound, &pinned, false),
    ] {
        let web = Web::new();
        web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
        web.register(guarded(before.clone()));
        web.run(SECOND).await;
        web.gone("https://a.example/keys");
        web.register(guarded(after.clone()));
        assert_eq!(web.status("a").key_count, usize::from(kept), "reload {after:?}");

        let web = Web::new();
        web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
        web.register(guarded(before.clone()));
        web.run(SECOND).await;
        let web = web.restart().await;
        web.register(guarded(after.clone()));
        assert_eq!(web.status("a").key_count, usize::from(kept), "restart {after:?}");
    }
}

/// Five keys, of which one is broken, under a validator.
fn five(web: &Web) {
    let mut keys: Vec<Value> = (0..4)
        .map(|n| TestKey::es256(n % 2).with_kid(format!("k{n}")).jwk())
        .collect();
    keys.push(json!({"kty": "oct", "kid": "s", "k": "AAAA"}));
    let set = json!({ "keys": keys }).to_string();
    web.page("https://a.example/keys", set, &[("etag", "\"1\"")]);
}

fn with_settings(settings: Settings) -> IdpConfig {
    guarded(Guards::default()).with_settings(settings).unwrap()
}

#[tokio::test]
async fn what_was_dropped_or_skipped_is_found_again_after_a_restart() {
    let at_most = |max_keys| {
        with_settings(Settings {
            max_keys,
            refresh_interval: 60 * SECOND,
            ..Settings::default()
        })
    };
    let web = Web::new();
    five(&web);
    web.register(at_most(2));
    web.run(SECOND).await;
    let status = web.status("a");
    assert_eq!(
        (
            status.key_count,
            status.dropped_kids.len(),
            status.skipped_keys.len()
        ),
        (2, 2, 1)
    );
    web.run(120 * SECOND).await;
    assert_eq!(
        web.asked().last().unwrap().1.as_deref(),
        Some("\"1\""),
        "while it runs it is asked for changes"
    );

    let web = web.restart().await;
    web.register(at_most(2));
    assert_eq!(web.status("a").key_count, 2);
    web.run(120 * SECOND).await;
    let status = web.status("a");
    assert_eq!(
        (
            status.key_count,
            status.dropped_kids.len(),
            status.skipped_keys.len()
        ),
        (2, 2, 1)
    );

    let web = web.restart().await;
    web.register(at_most(0));
    web.run(120 * SECOND).await;
    let status = web.status("a");
    assert_eq!(
        (
            status.key_count,
            status.dropped_kids.len(),
            status.skipped_keys.len()
        ),
        (4, 0, 1)
    );
}

#[tokio::test]
async fn a_restart_counts_the_age_that_a_set_came_with() {
    let config = || {
        with_settings(Settings {
            refresh: tokenward::Refresh::Http,
            prefetch_jitter: Duration::ZERO,
            refresh_early: Duration::ZERO,
            ..Settings::default()
        })
    };
    let web = Web::new();
    let set = key_set(&[&TestKey::es256(0)]).to_string();
    web.page(
        "https://a.example/keys",
        set,
        &[("cache-control", "max-age=600"), ("age", "500")],
    );
    web.register(config());
    web.run(SECOND).await;
    let due = web.status("a").next_refresh;
    let web = web.restart().await;
    web.register(config());
    assert_eq!(web.status("a").next_refresh, due);
}

#[tokio::test]
async fn what_a_replaced_source_brings_late_touches_nothing_of_its_successor() {
    let at = |path: &str| IdpConfig::at("a", url(&format!("https://a.example/{path}")), None).unwrap();
    let web = Web::new();
    web.keys("https://a.example/1", &[&TestKey::es256(0)]);
    web.keys("https://a.example/2", &[&TestKey::es256(1)]);
    web.delay(2 * SECOND);
    web.register(at("1"));
    web.run(SECOND).await;
    web.delay(SECOND / 10);
    web.register(at("2"));
    let mut events = web.registry.subscribe();
    web.run(5 * SECOND).await;
    assert_eq!(web.stored("a").await.as_deref(), Some("https://a.example/2"));
    assert_eq!(web.status("a").update_count, 1);
    assert!(
        events.try_recv().is_ok() && events.try_recv().is_err(),
        "one has landed"
    );
}

#[tokio::test]
async fn an_answer_that_was_asked_for_under_other_guards_is_not_taken() {
    let web = Web::new();
    web.keys("https://a.example/keys", &[&TestKey::es256(0)]);
    web.delay(2 * SECOND);
    web.register(guarded(Guards::default()));
    web.run(SECOND).await;
    let strict = Guards {
        max_response_bytes: 10,
        ..Guards::default()
    };
    web.register(guarded(strict));
    let registry = web.registry.clone();
    let (refreshed, ()) = tokio::join!(registry.refresh("default", "a"), async {
        web.run(SECOND + SECOND / 2).await;
        let status = web.status("a");
        assert_eq!((status.key_count, status.update_count), (0, 0), "it has landed");
        assert_eq!(web.asked().len(), 2, "and the next one is in the air at once");
        web.run(2 * SECOND).await;
    });
    refreshed.unwrap();
    assert_eq!(web.status("a").key_count, 1);
}

#[tokio::test]
async fn no_more_fetches_than_that_are_in_the_air_at_once() {
    let web = Web::new();
    web.delay(SECOND / 10);
    for n in 0..10 {
        let keys = format!("https://i{n}.example/keys");
        web.keys(&keys, &[&TestKey::es256(0)]);
        web.register(IdpConfig::at(&format!("i{n}"), url(&keys), None).unwrap());
    }
    web.run(SECOND / 20).await;
    // At most as many as the registry was built with.
    let asked = web.asked().len();
    assert!((1..=4).contains(&asked), "{asked}");
    web.run(SECOND).await;
    assert_eq!(web.asked().len(), 10);
}
