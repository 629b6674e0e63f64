//! Proofs of possession at the layer: who needs one, and which requests it is good for.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{Request, Response, header},
    routing::get,
};
use serde_json::json;
use tokenward::{
    CallerId, Clock as _, Denial, Dpop, DpopMode, ErrorKind, PeerAddress, Proven, ProxyHeaders, Terms,
    TokenLayer, Window, carrier::Carrier,
};
use tokenward_testkit::{TestKey, proof};
use tower::ServiceExt as _;

use crate::{
    layer_options::{outcome, request, text},
    world::World,
};

const URL: &str = "https://api.example/orders";

/// A provider, and a client with a key of its own.
struct Setup {
    world: World,
    signer: TestKey,
    client: TestKey,
}

impl Setup {
    async fn new() -> Self {
        let world = World::new();
        let signer = TestKey::es256(0);
        world.serve("a", &[&signer]);
        world.add("a").await;
        Self {
            world,
            signer,
            client: TestKey::ed25519(3),
        }
    }

    fn layer(&self, dpop: Dpop) -> TokenLayer {
        let layer = TokenLayer::new(self.world.verifier.clone()).dpop(dpop);
        let carriers = [Carrier::Authorization, Carrier::Cookie("session".into())];
        layer.origin("https://api.example").unwrap().carriers(carriers)
    }

    /// A token that is bound to the client's key.
    fn bound(&self) -> String {
        let cnf = json!({ "jkt": self.client.thumbprint() });
        self.world.builder("a").claim("cnf", cnf).sign(&self.signer)
    }

    fn unbound(&self) -> String {
        self.world.token("a", &self.signer)
    }

    fn proof(&self, token: &str) -> String {
        self.proof_of("GET", URL, token)
    }

    fn proof_of(&self, method: &str, url: &str, token: &str) -> String {
        proof(&self.client, self.world.clock.wall(), method, url, token).sign(&self.client)
    }
}

/// The answer of an app behind the layer that tells the thumbprint of the proof.
async fn answer(layer: &TokenLayer, request: Request<Body>) -> Response<Body> {
    let handler = async |proof: Option<Proven>| match proof {
        Some(Proven(proof)) => proof.key().to_string(),
        None => "none".to_owned(),
    };
    let strict = async |Proven(proof): Proven| proof.id().to_owned();
    let app = Router::new()
        .route("/orders", get(handler).post(handler))
        .route("/strict", get(strict))
        .nest("/nested", Router::new().route("/orders", get(handler)))
        .layer(layer.clone());
    app.oneshot(request).await.unwrap()
}

async fn send(layer: &TokenLayer, headers: &[(&str, &str)]) -> (u16, String) {
    outcome(answer(layer, request("GET", "/orders?page=2", headers)).await).await
}

fn refused(denial: Denial) -> (u16, String) {
    (denial.http_status(), denial.code().to_owned())
}

#[tokio::test]
async fn mode_scheme_proof_and_binding_decide_together() {
    let setup = Setup::new().await;
    let proved = (200, setup.client.thumbprint());
    let plain = (200, "none".to_owned());
    let missing = || refused(Denial::DpopMissing);
    let mismatch = || refused(Denial::DpopBindingMismatch);
    let not_allowed = || refused(Denial::DpopNotAllowed);
    // Scheme, bound, with a proof: disabled, allowed, required.
    for (scheme, bound, with_proof, expected) in [
        ("Bearer", false, false, [plain.clone(), plain.clone(), missing()]),
        ("Bearer", false, true, [plain.clone(), plain.clone(), missing()]),
        ("Bearer", true, false, [missing(), missing(), missing()]),
        ("Bearer", true, true, [missing(), missing(), missing()]),
        ("DPoP", false, false, [not_allowed(), missing(), missing()]),
        ("DPoP", false, true, [not_allowed(), mismatch(), mismatch()]),
        ("DPoP", true, false, [missing(), missing(), missing()]),
        ("DPoP", true, true, [missing(), proved.clone(), proved.clone()]),
        ("cookie", false, false, [plain.clone(), plain.clone(), missing()]),
        ("cookie", false, true, [plain.clone(), plain.clone(), mismatch()]),
        ("cookie", true, false, [missing(), missing(), missing()]),
        ("cookie", true, true, [missing(), proved.clone(), proved]),
    ] {
        let token = if bound { setup.bound() } else { setup.unbound() };
        let modes = [Dpop::disabled(), Dpop::allowed(), Dpop::required()];
        for (dpop, expected) in modes.into_iter().zip(expected) {
            let mode = dpop.mode();
            let proof = setup.proof(&token);
            let (name, value) = match scheme {
                "cookie" => ("cookie", format!("session={token}")),
                _ => ("authorization", format!("{scheme} {token}")),
            };
            let mut headers = vec![(name, &*value)];
            if with_proof {
                headers.push(("dpop", &*proof));
            }
            let seen = send(&setup.layer(dpop), &headers).await;
            assert_eq!(
                seen, expected,
                "{mode:?} {scheme} bound: {bound} proof: {with_proof}"
            );
        }
    }
}

