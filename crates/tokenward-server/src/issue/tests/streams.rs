//! Streams: how many there may be, and when those end that a credential opened.

use axum::{
    body::Body,
    extract::{RawQuery, State},
};
use http_body_util::BodyExt as _;

use super::{
    super::stream::{Places, stream},
    *,
};
use crate::{
    access::{Access, Who},
    config::{Allow, Credential, Scope, SecretDigest},
};

#[test]
fn streams_leave_room_for_other_calls_and_those_of_one_credential_for_those_of_others() {
    let places = Places::new(10);
    let own: Vec<_> = (0..5).map(|_| places.take(Some("a")).unwrap()).collect();
    assert!(places.take(Some("a")).is_none());
    let others = [places.take(Some("b")), places.take(None), places.take(None)];
    assert!(others.iter().all(Option::is_some));
    assert_eq!(places.taken(), 8);
    assert!(places.take(None).is_none() && places.take(Some("b")).is_none());
    drop(own);
    assert_eq!(places.taken(), 3);
    assert!(places.take(Some("a")).is_some());
    drop(others);
    assert_eq!(places.taken(), 0);
    for few in [1, 2] {
        assert!(Places::new(few).take(Some("a")).is_some(), "{few}");
    }
}

fn credential(secret: &[u8], allow: Allow) -> Credential {
    Credential {
        name: "ops".into(),
        digest: SecretDigest::of(secret),
        scopes: vec![Scope::Admin],
        allow,
    }
}

fn know(world: &World, credentials: impl IntoIterator<Item = Credential>) {
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    world
        .service
        .know(Access::new(credentials, Arc::default(), clock));
}

/// Follows `pair` as its holder, or by a credential.
async fn follow(world: &World, pair: &Pair, credential: Option<Credential>) -> Body {
    let mut request = ::http::Request::builder().body(Body::empty()).unwrap();
    let mut query = None;
    match credential {
        Some(credential) => {
            query = Some(format!("parent_jti={}", pair.parent.id));
            request.extensions_mut().insert(Who(Arc::new(credential)));
        }
        None => {
            let bearer = format!("Bearer {}", pair.parent.token).parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
    }
    let response = stream(State(world.service.clone()), RawQuery(query), request).await;
    assert_eq!(response.status(), ::http::StatusCode::OK);
    response.into_body()
}

/// What a stream says now: `None` for nothing yet, and no text at its end.
fn next(body: &mut Body) -> Option<Option<String>> {
    let frame = body.frame().now_or_never()?;
    let text = |frame: axum::body::Bytes| String::from_utf8(frame.to_vec()).unwrap();
    Some(frame.map(|frame| text(frame.unwrap().into_data().unwrap())))
}

#[tokio::test]
async fn a_stream_ends_with_the_credential_that_opened_it() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let bound = Allow {
        users: Some(vec!["a".into()]),
        ..Allow::default()
    };
    let of = |secret: &[u8]| credential(secret, Allow::default());
    for without in [
        vec![],
        vec![of(b"another")],
        vec![credential(b"secret", bound)],
        vec![Credential {
            scopes: vec![Scope::TokensRead],
            ..of(b"secret")
        }],
    ] {
        know(&world, [of(b"secret")]);
        let mut own = follow(&world, &pair, Some(of(b"secret"))).await;
        let mut holders = follow(&world, &pair, None).await;
        for body in [&mut own, &mut holders] {
            assert!(next(body).unwrap().unwrap().contains("event: connected"));
            assert_eq!(next(body), None);
        }
        know(&world, [of(b"else"), of(b"secret")]);
        assert_eq!(next(&mut own), None, "it is still there");
        know(&world, without);
        let told = next(&mut own).unwrap().unwrap();
        assert!(told.starts_with("retry: ") && !told.contains("event"), "{told}");
        assert_eq!(next(&mut own), Some(None));
        assert_eq!(next(&mut holders), None, "a holder needs no credential");
    }
}

#[tokio::test]
async fn a_stream_of_a_credential_that_was_just_withdrawn_ends_at_once() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    know(&world, []);
    let of = credential(b"secret", Allow::default());
    let mut body = follow(&world, &pair, Some(of)).await;
    assert!(next(&mut body).unwrap().unwrap().contains("event: connected"));
    assert!(next(&mut body).unwrap().unwrap().starts_with("retry: "));
    assert_eq!(next(&mut body), Some(None));
}

#[tokio::test]
async fn a_stream_of_a_credential_lasts_an_hour() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
    let of = || credential(b"secret", Allow::default());
    know(&world, [of()]);
    let mut own = follow(&world, &pair, Some(of())).await;
    let mut holders = follow(&world, &pair, None).await;
    for body in [&mut own, &mut holders] {
        assert!(next(body).unwrap().unwrap().contains("event: connected"));
        assert_eq!(next(body), None);
    }
    for beat in 1..=240 {
        world.pass(Duration::from_secs(15));
        for body in [&mut own, &mut holders] {
            let told = next(body);
            assert!(told.unwrap().unwrap().contains("event: heartbeat"), "{beat}");
        }
        assert_eq!(next(&mut holders), None);
        if beat < 240 {
            assert_eq!(next(&mut own), None, "{beat}");
        }
    }
    assert_eq!(next(&mut own), Some(None));
}
