//! The provider's listener and how it acts out the script.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    },
};
use http_body_util::{BodyExt as _, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{
    DISCOVERY_PATH, OAUTH_DISCOVERY_PATH, Request, Shared, State, TlsNow, Validators,
    behaviour::{Behaviour, Paced, Served, Then, never, real_sleep},
    wire::Wire,
};

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// When the first revision of every document was modified: 2025-01-01T00:00:00Z.
const FIRST_MODIFIED: Duration = Duration::from_secs(1_735_689_600);

/// How much of a request's body is read.
const MAX_BODY: usize = 64 * 1024;

/// Serves until `stopped` ends; then the runtime is dropped and with it every connection.
pub(super) fn run(
    listener: TcpListener,
    tls: Option<TlsNow>,
    shared: &Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::select! {
            () = accept(listener, tls, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsNow>, shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        shared.state().connections += 1;
        let reset = Arc::new(AtomicBool::new(false));
        let wire = Wire::new(stream, Arc::clone(&reset));
        let tls = tls.as_ref().map(|now| TlsAcceptor::from(now()));
        let shared = Arc::clone(shared);
        connections.spawn(async move {
            match tls {
                None => converse(wire, shared, reset).await,
                // A client that refuses the certificate ends the handshake: part of the script.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(wire).await {
                        converse(stream, shared, reset).await;
                    }
                }
            }
        });
    }
}

async fn converse<S>(stream: S, shared: Arc<Shared>, reset: Arc<AtomicBool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
        async move { answer(request, &shared, &reset).await }
    });
    // Dates come from the script alone: the real one would mislead a test that runs on a manual clock.
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().auto_date_header(false);
    server.http2().auto_date_header(false);
    // Clients that go away in the middle are what many tests are about.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// An error makes hyper close the connection without an answer.
async fn answer(
    request: hyper::Request<Incoming>,
    shared: &Shared,
    reset: &AtomicBool,
) -> io::Result<Answer> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let request = Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body: body.map_err(io::Error::other)?.to_bytes(),
    };
    let mut behaviour = {
        let mut state = shared.state();
        state.record(request.clone());
        state.behaviour(&request.path)
    };
    // Subscribed before the test can see the request, so that no release is missed.
    let mut released = shared.released.subscribe();
    shared.arrived.send_modify(|count| *count += 1);

    let mut served = None;
    loop {
        behaviour = match behaviour {
            Behaviour::Delay(time, inner) => {
                real_sleep(time).await;
                *inner
            }
            Behaviour::Serve(document, inner) => {
                served = Some(document);
                *inner
            }
            Behaviour::Decide(decider) => decider.decide(&request),
            Behaviour::Hold => {
                // The sender lives as long as the server.
                let _ = released.changed().await;
                Behaviour::normal()
            }
            Behaviour::HangBeforeHeaders => return never().await,
            Behaviour::Reset => {
                reset.store(true, Ordering::Release);
                Behaviour::Close
            }
            settled => break perform(settled, served, &request, shared),
        }
    }
}

fn perform(
    behaviour: Behaviour,
    served: Option<Served>,
    request: &Request,
    shared: &Shared,
) -> io::Result<Answer> {
    let document = served.or_else(|| shared.state().document(&request.path));
    // What is sent for a path without a document, by the behaviours that need one.
    let body = document
        .as_ref()
        .map_or_else(Vec::new, |document| document.body.clone());
    let half = Bytes::from(body.clone()).slice(..body.len() / 2);
    Ok(match behaviour {
        Behaviour::Normal(headers) => match document {
            Some(document) => normal(&document, &headers, &request.headers),
            None => with_body(404, &[], Vec::new()),
        },
        Behaviour::Gzip => gzipped(&body),
        Behaviour::GzipBomb { unpacked } => {
            let mut document = b"{\"keys\":[".to_vec();
            document.resize(unpacked.max(document.len()), b' ');
            gzipped(&document)
        }
        Behaviour::Reply {
            status,
            headers,
            body,
        } => with_body(status, &headers, body),
        Behaviour::HangMidBody => paced(Paced::new(half, Then::Hang), Some(body.len())),
        Behaviour::Truncate => paced(Paced::new(half, Then::Abort), Some(body.len())),
        Behaviour::Drip { bytes, every } => {
            let length = body.len();
            paced(Paced::dripping(body, bytes, every), Some(length))
        }
        Behaviour::Endless => paced(Paced::new(vec![b' '; 16 * 1024], Then::Repeat), None),
        // The others have been settled before.
        _ => return Err(io::Error::other("the script closes the connection")),
    })
}

fn normal(document: &Served, headers: &[(String, String)], asked: &HeaderMap) -> Answer {
    let digest = digest::digest(&digest::SHA256, &document.body);
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest));
    let modified =
        httpdate::fmt_http_date(UNIX_EPOCH + FIRST_MODIFIED + Duration::from_secs(document.revision));
    let (name, validator, condition) = match document.validators {
        Validators::None => return with_body(200, &merged(headers), document.body.clone()),
        Validators::ETag => (ETAG, etag, IF_NONE_MATCH),
        Validators::LastModified => (LAST_MODIFIED, modified, IF_MODIFIED_SINCE),
    };
    let matches = asked
        .get(condition)
        .is_some_and(|value| value.as_bytes() == validator.as_bytes());
    let mut answer = if matches {
        with_body(304, headers, Vec::new())
    } else {
        with_body(200, &merged(headers), document.body.clone())
    };
    if let Ok(value) = HeaderValue::try_from(validator) {
        answer.headers_mut().entry(name).or_insert(value);
    }
    answer
}

fn gzipped(document: &[u8]) -> Answer {
    let mut answer = with_body(200, &json_type(), gzip(document));
    answer
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}

fn json_type() -> Vec<(String, String)> {
    vec![(CONTENT_TYPE.to_string(), "application/json".to_owned())]
}

/// The headers, with the content type of JSON unless they name another.
fn merged(headers: &[(String, String)]) -> Vec<(String, String)> {
    let named = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let mut all = if named { Vec::new() } else { json_type() };
    all.extend_from_slice(headers);
    all
}

fn with_body(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Answer {
    let full = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(full.boxed());
    *answer.status_mut() = StatusCode::from_u16(status).expect("the script's status is 100 to 999");
    for (name, value) in headers {
        let name = HeaderName::try_from(name).expect("the script's header names are valid");
        let value = HeaderValue::try_from(value).expect("the script's header values are valid");
        answer.headers_mut().append(name, value);
    }
    answer
}

fn paced(body: Paced, length: Option<usize>) -> Answer {
    let mut answer = Response::new(body.boxed());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(length) = length {
        answer
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("compressing into memory cannot fail")
}

impl State {
    fn behaviour(&mut self, path: &str) -> Behaviour {
        self.next
            .get_mut(path)
            .and_then(std::collections::VecDeque::pop_front)
            .or_else(|| self.standing.get(path).cloned())
            .unwrap_or_else(Behaviour::normal)
    }

    /// Discovery answers below the path of an issuer that has one too, in both forms.
    fn document(&self, path: &str) -> Option<Served> {
        let served = |body, revision| Served {
            body,
            revision,
            validators: self.validators,
        };
        let discovery = path.ends_with(DISCOVERY_PATH) || path.starts_with(OAUTH_DISCOVERY_PATH);
        match self.documents.get(path) {
            Some(found) => Some(served(found.body.clone(), found.revision)),
            None => discovery.then(|| served(self.discovery.to_string().into_bytes(), 0)),
        }
    }
}