#[tokio::test]
async fn proofs_are_allowed_and_not_required_by_default() {
    let setup = Setup::new().await;
    let layer = TokenLayer::new(setup.world.verifier.clone());
    let layer = layer.origin("http://localhost:3000").unwrap();
    let (bound, unbound) = (setup.bound(), setup.unbound());
    let proof = setup.proof_of("GET", "http://localhost:3000/orders", &bound);
    let host = ("host", "localhost:3000");
    let seen = send(
        &layer,
        &[
            host,
            ("authorization", &format!("DPoP {bound}")),
            ("dpop", &proof),
        ],
    )
    .await;
    assert_eq!(seen, (200, setup.client.thumbprint()));
    let seen = send(&layer, &[host, ("authorization", &format!("Bearer {unbound}"))]).await;
    assert_eq!(seen, (200, "none".to_owned()));
    assert_eq!(Dpop::default().mode(), DpopMode::Allowed);
}

#[tokio::test]
async fn a_remembered_bound_token_is_no_bearer_token() {
    let setup = Setup::new().await;
    let token = setup.bound();
    let authorization = format!("DPoP {token}");
    let proof = setup.proof(&token);
    let seen = send(
        &setup.layer(Dpop::allowed()),
        &[("authorization", &authorization), ("dpop", &proof)],
    )
    .await;
    assert_eq!(seen.0, 200);
    // It is in the cache now, for those who check proofs.
    assert_eq!(setup.world.verify(&token).await.unwrap_err(), Denial::DpopMissing);
    let bearer = format!("Bearer {token}");
    let seen = send(&setup.layer(Dpop::disabled()), &[("authorization", &bearer)]).await;
    assert_eq!(seen, refused(Denial::DpopMissing));
    let terms = Terms::default().binding_left_to_caller();
    let verified = setup
        .world
        .verifier
        .verify_with("default", &token, CallerId::default(), &terms);
    assert!(verified.await.is_ok());
}

