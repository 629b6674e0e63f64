//! The program beside providers that a script leads from one fault into the next.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::Map;
use tokenward::{Clock, SystemClock};
use tokenward_testkit::{Chaos, Script};

use crate::program::Program;

/// All is well for three seconds, but for one; what happens then happens at once.
const SCRIPT: &str = "
idps:
  - { name: rotating, timeline: [{ at: 3s, keys: rotate }, { at: 4s, keys: add }, { at: 7s, keys: [switch, drop] }] }
  - { name: reusing, timeline: [{ at: 3s, keys: reuse_kid }] }
  - { name: flapping, keys: 2, timeline: [{ at: 3s, flapping: true, validators: changing }] }
  - { name: hanging, timeline: [{ at: 3s, fault: hang }] }
  - { name: resetting, timeline: [{ at: 3s, fault: reset }] }
  - { name: huge, timeline: [{ at: 3s, fault: { huge: 2MiB } }] }
  - { name: leading, timeline: [{ at: 3s, fault: { redirect: other_host } }] }
  - { name: expiring, tls: true, timeline: [{ at: 3s, certificate: expired }] }
  - { name: pretending, timeline: [{ at: 0s, issuer: https://attacker.example }, { at: 3s }] }
";

#[tokio::test]
async fn scripted_faults_refuse_no_token_of_a_provider_that_was_good_once() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let script = Script::parse(SCRIPT).unwrap();
    let chaos = Chaos::start(script, ([127, 0, 0, 1], 0).into(), &clock).unwrap();
    let began = clock.steady();
    let good = [
        "rotating",
        "reusing",
        "flapping",
        "hanging",
        "resetting",
        "huge",
        "leading",
        "expiring",
    ];
    let mut idps = String::new();
    for name in good {
        let (issuer, url) = (chaos.issuer(name), chaos.jwks_url(name));
        let more = match name {
            "expiring" => format!(", ca_file: \"{}\"", chaos.ca_file().display()),
            "leading" => ", allowed_domains: [\"127.0.0.1\"]".to_owned(),
            _ => String::new(),
        };
        idps += &format!("- {{ name: {name}, issuer: \"{issuer}\", url: \"{url}\"{more} }}\n");
    }
    idps += &format!(
        "- {{ name: pretending, issuer: \"{}\" }}\n",
        chaos.issuer("pretending")
    );
    let program = Program::start(&format!(
        "server: {{ host: 127.0.0.1, port: 0, admin: \"127.0.0.1:0\" }}\n\
         store: {{ url: \"memory:\" }}\n\
         idp_defaults: {{ allow_http: true, allow_private_addresses: true, audiences: [api], refresh_interval: 1, \
         retry: {{ attempt: 1s, deadline: 2s }} }}\n\
         idps:\n{idps}"
    ))
    .await;
    for name in good {
        program.loaded(name).await;
    }
    let authorize = async |name: &str| {
        let bearer = format!("Bearer {}", chaos.mint(name, &Map::new()));
        program
            .ask(Method::GET, "/authorize", &[("authorization", &bearer)])
            .await
    };
    // Who pretends to be another has no keys, and that is an outage.
    let answer = authorize("pretending").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let status = program.get("/status/pretending").await.json();
    assert_eq!(status["last_error"], "issuer_mismatch", "{status}");

    // Each of these tokens is signed by the provider's key of that moment, the new ones by keys never seen before.
    let mut judged = 0;
    while clock.steady().since(began) < Duration::from_secs(8) {
        for name in good {
            let answer = authorize(name).await;
            let status = program.get(&format!("/status/{name}")).await.text();
            assert_eq!(answer.status, StatusCode::OK, "{name}: {answer:?}, {status}");
            judged += 1;
        }
        clock.sleep(Duration::from_millis(200)).await;
    }
    println!("{judged} tokens judged while {}", chaos.describe());
    for (name, code) in [
        ("rotating", None),
        ("reusing", None),
        ("flapping", None),
        ("hanging", Some("timeout")),
        ("resetting", Some("connection")),
        ("huge", Some("too_large")),
        ("leading", Some("domain_forbidden")),
        ("expiring", Some("tls")),
    ] {
        let status = program.get(&format!("/status/{name}")).await.json();
        assert_eq!(status["last_error"].as_str(), code, "{name}: {status}");
        assert!(chaos.key_set_requests(name) > 2, "{name} was hardly asked");
    }
    program.loaded("pretending").await;
    assert_eq!(authorize("pretending").await.status, StatusCode::OK);
}
