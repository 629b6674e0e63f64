//! `grpc.health.v1`: readiness, for those who ask by gRPC.

use std::time::Duration;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, body::Body};

use super::{listener::Phase, readiness::Readiness};
use crate::{
    authorize::GRPC_SERVICE,
    http::{grpc, within},
};

/// The largest question, in bytes: the name of a service.
const MAX_QUESTION: usize = 1_024;
/// How often a watched state is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A question for a service's state; empty: for the whole server's.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    /// Of [`watch`] only.
    ServiceUnknown = 3,
}

impl Readiness {
    /// The health service, for a listener that speaks gRPC.
    pub(super) fn grpc(&self) -> Router {
        Router::new()
            .route("/grpc.health.v1.Health/Check", post(check))
            .route("/grpc.health.v1.Health/Watch", post(watch))
            .with_state(self.clone())
    }

    fn serving(&self, service: &str) -> ServingStatus {
        match service {
            "" | GRPC_SERVICE if self.is_ready() => ServingStatus::Serving,
            "" | GRPC_SERVICE => ServingStatus::NotServing,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

/// What a gRPC client is told of a method that is not there.
pub(super) async fn unimplemented() -> http::Response<Body> {
    Status::unimplemented("there is no such method").into_http()
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

async fn check(State(readiness): State<Readiness>, request: Request) -> Response {
    let Some(service) = service(&readiness, request).await else {
        return malformed().into_response();
    };
    match readiness.serving(&service) {
        ServingStatus::ServiceUnknown => {
            let unknown = Status::not_found("there is no such service");
            unknown.into_http::<Body>().into_response()
        }
        status => grpc::answer(grpc::message(&answer(status))),
    }
}

/// The state, and each other one that follows, until the server leaves.
async fn watch(State(readiness): State<Readiness>, request: Request) -> http::Response<Body> {
    let Some(service) = service(&readiness, request).await else {
        return malformed();
    };
    let Some(place) = readiness.watch() else {
        return Status::resource_exhausted("there are too many who watch").into_http();
    };
    grpc::answers(states(readiness, service, place))
}

/// The service that a question is about.
async fn service(readiness: &Readiness, request: Request) -> Option<String> {
    let question = grpc::question(request.into_body(), MAX_QUESTION, readiness.clock());
    let HealthCheckRequest { service } = question.await?;
    Some(service)
}

fn malformed() -> http::Response<Body> {
    Status::invalid_argument("the question cannot be read").into_http()
}

fn states(
    readiness: Readiness,
    service: String,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<HealthCheckResponse, Status>> {
    let told = (readiness.phases(), None, place);
    stream::unfold(told, move |(mut phases, told, place)| {
        let (readiness, service) = (readiness.clone(), service.clone());
        async move {
            loop {
                let phase = *phases.borrow_and_update();
                let status = readiness.serving(&service);
                if told != Some(status) {
                    return Some((Ok(answer(status)), (phases, Some(status), place)));
                }
                if phase >= Phase::Draining {
                    return None;
                }
                // Whatever ends the wait, it is looked at again.
                let _ = within(readiness.clock(), LOOK, phases.changed()).await;
            }
        }
    })
}
