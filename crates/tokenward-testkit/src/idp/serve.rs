//! The provider's listener and how it acts out the script.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::TcpListener,
    sync::Arc,
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
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{
    DISCOVERY_PATH, Document, OAUTH_DISCOVERY_PATH, Request, Shared, State, Validators,
    behaviour::{Behaviour, Paced, Then, never, real_sleep},
};

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// When the first revision of every document was modified: 2025-01-01T00:00:00Z.
const FIRST_MODIFIED: Duration = Duration::from_secs(1_735_689_600);

/// Serves until `stopped` ends; then the runtime is dropped and with it every connection.
pub(super) fn run(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
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
            () = accept(listener, tls.map(TlsAcceptor::from), shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        shared.state().connections += 1;
        let (tls, shared) = (tls.clone(), Arc::clone(shared));
        connections.spawn(async move {
            match tls {
                None => converse(stream, shared).await,
                // A client that refuses the certificate ends the handshake: part of the script.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn converse<S>(stream: S, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { answer(request, &shared).await }
    });
    // Dates come from the script alone: the real one would mislead a test that runs on a manual clock.
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().auto_date_header(false);
    server.http2().auto_date_header(false);
    // Clients that go away in the middle are what many tests are about.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// An error makes hyper close the connection without an answer.
async fn answer(request: hyper::Request<Incoming>, shared: &Shared) -> io::Result<Answer> {
    let path = request.uri().path().to_owned();
    let mut behaviour = {
        let mut state = shared.state();
        state.requests.push(Request {
            method: request.method().clone(),
            path: path.clone(),
            query: request.uri().query().map(str::to_owned),
            headers: request.headers().clone(),
        });
        state.behaviour(&path)
    };
    // Subscribed before the test can see the request, so that no release is missed.
    let mut released = shared.released.subscribe();
    shared.arrived.send_modify(|count| *count += 1);

    while let Behaviour::Delay(time, inner) = behaviour {
        real_sleep(time).await;
        behaviour = *inner;
    }
    if let Behaviour::Hold = behaviour {
        // The sender lives as long as the server.
        let _ = released.changed().await;
        behaviour = Behaviour::normal();
    }
    if let Behaviour::HangBeforeHeaders = behaviour {
        never().await;
    }
    perform(behaviour, &path, request.headers(), shared)
}

fn perform(behaviour: Behaviour, path: &str, asked: &HeaderMap, shared: &Shared) -> io::Result<Answer> {
    let (document, validators) = {
        let state = shared.state();
        (state.document(path), state.validators)
    };
    // What is sent for a path without a document, by the behaviours that need one.
    let body = document
        .as_ref()
        .map_or_else(Vec::new, |document| document.body.clone());
    let half = Bytes::from(body.clone()).slice(..body.len() / 2);
    Ok(match behaviour {
        Behaviour::Normal(headers) => match document {
            Some(document) => normal(&document, validators, &headers, asked),
            None => with_body(404, &[], Vec::new()),
        },
        Behaviour::Gzip => {
            let mut answer = with_body(200, &json_type(), gzip(&body));
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        }
        Behaviour::GzipBomb { unpacked } => {
            let mut document = b"{\"keys\":[".to_vec();
            document.resize(unpacked.max(document.len()), b' ');
            let mut answer = with_body(200, &json_type(), gzip(&document));
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
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
        Behaviour::Close | Behaviour::HangBeforeHeaders | Behaviour::Hold | Behaviour::Delay(..) => {
            return Err(io::Error::other("the script closes the connection"));
        }
    })
}

fn normal(
    document: &Document,
    validators: Validators,
    headers: &[(String, String)],
    asked: &HeaderMap,
) -> Answer {
    let digest = digest::digest(&digest::SHA256, &document.body);
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest));
    let modified =
        httpdate::fmt_http_date(UNIX_EPOCH + FIRST_MODIFIED + Duration::from_secs(document.revision));
    let (name, validator, condition) = match validators {
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
    fn document(&self, path: &str) -> Option<Document> {
        let found = self.documents.get(path).cloned();
        let discovery = path.ends_with(DISCOVERY_PATH) || path.starts_with(OAUTH_DISCOVERY_PATH);
        found.or_else(|| {
            discovery.then(|| Document {
                body: self.discovery.to_string().into_bytes(),
                revision: 0,
            })
        })
    }
}
