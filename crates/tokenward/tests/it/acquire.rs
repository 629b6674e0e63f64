//! A whole refresh: discovery, further attempts, and one deadline over all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokenward::{
    SystemClock,
    acquire::{Acquired, Answer, Effort, KeysAt, Target, Validators, acquire},
    discovery::Discovery,
    fetch::{Guards, HttpFetcher, Retry},
};
use tokenward_core::{Clock, Timestamp};
use url::Url;

use crate::site::{Ask, Hasty, Site, Step, Steps, answer, local, ok, redirect};

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

fn target(keys_at: KeysAt) -> Target {
    with(local(), keys_at)
}

fn with(guards: Guards, keys_at: KeysAt) -> Target {
    Target {
        guards: Arc::new(guards),
        keys_at,
    }
}

/// Without pauses between attempts.
async fn run(target: &Target, validators: Option<&Validators>, effort: Effort) -> Acquired {
    run_by(Arc::new(SystemClock::new()), target, validators, effort).await
}

async fn run_by(
    clock: Arc<dyn Clock>,
    target: &Target,
    validators: Option<&Validators>,
    effort: Effort,
) -> Acquired {
    let fetcher = HttpFetcher::new(Arc::clone(&clock)).unwrap();
    acquire(&fetcher, &*clock, &|| 0.0, target, validators, effort).await
}

fn code(acquired: &Acquired) -> &'static str {
    match &acquired.result {
        Ok(Answer::Fresh { .. }) => "fresh",
        Ok(Answer::NotModified { .. }) => "not_modified",
        Err(error) => error.code(),
    }
}

fn issuer(site: &Site, known: Option<Url>) -> KeysAt {
    KeysAt::Issuer {
        discovery: Discovery::of(origin(site)).unwrap(),
        known,
    }
}

fn origin(site: &Site) -> String {
    format!("http://{}", site.address)
}

/// The document of an issuer at the address that was asked.
fn document(ask: &Ask, path: &str) -> Steps {
    let host = ask.header("host").unwrap();
    ok(format!(
        r#"{{"issuer":"http://{host}","jwks_uri":"http://{host}{path}"}}"#
    ))
}

mod attempts {
    use super::*;

    async fn count(script: impl Fn(&Ask) -> Steps + Send + Sync + 'static) -> (&'static str, usize) {
        let site = Site::http(script).await;
        let acquired = run(&target(KeysAt::Url(site.url("/jwks"))), None, Effort::Full).await;
        (code(&acquired), site.asks().len())
    }

