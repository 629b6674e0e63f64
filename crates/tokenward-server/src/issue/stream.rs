//! `GET /tokens/stream`: the children of a family as they are minted (server-sent events).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, Request, State},
    response::{IntoResponse as _, Response},
};
use futures_util::{future::BoxFuture, stream};
use http::header;
use serde_json::{Value, json};
use tokenward_core::{Clock, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    TokenService,
    http::{child, failed, family_of, held, too_many_streams},
    hub::{Ending, Follower, News},
    service::lock,
};
use crate::{
    access::{Access, Who},
    config::Credential,
    http::Drain,
};

/// Streams at the same time; one more is told to come back.
const MAX_STREAMS: usize = 20_000;
/// How often something is sent where nothing happens, so that a dead peer is noticed at both ends.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest that a holder's stream lasts. Whoever comes back proves again that it may.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The same of one that a credential opened, which has no end of its own.
const MAX_AGE_BY_CREDENTIAL: Duration = Duration::from_secs(3600);
/// How long clients are asked to wait before they come back, in milliseconds: from the first to twice as long, so that they
/// do not all come at once.
const RETRY_MS: u64 = 1_000;

/// Places for streams.
pub(super) struct Places {
    most: usize,
    most_of_one: usize,
    free: Arc<Semaphore>,
    /// Those of each credential that ever had one. The holders of one parent are bounded by the followers of its family.
    of_credentials: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub(super) struct Place(#[expect(dead_code, reason = "held")] [Option<OwnedSemaphorePermit>; 2]);

impl Places {
    /// Nine of ten `connections` at most, and half of them for one credential: streams leave room for other calls, and those of
    /// one credential for those of others.
    pub(super) fn new(connections: usize) -> Self {
        let most = connections
            .saturating_sub(connections / 10 + 1)
            .clamp(1, MAX_STREAMS);
        Self {
            most,
            most_of_one: connections.div_ceil(2),
            free: Arc::new(Semaphore::new(most)),
            of_credentials: Mutex::default(),
        }
    }

    /// None: all are taken, or all that `credential` may have.
    pub(super) fn take(&self, credential: Option<&str>) -> Option<Place> {
        let own = match credential {
            Some(name) => {
                let mut of_credentials = lock(&self.of_credentials);
                let own = of_credentials
                    .entry(name.to_owned())
                    .or_insert_with(|| Arc::new(Semaphore::new(self.most_of_one)));
                Some(Arc::clone(own).try_acquire_owned().ok()?)
            }
            None => None,
        };
        let place = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place([own, Some(place)]))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.most.saturating_sub(self.free.available_permits())
    }
}

/// The credential that opened a stream, and those that there are. It ends with its credential, or with a change of what that
/// may do: whoever comes back is judged anew.
struct Opener {
    credential: Arc<Credential>,
    known: watch::Receiver<Option<Access>>,
}

impl Opener {
    fn is_known(&mut self) -> bool {
        let known = self.known.borrow_and_update();
        known.as_ref().is_some_and(|known| known.knows(&self.credential))
    }
}

pub(super) async fn stream(
    State(service): State<TokenService>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let asked = match family_of(&service, query.as_deref(), &parts).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let parent = asked.parent.clone();
    let credential = parts
        .extensions
        .get()
        .map(|Who(credential)| Arc::clone(credential));
    let name = credential.as_ref().map(|credential| credential.name.as_str());
    let Some(place) = service.streams().take(name) else {
        return held(too_many_streams(), &parent);
    };
    let follower = match service.follow_of(&asked).await {
        Ok(follower) => follower,
        Err(failure) => return held(failed(failure), &parent),
    };
    // The last one that the client has seen; what is no number of ours it has not.
    let seen = parts
        .headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let clock = service.shared_clock();
    let mut pending = VecDeque::new();
    pending.push_back(format!(
        "retry: {}\n{}",
        retry(),
        event("connected", None, &json!({ "parent_jti": parent }))
    ));

    let longest = match credential {
        Some(_) => MAX_AGE_BY_CREDENTIAL,
        None => MAX_AGE,
    };
    let stream = Stream {
        ends_at: clock.steady() + longest,
        opener: credential.map(|credential| Opener {
            credential,
            known: service.known(),
        }),
        drain: service.drain(),
        heartbeat: clock.sleep(HEARTBEAT),
        service,
        follower,
        clock,
        pending,
        seen,
        ended: false,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async {
        let text = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), stream))
    }));
    held(
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response(),
        &parent,
    )
}

