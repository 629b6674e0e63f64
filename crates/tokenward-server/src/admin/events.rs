//! `GET /v1/events`: what happens to keys and identity providers, as it happens (server-sent events).

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::{future::BoxFuture, stream};
use http::{StatusCode, header};
use serde_json::json;
use tokenward::{Event, EventKind};
use tokenward_core::{Clock, Timestamp, freshness::Event as Notable};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use utoipa::openapi::{HttpMethod, ObjectBuilder, Type};

use super::{Admin, call::Call, query};
use crate::{
    access::Need,
    http::{Drain, Rejected, unavailable},
    openapi::{Operation, Parameter},
};

/// Streams at the same time; one more is told to come back.
pub(super) const MAX_STREAMS: usize = 64;
/// How often something is sent where nothing happens, so that a dead peer is noticed at both ends.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest a stream lasts. Whoever comes back presents a credential again, which may have been withdrawn.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// How long a client is asked to wait before it comes back, in milliseconds.
const RETRY_MS: u32 = 2_000;

pub(super) fn calls() -> Vec<Call> {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let operation = Operation::new(HttpMethod::Get, "/v1/events", "events", "Key and identity provider events")
        .query(Parameter::name("tenant", "Only those of this tenant."))
        .answers_as(
            StatusCode::OK,
            "Server-sent events without an end. `data` is a JSON object: tenant, idp, at, and what the event says.",
            &["text/event-stream"],
            Some(&text.into()),
        )
        .problem(StatusCode::SERVICE_UNAVAILABLE, "Too many streams are open.");
    vec![Call::reads(operation, Need::Any, get(events))]
}

async fn events(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Rejected> {
    let tenant = query::name(&query::only(query.as_deref(), &["tenant"])?, "tenant")?;
    let Ok(place) = Arc::clone(&admin.0.streams.0).try_acquire_owned() else {
        return Ok(unavailable(
            "too_many_streams",
            "Too many streams",
            "Too many event streams are open.",
        ));
    };
    let clock = admin.0.registry.clock();
    let stream = Stream {
        tenant,
        events: admin.0.registry.subscribe(),
        drain: admin.0.drain.clone(),
        ends_at: clock.steady() + MAX_AGE,
        heartbeat: clock.sleep(HEARTBEAT),
        clock,
        greeted: false,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async {
        let text = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), stream))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

/// One subscriber.
struct Stream {
    tenant: Option<String>,
    events: broadcast::Receiver<Event>,
    drain: Drain,
    ends_at: Timestamp,
    heartbeat: BoxFuture<'static, ()>,
    clock: Arc<dyn Clock>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// What is sent next; None ends the stream. Nothing is lost where it is dropped while it waits.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            return Some(format!("retry: {RETRY_MS}\n{}", event("connected", &json!({}))));
        }
        loop {
            if self.clock.steady() >= self.ends_at {
                return None;
            }
            tokio::select! {
                biased;
                // The client comes back to whoever listens then.
                () = self.drain.clone() => return None,
                received = self.events.recv() => match received {
                    Ok(event) if self.wants(&event) => return Some(written(&event)),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        return Some(event("missed", &json!({ "missed": missed })));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = &mut self.heartbeat => {
                    self.heartbeat = self.clock.sleep(HEARTBEAT);
                    return Some(event("heartbeat", &json!({ "at": self.clock.wall() })));
                }
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.tenant
            .as_deref()
            .is_none_or(|tenant| *event.tenant == *tenant)
    }
}

fn written(happened: &Event) -> String {
    let mut data = json!({ "tenant": &*happened.tenant, "idp": &*happened.idp, "at": happened.at });
    let mut also = |name: &str, value: serde_json::Value| {
        if let Some(data) = data.as_object_mut() {
            data.insert(name.to_owned(), value);
        }
    };
    let name = match &happened.kind {
        EventKind::Updated => "updated",
        EventKind::RefreshFailed { code } => {
            also("code", (*code).into());
            "refresh_failed"
        }
        EventKind::Notable(notable) => {
            match notable {
                Notable::AllKeysReplaced => {}
                Notable::KeyReplaced { kid, old, new } => {
                    also("kid", kid.as_str().into());
                    also("old_thumbprint", old.to_string().into());
                    also("new_thumbprint", new.as_ref().map(ToString::to_string).into());
                }
                Notable::KeysCompromised { count } => also("count", (*count).into()),
                Notable::SetRefused { code } => also("code", (*code).into()),
            }
            notable.name()
        }
        // What a later library tells of is passed on by name as soon as it has one here.
        _ => "other",
    };
    event(name, &data)
}

/// One event after the HTML standard, section 9.2. JSON has no line feeds of its own.
fn event(name: &str, data: &serde_json::Value) -> String {
    let mut text = String::new();
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}