#[tokio::test]
async fn a_proof_is_good_for_one_request_with_its_token() {
    let setup = Setup::new().await;
    let layer = setup.layer(Dpop::allowed());
    let (token, other) = (setup.bound(), setup.world.builder("a").subject("other"));
    let other = other
        .claim("cnf", json!({ "jkt": setup.client.thumbprint() }))
        .sign(&setup.signer);
    let authorization = format!("DPoP {token}");
    let stranger = TestKey::es256(5);
    let now = setup.world.clock.wall();
    let strangers = proof(&stranger, now, "GET", URL, &token).sign(&stranger);
    for (proof, expected) in [
        (setup.proof_of("POST", URL, &token), Denial::DpopInvalid),
        (
            setup.proof_of("GET", "https://api.example/others", &token),
            Denial::DpopInvalid,
        ),
        (
            setup.proof_of("GET", "https://evil.example/orders", &token),
            Denial::DpopInvalid,
        ),
        (setup.proof_of("GET", URL, &other), Denial::DpopInvalid),
        ("x".to_owned(), Denial::DpopInvalid),
        (strangers, Denial::DpopBindingMismatch),
    ] {
        let seen = send(&layer, &[("authorization", &authorization), ("dpop", &proof)]).await;
        assert_eq!(seen, refused(expected));
    }
    let (one, two) = (setup.proof(&token), setup.proof(&token));
    let twice = send(
        &layer,
        &[("authorization", &authorization), ("dpop", &one), ("dpop", &two)],
    )
    .await;
    assert_eq!(twice, refused(Denial::DpopInvalid));

    // What was refused has not been used up.
    let headers = [("authorization", &*authorization), ("dpop", &*one)];
    assert_eq!(send(&layer, &headers).await.0, 200);
    assert_eq!(send(&layer, &headers).await, refused(Denial::DpopReplayed));
    assert_eq!(
        send(&layer.clone(), &headers).await,
        refused(Denial::DpopReplayed),
        "clones share"
    );
    setup.world.clock.advance(Duration::from_secs(299));
    assert_eq!(send(&layer, &headers).await, refused(Denial::DpopReplayed));
    setup.world.clock.advance(Duration::from_secs(2));
    assert_eq!(send(&layer, &headers).await, refused(Denial::DpopInvalid));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_used_proof_good_again() {
    let setup = Setup::new().await;
    let layer = setup.layer(Dpop::allowed());
    let token = setup.bound();
    let authorization = format!("DPoP {token}");
    let used = setup.proof(&token);
    let ask = async |proof: &str| send(&layer, &[("authorization", &authorization), ("dpop", proof)]).await;
    let began = setup.world.clock.wall();
    assert_eq!(ask(&used).await.0, 200);
    // It has been forgotten by now, and nobody asked in the meantime.
    setup.world.clock.advance(Duration::from_secs(331));
    setup.world.clock.set_wall(began);
    assert_eq!(ask(&used).await, refused(Denial::DpopReplayed));
    assert_eq!(ask(&setup.proof(&token)).await, refused(Denial::DpopReplayed));
    setup.world.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&used).await, refused(Denial::DpopReplayed));
    assert_eq!(ask(&setup.proof(&token)).await.0, 200, "later ones are good");
}

#[tokio::test]
async fn window_and_capacity_are_settings() {
    let setup = Setup::new().await;
    let token = setup.bound();
    let authorization = format!("DPoP {token}");
    let short = Window {
        max_age: Duration::from_secs(60),
        leeway: Duration::from_secs(5),
    };
    let proofs: Vec<_> = (0..8).map(|_| setup.proof(&token)).collect();
    let ask = async |layer: &TokenLayer, proof: usize| {
        send(
            layer,
            &[("authorization", &authorization), ("dpop", &proofs[proof])],
        )
        .await
    };
    setup.world.clock.advance(Duration::from_secs(61));
    assert_eq!(
        ask(&setup.layer(Dpop::allowed().window(short)), 0).await,
        refused(Denial::DpopInvalid)
    );
    assert_eq!(ask(&setup.layer(Dpop::allowed()), 0).await.0, 200);

    // One key has a quarter, which is two of five.
    let small = setup.layer(Dpop::allowed().replay_capacity(5));
    assert_eq!(ask(&small, 1).await.0, 200);
    assert_eq!(ask(&small, 2).await.0, 200);
    assert_eq!(ask(&small, 3).await, refused(Denial::RateLimited));
    assert_eq!(
        ask(&small, 1).await,
        refused(Denial::DpopReplayed),
        "nothing was forgotten for it"
    );
}

