//! Tokens that are bound to a key, behind each proxy that tells the URL of a request.

use std::time::Duration;

use serde_json::json;
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{IdpServer, TestKey, TokenBuilder, proof};

use super::door::Door;
use super::echo::Echo;
use super::row::get;
use super::{raw, stage};

const URL: &str = "http://api.example.com/hello";

#[test]
fn a_bound_token_needs_its_proof() {
    let (key, holder) = (TestKey::es256(0), TestKey::es256(2));
    let upstream = IdpServer::spawn();
    upstream.set_keys(&[&key]);
    let idp = format!(
        "idps:\n  - {{ name: login, issuer: \"https://login.test\", url: \"{}\", audiences: [my-api] }}\n\n",
        upstream.jwks_url()
    );
    let tokenward = stage::tokenward(&[("store: { url: \"memory:\" }\n", &idp)]);
    let service = Echo::start();
    let now = || SystemClock::new().wall();
    let bound = TokenBuilder::new(now())
        .issuer("https://login.test")
        .audience("my-api")
        .subject("bound")
        .expires_in(Duration::from_secs(600))
        .claim("cnf", json!({"jkt": holder.thumbprint()}))
        .sign(&key);
    let proof = |url: &str| proof(&holder, now(), "GET", url, &bound).sign(&holder);
    for one in stage::doors(&Door::ALL, stage::listening(&tokenward), &service) {
        let used = proof(URL);
        let shown = |proof: &str| {
            get("/hello?x")
                .header("Authorization", &format!("DPoP {bound}"))
                .header("DPoP", proof)
        };
        let https = proof(&URL.replace("http:", "https:"));
        for (what, request, refused) in [
            ("for this request", shown(&used), None),
            ("used before", shown(&used), Some("dpop_replayed")),
            (
                "for another URL",
                shown(&proof("http://api.example.com/other")),
                Some("dpop_invalid"),
            ),
            // What a client says about the scheme is no scheme.
            (
                "for another scheme",
                shown(&https).header("X-Forwarded-Proto", "https"),
                Some("dpop_invalid"),
            ),
            (
                "absent",
                get("/hello").header("Authorization", &format!("DPoP {bound}")),
                Some("dpop_missing"),
            ),
            (
                "absent, as Bearer",
                get("/hello").bearer(&bound),
                Some("dpop_missing"),
            ),
        ] {
            // nginx tells no scheme.
            let refused = if one.door == Door::Nginx {
                Some("")
            } else {
                refused
            };
            let reply = raw::send(one.port, &request.bytes()).unwrap();
            let arrived = service.take().len();
            let expected = if refused.is_none() { (200, 1) } else { (401, 0) };
            assert_eq!(
                (reply.status, arrived),
                expected,
                "{:?}: a proof {what}: {reply:?}",
                one.door
            );
            if one.door != Door::Nginx {
                assert_eq!(
                    reply.error_code().as_deref(),
                    refused,
                    "{:?}: a proof {what}",
                    one.door
                );
            }
        }
    }
}
