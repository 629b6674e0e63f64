//! One identity provider after another misbehaves; nothing changes for the one beside it.

use std::time::Duration;

use http::{Method, StatusCode};
use tokenward::{Clock as _, SystemClock};
use tokenward_testkit::{Behaviour, IdpServer, JWKS_PATH, TestKey, TokenBuilder};

use crate::program::Program;

/// The longest an attempt to fetch may take: what a request must not wait for.
const ATTEMPT: Duration = Duration::from_secs(1);

fn faults() -> Vec<(&'static str, Behaviour)> {
    vec![
        ("500", Behaviour::status(500)),
        ("429", Behaviour::reply(429, &[("retry-after", "120")], "")),
        ("html", Behaviour::html()),
        ("empty set", Behaviour::empty_set()),
        ("empty object", Behaviour::empty_object()),
        ("hang", Behaviour::HangBeforeHeaders),
        ("hang in the body", Behaviour::HangMidBody),
        (
            "drip",
            Behaviour::Drip {
                bytes: 1,
                every: Duration::from_millis(500),
            },
        ),
        ("endless", Behaviour::Endless),
        ("bomb", Behaviour::GzipBomb { unpacked: 64 << 20 }),
        ("truncated", Behaviour::Truncate),
        ("closed", Behaviour::Close),
        (
            "metadata",
            Behaviour::redirect("http://169.254.169.254/latest/meta-data"),
        ),
        ("loop", Behaviour::redirect(JWKS_PATH)),
    ]
}

#[tokio::test]
async fn the_other_provider_keeps_its_pace_and_the_bad_one_its_keys() {
    let (good_key, bad_key) = (TestKey::es256(0), TestKey::es256(1));
    let good = IdpServer::spawn();
    good.set_keys(&[&good_key]);
    let bad: Vec<_> = faults()
        .into_iter()
        .map(|(what, behaviour)| (what, behaviour, IdpServer::spawn()))
        .collect();
    let mut idps = format!(
        "- {{ name: good, issuer: \"https://good\", url: \"{}\" }}\n",
        good.jwks_url()
    );
    for (n, (_, _, server)) in bad.iter().enumerate() {
        server.set_keys(&[&bad_key]);
        idps += &format!(
            "- {{ name: bad{n}, issuer: \"https://bad{n}\", url: \"{}\" }}\n",
            server.jwks_url()
        );
    }
    let program = Program::start(&format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         store: {{ url: \"memory:\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true, audiences: [api], refresh_interval: 1, \
         stale_while_error: 8s, retry: {{ attempt: {attempt}ms, deadline: 3s }} }}\n\
         idps:\n{idps}",
        attempt = ATTEMPT.as_millis(),
    ))
    .await;
    program.loaded("good").await;
    for n in 0..bad.len() {
        program.loaded(&format!("bad{n}")).await;
    }
    let token = |issuer: &str, key: &TestKey| {
        let token = TokenBuilder::new(SystemClock::new().wall())
            .issuer(issuer)
            .audience("api")
            .sign(key);
        format!("Bearer {token}")
    };
    for (_, behaviour, server) in &bad {
        server.behave(JWKS_PATH, behaviour.clone());
    }
    let clock = SystemClock::new();
    let (began, hits) = (clock.steady(), good.hits(JWKS_PATH));
    clock.sleep(Duration::from_secs(5)).await;
    // Within the stale window every one of them still verifies, and none waits for an attempt.
    for (n, (what, _, server)) in bad.iter().enumerate() {
        let bearer = token(&format!("https://bad{n}"), &bad_key);
        let asked = clock.steady();
        let answer = program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        assert!(clock.steady().since(asked) < ATTEMPT, "{what} slows verification");
        assert!(server.hits(JWKS_PATH) > 1, "{what} was never asked again");
        let status = program.get(&format!("/status/bad{n}")).await.json();
        assert!(status["error_count"].as_u64().unwrap() > 0, "{what}: {status}");
    }
    let seconds = clock.steady().since(began).as_secs_f64();
    let refreshes = good.hits(JWKS_PATH) - hits;
    println!(
        "{refreshes} refreshes of the good one in {seconds:.1} s beside {} bad ones",
        bad.len()
    );
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let pace = refreshes as f64 / seconds;
    // One a second, a little jitter and the fetch itself; a busy machine has room for twice that.
    assert!(pace > 0.5, "{refreshes} refreshes in {seconds} s");
    // Past it their answer is an outage, and the good one's still is not.
    clock.sleep(Duration::from_secs(9)).await;
    for (n, (what, _, _)) in bad.iter().enumerate() {
        let bearer = token(&format!("https://bad{n}"), &bad_key);
        let answer = program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{what}: {answer:?}"
        );
        assert_eq!(answer.json()["error_code"], "issuer_unavailable", "{what}");
        assert!(answer.header("retry-after").is_some(), "{what}");
        assert_eq!(
            program.get(&format!("/jwks/bad{n}")).await.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{what}"
        );
    }
    let bearer = token("https://good", &good_key);
    let answer = program
        .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}