#[tokio::test]
async fn the_url_is_the_clients() {
    let setup = Setup::new().await;
    let token = setup.bound();
    let authorization = format!("DPoP {token}");
    let plain = TokenLayer::new(setup.world.verifier.clone());
    let fixed = plain.clone().origin("https://api.example:443/").unwrap();
    let behind = |headers| plain.clone().trusted_proxies(["10.0.0.1"], headers).unwrap();
    let (x, standard) = (behind(ProxyHeaders::XForwarded), behind(ProxyHeaders::Both));
    let x_headers = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
    ];
    let forwarded = [
        ("forwarded", "for=1.2.3.4;proto=https;host=api.example"),
        ("x-forwarded-host", "x.example"),
    ];
    let inner = ("host", "inner:8080");
    let inners = "http://inner:8080/orders";
    for (layer, peer, target, more, made_for, accepted) in [
        // What only the request itself says is the word of whoever sent it.
        (&plain, "10.0.0.1", "/orders", &[inner][..], inners, false),
        (&plain, "10.0.0.1", "/orders", &[inner], URL, false),
        (&plain, "10.0.0.1", URL, &[], URL, false),
        (&plain, "10.0.0.1", URL, &[("host", "api.example")], URL, false),
        (
            &plain,
            "10.0.0.1",
            "/orders",
            &[inner, x_headers[0], x_headers[1]],
            URL,
            false,
        ),
        (&x, "10.0.0.1", URL, &[("host", "api.example")], URL, false),
        (&x, "10.0.0.1", URL, &[inner, x_headers[0]], URL, false),
        (&x, "10.0.0.1", URL, &[inner, x_headers[1]], URL, false),
        (
            &x,
            "10.0.0.1",
            "https://evil.example/orders",
            &[inner, x_headers[0], x_headers[1]],
            "https://evil.example/orders",
            false,
        ),
        (
            &fixed,
            "10.0.0.1",
            "https://evil.example/orders",
            &[("host", "evil.example")],
            "https://evil.example/orders",
            false,
        ),
        (
            &fixed,
            "10.0.0.1",
            "/nested/orders",
            &[inner],
            "https://api.example/nested/orders",
            true,
        ),
        (&fixed, "10.0.0.1", "/orders", &[inner], URL, true),
        (
            &fixed,
            "10.0.0.1",
            "/orders?x=1",
            &[inner],
            "https://api.example/orders?y=2#z",
            true,
        ),
        (&fixed, "10.0.0.1", "/orders", &[inner], inners, false),
        (
            &x,
            "10.0.0.1",
            "/orders",
            &[inner, x_headers[0], x_headers[1]],
            URL,
            true,
        ),
        (
            &x,
            "10.0.0.2",
            "/orders",
            &[inner, x_headers[0], x_headers[1]],
            URL,
            false,
        ),
        (&x, "10.0.0.1", "/orders", &[inner, forwarded[0]], URL, false),
        (
            &standard,
            "10.0.0.1",
            "/orders",
            &[inner, forwarded[0], forwarded[1]],
            URL,
            true,
        ),
        (
            &standard,
            "10.0.0.2",
            "/orders",
            &[inner, forwarded[0], forwarded[1]],
            URL,
            false,
        ),
    ] {
        let proof = setup.proof_of("GET", made_for, &token);
        let mut headers = more.to_vec();
        headers.extend([("authorization", &*authorization), ("dpop", &*proof)]);
        let mut request = request("GET", target, &headers);
        let peer = format!("{peer}:4711").parse().unwrap();
        request.extensions_mut().insert(PeerAddress(peer));
        let seen = outcome(answer(layer, request).await).await;
        let expected = if accepted {
            (200, setup.client.thumbprint())
        } else {
            refused(Denial::DpopInvalid)
        };
        assert_eq!(seen, expected, "{target} {more:?} {made_for}");
    }
    for bad in [
        "",
        "api.example",
        "ftp://api.example",
        "https://api.example/v1",
        "https://u@api.example",
        "https://api.example?x",
    ] {
        let error = plain.clone().origin(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
    }
}

#[tokio::test]
async fn a_forwarded_header_out_of_its_grammar_is_a_malformed_request() {
    let setup = Setup::new().await;
    let layer = TokenLayer::new(setup.world.verifier.clone())
        .trusted_proxies(["10.0.0.0/8"], ProxyHeaders::Forwarded)
        .unwrap();
    let headers = [
        ("authorization", &*format!("Bearer {}", setup.unbound())),
        ("forwarded", "for=\""),
    ];
    for (peer, expected) in [
        ("10.0.0.1:1", refused(Denial::RequestMalformed)),
        ("192.0.2.1:1", (200, "none".to_owned())),
    ] {
        let mut request = request("GET", "/orders", &headers);
        request
            .extensions_mut()
            .insert(PeerAddress(peer.parse().unwrap()));
        assert_eq!(outcome(answer(&layer, request).await).await, expected, "{peer}");
    }
}

/// The challenges of an answer, one in each header: scheme and parameters, read strictly.
fn challenges(response: &Response<Body>) -> Vec<(String, Vec<(String, String)>)> {
    let values = response.headers().get_all(header::WWW_AUTHENTICATE);
    values
        .iter()
        .map(|value| {
            let value = value.to_str().unwrap();
            let (scheme, mut rest) = value.split_once(' ').unwrap_or((value, ""));
            let mut parameters = Vec::new();
            while !rest.is_empty() {
                let (name, after) = rest.split_once("=\"").unwrap();
                let (text, after) = after.split_once('"').unwrap();
                assert!(
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                    "{value}"
                );
                assert!(!text.contains('\\') && text.is_ascii(), "{value}");
                parameters.push((name.to_owned(), text.to_owned()));
                rest = if after.is_empty() {
                    after
                } else {
                    after.strip_prefix(", ").unwrap()
                };
            }
            (scheme.to_owned(), parameters)
        })
        .collect()
}

