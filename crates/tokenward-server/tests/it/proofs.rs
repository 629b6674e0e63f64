//! Proofs of possession at the doors.

use serde_json::json;
use tokenward::SystemClock;
use tokenward_core::Clock as _;
use tokenward_testkit::{TestKey, proof};

use crate::doors::{Client, Door, PROXIES, good, key, start};

fn client<'a>(target: &'a str, headers: &'a [(&'a str, &'a str)]) -> Client<'a> {
    Client {
        host: "www.example",
        method: "GET",
        target,
        headers,
    }
}

#[tokio::test]
async fn a_bound_token_needs_a_proof_at_a_door_that_can_check_it() {
    let (program, _upstreams) = start(
        "authorize: { cookie: session, rules: [{ host: www.example, path: { prefix: /bound }, require: { dpop: required } }, { path: { exact: /none }, deny: true }] }\n",
    )
    .await;
    let holder = TestKey::es256(2);
    let jkt = holder.thumbprint();
    let bound = good().claim("cnf", json!({ "jkt": jkt })).sign(&key(0));
    let plain = good().sign(&key(0));
    let (as_dpop, as_bearer) = (format!("DPoP {bound}"), format!("Bearer {bound}"));
    let (plain_dpop, plain_bearer) = (format!("DPoP {plain}"), format!("Bearer {plain}"));
    let cookie = format!("session={bound}");
    let now = || SystemClock::new().wall();
    let made = |method: &str, url: &str, token: &str| proof(&holder, now(), method, url, token).sign(&holder);
    let of = |url: &str| made("GET", url, &bound);
    let other = TestKey::es256(3);
    let foreign = proof(&other, now(), "GET", "https://www.example/x", &bound).sign(&other);
    let https = ("x-forwarded-proto", "https");
    let x = "https://www.example/x";
    for door in PROXIES {
        let takes = door != Door::Nginx;
        let good = if takes { "allow" } else { "dpop_missing" };
        let mut cases = vec![
            // The proof is for the path alone, whatever the query, in any spelling of the host.
            (
                "/x?y=1",
                vec![
                    ("authorization", as_dpop.clone()),
                    ("dpop", of("https://WWW.example:443/x")),
                ],
                good,
            ),
            (
                "/bound/x",
                vec![
                    ("authorization", as_dpop.clone()),
                    ("dpop", of("https://www.example/bound/x")),
                ],
                good,
            ),
            ("/x", vec![("cookie", cookie.clone()), ("dpop", of(x))], good),
            // Without a proof, or under the scheme that asks for none.
            ("/x", vec![("authorization", as_dpop.clone())], "dpop_missing"),
            (
                "/x",
                vec![("authorization", as_bearer.clone()), ("dpop", of(x))],
                "dpop_missing",
            ),
            ("/x", vec![("cookie", cookie.clone())], "dpop_missing"),
            // What is bound to no key.
            ("/x", vec![("authorization", plain_bearer.clone())], "allow"),
            (
                "/bound",
                vec![("authorization", plain_bearer.clone())],
                "dpop_missing",
            ),
        ];
        if takes {
            cases.extend([
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", of("https://www.example/y")),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", of("http://www.example/x")),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", of("https://other.example/x")),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", made("POST", x, &bound)),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", made("GET", x, &plain)),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![
                        ("authorization", as_dpop.clone()),
                        ("dpop", of(x)),
                        ("dpop", of(x)),
                    ],
                    "dpop_invalid",
                ),
                (
                    "/x",
                    vec![("authorization", as_dpop.clone()), ("dpop", foreign.clone())],
                    "dpop_binding_mismatch",
                ),
                (
                    "/bound",
                    vec![
                        ("authorization", plain_dpop.clone()),
                        ("dpop", made("GET", "https://www.example/bound", &plain)),
                    ],
                    "dpop_binding_mismatch",
                ),
            ]);
        } else {
            cases.push((
                "/x",
                vec![("authorization", plain_dpop.clone())],
                "dpop_not_allowed",
            ));
        }
        for (target, headers, code) in cases {
            let mut all: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            if door == Door::Envoy {
                all.push(https);
            }
            door.expect(&program, client(target, &all), code).await;
        }
        let used = of(x);
        let again = [
            ("authorization", as_dpop.as_str()),
            ("dpop", used.as_str()),
            https,
        ];
        let again = if door == Door::Envoy {
            &again[..]
        } else {
            &again[..2]
        };
        if takes {
            door.expect(&program, client("/x", again), "allow").await;
            door.expect(&program, client("/x", again), "dpop_replayed").await;
            let answer = door.ask(&program, client("/x", again)).await;
            let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
            assert!(
                challenges[0]
                    .to_str()
                    .unwrap()
                    .starts_with("DPoP error=\"invalid_dpop_proof\""),
                "{challenges:?}"
            );
            assert_eq!(challenges[1], "Bearer");
            // Where proofs are not asked for, nothing is said of them; where nothing else will do, nothing else is said.
            let answer = door.ask(&program, client("/x", &[])).await;
            assert_eq!(
                answer
                    .headers
                    .get_all("www-authenticate")
                    .iter()
                    .collect::<Vec<_>>(),
                ["Bearer"]
            );
            let answer = door.ask(&program, client("/bound", &[])).await;
            let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
            assert!(
                challenges.len() == 1 && challenges[0].to_str().unwrap().starts_with("DPoP algs="),
                "{challenges:?}"
            );
        }
    }
    // Envoy does not say the scheme unless it is told to.
    let unsaid = of(x);
    let headers = [("authorization", as_dpop.as_str()), ("dpop", unsaid.as_str())];
    Door::Envoy
        .expect(&program, client("/x", &headers), "dpop_invalid")
        .await;
    Door::Direct
        .expect(&program, client("/x", &headers), "dpop_missing")
        .await;
}
