//! What a layer can be told: each option against the same request without it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderName, Request, Response, StatusCode, header},
    routing::get,
};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokenward::{
    Actors, Audiences, Denial, ErrorKind, IdpConfig, Issuers, PeerAddress, Policy, ProxyHeaders, Token,
    TokenClaims, TokenLayer, VerifiedToken, carrier::Carrier,
};
use tokenward_testkit::{TestKey, TokenBuilder, verdicts};
use tower::{Layer as _, ServiceExt as _, service_fn};
use url::Url;

use crate::world::{World, issuer};

/// A provider `a` with one key.
async fn world() -> (World, TestKey) {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    (world, key)
}

pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The answer of a service behind the layer that tells the subject.
async fn answer(layer: &TokenLayer, request: Request<Body>) -> Response<Body> {
    let service = layer.layer(service_fn(|request: Request<Body>| async move {
        let token = request.extensions().get::<Arc<VerifiedToken>>();
        let subject = token.and_then(|token| token.subject()).unwrap_or("nobody");
        Ok::<_, Infallible>(Response::new(Body::from(subject.to_owned())))
    }));
    service.oneshot(request).await.unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Status, and who it was or why not.
pub(crate) async fn outcome(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = text(response).await;
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    let told = problem["error_code"].as_str().map(str::to_owned);
    (status, told.unwrap_or(body))
}

async fn send(layer: &TokenLayer, request: Request<Body>) -> (u16, String) {
    outcome(answer(layer, request).await).await
}

fn refused(denial: Denial) -> (u16, String) {
    (denial.http_status(), denial.code().to_owned())
}

fn let_through(subject: &str) -> (u16, String) {
    (200, subject.to_owned())
}

#[tokio::test]
async fn every_token_of_the_table_gets_its_verdict() {
    let (world, key) = world().await;
    let layer = TokenLayer::new(world.verifier.clone());
    for verdict in verdicts(tokenward::Clock::wall(&world.clock), &issuer("a"), "api", &key) {
        let request = request("GET", "/", &[("authorization", &bearer(&verdict.token))]);
        let seen = world.going_on(send(&layer, request)).await;
        let expected = verdict.refused.map_or_else(|| let_through("user-1"), refused);
        assert_eq!(seen, expected, "{}", verdict.name);
    }
}

#[tokio::test]
async fn credentials_may_be_optional_but_never_bad() {
    let (world, key) = world().await;
    let strict = TokenLayer::new(world.verifier.clone());
    let optional = strict.clone().credentials_optional();
    let good = bearer(&world.token("a", &key));
    for (headers, by_default, expected) in [
        (&[][..], refused(Denial::TokenMissing), let_through("nobody")),
        (
            &[("authorization", "Basic eA==")],
            refused(Denial::TokenMissing),
            let_through("nobody"),
        ),
        (
            &[("authorization", &*good)],
            let_through("sub"),
            let_through("sub"),
        ),
        (
            &[("authorization", "")],
            refused(Denial::TokenMissing),
            refused(Denial::TokenMissing),
        ),
        (
            &[("authorization", "Bearer x.y.z")],
            refused(Denial::TokenMalformed),
            refused(Denial::TokenMalformed),
        ),
    ] {
        assert_eq!(
            send(&strict, request("GET", "/", headers)).await,
            by_default,
            "{headers:?}"
        );
        assert_eq!(
            send(&optional, request("GET", "/", headers)).await,
            expected,
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn preflights_pass_only_where_they_are_let_through() {
    let (world, _) = world().await;
    let strict = TokenLayer::new(world.verifier.clone());
    let open = strict.clone().let_options_through();
    let missing = || refused(Denial::TokenMissing);
    for (method, expected) in [
        ("OPTIONS", let_through("nobody")),
        ("options", missing()),
        ("GET", missing()),
        ("HEAD", missing()),
    ] {
        let headers = [("x-http-method-override", "OPTIONS")];
        assert_eq!(
            send(&strict, request(method, "/", &headers)).await,
            missing(),
            "{method}"
        );
        assert_eq!(
            send(&open, request(method, "/", &headers)).await,
            expected,
            "{method}"
        );
    }
}

#[tokio::test]
async fn only_paths_in_normal_form_are_excluded() {
    let (world, _) = world().await;
    let layer = TokenLayer::new(world.verifier.clone())
        .exclude(["/health", "/public/**"])
        .unwrap()
        .exclude(["/v*/open"])
        .unwrap();
    for target in [
        "/health",
        "/health?a=/../b",
        "/public/a/b",
        "/public/%C3%A9",
        "/v1/open",
        "/v2/open",
    ] {
        assert_eq!(
            send(&layer, request("GET", target, &[])).await,
            let_through("nobody"),
            "{target}"
        );
    }
    for target in [
        "/",
        "/health/",
        "/healthy",
        "/Health",
        "/%68ealth",
        "/health;x",
        "/health/../admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public//a",
        "/v1/x/open",
    ] {
        let seen = send(&layer, request("GET", target, &[])).await;
        assert_eq!(seen, refused(Denial::TokenMissing), "{target}");
    }
    // A token that comes along is not looked at.
    let bad = request("GET", "/health", &[("authorization", "Bearer x")]);
    assert_eq!(send(&layer, bad).await, let_through("nobody"));
    for pattern in ["health", "", "/a/../b", "/a//b", "/%61", "/a**"] {
        let error = layer.clone().exclude([pattern]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{pattern}");
        assert!(error.to_string().contains(pattern), "{error}");
    }
}

#[tokio::test]
async fn a_nested_router_excludes_whole_paths() {
    let (world, _) = world().await;
    let layer = TokenLayer::new(world.verifier.clone())
        .exclude(["/api/open"])
        .unwrap();
    let inner = Router::new()
        .route("/open", get(async || "open"))
        .layer(layer.clone());
    let app = Router::new().nest("/api", inner.clone()).nest("/other", inner);
    for (target, expected) in [("/api/open", 200), ("/other/open", 401)] {
        let response = app.clone().oneshot(request("GET", target, &[])).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{target}");
    }
}

#[tokio::test]
async fn tokens_are_looked_for_where_the_layer_was_told_to() {
    let (world, key) = world().await;
    let token = world.token("a", &key);
    let cookie = format!("theme=dark; session={token}");
    let target = format!("/?access_token={token}");
    let authorization = bearer(&token);
    let requests = || {
        [
            request("GET", "/", &[("authorization", &*authorization)]),
            request("GET", "/", &[("cookie", &*cookie)]),
            request("GET", &target, &[]),
            request("GET", "/", &[("x-token", &*token)]),
        ]
    };
    let all = [
        Carrier::Authorization,
        Carrier::Cookie("session".into()),
        Carrier::Query("access_token".into()),
        Carrier::Header(HeaderName::from_static("x-token")),
    ];
    let by_default = TokenLayer::new(world.verifier.clone());
    for (place, request) in requests().into_iter().enumerate() {
        let expected = if place == 0 {
            let_through("sub")
        } else {
            refused(Denial::TokenMissing)
        };
        assert_eq!(send(&by_default, request).await, expected, "{place}");
    }
    for (carrier, one) in all.iter().enumerate() {
        let layer = by_default.clone().carriers([one.clone()]);
        for (place, request) in requests().into_iter().enumerate() {
            let expected = if place == carrier {
                let_through("sub")
            } else {
                refused(Denial::TokenMissing)
            };
            assert_eq!(send(&layer, request).await, expected, "{one:?} {place}");
        }
    }
    let layer = by_default.carriers(all);
    let two = request(
        "GET",
        "/",
        &[("authorization", "Bearer x.y.z"), ("x-token", &token)],
    );
    assert_eq!(send(&layer, two).await, refused(Denial::RequestMalformed));
    let twice = request(
        "GET",
        "/",
        &[
            ("authorization", &authorization),
            ("authorization", &authorization),
        ],
    );
    assert_eq!(send(&layer, twice).await, refused(Denial::RequestMalformed));
}

#[derive(Deserialize)]
struct Staff {
    sub: Option<String>,
    level: u8,
}

#[tokio::test]
async fn claims_are_read_as_a_type_and_checked() {
    let (world, key) = world().await;
    let layer = TokenLayer::new(world.verifier.clone()).claims(|staff: &Staff| {
        staff.sub.as_ref().ok_or(Denial::ClaimMissing)?;
        if staff.level < 3 {
            Err(Denial::ClaimRejected)
        } else {
            Ok(())
        }
    });
    let app = Router::new()
        .route(
            "/",
            get(async |TokenClaims(staff): TokenClaims<Staff>| staff.level.to_string()),
        )
        .layer(layer);
    let token = |builder: TokenBuilder| bearer(&builder.sign(&key));
    for (token, expected) in [
        (token(world.builder("a").claim("level", 3)), (200, "3".to_owned())),
        (
            token(world.builder("a").claim("level", 2)),
            refused(Denial::ClaimRejected),
        ),
        (
            token(world.builder("a").claim("level", "3")),
            refused(Denial::ClaimRejected),
        ),
        (token(world.builder("a")), refused(Denial::ClaimRejected)),
        (
            token(world.builder("a").claim("level", 3).without_claim("sub")),
            refused(Denial::ClaimMissing),
        ),
    ] {
        let request = request("GET", "/", &[("authorization", &token)]);
        assert_eq!(
            outcome(app.clone().oneshot(request).await.unwrap()).await,
            expected
        );
    }
}

#[tokio::test]
async fn whose_tokens_are_accepted_is_asked_for_each_request() {
    let (world, key) = world().await;
    world.serve("b", &[&key]);
    world.add("b").await;
    let asked = world.asked("b").len();
    let layer = TokenLayer::new(world.verifier.clone()).issuers_by(|parts| {
        let tenant = parts
            .headers
            .get("x-tenant")
            .map(|value| value.to_str().unwrap().to_owned());
        async move {
            match tenant.as_deref() {
                None => Err(Denial::IssuerUnknown),
                Some("down") => Err(Denial::IssuerUnavailable),
                Some("only-a") => Ok(Issuers::of_tenant("default").only([issuer("a")])),
                Some(tenant) => Ok(Issuers::of_tenant(tenant)),
            }
        }
    });
    let (a, b) = (world.token("a", &key), world.token("b", &key));
    let new = world.token("b", &TestKey::es256(1).with_kid("new"));
    for (tenant, token, expected) in [
        ("default", &a, let_through("sub")),
        ("default", &b, let_through("sub")),
        ("only-a", &a, let_through("sub")),
        // It was verified, and is remembered.
        ("only-a", &b, refused(Denial::IssuerUnknown)),
        ("only-a", &new, refused(Denial::IssuerUnknown)),
        ("other", &a, refused(Denial::IssuerUnknown)),
        ("down", &a, refused(Denial::IssuerUnavailable)),
    ] {
        let request = request(
            "GET",
            "/",
            &[("x-tenant", tenant), ("authorization", &bearer(token))],
        );
        assert_eq!(send(&layer, request).await, expected, "{tenant}");
    }
    assert_eq!(
        world.asked("b").len(),
        asked,
        "nothing was fetched for an issuer that is not accepted"
    );
    let response = answer(&layer, request("GET", "/", &[("authorization", &bearer(&a))])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let down = request(
        "GET",
        "/",
        &[("x-tenant", "down"), ("authorization", &bearer(&a))],
    );
    assert!(
        answer(&layer, down)
            .await
            .headers()
            .contains_key(header::RETRY_AFTER)
    );
    // Without a token nobody is asked for.
    assert_eq!(
        send(&layer, request("GET", "/", &[])).await,
        refused(Denial::TokenMissing)
    );
    let fixed =
        TokenLayer::new(world.verifier.clone()).issuers(Issuers::of_tenant("default").only([issuer("b")]));
    for (token, expected) in [(&a, refused(Denial::IssuerUnknown)), (&b, let_through("sub"))] {
        let request = request("GET", "/", &[("authorization", &bearer(token))]);
        assert_eq!(send(&fixed, request).await, expected);
    }
}

#[tokio::test]
async fn each_issuer_has_audiences_of_its_own() {
    let (world, key) = world().await;
    world.serve("b", &[&key]);
    let policy = Policy::builder(issuer("b"), Audiences::OneOf(vec!["other".to_owned()]));
    let url = Url::parse("https://b.example/jwks").unwrap();
    let config = IdpConfig::at("b", url, Some(policy.build().unwrap())).unwrap();
    world.registry.register(config).unwrap();
    world.clock.run_for(std::time::Duration::from_millis(1)).await;
    let layer = TokenLayer::new(world.verifier.clone());
    for (name, audience, expected) in [
        ("a", "api", let_through("sub")),
        ("b", "other", let_through("sub")),
        ("a", "other", refused(Denial::AudienceMismatch)),
        ("b", "api", refused(Denial::AudienceMismatch)),
    ] {
        let token = world.builder(name).audience(audience).sign(&key);
        let request = request("GET", "/", &[("authorization", &bearer(&token))]);
        assert_eq!(send(&layer, request).await, expected, "{name} {audience}");
    }
}

#[tokio::test]
async fn the_answer_to_a_denial_can_be_replaced() {
    let (world, key) = world().await;
    let layer = TokenLayer::new(world.verifier.clone())
        .require_scopes(["write"])
        .on_denial(|denial, response| {
            let (mut parts, _) = response.into_parts();
            parts.headers.insert("x-reason", denial.code().parse().unwrap());
            Response::from_parts(parts, "no".to_owned())
        });
    let token = bearer(&world.token("a", &key));
    for (headers, status, code, reason) in [
        (&[][..], 401, "16", "token_missing"),
        (&[("authorization", &*token)], 403, "7", "insufficient_scope"),
    ] {
        let service =
            service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let grpc = layer.clone().grpc().layer(service);
        let called = grpc.oneshot(request("POST", "/", headers)).await.unwrap();
        assert_eq!(called.headers()["x-reason"], reason);
        assert_eq!(called.headers()["grpc-status"], code);

        let response = answer(&layer, request("GET", "/", headers)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-reason"]),
            (status, &reason.parse().unwrap())
        );
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(text(response).await, "no");
    }
}

#[tokio::test]
async fn callers_behind_trusted_proxies_have_shares_of_their_own() {
    let (world, _) = world().await;
    let asked = world.asked("a").len();
    let layer = TokenLayer::new(world.verifier.clone());
    let believing = layer
        .clone()
        .trusted_proxies(["10.0.0.0/8", "192.0.2.9"], ProxyHeaders::XForwarded)
        .unwrap();
    // Each new key id costs its caller a share, until he has none.
    for (place, (layer, peer, client, fetches)) in [
        (&layer, "10.0.0.1:1", "198.51.100.1", 1),
        (&layer, "10.0.0.1:1", "198.51.100.2", 1),
        (&believing, "10.0.0.1:1", "198.51.100.3", 2),
        (&believing, "10.0.0.2:1", "198.51.100.3", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let token = world.token("a", &TestKey::es256(1).with_kid(format!("kid-{place}")));
        let headers = [("authorization", &*bearer(&token)), ("x-forwarded-for", client)];
        let mut request = request("GET", "/", &headers);
        let peer: SocketAddr = peer.parse().unwrap();
        // Either way of telling the peer does.
        if place % 2 == 0 {
            request.extensions_mut().insert(PeerAddress(peer));
        } else {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        world.going_on(send(layer, request)).await;
        assert_eq!(world.asked("a").len() - asked, fetches, "{place}");
    }
    for bad in ["10.0.0.0/33", "proxy.example", ""] {
        let error = layer
            .clone()
            .trusted_proxies([bad], ProxyHeaders::Both)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
    }
}

#[tokio::test]
async fn handlers_are_told_by_typed_extractors() {
    let (world, key) = world().await;
    let layer = TokenLayer::new(world.verifier.clone()).credentials_optional();
    let app = Router::new()
        .route(
            "/maybe",
            get(async |token: Option<Token>| token.is_some().to_string()),
        )
        .route(
            "/must",
            get(async |Token(token): Token| token.subject().unwrap_or_default().to_owned()),
        )
        .route(
            "/staff",
            get(async |TokenClaims(staff): TokenClaims<Staff>| staff.level.to_string()),
        )
        .route(
            "/actors",
            get(async |Actors(actors): Actors| {
                let names = actors
                    .into_iter()
                    .map(|actor| json!([actor.issuer, actor.subject]));
                Json(names.collect::<Value>())
            }),
        )
        .layer(layer);
    let chain = json!({"sub": "service-2", "iss": "https://x.test", "act": {"sub": "service-1", "act": {}}});
    for (target, claims, expected) in [
        ("/maybe", None, (200, "false")),
        ("/maybe", Some(json!({})), (200, "true")),
        ("/must", None, (401, "token_missing")),
        ("/must", Some(json!({})), (200, "sub")),
        ("/staff", None, (401, "token_missing")),
        ("/staff", Some(json!({"level": 7})), (200, "7")),
        ("/staff", Some(json!({"level": -1})), (401, "claim_rejected")),
        ("/actors", None, (401, "token_missing")),
        ("/actors", Some(json!({})), (200, "[]")),
        (
            "/actors",
            Some(json!({ "act": chain })),
            (
                200,
                r#"[["https://x.test","service-2"],[null,"service-1"],[null,null]]"#,
            ),
        ),
        (
            "/actors",
            Some(json!({"act": "service"})),
            (401, "claim_rejected"),
        ),
        (
            "/actors",
            Some(json!({"act": {"sub": 1}})),
            (401, "claim_rejected"),
        ),
        (
            "/actors",
            Some(json!({"act": {"sub": "a", "act": null}})),
            (401, "claim_rejected"),
        ),
    ] {
        let mut request = request("GET", target, &[]);
        if let Some(claims) = claims {
            let members = claims.as_object().unwrap().clone();
            let builder = members
                .into_iter()
                .fold(world.builder("a"), |builder, (name, value)| {
                    builder.claim(&name, value)
                });
            let token = bearer(&builder.sign(&key)).parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let (status, body) = outcome(app.clone().oneshot(request).await.unwrap()).await;
        assert_eq!((status, body.as_str()), expected, "{target}");
    }
}
