//! The tower layer: who gets through, and with what answer the others are sent away.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use tokenward::{PeerAddress, TokenLayer, VerifiedToken};
use tokenward_testkit::TestKey;
use tower::{Layer, ServiceExt, service_fn};

use crate::world::World;

/// Sends a request through the layer to a service that answers with the subject. Status, `WWW-Authenticate` and body.
async fn send(layer: &TokenLayer, request: Request<()>) -> (StatusCode, String, String) {
    let service = layer.layer(service_fn(|request: Request<()>| async move {
        let token = request.extensions().get::<Arc<VerifiedToken>>();
        let subject = token.and_then(|token| token.subject()).unwrap_or("nobody");
        Ok::<_, Infallible>(Response::new(subject.to_owned()))
    }));
    let response = service.oneshot(request).await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    (
        response.status(),
        challenge.unwrap_or_default(),
        response.into_body(),
    )
}

fn with(authorization: &[&str]) -> Request<()> {
    let mut request = Request::new(());
    for value in authorization {
        request
            .headers_mut()
            .append(AUTHORIZATION, value.parse().unwrap());
    }
    request
}

fn bearer(token: &str) -> Request<()> {
    with(&[&format!("Bearer {token}")])
}

#[tokio::test]
async fn only_a_verified_token_gets_through() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let layer = TokenLayer::new(world.verifier.clone());
    let token = world.token("a", &key);

    let (status, _, body) = send(&layer, bearer(&token)).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "sub"));

    let (status, challenge, _) = send(&layer, with(&[])).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        challenge.starts_with("Bearer") && !challenge.contains("error"),
        "{challenge}"
    );

    let forged = world.token("a", &TestKey::es256(1).with_kid(key.kid().unwrap()));
    let (status, challenge, body) = send(&layer, bearer(&forged)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains(r#"error="invalid_token""#), "{challenge}");
    assert!(
        body.contains("signature_invalid") && !body.contains(&forged),
        "{body}"
    );

    let twice = format!("Bearer {token}");
    let (status, ..) = send(&layer, with(&[&twice, &twice])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let (status, ..) = send(&layer.clone().tenant("other"), bearer(&token)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn all_required_scopes_must_be_granted() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let layer = TokenLayer::new(world.verifier.clone()).require_scopes(["read", "write"]);
    for (granted, expected) in [
        ("read write more", StatusCode::OK),
        ("read", StatusCode::FORBIDDEN),
        ("reads writes", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
    ] {
        let token = world.builder("a").scope(granted).sign(&key);
        let (status, _, body) = send(&layer, bearer(&token)).await;
        assert_eq!(status, expected, "{granted}");
        assert_eq!(body.contains("insufficient_scope"), expected != StatusCode::OK);
    }
}

#[tokio::test]
async fn peers_have_shares_of_their_own_in_the_budget() {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    let asked = world.asked("a").len();
    let layer = TokenLayer::new(world.verifier.clone());
    let unknown = |kid: &str| world.token("a", &TestKey::es256(1).with_kid(kid));
    for (peer, kid, fetches) in [
        ("192.0.2.1:1", "x", 1),
        ("192.0.2.1:2", "y", 1),
        ("[2001:db8::1]:1", "z", 2),
    ] {
        let mut request = bearer(&unknown(kid));
        request
            .extensions_mut()
            .insert(PeerAddress(peer.parse().unwrap()));
        world.going_on(send(&layer, request)).await;
        assert_eq!(world.asked("a").len() - asked, fetches, "{peer}");
    }
}