    #[tokio::test]
    async fn three_in_all_where_another_may_help_and_one_where_not() {
        for (status, expected) in [
            (408, 3),
            (425, 3),
            (429, 3),
            (500, 3),
            (502, 3),
            (503, 3),
            (400, 1),
            (401, 1),
            (403, 1),
            (404, 1),
            (410, 1),
            (204, 1),
        ] {
            let (_, attempts) = count(move |_| answer(status, &[], "")).await;
            assert_eq!(attempts, expected, "{status}");
        }
        assert_eq!(count(|_| vec![]).await, ("connection", 3));
        assert_eq!(count(|_| ok("<html>login</html>")).await, ("not_json", 1));
        assert_eq!(count(|_| ok(r#"{"error":"x"}"#)).await, ("no_keys_array", 1));
        assert_eq!(count(|_| ok(r#"{"keys":null}"#)).await, ("no_keys_array", 1));
        assert_eq!(count(|_| ok("[]")).await, ("not_an_object", 1));
        assert_eq!(count(|_| ok(r#"{"keys":[]}"#)).await, ("fresh", 1));
        assert_eq!(count(|_| redirect("file:///")).await, ("scheme_forbidden", 1));
        assert_eq!(
            count(|ask| if ask.before < 2 {
                answer(503, &[], "")
            } else {
                ok(KEYS)
            })
            .await,
            ("fresh", 3)
        );
    }

    #[tokio::test]
    async fn a_single_effort_is_one_request() {
        let site = Site::http(|_| answer(503, &[], "")).await;
        let acquired = run(&target(KeysAt::Url(site.url("/"))), None, Effort::Single).await;
        assert_eq!((code(&acquired), site.asks().len()), ("status_5xx", 1));
    }

    #[tokio::test]
    async fn their_number_is_configured() {
        let site = Site::http(|_| answer(503, &[], "")).await;
        for retries in [0, 1, 4] {
            let before = site.asks().len();
            let retry = Retry {
                retries,
                ..Retry::default()
            };
            run(
                &with(Guards { retry, ..local() }, KeysAt::Url(site.url("/"))),
                None,
                Effort::Full,
            )
            .await;
            assert_eq!(site.asks().len() - before, 1 + usize::try_from(retries).unwrap());
        }
    }

    #[tokio::test]
    async fn a_304_that_nobody_asked_for_gets_one_more_chance() {
        assert_eq!(
            count(|_| answer(304, &[], "")).await,
            ("not_modified_unexpected", 2)
        );
        assert_eq!(
            count(|ask| if ask.before == 0 {
                answer(304, &[], "")
            } else {
                ok(KEYS)
            })
            .await,
            ("fresh", 2)
        );
    }

    #[tokio::test]
    async fn validators_are_sent_and_a_304_is_an_answer() {
        let site = Site::http(|ask| {
            if ask.header("if-none-match") == Some("\"1\"") {
                answer(304, &[("ETag", "\"2\"")], "")
            } else {
                ok(KEYS)
            }
        })
        .await;
        let target = target(KeysAt::Url(site.url("/")));
        let validators = Validators {
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
        };
        let acquired = run(&target, Some(&validators), Effort::Full).await;
        let Ok(Answer::NotModified { headers }) = acquired.result else {
            panic!("{acquired:?}")
        };
        assert_eq!(headers["etag"], "\"2\"");
        assert_eq!(code(&run(&target, None, Effort::Full).await), "fresh");
    }

    #[tokio::test]
    async fn the_server_says_when_to_come_back() {
        let site = Site::http(|ask| {
            if ask.before == 0 {
                answer(429, &[("Retry-After", "2")], "")
            } else {
                ok(KEYS)
            }
        })
        .await;
        let clock = Hasty::new();
        let began = clock.steady();
        let acquired = run_by(
            clock.clone(),
            &target(KeysAt::Url(site.url("/"))),
            None,
            Effort::Full,
        )
        .await;
        assert_eq!((code(&acquired), site.asks().len()), ("fresh", 2));
        let took = clock.steady().since(began);
        assert!(
            took >= Duration::from_secs(2) && took < Duration::from_secs(4),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn a_wait_beyond_the_deadline_is_left_to_the_caller() {
        for (value, least, most) in [
            ("3600", 3600, 3600),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400, 86_400),
            ("8", 8, 8),
        ] {
            let site = Site::http(move |_| answer(429, &[("Retry-After", value)], "")).await;
            let acquired = run(&target(KeysAt::Url(site.url("/"))), None, Effort::Full).await;
            let error = acquired.result.unwrap_err();
            assert_eq!((error.code(), site.asks().len()), ("status_4xx", 1));
            let asked = error.retry_after().unwrap();
            assert!(
                (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&asked),
                "{asked:?}"
            );
        }
    }

    #[tokio::test]
    async fn pauses_are_drawn_up_to_a_bound_that_doubles() {
        let site = Site::http(|_| answer(503, &[], "")).await;
        let clock = Hasty::new();
        let fetcher = HttpFetcher::new(clock.clone()).unwrap();
        let began = clock.steady();
        acquire(
            &fetcher,
            &*clock,
            &|| 0.999,
            &target(KeysAt::Url(site.url("/"))),
            None,
            Effort::Full,
        )
        .await;
        // 250 ms and 500 ms.
        let took = clock.steady().since(began);
        assert!(
            took >= Duration::from_millis(740) && took < Duration::from_millis(2_500),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn everything_ends_after_eight_seconds() {
        let site = Site::http(|_| vec![Step::Hang]).await;
        let clock = Hasty::new();
        let began = clock.steady();
        let acquired = run_by(
            clock.clone(),
            &target(KeysAt::Url(site.url("/"))),
            None,
            Effort::Full,
        )
        .await;
        let took = clock.steady().since(began);
        // 3 s, 3 s and what is left.
        assert_eq!((code(&acquired), site.asks().len()), ("timeout", 3));
        assert!(
            took >= Duration::from_secs(8) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
}

mod discovery {
    use super::*;

    #[tokio::test]
    async fn a_known_address_needs_none() {
        let site = Site::http(|ask| {
            if ask.target() == "/jwks" {
                ok(KEYS)
            } else {
                document(ask, "/jwks")
            }
        })
        .await;
        let acquired = run(&target(KeysAt::Url(site.url("/jwks"))), None, Effort::Full).await;
        assert_eq!((code(&acquired), acquired.jwks_uri), ("fresh", None));
        let known = run(
            &target(issuer(&site, Some(site.url("/jwks")))),
            None,
            Effort::Full,
        )
        .await;
        assert_eq!((code(&known), known.jwks_uri), ("fresh", Some(site.url("/jwks"))));
        assert_eq!(site.targets(), ["/jwks", "/jwks"]);
    }

    #[tokio::test]
    async fn an_unknown_one_is_asked_for() {
        let site = Site::http(|ask| {
            if ask.target() == "/jwks" {
                ok(KEYS)
            } else {
                document(ask, "/jwks")
            }
        })
        .await;
        for effort in [Effort::Full, Effort::Single] {
            let before = site.asks().len();
            let acquired = run(&target(issuer(&site, None)), None, effort).await;
            assert_eq!(
                (code(&acquired), acquired.jwks_uri),
                ("fresh", Some(site.url("/jwks")))
            );
            assert_eq!(site.targets()[before..], [OPENID, "/jwks"]);
        }
    }

    #[tokio::test]
    async fn the_place_of_rfc_8414_is_asked_where_there_is_no_other() {
        let site = Site::http(|ask| match ask.target() {
            "/jwks" => ok(KEYS),
            OAUTH => document(ask, "/jwks"),
            _ => answer(404, &[], ""),
        })
        .await;
        assert_eq!(
            code(&run(&target(issuer(&site, None)), None, Effort::Full).await),
            "fresh"
        );
        assert_eq!(site.targets(), [OPENID, OAUTH, "/jwks"]);

        let neither = Site::http(|_| answer(404, &[], "")).await;
        let error = run(&target(issuer(&neither, None)), None, Effort::Full)
            .await
            .result
            .unwrap_err();
        assert_eq!(error.status(), Some(404));
        assert!(error.to_string().contains(OPENID), "{error}");
        assert_eq!(neither.targets(), [OPENID, OAUTH]);
    }

    #[tokio::test]
    async fn its_failure_is_tried_again() {
        let site = Site::http(|ask| match (ask.target(), ask.before) {
            ("/jwks", _) => ok(KEYS),
            (_, 0) => answer(503, &[], ""),
            _ => document(ask, "/jwks"),
        })
        .await;
        assert_eq!(
            code(&run(&target(issuer(&site, None)), None, Effort::Full).await),
            "fresh"
        );
        assert_eq!(site.targets(), [OPENID, OPENID, "/jwks"]);
    }

    #[tokio::test]
    async fn a_document_that_is_not_this_issuers_is_refused() {
        for (body, expected) in [
            (
                r#"{"issuer":"http://idp.example","jwks_uri":"http://127.0.0.1:1/"}"#,
                "issuer_mismatch",
            ),
            ("<html></html>", "discovery_invalid"),
        ] {
            let site = Site::http(move |_| ok(body)).await;
            let acquired = run(&target(issuer(&site, None)), None, Effort::Full).await;
            assert_eq!((code(&acquired), acquired.jwks_uri), (expected, None));
            assert_eq!(site.asks().len(), 1);
        }
    }

    #[tokio::test]
    async fn the_document_and_its_address_are_held_to_the_guards() {
        let site = Site::http(|ask| document(ask, &format!("/{}", "x".repeat(200)))).await;
        let guards = Guards {
            max_response_bytes: 100,
            ..local()
        };
        assert_eq!(
            code(&run(&with(guards, issuer(&site, None)), None, Effort::Full).await),
            "too_large"
        );

        for (jwks_uri, expected) in [
            ("http://169.254.169.254/", "address_forbidden"),
            ("file:///etc/passwd", "scheme_forbidden"),
        ] {
            let site = Site::http(move |ask| {
                let host = ask.header("host").unwrap();
                ok(format!(r#"{{"issuer":"http://{host}","jwks_uri":"{jwks_uri}"}}"#))
            })
            .await;
            assert_eq!(
                code(&run(&target(issuer(&site, None)), None, Effort::Full).await),
                expected
            );
        }
    }

    #[tokio::test]
    async fn the_strict_origin_is_an_option() {
        let keys = Site::http(|_| ok(KEYS)).await;
        let elsewhere = keys.url("/jwks");
        let site = Site::http(move |ask| {
            let host = ask.header("host").unwrap();
            ok(format!(
                r#"{{"issuer":"http://{host}","jwks_uri":"{elsewhere}"}}"#
            ))
        })
        .await;
        for (strict, expected) in [(false, "fresh"), (true, "jwks_uri_forbidden")] {
            let discovery = Discovery::of(origin(&site)).unwrap().strict_origin(strict);
            let acquired = run(
                &target(KeysAt::Issuer {
                    discovery,
                    known: None,
                }),
                None,
                Effort::Full,
            )
            .await;
            assert_eq!(code(&acquired), expected);
        }
    }

    #[tokio::test]
    async fn a_strict_origin_is_not_left_by_a_redirect() {
        let keys = Site::http(|_| ok(KEYS)).await;
        let elsewhere = keys.url("/jwks").to_string();
        let site = Site::http(move |ask| match ask.target() {
            "/jwks" => redirect(&elsewhere),
            "/here" => ok(KEYS),
            "/moved" => redirect("/here"),
            _ => document(ask, "/jwks"),
        })
        .await;
        for (strict, known, expected) in [
            (false, None, "fresh"),
            (true, None, "jwks_uri_forbidden"),
            (true, Some(site.url("/jwks")), "jwks_uri_forbidden"),
            (true, Some(site.url("/moved")), "fresh"),
        ] {
            let discovery = Discovery::of(origin(&site)).unwrap().strict_origin(strict);
            let target = target(KeysAt::Issuer { discovery, known });
            assert_eq!(
                code(&run(&target, None, Effort::Full).await),
                expected,
                "{strict}"
            );
        }
    }

    /// An issuer that has moved its keys from `/old`, where `old` is found now, to `/new`.
    async fn moved(old: impl Fn() -> Steps + Send + Sync + 'static) -> Site {
        Site::http(move |ask| match ask.target() {
            "/old" => old(),
            "/new" => ok(KEYS),
            _ => document(ask, "/new"),
        })
        .await
    }

    #[tokio::test]
    async fn keys_that_have_moved_are_found() {
        let gone: [fn() -> Steps; 5] = [
            || answer(404, &[], ""),
            || answer(410, &[], ""),
            || ok("<html>"),
            || ok(r#"{"keys":[]}"#),
            || answer(503, &[], ""),
        ];
        for old in gone {
            let site = moved(old).await;
            let validators = Validators {
                etag: Some("\"old\"".to_owned()),
                last_modified: None,
            };
            let target = target(issuer(&site, Some(site.url("/old"))));
            let acquired = run(&target, Some(&validators), Effort::Full).await;
            assert_eq!(
                (code(&acquired), acquired.jwks_uri),
                ("fresh", Some(site.url("/new")))
            );
            // What was known of the old set says nothing about another address's.
            let asks = site.asks();
            assert_eq!(asks[0].header("if-none-match"), Some("\"old\""));
            assert_eq!(asks.last().unwrap().header("if-none-match"), None);
        }
    }

    #[tokio::test]
    async fn keys_that_have_moved_from_a_server_that_hangs_are_found_in_time() {
        let site = moved(|| vec![Step::Hang]).await;
        let clock = Hasty::new();
        let began = clock.steady();
        let target = target(issuer(&site, Some(site.url("/old"))));
        let acquired = run_by(clock.clone(), &target, None, Effort::Full).await;
        assert_eq!(code(&acquired), "fresh");
        assert!(clock.steady().since(began) < Duration::from_secs(8));
    }

    #[tokio::test]
    async fn a_single_effort_does_not_ask_the_issuer_again() {
        let site = moved(|| answer(404, &[], "")).await;
        let acquired = run(
            &target(issuer(&site, Some(site.url("/old")))),
            None,
            Effort::Single,
        )
        .await;
        assert_eq!(
            (code(&acquired), acquired.jwks_uri),
            ("status_4xx", Some(site.url("/old")))
        );
        assert_eq!(site.targets(), ["/old"]);
    }

    #[tokio::test]
    async fn an_address_is_kept_where_the_issuer_still_names_it_or_cannot_be_asked() {
        let asked = Arc::new(AtomicBool::new(false));
        let alive = Arc::clone(&asked);
        let site = Site::http(move |ask| match ask.target() {
            "/jwks" => answer(404, &[], ""),
            _ if alive.load(Ordering::SeqCst) => document(ask, "/jwks"),
            _ => answer(403, &[], ""),
        })
        .await;
        for up in [true, false] {
            asked.store(up, Ordering::SeqCst);
            let before = site.asks().len();
            let acquired = run(
                &target(issuer(&site, Some(site.url("/jwks")))),
                None,
                Effort::Full,
            )
            .await;
            // What is told is what went wrong with the keys.
            assert_eq!(acquired.result.unwrap_err().status(), Some(404));
            assert_eq!(acquired.jwks_uri, Some(site.url("/jwks")));
            assert_eq!(site.targets()[before..], ["/jwks", OPENID]);
        }
    }

    #[tokio::test]
    async fn the_deadline_is_one_over_discovery_and_keys() {
        // Discovery takes its time, and the keys hang.
        let site = Site::http(|ask| match (ask.target(), ask.before) {
            ("/jwks", _) => vec![Step::Hang],
            (_, 0) => vec![Step::Hang],
            _ => document(ask, "/jwks"),
        })
        .await;
        let clock = Hasty::new();
        let began: Timestamp = clock.steady();
        let acquired = run_by(clock.clone(), &target(issuer(&site, None)), None, Effort::Full).await;
        let took = clock.steady().since(began);
        assert_eq!(code(&acquired), "timeout");
        assert!(
            took >= Duration::from_secs(8) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
}