/// One who follows a family.
struct Stream {
    service: TokenService,
    follower: Follower,
    drain: Drain,
    clock: Arc<dyn Clock>,
    ends_at: Timestamp,
    /// None: the holder of its parent.
    opener: Option<Opener>,
    heartbeat: BoxFuture<'static, ()>,
    pending: VecDeque<String>,
    /// The sequence of the last child that was sent.
    seen: u64,
    ended: bool,
    _place: Place,
}

impl Stream {
    /// What is sent next; None ends the stream. Nothing is lost where it is dropped while it waits.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.pending.pop_front() {
                return Some(text);
            }
            if self.ended || self.clock.steady() >= self.ends_at {
                return None;
            }
            if self.opener.as_mut().is_some_and(|opener| !opener.is_known()) {
                self.send_away();
                continue;
            }
            let left = self.follower.expires_at().since(self.clock.wall());
            match self.follower.news() {
                News::Ended(Ending::Expired) => self.end("expired"),
                News::Ended(Ending::Revoked) => self.end("revoked"),
                News::Child(_) if !self.service.still_good(&self.follower) => self.end("revoked"),
                News::Child(_) if left.is_zero() => self.end("expired"),
                News::Child(sequence) if sequence > self.seen => self.read().await,
                News::Child(_) => tokio::select! {
                    biased;
                    // The client comes back to whoever listens then.
                    () = self.drain.clone() => self.send_away(),
                    () = changed(self.opener.as_mut()) => {}
                    () = self.follower.changed() => {}
                    () = self.clock.sleep(left.min(MAX_AGE)) => {}
                    () = &mut self.heartbeat => {
                        self.heartbeat = self.clock.sleep(HEARTBEAT);
                        return Some(event("heartbeat", None, &json!({ "at": self.clock.wall() })));
                    }
                },
            }
        }
    }

    /// Reads the latest child, which is sent next.
    async fn read(&mut self) {
        match self.service.latest(self.follower.parent()).await {
            Ok(Some(renewed)) if renewed.sequence > self.seen => {
                self.seen = renewed.sequence;
                self.pending
                    .push_back(event("token", Some(renewed.sequence), &child(&renewed)));
            }
            // Whatever became of it is told by the news, or by the store when the client comes back.
            Ok(_) | Err(_) => self.ended = true,
        }
    }

    /// Ends with a hint when to come back.
    fn send_away(&mut self) {
        self.pending.push_back(format!("retry: {}\n\n", retry()));
        self.ended = true;
    }

    fn end(&mut self, why: &str) {
        self.pending
            .push_back(event(why, None, &json!({ "parent_jti": self.follower.parent() })));
        self.ended = true;
    }
}

/// Waits until the credentials may be others. Cancel-safe.
async fn changed(opener: Option<&mut Opener>) {
    // The sender lives in the service, which the stream holds.
    match opener {
        Some(opener) => drop(opener.known.changed().await),
        None => std::future::pending().await,
    }
}

fn event(name: &str, id: Option<u64>, data: &Value) -> String {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {name}\ndata: {data}\n\n")
}

fn retry() -> u64 {
    let mut random = [0; 2];
    // Without randomness they all come at once, which is no harm.
    let _ = aws_lc_rs::rand::fill(&mut random);
    RETRY_MS + u64::from(u16::from_le_bytes(random)) * RETRY_MS / 65_536
}
