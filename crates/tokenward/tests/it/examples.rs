//! The examples of the repository, with the table of tokens that everything is held against.

use std::time::Duration;

use axum::http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokenward::{Clock as _, Denial, TokenLayer};
use tokenward_testkit::{TestKey, verdicts};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;

use self::grpc::whoami::{Identity, Question, WhoAmIServer};
use crate::{
    layer_options::{outcome, request},
    world::{Site, World, issuer},
};

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../../../../examples/axum/main.rs"]
mod web;

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../../../../examples/tonic/main.rs"]
mod grpc;

async fn world() -> (World, TestKey) {
    let world = World::new();
    let key = TestKey::es256(0);
    world.serve("a", &[&key]);
    world.add("a").await;
    (world, key)
}

#[tokio::test]
async fn axum_answers_issuer_subject_and_claims() {
    let (world, key) = world().await;
    let app = web::app(world.verifier.clone()).unwrap();
    let ask = async |token: &str| {
        let request = request("GET", "/", &[("authorization", &format!("Bearer {token}"))]);
        outcome(app.clone().oneshot(request).await.unwrap()).await
    };
    let (status, body) = ask(&world.builder("a").claim("roles", json!(["x"])).sign(&key)).await;
    let now = world.clock.wall().as_secs();
    let golden = json!({
        "issuer": "https://a.example/",
        "subject": "sub",
        "claims": {
            "iss": "https://a.example/", "sub": "sub", "aud": "api", "iat": now, "exp": now + 300, "roles": ["x"],
        },
    });
    assert_eq!(
        (status, serde_json::from_str::<Value>(&body).unwrap()),
        (200, golden)
    );
    assert_eq!(
        ask(&world.builder("a").without_claim("sub").sign(&key)).await.0,
        400
    );

    for verdict in verdicts(world.clock.wall(), &issuer("a"), "api", &key) {
        let (status, told) = world.going_on(ask(&verdict.token)).await;
        match verdict.refused {
            None => assert_eq!(status, 200, "{}", verdict.name),
            Some(denial) => {
                assert_eq!(
                    (status, &*told),
                    (denial.http_status(), denial.code()),
                    "{}",
                    verdict.name
                );
            }
        }
    }
}

/// A server behind the layer and a client of it.
async fn start(layer: TokenLayer) -> (Channel, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Server::builder().layer(layer.grpc()).add_service(WhoAmIServer);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        router
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    (channel.connect().await.unwrap(), serving)
}

fn question(token: Option<&str>) -> Request<Question> {
    let mut question = Request::new(Question {});
    if let Some(token) = token {
        let authorization = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        question.metadata_mut().insert("authorization", authorization);
    }
    question
}

async fn unary(channel: &Channel, path: &'static str, token: Option<&str>) -> Result<Identity, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<Question, Identity>::default();
    let answer = client.unary(question(token), PathAndQuery::from_static(path), codec);
    answer.await.map(tonic::Response::into_inner)
}

async fn streamed(channel: &Channel, token: Option<&str>) -> Result<Vec<Identity>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<Question, Identity>::default();
    let path = PathAndQuery::from_static("/whoami.v1.WhoAmI/Watch");
    let mut stream = client
        .server_streaming(question(token), path, codec)
        .await?
        .into_inner();
    let mut all = Vec::new();
    while let Some(identity) = stream.message().await? {
        all.push(identity);
    }
    Ok(all)
}

const GET: &str = "/whoami.v1.WhoAmI/Get";

fn told(status: &Status) -> (Code, &str) {
    let code = status
        .metadata()
        .get("error-code")
        .map(|code| code.to_str().unwrap());
    (status.code(), code.unwrap_or_default())
}

#[tokio::test]
async fn tonic_refuses_with_a_status() {
    let (world, key) = world().await;
    let (channel, mut serving) = start(TokenLayer::new(world.verifier.clone())).await;
    let token = world.token("a", &key);
    let identity = unary(&channel, GET, Some(&token)).await.unwrap();
    assert_eq!(
        (&*identity.issuer, &*identity.subject),
        ("https://a.example/", "sub")
    );
    assert_eq!(
        serde_json::from_str::<Value>(&identity.claims).unwrap()["aud"],
        "api"
    );
    assert_eq!(streamed(&channel, Some(&token)).await.unwrap(), [identity]);
    let nobodys = world.builder("a").without_claim("sub").sign(&key);
    assert_eq!(
        unary(&channel, GET, Some(&nobodys)).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let missing = (Code::Unauthenticated, "token_missing");
    assert_eq!(told(&unary(&channel, GET, None).await.unwrap_err()), missing);
    assert_eq!(told(&streamed(&channel, None).await.unwrap_err()), missing);
    for verdict in verdicts(world.clock.wall(), &issuer("a"), "api", &key) {
        // HTTP/2 itself refuses a head of that size.
        if verdict.refused == Some(Denial::TokenTooLarge) {
            continue;
        }
        let answer = world.going_on(unary(&channel, GET, Some(&verdict.token))).await;
        match (verdict.refused, answer) {
            (None, answer) => assert_eq!(answer.unwrap().subject, "user-1", "{}", verdict.name),
            (Some(denial), answer) => {
                let status = answer.unwrap_err();
                assert_eq!(
                    told(&status),
                    (Code::Unauthenticated, denial.code()),
                    "{}",
                    verdict.name
                );
                assert_eq!(status.message(), denial.detail());
            }
        }
    }
    serving.abort_all();
}

#[tokio::test]
async fn tonic_tells_scopes_outages_and_limits_from_bad_tokens() {
    let (world, key) = world().await;
    let layer = TokenLayer::new(world.verifier.clone())
        .require_scopes(["read"])
        .exclude(["/whoami.v1.WhoAmI/Watch", "/grpc.health.v1.Health/*"])
        .unwrap();
    let (channel, mut serving) = start(layer).await;
    let token = world.token("a", &key);
    let status = unary(&channel, GET, Some(&token)).await.unwrap_err();
    assert_eq!(told(&status), (Code::PermissionDenied, "insufficient_scope"));
    let scoped = world.builder("a").scope("read").sign(&key);
    assert!(unary(&channel, GET, Some(&scoped)).await.is_ok());

    // An excluded method gets past the layer, here to a service that misses its token, and to none.
    assert_eq!(streamed(&channel, None).await.unwrap_err().code(), Code::Internal);
    let health = unary(&channel, "/grpc.health.v1.Health/Check", None)
        .await
        .unwrap_err();
    assert_eq!(health.code(), Code::Unimplemented);

    let mut twice = question(Some(&token));
    let other = MetadataValue::from_static("Bearer x");
    twice.metadata_mut().append("authorization", other);
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<Question, Identity>::default();
    let answer = client.unary(twice, PathAndQuery::from_static(GET), codec).await;
    assert_eq!(
        told(&answer.unwrap_err()),
        (Code::InvalidArgument, "request_malformed")
    );

    world.set("b", Site::Down);
    world.add("b").await;
    let answer = world
        .going_on(unary(&channel, GET, Some(&world.token("b", &key))))
        .await;
    assert_eq!(
        told(&answer.unwrap_err()),
        (Code::Unavailable, "issuer_unavailable")
    );
    world.clock.run_for(Duration::from_millis(1)).await;
    serving.abort_all();
}
