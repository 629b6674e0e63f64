//! Where keys come from, and what is kept of them over a change of the configuration and a restart.

use std::time::Duration;

use tokenward::{
    Audiences, IdpConfig, Policy, Settings,
    fetch::{AllowedHost, Guards, Retry, SpkiPin},
};
use tokenward_testkit::TestKey;

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