#[tokio::test]
async fn challenges_name_the_schemes_that_are_taken() {
    let setup = Setup::new().await;
    let (bound, unbound) = (setup.bound(), setup.unbound());
    let dpop = |token: &str| format!("DPoP {token}");
    let bearer = |token: &str| format!("Bearer {token}");
    let hostile = "x\", error=\"none\\";
    let (none, expired) = (String::new(), bearer("a.b.c"));
    // Authorization, proof: scheme and error of each challenge.
    for (mode, authorization, proof, expected) in [
        (Dpop::disabled(), &none, "", &[("Bearer", None)][..]),
        (
            Dpop::disabled(),
            &dpop(&bound),
            "",
            &[("Bearer", Some("invalid_token"))],
        ),
        (Dpop::allowed(), &none, "", &[("Bearer", None), ("DPoP", None)]),
        (
            Dpop::allowed(),
            &expired,
            "",
            &[("Bearer", Some("invalid_token")), ("DPoP", None)],
        ),
        (
            Dpop::allowed(),
            &dpop("a.b.c"),
            "",
            &[("DPoP", Some("invalid_token")), ("Bearer", None)],
        ),
        (
            Dpop::allowed(),
            &bearer(&bound),
            "",
            &[("DPoP", Some("invalid_token")), ("Bearer", None)],
        ),
        (
            Dpop::allowed(),
            &dpop(&bound),
            hostile,
            &[("DPoP", Some("invalid_dpop_proof")), ("Bearer", None)],
        ),
        (Dpop::required(), &none, "", &[("DPoP", None)]),
        (
            Dpop::required(),
            &bearer(&unbound),
            "",
            &[("DPoP", Some("invalid_token"))],
        ),
        (
            Dpop::required(),
            &dpop(&bound),
            hostile,
            &[("DPoP", Some("invalid_dpop_proof"))],
        ),
    ] {
        let mut headers = Vec::new();
        if !authorization.is_empty() {
            headers.push(("authorization", authorization.as_str()));
        }
        if !proof.is_empty() {
            headers.push(("dpop", proof));
        }
        let name = format!("{mode:?} {headers:?}");
        let response = answer(&setup.layer(mode), request("GET", "/orders", &headers)).await;
        assert_eq!(response.status().as_u16(), 401, "{name}");
        let seen = challenges(&response);
        let errors: Vec<_> = seen
            .iter()
            .map(|(scheme, parameters)| {
                let error = parameters.iter().find(|(name, _)| name == "error");
                (scheme.as_str(), error.map(|(_, error)| error.as_str()))
            })
            .collect();
        assert_eq!(errors, expected, "{name}");
        for (scheme, parameters) in &seen {
            let algs = parameters.iter().find(|(name, _)| name == "algs");
            assert_eq!(algs.is_some(), scheme == "DPoP", "{name}");
            if let Some((_, algs)) = algs {
                assert!(
                    algs.split(' ').any(|alg| alg == "ES256") && !algs.contains("HS"),
                    "{algs}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_handler_can_insist_on_a_proof() {
    let setup = Setup::new().await;
    let layer = setup.layer(Dpop::allowed());
    let (bound, unbound) = (setup.bound(), setup.unbound());
    let proof = setup.proof_of("GET", "https://api.example/strict", &bound);
    let headers = [("authorization", &*format!("DPoP {bound}")), ("dpop", &*proof)];
    let response = answer(&layer, request("GET", "/strict", &headers)).await;
    assert_eq!(response.status().as_u16(), 200);
    assert!(text(response).await.starts_with("proof-"));
    let headers = [("authorization", &*format!("Bearer {unbound}"))];
    let seen = outcome(answer(&layer, request("GET", "/strict", &headers)).await).await;
    assert_eq!(seen, refused(Denial::DpopMissing));
}
